// The place of the first release.
#ifndef DATASYSTEM_HETERO_CACHE_HETERO_CLIENT_H
#define DATASYSTEM_HETERO_CACHE_HETERO_CLIENT_H

#include "datasystem/hetero_client.h"

#endif
