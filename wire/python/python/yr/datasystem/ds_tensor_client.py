"""``DsTensorClient`` and what belongs to it."""

from chariot._compat.enums import WriteMode
from chariot._compat.hetero import Future
from chariot._compat.kv import SetParam
from chariot._compat.tensors import CopyRange
from chariot._compat.tensors import NewestDsTensorClient as DsTensorClient

__all__ = ["CopyRange", "DsTensorClient", "Future", "SetParam", "WriteMode"]
