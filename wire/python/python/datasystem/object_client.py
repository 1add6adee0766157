"""``ObjectClient`` and what belongs to it."""

from chariot._compat.enums import CacheType, ConsistencyType, WriteMode
from chariot._compat.objects import Buffer
from chariot._compat.objects import FirstObjectClient as ObjectClient

__all__ = ["Buffer", "CacheType", "ConsistencyType", "ObjectClient", "WriteMode"]
