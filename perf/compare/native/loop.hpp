// The measuring loop of the native clients: the same commands and answers as clients/loop.py, in
// plain words instead of JSON on the way in:
//
//     fill SIZE KEYS STORE        run OP BATCH SECONDS SEED PART PARTS        quit
//
// The clock runs around the call alone; choosing keys and checking what was read lie outside it.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <vector>

namespace compare {

using Keys = std::vector<std::string>;

// One value in this many is compared in full; of all others the length is.
constexpr uint64_t VERIFY_EVERY = 64;
// Buckets per factor of e: a bucket is 1 % wide.
constexpr double RESOLUTION = 100.0;

// What a read has found; points into memory that the client keeps until its next call.
struct Found {
    const char *data = nullptr;
    size_t len = 0;
};

// A peer's client. Calls answer false when they are not offered, and throw when they fail.
class Client {
public:
    virtual ~Client() = default;
    virtual bool get(const Keys &, std::vector<Found> &) { return false; }
    virtual bool view(const Keys &, std::vector<Found> &) { return false; }
    virtual bool exist(const Keys &, std::vector<Found> &) { return false; }
    virtual bool set(const Keys &, const std::string &) { return false; }
};

// The keys of one of several clients that write together: every OF-th one.
struct Part {
    size_t index = 0;
    size_t of = 1;
};

class Loop {
public:
    Loop(Client &client, FILE *answers) : client_(client), answers_(answers) {}

    void serve() {
        fputs("{\"ready\": true}\n", answers_);
        fflush(answers_);
        std::string line;
        while (std::getline(std::cin, line) && line != "quit") {
            std::string answer;
            try {
                answer = execute(line);
            } catch (const std::exception &error) {
                answer = "{\"error\": \"" + plain(error.what()) + "\"}";
            }
            fprintf(answers_, "%s\n", answer.c_str());
            fflush(answers_);
        }
    }

private:
    // Text that needs no escape in JSON.
    static std::string plain(const char *text) {
        std::string out;
        for (; *text != '\0' && out.size() < 300; ++text) {
            const unsigned char byte = static_cast<unsigned char>(*text);
            out += (byte < 32 || byte > 126 || byte == '"' || byte == '\\') ? ' ' : *text;
        }
        return out;
    }

    std::string execute(const std::string &line) {
        std::istringstream words(line);
        std::string verb;
        words >> verb;
        if (verb == "fill") {
            size_t size = 0, keys = 0;
            int store = 0;
            words >> size >> keys >> store;
            fill(size, keys, store != 0);
            return "{\"filled\": " + std::to_string(keys_.size()) + "}";
        }
        std::string op;
        size_t batch = 1;
        double seconds = 0;
        uint64_t seed = 0;
        Part part;
        words >> op >> batch >> seconds >> seed >> part.index >> part.of;
        return run(op, batch, seconds, seed, op == "set" ? part : Part{});
    }

    void fill(size_t size, size_t keys, bool store) {
        keys_.clear();
        for (size_t index = 0; index < keys; ++index) {
            char key[64];
            snprintf(key, sizeof key, "tenant:model:layer:block-%016zx", index);
            keys_.emplace_back(key);
        }
        std::mt19937_64 random(size);
        value_.resize(size);
        for (auto &byte : value_) byte = static_cast<char>(random());
        for (size_t index = 0; store && index < keys; ++index) client_.set({keys_[index]}, value_);
    }

    bool call(const std::string &op, const Keys &keys) {
        found_.clear();
        if (op == "get") return client_.get(keys, found_);
        if (op == "view") return client_.view(keys, found_);
        if (op == "exist") return client_.exist(keys, found_);
        return client_.set(keys, value_);
    }

    size_t wrong(const std::string &op, size_t wanted, bool full) const {
        if (op == "set") return 0;
        if (found_.size() != wanted) return wanted;
        size_t bad = 0;
        for (const Found &found : found_) {
            if (op == "exist") {
                bad += found.len == 0;
            } else if (found.data == nullptr || found.len != value_.size()) {
                bad += 1;
            } else if (full && memcmp(found.data, value_.data(), found.len) != 0) {
                bad += 1;
            }
        }
        return bad;
    }

    std::string run(const std::string &op, size_t batch, double seconds, uint64_t seed, Part part) {
        using Clock = std::chrono::steady_clock;
        const size_t count = (keys_.size() - part.index + part.of - 1) / part.of;
        if (part.index >= keys_.size() || batch > count) throw std::runtime_error("fewer keys than a batch needs");
        std::mt19937_64 random(seed);
        std::vector<Keys> choices(batch == 1 ? 4096 : 256);
        for (auto &keys : choices) {
            // Distinct keys: peers differ in what they make of a key that is named twice.
            std::set<size_t> chosen;
            while (chosen.size() < batch) chosen.insert(random() % count);
            for (const size_t index : chosen) keys.push_back(keys_[index * part.of + part.index]);
        }
        for (size_t i = 0; i < 8; ++i)
            if (!call(op, choices[i])) {
                const std::string what = batch == 1 ? op : "batch of " + op;
                return "{\"absent\": \"the client offers no " + what + "\"}";
            }
        std::map<int, uint64_t> histogram;
        uint64_t calls = 0, bad = 0;
        const auto start = Clock::now();
        const auto end = start + std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
        for (auto now = start; now < end; ++calls) {
            const Keys &keys = choices[calls % choices.size()];
            const auto before = Clock::now();
            call(op, keys);
            now = Clock::now();
            const double ns = static_cast<double>((now - before).count());
            histogram[static_cast<int>(std::log(std::max(1.0, ns)) * RESOLUTION)] += 1;
            bad += wrong(op, batch, calls % VERIFY_EVERY == 0);
        }
        const double spent = std::chrono::duration<double>(Clock::now() - start).count();
        std::ostringstream out;
        out << "{\"calls\": " << calls << ", \"keys\": " << calls * batch << ", \"seconds\": "
            << spent << ", \"bad\": " << bad << ", \"histogram\": {";
        const char *comma = "";
        for (const auto &[slot, count] : histogram) {
            out << comma << '"' << slot << "\": " << count;
            comma = ", ";
        }
        out << "}}";
        return out.str();
    }

    Client &client_;
    FILE *answers_;
    Keys keys_;
    std::string value_;
    std::vector<Found> found_;
};

// Some libraries log to stdout: answers go to a descriptor of their own, and stdout to stderr.
inline FILE *answers() {
    FILE *file = fdopen(dup(1), "w");
    dup2(2, 1);
    return file;
}

}  // namespace compare
