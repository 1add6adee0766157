"""Argument checks, ``Status`` and ``Context``."""

from chariot._compat.util import Context, Status
from chariot._compat.util import Validator

__all__ = ["Context", "Status", "Validator"]
