// How values are kept.
#ifndef DATASYSTEM_OBJECT_OBJECT_ENUM_H
#define DATASYSTEM_OBJECT_OBJECT_ENUM_H

namespace datasystem {

enum class WriteMode : int {
    NONE_L2_CACHE = 0,
    WRITE_THROUGH_L2_CACHE = 1,
    WRITE_BACK_L2_CACHE = 2,
    NONE_L2_CACHE_EVICT = 3,
    WRITE_BACK_L2_CACHE_EVICT = 4,
};

enum class ConsistencyType : int { PRAM = 0, CAUSAL = 1 };

enum class CacheType : int { MEMORY = 0, DISK = 1 };

enum class ServerState : int { NORMAL = 0, REBOOT = 1 };

}  // namespace datasystem

#endif
