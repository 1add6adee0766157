/* The same calls as per_call.rs; per_call.sh compares their instructions. */
#include <stdlib.h>

#include <chariot.h>

#define MUST(call)             \
    do {                       \
        if ((call) != 0) {     \
            return 1;          \
        }                      \
    } while (0)

int main(int argc, char **argv)
{
    if (argc != 4) {
        return 2;
    }
    const long calls = atol(argv[3]);
    static char value[4096];
    chariot_connect_options options;
    chariot_connect_options_init(&options);
    options.target = argv[1];
    chariot_client *client = NULL;
    MUST(chariot_client_connect(&options, &client));
    MUST(chariot_set(client, "per-call", 8, value, sizeof value, NULL, NULL));
    const char operation = argv[2][0];
    for (long call = 0; call < calls; ++call) {
        if (operation == 'e') {
            MUST(chariot_exist(client, "per-call", 8));
        } else if (operation == 'g') {
            size_t len = 0;
            MUST(chariot_get(client, "per-call", 8, value, sizeof value, NULL, &len));
        } else {
            chariot_view *view = NULL;
            MUST(chariot_get_view(client, "per-call", 8, NULL, &view));
            chariot_view_release(view);
        }
    }
    chariot_client_close(client);
    return 0;
}
