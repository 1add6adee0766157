// libchariot: the C ABI of Chariot. Generated from wire/capi/src by cbindgen: change it there.
//
// Statuses are int32_t: CHARIOT_OK is 0. Handles are opaque; whoever received one ends it, once,
// with the function that its type names. Pointers may be null only where a function says so, or
// where their length is 0; a null that is not allowed is CHARIOT_INVALID_ARGUMENT. Which threads
// may call a function stands at its end. See wire/capi/README.md.

#ifndef CHARIOT_H
#define CHARIOT_H

#include <stddef.h>
#include <stdint.h>

// Done.
#define CHARIOT_OK 0

// The deadline passed before the request was carried out.
#define CHARIOT_TIMEOUT 100

// The node is starting or was restarted.
#define CHARIOT_RESTARTING 101

// The request met a change under way.
#define CHARIOT_AGAIN 102

// A table of the node is full.
#define CHARIOT_BUSY 200

// No memory could be freed before the deadline: the rest is kept, pinned or leased.
#define CHARIOT_OUT_OF_MEMORY 201

// The memory for entries is full and nothing may be evicted.
#define CHARIOT_METADATA_FULL 202

// No such key.
#define CHARIOT_NOT_FOUND 300

// The key exists and if-absent was asked.
#define CHARIOT_EXISTS 400

// A pin or an unfinished transfer holds the object.
#define CHARIOT_PINNED 401

// The object is sealed: its value will never change.
#define CHARIOT_SEALED 402

// An argument has no meaning.
#define CHARIOT_INVALID_ARGUMENT 500

// The key is empty, too long or holds a byte outside the alphabet.
#define CHARIOT_KEY_INVALID 501

// A value, a batch or a frame is over its limit.
#define CHARIOT_TOO_LARGE 502

// This node has no engine for what was asked.
#define CHARIOT_NOT_SUPPORTED 503

// No protocol version is spoken by both sides.
#define CHARIOT_VERSION_MISMATCH 504

// Bytes that are no valid frame or message.
#define CHARIOT_MALFORMED 505

// A byte range lies outside the value.
#define CHARIOT_RANGE_INVALID 506

// The access key, the proof or the user is not accepted.
#define CHARIOT_NOT_AUTHORIZED 600

// The session broke the protocol or an operator expelled it: it is served no more.
#define CHARIOT_EXPELLED 601

// The node met a fault of its own.
#define CHARIOT_INTERNAL 900

// The bytes do not have the checksum they were stored with.
#define CHARIOT_CHECKSUM_MISMATCH 901

// The node is draining and takes no new work.
#define CHARIOT_SHUTTING_DOWN 902

// The version of this ABI. It grows by one when a function or a field is added, and its hundreds
// grow when something is taken away.
#define CHARIOT_ABI_VERSION 1

// Shared memory when the daemon is on this host, TCP otherwise.
#define CHARIOT_SHARED_MEMORY_AUTO 0

// Always TCP.
#define CHARIOT_SHARED_MEMORY_NEVER 1

// An error where `AUTO` would fall back to TCP.
#define CHARIOT_SHARED_MEMORY_REQUIRE 2

// Kept: never evicted; a full node refuses new writes instead.
#define CHARIOT_MODE_NONE 0

// In the object store before the write returns.
#define CHARIOT_MODE_WRITE_THROUGH 1

// In the durable queue to the object store before the write returns.
#define CHARIOT_MODE_WRITE_BACK 2

// In this node only; may be evicted. The default.
#define CHARIOT_MODE_NONE_EVICT 3

// As `WRITE_BACK`; may be evicted for good.
#define CHARIOT_MODE_WRITE_BACK_EVICT 4

// Bytes travel through shared memory.
#define CHARIOT_PLACE_SHARED_MEMORY 0

// Bytes travel over TCP.
#define CHARIOT_PLACE_TCP 1

// No daemon now: reads are misses, and the next call tries to connect.
#define CHARIOT_PLACE_AWAY 2

// The latch that others may share.
#define CHARIOT_LATCH_SHARED 0

// The latch that nobody shares.
#define CHARIOT_LATCH_EXCLUSIVE 1

// Ascend where its libraries are found, else CUDA, else an error at the first call.
#define CHARIOT_BACKEND_AUTO 0

// Ascend: `AscendCL` and HCCL.
#define CHARIOT_BACKEND_ASCEND 1

// The CUDA driver.
#define CHARIOT_BACKEND_CUDA 2

// Memory of this process stands in for the cards'.
#define CHARIOT_BACKEND_HOST 3

// In a blob list: the card that the calling thread works with already.
#define CHARIOT_CARD_CURRENT -2

// In a blob list: memory of this process.
#define CHARIOT_CARD_HOST -3

// Memory for one value. Opaque; one thread at a time.
//
// The bytes are unspecified until written: write all of them. Ends with `chariot_buffer_publish`
// or `chariot_buffer_discard`.
typedef struct chariot_buffer chariot_buffer;

// A connection to one daemon. Opaque. Any number of threads may use it at once.
typedef struct chariot_client chariot_client;

// The outcomes of an asynchronous call. Opaque. Any number of threads may wait for it.
typedef struct chariot_future chariot_future;

// The device calls of one client. Opaque. Any number of threads may use it at once.
typedef struct chariot_hetero chariot_hetero;

// An object that was created or opened. Opaque; one thread at a time.
//
// Ends with `chariot_object_release`, which also releases its latches.
typedef struct chariot_object chariot_object;

// The bytes of one value. Opaque, immutable; any number of threads may read it.
//
// Owns its pin: the bytes stay when the key is overwritten or deleted, when the client is closed
// and when the daemon dies, until `chariot_view_release`.
typedef struct chariot_view chariot_view;

// A run of bytes that belongs to the caller: a key, a value, a secret.
typedef struct {
  // The first byte; may be null when `len` is 0.
  const void *data;
  // How many bytes.
  size_t len;
} chariot_bytes;

// How to connect. Fill with `chariot_connect_options_init` first. Texts are copied by the call.
typedef struct {
  // Size of this struct; set by init.
  uint64_t struct_size;
  // `host:port`, or `unix:/path/of/the.sock`.
  const char *target;
  // Name of the access key; null or empty where the daemon asks for none.
  const char *access_key;
  // The secret that belongs to it; it never crosses the wire.
  chariot_bytes secret_key;
  // The tenant; null or empty for the default one.
  const char *tenant;
  // Time allowed for connecting, in microseconds, at least 1. 5 s by default.
  uint64_t connect_timeout_us;
  // Time allowed for a call that sets no deadline, in microseconds, at least 1. 5 s by default.
  uint64_t request_timeout_us;
  // How long a caller polls before it sleeps, in microseconds, at most. 400 by default.
  uint64_t spin_us;
  // Most TCP connections kept between calls, at least 1. 8 by default.
  uint32_t remote_connections;
  // One of `CHARIOT_SHARED_MEMORY_*`. `AUTO` by default.
  uint8_t shared_memory;
  // 1: values carry a checksum, and payload received over TCP is checked. 1 by default.
  uint8_t checksum;
  // 1: every read asks the shard, none goes through the index. 0 by default.
  uint8_t reads_by_ring;
  // Zero.
  uint8_t reserved;
} chariot_connect_options;

// How to write. Fill with `chariot_set_options_init` first; null stands for the defaults.
typedef struct {
  // Size of this struct; set by init.
  uint64_t struct_size;
  // Life of the value in milliseconds; 0 until evicted or deleted.
  uint64_t ttl_ms;
  // Time allowed for this call in microseconds; 0 takes the client's.
  uint64_t deadline_us;
  // One of `CHARIOT_MODE_*`. `NONE_EVICT` by default.
  uint8_t mode;
  // 1: write only where no value exists; otherwise `CHARIOT_EXISTS`.
  uint8_t if_absent;
  // Zeros.
  uint8_t reserved[6];
} chariot_set_options;

// How to read. Fill with `chariot_get_options_init` first; null stands for the defaults.
typedef struct {
  // Size of this struct; set by init.
  uint64_t struct_size;
  // How long to wait for a key that does not exist yet, in microseconds; 0 answers at once.
  uint64_t wait_us;
  // First byte to read.
  uint64_t offset;
  // Bytes to read from `offset` on; `UINT64_MAX` reads to the end.
  uint64_t len;
  // Time allowed for this call beyond the wait, in microseconds; 0 takes the client's.
  uint64_t deadline_us;
} chariot_get_options;

// What a client has counted since it connected, also across restarts of its daemon.
typedef struct {
  // Keys that were found.
  uint64_t hits;
  // Keys that were not found, also while the daemon was away.
  uint64_t misses;
  // Keys for which the shard was asked by a message.
  uint64_t asked;
  // Views that are copies because no view slot was free.
  uint64_t views_copied;
  // Zeros.
  uint64_t reserved[4];
} chariot_stats;

// A run of bytes that belongs to the caller and may be written.
typedef struct {
  // The first byte; may be null when `len` is 0.
  void *data;
  // How many bytes.
  size_t len;
} chariot_bytes_mut;

// A range of a card's memory.
typedef struct {
  // Its first byte, in the card's addresses; not 0.
  uint64_t address;
  // How many bytes, at least 1.
  uint64_t len;
} chariot_blob;

// The memory of one object: blobs of one card, in order.
typedef struct {
  // The card's number, or one of `CHARIOT_CARD_*`.
  int32_t card;
  // Zero.
  uint32_t reserved;
  // The blobs.
  const chariot_blob *blobs;
  // How many, at least 1.
  size_t count;
} chariot_blob_list;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The ABI version of the library that is linked; at least the header's is needed.
//
// Threads: any.
uint32_t chariot_abi_version(void);

// The release of the library, as `0.1.0`. A static string.
//
// Threads: any.
const char *chariot_version(void);

// The name of a status, as `TooLarge`; `unknown` outside the table. A static string.
//
// Threads: any.
const char *chariot_status_name(int32_t status);

// What a status means; empty outside the table. A static string.
//
// Threads: any.
const char *chariot_status_text(int32_t status);

// What to do about a status; empty outside the table. A static string.
//
// Threads: any.
const char *chariot_status_remedy(int32_t status);

// Fills in the defaults. `target` is null and must be set. Null is ignored. Threads: any.
void chariot_connect_options_init(chariot_connect_options *options);

// Fills in the defaults: no expiry, overwriting, evictable. Null is ignored. Threads: any.
void chariot_set_options_init(chariot_set_options *options);

// Fills in the defaults: the whole value, no wait. Null is ignored. Threads: any.
void chariot_get_options_init(chariot_get_options *options);

// Connects, and stores the new client, to be closed with `chariot_client_close`; null on failure.
//
// `CHARIOT_RESTARTING`: nobody listens there. `CHARIOT_NOT_AUTHORIZED`: credentials refused.
// `CHARIOT_TIMEOUT`: not within the time. Threads: any.
int32_t chariot_client_connect(const chariot_connect_options *options, chariot_client **client);

// Closes a client; null is ignored. Its views and buffers stay valid, and the session ends with
// the last of them. Threads: any, after all other calls on this client have returned.
void chariot_client_close(chariot_client *client);

// Tells which way bytes travel now, one of `CHARIOT_PLACE_*`; `AWAY` for null. Threads: any.
int32_t chariot_client_place(const chariot_client *client);

// Stores what this client has counted. Threads: any.
int32_t chariot_client_stats(const chariot_client *client, chariot_stats *stats);

// Writes a value of at least 1 byte and stores its version (null: not wanted).
//
// `CHARIOT_EXISTS` with `if_absent`; `CHARIOT_OUT_OF_MEMORY` when nothing may be evicted for it
// within the deadline; `CHARIOT_RESTARTING`, `CHARIOT_TIMEOUT`: the outcome is unknown, write
// again. Key and value are copied before the call returns. Threads: any.
int32_t chariot_set(const chariot_client *client,
                    const void *key,
                    size_t key_len,
                    const void *value,
                    size_t value_len,
                    const chariot_set_options *options,
                    uint64_t *version);

// Reads a value, or a range of it, into the caller's buffer and stores its length.
//
// `CHARIOT_NOT_FOUND` is a miss. `CHARIOT_INVALID_ARGUMENT` when the value is longer than the
// buffer (then nothing is stored): ask `chariot_size`. Threads: any.
int32_t chariot_get(const chariot_client *client,
                    const void *key,
                    size_t key_len,
                    void *buffer,
                    size_t buffer_len,
                    const chariot_get_options *options,
                    size_t *len);

// Lends the bytes of a value, or of a range of it, in place; to be released with
// `chariot_view_release`. Stores null on a miss (`CHARIOT_NOT_FOUND`) and on failure.
//
// Threads: any.
int32_t chariot_get_view(const chariot_client *client,
                         const void *key,
                         size_t key_len,
                         const chariot_get_options *options,
                         chariot_view **view);

// Tells whether a key has a value: `CHARIOT_OK` or `CHARIOT_NOT_FOUND`. Threads: any.
int32_t chariot_exist(const chariot_client *client, const void *key, size_t key_len);

// Stores the length of a value in bytes; `CHARIOT_NOT_FOUND` is a miss. Threads: any.
int32_t chariot_size(const chariot_client *client, const void *key, size_t key_len, uint64_t *size);

// Deletes a key; `CHARIOT_NOT_FOUND` when it had no value. `CHARIOT_RESTARTING`,
// `CHARIOT_TIMEOUT`: the outcome is unknown. Threads: any.
int32_t chariot_delete(const chariot_client *client, const void *key, size_t key_len);

// Replaces the life of a key (0: no expiry); `CHARIOT_NOT_FOUND` when it has no value.
// Threads: any.
int32_t chariot_expire(const chariot_client *client,
                       const void *key,
                       size_t key_len,
                       uint64_t ttl_ms);

// Lends memory of `len` bytes to write a value in place; see `chariot_buffer_publish`. Stores null
// on failure. Statuses as `chariot_set`. Threads: any.
int32_t chariot_create(const chariot_client *client,
                       const void *key,
                       size_t key_len,
                       size_t len,
                       const chariot_set_options *options,
                       chariot_buffer **buffer);

// Writes many values. Not atomic; of items with the same key the first is written. Stores a
// version each where `versions` is not null (0 on failure). Statuses as `chariot_set`.
// Threads: any.
int32_t chariot_mset(const chariot_client *client,
                     const chariot_bytes *keys,
                     const chariot_bytes *values,
                     size_t count,
                     const chariot_set_options *options,
                     int32_t *statuses,
                     uint64_t *versions);

// Reads many values into the caller's buffers, one each, and stores the lengths (0 on a miss and
// on failure). Statuses as `chariot_get`. Threads: any.
int32_t chariot_mget(const chariot_client *client,
                     const chariot_bytes *keys,
                     size_t count,
                     const chariot_bytes_mut *buffers,
                     size_t *lens,
                     int32_t *statuses);

// Lends the bytes of many values in place, each to be released; null for what was not found. A
// range, a wait and a deadline hold for all keys. Threads: any.
int32_t chariot_mget_view(const chariot_client *client,
                          const chariot_bytes *keys,
                          size_t count,
                          const chariot_get_options *options,
                          chariot_view **views,
                          int32_t *statuses);

// Tells for each key whether it has a value: `CHARIOT_OK` or `CHARIOT_NOT_FOUND`. Threads: any.
int32_t chariot_mexist(const chariot_client *client,
                       const chariot_bytes *keys,
                       size_t count,
                       int32_t *statuses);

// Deletes many keys; `CHARIOT_NOT_FOUND` for those without a value. Threads: any.
int32_t chariot_mdelete(const chariot_client *client,
                        const chariot_bytes *keys,
                        size_t count,
                        int32_t *statuses);

// Replaces the life of many keys (0: no expiry); `CHARIOT_NOT_FOUND` for those without a value.
// Threads: any.
int32_t chariot_mexpire(const chariot_client *client,
                        const chariot_bytes *keys,
                        size_t count,
                        uint64_t ttl_ms,
                        int32_t *statuses);

// Stores the length of each value (0 on a miss and on failure). Threads: any.
int32_t chariot_msize(const chariot_client *client,
                      const chariot_bytes *keys,
                      size_t count,
                      uint64_t *sizes,
                      int32_t *statuses);

// Stores how many of the keys, counted from the front without a gap, have a value. Threads: any.
int32_t chariot_prefix(const chariot_client *client,
                       const chariot_bytes *keys,
                       size_t count,
                       size_t *len);

// Lends memory for many values to write in place; null where the status is not `CHARIOT_OK`.
// Threads: any.
int32_t chariot_mcreate(const chariot_client *client,
                        const chariot_bytes *keys,
                        size_t count,
                        const size_t *lens,
                        const chariot_set_options *options,
                        chariot_buffer **buffers,
                        int32_t *statuses);

// The first byte of a view, valid until it is released; null for null. Threads: any.
const void *chariot_view_data(const chariot_view *view);

// The length of a view in bytes; 0 for null. Threads: any.
size_t chariot_view_len(const chariot_view *view);

// The version of the value, or 0 where the transport does not tell it. Threads: any.
uint64_t chariot_view_version(const chariot_view *view);

// Releases a view; null is ignored. Threads: any, as the last use of this view.
void chariot_view_release(chariot_view *view);

// Releases many views; null ones are skipped. Threads: any, as the last use of these views.
void chariot_views_release(chariot_view *const *views, size_t count);

// The first byte of a buffer, valid until it is published or discarded; null for null.
// Threads: the one that has the buffer.
void *chariot_buffer_data(chariot_buffer *buffer);

// The length of a buffer in bytes; 0 for null. Threads: the one that has the buffer.
size_t chariot_buffer_len(const chariot_buffer *buffer);

// Publishes a buffer under its key and stores the version (null: not wanted). The buffer is used
// up, also on failure: its value is gone then. Statuses as `chariot_set`.
// Threads: the one that has the buffer.
int32_t chariot_buffer_publish(chariot_buffer *buffer, uint64_t *version);

// Publishes many buffers, all of which are used up; null ones are `CHARIOT_INVALID_ARGUMENT`. Not
// atomic. Stores a status each, and a version each where `versions` is not null (0 on failure).
// Returns `CHARIOT_OK` when the arguments made sense. Threads: the one that has the buffers.
int32_t chariot_mpublish(chariot_buffer *const *buffers,
                         size_t count,
                         int32_t *statuses,
                         uint64_t *versions);

// Gives a buffer back unpublished; null is ignored. Threads: the one that has the buffer.
void chariot_buffer_discard(chariot_buffer *buffer);

// Lends memory of `len` bytes for an object, unpublished. Stores null on failure. Statuses as
// `chariot_create`. Threads: any.
int32_t chariot_object_create(const chariot_client *client,
                              const void *key,
                              size_t key_len,
                              size_t len,
                              const chariot_set_options *options,
                              chariot_object **object);

// Opens objects; null for what was not found. `wait_us`: how long to wait for those that do not
// exist yet. Threads: any.
int32_t chariot_mget_object(const chariot_client *client,
                            const chariot_bytes *keys,
                            size_t count,
                            uint64_t wait_us,
                            chariot_object **objects,
                            int32_t *statuses);

// The length of an object in bytes; 0 for null. Threads: the one that has the object.
size_t chariot_object_len(const chariot_object *object);

// The bytes of an object, valid until it is written, published, invalidated or released; null
// for null and when the bytes are gone. Threads: the one that has the object.
const void *chariot_object_data(const chariot_object *object);

// Stores the address of the bytes of an object, to be written; others see them after the next
// publish. What was published stays as it is: the object takes new memory with a copy.
// Threads: the one that has the object.
int32_t chariot_object_data_mut(chariot_object *object, void **data);

// Makes the bytes the object's value; may be repeated. The nested keys live at least as long as
// this version does. Stores the version (null: not wanted). `CHARIOT_SEALED`: nothing was changed.
// Threads: the one that has the object.
int32_t chariot_object_publish(chariot_object *object,
                               const chariot_bytes *nested,
                               size_t nested_count,
                               uint64_t *version);

// Publishes, and ends all change: later publishes by anybody are `CHARIOT_SEALED` for as long as
// the value exists. Threads: the one that has the object.
int32_t chariot_object_seal(chariot_object *object,
                            const chariot_bytes *nested,
                            size_t nested_count,
                            uint64_t *version);

// Gives the bytes up: what is unpublished is lost, the published value stays in the cache.
// Threads: the one that has the object.
int32_t chariot_object_invalidate(chariot_object *object);

// Takes the object's latch, one of `CHARIOT_LATCH_*`; `CHARIOT_TIMEOUT` when it was not free in
// `wait_us`. Threads: the one that has the object.
int32_t chariot_object_latch(chariot_object *object, uint8_t kind, uint64_t wait_us);

// Releases the latch of that kind that the object took last; `CHARIOT_NOT_FOUND` when it holds
// none. Threads: the one that has the object.
int32_t chariot_object_unlatch(chariot_object *object, uint8_t kind);

// Releases an object and its latches; null is ignored. Threads: the one that has the object.
void chariot_object_release(chariot_object *object);

// Adds a reference of this client to each key; keys need not exist yet. What is referred to is
// neither evicted nor deleted. Threads: any.
int32_t chariot_increase_refs(const chariot_client *client,
                              const chariot_bytes *keys,
                              size_t count,
                              int32_t *statuses);

// Drops a reference of this client to each key; the last one of all deletes the object. A key
// without one is no error. Threads: any.
int32_t chariot_decrease_refs(const chariot_client *client,
                              const chariot_bytes *keys,
                              size_t count,
                              int32_t *statuses);

// Stores how many clients refer to a key. Threads: any.
int32_t chariot_global_refs(const chariot_client *client,
                            const void *key,
                            size_t key_len,
                            uint64_t *clients);

// Stores 1 to 8 values, all or none, only if none of the keys has a value (else
// `CHARIOT_EXISTS`). `CHARIOT_TIMEOUT`, `CHARIOT_RESTARTING`: unknown, but all or nothing.
// Threads: any.
int32_t chariot_mset_tx(const chariot_client *client,
                        const chariot_bytes *keys,
                        const chariot_bytes *values,
                        size_t count,
                        const chariot_set_options *options);

// Makes the device calls of a client, and stores them, to be closed with `chariot_hetero_close`;
// null on failure. `backend` is one of `CHARIOT_BACKEND_*`. A machine without cards is no failure
// here: the calls that need one answer `CHARIOT_NOT_SUPPORTED`, and say what is missing.
// Threads: any.
int32_t chariot_hetero_open(const chariot_client *client, uint8_t backend, chariot_hetero **hetero);

// Closes the device calls; null is ignored. Waits for asynchronous copies under way; objects that
// this client's cards provided are provided no longer. The client stays open. Threads: any, after
// all other calls on it have returned.
void chariot_hetero_close(chariot_hetero *hetero);

// Stores which backend the cards have, one of `CHARIOT_BACKEND_*`. `CHARIOT_NOT_SUPPORTED`: none;
// `chariot_last_error` says what is missing. Threads: any.
int32_t chariot_hetero_backend(const chariot_hetero *hetero, uint8_t *backend);

// Copies objects of one card into the cache, a status each: `CHARIOT_EXISTS` for a key that has a
// value, which stays. At most 10,000 keys, all lists on one card. Statuses as `chariot_set`. The
// card's own work on the memory must be over (synchronise its streams). Threads: any.
int32_t chariot_mset_d2h(const chariot_hetero *hetero,
                         const chariot_bytes *keys,
                         const chariot_blob_list *lists,
                         size_t count,
                         const chariot_set_options *options,
                         int32_t *statuses);

// Copies objects of the cache into one card, a status each: `CHARIOT_NOT_FOUND` is a miss,
// `CHARIOT_INVALID_ARGUMENT` an object of other blobs, whose memory is as it was. Ranges are not
// taken. At most 10,000 keys, all lists on one card. Threads: any.
int32_t chariot_mget_h2d(const chariot_hetero *hetero,
                         const chariot_bytes *keys,
                         const chariot_blob_list *lists,
                         size_t count,
                         const chariot_get_options *options,
                         int32_t *statuses);

// As `chariot_mset_d2h`, on another thread, in the order of the calls; deadlines count from now.
// Stores a future, to be freed; null on failure. `CHARIOT_BUSY`: 256 calls wait. Threads: any.
int32_t chariot_mset_d2h_async(const chariot_hetero *hetero,
                               const chariot_bytes *keys,
                               const chariot_blob_list *lists,
                               size_t count,
                               const chariot_set_options *options,
                               chariot_future **future);

// As `chariot_mget_h2d`, on another thread, in the order of the calls. Stores a future, to be
// freed; null on failure. `CHARIOT_BUSY`: 256 calls wait. Threads: any.
int32_t chariot_mget_h2d_async(const chariot_hetero *hetero,
                               const chariot_bytes *keys,
                               const chariot_blob_list *lists,
                               size_t count,
                               const chariot_get_options *options,
                               chariot_future **future);

// Stores the lengths of an object's blobs, at most `room` of them, and how many there are (0 on
// failure). `of_card` is 1 for an object that cards provide, 0 for one of the cache.
// `CHARIOT_NOT_FOUND` is a miss; `CHARIOT_INVALID_ARGUMENT`: the value is no object of blobs.
// Threads: any.
int32_t chariot_blob_lens(const chariot_hetero *hetero,
                          const void *key,
                          size_t key_len,
                          uint8_t of_card,
                          uint64_t *lens,
                          size_t room,
                          size_t *count);

// Offers objects of a card to all others of this host until they are deleted, a status each:
// `CHARIOT_EXISTS` where a key is in use. Threads: any.
int32_t chariot_dev_mset(const chariot_hetero *hetero,
                         const chariot_bytes *keys,
                         const chariot_blob_list *lists,
                         size_t count,
                         int32_t *statuses);

// Gets objects of other cards, a status each: `CHARIOT_NOT_FOUND` where nobody provides one
// within `wait_us` microseconds; a transfer that has begun may take a minute more. What was got is
// provided to others, as by `chariot_dev_mset`. Threads: any.
int32_t chariot_dev_mget(const chariot_hetero *hetero,
                         const chariot_bytes *keys,
                         const chariot_blob_list *lists,
                         size_t count,
                         uint64_t wait_us,
                         int32_t *statuses);

// Offers objects to one receiver each, and stores a future each, over when its receiver has it;
// null where the status says that it could not be offered. Threads: any.
int32_t chariot_dev_publish(const chariot_hetero *hetero,
                            const chariot_bytes *keys,
                            const chariot_blob_list *lists,
                            size_t count,
                            chariot_future **futures,
                            int32_t *statuses);

// Receives objects that were published, and stores one future for all of them; null on failure.
// It waits 20 s for a single object, 60 s for several. `CHARIOT_BUSY`: 256 calls are under way.
// Threads: any.
int32_t chariot_dev_subscribe(const chariot_hetero *hetero,
                              const chariot_bytes *keys,
                              const chariot_blob_list *lists,
                              size_t count,
                              chariot_future **future);

// Removes objects from all cards, a status each; one that was not there is `CHARIOT_OK`. Transfers
// under way come to their end, and a card of another process that has a copy of its own hears of
// it a moment later. Threads: any.
int32_t chariot_dev_delete(const chariot_hetero *hetero,
                           const chariot_bytes *keys,
                           size_t count,
                           int32_t *statuses);

// Provides objects no longer from this client's cards, a status each; returns when nothing is sent
// from their memory any more. Threads: any.
int32_t chariot_dev_local_delete(const chariot_hetero *hetero,
                                 const chariot_bytes *keys,
                                 size_t count,
                                 int32_t *statuses);

// As `chariot_dev_delete`, on another thread. Stores a future; null on failure. `CHARIOT_BUSY`:
// 256 calls are under way. Threads: any.
int32_t chariot_dev_delete_async(const chariot_hetero *hetero,
                                 const chariot_bytes *keys,
                                 size_t count,
                                 chariot_future **future);

// How many keys a future is about; 0 for null. Threads: any.
size_t chariot_future_count(const chariot_future *future);

// Waits for at most `timeout_us` microseconds and stores a status for each key.
// `CHARIOT_TIMEOUT`: it is not over by then; wait again. What it returns otherwise is of the call
// as a whole. May be asked again. Threads: any.
int32_t chariot_future_wait(const chariot_future *future,
                            uint64_t timeout_us,
                            int32_t *statuses,
                            size_t count);

// Frees a future; null is ignored. The call goes on, and its memory must stand until it is over:
// wait for it first. Threads: any, after all other calls on it have returned.
void chariot_future_free(chariot_future *future);

// The words of this thread's last failure; empty when there was none.
//
// The string belongs to the library. It stays until the next failure in this thread, or until the
// thread ends. Never null. Threads: each sees its own.
const char *chariot_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CHARIOT_H */
