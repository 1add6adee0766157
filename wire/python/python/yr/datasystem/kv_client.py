"""``KVClient`` and what belongs to it."""

from chariot._compat.enums import CacheType, ExistenceOpt, WriteMode
from chariot._compat.kv import NewestKVClient as KVClient
from chariot._compat.kv import (
    ReadOnlyBuffer,
    ReadOnlyMemoryViewBuffer,
    ReadParam,
    SetParam,
    StateValueBuffer,
)

__all__ = [
    "CacheType",
    "ExistenceOpt",
    "KVClient",
    "ReadOnlyBuffer",
    "ReadOnlyMemoryViewBuffer",
    "ReadParam",
    "SetParam",
    "StateValueBuffer",
    "WriteMode",
]
