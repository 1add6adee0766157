// openYuanrong datasystem through its C++ SDK, shared memory and an exclusive connection.
#include "datasystem/datasystem.h"
#include "datasystem/kv_client.h"

#include "loop.hpp"

using compare::Found;
using compare::Keys;
using datasystem::Optional;
using datasystem::ReadOnlyBuffer;
using datasystem::Status;

// The batch call refuses values of 500 KiB and more.
constexpr size_t BATCH_VALUE_MAX = 500 * 1024;

class Yuanrong : public compare::Client {
public:
    explicit Yuanrong(const datasystem::ConnectOptions &options) : client_(options) {
        check(client_.Init());
    }

    ~Yuanrong() override { client_.ShutDown(); }

    bool get(const Keys &keys, std::vector<Found> &found) override {
        if (keys.size() == 1) {
            check(client_.Get(keys[0], value_));
            found.push_back({value_.data(), value_.size()});
            return true;
        }
        values_.clear();
        check(client_.Get(keys, values_));
        for (const auto &value : values_) found.push_back({value.data(), value.size()});
        return true;
    }

    bool view(const Keys &keys, std::vector<Found> &found) override {
        buffers_.clear();
        check(client_.Get(keys, buffers_));
        for (auto &buffer : buffers_) {
            if (!buffer) {
                found.push_back({});
                continue;
            }
            const auto *data = static_cast<const char *>(buffer->ImmutableData());
            found.push_back({data, static_cast<size_t>(buffer->GetSize())});
        }
        return true;
    }

    bool exist(const Keys &keys, std::vector<Found> &found) override {
        std::vector<bool> exists;
        check(client_.Exist(keys, exists));
        for (const bool here : exists) found.push_back({"", here ? size_t{1} : size_t{0}});
        return true;
    }

    bool set(const Keys &keys, const std::string &value) override {
        if (keys.size() == 1) {
            check(client_.Set(keys[0], value));
            return true;
        }
        if (value.size() >= BATCH_VALUE_MAX) return false;
        std::vector<datasystem::StringView> values(keys.size(), value);
        std::vector<std::string> failed;
        check(client_.MSet(keys, values, failed));
        if (!failed.empty()) throw std::runtime_error("MSet left keys out");
        return true;
    }

private:
    static void check(const Status &status) {
        if (status.IsError()) throw std::runtime_error(status.ToString());
    }

    datasystem::KVClient client_;
    std::string value_;
    std::vector<std::string> values_;
    std::vector<Optional<ReadOnlyBuffer>> buffers_;
};

int main(int, char **argv) {
    FILE *answers = compare::answers();
    datasystem::ConnectOptions options;
    options.host = argv[1];
    options.port = atoi(argv[2]);
    options.enableExclusiveConnection = true;
    Yuanrong client(options);
    compare::Loop(client, answers).serve();
}
