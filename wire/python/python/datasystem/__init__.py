"""The SDK of chariot-ds 0.1.6, over Chariot."""

from chariot._compat.enums import CacheType, ConsistencyType, ExistenceOpt, SubconfigType, WriteMode
from chariot._compat.kv import SetParam
from chariot._native import __version__
from datasystem.ds_client import DsClient
from datasystem.hetero_client import (
    Blob,
    DeviceBlobList,
    Future,
    FutureTimeoutException,
    HeteroClient,
    MetaInfo,
)
from datasystem.kv_client import KVClient
from datasystem.object_client import Buffer, ObjectClient
from datasystem.util import Context, Status

__all__ = [
    "Blob",
    "Buffer",
    "ConsistencyType",
    "Context",
    "DeviceBlobList",
    "DsClient",
    "Future",
    "FutureTimeoutException",
    "HeteroClient",
    "KVClient",
    "ObjectClient",
    "Status",
    "SubconfigType",
    "WriteMode",
]


def __getattr__(name):
    if name in ("DsTensorClient", "CopyRange"):
        from datasystem import ds_tensor_client

        return getattr(ds_tensor_client, name)
    raise AttributeError("module 'datasystem' has no attribute %r" % name)
