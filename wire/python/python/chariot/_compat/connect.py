"""How an old client connects: constructor arguments, then the environment, then one native object.

Arguments that are empty are read from ``DATASYSTEM_*``. What nothing behind it honours (curve keys,
tokens) fails in ``init`` by name; what only tunes the old transport is taken and has no effect.
"""

import os

from chariot._native import Kv

from .discovery import _Discovery
from .util import INT32_MAX, NOT_INITIALIZED, failure, not_supported

# Taken in every generation's spelling; these have no effect here.
_WITHOUT_EFFECT = {
    "enable_cross_node_connection": bool,
    "enable_exclusive_connection": bool,
    "enable_remote_h2d": bool,
    "fast_transport_mem_size": int,
}
_TEXTS = (
    "token",
    "client_public_key",
    "client_private_key",
    "server_public_key",
    "access_key",
    "secret_key",
    "tenant_id",
)
_UNCHECKED = {
    "token": "nothing behind it checks tokens",
    "client_public_key": "nothing behind it checks curve keys",
    "client_private_key": "nothing behind it checks curve keys",
    "server_public_key": "nothing behind it checks curve keys",
}
_FAST_TRANSPORT_MAX = 2 << 30


class Settings:
    """The checked arguments of a constructor."""

    __slots__ = ("host", "port", "timeout_ms", "request_ms", "default_ms", "texts", "discovery")

    def __init__(self, validator, default_ms, host, port, timeout_ms, others):
        request_ms = others.pop("req_timeout_ms", 0)
        self.discovery = others.pop("service_discovery", None)
        self.texts = {name: others.pop(name, "") for name in _TEXTS}
        checks = [
            ["host", host, str],
            ["port", port, int],
            ["connect_timeout_ms", timeout_ms, int],
            ["req_timeout_ms", request_ms, int],
        ]
        checks += [[name, value, str] for name, value in self.texts.items()]
        for name, kind in _WITHOUT_EFFECT.items():
            if name in others:
                value = others.pop(name)
                checks.append([name, value, kind])
                if kind is int and not 0 <= value <= _FAST_TRANSPORT_MAX:
                    raise failure("Invalid parameter", "%s is out of range: %s" % (name, value))
        if others:
            raise TypeError("unexpected keyword argument %r" % next(iter(others)))
        if self.discovery is not None and not isinstance(self.discovery, _Discovery):
            raise TypeError(
                "The input of service_discovery has invalid type, valid type: [%r]" % _Discovery
            )
        validator.check_args_types(checks)
        self.host, self.port = host, port
        self.timeout_ms, self.request_ms, self.default_ms = timeout_ms, request_ms, default_ms

    def connect(self, is_first):
        """Opens the connection; RuntimeError when that fails."""
        host, port, timeout_ms = self.host, self.port, self.timeout_ms
        environment = os.environ
        if self.discovery is not None:
            host, port = self._discover()
        if not host:
            host = environment.get("DATASYSTEM_HOST", "")
            port = port or _number("DATASYSTEM_PORT", 0)
            if timeout_ms == self.default_ms:
                timeout_ms = _number("DATASYSTEM_CONNECT_TIME_MS", timeout_ms)
        if not host or not port:
            raise failure(
                "Invalid parameter",
                "host and port must be provided together, or use service_discovery",
            )
        if not 0 < port <= 65535:
            raise failure("Invalid parameter", "port %s is out of range [1,65535]" % port)
        if not 0 < timeout_ms <= INT32_MAX:
            raise failure(
                "Invalid parameter", "The connection timeout must be a positive integer."
            )
        if not 0 <= self.request_ms <= INT32_MAX:
            raise failure(
                "Invalid parameter", "The request timeout must not be a negative integer."
            )
        texts = {
            name: value or environment.get("DATASYSTEM_" + name.upper(), "")
            for name, value in self.texts.items()
        }
        for name, why in _UNCHECKED.items():
            if texts[name]:
                raise not_supported(name, why)
        where = "[%s]:%d" % (host, port) if ":" in host else "%s:%d" % (host, port)
        return Kv(
            where,
            texts["access_key"],
            texts["secret_key"],
            texts["tenant_id"],
            timeout_ms,
            self.request_ms or timeout_ms,
            is_first,
        )


    def _discover(self):
        """Host and port of a registered worker; those that were given go before."""
        if self.host:
            import warnings

            warnings.warn("host and port are given: service_discovery is not asked", stacklevel=4)
            return self.host, self.port
        if not self.discovery.is_initialized():
            raise failure(
                "Not ready", "service_discovery is not initialized yet: call its init() first"
            )
        status, host, port, _is_same_node = self.discovery.select_worker()
        if status.is_error():
            raise RuntimeError(status.to_string())
        return host, port


def _number(name, default):
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise failure("Invalid parameter", "%s is no number: %r" % (name, text)) from None


class Connected:
    """The part that all clients share: they are made first, and connected by ``init``."""

    def __init__(self, settings, is_first, validator):
        self._settings = settings
        self._is_first = is_first
        self._validator = validator
        self._kv = NOT_INITIALIZED

    def init(self):
        """Connects to the worker; RuntimeError when that fails."""
        if self._kv is NOT_INITIALIZED:
            self._kv = self._settings.connect(self._is_first)

    def __getstate__(self):
        raise TypeError("a client cannot be pickled: make one in the other process")


def generate_key(is_first, prefix, settings):
    """A new key: the first generation names the worker after ``;``, the newest does not."""
    import uuid

    if not is_first:
        return prefix or str(uuid.uuid4())
    worker = uuid.uuid5(uuid.NAMESPACE_URL, "chariot://%s:%s" % (settings.host, settings.port))
    return "%s;%s" % (prefix or uuid.uuid4(), worker)
