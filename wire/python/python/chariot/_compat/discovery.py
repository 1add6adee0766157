"""Service discovery of the successor: the options are checked, finding workers is refused by name."""

from enum import IntEnum

from .util import not_supported

_WHY = "give host and port of a worker (DATASYSTEM_HOST and DATASYSTEM_PORT work too)"


class ServiceAffinityPolicy(IntEnum):
    PREFERRED_SAME_NODE = 0
    REQUIRED_SAME_NODE = 1
    RANDOM = 2


class _Options:
    """Named settings; an unknown name is an AttributeError."""

    __slots__ = ()
    _DEFAULTS = {}

    def __init__(self, **settings):
        for name, value in self._DEFAULTS.items():
            setattr(self, name, settings.pop(name, value))
        for name, value in settings.items():
            setattr(self, name, value)


_ETCD = {
    "etcd_address": "",
    "cluster_name": "",
    "etcd_ca": "",
    "etcd_cert": "",
    "etcd_key": "",
    "etcd_dns_name": "",
    "username": "",
    "password": "",
    "token_refresh_interval_sec": 30,
    "host_id_env_name": "",
    "affinity_policy": ServiceAffinityPolicy.PREFERRED_SAME_NODE,
}
_COORDINATOR = {
    "service_address": "",
    "cluster_name": "",
    "host_id_env_name": "",
    "affinity_policy": ServiceAffinityPolicy.PREFERRED_SAME_NODE,
}


class ServiceDiscoveryOptions(_Options):
    __slots__ = tuple(_ETCD)
    _DEFAULTS = _ETCD


class CoordinatorServiceDiscoveryOptions(_Options):
    __slots__ = tuple(_COORDINATOR)
    _DEFAULTS = _COORDINATOR


class _Discovery:
    _OPTIONS = None

    def __init__(self, options=None):
        if options is not None and not isinstance(options, self._OPTIONS):
            raise TypeError(
                "The input of options has invalid type, valid type: [%r]" % self._OPTIONS
            )
        self._options = options or self._OPTIONS()

    def init(self):
        raise not_supported(type(self).__name__, _WHY)

    def select_worker(self):
        raise not_supported(type(self).__name__ + ".select_worker", _WHY)

    def select_same_node_worker(self):
        raise not_supported(type(self).__name__ + ".select_same_node_worker", _WHY)

    def get_all_workers(self):
        raise not_supported(type(self).__name__ + ".get_all_workers", _WHY)

    def get_affinity_policy(self):
        return self._options.affinity_policy

    def has_host_affinity(self):
        return bool(self._options.host_id_env_name)


class ServiceDiscovery(_Discovery):
    _OPTIONS = ServiceDiscoveryOptions


class CoordinatorServiceDiscovery(_Discovery):
    _OPTIONS = CoordinatorServiceDiscoveryOptions
