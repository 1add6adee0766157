// memcached through libmemcached, over the unix socket.
#include <libmemcached/memcached.h>

#include "loop.hpp"

using compare::Found;
using compare::Keys;

class Memcached : public compare::Client {
public:
    explicit Memcached(const char *path) : memcached_(memcached_create(nullptr)) {
        check(memcached_server_add_unix_socket(memcached_, path));
        check(memcached_behavior_set(memcached_, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, 1));
    }

    ~Memcached() override {
        forget();
        memcached_free(memcached_);
    }

    bool get(const Keys &keys, std::vector<Found> &found) override {
        forget();
        if (keys.size() == 1) {
            memcached_return_t status;
            uint32_t flags = 0;
            size_t len = 0;
            single_ = memcached_get(memcached_, keys[0].data(), keys[0].size(), &len, &flags,
                                    &status);
            check(status);
            found.push_back({single_, len});
            return true;
        }
        std::vector<const char *> words;
        std::vector<size_t> lengths;
        for (const auto &key : keys) {
            words.push_back(key.data());
            lengths.push_back(key.size());
        }
        check(memcached_mget(memcached_, words.data(), lengths.data(), words.size()));
        memcached_return_t status;
        while (memcached_result_st *result = memcached_fetch_result(memcached_, nullptr, &status)) {
            results_.push_back(result);
            found.push_back({memcached_result_value(result), memcached_result_length(result)});
        }
        return true;
    }

    bool exist(const Keys &keys, std::vector<Found> &found) override {
        if (keys.size() > 1) return false;
        const auto status = memcached_exist(memcached_, keys[0].data(), keys[0].size());
        found.push_back({"", status == MEMCACHED_SUCCESS ? size_t{1} : size_t{0}});
        return true;
    }

    // libmemcached has no call that stores several keys.
    bool set(const Keys &keys, const std::string &value) override {
        if (keys.size() > 1) return false;
        check(memcached_set(memcached_, keys[0].data(), keys[0].size(), value.data(), value.size(),
                            0, 0));
        return true;
    }

private:
    void check(memcached_return_t status) {
        if (status != MEMCACHED_SUCCESS && status != MEMCACHED_BUFFERED)
            throw std::runtime_error(memcached_strerror(memcached_, status));
    }

    void forget() {
        free(single_);
        single_ = nullptr;
        for (auto *result : results_) memcached_result_free(result);
        results_.clear();
    }

    memcached_st *memcached_;
    char *single_ = nullptr;
    std::vector<memcached_result_st *> results_;
};

int main(int, char **argv) {
    FILE *answers = compare::answers();
    Memcached client(argv[1]);
    compare::Loop(client, answers).serve();
}
