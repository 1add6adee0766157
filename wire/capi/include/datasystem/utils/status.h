// How a call ended: a code and words, as `code: [name], msg: [words]`.
#ifndef DATASYSTEM_UTILS_STATUS_H
#define DATASYSTEM_UTILS_STATUS_H

#include <cstdint>
#include <ostream>
#include <string>
#include <utility>

namespace datasystem {

enum StatusCode : uint32_t {
    K_OK = 0,
    K_DUPLICATED = 1,
    K_INVALID = 2,
    K_NOT_FOUND = 3,
    K_KVSTORE_ERROR = 4,
    K_RUNTIME_ERROR = 5,
    K_OUT_OF_MEMORY = 6,
    K_IO_ERROR = 7,
    K_NOT_READY = 8,
    K_NOT_AUTHORIZED = 9,
    K_UNKNOWN_ERROR = 10,
    K_INTERRUPTED = 11,
    K_OUT_OF_RANGE = 12,
    K_NO_SPACE = 13,
    K_NOT_LEADER_MASTER = 14,
    K_RECOVERY_ERROR = 15,
    K_RECOVERY_IN_PROGRESS = 16,
    K_FILE_NAME_TOO_LONG = 17,
    K_FILE_LIMIT_REACHED = 18,
    K_TRY_AGAIN = 19,
    K_DATA_INCONSISTENCY = 20,
    K_SHUTTING_DOWN = 21,
    K_WORKER_ABNORMAL = 22,
    K_CLIENT_WORKER_DISCONNECT = 23,
    K_WORKER_TIMEOUT = 24,
    K_MASTER_TIMEOUT = 25,
    K_NOT_FOUND_IN_L2CACHE = 26,
    K_REPLICA_NOT_READY = 27,
    K_CLIENT_WORKER_VERSION_MISMATCH = 28,
    K_SERVER_FD_CLOSED = 29,
    K_RETRY_IF_LEAVING = 30,
    K_SCALE_DOWN = 31,
    K_SCALING = 32,
    K_CLIENT_DEADLOCK = 33,
    K_LRU_HARD_LIMIT = 34,
    K_LRU_SOFT_LIMIT = 35,
    K_NOT_SUPPORTED = 36,
    K_NO_AVAILABLE_WORKER = 37,
    K_NOT_OWNER = 38,
    K_METADATA_OWNER_UNAVAILABLE = 39,
    K_RPC_CANCELLED = 1000,
    K_RPC_DEADLINE_EXCEEDED = 1001,
    K_RPC_UNAVAILABLE = 1002,
    K_RPC_STREAM_END = 1003,
    K_URMA_ERROR = 1004,
    K_RDMA_ERROR = 1005,
    K_URMA_NEED_CONNECT = 1006,
    K_RDMA_NEED_CONNECT = 1007,
    K_URMA_TRY_AGAIN = 1008,
    K_URMA_CONNECT_FAILED = 1009,
    K_URMA_WAIT_TIMEOUT = 1010,
    K_RPC_PEER_DEAD = 1011,
    K_RPC_NETWORK_BLIP = 1012,
    K_OC_ALREADY_SEALED = 2000,
    K_OC_OBJECT_NOT_IN_USED = 2001,
    K_OC_REMOTE_GET_NOT_ENOUGH = 2002,
    K_WRITE_BACK_QUEUE_FULL = 2003,
    K_OC_KEY_ALREADY_EXIST = 2004,
    K_WORKER_PULL_OBJECT_NOT_FOUND = 2005,
    K_BUFFER_DEPRECATED = 2006,
    K_URMA_WORKER_UNAVAILABLE = 2007,
    K_URMA_DATA_WORKER_UNAVAILABLE = 2008,
    K_URMA_READ_SOURCE_DENIED = 2009,
    K_SC_STREAM_NOT_FOUND = 3000,
    K_SC_PRODUCER_NOT_FOUND = 3001,
    K_SC_CONSUMER_NOT_FOUND = 3002,
    K_SC_END_OF_PAGE = 3003,
    K_SC_STREAM_IN_RESET_STATE = 3004,
    K_SC_WORKER_WAS_LOST = 3005,
    K_SC_STREAM_IN_USE = 3006,
    K_SC_STREAM_DELETE_IN_PROGRESS = 3007,
    K_SC_STREAM_RESOURCE_ERROR = 3008,
    K_SC_ALREADY_CLOSED = 3009,
    K_SC_STREAM_NOTIFICATION_PENDING = 3010,
    K_ACL_ERROR = 5000,
    K_HCCL_ERROR = 5001,
    K_FUTURE_TIMEOUT = 5002,
    K_CUDA_ERROR = 5003,
    K_NCCL_ERROR = 5004,
    // The name of the first release for the same number.
    K_WORKER_DEADLOCK = K_WORKER_TIMEOUT,
};

class Status {
public:
    Status() = default;
    Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}
    explicit Status(StatusCode code) : code_(code) {}

    static Status OK() { return Status(); }

    bool IsOk() const { return code_ == K_OK; }
    bool IsError() const { return code_ != K_OK; }
    explicit operator bool() const { return IsOk(); }
    bool operator==(const Status &other) const { return code_ == other.code_; }
    bool operator!=(const Status &other) const { return code_ != other.code_; }
    StatusCode GetCode() const { return code_; }
    const std::string &GetMsg() const { return message_; }
    void AppendMsg(const std::string &more) { message_ += more; }
    std::string ToString() const
    {
        std::string text = std::string("code: [") + StatusCodeName(code_) + "]";
        return message_.empty() ? text : text + ", msg: [" + message_ + "]";
    }

    static const char *StatusCodeName(StatusCode code)
    {
        switch (code) {
            case K_OK: return "OK";
            case K_DUPLICATED: return "Key duplicated";
            case K_INVALID: return "Invalid parameter";
            case K_NOT_FOUND: return "Key not found";
            case K_KVSTORE_ERROR: return "KV store error";
            case K_RUNTIME_ERROR: return "Runtime error";
            case K_OUT_OF_MEMORY: return "Out of memory";
            case K_IO_ERROR: return "IO error";
            case K_NOT_READY: return "Not ready";
            case K_NOT_AUTHORIZED: return "Not authorized";
            case K_UNKNOWN_ERROR: return "Unknown error";
            case K_INTERRUPTED: return "Interrupt detected";
            case K_OUT_OF_RANGE: return "Out of range";
            case K_NO_SPACE: return "No space available";
            case K_NOT_LEADER_MASTER: return "Not leader master";
            case K_RECOVERY_ERROR: return "Recovery error";
            case K_RECOVERY_IN_PROGRESS: return "Recovery in progress";
            case K_FILE_NAME_TOO_LONG: return "File name is too long";
            case K_FILE_LIMIT_REACHED: return "Limit on the number of open file descriptors reached";
            case K_TRY_AGAIN: return "Try again";
            case K_DATA_INCONSISTENCY: return "Data inconsistent between master and worker";
            case K_SHUTTING_DOWN: return "Shutting down";
            case K_WORKER_ABNORMAL: return "The worker status is abnormal";
            case K_CLIENT_WORKER_DISCONNECT: return "Client and Worker disconnect";
            case K_WORKER_TIMEOUT: return "The worker timeout";
            case K_MASTER_TIMEOUT: return "The master may timeout/dead";
            case K_NOT_FOUND_IN_L2CACHE: return "Key not found in l2 cache";
            case K_REPLICA_NOT_READY: return "The replica not ready";
            case K_CLIENT_WORKER_VERSION_MISMATCH: return "Client and worker version mismatch";
            case K_SERVER_FD_CLOSED: return "The server fd has been closed";
            case K_RETRY_IF_LEAVING: return "Try again when worker is leaving";
            case K_SCALE_DOWN: return "The worker is exiting";
            case K_SCALING: return "The cluster is scaling";
            case K_CLIENT_DEADLOCK: return "The client timeout";
            case K_LRU_HARD_LIMIT: return "Lru hard limit";
            case K_LRU_SOFT_LIMIT: return "Lru soft limit";
            case K_NO_AVAILABLE_WORKER: return "No available worker for routing";
            case K_NOT_OWNER: return "Request routed to non-owner worker";
            case K_METADATA_OWNER_UNAVAILABLE: return "Metadata owner unavailable";
            case K_RPC_CANCELLED: return "RPC cancelled";
            case K_RPC_DEADLINE_EXCEEDED: return "RPC deadline exceeded";
            case K_RPC_UNAVAILABLE: return "RPC unavailable";
            case K_RPC_STREAM_END: return "RPC stream finished";
            case K_URMA_ERROR: return "Urma operation failed";
            case K_URMA_NEED_CONNECT: return "Urma needs to reconnet";
            case K_RDMA_NEED_CONNECT: return "Rdma needs to reconnet";
            case K_URMA_TRY_AGAIN: return "Urma operation failed, try again";
            case K_URMA_CONNECT_FAILED: return "Urma connect failed";
            case K_URMA_WAIT_TIMEOUT: return "Urma wait for completion timed out";
            case K_RPC_PEER_DEAD: return "RPC peer dead";
            case K_RPC_NETWORK_BLIP: return "RPC network blip";
            case K_OC_ALREADY_SEALED: return "Object already sealed error";
            case K_OC_REMOTE_GET_NOT_ENOUGH: return "Size on the remote node has changed";
            case K_WRITE_BACK_QUEUE_FULL: return "The write back queue is full";
            case K_OC_KEY_ALREADY_EXIST: return "Object already exist error";
            case K_WORKER_PULL_OBJECT_NOT_FOUND: return "Worker pull object not found error";
            case K_BUFFER_DEPRECATED: return "Buffer deprecated";
            case K_URMA_WORKER_UNAVAILABLE: return "Worker UB data plane unavailable";
            case K_URMA_DATA_WORKER_UNAVAILABLE: return "Data worker UB data plane unavailable";
            case K_URMA_READ_SOURCE_DENIED: return "Client-side UB read-source admission denied";
            case K_SC_STREAM_NOT_FOUND: return "Stream name not found";
            case K_SC_PRODUCER_NOT_FOUND: return "Producer not found";
            case K_SC_CONSUMER_NOT_FOUND: return "Consumer not found";
            case K_SC_END_OF_PAGE: return "End of page reached";
            case K_SC_STREAM_IN_RESET_STATE: return "Stream is currently in reset state";
            case K_SC_WORKER_WAS_LOST: return "Worker crashed or restarted";
            case K_SC_STREAM_IN_USE: return "Stream is still in use";
            case K_SC_STREAM_DELETE_IN_PROGRESS: return "Stream is getting deleted";
            case K_SC_STREAM_RESOURCE_ERROR: return "Stream resource error";
            case K_SC_ALREADY_CLOSED: return "Producer or consumer already closed";
            case K_SC_STREAM_NOTIFICATION_PENDING: return "Notifications are pending";
            case K_ACL_ERROR: return "Acl api error";
            case K_HCCL_ERROR: return "Hccl api error";
            case K_FUTURE_TIMEOUT: return "The future is timeout";
            default: return "UNKNOWN_TYPE";
        }
    }

private:
    StatusCode code_ = K_OK;
    std::string message_;
};

inline std::ostream &operator<<(std::ostream &out, const Status &status)
{
    return out << status.ToString();
}

}  // namespace datasystem

#endif
