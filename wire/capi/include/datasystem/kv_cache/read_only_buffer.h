// The place of the first release.
#ifndef DATASYSTEM_KV_CACHE_READ_ONLY_BUFFER_H
#define DATASYSTEM_KV_CACHE_READ_ONLY_BUFFER_H

#include "datasystem/kv/read_only_buffer.h"

#endif
