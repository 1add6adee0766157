// Memory of accelerators. Host keys (Delete, Exist) work; whatever touches a device says by name
// that it is not supported yet.
#ifndef DATASYSTEM_HETERO_CLIENT_H
#define DATASYSTEM_HETERO_CLIENT_H

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "datasystem/hetero/blob.h"
#include "datasystem/hetero/future.h"
#include "datasystem/internal/session.h"
#include "datasystem/kv_client.h"

namespace datasystem {

class HeteroClient {
    using Keys = std::vector<std::string>;
    using Lists = std::vector<DeviceBlobList>;

public:
    explicit HeteroClient(const ConnectOptions &connectOptions = {})
        : session_(std::make_shared<internal::Session>(connectOptions))
    {
    }
    explicit HeteroClient(std::shared_ptr<internal::Session> session)
        : session_(std::move(session))
    {
    }

    Status Init() { return session_->Open(); }
    Status ShutDown()
    {
        session_->Close();
        return Status::OK();
    }
    Status MGetH2D(const Keys &, const Lists &, Keys &, int32_t) { return Missing("MGetH2D"); }
    Status MSetD2H(const Keys &, const Lists &, const SetParam & = {}) { return Missing("MSetD2H"); }
    Status MSetD2H(const Keys &, const Lists &, const SetParam &, Keys *)
    {
        return Missing("MSetD2H");
    }
    Status PreRegisterDeviceMemory(const std::vector<void *> &, const std::vector<uint64_t> &)
    {
        return Missing("PreRegisterDeviceMemory");
    }
    std::shared_future<AsyncResult> AsyncMSetD2H(const Keys &keys, const Lists &,
                                                 const SetParam & = {})
    {
        return MissingFuture("AsyncMSetD2H", keys);
    }
    std::shared_future<AsyncResult> AsyncMGetH2D(const Keys &keys, const Lists &, uint64_t)
    {
        return MissingFuture("AsyncMGetH2D", keys);
    }
    std::shared_future<AsyncResult> AsyncDevDelete(const Keys &keys)
    {
        return MissingFuture("AsyncDevDelete", keys);
    }
    Status DevPublish(const Keys &, const Lists &, std::vector<Future> &)
    {
        return Missing("DevPublish");
    }
    Status DevSubscribe(const Keys &, const Lists &, std::vector<Future> &)
    {
        return Missing("DevSubscribe");
    }
    Status DevMGet(const Keys &, const Lists &, Keys &, int32_t = 0) { return Missing("DevMGet"); }
    Status DevMSet(const Keys &, const Lists &, Keys &) { return Missing("DevMSet"); }
    Status DevDelete(const Keys &, Keys &) { return Missing("DevDelete"); }
    Status DevLocalDelete(const Keys &, Keys &) { return Missing("DevLocalDelete"); }
    Status GetMetaInfo(const Keys &, bool, std::vector<MetaInfo> &, Keys &)
    {
        return Missing("GetMetaInfo");
    }

    Status Delete(const Keys &keys, Keys &failedKeys) { return session_->Delete(keys, failedKeys); }
    Status Exist(const Keys &keys, std::vector<bool> &exists)
    {
        return session_->Exist(keys, exists);
    }
    Status GenerateKey(const std::string &prefix, std::string &key)
    {
        return KVClient(session_).GenerateKey(prefix, key);
    }
    Status HealthCheck(ServerState &state)
    {
        state = ServerState::NORMAL;
        return session_->HealthCheck();
    }
    Status HealthCheck() { return session_->HealthCheck(); }

private:
    Status Missing(const std::string &function) const
    {
        const Status status = session_->Ready();
        return status.IsOk() ? internal::NotSupported("Accelerators (HeteroClient::" + function + ")")
                             : status;
    }
    std::shared_future<AsyncResult> MissingFuture(const std::string &function,
                                                  const Keys &keys) const
    {
        std::promise<AsyncResult> promise;
        promise.set_value(AsyncResult{Missing(function), keys});
        return promise.get_future().share();
    }

    std::shared_ptr<internal::Session> session_;
};

}  // namespace datasystem

#endif
