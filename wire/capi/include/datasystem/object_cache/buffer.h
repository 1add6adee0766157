// The place of the first release.
#ifndef DATASYSTEM_OBJECT_CACHE_BUFFER_H
#define DATASYSTEM_OBJECT_CACHE_BUFFER_H

#include "datasystem/object/buffer.h"

#endif
