"""``HeteroClient`` and what belongs to it."""

from chariot._compat.enums import CacheType, ExistenceOpt, WriteMode
from chariot._compat.hetero import (
    Blob,
    DeviceBlobList,
    Future,
    FutureTimeoutException,
    MetaInfo,
)
from chariot._compat.hetero import FirstHeteroClient as HeteroClient
from chariot._compat.kv import SetParam

__all__ = [
    "Blob",
    "CacheType",
    "DeviceBlobList",
    "ExistenceOpt",
    "Future",
    "FutureTimeoutException",
    "HeteroClient",
    "MetaInfo",
    "SetParam",
    "WriteMode",
]
