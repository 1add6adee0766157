/* Many lives of views, buffers and clients: memory and descriptors do not grow. */
#include <dirent.h>
#include <string.h>

#include <chariot.h>

#include "check.h"

static long descriptors(void)
{
    long count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL) {
        ++count;
    }
    closedir(directory);
    return count;
}

/* A field of /proc/self/status in KiB. */
static long kib(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file != NULL);
    char line[256];
    long value = -1;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0) {
            value = atol(line + strlen(name));
        }
    }
    fclose(file);
    CHECK(value >= 0);
    return value;
}

static void bytes(chariot_client *client, long cycles)
{
    for (long cycle = 0; cycle < cycles; ++cycle) {
        chariot_buffer *buffer = NULL;
        ENDS(chariot_create(client, "cycle", 5, 4096, NULL, &buffer), CHARIOT_OK);
        if (cycle % 2 == 0) {
            memset(chariot_buffer_data(buffer), 'x', 4096);
            ENDS(chariot_buffer_publish(buffer, NULL), CHARIOT_OK);
        } else {
            chariot_buffer_discard(buffer);
        }
        chariot_view *view = NULL;
        ENDS(chariot_get_view(client, "cycle", 5, NULL, &view), CHARIOT_OK);
#ifndef LEAK
        chariot_view_release(view);
#endif
        ENDS(chariot_get_view(client, "none", 4, NULL, &view), CHARIOT_NOT_FOUND);
    }
}

static void clients(const chariot_connect_options *options, long cycles)
{
    for (long cycle = 0; cycle < cycles; ++cycle) {
        chariot_client *client = NULL;
        ENDS(chariot_client_connect(options, &client), CHARIOT_OK);
        ENDS(chariot_exist(client, "cycle", 5), CHARIOT_OK);
        chariot_client_close(client);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    const long buffer_cycles = atol(argv[2]);
    const long client_cycles = atol(argv[3]);
    chariot_connect_options options;
    chariot_connect_options_init(&options);
    options.target = argv[1];
    chariot_client *client = NULL;
    ENDS(chariot_client_connect(&options, &client), CHARIOT_OK);
    /* Warm: what is made once is not a leak. */
    bytes(client, buffer_cycles / 10 + 100);
    clients(&options, client_cycles / 10 + 10);
    const long open = descriptors();
    const long anonymous = kib("RssAnon:");
    const long mapped = kib("VmSize:");
    bytes(client, buffer_cycles);
    clients(&options, client_cycles);
    printf("%ld buffers and views, %ld clients: descriptors %ld to %ld, RssAnon %ld to %ld KiB, "
           "VmSize %ld to %ld KiB\n",
           buffer_cycles, client_cycles, open, descriptors(), anonymous, kib("RssAnon:"), mapped,
           kib("VmSize:"));
    CHECK(descriptors() == open);
    /* Less than three bytes a cycle of 100,000 could hide in this. */
    CHECK(kib("RssAnon:") <= anonymous + 256);
    CHECK(kib("VmSize:") <= mapped + 1024);
    chariot_client_close(client);
    return 0;
}
