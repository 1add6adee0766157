"""The SDK of chariot-ds's successor, over Chariot."""

from importlib import import_module

from chariot._native import __version__

_MODULES = {
    "Blob": "hetero_client",
    "Buffer": "object_client",
    "CacheType": "kv_client",
    "ConsistencyType": "object_client",
    "Context": "util",
    "CoordinatorServiceDiscovery": "service_discovery",
    "CoordinatorServiceDiscoveryOptions": "service_discovery",
    "CopyRange": "ds_tensor_client",
    "DeviceBlobList": "hetero_client",
    "DsClient": "ds_client",
    "DsTensorClient": "ds_tensor_client",
    "ErrorCode": "transfer_engine",
    "ExistenceOpt": "kv_client",
    "Future": "hetero_client",
    "FutureTimeoutException": "hetero_client",
    "HeteroClient": "hetero_client",
    "KVClient": "kv_client",
    "MetaInfo": "hetero_client",
    "ObjectClient": "object_client",
    "ReadParam": "kv_client",
    "Result": "transfer_engine",
    "ServiceAffinityPolicy": "service_discovery",
    "ServiceDiscovery": "service_discovery",
    "ServiceDiscoveryOptions": "service_discovery",
    "SetParam": "kv_client",
    "Status": "util",
    "StreamClient": "stream_client",
    "SubconfigType": "stream_client",
    "TransferEngine": "transfer_engine",
    "WriteMode": "kv_client",
}

__all__ = sorted(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError("module 'yr.datasystem' has no attribute %r" % name)
    value = getattr(import_module("yr.datasystem." + _MODULES[name]), name)
    globals()[name] = value
    return value
