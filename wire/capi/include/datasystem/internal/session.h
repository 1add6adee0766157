// What all clients of this namespace share: the connection, keys, statuses. No part of the surface.
#ifndef DATASYSTEM_INTERNAL_SESSION_H
#define DATASYSTEM_INTERNAL_SESSION_H

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "chariot.hpp"
#include "datasystem/context/context.h"
#include "datasystem/object/object_enum.h"
#include "datasystem/utils/connection.h"
#include "datasystem/utils/status.h"

namespace datasystem {
namespace internal {

constexpr size_t KEYS_MAX = 10000;
constexpr size_t EXIST_KEYS_MAX = 100000;

inline Status NotSupported(const std::string &feature)
{
    return Status(K_NOT_SUPPORTED, feature + " is not supported yet");
}

// The code that stands for a status of chariot.h; `words` tell what happened.
inline Status Convert(int32_t code, const std::string &words)
{
    switch (code) {
        case CHARIOT_OK: return Status::OK();
        case CHARIOT_TIMEOUT: return Status(K_RPC_DEADLINE_EXCEEDED, words);
        case CHARIOT_RESTARTING: return Status(K_RPC_UNAVAILABLE, words);
        case CHARIOT_AGAIN:
        case CHARIOT_BUSY:
        case CHARIOT_PINNED: return Status(K_TRY_AGAIN, words);
        case CHARIOT_OUT_OF_MEMORY:
        case CHARIOT_METADATA_FULL:
            return Status(K_OUT_OF_MEMORY, "Shared memory no space in arena: " + words);
        case CHARIOT_NOT_FOUND: return Status(K_NOT_FOUND, "Cannot get objects from worker");
        case CHARIOT_EXISTS: return Status(K_OC_KEY_ALREADY_EXIST, words);
        case CHARIOT_SEALED:
            return Status(K_OC_ALREADY_SEALED, "The client object has already been sealed.");
        case CHARIOT_INVALID_ARGUMENT:
        case CHARIOT_KEY_INVALID:
        case CHARIOT_TOO_LARGE: return Status(K_INVALID, words);
        case CHARIOT_NOT_SUPPORTED: return Status(K_NOT_SUPPORTED, words);
        case CHARIOT_VERSION_MISMATCH: return Status(K_CLIENT_WORKER_VERSION_MISMATCH, words);
        case CHARIOT_RANGE_INVALID: return Status(K_OUT_OF_RANGE, words);
        case CHARIOT_NOT_AUTHORIZED: return Status(K_NOT_AUTHORIZED, words);
        case CHARIOT_EXPELLED: return Status(K_CLIENT_WORKER_DISCONNECT, words);
        case CHARIOT_CHECKSUM_MISMATCH: return Status(K_DATA_INCONSISTENCY, words);
        case CHARIOT_SHUTTING_DOWN: return Status(K_SHUTTING_DOWN, words);
        default: return Status(K_RUNTIME_ERROR, words);
    }
}

inline Status Convert(const chariot::Status &status)
{
    return Convert(status.code(), status.message());
}

inline Status ConvertWrite(int32_t code, const std::string &words, WriteMode mode)
{
    const bool remote = mode == WriteMode::WRITE_THROUGH_L2_CACHE
                        || mode == WriteMode::WRITE_BACK_L2_CACHE
                        || mode == WriteMode::WRITE_BACK_L2_CACHE_EVICT;
    if (code == CHARIOT_NOT_SUPPORTED && remote) {
        return Status(K_INVALID, "The key is set to WRITE_THROUGH_L2_CACHE or WRITE_BACK_L2_CACHE, "
                                 "but L2_cache_type is set to none.");
    }
    return Convert(code, words);
}

// Words of a status of a batch, where the call's own words may be another key's.
inline std::string WordsOf(int32_t code)
{
    return std::string(chariot_status_text(code)) + ": " + chariot_status_remedy(code);
}

inline Status CheckKey(const std::string &key, const char *what = "objectKey")
{
    if (key.empty()) {
        return Status(K_INVALID, std::string("The ") + what + " should not be empty.");
    }
    for (const char letter : key) {
        const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z')
                           || (letter >= '0' && letter <= '9');
        if ((!plain && std::string_view("~.-/_!@#%^&*()+=:;").find(letter) == std::string_view::npos)
            || key.size() > 1024) {
            return Status(K_INVALID,
                          std::string("The ") + what
                              + " contains illegal char(s), allowed regex format: "
                                "^[a-zA-Z0-9\\~\\.\\-\\/_!@#%\\^\\&\\*\\(\\)\\+\\=\\:;]*$ or the "
                                "length of key must be no more than 1024. Current key: "
                              + key + ", length: " + std::to_string(key.size()));
        }
    }
    return Status::OK();
}

// Batches look closely at their first key; the others are only not empty.
inline Status CheckKeys(const std::vector<std::string> &keys, size_t most = KEYS_MAX)
{
    if (keys.empty()) {
        return Status(K_INVALID, "The keys are empty");
    }
    if (keys.size() > most) {
        return Status(K_INVALID, "The objectKeys size exceed " + std::to_string(most) + ".");
    }
    for (const std::string &key : keys) {
        if (key.empty()) {
            return Status(K_INVALID, "The objectKey should not be empty.");
        }
    }
    return CheckKey(keys[0]);
}

inline Status CheckWait(int64_t subTimeoutMs)
{
    if (subTimeoutMs < 0 || subTimeoutMs > INT32_MAX) {
        return Status(K_INVALID, "subTimeoutMs " + std::to_string(subTimeoutMs)
                                     + " is out of range, which should be between[0, 2147483647]");
    }
    return Status::OK();
}

template <typename Texts>
std::vector<std::string_view> Borrow(const Texts &texts)
{
    return std::vector<std::string_view>(texts.begin(), texts.end());
}

// 36 characters, random: version 4 of RFC 9562.
inline std::string Uuid()
{
    std::random_device random;
    std::string text;
    static const char digits[] = "0123456789abcdef";
    for (int index = 0; index < 32; ++index) {
        if (index == 8 || index == 12 || index == 16 || index == 20) {
            text += '-';
        }
        unsigned digit = random() % 16;
        digit = index == 12 ? 4 : index == 16 ? 8 + digit % 4 : digit;
        text += digits[digit];
    }
    return text;
}

inline std::string Environment(const char *name)
{
    const char *value = std::getenv(name);
    return value == nullptr ? "" : value;
}

inline bool ParseNumber(const std::string &text, int32_t &number)
{
    char *end = nullptr;
    const long parsed = std::strtol(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || parsed < 0 || parsed > INT32_MAX) {
        return false;
    }
    number = static_cast<int32_t>(parsed);
    return true;
}

class Session {
public:
    explicit Session(ConnectOptions options) : options_(std::move(options)) {}

    Status Open()
    {
        if (client_) {
            return Status::OK();
        }
        ConnectOptions options = options_;
        Status status = FromEnvironment(options);
        if (status.IsError() || (status = Check(options)).IsError()) {
            return status;
        }
        chariot::ConnectOptions raw;
        const bool bare_v6 = options.host.find(':') != std::string::npos && options.host[0] != '[';
        raw.target = (bare_v6 ? "[" + options.host + "]" : options.host) + ":"
                     + std::to_string(options.port);
        raw.access_key = options.accessKey;
        raw.secret_key.assign(options.secretKey.GetData(), options.secretKey.GetSize());
        raw.tenant = options.tenantId;
        const int32_t request = options.requestTimeoutMs;
        raw.connect_timeout_us = uint64_t{1000} * static_cast<uint32_t>(options.connectTimeoutMs);
        raw.request_timeout_us = request == 0 ? raw.connect_timeout_us
                                              : uint64_t{1000} * static_cast<uint32_t>(request);
        status = Convert(chariot::Client::Connect(raw, client_));
        tenant_ = options.tenantId;
        return status;
    }

    void Close() { client_ = chariot::Client(); }

    // Whether calls of this thread may use it now.
    Status Ready() const
    {
        if (!client_) {
            return Status(K_NOT_READY,
                          "Client has not been initialized yet, please initialize it first.");
        }
        const std::string &tenant = Context::TenantId();
        if (!tenant.empty() && tenant != tenant_) {
            return NotSupported("Context::SetTenantId other than the tenant of the connection");
        }
        return Status::OK();
    }

    Status HealthCheck() const
    {
        Status status = Ready();
        if (status.IsOk() && client_.place() == CHARIOT_PLACE_AWAY) {
            // Any question makes it try to connect.
            client_.Exist("health-check");
            if (client_.place() == CHARIOT_PLACE_AWAY) {
                return Status(K_RPC_UNAVAILABLE, "the worker is away or restarting");
            }
        }
        return status;
    }

    // What a read answers that found nothing at all.
    Status NothingFound() const
    {
        if (client_.place() == CHARIOT_PLACE_AWAY) {
            return Status(K_RPC_UNAVAILABLE,
                          "Cannot get objects from worker: it is away or restarting");
        }
        return Status(K_NOT_FOUND, "Cannot get objects from worker");
    }

    Status Delete(const std::vector<std::string> &keys, std::vector<std::string> &failedKeys) const
    {
        failedKeys.clear();
        Status status = Ready();
        if (status.IsError() || (status = CheckKeys(keys)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status call = client_.MDelete(Borrow(keys), statuses);
        return call.ok() ? Failed(keys, statuses, true, failedKeys) : Convert(call);
    }

    Status Exist(const std::vector<std::string> &keys, std::vector<bool> &exists) const
    {
        exists.clear();
        Status status = Ready();
        if (status.IsError() || (status = CheckKeys(keys, EXIST_KEYS_MAX)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status call = client_.MExist(Borrow(keys), statuses);
        if (!call.ok()) {
            return Convert(call);
        }
        for (const int32_t code : statuses) {
            if (code != CHARIOT_OK && code != CHARIOT_NOT_FOUND && code != CHARIOT_KEY_INVALID) {
                return Convert(code, WordsOf(code));
            }
            exists.push_back(code == CHARIOT_OK);
        }
        return Status::OK();
    }

    // Lists the keys that failed; an error when none succeeded.
    static Status Failed(const std::vector<std::string> &keys, const std::vector<int32_t> &statuses,
                         bool missing_is_fine, std::vector<std::string> &failedKeys)
    {
        int32_t first = CHARIOT_OK;
        for (size_t index = 0; index < keys.size(); ++index) {
            const int32_t code = statuses[index];
            if (code != CHARIOT_OK && !(missing_is_fine && code == CHARIOT_NOT_FOUND)) {
                first = failedKeys.empty() ? code : first;
                failedKeys.push_back(keys[index]);
            }
        }
        const bool all = failedKeys.size() == keys.size();
        return all ? Convert(first, WordsOf(first)) : Status::OK();
    }

    const chariot::Client &client() const { return client_; }
    const ConnectOptions &options() const { return options_; }

private:
    static Status FromEnvironment(ConnectOptions &options)
    {
        if (options.host.empty()) {
            options.host = Environment("DATASYSTEM_HOST");
            const std::string port = Environment("DATASYSTEM_PORT");
            if (options.port == 0 && !port.empty() && !ParseNumber(port, options.port)) {
                return Status(K_INVALID, "DATASYSTEM_PORT is no number: " + port);
            }
            const std::string time = Environment("DATASYSTEM_CONNECT_TIME_MS");
            if (options.connectTimeoutMs == ConnectOptions().connectTimeoutMs && !time.empty()
                && !ParseNumber(time, options.connectTimeoutMs)) {
                return Status(K_INVALID, "DATASYSTEM_CONNECT_TIME_MS is no number: " + time);
            }
        }
        const auto fill = [](auto &field, bool empty, const char *name) {
            if (empty) {
                field = Environment(name);
            }
        };
        fill(options.token, options.token.Empty(), "DATASYSTEM_TOKEN");
        fill(options.clientPublicKey, options.clientPublicKey.empty(),
             "DATASYSTEM_CLIENT_PUBLIC_KEY");
        fill(options.clientPrivateKey, options.clientPrivateKey.Empty(),
             "DATASYSTEM_CLIENT_PRIVATE_KEY");
        fill(options.serverPublicKey, options.serverPublicKey.empty(),
             "DATASYSTEM_SERVER_PUBLIC_KEY");
        fill(options.accessKey, options.accessKey.empty(), "DATASYSTEM_ACCESS_KEY");
        fill(options.secretKey, options.secretKey.Empty(), "DATASYSTEM_SECRET_KEY");
        fill(options.tenantId, options.tenantId.empty(), "DATASYSTEM_TENANT_ID");
        if (options.tenantId.empty()) {
            options.tenantId = Context::TenantId();
        }
        return Status::OK();
    }

    static Status Check(const ConnectOptions &options)
    {
        if (options.host.empty() || options.port <= 0 || options.port > UINT16_MAX) {
            return Status(K_INVALID, "host and port must be provided together: '" + options.host
                                         + "', " + std::to_string(options.port));
        }
        if (options.connectTimeoutMs <= 0) {
            return Status(K_INVALID, "The connection timeout must be a positive integer.");
        }
        if (options.requestTimeoutMs < 0) {
            return Status(K_INVALID, "The request timeout must not be negative.");
        }
        if (!options.clientPublicKey.empty() || !options.clientPrivateKey.Empty()
            || !options.serverPublicKey.empty()) {
            return NotSupported("Authentication by curve keys");
        }
        if (!options.token.Empty()) {
            return NotSupported("Authentication by token");
        }
        if (options.serviceDiscovery != nullptr) {
            return NotSupported("Service discovery");
        }
        if (options.enableRemoteH2D || options.enableClientDirectPipelineH2D) {
            return NotSupported("Remote H2D (accelerators)");
        }
        return Status::OK();
    }

    ConnectOptions options_;
    chariot::Client client_;
    std::string tenant_;
};

}  // namespace internal
}  // namespace datasystem

#endif
