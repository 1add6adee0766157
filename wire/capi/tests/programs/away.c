/* A daemon that is killed and started again: errors within the deadline, then recovery. Waits for
 * a line on its standard input between the steps. */
#include <string.h>
#include <time.h>

#include <chariot.h>

#include "check.h"

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void step(const char *name)
{
    printf("%s\n", name);
    fflush(stdout);
    char line[16];
    CHECK(fgets(line, sizeof line, stdin) != NULL);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    chariot_connect_options options;
    chariot_connect_options_init(&options);
    options.target = argv[1];
    options.request_timeout_us = 1000000;
    chariot_client *client = NULL;
    ENDS(chariot_client_connect(&options, &client), CHARIOT_OK);
    ENDS(chariot_set(client, "k", 1, "v", 1, NULL, NULL), CHARIOT_OK);
    chariot_view *view = NULL;
    ENDS(chariot_get_view(client, "k", 1, NULL, &view), CHARIOT_OK);
    step("kill");

    const double before = now();
    const int32_t status = chariot_set(client, "k", 1, "v", 1, NULL, NULL);
    CHECK(status == CHARIOT_RESTARTING || status == CHARIOT_TIMEOUT);
    ENDS(chariot_exist(client, "k", 1), CHARIOT_NOT_FOUND);
    /* The deadline of one call, and generously what a busy machine adds. */
    CHECK(now() - before < 4.0);
    CHECK(chariot_view_len(view) == 1 && *(const char *)chariot_view_data(view) == 'v');
    step("restart");

    const double begin = now();
    while (chariot_set(client, "k", 1, "w", 1, NULL, NULL) != CHARIOT_OK) {
        CHECK(now() - begin < 20.0);
        const struct timespec pause = {0, 5000000};
        nanosleep(&pause, NULL);
    }
    ENDS(chariot_exist(client, "k", 1), CHARIOT_OK);
    chariot_view_release(view);
    chariot_client_close(client);
    return 0;
}
