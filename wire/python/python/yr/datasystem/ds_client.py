"""``DsClient``."""

from chariot._compat.ds import NewestDsClient as DsClient

__all__ = ["DsClient"]
