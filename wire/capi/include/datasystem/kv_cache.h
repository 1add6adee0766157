// All about keys and values.
#ifndef DATASYSTEM_KV_CACHE_H
#define DATASYSTEM_KV_CACHE_H

#include "datasystem/kv_client.h"
#include "datasystem/context/context.h"

#endif
