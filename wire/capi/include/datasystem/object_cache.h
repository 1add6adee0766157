// All about objects.
#ifndef DATASYSTEM_OBJECT_CACHE_H
#define DATASYSTEM_OBJECT_CACHE_H

#include "datasystem/object_client.h"
#include "datasystem/hetero_client.h"
#include "datasystem/context/context.h"

#endif
