// Objects with references, latches and seals. Both kinds of consistency are taken: what is
// published is seen by everybody at once.
#ifndef DATASYSTEM_OBJECT_CLIENT_H
#define DATASYSTEM_OBJECT_CLIENT_H

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "datasystem/internal/session.h"
#include "datasystem/kv_client.h"
#include "datasystem/object/buffer.h"
#include "datasystem/object/object_enum.h"
#include "datasystem/utils/optional.h"

namespace datasystem {

struct CreateParam {
    WriteMode writeMode = WriteMode::NONE_L2_CACHE;
    ConsistencyType consistencyType = ConsistencyType::PRAM;
    CacheType cacheType = CacheType::MEMORY;
};

struct ObjMetaInfo {
    uint64_t objSize = 0;
    std::vector<std::string> locations;
};

class ObjectClient {
    using Keys = std::vector<std::string>;

public:
    explicit ObjectClient(const ConnectOptions &connectOptions = {})
        : session_(std::make_shared<internal::Session>(connectOptions))
    {
    }
    explicit ObjectClient(std::shared_ptr<internal::Session> session)
        : session_(std::move(session))
    {
    }

    Status Init() { return session_->Open(); }
    Status ShutDown()
    {
        session_->Close();
        return Status::OK();
    }
    // `remoteClientId` counts for somebody else: not yet.
    Status GIncreaseRef(const Keys &keys, Keys &failedKeys, const std::string &remoteClientId = "")
    {
        return ChangeRefs(keys, failedKeys, remoteClientId, true);
    }
    // A key that is not known is no error.
    Status GDecreaseRef(const Keys &keys, Keys &failedKeys, const std::string &remoteClientId = "")
    {
        return ChangeRefs(keys, failedKeys, remoteClientId, false);
    }
    Status ReleaseGRefs(const std::string &) { return Missing("ReleaseGRefs"); }
    // -1: it failed.
    int QueryGlobalRefNum(const std::string &key)
    {
        uint64_t clients = 0;
        const bool known = session_->Ready().IsOk() && Raw().GlobalRefs(key, clients).ok();
        return known && clients <= INT32_MAX ? static_cast<int>(clients) : -1;
    }
    Status Create(const std::string &key, uint64_t size, const CreateParam &param,
                  std::shared_ptr<Buffer> &buffer)
    {
        Status status = CheckNew(key, size, param);
        if (status.IsError()) {
            return status;
        }
        chariot::Object object;
        const chariot::Status created = Raw().CreateObject(key, size, object, Options(param));
        if (!created.ok()) {
            return internal::ConvertWrite(created.code(), created.message(), param.writeMode);
        }
        buffer = std::make_shared<Buffer>(std::move(object), param.writeMode);
        return Status::OK();
    }
    Status Put(const std::string &key, const uint8_t *data, uint64_t size, const CreateParam &param,
               const std::unordered_set<std::string> &nestedObjectKeys = {})
    {
        if (data == nullptr && size != 0) {
            return Status(K_INVALID, "The data is null.");
        }
        std::shared_ptr<Buffer> buffer;
        Status status = Create(key, size, param, buffer);
        if (status.IsOk() && (status = buffer->MemoryCopy(data, size)).IsOk()) {
            status = buffer->Publish(nestedObjectKeys);
        }
        return status;
    }
    // OK when at least one was found.
    Status Get(const Keys &keys, int32_t subTimeoutMs, std::vector<Optional<Buffer>> &buffers)
    {
        buffers.clear();
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()
            || (status = internal::CheckWait(subTimeoutMs)).IsError()) {
            return status;
        }
        std::vector<chariot::Object> objects;
        std::vector<int32_t> statuses;
        const uint64_t wait_us = uint64_t{1000} * static_cast<uint32_t>(subTimeoutMs);
        const chariot::Status call =
            Raw().MGetObject(internal::Borrow(keys), wait_us, objects, statuses);
        if (!call.ok()) {
            return internal::Convert(call);
        }
        size_t found = 0;
        for (chariot::Object &object : objects) {
            buffers.emplace_back();
            if (object) {
                buffers.back().emplace(std::move(object), WriteMode::NONE_L2_CACHE);
                ++found;
            }
        }
        if (found != 0) {
            return Status::OK();
        }
        buffers.clear();
        for (const int32_t code : statuses) {
            if (code != CHARIOT_NOT_FOUND) {
                return internal::Convert(code, internal::WordsOf(code));
            }
        }
        return session_->NothingFound();
    }
    Status GetObjMetaInfo(const std::string &, const Keys &, std::vector<ObjMetaInfo> &)
    {
        return Missing("GetObjMetaInfo");
    }
    Status UpdateToken(const SensitiveValue &) { return Missing("UpdateToken"); }
    Status UpdateAkSk(const std::string &, const SensitiveValue &) { return Missing("UpdateAkSk"); }
    Status GetPrefix(const std::string &, std::string &) { return Missing("GetPrefix"); }

    Status GenerateKey(const std::string &prefix, std::string &key)
    {
        return KVClient(session_).GenerateKey(prefix, key);
    }
    Status GenerateObjectKey(const std::string &prefix, std::string &key)
    {
        return GenerateKey(prefix, key);
    }
    Status HealthCheck() { return session_->HealthCheck(); }
    Status HealthCheck(ServerState &state)
    {
        state = ServerState::NORMAL;
        return session_->HealthCheck();
    }

private:
    const chariot::Client &Raw() const { return session_->client(); }

    static chariot::SetOptions Options(const CreateParam &param)
    {
        chariot::SetOptions options;
        options.mode = static_cast<uint8_t>(param.writeMode);
        return options;
    }

    Status CheckNew(const std::string &key, uint64_t size, const CreateParam &param) const
    {
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKey(key)).IsError()) {
            return status;
        }
        if (size == 0) {
            return Status(K_INVALID, "The dataSize value should be bigger than zero.");
        }
        return param.cacheType == CacheType::MEMORY ? status
                                                    : internal::NotSupported("CacheType::DISK");
    }

    Status ChangeRefs(const Keys &keys, Keys &failedKeys, const std::string &remoteClientId,
                      bool more) const
    {
        failedKeys.clear();
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()) {
            return status;
        }
        if (!remoteClientId.empty()) {
            return internal::NotSupported("References for another client (remoteClientId)");
        }
        std::vector<int32_t> statuses;
        const auto borrowed = internal::Borrow(keys);
        const chariot::Status call = more ? Raw().IncreaseRefs(borrowed, statuses)
                                          : Raw().DecreaseRefs(borrowed, statuses);
        return call.ok() ? internal::Session::Failed(keys, statuses, false, failedKeys)
                         : internal::Convert(call);
    }

    Status Missing(const std::string &function) const
    {
        const Status status = session_->Ready();
        return status.IsOk() ? internal::NotSupported("Objects (ObjectClient::" + function + ")")
                             : status;
    }

    std::shared_ptr<internal::Session> session_;
};

}  // namespace datasystem

#endif
