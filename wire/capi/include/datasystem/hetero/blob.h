// Memory on an accelerator.
#ifndef DATASYSTEM_HETERO_BLOB_H
#define DATASYSTEM_HETERO_BLOB_H

#include <cstdint>
#include <string>
#include <vector>

#include "datasystem/utils/status.h"

namespace datasystem {

struct Blob {
    void *pointer = nullptr;
    uint64_t size = 0;
};

// The blobs of one list lie on one card.
struct DeviceBlobList {
    std::vector<Blob> blobs;
    int32_t deviceIdx = -1;
    int32_t srcOffset = 0;
};

struct AsyncResult {
    Status status;
    std::vector<std::string> failedList;
};

struct MetaInfo {
    std::vector<uint64_t> blobSizeList;
};

}  // namespace datasystem

#endif
