/* What Chariot calls of AscendCL and HCCL, written from the published facts about their binary
 * interface: names, argument order, widths, layouts, constants. It is no copy of a vendor header,
 * and it is complete for our calls alone.
 *
 * A function is declared as the type of a pointer to it (NAME_fn), since every one is found at run
 * time: nothing links against these libraries. Enumerations are 32-bit integers with constants,
 * because a newer library may answer with a value that this file does not know.
 */
#ifndef CHARIOT_ASCEND_RT_H
#define CHARIOT_ASCEND_RT_H

#include <stddef.h>
#include <stdint.h>

typedef int32_t aclError;
typedef void *aclrtContext;
typedef void *aclrtStream;
typedef void *aclrtEvent;
typedef void *aclrtDrvMemHandle;

/* ---- status codes -------------------------------------------------------------------------- */

#define ACL_SUCCESS 0
#define ACL_ERROR_INVALID_PARAM 100000
#define ACL_ERROR_UNINITIALIZE 100001
#define ACL_ERROR_REPEAT_INITIALIZE 100002
#define ACL_ERROR_WAIT_CALLBACK_TIMEOUT 100036
#define ACL_ERROR_REPEAT_FINALIZE 100037
#define ACL_ERROR_COMPILING_STUB_MODE 100039
#define ACL_ERROR_RT_PARAM_INVALID 107000
#define ACL_ERROR_RT_INVALID_DEVICEID 107001
#define ACL_ERROR_RT_CONTEXT_NULL 107002
#define ACL_ERROR_RT_STREAM_CONTEXT 107003
#define ACL_ERROR_RT_STREAM_NO_CB_REG 107015
#define ACL_ERROR_RT_INVALID_HANDLE 107017
#define ACL_ERROR_RT_INVALID_MALLOC_TYPE 107018
#define ACL_ERROR_RT_WAIT_TIMEOUT 107019
#define ACL_ERROR_RT_TASK_TIMEOUT 107020
#define ACL_ERROR_RT_DEVICE_TASK_ABORT 107022
#define ACL_ERROR_RT_STREAM_ABORT 107023
#define ACL_ERROR_BAD_ALLOC 200000
#define ACL_ERROR_RT_FEATURE_NOT_SUPPORT 207000
#define ACL_ERROR_RT_MEMORY_ALLOCATION 207001
#define ACL_ERROR_RT_NO_DEVICE 207004
#define ACL_ERROR_RT_RESOURCE_ALLOC_FAIL 207005
#define ACL_ERROR_RT_NO_EVENT_RESOURCE 207007
#define ACL_ERROR_RT_NO_STREAM_RESOURCE 207008
#define ACL_ERROR_RT_DEVICE_OOM 207018
#define ACL_ERROR_RT_INTERNAL_ERROR 507000
#define ACL_ERROR_RT_STREAM_TASK_FULL 507002
#define ACL_ERROR_RT_LOST_HEARTBEAT 507010
#define ACL_ERROR_RT_SDMA 507013
#define ACL_ERROR_RT_IPC 507022
#define ACL_ERROR_RT_STREAM_SYNC_TIMEOUT 507046
#define ACL_ERROR_RT_EVENT_SYNC_TIMEOUT 507047
#define ACL_ERROR_RT_FFTS_TIMEOUT 507048
#define ACL_ERROR_RT_COPY_DATA 507052
#define ACL_ERROR_RT_DEVICE_MEM_ERROR 507053
#define ACL_ERROR_RT_HBM_MULTI_BIT_ECC 507054
#define ACL_ERROR_RT_LINK_ERROR 507056
#define ACL_ERROR_RT_SUSPECT_REMOTE 507057
#define ACL_ERROR_RT_DRV_INTERNAL 507899
#define ACL_ERROR_RT_SOCKET_CLOSE 507901
#define ACL_ERROR_RT_COMM_RETRY_FAIL 507904
#define ACL_ERROR_RT_HOST_MEM_REGISTERED 507910
#define ACL_ERROR_RT_HOST_MEM_NOT_REGISTERED 507911

/* ---- constants of arguments ---------------------------------------------------------------- */

#define ACL_DEVICE_STATUS_NORMAL 0
#define ACL_DEVICE_STATUS_ABNORMAL 1
#define ACL_DEVICE_STATUS_END 0xFFFF

static const uint32_t ACL_STREAM_FAST_LAUNCH = 1;
static const uint32_t ACL_STREAM_FAST_SYNC = 2;
#define ACL_STREAM_STATUS_COMPLETE 0
#define ACL_STREAM_STATUS_NOT_READY 1
static const uint64_t ACL_STREAM_FAILURE_CONTINUE = 0;
static const uint64_t ACL_STREAM_FAILURE_STOP = 1;

static const uint32_t ACL_EVENT_SYNC = 1;
static const uint32_t ACL_EVENT_CAPTURE_STREAM_PROGRESS = 2;
static const uint32_t ACL_EVENT_TIME_LINE = 8;
/* The old query and the recorded status disagree about which number means done. */
#define ACL_EVENT_STATUS_COMPLETE 0
#define ACL_EVENT_STATUS_NOT_READY 1
#define ACL_EVENT_RECORDED_STATUS_NOT_READY 0
#define ACL_EVENT_RECORDED_STATUS_COMPLETE 1

#define ACL_MEMCPY_HOST_TO_HOST 0
#define ACL_MEMCPY_HOST_TO_DEVICE 1
#define ACL_MEMCPY_DEVICE_TO_HOST 2
#define ACL_MEMCPY_DEVICE_TO_DEVICE 3
#define ACL_MEMCPY_DEFAULT 4

#define ACL_MEM_MALLOC_HUGE_FIRST 0
#define ACL_MEM_MALLOC_HUGE_ONLY 1
#define ACL_MEM_MALLOC_NORMAL_ONLY 2
#define ACL_MEM_MALLOC_HUGE_FIRST_P2P 3
#define ACL_MEM_MALLOC_HUGE_ONLY_P2P 4
#define ACL_MEM_MALLOC_NORMAL_ONLY_P2P 5
#define ACL_MEM_TYPE_HIGH_BAND_WIDTH 0x1000

#define ACL_DDR_MEM 0
#define ACL_HBM_MEM 1
#define ACL_HBM_MEM_HUGE 4
#define ACL_HBM_MEM_NORMAL 5

#define ACL_MEM_LOCATION_TYPE_HOST 0
#define ACL_MEM_LOCATION_TYPE_DEVICE 1
#define ACL_MEM_LOCATION_TYPE_UNREGISTERED 2

#define ACL_HOST_REGISTER_MAPPED 0
#define ACL_HOST_REGISTER_READONLY 8
static const uint32_t ACL_HOST_REG_MAPPED = 0x2;
static const uint32_t ACL_HOST_REG_READONLY = 0x8;
static const uint32_t ACL_HOST_REG_PINNED = 0x10000000;

static const uint64_t ACL_RT_IPC_MEM_EXPORT_FLAG_DEFAULT = 0;
static const uint64_t ACL_RT_IPC_MEM_EXPORT_FLAG_DISABLE_PID_VALIDATION = 1;
static const uint64_t ACL_RT_IPC_MEM_IMPORT_FLAG_ENABLE_PEER_ACCESS = 1;
static const size_t ACL_RT_IPC_KEY_LEN = 65;

/* Links as aclrtGetDevicesTopo tells them. */
static const uint64_t ACL_RT_DEVS_TOPOLOGY_HCCS = 0x01;
static const uint64_t ACL_RT_DEVS_TOPOLOGY_PIX = 0x02;
static const uint64_t ACL_RT_DEVS_TOPOLOGY_SYS = 0x10;
static const uint64_t ACL_RT_DEVS_TOPOLOGY_SIO = 0x20;

/* Most entries that the driver takes in one batch. */
static const size_t ACL_MEMCPY_BATCH_ENTRIES_MAX = 4096;

/* ---- structures ---------------------------------------------------------------------------- */

typedef struct aclrtMemLocation {
    uint32_t id;
    int32_t type;
} aclrtMemLocation;

typedef struct aclrtMemcpyBatchAttr {
    aclrtMemLocation dstLoc;
    aclrtMemLocation srcLoc;
    uint8_t rsv[16]; /* zero */
} aclrtMemcpyBatchAttr;

typedef struct aclrtPtrAttributes {
    aclrtMemLocation location;
    uint32_t pageSize;
    uint32_t rsv[4];
} aclrtPtrAttributes;

/* ---- AscendCL: process, device, context ---------------------------------------------------- */

typedef aclError (*aclInit_fn)(const char *configPath);
typedef aclError (*aclFinalize_fn)(void);
typedef aclError (*aclFinalizeReference_fn)(uint64_t *left);
typedef const char *(*aclGetRecentErrMsg_fn)(void);
typedef aclError (*aclsysGetVersionStr_fn)(char *package, char *version);

typedef aclError (*aclrtSetDevice_fn)(int32_t deviceId);
typedef aclError (*aclrtResetDevice_fn)(int32_t deviceId);
typedef aclError (*aclrtResetDeviceForce_fn)(int32_t deviceId);
typedef aclError (*aclrtGetDevice_fn)(int32_t *deviceId);
typedef aclError (*aclrtGetDeviceCount_fn)(uint32_t *count);
typedef const char *(*aclrtGetSocName_fn)(void);
typedef aclError (*aclrtQueryDeviceStatus_fn)(int32_t deviceId, int32_t *status);
typedef aclError (*aclrtSynchronizeDevice_fn)(void);
typedef aclError (*aclrtSynchronizeDeviceWithTimeout_fn)(int32_t timeoutMs);
typedef aclError (*aclrtDeviceTaskAbort_fn)(int32_t deviceId, uint32_t timeoutMs);
typedef aclError (*aclrtDeviceCanAccessPeer_fn)(int32_t *canAccess, int32_t deviceId,
                                                int32_t peerId);
typedef aclError (*aclrtDeviceEnablePeerAccess_fn)(int32_t peerId, uint32_t flags);
typedef aclError (*aclrtDeviceDisablePeerAccess_fn)(int32_t peerId);
typedef aclError (*aclrtGetDevicesTopo_fn)(uint32_t deviceId, uint32_t otherId, uint64_t *value);
typedef aclError (*aclrtGetDeviceInfo_fn)(uint32_t deviceId, int32_t attribute, int64_t *value);
typedef aclError (*aclrtDeviceGetBareTgid_fn)(int32_t *pid);
typedef aclError (*aclrtCreateContext_fn)(aclrtContext *context, int32_t deviceId);
typedef aclError (*aclrtDestroyContext_fn)(aclrtContext context);
typedef aclError (*aclrtSetCurrentContext_fn)(aclrtContext context);
typedef aclError (*aclrtGetCurrentContext_fn)(aclrtContext *context);

/* ---- AscendCL: stream, event, callback ----------------------------------------------------- */

typedef aclError (*aclrtCreateStream_fn)(aclrtStream *stream);
typedef aclError (*aclrtCreateStreamWithConfig_fn)(aclrtStream *stream, uint32_t priority,
                                                   uint32_t flag);
typedef aclError (*aclrtDestroyStream_fn)(aclrtStream stream);
typedef aclError (*aclrtDestroyStreamForce_fn)(aclrtStream stream);
typedef aclError (*aclrtSynchronizeStream_fn)(aclrtStream stream);
typedef aclError (*aclrtSynchronizeStreamWithTimeout_fn)(aclrtStream stream, int32_t timeoutMs);
typedef aclError (*aclrtStreamQuery_fn)(aclrtStream stream, int32_t *status);
typedef aclError (*aclrtStreamAbort_fn)(aclrtStream stream);
typedef aclError (*aclrtSetStreamFailureMode_fn)(aclrtStream stream, uint64_t mode);
typedef aclError (*aclrtStreamWaitEvent_fn)(aclrtStream stream, aclrtEvent event);
typedef aclError (*aclrtCreateEvent_fn)(aclrtEvent *event);
typedef aclError (*aclrtCreateEventWithFlag_fn)(aclrtEvent *event, uint32_t flag);
typedef aclError (*aclrtCreateEventExWithFlag_fn)(aclrtEvent *event, uint32_t flag);
typedef aclError (*aclrtDestroyEvent_fn)(aclrtEvent event);
typedef aclError (*aclrtRecordEvent_fn)(aclrtEvent event, aclrtStream stream);
typedef aclError (*aclrtResetEvent_fn)(aclrtEvent event, aclrtStream stream);
typedef aclError (*aclrtQueryEvent_fn)(aclrtEvent event, int32_t *status);
typedef aclError (*aclrtQueryEventStatus_fn)(aclrtEvent event, int32_t *status);
typedef aclError (*aclrtSynchronizeEvent_fn)(aclrtEvent event);
typedef aclError (*aclrtSynchronizeEventWithTimeout_fn)(aclrtEvent event, int32_t timeoutMs);
typedef aclError (*aclrtEventElapsedTime_fn)(float *milliseconds, aclrtEvent start,
                                             aclrtEvent end);
typedef void (*aclrtHostFunction)(void *argument);
typedef aclError (*aclrtLaunchHostFunc_fn)(aclrtStream stream, aclrtHostFunction function,
                                           void *argument);

/* ---- AscendCL: memory ---------------------------------------------------------------------- */

typedef aclError (*aclrtMalloc_fn)(void **pointer, size_t size, int32_t policy);
typedef aclError (*aclrtFree_fn)(void *pointer);
typedef aclError (*aclrtFreeWithDevSync_fn)(void *pointer);
typedef aclError (*aclrtMallocHost_fn)(void **pointer, size_t size);
typedef aclError (*aclrtFreeHost_fn)(void *pointer);
typedef aclError (*aclrtHostRegister_fn)(void *pointer, uint64_t size, int32_t type,
                                         void **devicePointer);
typedef aclError (*aclrtHostRegisterV2_fn)(void *pointer, uint64_t size, uint32_t flag);
typedef aclError (*aclrtHostGetDevicePointer_fn)(void *host, void **device, uint32_t flag);
typedef aclError (*aclrtHostUnregister_fn)(void *pointer);
typedef aclError (*aclrtPointerGetAttributes_fn)(const void *pointer,
                                                 aclrtPtrAttributes *attributes);
typedef aclError (*aclrtGetMemInfo_fn)(int32_t attribute, size_t *free, size_t *total);
typedef aclError (*aclrtMemcpy_fn)(void *dst, size_t destMax, const void *src, size_t count,
                                   int32_t kind);
typedef aclError (*aclrtMemcpyAsync_fn)(void *dst, size_t destMax, const void *src, size_t count,
                                        int32_t kind, aclrtStream stream);
typedef aclError (*aclrtMemcpy2d_fn)(void *dst, size_t dpitch, const void *src, size_t spitch,
                                     size_t width, size_t height, int32_t kind);
typedef aclError (*aclrtMemcpy2dAsync_fn)(void *dst, size_t dpitch, const void *src,
                                          size_t spitch, size_t width, size_t height,
                                          int32_t kind, aclrtStream stream);
typedef aclError (*aclrtMemset_fn)(void *pointer, size_t max, int32_t value, size_t count);
typedef aclError (*aclrtMemsetAsync_fn)(void *pointer, size_t max, int32_t value, size_t count,
                                        aclrtStream stream);
typedef aclError (*aclrtMemcpyBatch_fn)(void **dsts, size_t *destMax, void **srcs, size_t *sizes,
                                        size_t count, aclrtMemcpyBatchAttr *attrs,
                                        size_t *attrsIndexes, size_t attrsCount,
                                        size_t *failIndex);
typedef aclError (*aclrtMemcpyBatchAsync_fn)(void **dsts, size_t *destMax, void **srcs,
                                             size_t *sizes, size_t count,
                                             aclrtMemcpyBatchAttr *attrs, size_t *attrsIndexes,
                                             size_t attrsCount, size_t *failIndex,
                                             aclrtStream stream);

/* ---- AscendCL: memory of another process --------------------------------------------------- */

typedef aclError (*aclrtIpcMemGetExportKey_fn)(void *pointer, size_t size, char *key, size_t len,
                                               uint64_t flags);
typedef aclError (*aclrtIpcMemSetImportPid_fn)(const char *key, int32_t *pids, size_t count);
typedef aclError (*aclrtIpcMemImportByKey_fn)(void **pointer, const char *key, uint64_t flags);
typedef aclError (*aclrtIpcMemClose_fn)(const char *key);

/* ---- HCCL ---------------------------------------------------------------------------------- */

typedef int32_t HcclResult;
typedef int32_t HcclDataType;
typedef void *HcclComm;

#define HCCL_SUCCESS 0
#define HCCL_E_PARA 1
#define HCCL_E_PTR 2
#define HCCL_E_MEMORY 3
#define HCCL_E_INTERNAL 4
#define HCCL_E_NOT_SUPPORT 5
#define HCCL_E_NOT_FOUND 6
#define HCCL_E_UNAVAIL 7
#define HCCL_E_SYSCALL 8
#define HCCL_E_TIMEOUT 9
#define HCCL_E_TCP_CONNECT 11
#define HCCL_E_ROCE_CONNECT 12
#define HCCL_E_RUNTIME 15
#define HCCL_E_DRV 16
#define HCCL_E_NETWORK 19
#define HCCL_E_AGAIN 20
#define HCCL_E_REMOTE 21
#define HCCL_E_SUSPENDING 22
#define HCCL_E_OPRETRY_FAIL 23
#define HCCL_E_OOM 24

#define HCCL_DATA_TYPE_INT8 0
#define HCCL_DATA_TYPE_INT16 1
#define HCCL_DATA_TYPE_INT32 2
#define HCCL_DATA_TYPE_FP16 3
#define HCCL_DATA_TYPE_FP32 4
#define HCCL_DATA_TYPE_INT64 5
#define HCCL_DATA_TYPE_UINT64 6
#define HCCL_DATA_TYPE_UINT8 7
#define HCCL_DATA_TYPE_FP64 10
#define HCCL_DATA_TYPE_BFP16 11

#define HCCL_ROOT_INFO_BYTES 4108
static const uint32_t HCCL_COMM_CONFIG_MAGIC = 0xf0f0f0f0;
static const uint32_t HCCL_COMM_CONFIG_NOT_SET = 0xffffffff;
#define HCCL_SEND_RECV_SEND 0
#define HCCL_SEND_RECV_RECV 1

/* Opaque bytes, with zeros among them: never a string. */
typedef struct HcclRootInfo {
    char internal[HCCL_ROOT_INFO_BYTES];
} HcclRootInfo;

/* A library takes a lower version with its smaller size, and refuses a higher one. */
typedef struct HcclCommConfig {
    size_t size;
    uint32_t magic;
    uint32_t version;
    uint64_t reserved;
    uint32_t hcclBufferSize; /* MiB */
    uint32_t hcclDeterministic;
    char hcclCommName[128];
    char hcclUdi[128];
    uint32_t hcclOpExpansionMode;
    uint32_t hcclRdmaTrafficClass;
    uint32_t hcclRdmaServiceLevel;
    uint32_t hcclWorldRankID;
    uint64_t hcclJobID;
} HcclCommConfig;

typedef struct HcclSendRecvItem {
    int32_t sendRecvType;
    void *buf;
    uint64_t count;
    HcclDataType dataType;
    uint32_t remoteRank;
} HcclSendRecvItem;

typedef HcclResult (*HcclGetRootInfo_fn)(HcclRootInfo *rootInfo);
typedef HcclResult (*HcclCommInitRootInfo_fn)(uint32_t ranks, const HcclRootInfo *rootInfo,
                                              uint32_t rank, HcclComm *comm);
typedef HcclResult (*HcclCommInitRootInfoConfig_fn)(uint32_t ranks, const HcclRootInfo *rootInfo,
                                                    uint32_t rank, const HcclCommConfig *config,
                                                    HcclComm *comm);
typedef HcclResult (*HcclCommDestroy_fn)(HcclComm comm);
typedef HcclResult (*HcclSend_fn)(void *buffer, uint64_t count, HcclDataType type, uint32_t dst,
                                  HcclComm comm, aclrtStream stream);
typedef HcclResult (*HcclRecv_fn)(void *buffer, uint64_t count, HcclDataType type, uint32_t src,
                                  HcclComm comm, aclrtStream stream);
typedef HcclResult (*HcclBatchSendRecv_fn)(HcclSendRecvItem *items, uint32_t count, HcclComm comm,
                                           aclrtStream stream);
typedef HcclResult (*HcclGetRankId_fn)(HcclComm comm, uint32_t *rank);
typedef HcclResult (*HcclGetRankSize_fn)(HcclComm comm, uint32_t *ranks);
typedef HcclResult (*HcclGetCommAsyncError_fn)(HcclComm comm, HcclResult *error);
typedef const char *(*HcclGetErrorString_fn)(HcclResult code);
typedef HcclResult (*HcclGroupStart_fn)(void);
typedef HcclResult (*HcclGroupEnd_fn)(void);

#endif
