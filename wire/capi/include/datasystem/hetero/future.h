// The end of a transfer between accelerators.
#ifndef DATASYSTEM_HETERO_FUTURE_H
#define DATASYSTEM_HETERO_FUTURE_H

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "chariot_device.hpp"
#include "datasystem/internal/session.h"
#include "datasystem/utils/status.h"

namespace datasystem {

// One key of a call. Copies are of the same transfer.
class Future {
public:
    Future() = default;
    Future(std::shared_ptr<const chariot::Future> future, size_t at)
        : future_(std::move(future)), at_(at)
    {
    }

    // K_FUTURE_TIMEOUT: not over in time; ask again.
    Status Get(uint64_t subTimeoutMs = 60000)
    {
        if (!future_ || !*future_) {
            return Status(K_NOT_READY, "no transfer belongs to this future");
        }
        std::vector<int32_t> statuses;
        // A day is as long as the library waits.
        const uint64_t most_ms = subTimeoutMs < 86400000 ? subTimeoutMs : 86400000;
        const chariot::Status call = future_->Wait(1000 * most_ms, statuses);
        if (call.code() == CHARIOT_TIMEOUT) {
            return Status(K_FUTURE_TIMEOUT, "Future get timeout");
        }
        if (!call.ok()) {
            return internal::Convert(call);
        }
        const int32_t code = statuses[at_];
        return internal::Convert(code, internal::WordsOf(code));
    }

private:
    std::shared_ptr<const chariot::Future> future_;
    size_t at_ = 0;
};

}  // namespace datasystem

#endif
