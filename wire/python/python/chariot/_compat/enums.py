"""The enumerations of the old SDKs."""

from enum import IntEnum


class WriteMode(IntEnum):
    NONE_L2_CACHE = 0
    WRITE_THROUGH_L2_CACHE = 1
    WRITE_BACK_L2_CACHE = 2
    NONE_L2_CACHE_EVICT = 3
    WRITE_BACK_L2_CACHE_EVICT = 4


class ConsistencyType(IntEnum):
    PRAM = 0
    CAUSAL = 1


class CacheType(IntEnum):
    MEMEORY = 0  # sic: this is how the old SDK spells it
    MEMORY = 0
    DISK = 1


class ExistenceOpt(IntEnum):
    NONE = 0
    NX = 1


class SubconfigType(IntEnum):
    STREAM = 0
    ROUND_ROBIN = 1
    KEY_PARTITIONS = 2
