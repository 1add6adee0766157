"""``DsTensorClient`` and what belongs to it."""

from chariot._compat.enums import WriteMode
from chariot._compat.hetero import CopyRange, Future
from chariot._compat.hetero import NewestDsTensorClient as DsTensorClient
from chariot._compat.kv import SetParam

__all__ = ["CopyRange", "DsTensorClient", "Future", "SetParam", "WriteMode"]
