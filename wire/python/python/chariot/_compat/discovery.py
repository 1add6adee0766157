"""Service discovery of the successor: workers are the nodes that ``chariotd --etcd`` registers.

etcd is asked over its JSON interface, with what Python has, each time a worker is chosen: a node
that has left is not chosen again, and there is nothing to keep up to date in between. A node is on
this host when both were booted at the same time (the record holds the kernel's ``boot_id``).
"""

from enum import IntEnum

from .util import Status, failure, not_supported

# Where the daemon registers, and the name of a cluster that was given none.
_PREFIX = "/chariot/v1/%s/nodes/"
_CLUSTER = "chariot"
_ANSWER_WITHIN_S = 5
# A record has a few hundred bytes; a cluster of so many nodes would not be one.
_ANSWER_MAX = 16 << 20


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
_UNCHECKED = ("etcd_ca", "etcd_cert", "etcd_key", "etcd_dns_name", "username", "password")
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

    def get_affinity_policy(self):
        """Which workers are chosen."""
        return self._options.affinity_policy

    def has_host_affinity(self):
        """Whether the options name this host."""
        return bool(self._options.host_id_env_name)


class ServiceDiscovery(_Discovery):
    _OPTIONS = ServiceDiscoveryOptions

    def __init__(self, options=None):
        super().__init__(options)
        self._endpoints = ()

    def init(self):
        """Checks the options and asks etcd once; RuntimeError when that fails."""
        options = self._options
        for name in _UNCHECKED:
            if getattr(options, name):
                raise not_supported(
                    "ServiceDiscoveryOptions." + name, "etcd is spoken to in the clear, by nobody"
                )
        endpoints = [part.strip() for part in options.etcd_address.split(",") if part.strip()]
        if not endpoints:
            raise failure("Invalid parameter", "The etcd_address should not be empty.")
        self._endpoints = [_host_and_port(endpoint) for endpoint in endpoints]
        try:
            self._workers()
        except RuntimeError:
            self._endpoints = ()
            raise

    def is_initialized(self):
        """Whether ``init`` has succeeded."""
        return bool(self._endpoints)

    def select_worker(self):
        """Chooses a worker: (Status, ip, port, whether it is on this host)."""
        policy = self._options.affinity_policy
        status, same, others = self._all()
        if policy == ServiceAffinityPolicy.RANDOM:
            candidates = same + others
        elif policy == ServiceAffinityPolicy.REQUIRED_SAME_NODE:
            candidates = same
        else:
            candidates = same or others
        if status.is_ok() and not candidates:
            status = Status(37, "No available worker for routing", "no worker is registered")
        if status.is_error():
            return status, "", 0, False
        import random

        chosen = random.choice(candidates)
        return status, chosen[0], chosen[1], chosen in same

    def select_same_node_worker(self):
        """Chooses a worker of this host: (Status, ip, port)."""
        status, same, _others = self._all()
        if status.is_ok() and not same:
            status = Status(3, "Key not found", "no worker is registered for this host")
        if status.is_error():
            return status, "", 0
        return status, same[0][0], same[0][1]

    def get_all_workers(self):
        """All workers: (Status, addresses of this host, the others), each ``ip:port``."""
        status, same, others = self._all()
        return status, [_address(one) for one in same], [_address(one) for one in others]

    def _all(self):
        """(Status, workers of this host, the others), as pairs of ip and port."""
        if not self._endpoints:
            return Status(8, "Not ready", "ServiceDiscovery is not initialized"), [], []
        try:
            workers = self._workers()
        except RuntimeError as failed:
            return Status(1002, "RPC unavailable", str(failed)), [], []
        boot = _boot_id()
        same = [address for address, place in workers if place.split("/")[0] == boot]
        return Status(), same, [address for address, _place in workers if address not in same]

    def _workers(self):
        """What is registered: ((ip, port), place) of each, in the order of addresses."""
        prefix = (_PREFIX % (self._options.cluster_name or _CLUSTER)).encode()
        causes = []
        for host, port in self._endpoints:
            try:
                return [_worker(value) for value in _range(host, port, prefix)]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as cause:
                causes.append("%s:%s: %s" % (host, port, cause))
        raise failure("RPC unavailable", "no etcd answers: " + "; ".join(causes))


def _range(host, port, prefix):
    """The values under a prefix, as etcd's JSON interface answers them."""
    import base64
    import http.client
    import json

    after = prefix[:-1] + bytes([prefix[-1] + 1])
    question = {
        "key": base64.b64encode(prefix).decode(),
        "range_end": base64.b64encode(after).decode(),
    }
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("POST", "/v3/kv/range", json.dumps(question))
        answer = connection.getresponse()
        text = answer.read(_ANSWER_MAX)
    except http.client.HTTPException as odd:
        raise OSError("no answer of etcd: %r" % odd) from None
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError("HTTP status %d" % answer.status)
    records = json.loads(text).get("kvs", ())
    return [json.loads(base64.b64decode(record["value"])) for record in records]


def _worker(record):
    return _host_and_port(record["address"]), str(record.get("place", ""))


def _address(worker):
    host, port = worker
    return "[%s]:%d" % worker if ":" in host else "%s:%d" % worker


def _host_and_port(text):
    host, colon, port = text.split("://")[-1].rpartition(":")
    if not colon or not port.isdigit():
        raise failure("Invalid parameter", "%r is not host:port" % text)
    return host.strip("[]"), int(port)


def _boot_id():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


_WHY = "there is no coordinator: give ServiceDiscovery the address of etcd"


class CoordinatorServiceDiscovery(_Discovery):
    _OPTIONS = CoordinatorServiceDiscoveryOptions

    def init(self):
        raise not_supported("CoordinatorServiceDiscovery", _WHY)

    def is_initialized(self):
        return False

    def select_worker(self):
        raise not_supported("CoordinatorServiceDiscovery.select_worker", _WHY)

    def select_same_node_worker(self):
        raise not_supported("CoordinatorServiceDiscovery.select_same_node_worker", _WHY)

    def get_all_workers(self):
        raise not_supported("CoordinatorServiceDiscovery.get_all_workers", _WHY)
