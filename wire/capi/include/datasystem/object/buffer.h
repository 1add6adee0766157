// Memory of a value: to be written and published, or what a read found.
#ifndef DATASYSTEM_OBJECT_BUFFER_H
#define DATASYSTEM_OBJECT_BUFFER_H

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>

#include "datasystem/internal/session.h"
#include "datasystem/utils/status.h"

namespace datasystem {

class Buffer {
public:
    Buffer() = default;
    // A value that was read: immutable.
    explicit Buffer(chariot::View view)
        : size_(view.size()), view_(std::make_shared<chariot::View>(std::move(view)))
    {
    }
    // A value to be written; without a handle a placeholder of size 0, whose key exists already.
    Buffer(chariot::Buffer buffer, WriteMode mode, bool ifAbsent)
        : size_(buffer.size()), mode_(mode), if_absent_(ifAbsent),
          buffer_(std::make_shared<chariot::Buffer>(std::move(buffer)))
    {
    }

    int64_t GetSize() const { return static_cast<int64_t>(size_); }
    // Null once it is published, and for a value that was read.
    void *MutableData() { return Writable() ? buffer_->data() : nullptr; }
    const void *ImmutableData()
    {
        return view_ != nullptr ? view_->data() : Writable() ? buffer_->data() : nullptr;
    }

    Status MemoryCopy(const void *data, uint64_t length)
    {
        if (!Writable()) {
            return Status(K_INVALID, "The buffer is published or read-only.");
        }
        if (data == nullptr || length == 0 || length > size_) {
            return Status(K_INVALID, "The data is empty or longer than the buffer: "
                                         + std::to_string(length) + " of " + std::to_string(size_));
        }
        std::memcpy(buffer_->data(), data, length);
        return Status::OK();
    }

    Status Publish(const std::unordered_set<std::string> &nestedObjectKeys = {})
    {
        if (!nestedObjectKeys.empty()) {
            return internal::NotSupported("Nested objects (Buffer::Publish)");
        }
        if (IsPlaceholder()) {
            return Status::OK();
        }
        if (!Writable()) {
            return Status(K_INVALID, "The buffer is published or read-only.");
        }
        const chariot::Status status = buffer_->Publish();
        if (if_absent_ && status.code() == CHARIOT_EXISTS) {
            return Status::OK();
        }
        return internal::ConvertWrite(status.code(), status.message(), mode_);
    }
    Status Seal(const std::unordered_set<std::string> &nestedObjectKeys = {})
    {
        static_cast<void>(nestedObjectKeys);
        return internal::NotSupported("Sealed objects (Buffer::Seal)");
    }

    // Memory that is not published is this program's alone, and what was read never changes: a
    // latch for reading has nothing to wait for. A latch for writing a published value is missing.
    Status RLatch(uint64_t timeoutSec = 60)
    {
        static_cast<void>(timeoutSec);
        return Status::OK();
    }
    Status UnRLatch() { return Status::OK(); }
    Status WLatch(uint64_t timeoutSec = 60)
    {
        static_cast<void>(timeoutSec);
        return Writable() ? Status::OK() : internal::NotSupported("Latches (Buffer::WLatch)");
    }
    Status UnWLatch()
    {
        return Writable() ? Status::OK() : internal::NotSupported("Latches (Buffer::UnWLatch)");
    }
    Status InvalidateBuffer() { return internal::NotSupported("Buffer::InvalidateBuffer"); }
    Status CopyDataWithRLatch(const std::function<Status(const void *, uint64_t)> &copy)
    {
        return copy(ImmutableData(), size_);
    }

    bool IsPlaceholder() const { return buffer_ != nullptr && size_ == 0; }
    bool IsIfAbsent() const { return if_absent_; }

private:
    bool Writable() const { return buffer_ != nullptr && static_cast<bool>(*buffer_); }

    uint64_t size_ = 0;
    WriteMode mode_ = WriteMode::NONE_L2_CACHE;
    bool if_absent_ = false;
    std::shared_ptr<chariot::View> view_;
    std::shared_ptr<chariot::Buffer> buffer_;
};

}  // namespace datasystem

#endif
