/* A complete program in C: writes a value, reads it in place, deletes it.
 * Build: cc hello.c $(pkg-config --cflags --libs chariot) -o hello
 * Run:   ./hello 127.0.0.1:31501 */
#include <stdio.h>
#include <string.h>

#include <chariot.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, chariot_last_error());
    return 1;
}

int main(int argc, char **argv)
{
    if (chariot_abi_version() < CHARIOT_ABI_VERSION) {
        fprintf(stderr, "libchariot is older than the header\n");
        return 1;
    }
    chariot_connect_options options;
    chariot_connect_options_init(&options);
    options.target = argc > 1 ? argv[1] : "127.0.0.1:31501";
    chariot_client *client = NULL;
    if (chariot_client_connect(&options, &client) != CHARIOT_OK) {
        return fail("connect");
    }

    const char key[] = "hello";
    const char value[] = "from C";
    if (chariot_set(client, key, strlen(key), value, strlen(value), NULL, NULL) != CHARIOT_OK) {
        return fail("set");
    }

    chariot_view *view = NULL;
    if (chariot_get_view(client, key, strlen(key), NULL, &view) != CHARIOT_OK) {
        return fail("view");
    }
    printf("%.*s\n", (int)chariot_view_len(view), (const char *)chariot_view_data(view));
    chariot_view_release(view);

    /* Many keys: a status each. */
    chariot_bytes keys[2] = {{key, strlen(key)}, {"nobody", 6}};
    int32_t statuses[2];
    if (chariot_mexist(client, keys, 2, statuses) != CHARIOT_OK) {
        return fail("mexist");
    }
    printf("%s %s\n", chariot_status_name(statuses[0]), chariot_status_name(statuses[1]));

    if (chariot_delete(client, key, strlen(key)) != CHARIOT_OK) {
        return fail("delete");
    }
    chariot_client_close(client);
    return 0;
}
