// The place of the first release.
#ifndef DATASYSTEM_OBJECT_CACHE_OBJECT_ENUM_H
#define DATASYSTEM_OBJECT_CACHE_OBJECT_ENUM_H

#include "datasystem/object/object_enum.h"

#endif
