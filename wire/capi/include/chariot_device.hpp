// chariot_device.hpp: C++17 over the device calls of chariot.h, header only: objects of an
// accelerator's memory, to the cache and back, and from card to card of one host.
//
//   chariot::Hetero hetero;
//   chariot::Hetero::Open(client, hetero);
//   std::vector<int32_t> statuses;
//   hetero.MSetD2H({"key"}, {{0, {{address, bytes}}}}, statuses);
//
// Memory must be the named card's, and stand until the call, or its Future, is over; what is
// offered to other cards stands until it is deleted. Threads: a Hetero may be used, and a Future be
// waited for, by any number of threads at once. Whoever moves from, assigns to or destroys one must
// be its only user.
#ifndef CHARIOT_DEVICE_HPP
#define CHARIOT_DEVICE_HPP

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "chariot.hpp"

namespace chariot {

// The memory of one object: blobs of one card, in order.
struct BlobList {
    int32_t card = -1;
    std::vector<chariot_blob> blobs;
};

namespace internal {

inline std::vector<chariot_blob_list> Raw(const std::vector<BlobList> &lists)
{
    std::vector<chariot_blob_list> raw;
    raw.reserve(lists.size());
    for (const BlobList &list : lists) {
        raw.push_back({list.card, 0, list.blobs.data(), list.blobs.size()});
    }
    return raw;
}

}  // namespace internal

// The outcomes of an asynchronous call. Letting it go does not end the call.
class Future {
public:
    Future() = default;
    explicit Future(chariot_future *future) : future_(future) {}
    Future(Future &&other) noexcept : future_(std::exchange(other.future_, nullptr)) {}
    Future &operator=(Future &&other) noexcept
    {
        if (this != &other) {
            chariot_future_free(std::exchange(future_, std::exchange(other.future_, nullptr)));
        }
        return *this;
    }
    Future(const Future &) = delete;
    Future &operator=(const Future &) = delete;
    ~Future() { chariot_future_free(future_); }

    explicit operator bool() const { return future_ != nullptr; }
    // How many keys it is about.
    size_t size() const { return chariot_future_count(future_); }
    // A status number for each key; the code CHARIOT_TIMEOUT when it is not over by then.
    Status Wait(uint64_t timeout_us, std::vector<int32_t> &statuses) const
    {
        statuses.assign(size(), CHARIOT_INTERNAL);
        const int32_t code =
            chariot_future_wait(future_, timeout_us, statuses.data(), statuses.size());
        return code == CHARIOT_TIMEOUT ? Status(code, "not over in time") : Status(code);
    }

private:
    chariot_future *future_ = nullptr;
};

// The device calls of one client, which may be closed before it.
class Hetero {
    using Keys = std::vector<std::string_view>;
    using Lists = std::vector<BlobList>;
    using Statuses = std::vector<int32_t>;

public:
    Hetero() = default;
    Hetero(Hetero &&other) noexcept : hetero_(std::exchange(other.hetero_, nullptr)) {}
    Hetero &operator=(Hetero &&other) noexcept
    {
        if (this != &other) {
            chariot_hetero_close(std::exchange(hetero_, std::exchange(other.hetero_, nullptr)));
        }
        return *this;
    }
    Hetero(const Hetero &) = delete;
    Hetero &operator=(const Hetero &) = delete;
    ~Hetero() { chariot_hetero_close(hetero_); }

    static Status Open(const Client &client, Hetero &out, uint8_t backend = CHARIOT_BACKEND_AUTO)
    {
        chariot_hetero *hetero = nullptr;
        Status status(chariot_hetero_open(client.get(), backend, &hetero));
        if (status) {
            chariot_hetero_close(std::exchange(out.hetero_, hetero));
        }
        return status;
    }

    explicit operator bool() const { return hetero_ != nullptr; }
    Status Backend(uint8_t &backend) const
    {
        return Status(chariot_hetero_backend(hetero_, &backend));
    }

    // Between a card and the cache: a status number each. CHARIOT_EXISTS: the value there stays.
    Status MSetD2H(const Keys &keys, const Lists &lists, Statuses &statuses,
                   const SetOptions &options = {}) const
    {
        return Each(keys, lists, statuses, [&](auto *raw_keys, auto *raw_lists, int32_t *out) {
            return chariot_mset_d2h(hetero_, raw_keys, raw_lists, keys.size(), &options, out);
        });
    }
    Status MGetH2D(const Keys &keys, const Lists &lists, Statuses &statuses,
                   const GetOptions &options = {}) const
    {
        return Each(keys, lists, statuses, [&](auto *raw_keys, auto *raw_lists, int32_t *out) {
            return chariot_mget_h2d(hetero_, raw_keys, raw_lists, keys.size(), &options, out);
        });
    }
    Status MSetD2HAsync(const Keys &keys, const Lists &lists, Future &future,
                        const SetOptions &options = {}) const
    {
        return Later(keys, lists, future, [&](auto *raw_keys, auto *raw_lists, auto **out) {
            return chariot_mset_d2h_async(hetero_, raw_keys, raw_lists, keys.size(), &options,
                                          out);
        });
    }
    Status MGetH2DAsync(const Keys &keys, const Lists &lists, Future &future,
                        const GetOptions &options = {}) const
    {
        return Later(keys, lists, future, [&](auto *raw_keys, auto *raw_lists, auto **out) {
            return chariot_mget_h2d_async(hetero_, raw_keys, raw_lists, keys.size(), &options,
                                          out);
        });
    }
    // The lengths of an object's blobs: one of the cache, or one that cards provide.
    Status BlobLens(std::string_view key, bool of_card, std::vector<uint64_t> &lens) const
    {
        lens.assign(64, 0);
        for (;;) {
            size_t count = 0;
            const Status status(chariot_blob_lens(hetero_, key.data(), key.size(), of_card ? 1 : 0,
                                                  lens.data(), lens.size(), &count));
            const bool fits = count <= lens.size();
            lens.resize(count);
            if (fits) {
                return status;
            }
        }
    }

    // Between cards: offered until deleted, or to one receiver each.
    Status DevMSet(const Keys &keys, const Lists &lists, Statuses &statuses) const
    {
        return Each(keys, lists, statuses, [&](auto *raw_keys, auto *raw_lists, int32_t *out) {
            return chariot_dev_mset(hetero_, raw_keys, raw_lists, keys.size(), out);
        });
    }
    Status DevMGet(const Keys &keys, const Lists &lists, Statuses &statuses,
                   uint64_t wait_us = 0) const
    {
        return Each(keys, lists, statuses, [&](auto *raw_keys, auto *raw_lists, int32_t *out) {
            return chariot_dev_mget(hetero_, raw_keys, raw_lists, keys.size(), wait_us, out);
        });
    }
    // A future each; an empty one where the status says that it could not be offered.
    Status DevPublish(const Keys &keys, const Lists &lists, std::vector<Future> &futures,
                      Statuses &statuses) const
    {
        std::vector<chariot_future *> raw(keys.size(), nullptr);
        const Status status =
            Each(keys, lists, statuses, [&](auto *raw_keys, auto *raw_lists, int32_t *out) {
                return chariot_dev_publish(hetero_, raw_keys, raw_lists, keys.size(), raw.data(),
                                           out);
            });
        futures.clear();
        futures.reserve(raw.size());
        for (chariot_future *future : raw) {
            futures.emplace_back(future);
        }
        return status;
    }
    // One future for all keys.
    Status DevSubscribe(const Keys &keys, const Lists &lists, Future &future) const
    {
        return Later(keys, lists, future, [&](auto *raw_keys, auto *raw_lists, auto **out) {
            return chariot_dev_subscribe(hetero_, raw_keys, raw_lists, keys.size(), out);
        });
    }
    Status DevDelete(const Keys &keys, Statuses &statuses) const
    {
        const auto raw = internal::Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(chariot_dev_delete(hetero_, raw.data(), raw.size(), statuses.data()));
    }
    Status DevLocalDelete(const Keys &keys, Statuses &statuses) const
    {
        const auto raw = internal::Raw(keys);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(chariot_dev_local_delete(hetero_, raw.data(), raw.size(), statuses.data()));
    }
    Status DevDeleteAsync(const Keys &keys, Future &future) const
    {
        const auto raw = internal::Raw(keys);
        chariot_future *made = nullptr;
        Status status(chariot_dev_delete_async(hetero_, raw.data(), raw.size(), &made));
        future = Future(made);
        return status;
    }

private:
    static Status Unequal()
    {
        return Status(CHARIOT_INVALID_ARGUMENT,
                      "The size of objectKeys and devBlobList does not match");
    }
    template <typename Call>
    static Status Each(const Keys &keys, const Lists &lists, Statuses &statuses, Call call)
    {
        if (keys.size() != lists.size()) {
            return Unequal();
        }
        const auto raw_keys = internal::Raw(keys);
        const auto raw_lists = internal::Raw(lists);
        statuses.assign(keys.size(), CHARIOT_INTERNAL);
        return Status(call(raw_keys.data(), raw_lists.data(), statuses.data()));
    }
    template <typename Call>
    static Status Later(const Keys &keys, const Lists &lists, Future &future, Call call)
    {
        if (keys.size() != lists.size()) {
            return Unequal();
        }
        const auto raw_keys = internal::Raw(keys);
        const auto raw_lists = internal::Raw(lists);
        chariot_future *made = nullptr;
        Status status(call(raw_keys.data(), raw_lists.data(), &made));
        future = Future(made);
        return status;
    }

    chariot_hetero *hetero_ = nullptr;
};

}  // namespace chariot

#endif
