/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);       \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

/* A call and the status that it must end with; says which one came instead. */
#define ENDS(call, wanted)                                                                \
    do {                                                                                  \
        const int32_t status_of_call = (call);                                            \
        if (status_of_call != (wanted)) {                                                 \
            fprintf(stderr, "%s:%d: %s: %s (%d), last error: %s\n", __FILE__, __LINE__,   \
                    #call, chariot_status_name(status_of_call), (int)status_of_call,      \
                    chariot_last_error());                                                \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

#endif
