// Redis through hiredis, over the unix socket.
#include <hiredis/hiredis.h>

#include "loop.hpp"

using compare::Found;
using compare::Keys;

class Redis : public compare::Client {
public:
    explicit Redis(const char *path) : context_(redisConnectUnix(path)) {
        if (context_ == nullptr || context_->err != 0) throw std::runtime_error("cannot connect");
    }

    ~Redis() override {
        forget();
        redisFree(context_);
    }

    bool get(const Keys &keys, std::vector<Found> &found) override {
        redisReply *reply = ask(keys.size() == 1 ? "GET" : "MGET", keys, nullptr);
        if (keys.size() == 1) {
            found.push_back({reply->str, reply->str == nullptr ? 0 : reply->len});
            return true;
        }
        for (size_t i = 0; i < reply->elements; ++i)
            found.push_back({reply->element[i]->str, reply->element[i]->len});
        return true;
    }

    // A pipeline of EXISTS: one command with many keys would only say how many there are.
    bool exist(const Keys &keys, std::vector<Found> &found) override {
        forget();
        for (const auto &key : keys) redisAppendCommand(context_, "EXISTS %s", key.c_str());
        for (size_t i = 0; i < keys.size(); ++i) {
            void *reply = nullptr;
            if (redisGetReply(context_, &reply) != REDIS_OK) throw std::runtime_error("no reply");
            found.push_back({"", static_cast<size_t>(static_cast<redisReply *>(reply)->integer)});
            freeReplyObject(reply);
        }
        return true;
    }

    bool set(const Keys &keys, const std::string &value) override {
        ask(keys.size() == 1 ? "SET" : "MSET", keys, &value);
        return true;
    }

private:
    void forget() {
        if (reply_ != nullptr) freeReplyObject(reply_);
        reply_ = nullptr;
    }

    redisReply *ask(const char *verb, const Keys &keys, const std::string *value) {
        forget();
        std::vector<const char *> words{verb};
        std::vector<size_t> lengths{strlen(verb)};
        for (const auto &key : keys) {
            words.push_back(key.data());
            lengths.push_back(key.size());
            if (value != nullptr) {
                words.push_back(value->data());
                lengths.push_back(value->size());
            }
        }
        reply_ = static_cast<redisReply *>(redisCommandArgv(
            context_, static_cast<int>(words.size()), words.data(), lengths.data()));
        if (reply_ == nullptr) throw std::runtime_error(context_->errstr);
        if (reply_->type == REDIS_REPLY_ERROR) throw std::runtime_error(reply_->str);
        return reply_;
    }

    redisContext *context_;
    redisReply *reply_ = nullptr;
};

int main(int, char **argv) {
    FILE *answers = compare::answers();
    Redis client(argv[1]);
    compare::Loop(client, answers).serve();
}
