"""``DsClient``."""

from chariot._compat.ds import FirstDsClient as DsClient

__all__ = ["DsClient"]
