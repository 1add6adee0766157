// Keys and values. Statuses and words follow the releases this replaces.
//
// Threads: any number at once; Init and ShutDown alone.
#ifndef DATASYSTEM_KV_CLIENT_H
#define DATASYSTEM_KV_CLIENT_H

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "datasystem/hetero/blob.h"
#include "datasystem/internal/session.h"
#include "datasystem/kv/read_only_buffer.h"
#include "datasystem/object/buffer.h"
#include "datasystem/object/object_enum.h"
#include "datasystem/utils/connection.h"
#include "datasystem/utils/embedded_config.h"
#include "datasystem/utils/kv_client_config.h"
#include "datasystem/utils/optional.h"
#include "datasystem/utils/status.h"
#include "datasystem/utils/string_view.h"

namespace datasystem {

enum class ExistenceOpt : int { NONE = 0, NX = 1 };

struct SetParam {
    WriteMode writeMode = WriteMode::NONE_L2_CACHE;
    uint32_t ttlSecond = 0;
    ExistenceOpt existence = ExistenceOpt::NONE;
    CacheType cacheType = CacheType::MEMORY;
};

struct MSetParam {
    WriteMode writeMode = WriteMode::NONE_L2_CACHE;
    uint32_t ttlSecond = 0;
    ExistenceOpt existence = ExistenceOpt::NONE;
    CacheType cacheType = CacheType::MEMORY;
};

struct ReadParam {
    std::string key;
    uint64_t offset = 0;
    // 0: to the end.
    uint64_t size = 0;
};

class KVClient {
public:
    explicit KVClient(const ConnectOptions &connectOptions = {})
        : session_(std::make_shared<internal::Session>(connectOptions))
    {
    }
    explicit KVClient(std::shared_ptr<internal::Session> session) : session_(std::move(session)) {}

    Status Init() { return session_->Open(); }
    // What the settings are for (logs) is not written by this client.
    Status Init(const KVClientConfig &) { return session_->Open(); }
    Status ShutDown()
    {
        session_->Close();
        return Status::OK();
    }
    static Status InitEmbedded(const EmbeddedConfig &)
    {
        return internal::NotSupported("An embedded worker (KVClient::InitEmbedded)");
    }
    static KVClient &EmbeddedInstance()
    {
        static KVClient instance;
        return instance;
    }

    Status Set(const std::string &key, const StringView &val, const SetParam &setParam = {})
    {
        Status status = CheckSet(key, val.size(), setParam.cacheType);
        if (status.IsError()) {
            return status;
        }
        const chariot::Status written = Raw().Set(key, val, Options(setParam));
        if (setParam.existence == ExistenceOpt::NX && written.code() == CHARIOT_EXISTS) {
            return Status::OK();
        }
        return internal::ConvertWrite(written.code(), written.message(), setParam.writeMode);
    }
    // Under a new key; empty when it failed.
    std::string Set(const StringView &val, const SetParam &setParam = {})
    {
        const std::string key = GenerateKey();
        return Set(key, val, setParam).IsOk() ? key : "";
    }

    Status Create(const std::string &key, uint64_t size, const SetParam &setParam,
                  std::shared_ptr<Buffer> &buffer)
    {
        Status status = CheckSet(key, size, setParam.cacheType);
        if (status.IsError()) {
            return status;
        }
        chariot::Buffer raw;
        const bool if_absent = setParam.existence == ExistenceOpt::NX;
        if (!if_absent || !Raw().Exist(key).ok()) {
            const chariot::Status created = Raw().Create(key, size, raw, Options(setParam));
            if (!created.ok()) {
                return internal::ConvertWrite(created.code(), created.message(),
                                              setParam.writeMode);
            }
        }
        buffer = std::make_shared<Buffer>(std::move(raw), setParam.writeMode, if_absent);
        return Status::OK();
    }
    Status Set(const std::shared_ptr<Buffer> &buffer)
    {
        Status status = session_->Ready();
        if (status.IsOk() && buffer == nullptr) {
            status = Status(K_INVALID, "The buffer is None, please create it first.");
        }
        return status.IsOk() ? buffer->Publish() : status;
    }
    Status MCreate(const std::vector<std::string> &keys, const std::vector<uint64_t> &sizes,
                   const SetParam &setParam, std::vector<std::shared_ptr<Buffer>> &buffers)
    {
        buffers.clear();
        Status status = CheckPairs(keys, sizes.size());
        for (size_t index = 0; status.IsOk() && index < keys.size(); ++index) {
            std::shared_ptr<Buffer> buffer;
            status = Create(keys[index], sizes[index], setParam, buffer);
            buffers.push_back(std::move(buffer));
        }
        if (status.IsError()) {
            buffers.clear();
        }
        return status;
    }
    Status MSet(const std::vector<std::shared_ptr<Buffer>> &buffers)
    {
        if (buffers.empty() || buffers.size() > internal::KEYS_MAX) {
            return Status(K_INVALID, "The number of buffers is 0 or exceeds 10000.");
        }
        for (const auto &buffer : buffers) {
            if (buffer == nullptr || buffer->IsIfAbsent() != buffers[0]->IsIfAbsent()) {
                return Status(K_INVALID, "A buffer is None, or NX and NONE are mixed.");
            }
        }
        Status first;
        for (const auto &buffer : buffers) {
            const Status status = Set(buffer);
            first = first.IsOk() ? status : first;
        }
        return first;
    }

    // Of keys that come twice the first is written; the others are listed as failed.
    Status MSet(const std::vector<std::string> &keys, const std::vector<StringView> &vals,
                std::vector<std::string> &outFailedKeys, const MSetParam &mSetParam = {})
    {
        outFailedKeys.clear();
        Status status = CheckValues(keys, vals, mSetParam.cacheType);
        if (status.IsError()) {
            return status;
        }
        std::vector<std::string> unique;
        std::vector<std::string> twice;
        std::vector<std::string_view> values;
        std::unordered_set<std::string> seen;
        for (size_t index = 0; index < keys.size(); ++index) {
            if (seen.insert(keys[index]).second) {
                unique.push_back(keys[index]);
                values.push_back(vals[index]);
            } else {
                twice.push_back(keys[index]);
            }
        }
        const SetParam one{mSetParam.writeMode, mSetParam.ttlSecond, mSetParam.existence,
                           mSetParam.cacheType};
        std::vector<int32_t> statuses;
        const chariot::Status call =
            Raw().MSet(internal::Borrow(unique), values, statuses, Options(one));
        if (!call.ok()) {
            return internal::Convert(call);
        }
        int32_t first = CHARIOT_OK;
        for (size_t index = 0; index < unique.size(); ++index) {
            int32_t code = statuses[index];
            if (code == CHARIOT_EXISTS && mSetParam.existence == ExistenceOpt::NX) {
                code = CHARIOT_OK;
            }
            if (code != CHARIOT_OK) {
                first = outFailedKeys.empty() ? code : first;
                outFailedKeys.push_back(unique[index]);
            }
        }
        const bool all = outFailedKeys.size() == unique.size();
        outFailedKeys.insert(outFailedKeys.end(), twice.begin(), twice.end());
        if (!all) {
            return Status::OK();
        }
        status = internal::ConvertWrite(first, internal::WordsOf(first), mSetParam.writeMode);
        return Status(status.GetCode(), "Cannot set all the objects from worker, status: "
                                            + status.ToString());
    }

    Status MSetTx(const std::vector<std::string> &keys, const std::vector<StringView> &vals,
                  const MSetParam &mSetParam = {})
    {
        Status status = CheckValues(keys, vals, mSetParam.cacheType);
        if (status.IsError()) {
            return status;
        }
        if (keys.size() > 8) {
            return Status(K_INVALID, "The maximum size of keys in single operation is 8.");
        }
        if (mSetParam.existence != ExistenceOpt::NX) {
            return Status(K_INVALID, "The MSetTx only supports set not existence key now.");
        }
        const SetParam one{mSetParam.writeMode, mSetParam.ttlSecond, ExistenceOpt::NX,
                           mSetParam.cacheType};
        std::unordered_set<std::string> seen;
        for (const std::string &key : keys) {
            if (!seen.insert(key).second) {
                return Status(K_INVALID, "The input parameter contains duplicate key " + key + ".");
            }
        }
        const std::vector<std::string_view> values(vals.begin(), vals.end());
        const chariot::Status stored = Raw().MSetTx(internal::Borrow(keys), values, Options(one));
        return internal::ConvertWrite(stored.code(), stored.message(), mSetParam.writeMode);
    }

    Status Get(const std::string &key, std::string &val, int32_t subTimeoutMs = 0)
    {
        chariot::View view;
        Status status = GetView(key, view, subTimeoutMs);
        if (status.IsOk()) {
            val.assign(view.bytes());
        }
        return status;
    }
    Status Get(const std::string &key, Optional<ReadOnlyBuffer> &buffer, int32_t subTimeoutMs = 0)
    {
        return GetOne(key, buffer, subTimeoutMs);
    }
    Status Get(const std::string &key, Optional<Buffer> &buffer, int32_t subTimeoutMs = 0)
    {
        return GetOne(key, buffer, subTimeoutMs);
    }
    Status Get(const std::vector<std::string> &keys, std::vector<std::string> &vals,
               int32_t subTimeoutMs = 0)
    {
        std::vector<chariot::View> views;
        Status status = GetViews(keys, views, subTimeoutMs);
        vals.clear();
        for (const chariot::View &view : views) {
            vals.emplace_back(view.bytes());
        }
        return status;
    }
    Status Get(const std::vector<std::string> &keys, std::vector<Optional<ReadOnlyBuffer>> &buffers,
               int32_t subTimeoutMs = 0)
    {
        return GetMany(keys, buffers, subTimeoutMs);
    }
    Status Get(const std::vector<std::string> &keys, std::vector<Optional<Buffer>> &buffers,
               int32_t subTimeoutMs = 0)
    {
        return GetMany(keys, buffers, subTimeoutMs);
    }
    Status MGetH2D(const std::vector<std::string> &, const std::vector<Blob> &,
                   std::vector<std::string> &, void * = nullptr,
                   std::vector<Optional<ReadOnlyBuffer>> * = nullptr)
    {
        return internal::NotSupported("Accelerators (KVClient::MGetH2D)");
    }

    Status Read(const std::vector<ReadParam> &readParams,
                std::vector<Optional<ReadOnlyBuffer>> &buffers)
    {
        buffers.clear();
        std::vector<std::string> keys;
        std::unordered_set<std::string> seen;
        for (const ReadParam &param : readParams) {
            keys.push_back(param.key);
            if (!seen.insert(param.key).second) {
                return Status(K_INVALID,
                              "The input parameter contains duplicate key " + param.key + ".");
            }
            if (param.offset > UINT64_MAX - param.size) {
                return Status(K_INVALID, "The read offset and size overflow: " + param.key);
            }
        }
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()) {
            return status;
        }
        size_t found = 0;
        for (const ReadParam &param : readParams) {
            chariot::View view;
            const Status read = ReadOne(param, view);
            if (read.IsError() && read.GetCode() != K_NOT_FOUND) {
                buffers.clear();
                return read;
            }
            buffers.emplace_back();
            if (read.IsOk()) {
                buffers.back() = ReadOnlyBuffer(std::move(view));
                ++found;
            }
        }
        return found == 0 ? session_->NothingFound() : Status::OK();
    }

    // A key that is not there is deleted.
    Status Del(const std::string &key)
    {
        std::vector<std::string> failed;
        return Del(std::vector<std::string>{key}, failed);
    }
    Status Del(const std::vector<std::string> &keys, std::vector<std::string> &failedKeys)
    {
        return session_->Delete(keys, failedKeys);
    }
    Status Exist(const std::vector<std::string> &keys, std::vector<bool> &exists)
    {
        return session_->Exist(keys, exists);
    }
    Status Expire(const std::vector<std::string> &keys, uint32_t ttlSeconds,
                  std::vector<std::string> &failedKeys)
    {
        failedKeys.clear();
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status call =
            Raw().MExpire(internal::Borrow(keys), uint64_t{1000} * ttlSeconds, statuses);
        return call.ok() ? internal::Session::Failed(keys, statuses, false, failedKeys)
                         : internal::Convert(call);
    }
    Status QuerySize(const std::vector<std::string> &keys, std::vector<uint64_t> &sizes)
    {
        sizes.clear();
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status call = Raw().MSize(internal::Borrow(keys), sizes, statuses);
        if (!call.ok()) {
            return internal::Convert(call);
        }
        std::vector<std::string> failed;
        return internal::Session::Failed(keys, statuses, false, failed);
    }

    // A key that nobody has yet; with a prefix, the prefix.
    std::string GenerateKey(const std::string &prefixKey = "")
    {
        return prefixKey.empty() ? internal::Uuid() : prefixKey;
    }
    Status GenerateKey(const std::string &prefixKey, std::string &key)
    {
        Status status = prefixKey.empty() ? Status::OK()
                                          : internal::CheckKey(prefixKey, "prefixKey");
        if (status.IsOk() && (status = session_->Ready()).IsOk()) {
            key = GenerateKey(prefixKey);
        }
        return status;
    }

    Status HealthCheck() { return session_->HealthCheck(); }
    Status UpdateToken(const SensitiveValue &)
    {
        return internal::NotSupported("Authentication by token (KVClient::UpdateToken)");
    }
    Status UpdateAkSk(const std::string &, const SensitiveValue &)
    {
        return internal::NotSupported("Another access key for an open client (UpdateAkSk)");
    }
    Status UpdateConfig(const std::string &)
    {
        return internal::NotSupported("KVClient::UpdateConfig");
    }
    Status SetWorkerHealthCallback(const std::function<void(const Status &)> &, uint64_t = 3000)
    {
        return internal::NotSupported("KVClient::SetWorkerHealthCallback");
    }

private:
    const chariot::Client &Raw() const { return session_->client(); }

    static chariot::SetOptions Options(const SetParam &param)
    {
        chariot::SetOptions options;
        options.ttl_ms = uint64_t{1000} * param.ttlSecond;
        options.mode = static_cast<uint8_t>(param.writeMode);
        options.if_absent = param.existence == ExistenceOpt::NX ? 1 : 0;
        return options;
    }

    Status CheckSet(const std::string &key, uint64_t size, CacheType cacheType) const
    {
        Status status = session_->Ready();
        if (status.IsOk() && (status = internal::CheckKey(key)).IsOk()) {
            if (size == 0) {
                status = Status(K_INVALID, "The dataSize value should be bigger than zero.");
            } else if (cacheType != CacheType::MEMORY) {
                status = internal::NotSupported("CacheType::DISK");
            }
        }
        return status;
    }

    Status CheckPairs(const std::vector<std::string> &keys, size_t values) const
    {
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()) {
            return status;
        }
        return keys.size() == values
                   ? status
                   : Status(K_INVALID, "The number of key and value is not the same.");
    }

    Status CheckValues(const std::vector<std::string> &keys, const std::vector<StringView> &vals,
                       CacheType cacheType) const
    {
        Status status = CheckPairs(keys, vals.size());
        for (size_t index = 0; status.IsOk() && index < keys.size(); ++index) {
            if (vals[index].empty()) {
                status = Status(K_INVALID, "The value associated with key " + keys[index]
                                               + " should not be empty.");
            }
        }
        return status.IsOk() && cacheType != CacheType::MEMORY
                   ? internal::NotSupported("CacheType::DISK")
                   : status;
    }

    static chariot::GetOptions Wait(int32_t subTimeoutMs)
    {
        chariot::GetOptions options;
        options.wait_us = uint64_t{1000} * static_cast<uint32_t>(subTimeoutMs);
        return options;
    }

    Status GetView(const std::string &key, chariot::View &view, int32_t subTimeoutMs) const
    {
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKey(key)).IsError()
            || (status = internal::CheckWait(subTimeoutMs)).IsError()) {
            return status;
        }
        const chariot::Status found = Raw().Get(key, view, Wait(subTimeoutMs));
        return found.not_found() ? session_->NothingFound() : internal::Convert(found);
    }

    // OK when at least one was found; an empty view each for the others.
    Status GetViews(const std::vector<std::string> &keys, std::vector<chariot::View> &views,
                    int32_t subTimeoutMs) const
    {
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()
            || (status = internal::CheckWait(subTimeoutMs)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status call =
            Raw().MGet(internal::Borrow(keys), views, statuses, Wait(subTimeoutMs));
        if (!call.ok()) {
            views.clear();
            return internal::Convert(call);
        }
        int32_t first = CHARIOT_NOT_FOUND;
        for (const int32_t code : statuses) {
            if (code == CHARIOT_OK) {
                return Status::OK();
            }
            first = first == CHARIOT_NOT_FOUND ? code : first;
        }
        views.clear();
        return first == CHARIOT_NOT_FOUND ? session_->NothingFound()
                                          : internal::Convert(first, internal::WordsOf(first));
    }

    template <typename T>
    Status GetOne(const std::string &key, Optional<T> &buffer, int32_t subTimeoutMs) const
    {
        chariot::View view;
        Status status = GetView(key, view, subTimeoutMs);
        buffer.reset();
        if (status.IsOk()) {
            buffer.emplace(std::move(view));
        }
        return status;
    }

    template <typename T>
    Status GetMany(const std::vector<std::string> &keys, std::vector<Optional<T>> &buffers,
                   int32_t subTimeoutMs) const
    {
        std::vector<chariot::View> views;
        Status status = GetViews(keys, views, subTimeoutMs);
        buffers.clear();
        for (chariot::View &view : views) {
            buffers.emplace_back();
            if (view) {
                buffers.back().emplace(std::move(view));
            }
        }
        return status;
    }

    Status ReadOne(const ReadParam &param, chariot::View &view) const
    {
        chariot::GetOptions options;
        options.offset = param.offset;
        options.len = param.size == 0 ? UINT64_MAX : param.size;
        chariot::Status status = Raw().Get(param.key, view, options);
        if (status.code() == CHARIOT_RANGE_INVALID) {
            // Beyond the end is cut at the end; from beyond the end is an error.
            uint64_t size = 0;
            const chariot::Status sized = Raw().Size(param.key, size);
            if (!sized.ok()) {
                return internal::Convert(sized);
            }
            if (param.offset >= size) {
                return Status(K_OUT_OF_RANGE, "The read offset " + std::to_string(param.offset)
                                                  + " out of range [0," + std::to_string(size)
                                                  + ")");
            }
            options.len = UINT64_MAX;
            status = Raw().Get(param.key, view, options);
        }
        return internal::Convert(status);
    }

    std::shared_ptr<internal::Session> session_;
};

}  // namespace datasystem

#endif
