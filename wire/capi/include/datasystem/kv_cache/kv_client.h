// The place of the first release.
#ifndef DATASYSTEM_KV_CACHE_KV_CLIENT_H
#define DATASYSTEM_KV_CACHE_KV_CLIENT_H

#include "datasystem/kv_client.h"

#endif
