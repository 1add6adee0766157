// The end of a transfer between accelerators.
#ifndef DATASYSTEM_HETERO_FUTURE_H
#define DATASYSTEM_HETERO_FUTURE_H

#include <cstdint>

#include "datasystem/utils/status.h"

namespace datasystem {

class Future {
public:
    Status Get(uint64_t subTimeoutMs = 60000)
    {
        static_cast<void>(subTimeoutMs);
        return Status(K_NOT_SUPPORTED, "Accelerators (Future::Get) is not supported yet");
    }
};

}  // namespace datasystem

#endif
