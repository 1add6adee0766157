// The place of the first release.
#ifndef DATASYSTEM_OBJECT_CACHE_OBJECT_CLIENT_H
#define DATASYSTEM_OBJECT_CACHE_OBJECT_CLIENT_H

#include "datasystem/object_client.h"

#endif
