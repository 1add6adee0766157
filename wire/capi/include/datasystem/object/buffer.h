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

    // An object: created, or opened.
    Buffer(chariot::Object object, WriteMode mode)
        : size_(object.size()), mode_(mode),
          object_(std::make_shared<chariot::Object>(std::move(object)))
    {
    }

    int64_t GetSize() const { return static_cast<int64_t>(size_); }
    // Null for a value of a KVClient once it is published, and where it was read. What an object
    // had published before stays as it is: its address is another one after a publish.
    void *MutableData()
    {
        void *data = nullptr;
        if (object_ != nullptr) {
            return !sealed_ && object_->MutableData(&data).ok() ? data : nullptr;
        }
        return Writable() ? buffer_->data() : nullptr;
    }
    const void *ImmutableData()
    {
        if (object_ != nullptr) {
            return object_->data();
        }
        return view_ != nullptr ? view_->data() : Writable() ? buffer_->data() : nullptr;
    }

    Status MemoryCopy(const void *data, uint64_t length)
    {
        if (sealed_) {
            return internal::Convert(CHARIOT_SEALED, "");
        }
        if (object_ == nullptr && !Writable()) {
            return Status(K_INVALID, "The buffer is published or read-only.");
        }
        if (data == nullptr || length == 0 || length > size_) {
            return Status(K_INVALID, "The data is empty or longer than the buffer: "
                                         + std::to_string(length) + " of " + std::to_string(size_));
        }
        void *room = buffer_ != nullptr ? buffer_->data() : nullptr;
        if (object_ != nullptr) {
            const chariot::Status status = object_->MutableData(&room);
            if (!status.ok()) {
                return internal::Convert(status);
            }
        }
        std::memcpy(room, data, length);
        return Status::OK();
    }

    Status Publish(const std::unordered_set<std::string> &nestedObjectKeys = {})
    {
        if (object_ != nullptr) {
            const chariot::Status status = object_->Publish(internal::Borrow(nestedObjectKeys));
            return internal::ConvertWrite(status.code(), status.message(), mode_);
        }
        if (!nestedObjectKeys.empty()) {
            return internal::NotSupported("Nested objects of a KVClient (Buffer::Publish)");
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
        if (object_ == nullptr) {
            return internal::NotSupported("Sealed values of a KVClient (Buffer::Seal)");
        }
        const chariot::Status status = object_->Seal(internal::Borrow(nestedObjectKeys));
        sealed_ = sealed_ || status.ok();
        return internal::ConvertWrite(status.code(), status.message(), mode_);
    }

    // Of an object, the latches of its key, between processes. A KVClient's memory that is not
    // published is this program's alone, and what it read never changes: nothing to wait for there.
    Status RLatch(uint64_t timeoutSec = 60) { return Latch(CHARIOT_LATCH_SHARED, timeoutSec); }
    Status UnRLatch() { return Unlatch(CHARIOT_LATCH_SHARED); }
    Status WLatch(uint64_t timeoutSec = 60) { return Latch(CHARIOT_LATCH_EXCLUSIVE, timeoutSec); }
    Status UnWLatch() { return Unlatch(CHARIOT_LATCH_EXCLUSIVE); }
    Status InvalidateBuffer()
    {
        return object_ == nullptr ? internal::NotSupported("Buffer::InvalidateBuffer of a KVClient")
                                  : internal::Convert(object_->Invalidate());
    }
    Status CopyDataWithRLatch(const std::function<Status(const void *, uint64_t)> &copy)
    {
        return copy(ImmutableData(), size_);
    }

    bool IsPlaceholder() const { return buffer_ != nullptr && size_ == 0; }
    bool IsIfAbsent() const { return if_absent_; }

private:
    Status Latch(uint8_t kind, uint64_t timeoutSec)
    {
        if (object_ == nullptr) {
            const bool free = kind == CHARIOT_LATCH_SHARED || Writable();
            return free ? Status::OK() : internal::NotSupported("Latches of a KVClient's values");
        }
        if (timeoutSec == 0 || timeoutSec > INT32_MAX) {
            return Status(K_INVALID, "The timeout of a latch is out of range [1,2147483647]: "
                                         + std::to_string(timeoutSec));
        }
        const chariot::Status status = object_->Latch(kind, uint64_t{1000000} * timeoutSec);
        if (status.code() == CHARIOT_TIMEOUT) {
            const char *words =
                kind == CHARIOT_LATCH_SHARED ? "Rlatch timeout" : "Wlatch timeout";
            return Status(K_RUNTIME_ERROR, words);
        }
        return internal::Convert(status);
    }
    Status Unlatch(uint8_t kind)
    {
        if (object_ == nullptr) {
            return Status::OK();
        }
        const chariot::Status status = object_->Unlatch(kind);
        return status.not_found() ? Status(K_RUNTIME_ERROR, "The latch is not held.")
                                  : internal::Convert(status);
    }
    bool Writable() const { return buffer_ != nullptr && static_cast<bool>(*buffer_); }

    uint64_t size_ = 0;
    WriteMode mode_ = WriteMode::NONE_L2_CACHE;
    bool if_absent_ = false;
    std::shared_ptr<chariot::View> view_;
    std::shared_ptr<chariot::Buffer> buffer_;
    std::shared_ptr<chariot::Object> object_;
    bool sealed_ = false;
};

}  // namespace datasystem

#endif
