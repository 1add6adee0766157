/* Objects of device memory from C: cards.c HOST:PORT BACKEND ROLE. Card memory is this process's
   own with the backend host, else that of the library in ASCEND_RT_LIB_DIR, which nobody here can
   read. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "chariot.h"

enum { BLOBS = 3 };
static const size_t sizes[BLOBS] = {1, 73728, 300001};

/* What a framework would call. */
static struct {
  int (*init)(const char *);
  int (*set_device)(int);
  int (*allocate)(void **, size_t, int);
  int (*copy)(void *, size_t, const void *, size_t, int);
} library;

static void load(int card) {
  const char *directory = getenv("ASCEND_RT_LIB_DIR");
  CHECK(directory);
  char path[4096];
  snprintf(path, sizeof path, "%s/libascendcl.so", directory);
  void *loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(loaded);
  *(void **)&library.init = dlsym(loaded, "aclInit");
  *(void **)&library.set_device = dlsym(loaded, "aclrtSetDevice");
  *(void **)&library.allocate = dlsym(loaded, "aclrtMalloc");
  *(void **)&library.copy = dlsym(loaded, "aclrtMemcpy");
  CHECK(library.init && library.set_device && library.allocate && library.copy);
  CHECK(library.init(NULL) == 0);
  CHECK(library.set_device(card) == 0);
}

static void *allocate(size_t size) {
  void *memory = NULL;
  if (library.allocate) {
    CHECK(library.allocate(&memory, size, 0) == 0);
  } else {
    memory = calloc(size, 1);
  }
  CHECK(memory);
  return memory;
}

static unsigned char byte(unsigned seed, size_t at) {
  return (unsigned char)(seed * 131 + at * 7 + (at >> 8));
}

static void transfer(void *to, const void *from, size_t size, int kind) {
  if (library.copy) {
    CHECK(library.copy(to, size, from, size, kind) == 0);
  } else {
    memcpy(to, from, size);
  }
}

/* One object: its blobs, filled from a seed or empty. */
struct object {
  chariot_blob blobs[BLOBS];
};

static struct object empty(void) {
  struct object object;
  for (int at = 0; at < BLOBS; at++) {
    object.blobs[at].address = (uint64_t)(uintptr_t)allocate(sizes[at]);
    object.blobs[at].len = sizes[at];
  }
  return object;
}

static struct object filled(unsigned seed) {
  struct object object = empty();
  for (int at = 0; at < BLOBS; at++) {
    unsigned char *bytes = malloc(sizes[at]);
    for (size_t byte_at = 0; byte_at < sizes[at]; byte_at++) {
      bytes[byte_at] = byte(seed + at, byte_at);
    }
    transfer((void *)(uintptr_t)object.blobs[at].address, bytes, sizes[at], 1);
    free(bytes);
  }
  return object;
}

static int holds(const struct object *object, unsigned seed) {
  int same = 1;
  for (int at = 0; at < BLOBS; at++) {
    unsigned char *bytes = malloc(sizes[at]);
    transfer(bytes, (void *)(uintptr_t)object->blobs[at].address, sizes[at], 2);
    for (size_t byte_at = 0; byte_at < sizes[at]; byte_at++) {
      same &= bytes[byte_at] == byte(seed + at, byte_at);
    }
    free(bytes);
  }
  return same;
}

static chariot_blob_list list(int card, const struct object *object) {
  chariot_blob_list made = {.card = card, .reserved = 0, .blobs = object->blobs, .count = BLOBS};
  return made;
}

static chariot_bytes key(const char *text) {
  chariot_bytes made = {.data = text, .len = strlen(text)};
  return made;
}

static void copies(const chariot_hetero *hetero, int card) {
  struct object first = filled(1), second = filled(2), back[3] = {empty(), empty(), empty()};
  chariot_bytes keys[3] = {key("c/1"), key("c/2"), key("c/none")};
  chariot_blob_list from[2] = {list(card, &first), list(card, &second)};
  chariot_blob_list to[3] = {list(card, &back[0]), list(card, &back[1]), list(card, &back[2])};
  int32_t statuses[3];
  CHECK(chariot_mset_d2h(hetero, keys, from, 2, NULL, statuses) == CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_OK && statuses[1] == CHARIOT_OK);
  CHECK(chariot_mget_h2d(hetero, keys, to, 3, NULL, statuses) == CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_OK && statuses[1] == CHARIOT_OK && statuses[2] == CHARIOT_NOT_FOUND);
  CHECK(holds(&back[0], 1) && holds(&back[1], 2));

  /* A key that has a value keeps it. */
  CHECK(chariot_mset_d2h(hetero, keys, &from[1], 1, NULL, statuses) == CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_EXISTS);
  CHECK(chariot_mget_h2d(hetero, keys, to, 1, NULL, statuses) == CHARIOT_OK && holds(&back[0], 1));

  uint64_t lens[BLOBS] = {0};
  size_t count = 0;
  ENDS(chariot_blob_lens(hetero, "c/1", 3, 0, lens, BLOBS, &count), CHARIOT_OK);
  CHECK(count == BLOBS);
  for (int at = 0; at < BLOBS; at++) CHECK(lens[at] == sizes[at]);
  ENDS(chariot_blob_lens(hetero, "c/none", 6, 0, lens, BLOBS, &count), CHARIOT_NOT_FOUND);
  CHECK(count == 0);

  /* On another thread. */
  chariot_future *future = NULL;
  chariot_bytes later = key("c/later");
  CHECK(chariot_mset_d2h_async(hetero, &later, from, 1, NULL, &future) == CHARIOT_OK);
  CHECK(chariot_future_count(future) == 1);
  CHECK(chariot_future_wait(future, 60000000, statuses, 2) == CHARIOT_INVALID_ARGUMENT);
  ENDS(chariot_future_wait(future, 60000000, statuses, 1), CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_OK);
  chariot_future_free(future);
  CHECK(chariot_mget_h2d_async(hetero, &later, &to[2], 1, NULL, &future) == CHARIOT_OK);
  ENDS(chariot_future_wait(future, 60000000, statuses, 1), CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_OK);
  CHECK(holds(&back[2], 1));
  chariot_future_free(future);

  /* Waits for a key that nobody writes: the future's time is over before the call's. */
  chariot_get_options patient;
  chariot_get_options_init(&patient);
  patient.wait_us = 3000000;
  chariot_bytes never = key("c/never");
  CHECK(chariot_mget_h2d_async(hetero, &never, &to[2], 1, &patient, &future) == CHARIOT_OK);
  CHECK(chariot_future_wait(future, 1000, statuses, 1) == CHARIOT_TIMEOUT);
  ENDS(chariot_future_wait(future, 60000000, statuses, 1), CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_NOT_FOUND);
  chariot_future_free(future);
  chariot_future_free(NULL);

  /* What is not to be: nothing is done, and the words say why. */
  struct object short_one = first;
  short_one.blobs[1].len -= 1;
  chariot_blob_list odd = list(card, &short_one);
  CHECK(chariot_mget_h2d(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_INVALID_ARGUMENT && strstr(chariot_last_error(), "not equal"));
  odd.count = 2;
  CHECK(chariot_mget_h2d(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_OK);
  ENDS(statuses[0], CHARIOT_INVALID_ARGUMENT);
  CHECK(strstr(chariot_last_error(), "Blobs count mismatch"));
  odd = from[0];
  odd.count = 0;
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  odd.count = (size_t)-1;
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  odd = from[0];
  odd.blobs = NULL;
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  short_one.blobs[1].len = UINT64_MAX;
  odd = list(card, &short_one);
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  short_one = first;
  short_one.blobs[0].address = 0;
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  odd = list(1000, &first);
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(strstr(chariot_last_error(), "1000"));
  odd = list(-1, &first);
  CHECK(chariot_mset_d2h(hetero, keys, &odd, 1, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  chariot_blob_list two[2] = {list(0, &first), list(1, &second)};
  CHECK(chariot_mset_d2h(hetero, keys, two, 2, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_mset_d2h(hetero, NULL, from, 2, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_mset_d2h(hetero, keys, NULL, 2, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_mset_d2h(hetero, keys, from, 2, NULL, NULL) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_mset_d2h(hetero, keys, from, 0, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_mset_d2h(NULL, keys, from, 2, NULL, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_mget_h2d_async(hetero, keys, to, 1, NULL, NULL) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_dev_mset(hetero, keys, from, 0, statuses) == CHARIOT_INVALID_ARGUMENT);
  CHECK(chariot_dev_delete(hetero, keys, (size_t)-1, statuses) == CHARIOT_TOO_LARGE);

  /* Memory of the host beside the cards. */
  struct object plain = first;
  unsigned char here[9] = "in memory";
  plain.blobs[0].address = (uint64_t)(uintptr_t)here;
  plain.blobs[0].len = sizeof here;
  chariot_blob_list host = list(CHARIOT_CARD_HOST, &plain);
  host.count = 1;
  chariot_bytes host_key = key("c/host");
  ENDS(chariot_mset_d2h(hetero, &host_key, &host, 1, NULL, statuses), CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_OK);
  memset(here, 0, sizeof here);
  ENDS(chariot_mget_h2d(hetero, &host_key, &host, 1, NULL, statuses), CHARIOT_OK);
  CHECK(statuses[0] == CHARIOT_OK);
  CHECK(memcmp(here, "in memory", sizeof here) == 0);
}

static void hear(const char *word) {
  char line[64] = "";
  CHECK(fgets(line, sizeof line, stdin));
  line[strcspn(line, "\n")] = 0;
  CHECK(strcmp(line, word) == 0);
}

static void say(const char *word) {
  puts(word);
  fflush(stdout);
}

static void provide(const chariot_hetero *hetero, int card) {
  struct object kept = filled(10), moved = filled(20);
  chariot_bytes kept_key = key("kept"), moved_key = key("moved");
  chariot_blob_list kept_list = list(card, &kept), moved_list = list(card, &moved);
  int32_t status = -1;
  ENDS(chariot_dev_mset(hetero, &kept_key, &kept_list, 1, &status), CHARIOT_OK);
  CHECK(status == CHARIOT_OK);
  ENDS(chariot_dev_mset(hetero, &kept_key, &kept_list, 1, &status), CHARIOT_OK);
  CHECK(status == CHARIOT_EXISTS);
  chariot_future *sent = NULL;
  CHECK(chariot_dev_publish(hetero, &moved_key, &moved_list, 1, &sent, &status) == CHARIOT_OK);
  CHECK(status == CHARIOT_OK && sent);
  CHECK(chariot_future_wait(sent, 1000, &status, 1) == CHARIOT_TIMEOUT);
  say("offered");
  CHECK(chariot_future_wait(sent, 60000000, &status, 1) == CHARIOT_OK && status == CHARIOT_OK);
  chariot_future_free(sent);
  hear("received");
  CHECK(chariot_dev_delete(hetero, &kept_key, 1, &status) == CHARIOT_OK && status == CHARIOT_OK);
  say("deleted");
  hear("end");
}

static void receive(const chariot_hetero *hetero, int card) {
  struct object back = empty(), into = empty(), none = empty();
  chariot_bytes kept_key = key("kept"), moved_key = key("moved");
  chariot_blob_list back_list = list(card, &back), into_list = list(card, &into);
  chariot_blob_list none_list = list(card, &none);
  int32_t status = -1;
  ENDS(chariot_dev_mget(hetero, &kept_key, &back_list, 1, 0, &status), CHARIOT_OK);
  CHECK(status == CHARIOT_OK);
  CHECK(holds(&back, 10));
  uint64_t lens[BLOBS];
  size_t count = 0;
  ENDS(chariot_blob_lens(hetero, "kept", 4, 1, lens, BLOBS, &count), CHARIOT_OK);
  CHECK(count == BLOBS);
  chariot_future *future = NULL;
  CHECK(chariot_dev_subscribe(hetero, &moved_key, &into_list, 1, &future) == CHARIOT_OK);
  CHECK(chariot_future_wait(future, 60000000, &status, 1) == CHARIOT_OK && status == CHARIOT_OK);
  CHECK(holds(&into, 20));
  chariot_future_free(future);
  say("received");
  hear("deleted");
  /* A card that has a copy hears of the deletion a moment later; until then it serves itself. */
  do {
    CHECK(chariot_dev_mget(hetero, &kept_key, &none_list, 1, 0, &status) == CHARIOT_OK);
    CHECK(status == CHARIOT_NOT_FOUND || (status == CHARIOT_OK && holds(&none, 10)));
  } while (status != CHARIOT_NOT_FOUND);
  ENDS(chariot_dev_local_delete(hetero, &kept_key, 1, &status), CHARIOT_OK);
  CHECK(status == CHARIOT_OK);
  CHECK(chariot_dev_delete_async(hetero, &kept_key, 1, &future) == CHARIOT_OK);
  CHECK(chariot_future_wait(future, 60000000, &status, 1) == CHARIOT_OK && status == CHARIOT_OK);
  chariot_future_free(future);
  say("end");
}

int main(int argc, char **argv) {
  CHECK(argc == 4);
  int is_host = strcmp(argv[2], "host") == 0;
  int card = strcmp(argv[3], "provide") == 0 ? 0 : 1;
  chariot_connect_options options;
  chariot_connect_options_init(&options);
  options.target = argv[1];
  options.request_timeout_us = 60000000;
  chariot_client *client = NULL;
  CHECK(chariot_client_connect(&options, &client) == CHARIOT_OK);
  chariot_hetero *hetero = NULL;
  CHECK(chariot_hetero_open(client, 77, &hetero) == CHARIOT_INVALID_ARGUMENT && !hetero);
  ENDS(chariot_hetero_open(NULL, CHARIOT_BACKEND_HOST, &hetero), CHARIOT_INVALID_ARGUMENT);
  CHECK(!hetero);
  uint8_t backend = is_host ? CHARIOT_BACKEND_HOST : CHARIOT_BACKEND_ASCEND, found = 99;
  if (strcmp(argv[3], "without") == 0) {
    /* No library there: the client works, and what needs a card says what is missing. */
    CHECK(chariot_hetero_open(client, CHARIOT_BACKEND_ASCEND, &hetero) == CHARIOT_OK && hetero);
    CHECK(chariot_hetero_backend(hetero, &found) == CHARIOT_NOT_SUPPORTED && found == 99);
    CHECK(strstr(chariot_last_error(), "libascendcl.so"));
    CHECK(strstr(chariot_last_error(), "ASCEND_RT_LIB_DIR"));
  } else {
    if (!is_host) load(card);
    CHECK(chariot_hetero_open(client, backend, &hetero) == CHARIOT_OK && hetero);
    CHECK(chariot_hetero_backend(hetero, &found) == CHARIOT_OK && found == backend);
    if (strcmp(argv[3], "copies") == 0) copies(hetero, card);
    if (strcmp(argv[3], "provide") == 0) provide(hetero, card);
    if (strcmp(argv[3], "receive") == 0) receive(hetero, card);
  }
  chariot_hetero_close(hetero);
  chariot_hetero_close(NULL);
  chariot_client_close(client);
  puts("ok");
  return 0;
}
