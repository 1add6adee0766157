// Objects with references, latches and seals: every such call says by name that it is not
// supported yet.
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
    Status GIncreaseRef(const Keys &, Keys &, const std::string & = "")
    {
        return Missing("GIncreaseRef");
    }
    Status GDecreaseRef(const Keys &, Keys &, const std::string & = "")
    {
        return Missing("GDecreaseRef");
    }
    Status ReleaseGRefs(const std::string &) { return Missing("ReleaseGRefs"); }
    // -1: it failed.
    int QueryGlobalRefNum(const std::string &) { return -1; }
    Status Create(const std::string &, uint64_t, const CreateParam &, std::shared_ptr<Buffer> &)
    {
        return Missing("Create");
    }
    Status Put(const std::string &, const uint8_t *, uint64_t, const CreateParam &,
               const std::unordered_set<std::string> & = {})
    {
        return Missing("Put");
    }
    Status Get(const Keys &, int32_t, std::vector<Optional<Buffer>> &) { return Missing("Get"); }
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
