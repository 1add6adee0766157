// The bytes of a value in place, for as long as this lives.
#ifndef DATASYSTEM_KV_READ_ONLY_BUFFER_H
#define DATASYSTEM_KV_READ_ONLY_BUFFER_H

#include <cstdint>
#include <memory>
#include <utility>

#include "chariot.hpp"
#include "datasystem/utils/status.h"

namespace datasystem {

class ReadOnlyBuffer {
public:
    ReadOnlyBuffer() = default;
    explicit ReadOnlyBuffer(chariot::View view)
        : view_(std::make_shared<chariot::View>(std::move(view)))
    {
    }

    int64_t GetSize() const { return view_ == nullptr ? 0 : static_cast<int64_t>(view_->size()); }
    const void *ImmutableData() const { return view_ == nullptr ? nullptr : view_->data(); }
    // What lies here never changes, whoever writes the key: there is nothing to wait for.
    Status RLatch(uint64_t timeoutSec = 60)
    {
        static_cast<void>(timeoutSec);
        return Status::OK();
    }
    Status UnRLatch() { return Status::OK(); }

private:
    std::shared_ptr<chariot::View> view_;
};

}  // namespace datasystem

#endif
