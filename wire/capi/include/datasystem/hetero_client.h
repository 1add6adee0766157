// Memory of accelerators: to the cache and back, and from card to card of one host.
//
// Cards are found at the first call that needs one; CHARIOT_DEVICE_BACKEND=ascend|cuda|host
// chooses. Memory behind a Blob must be the named card's, and stand until the call, or its future,
// is over; work of a framework's own streams is not waited for.
//
// Threads: any number at once; Init and ShutDown alone.
#ifndef DATASYSTEM_HETERO_CLIENT_H
#define DATASYSTEM_HETERO_CLIENT_H

#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "chariot_device.hpp"
#include "datasystem/hetero/blob.h"
#include "datasystem/hetero/future.h"
#include "datasystem/internal/session.h"
#include "datasystem/kv_client.h"

namespace datasystem {

class HeteroClient {
    using Keys = std::vector<std::string>;
    using Lists = std::vector<DeviceBlobList>;

public:
    explicit HeteroClient(const ConnectOptions &connectOptions = {})
        : session_(std::make_shared<internal::Session>(connectOptions))
    {
    }
    explicit HeteroClient(std::shared_ptr<internal::Session> session)
        : session_(std::move(session))
    {
    }

    Status Init() { return session_->Open(); }
    Status ShutDown()
    {
        {
            const std::lock_guard<std::mutex> guard(lock_);
            device_.reset();
        }
        session_->Close();
        return Status::OK();
    }

    // OK when at least one key was read; `failKeys` are the others.
    Status MGetH2D(const Keys &keys, const Lists &lists, Keys &failKeys, int32_t subTimeoutMs)
    {
        failKeys.clear();
        Call call;
        Status status = internal::CheckWait(subTimeoutMs);
        if (status.IsError() || (status = Prepare(keys, lists, call)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status read =
            call.device->MGetH2D(internal::Borrow(keys), call.lists, statuses, Wait(subTimeoutMs));
        if (!read.ok()) {
            return internal::Convert(read);
        }
        status = internal::Session::Failed(keys, statuses, false, failKeys);
        return status.GetCode() == K_NOT_FOUND ? session_->NothingFound() : status;
    }
    // Keys that have a value keep it; an error when a key could not be written.
    Status MSetD2H(const Keys &keys, const Lists &lists, const SetParam &setParam = {})
    {
        return MSetD2H(keys, lists, setParam, nullptr);
    }
    // `outLocalSetKeys`: those that this call wrote.
    Status MSetD2H(const Keys &keys, const Lists &lists, const SetParam &setParam,
                   Keys *outLocalSetKeys)
    {
        Call call;
        const Status status = Prepare(keys, lists, call);
        if (status.IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status written = call.device->MSetD2H(internal::Borrow(keys), call.lists,
                                                             statuses, Options(setParam));
        if (!written.ok()) {
            return internal::ConvertWrite(written.code(), written.message(), setParam.writeMode);
        }
        if (outLocalSetKeys != nullptr) {
            outLocalSetKeys->clear();
            for (size_t at = 0; at < keys.size(); ++at) {
                if (statuses[at] == CHARIOT_OK) {
                    outLocalSetKeys->push_back(keys[at]);
                }
            }
        }
        for (const int32_t code : statuses) {
            if (code != CHARIOT_OK && code != CHARIOT_EXISTS) {
                return internal::ConvertWrite(code, internal::WordsOf(code), setParam.writeMode);
            }
        }
        return Status::OK();
    }
    // For copies from other nodes' memory.
    Status PreRegisterDeviceMemory(const std::vector<void *> &, const std::vector<uint64_t> &)
    {
        const Status status = session_->Ready();
        return status.IsOk() ? internal::NotSupported("HeteroClient::PreRegisterDeviceMemory")
                             : status;
    }
    std::shared_future<AsyncResult> AsyncMSetD2H(const Keys &keys, const Lists &lists,
                                                 const SetParam &setParam = {})
    {
        return Later(keys, lists, true, [&](const Call &call, chariot::Future &future) {
            return call.device->MSetD2HAsync(internal::Borrow(keys), call.lists, future,
                                             Options(setParam));
        });
    }
    std::shared_future<AsyncResult> AsyncMGetH2D(const Keys &keys, const Lists &lists,
                                                 uint64_t subTimeoutMs)
    {
        const Status status = internal::CheckWait(
            subTimeoutMs > INT32_MAX ? -1 : static_cast<int64_t>(subTimeoutMs));
        if (status.IsError()) {
            return Over(status, keys);
        }
        return Later(keys, lists, false, [&](const Call &call, chariot::Future &future) {
            return call.device->MGetH2DAsync(internal::Borrow(keys), call.lists, future,
                                             Wait(static_cast<int32_t>(subTimeoutMs)));
        });
    }
    std::shared_future<AsyncResult> AsyncDevDelete(const Keys &keys)
    {
        std::shared_ptr<const chariot::Hetero> device;
        Status status = Open(keys, device);
        auto future = std::make_shared<chariot::Future>();
        if (status.IsOk()) {
            status = internal::Convert(device->DevDeleteAsync(internal::Borrow(keys), *future));
        }
        return status.IsOk() ? Await(keys, std::move(future), false) : Over(status, keys);
    }
    // Each object goes to one receiver; its future is over when that has it.
    Status DevPublish(const Keys &keys, const Lists &lists, std::vector<Future> &futures)
    {
        futures.clear();
        Call call;
        Status status = Prepare(keys, lists, call);
        if (status.IsError()) {
            return status;
        }
        std::vector<chariot::Future> made;
        std::vector<int32_t> statuses;
        status = internal::Convert(
            call.device->DevPublish(internal::Borrow(keys), call.lists, made, statuses));
        if (status.IsError()) {
            return status;
        }
        for (size_t at = 0; at < keys.size(); ++at) {
            if (statuses[at] != CHARIOT_OK) {
                return internal::Convert(statuses[at], internal::WordsOf(statuses[at]));
            }
            futures.emplace_back(std::make_shared<const chariot::Future>(std::move(made[at])), 0);
        }
        return Status::OK();
    }
    // The futures of a call are over together.
    Status DevSubscribe(const Keys &keys, const Lists &lists, std::vector<Future> &futures)
    {
        futures.clear();
        Call call;
        Status status = Prepare(keys, lists, call);
        if (status.IsError()) {
            return status;
        }
        chariot::Future made;
        status = internal::Convert(
            call.device->DevSubscribe(internal::Borrow(keys), call.lists, made));
        if (status.IsOk()) {
            const auto shared = std::make_shared<const chariot::Future>(std::move(made));
            for (size_t at = 0; at < keys.size(); ++at) {
                futures.emplace_back(shared, at);
            }
        }
        return status;
    }
    Status DevMGet(const Keys &keys, const Lists &lists, Keys &failedKeys, int32_t subTimeoutMs = 0)
    {
        failedKeys.clear();
        Call call;
        Status status = internal::CheckWait(subTimeoutMs);
        if (status.IsError() || (status = Prepare(keys, lists, call)).IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const uint64_t wait_us = uint64_t{1000} * static_cast<uint32_t>(subTimeoutMs);
        const chariot::Status got =
            call.device->DevMGet(internal::Borrow(keys), call.lists, statuses, wait_us);
        return got.ok() ? internal::Session::Failed(keys, statuses, false, failedKeys)
                        : internal::Convert(got);
    }
    Status DevMSet(const Keys &keys, const Lists &lists, Keys &failedKeys)
    {
        failedKeys.clear();
        Call call;
        const Status status = Prepare(keys, lists, call);
        if (status.IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status put =
            call.device->DevMSet(internal::Borrow(keys), call.lists, statuses);
        return put.ok() ? internal::Session::Failed(keys, statuses, false, failedKeys)
                        : internal::Convert(put);
    }
    Status DevDelete(const Keys &keys, Keys &failedKeys)
    {
        return Remove(keys, failedKeys, &chariot::Hetero::DevDelete);
    }
    Status DevLocalDelete(const Keys &keys, Keys &failedKeys)
    {
        return Remove(keys, failedKeys, &chariot::Hetero::DevLocalDelete);
    }
    // An entry for each key; empty for those that failed.
    Status GetMetaInfo(const Keys &keys, bool isDevKey, std::vector<MetaInfo> &metaInfos,
                       Keys &failKeys)
    {
        metaInfos.clear();
        failKeys.clear();
        std::shared_ptr<const chariot::Hetero> device;
        const Status status = Open(keys, device);
        if (status.IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        for (const std::string &key : keys) {
            metaInfos.emplace_back();
            statuses.push_back(
                device->BlobLens(key, isDevKey, metaInfos.back().blobSizeList).code());
        }
        return internal::Session::Failed(keys, statuses, false, failKeys);
    }

    Status Delete(const Keys &keys, Keys &failedKeys) { return session_->Delete(keys, failedKeys); }
    Status Exist(const Keys &keys, std::vector<bool> &exists)
    {
        return session_->Exist(keys, exists);
    }
    Status GenerateKey(const std::string &prefix, std::string &key)
    {
        return KVClient(session_).GenerateKey(prefix, key);
    }
    Status HealthCheck(ServerState &state)
    {
        state = ServerState::NORMAL;
        return session_->HealthCheck();
    }
    Status HealthCheck() { return session_->HealthCheck(); }

private:
    // The arguments of a call, checked.
    struct Call {
        std::shared_ptr<const chariot::Hetero> device;
        std::vector<chariot::BlobList> lists;
    };

    static chariot::SetOptions Options(const SetParam &param)
    {
        chariot::SetOptions options;
        options.ttl_ms = uint64_t{1000} * param.ttlSecond;
        options.mode = static_cast<uint8_t>(param.writeMode);
        return options;
    }
    static chariot::GetOptions Wait(int32_t subTimeoutMs)
    {
        chariot::GetOptions options;
        options.wait_us = uint64_t{1000} * static_cast<uint32_t>(subTimeoutMs);
        return options;
    }
    static Status Backend(uint8_t &backend)
    {
        const std::string name = internal::Environment("CHARIOT_DEVICE_BACKEND");
        if (name.empty() || name == "auto") {
            backend = CHARIOT_BACKEND_AUTO;
        } else if (name == "ascend") {
            backend = CHARIOT_BACKEND_ASCEND;
        } else if (name == "cuda") {
            backend = CHARIOT_BACKEND_CUDA;
        } else if (name == "host") {
            backend = CHARIOT_BACKEND_HOST;
        } else {
            return Status(K_INVALID,
                          "CHARIOT_DEVICE_BACKEND is auto, ascend, cuda or host, not " + name);
        }
        return Status::OK();
    }

    // Checks keys, and opens the device calls at the first use.
    Status Open(const Keys &keys, std::shared_ptr<const chariot::Hetero> &device)
    {
        Status status = session_->Ready();
        if (status.IsError() || (status = internal::CheckKeys(keys)).IsError()) {
            return status;
        }
        const std::lock_guard<std::mutex> guard(lock_);
        if (!device_) {
            uint8_t backend = CHARIOT_BACKEND_AUTO;
            chariot::Hetero opened;
            if ((status = Backend(backend)).IsError()
                || (status = internal::Convert(
                        chariot::Hetero::Open(session_->client(), opened, backend)))
                       .IsError()) {
                return status;
            }
            device_ = std::make_shared<const chariot::Hetero>(std::move(opened));
        }
        device = device_;
        return Status::OK();
    }
    Status Prepare(const Keys &keys, const Lists &lists, Call &call)
    {
        if (keys.empty() || lists.empty()) {
            const Status status = session_->Ready();
            return status.IsError()
                       ? status
                       : Status(K_INVALID, "Got empty parameters : keys nums "
                                               + std::to_string(keys.size()) + ", blobList nums "
                                               + std::to_string(lists.size()) + ".");
        }
        const Status status = Open(keys, call.device);
        if (status.IsError()) {
            return status;
        }
        for (const DeviceBlobList &list : lists) {
            if (list.srcOffset != 0) {
                return internal::NotSupported("DeviceBlobList::srcOffset");
            }
            chariot::BlobList raw;
            // Numbers below -1 have another meaning in chariot.h.
            raw.card = list.deviceIdx < 0 ? -1 : list.deviceIdx;
            for (const Blob &blob : list.blobs) {
                raw.blobs.push_back({reinterpret_cast<uintptr_t>(blob.pointer), blob.size});
            }
            call.lists.push_back(std::move(raw));
        }
        return Status::OK();
    }
    template <typename Function>
    Status Remove(const Keys &keys, Keys &failedKeys, Function function)
    {
        failedKeys.clear();
        std::shared_ptr<const chariot::Hetero> device;
        const Status status = Open(keys, device);
        if (status.IsError()) {
            return status;
        }
        std::vector<int32_t> statuses;
        const chariot::Status removed =
            ((*device).*function)(internal::Borrow(keys), statuses);
        return removed.ok() ? internal::Session::Failed(keys, statuses, true, failedKeys)
                            : internal::Convert(removed);
    }

    // A call that is over before it began: every key failed.
    static std::shared_future<AsyncResult> Over(const Status &status, const Keys &keys)
    {
        std::promise<AsyncResult> promise;
        promise.set_value(AsyncResult{status, keys});
        return promise.get_future().share();
    }
    // A thread waits for the outcome; who lets go of the result waits for it, so that memory of the
    // call is not freed before.
    static std::shared_future<AsyncResult> Await(const Keys &keys,
                                                 std::shared_ptr<const chariot::Future> future,
                                                 bool existing_is_fine)
    {
        const auto wait = [keys, future, existing_is_fine]() {
            AsyncResult result;
            std::vector<int32_t> statuses;
            chariot::Status call;
            do {
                call = future->Wait(60000000, statuses);
            } while (call.code() == CHARIOT_TIMEOUT);
            if (!call.ok()) {
                return AsyncResult{internal::Convert(call), keys};
            }
            for (int32_t &code : statuses) {
                code = existing_is_fine && code == CHARIOT_EXISTS ? CHARIOT_OK : code;
            }
            result.status = internal::Session::Failed(keys, statuses, false, result.failedList);
            return result;
        };
        try {
            return std::async(std::launch::async, wait).share();
        } catch (const std::system_error &) {
            // No thread left: the caller waits here instead.
            return std::async(std::launch::deferred, wait).share();
        }
    }
    template <typename Function>
    std::shared_future<AsyncResult> Later(const Keys &keys, const Lists &lists,
                                          bool existing_is_fine, Function function)
    {
        Call call;
        Status status = Prepare(keys, lists, call);
        auto future = std::make_shared<chariot::Future>();
        if (status.IsOk()) {
            status = internal::Convert(function(call, *future));
        }
        return status.IsOk() ? Await(keys, std::move(future), existing_is_fine)
                             : Over(status, keys);
    }

    std::shared_ptr<internal::Session> session_;
    std::mutex lock_;
    // Opened at the first call that needs it; calls under way hold it.
    std::shared_ptr<const chariot::Hetero> device_;
};

}  // namespace datasystem

#endif
