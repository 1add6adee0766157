// chariot.hpp: C++17 over chariot.h, header only: owners instead of handles, Status instead of
// numbers. No exceptions of its own; only std::bad_alloc of the containers can leave.
//
//   chariot::Client client;
//   if (chariot::Status status = chariot::Client::Connect("127.0.0.1:31501", client); !status) ...
//
// Threads: a Client may be used by any number of threads at once, a View be read by any number; a
// Buffer belongs to one thread at a time. Whoever moves from, assigns to or destroys an object must
// be its only user.
#ifndef CHARIOT_HPP
#define CHARIOT_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chariot.h"

namespace chariot {

// How a call ended: a number of chariot.h, and the words of a failure.
class Status {
public:
    Status() = default;
    // Takes the number of a call, and this thread's words for it when it failed.
    explicit Status(int32_t code) : code_(code)
    {
        if (code != CHARIOT_OK) {
            message_ = code == CHARIOT_NOT_FOUND ? chariot_status_text(code) : chariot_last_error();
        }
    }
    Status(int32_t code, std::string message) : code_(code), message_(std::move(message)) {}

    bool ok() const { return code_ == CHARIOT_OK; }
    explicit operator bool() const { return ok(); }
    bool not_found() const { return code_ == CHARIOT_NOT_FOUND; }
    int32_t code() const { return code_; }
    const char *name() const { return chariot_status_name(code_); }
    // What happened, and what to do about it; empty when it worked.
    const std::string &message() const { return message_; }

private:
    int32_t code_ = CHARIOT_OK;
    std::string message_;
};

namespace internal {

inline std::vector<chariot_bytes> Raw(const std::vector<std::string_view> &texts)
{
    std::vector<chariot_bytes> raw;
    raw.reserve(texts.size());
    for (const std::string_view text : texts) {
        raw.push_back({text.data(), text.size()});
    }
    return raw;
}

}  // namespace internal

// How to connect; the texts live here.
struct ConnectOptions {
    std::string target;
    std::string access_key;
    std::string secret_key;
    std::string tenant;
    uint64_t connect_timeout_us = 5000000;
    uint64_t request_timeout_us = 5000000;
    uint8_t shared_memory = CHARIOT_SHARED_MEMORY_AUTO;
    bool checksum = true;
};

struct SetOptions : chariot_set_options {
    SetOptions() { chariot_set_options_init(this); }
};

struct GetOptions : chariot_get_options {
    GetOptions() { chariot_get_options_init(this); }
};

// The bytes of one value in place; releases its pin when it goes.
class View {
public:
    View() = default;
    explicit View(chariot_view *view) : view_(view) {}
    View(View &&other) noexcept : view_(std::exchange(other.view_, nullptr)) {}
    View &operator=(View &&other) noexcept
    {
        if (this != &other) {
            chariot_view_release(std::exchange(view_, std::exchange(other.view_, nullptr)));
        }
        return *this;
    }
    View(const View &) = delete;
    View &operator=(const View &) = delete;
    ~View() { chariot_view_release(view_); }

    explicit operator bool() const { return view_ != nullptr; }
    const void *data() const { return chariot_view_data(view_); }
    size_t size() const { return chariot_view_len(view_); }
    uint64_t version() const { return chariot_view_version(view_); }
    std::string_view bytes() const { return {static_cast<const char *>(data()), size()}; }

private:
    chariot_view *view_ = nullptr;
};

// Memory to write one value in place; given back when it goes unpublished.
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(chariot_buffer *buffer) : buffer_(buffer) {}
    Buffer(Buffer &&other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
    Buffer &operator=(Buffer &&other) noexcept
    {
        if (this != &other) {
            chariot_buffer_discard(std::exchange(buffer_, std::exchange(other.buffer_, nullptr)));
        }
        return *this;
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { chariot_buffer_discard(buffer_); }

    explicit operator bool() const { return buffer_ != nullptr; }
    void *data() { return chariot_buffer_data(buffer_); }
    size_t size() const { return chariot_buffer_len(buffer_); }
    // Publishes the bytes and uses the buffer up, also on failure.
    Status Publish(uint64_t *version = nullptr)
    {
        return Status(chariot_buffer_publish(std::exchange(buffer_, nullptr), version));
    }

private:
    chariot_buffer *buffer_ = nullptr;
};

// An object: bytes to write, to publish again and again, to seal. Releases its latches when it goes.
class Object {
public:
    Object() = default;
    explicit Object(chariot_object *object) : object_(object) {}
    Object(Object &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Object &operator=(Object &&other) noexcept
    {
        if (this != &other) {
            chariot_object_release(std::exchange(object_, std::exchange(other.object_, nullptr)));
        }
        return *this;
    }
    Object(const Object &) = delete;
    Object &operator=(const Object &) = delete;
    ~Object() { chariot_object_release(object_); }

    explicit operator bool() const { return object_ != nullptr; }
    size_t size() const { return chariot_object_len(object_); }
    const void *data() const { return chariot_object_data(object_); }
    Status MutableData(void **data) { return Status(chariot_object_data_mut(object_, data)); }
    Status Publish(const std::vector<std::string_view> &nested = {})
    {
        const auto raw = internal::Raw(nested);
        return Status(chariot_object_publish(object_, raw.data(), raw.size(), nullptr));
    }
    Status Seal(const std::vector<std::string_view> &nested = {})
    {
        const auto raw = internal::Raw(nested);
        return Status(chariot_object_seal(object_, raw.data(), raw.size(), nullptr));
    }
    Status Invalidate() { return Status(chariot_object_invalidate(object_)); }
    Status Latch(uint8_t kind, uint64_t wait_us)
    {
        return Status(chariot_object_latch(object_, kind, wait_us));
    }
    Status Unlatch(uint8_t kind) { return Status(chariot_object_unlatch(object_, kind)); }

private:
    chariot_object *object_ = nullptr;
};

// A connection to one daemon.
class Client {
public:
    Client() = default;
    Client(Client &&other) noexcept : client_(std::exchange(other.client_, nullptr)) {}
    Client &operator=(Client &&other) noexcept
    {
        if (this != &other) {
            chariot_client_close(std::exchange(client_, std::exchange(other.client_, nullptr)));
        }
        return *this;
    }
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;
    ~Client() { chariot_client_close(client_); }

    static Status Connect(const ConnectOptions &options, Client &out)
    {
        chariot_connect_options raw;
        chariot_connect_options_init(&raw);
        raw.target = options.target.c_str();
        raw.access_key = options.access_key.c_str();
        raw.secret_key = {options.secret_key.data(), options.secret_key.size()};
        raw.tenant = options.tenant.c_str();
        raw.connect_timeout_us = options.connect_timeout_us;
        raw.request_timeout_us = options.request_timeout_us;
        raw.shared_memory = options.shared_memory;
        raw.checksum = options.checksum ? 1 : 0;
        chariot_client *client = nullptr;
        Status status(chariot_client_connect(&raw, &client));
        if (status) {
            chariot_client_close(std::exchange(out.client_, client));
        }
        return status;
    }
    static Status Connect(const std::string &target, Client &out)
    {
        ConnectOptions options;
        options.target = target;
        return Connect(options, out);
    }

    explicit operator bool() const { return client_ != nullptr; }
    chariot_client *get() const { return client_; }
    int32_t place() const { return chariot_client_place(client_); }
    Status Stats(chariot_stats &stats) const { return Status(chariot_client_stats(client_, &stats)); }

    Status Set(std::string_view key, std::string_view value, const SetOptions &options = {},
               uint64_t *version = nullptr) const
    {
        return Status(chariot_set(client_, key.data(), key.size(), value.data(), value.size(),
                                  &options, version));
    }
    Status Create(std::string_view key, size_t size, Buffer &out,
                  const SetOptions &options = {}) const
    {
        chariot_buffer *buffer = nullptr;
        Status status(
            chariot_create(client_, key.data(), key.size(), size, &options, &buffer));
        out = Buffer(buffer);
        return status;
    }
    Status Get(std::string_view key, View &out, const GetOptions &options = {}) const
    {
        chariot_view *view = nullptr;
        Status status(chariot_get_view(client_, key.data(), key.size(), &options, &view));
        out = View(view);
        return status;
    }
    Status Get(std::string_view key, std::string &out, const GetOptions &options = {}) const
    {
        View view;
        Status status = Get(key, view, options);
        if (status) {
            out.assign(view.bytes());
        }
        return status;
    }
    Status GetInto(std::string_view key, void *buffer, size_t size, size_t &length,
                   const GetOptions &options = {}) const
    {
        return Status(chariot_get(client_, key.data(), key.size(), buffer, size, &options,
                                  &length));
    }
    // OK or not_found().
    Status Exist(std::string_view key) const
    {
        return Status(chariot_exist(client_, key.data(), key.size()));
    }
    Status Size(std::string_view key, uint64_t &size) const
    {
        return Status(chariot_size(client_, key.data(), key.size(), &size));
    }
    Status Delete(std::string_view key) const
    {
        return Status(chariot_delete(client_, key.data(), key.size()));
    }
    Status Expire(std::string_view key, uint64_t ttl_ms) const
    {
        return Status(chariot_expire(client_, key.data(), key.size(), ttl_ms));
    }

    // Many keys: a status number each. The result says whether the call made sense.
    Status MSet(const std::vector<std::string_view> &keys,
                const std::vector<std::string_view> &values, std::vector<int32_t> &statuses,
                const SetOptions &options = {}) const
    {
        if (keys.size() != values.size()) {
            return Status(CHARIOT_INVALID_ARGUMENT, "not as many values as keys");
        }
        const auto raw_keys = Raw(keys);
        const auto raw_values = Raw(values);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(chariot_mset(client_, raw_keys.data(), raw_values.data(), keys.size(),
                                   &options, statuses.data(), nullptr));
    }
    Status MGet(const std::vector<std::string_view> &keys, std::vector<View> &views,
                std::vector<int32_t> &statuses, const GetOptions &options = {}) const
    {
        const auto raw_keys = Raw(keys);
        std::vector<chariot_view *> raw(keys.size(), nullptr);
        views.clear();
        views.reserve(keys.size());
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        Status status(chariot_mget_view(client_, raw_keys.data(), keys.size(), &options,
                                        raw.data(), statuses.data()));
        for (chariot_view *view : raw) {
            views.emplace_back(view);
        }
        return status;
    }
    Status MExist(const std::vector<std::string_view> &keys, std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(chariot_mexist(client_, raw_keys.data(), keys.size(), statuses.data()));
    }
    Status MSize(const std::vector<std::string_view> &keys, std::vector<uint64_t> &sizes,
                 std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        sizes.assign(keys.size(), 0);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(chariot_msize(client_, raw_keys.data(), keys.size(), sizes.data(),
                                    statuses.data()));
    }
    Status MDelete(const std::vector<std::string_view> &keys, std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(chariot_mdelete(client_, raw_keys.data(), keys.size(), statuses.data()));
    }
    Status MExpire(const std::vector<std::string_view> &keys, uint64_t ttl_ms,
                   std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(
            chariot_mexpire(client_, raw_keys.data(), keys.size(), ttl_ms, statuses.data()));
    }
    Status Prefix(const std::vector<std::string_view> &keys, size_t &length) const
    {
        const auto raw_keys = Raw(keys);
        return Status(chariot_prefix(client_, raw_keys.data(), keys.size(), &length));
    }

    // All or none of 1 to 8 values, only where no key has one.
    Status MSetTx(const std::vector<std::string_view> &keys,
                  const std::vector<std::string_view> &values, const SetOptions &options = {}) const
    {
        if (keys.size() != values.size()) {
            return Status(CHARIOT_INVALID_ARGUMENT, "not as many values as keys");
        }
        const auto raw_keys = Raw(keys);
        const auto raw_values = Raw(values);
        return Status(
            chariot_mset_tx(client_, raw_keys.data(), raw_values.data(), keys.size(), &options));
    }
    Status CreateObject(std::string_view key, size_t size, Object &out,
                        const SetOptions &options = {}) const
    {
        chariot_object *object = nullptr;
        Status status(
            chariot_object_create(client_, key.data(), key.size(), size, &options, &object));
        out = Object(object);
        return status;
    }
    Status MGetObject(const std::vector<std::string_view> &keys, uint64_t wait_us,
                      std::vector<Object> &objects, std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        std::vector<chariot_object *> raw(keys.size(), nullptr);
        objects.clear();
        objects.reserve(keys.size());
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        Status status(chariot_mget_object(client_, raw_keys.data(), keys.size(), wait_us,
                                          raw.data(), statuses.data()));
        for (chariot_object *object : raw) {
            objects.emplace_back(object);
        }
        return status;
    }
    Status IncreaseRefs(const std::vector<std::string_view> &keys,
                        std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(
            chariot_increase_refs(client_, raw_keys.data(), keys.size(), statuses.data()));
    }
    Status DecreaseRefs(const std::vector<std::string_view> &keys,
                        std::vector<int32_t> &statuses) const
    {
        const auto raw_keys = Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(
            chariot_decrease_refs(client_, raw_keys.data(), keys.size(), statuses.data()));
    }
    Status GlobalRefs(std::string_view key, uint64_t &clients) const
    {
        return Status(chariot_global_refs(client_, key.data(), key.size(), &clients));
    }

private:
    static std::vector<chariot_bytes> Raw(const std::vector<std::string_view> &texts)
    {
        return internal::Raw(texts);
    }

    chariot_client *client_ = nullptr;
};

}  // namespace chariot

#endif
