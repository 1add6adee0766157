// The place of the first release.
#ifndef DATASYSTEM_HETERO_CACHE_FUTURE_H
#define DATASYSTEM_HETERO_CACHE_FUTURE_H

#include "datasystem/hetero/future.h"

#endif
