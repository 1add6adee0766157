/* Every function of chariot.h once with sense, and with arguments that have none. */
#include <stdint.h>
#include <string.h>

#include <chariot.h>

#include "check.h"

#define KEY(text) text, strlen(text)

static chariot_client *client;

static void single(void)
{
    chariot_set_options set;
    chariot_set_options_init(&set);
    uint64_t first = 0;
    uint64_t second = 0;
    ENDS(chariot_set(client, KEY("one"), "value", 5, NULL, &first), CHARIOT_OK);
    ENDS(chariot_set(client, KEY("one"), "VALUE", 5, &set, &second), CHARIOT_OK);
    CHECK(second > first);
    set.if_absent = 1;
    ENDS(chariot_set(client, KEY("one"), "other", 5, &set, NULL), CHARIOT_EXISTS);

    char buffer[8] = "........";
    size_t len = 99;
    ENDS(chariot_get(client, KEY("one"), buffer, sizeof buffer, NULL, &len), CHARIOT_OK);
    CHECK(len == 5 && memcmp(buffer, "VALUE...", 8) == 0);
    ENDS(chariot_get(client, KEY("one"), buffer, 4, NULL, &len), CHARIOT_INVALID_ARGUMENT);
    ENDS(chariot_get(client, KEY("none"), buffer, 8, NULL, &len), CHARIOT_NOT_FOUND);

    chariot_get_options get;
    chariot_get_options_init(&get);
    get.offset = 1;
    get.len = 3;
    chariot_view *view = NULL;
    ENDS(chariot_get_view(client, KEY("one"), &get, &view), CHARIOT_OK);
    CHECK(chariot_view_len(view) == 3 && memcmp(chariot_view_data(view), "ALU", 3) == 0);
    CHECK(chariot_view_version(view) == second);
    /* A view keeps its bytes. */
    ENDS(chariot_delete(client, KEY("one")), CHARIOT_OK);
    ENDS(chariot_delete(client, KEY("one")), CHARIOT_NOT_FOUND);
    CHECK(memcmp(chariot_view_data(view), "ALU", 3) == 0);
    chariot_view_release(view);
    get.len = 9;
    ENDS(chariot_set(client, KEY("one"), "value", 5, NULL, NULL), CHARIOT_OK);
    ENDS(chariot_get_view(client, KEY("one"), &get, &view), CHARIOT_RANGE_INVALID);
    CHECK(view == NULL);
    get.offset = 0;
    get.len = UINT64_MAX;
    get.wait_us = 20000;
    ENDS(chariot_get_view(client, KEY("none"), &get, &view), CHARIOT_NOT_FOUND);

    uint64_t size = 0;
    ENDS(chariot_exist(client, KEY("one")), CHARIOT_OK);
    ENDS(chariot_exist(client, KEY("none")), CHARIOT_NOT_FOUND);
    CHECK(chariot_size(client, KEY("one"), &size) == CHARIOT_OK && size == 5);
    ENDS(chariot_expire(client, KEY("one"), 60000), CHARIOT_OK);
    ENDS(chariot_expire(client, KEY("none"), 60000), CHARIOT_NOT_FOUND);

    chariot_buffer *lent = NULL;
    ENDS(chariot_create(client, KEY("made"), 4, NULL, &lent), CHARIOT_OK);
    CHECK(chariot_buffer_len(lent) == 4);
    memcpy(chariot_buffer_data(lent), "made", 4);
    CHECK(chariot_buffer_publish(lent, &first) == CHARIOT_OK && first != 0);
    ENDS(chariot_create(client, KEY("unmade"), 4, NULL, &lent), CHARIOT_OK);
    chariot_buffer_discard(lent);
    ENDS(chariot_exist(client, KEY("made")), CHARIOT_OK);
    ENDS(chariot_exist(client, KEY("unmade")), CHARIOT_NOT_FOUND);
}

static void many(void)
{
    chariot_bytes keys[4] = {{"a", 1}, {"b", 1}, {"bad key", 7}, {"c", 1}};
    chariot_bytes values[4] = {{"1", 1}, {"22", 2}, {"x", 1}, {"", 0}};
    int32_t statuses[4];
    uint64_t numbers[4];
    ENDS(chariot_mset(client, keys, values, 4, NULL, statuses, numbers), CHARIOT_OK);
    CHECK(statuses[0] == CHARIOT_OK && numbers[0] != 0);
    CHECK(statuses[1] == CHARIOT_OK);
    CHECK(statuses[2] == CHARIOT_KEY_INVALID && numbers[2] == 0);
    CHECK(statuses[3] != CHARIOT_OK);

    ENDS(chariot_mexist(client, keys, 2, statuses), CHARIOT_OK);
    CHECK(statuses[0] == CHARIOT_OK && statuses[1] == CHARIOT_OK);
    ENDS(chariot_msize(client, keys, 4, numbers, statuses), CHARIOT_OK);
    CHECK(numbers[1] == 2 && numbers[3] == 0 && statuses[3] == CHARIOT_NOT_FOUND);
    size_t count = 9;
    CHECK(chariot_prefix(client, keys, 2, &count) == CHARIOT_OK && count == 2);

    char room[2][4];
    chariot_bytes_mut buffers[2] = {{room[0], 4}, {room[1], 4}};
    size_t lens[2];
    ENDS(chariot_mget(client, keys, 2, buffers, lens, statuses), CHARIOT_OK);
    CHECK(lens[0] == 1 && lens[1] == 2 && memcmp(room[1], "22", 2) == 0);
    chariot_view *views[4];
    ENDS(chariot_mget_view(client, keys, 4, NULL, views, statuses), CHARIOT_OK);
    CHECK(views[0] != NULL && views[1] != NULL && views[2] == NULL && views[3] == NULL);
    CHECK(statuses[2] == CHARIOT_KEY_INVALID && statuses[3] == CHARIOT_NOT_FOUND);
    chariot_views_release(views, 4);

    ENDS(chariot_mexpire(client, keys, 2, 60000, statuses), CHARIOT_OK);
    size_t made[2] = {3, 5};
    chariot_buffer *lent[2];
    ENDS(chariot_mcreate(client, keys, 2, made, NULL, lent, statuses), CHARIOT_OK);
    memset(chariot_buffer_data(lent[0]), 'p', 3);
    memset(chariot_buffer_data(lent[1]), 'q', 5);
    ENDS(chariot_mpublish(lent, 2, statuses, numbers), CHARIOT_OK);
    CHECK(statuses[0] == CHARIOT_OK && statuses[1] == CHARIOT_OK && numbers[1] != 0);
    ENDS(chariot_mdelete(client, keys, 4, statuses), CHARIOT_OK);
    CHECK(statuses[0] == CHARIOT_OK && statuses[3] == CHARIOT_NOT_FOUND);
}

static void senseless(void)
{
    const int32_t invalid = CHARIOT_INVALID_ARGUMENT;
    int32_t status = 7;
    chariot_view *view = NULL;
    chariot_buffer *buffer = NULL;
    chariot_bytes null_key = {NULL, 4};
    ENDS(chariot_set(NULL, KEY("k"), "v", 1, NULL, NULL), invalid);
    CHECK(strstr(chariot_last_error(), "null") != NULL);
    ENDS(chariot_set(client, NULL, 3, "v", 1, NULL, NULL), invalid);
    ENDS(chariot_set(client, KEY("k"), NULL, 3, NULL, NULL), invalid);
    ENDS(chariot_set(client, NULL, 0, "v", 1, NULL, NULL), CHARIOT_KEY_INVALID);
    ENDS(chariot_set(client, "k", SIZE_MAX, "v", 1, NULL, NULL), invalid);
    ENDS(chariot_set(client, KEY("no good"), "v", 1, NULL, NULL), CHARIOT_KEY_INVALID);
    char name[1025];
    memset(name, 'k', sizeof name);
    ENDS(chariot_set(client, name, 1025, "v", 1, NULL, NULL), CHARIOT_KEY_INVALID);
    ENDS(chariot_set(client, name, 1024, "v", 1, NULL, NULL), CHARIOT_OK);
    CHECK(chariot_set(client, KEY("k"), "v", 0, NULL, NULL) != CHARIOT_OK);

    chariot_set_options set;
    memset(&set, 0, sizeof set);
    ENDS(chariot_set(client, KEY("k"), "v", 1, &set, NULL), invalid);
    chariot_set_options_init(&set);
    set.mode = 77;
    ENDS(chariot_set(client, KEY("k"), "v", 1, &set, NULL), invalid);
    set.mode = CHARIOT_MODE_WRITE_THROUGH;
    ENDS(chariot_set(client, KEY("k"), "v", 1, &set, NULL), CHARIOT_NOT_SUPPORTED);
    chariot_set_options_init(&set);
    set.if_absent = 2;
    ENDS(chariot_set(client, KEY("k"), "v", 1, &set, NULL), invalid);

    ENDS(chariot_get_view(client, KEY("k"), NULL, NULL), invalid);
    CHECK(chariot_get_view(NULL, KEY("k"), NULL, &view) == invalid && view == NULL);
    ENDS(chariot_get(client, KEY("one"), NULL, 5, NULL, NULL), invalid);
    ENDS(chariot_create(client, KEY("k"), 1, NULL, NULL), invalid);
    ENDS(chariot_create(client, KEY("k"), SIZE_MAX, NULL, &buffer), CHARIOT_TOO_LARGE);
    CHECK(buffer == NULL);
    ENDS(chariot_buffer_publish(NULL, NULL), invalid);
    CHECK(chariot_buffer_data(NULL) == NULL && chariot_buffer_len(NULL) == 0);
    CHECK(chariot_view_data(NULL) == NULL && chariot_view_len(NULL) == 0);
    ENDS(chariot_mexist(client, NULL, 1, &status), invalid);
    ENDS(chariot_mexist(client, &null_key, 1, &status), invalid);
    ENDS(chariot_mexist(client, &null_key, 1, NULL), invalid);
    ENDS(chariot_mexist(client, &null_key, 100001, &status), CHARIOT_TOO_LARGE);
    CHECK(status == 7);
    ENDS(chariot_mexist(client, NULL, 0, NULL), CHARIOT_OK);
    chariot_view_release(NULL);
    chariot_views_release(NULL, 0);
    chariot_buffer_discard(NULL);
    chariot_client_close(NULL);
    chariot_connect_options_init(NULL);
    ENDS(chariot_client_place(NULL), CHARIOT_PLACE_AWAY);
    ENDS(chariot_client_stats(NULL, NULL), invalid);
    CHECK(strcmp(chariot_status_name(-5), "unknown") == 0);

    chariot_connect_options options;
    chariot_client *none = NULL;
    CHECK(chariot_client_connect(NULL, &none) == invalid && none == NULL);
    chariot_connect_options_init(&options);
    CHECK(chariot_client_connect(&options, &none) == invalid && none == NULL);
    options.target = "\xff\xfe";
    CHECK(chariot_client_connect(&options, &none) == invalid && none == NULL);
    options.target = "127.0.0.1:1";
    ENDS(chariot_client_connect(&options, NULL), invalid);
    CHECK(chariot_client_connect(&options, &none) == CHARIOT_RESTARTING && none == NULL);
    options.remote_connections = 0;
    CHECK(chariot_client_connect(&options, &none) == invalid && none == NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    chariot_connect_options options;
    chariot_connect_options_init(&options);
    options.target = argv[1];
    const int remote = strcmp(argv[2], "remote") == 0;
    options.shared_memory = remote ? CHARIOT_SHARED_MEMORY_NEVER : CHARIOT_SHARED_MEMORY_REQUIRE;
    ENDS(chariot_client_connect(&options, &client), CHARIOT_OK);
    const int32_t place = remote ? CHARIOT_PLACE_TCP : CHARIOT_PLACE_SHARED_MEMORY;
    CHECK(chariot_client_place(client) == place);
    if (!remote) {
        single();
    }
    many();
    senseless();
    chariot_stats stats;
    ENDS(chariot_client_stats(client, &stats), CHARIOT_OK);
    CHECK(stats.hits > 0 && stats.misses > 0);
    chariot_client_close(client);
    return 0;
}
