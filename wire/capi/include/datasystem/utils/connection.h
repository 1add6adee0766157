// Where and as whom to connect. The first ten fields stand in the order of the first release; the
// later ones follow.
#ifndef DATASYSTEM_UTILS_CONNECTION_H
#define DATASYSTEM_UTILS_CONNECTION_H

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "datasystem/utils/sensitive_value.h"

namespace datasystem {

class IServiceDiscovery;

enum class DataPlacementPolicy { PREFERRED_SAME_NODE, REQUIRED_SAME_NODE, PREFERRED_META_OWNER };

struct ConnectOptions {
    // Empty: DATASYSTEM_HOST and the other DATASYSTEM_* variables fill what is not set.
    std::string host{};
    int32_t port = 0;
    int32_t connectTimeoutMs = 60 * 1000;
    // Key pairs and tokens are refused by name when they are set: nothing here honours them.
    std::string clientPublicKey{};
    SensitiveValue clientPrivateKey{};
    std::string serverPublicKey{};
    std::string accessKey{};
    SensitiveValue secretKey{};
    std::string tenantId{};
    // Accepted; this client stays with its node.
    bool enableCrossNodeConnection = false;

    // 0: as connectTimeoutMs.
    int32_t requestTimeoutMs = 0;
    SensitiveValue token{};
    bool enableLocalCache = true;
    DataPlacementPolicy dataPlacementPolicy = DataPlacementPolicy::PREFERRED_SAME_NODE;
    bool enableRemoteH2D = false;
    bool enableClientDirectPipelineH2D = false;
    uint32_t clientDirectPipelineH2DThreadNum = 64;
    std::shared_ptr<IServiceDiscovery> serviceDiscovery = nullptr;
    uint64_t fastTransportMemSize = 256UL * 1024 * 1024;
    int32_t deviceId = -1;

    void SetAkSkAuth(const std::string &access, const SensitiveValue &secret,
                     const std::string &tenant)
    {
        accessKey = access;
        secretKey = secret;
        tenantId = tenant;
    }
};

}  // namespace datasystem

#endif
