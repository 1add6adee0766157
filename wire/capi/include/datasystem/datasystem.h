// One connection, three faces.
#ifndef DATASYSTEM_DATASYSTEM_H
#define DATASYSTEM_DATASYSTEM_H

#include <memory>

#include "datasystem/hetero_client.h"
#include "datasystem/kv_client.h"
#include "datasystem/object_client.h"

namespace datasystem {

class DsClient {
public:
    explicit DsClient(const ConnectOptions &connectOptions = {})
        : session_(std::make_shared<internal::Session>(connectOptions)),
          kv_(std::make_shared<KVClient>(session_)),
          hetero_(std::make_shared<HeteroClient>(session_)),
          object_(std::make_shared<ObjectClient>(session_))
    {
    }

    Status Init() { return session_->Open(); }
    Status ShutDown()
    {
        session_->Close();
        return Status::OK();
    }
    std::shared_ptr<KVClient> KV() { return kv_; }
    std::shared_ptr<HeteroClient> Hetero() { return hetero_; }
    std::shared_ptr<ObjectClient> Object() { return object_; }

private:
    std::shared_ptr<internal::Session> session_;
    std::shared_ptr<KVClient> kv_;
    std::shared_ptr<HeteroClient> hetero_;
    std::shared_ptr<ObjectClient> object_;
};

}  // namespace datasystem

#endif
