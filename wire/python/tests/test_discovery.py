"""Service discovery of the successor, with a real etcd where it needs one."""

import base64
import importlib
import json
import pathlib
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

import pytest
from conftest import Daemon, free_port, until

NEWEST = "yr.datasystem"


def module(name):
    return importlib.import_module(NEWEST + "." + name)


class Etcd:
    """An etcd of its own: gone with the test, its files too."""

    def __init__(self):
        assert shutil.which("etcd"), "etcd is installed: scripts/setup.sh does it"
        self.directory = tempfile.mkdtemp(prefix="chariot-python-etcd-")
        self.address = "127.0.0.1:%d" % free_port()
        client, peer = "http://" + self.address, "http://127.0.0.1:%d" % free_port()
        self.process = subprocess.Popen(
            [
                "etcd",
                "--data-dir=" + self.directory,
                "--listen-client-urls=" + client,
                "--advertise-client-urls=" + client,
                "--listen-peer-urls=" + peer,
                "--initial-advertise-peer-urls=" + peer,
                "--initial-cluster=default=" + peer,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def answers():
            assert self.process.poll() is None, "etcd has ended"
            try:
                with urllib.request.urlopen(client + "/health", timeout=5) as page:
                    return b"true" in page.read()
            except (urllib.error.URLError, OSError):
                return False

        until("etcd answers", answers)

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster():
    """An etcd and a node that is registered there, in the cluster ``here``."""
    server = Etcd()
    node = None
    try:
        node = Daemon("--etcd=" + server.address, "--cluster=here", memory="128MiB")
        yield server, node
    finally:
        if node:
            node.close()
        server.close()


def discovery_of(server, **settings):
    service = module("service_discovery")
    settings.setdefault("cluster_name", "here")
    options = service.ServiceDiscoveryOptions(etcd_address=server.address, **settings)
    return service.ServiceDiscovery(options)


def test_options_have_their_defaults_and_no_other_names():
    service = module("service_discovery")
    options = service.ServiceDiscoveryOptions()
    assert options.token_refresh_interval_sec == 30
    assert options.affinity_policy is service.ServiceAffinityPolicy.PREFERRED_SAME_NODE
    with pytest.raises(AttributeError):
        options.unknown = 1
    with pytest.raises(AttributeError):
        service.ServiceDiscoveryOptions(unknown=1)
    discovery = service.ServiceDiscovery(options)
    assert discovery.has_host_affinity() is False
    assert discovery.get_affinity_policy() is service.ServiceAffinityPolicy.PREFERRED_SAME_NODE
    policies = [policy.name for policy in service.ServiceAffinityPolicy]
    assert policies == ["PREFERRED_SAME_NODE", "REQUIRED_SAME_NODE", "RANDOM"]


@pytest.mark.parametrize("policy", ["PREFERRED_SAME_NODE", "REQUIRED_SAME_NODE", "RANDOM"])
def test_a_registered_worker_is_found_and_served_from(cluster, policy):
    server, node = cluster
    policy = module("service_discovery").ServiceAffinityPolicy[policy]
    discovery = discovery_of(server, affinity_policy=policy)
    discovery.init()
    until("the node is registered", lambda: discovery.get_all_workers()[1] == [node.address])
    status, ip, port, is_same_node = discovery.select_worker()
    assert status.is_ok() and (ip, port, is_same_node) == (node.host, node.port, True)
    status, ip, port = discovery.select_same_node_worker()
    assert status.is_ok() and (ip, port) == (node.host, node.port)
    for owner in ("kv_client.KVClient", "ds_client.DsClient"):
        part, name = owner.split(".")
        client = getattr(module(part), name)(service_discovery=discovery)
        client.init()
        kv = client if name == "KVClient" else client.kv()
        kv.set("found", b"by discovery")
        assert kv.get(["found"]) == [b"by discovery"]


def test_nobody_registered_is_a_status(cluster):
    server, _node = cluster
    discovery = discovery_of(server, cluster_name="nobody")
    discovery.init()
    status, same, others = discovery.get_all_workers()
    assert status.is_ok() and same == [] and others == []
    status, ip, port, is_same_node = discovery.select_worker()
    assert status.is_error() and (ip, port, is_same_node) == ("", 0, False)
    assert "No available worker for routing" in status.to_string()
    assert discovery.select_same_node_worker()[0].is_error()
    with pytest.raises(RuntimeError, match="No available worker for routing"):
        module("kv_client").KVClient(service_discovery=discovery).init()


def test_a_node_of_another_host_is_not_of_this_one(cluster):
    from chariot._compat import discovery as code

    server, node = cluster
    found = discovery_of(server)
    found.init()
    until("the node is registered", lambda: found.get_all_workers()[1])
    own = code._boot_id
    code._boot_id = lambda: "another boot"
    try:
        assert found.get_all_workers()[1:] == ([], [node.address])
        assert found.select_worker()[1:] == (node.host, node.port, False)
        assert found.select_same_node_worker()[0].is_error()
    finally:
        code._boot_id = own


def test_host_and_port_go_before_discovery(cluster):
    server, node = cluster
    discovery = discovery_of(server, cluster_name="nobody")
    client = module("kv_client").KVClient(node.host, node.port, service_discovery=discovery)
    with pytest.warns(UserWarning, match="service_discovery"):
        client.init()
    client.set("given", b"1")


def test_etcd_that_is_away_is_an_error():
    service = module("service_discovery")
    nowhere = "127.0.0.1:%d" % free_port()
    discovery = service.ServiceDiscovery(service.ServiceDiscoveryOptions(etcd_address=nowhere))
    with pytest.raises(RuntimeError, match="RPC unavailable"):
        discovery.init()
    for status, *_rest in (
        discovery.select_worker(),
        discovery.select_same_node_worker(),
        discovery.get_all_workers(),
    ):
        assert "Not ready" in status.to_string()
    with pytest.raises(RuntimeError, match="not initialized"):
        module("kv_client").KVClient(service_discovery=discovery).init()


def test_what_is_not_honoured_fails_by_name():
    service = module("service_discovery")
    for name in ("etcd_ca", "etcd_cert", "etcd_key", "etcd_dns_name", "username", "password"):
        options = service.ServiceDiscoveryOptions(etcd_address="127.0.0.1:1")
        setattr(options, name, "given")
        with pytest.raises(RuntimeError, match=name + " is not supported yet"):
            service.ServiceDiscovery(options).init()
    for address in ("", "nowhere", "a:b"):
        options = service.ServiceDiscoveryOptions(etcd_address=address)
        with pytest.raises(RuntimeError, match="Invalid parameter"):
            service.ServiceDiscovery(options).init()
    coordinator = service.CoordinatorServiceDiscovery(
        service.CoordinatorServiceDiscoveryOptions(service_address="a", cluster_name="c")
    )
    for call in (
        coordinator.init,
        coordinator.select_worker,
        coordinator.select_same_node_worker,
        coordinator.get_all_workers,
    ):
        with pytest.raises(RuntimeError, match="CoordinatorServiceDiscovery.* not supported yet"):
            call()
    for wrong in (coordinator, "options"):
        with pytest.raises(TypeError):
            service.ServiceDiscovery(wrong)
    with pytest.raises(TypeError, match="service_discovery has invalid type"):
        module("kv_client").KVClient(service_discovery="etcd")


# Two nodes of one address: what the record of each is worth.


def record(server, key, value=None):
    """Puts a record as another node would, or takes it away."""
    text = {"key": base64.b64encode(key.encode()).decode()}
    if value is not None:
        text["value"] = base64.b64encode(json.dumps(value).encode()).decode()
    call = "deleterange" if value is None else "put"
    url = "http://%s/v3/kv/%s" % (server.address, call)
    with urllib.request.urlopen(url, json.dumps(text).encode(), timeout=10) as page:
        page.read()


def test_a_node_does_not_overwrite_another_of_the_same_address(cluster):
    server, _node = cluster
    own = Daemon(memory="128MiB")
    try:
        own.kill()
        key = "/chariot/v1/shared/nodes/" + own.address
        other = {
            "address": own.address,
            "admin": "127.0.0.1:1",
            "version": "0",
            "cores": [0],
            "memory_bytes": 1,
            "start_unix_ms": 77,
            "place": "another boot/net:[1]",
        }
        record(server, key, other)
        own.flags = ("--etcd=" + server.address, "--cluster=shared")
        own.start()
        log = pathlib.Path(own.directory, "log")
        until("it says so", lambda: "is registered by another node" in log.read_text())
        assert "--advertise" in log.read_text()
        discovery = discovery_of(server, cluster_name="shared")
        discovery.init()
        assert discovery.get_all_workers()[1:] == ([], [own.address])
        record(server, key)
        until("it registers", lambda: discovery.get_all_workers()[1] == [own.address])
        # Its own record, left by a kill, is no obstacle: the lease would hold for 10 s.
        own.kill()
        own.start()
        until("it registers again", lambda: "registered with etcd" in log.read_text())
        assert "by another node" not in log.read_text()
    finally:
        own.close()
