"""Service discovery."""

from chariot._compat.discovery import (
    CoordinatorServiceDiscovery,
    CoordinatorServiceDiscoveryOptions,
    ServiceAffinityPolicy,
    ServiceDiscovery,
    ServiceDiscoveryOptions,
)

__all__ = [
    "CoordinatorServiceDiscovery",
    "CoordinatorServiceDiscoveryOptions",
    "ServiceAffinityPolicy",
    "ServiceDiscovery",
    "ServiceDiscoveryOptions",
]
