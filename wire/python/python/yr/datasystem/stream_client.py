"""``StreamClient`` and what belongs to it."""

from chariot._compat.enums import SubconfigType
from chariot._compat.stream import Consumer, Producer, StreamClient

__all__ = ["Consumer", "Producer", "StreamClient", "SubconfigType"]
