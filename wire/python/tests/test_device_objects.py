"""Objects of device memory through both old packages: host memory stands in for a card's, and a
simulated card, whose addresses this process cannot read.

Tests that need a backend of their own run in processes of their own: a process finds its
accelerators once."""

import ctypes
import os
import subprocess
import sys
import textwrap
import uuid

import pytest

from test_kv import FIRST, NEWEST, module

PACKAGES = (FIRST, NEWEST)


@pytest.fixture(params=PACKAGES)
def package(request):
    return request.param


@pytest.fixture(autouse=True)
def host_backend(monkeypatch):
    monkeypatch.setenv("CHARIOT_DEVICE_BACKEND", "host")


def key():
    return "hetero/" + uuid.uuid4().hex


def memory(data):
    """Memory that a card could have, and its address."""
    held = ctypes.create_string_buffer(bytes(data), len(data))
    return held, ctypes.addressof(held)


def pattern(seed, size):
    return bytes((seed * 131 + at * 7 + (at >> 8)) & 0xFF for at in range(size))


class Objects:
    """Objects with blobs of these sizes, filled or empty, as one package's types."""

    def __init__(self, package, sizes, seeds=None, count=1, card=0):
        hetero = module(package, "hetero_client")
        self.sizes = sizes
        self.held = []
        self.lists = []
        for number in range(len(seeds) if seeds else count):
            blobs = []
            for blob, size in enumerate(sizes):
                data = pattern(seeds[number] + blob, size) if seeds else bytes(size)
                held, address = memory(data)
                self.held.append(held)
                blobs.append(hetero.Blob(address, size))
            self.lists.append(hetero.DeviceBlobList(card, blobs))
            # Whoever has the list has the memory.
            self.lists[-1].held = self.held

    def bytes_of(self, number):
        first = number * len(self.sizes)
        return [bytes(held.raw) for held in self.held[first : first + len(self.sizes)]]

    def hold(self, number, seed):
        wanted = [pattern(seed + blob, size) for blob, size in enumerate(self.sizes)]
        return self.bytes_of(number) == wanted

    @property
    def addresses(self):
        return [[blob.dev_ptr for blob in one.blob_list] for one in self.lists]


def connect(package, daemon, timeout_ms=60000):
    client = module(package, "hetero_client").HeteroClient(daemon.host, daemon.port, timeout_ms)
    client.init()
    return client


SIZES = [1, 4096, 70_001]


def test_objects_come_back_and_are_not_overwritten(package, daemon):
    client, keys = connect(package, daemon), [key(), key()]
    client.mset_d2h(keys, Objects(package, SIZES, [1, 2]).lists)
    assert client.exist(keys) == [True, True] and client.batch_is_exist(keys) == [1, 1]
    # One of them is there: it stays, the new one is written, and nothing is raised.
    third = key()
    client.mset_d2h([keys[0], third], Objects(package, SIZES, [7, 3]).lists)
    back = Objects(package, SIZES, count=3)
    assert client.mget_h2d(keys + [third], back.lists, 0) == []
    assert back.hold(0, 1) and back.hold(1, 2) and back.hold(2, 3)
    failed, metas = client.get_meta_info(keys, False)
    assert failed == [] and [meta.blob_size_list for meta in metas] == [SIZES, SIZES]
    assert client.delete(keys + [third]) == []
    assert client.exist(keys) == [False, False]


def test_misses_are_named_and_nothing_at_all_raises(package, daemon):
    client, here, absent = connect(package, daemon), key(), key()
    client.mset_d2h([here], Objects(package, [100], [5]).lists)
    back = Objects(package, [100], count=2)
    assert client.mget_h2d([absent, here], back.lists, 0) == [absent]
    assert back.hold(1, 5)
    with pytest.raises(RuntimeError, match="Key not found"):
        client.mget_h2d([absent], Objects(package, [100]).lists, 0)
    failed, metas = client.get_meta_info([absent, here], False)
    assert failed == [absent] and metas[1].blob_size_list == [100]
    with pytest.raises(RuntimeError, match="Blobs count mismatch in devBlobList"):
        client.mget_h2d([here], Objects(package, [50, 50]).lists, 0)
    with pytest.raises(RuntimeError, match="The data size of device and host is not equal"):
        client.mget_h2d([here], Objects(package, [99]).lists, 0)


def test_futures_tell_what_failed(package, daemon):
    client, here, absent = connect(package, daemon), key(), key()
    hetero = module(package, "hetero_client")
    written = client.async_mset_d2h([here], Objects(package, SIZES, [9]).lists)
    assert isinstance(written, hetero.Future) and written.get(60000) == []
    back = Objects(package, SIZES, count=2)
    read = client.async_mget_h2d([here, absent], back.lists, 0)
    assert read.get() == [absent] and read.get() == [absent] and back.hold(0, 9)
    # Waits for a key that nobody writes: the future's time is over before the call's.
    waiting = client.async_mget_h2d([key()], Objects(package, [10]).lists, 3000)
    with pytest.raises(RuntimeError, match="Future get timeout"):
        waiting.get(1)
    with pytest.raises(RuntimeError, match="Key not found"):
        waiting.get(60000)


def test_multi_buffers_take_addresses_of_the_own_card(package, daemon):
    client, keys = connect(package, daemon), [key(), key()]
    objects = Objects(package, SIZES, [21, 22])
    sizes = [SIZES, SIZES]
    param = module(package, "kv_client").SetParam()
    param.write_mode = module(package, "object_client").WriteMode.NONE_L2_CACHE_EVICT
    client.mset_d2h_from_multi_buffers(keys, objects.addresses, sizes, param)
    back = Objects(package, SIZES, count=2)
    assert client.mget_h2d_from_multi_buffers(keys, back.addresses, sizes, 0) == []
    assert back.hold(0, 21) and back.hold(1, 22)
    assert client.mget_h2d_from_multi_buffers([], [], [], 0) == []
    client.mset_d2h_from_multi_buffers([], [], [])
    for addrs, lens in (([[1]], [[1], [2]]), ([[1], []], [[1], []]), ([[1], [2]], [[1], [2, 3]])):
        with pytest.raises(ValueError):
            client.mset_d2h_from_multi_buffers(keys, addrs, lens)


def test_arguments_are_checked_in_the_old_words(package, daemon):
    client = connect(package, daemon)
    hetero = module(package, "hetero_client")
    good = Objects(package, [10], [1]).lists
    for call in (client.mset_d2h, client.dev_mset, client.dev_publish, client.dev_subscribe):
        with pytest.raises(RuntimeError, match="keys and data_blob_list should not be empty"):
            call([], good)
        with pytest.raises(TypeError, match="has invalid type"):
            call("k", good)
        with pytest.raises(TypeError, match="has invalid type"):
            call(["k"], [object()])
        with pytest.raises(RuntimeError, match="size of objectKeys and devBlobList does not match"):
            call([key(), key()], good)
    with pytest.raises(TypeError, match="has invalid type"):
        client.mget_h2d(["k"], good, "0")
    for wrong in (-1, 2**31):
        with pytest.raises(RuntimeError, match="is out of range"):
            client.mget_h2d(["k"], good, wrong)
    for blobs in ([], [hetero.Blob(8, 0)], [hetero.Blob(8, -1)]):
        with pytest.raises(RuntimeError, match="illegal size in devBlobList"):
            client.mset_d2h([key()], [hetero.DeviceBlobList(0, blobs)])
    with pytest.raises(RuntimeError, match="has no memory"):
        client.mset_d2h([key()], [hetero.DeviceBlobList(0, [hetero.Blob(0, 8)])])
    with pytest.raises(RuntimeError, match="Please set deviceIdx"):
        client.mset_d2h([key()], Objects(package, [10], [1], card=-1).lists)
    two = Objects(package, [10], [1]).lists + Objects(package, [10], [1], card=1).lists
    with pytest.raises(RuntimeError, match="is not the same as the deviceIdx"):
        client.mset_d2h([key(), key()], two)
    for mode in ("WRITE_THROUGH_L2_CACHE", "WRITE_BACK_L2_CACHE"):
        param = module(package, "kv_client").SetParam()
        param.write_mode = getattr(module(package, "object_client").WriteMode, mode)
        with pytest.raises(RuntimeError, match="not support L2 CACHE|L2_cache_type is set to none"):
            client.mset_d2h([key()], good, param)
    with pytest.raises(RuntimeError, match="src_offset is not supported yet"):
        client.mset_d2h([key()], [hetero.DeviceBlobList(0, good[0].blob_list, 4)])
    with pytest.raises(RuntimeError, match="pre_register_device_memory is not supported yet"):
        client.pre_register_device_memory([1], [1])


def test_a_client_that_was_not_connected_says_so(package, daemon):
    client = module(package, "hetero_client").HeteroClient(daemon.host, daemon.port)
    for call in (client.mset_d2h, client.dev_mset):
        with pytest.raises(RuntimeError, match="has not been initialized yet"):
            call([key()], Objects(package, [10], [1]).lists)


def test_a_dead_daemon_is_an_error_in_time(package, own_daemon):
    client = connect(package, own_daemon, 2000)
    client.mset_d2h(["k"], Objects(package, [10], [1]).lists)
    own_daemon.kill()
    with pytest.raises(RuntimeError):
        client.mset_d2h([key()], Objects(package, [10], [1]).lists)
    with pytest.raises(RuntimeError):
        client.mget_h2d(["k"], Objects(package, [10]).lists, 0)
    own_daemon.start()
    client.mset_d2h(["new"], Objects(package, [10], [4]).lists)
    back = Objects(package, [10])
    assert client.mget_h2d(["new"], back.lists, 0) == [] and back.hold(0, 4)


def run(program, daemon, **environment):
    """Runs a program in a process of its own; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), daemon.host, str(daemon.port)],
        env={**os.environ, **environment},
        cwd=os.path.dirname(__file__),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_without_accelerators_the_cause_is_named_and_keys_still_work(package, daemon, tmp_path):
    text = run(
        """
        import sys
        from %s.hetero_client import HeteroClient, Blob, DeviceBlobList
        client = HeteroClient(sys.argv[1], int(sys.argv[2]))
        client.init()
        assert client.exist(["nothing"]) == [False] and client.delete(["nothing"]) == []
        try:
            client.mset_d2h(["k"], [DeviceBlobList(0, [Blob(4096, 8)])])
        except RuntimeError as error:
            print(error)
        """
        % package,
        daemon,
        CHARIOT_DEVICE_BACKEND="ascend",
        ASCEND_RT_LIB_DIR=str(tmp_path),
    )
    assert "code: [Not supported]" in text and "libascendcl" in text


def test_one_card_hands_on_to_another_of_this_process(package, daemon):
    """Two clients, two cards of host memory: put and get, publish and subscribe."""
    one, other = connect(package, daemon), connect(package, daemon)
    kept = key()
    offered = Objects(package, [50_000, 3], [31], card=0)
    assert one.dev_mset([kept], offered.lists) == []
    back = Objects(package, [50_000, 3], card=1)
    assert other.dev_mget([kept], back.lists, 0) == [] and back.hold(0, 31)
    failed, metas = one.get_meta_info([kept], True)
    assert failed == [] and metas[0].blob_size_list == [50_000, 3]
    with pytest.raises(RuntimeError, match="Key not found"):
        other.dev_mget([key()], Objects(package, [8], card=1).lists, 50)
    assert other.dev_local_delete([kept]) == [] and one.dev_delete([kept]) == []
    with pytest.raises(RuntimeError, match="Key not found"):
        other.dev_mget([kept], Objects(package, [50_000, 3], card=1).lists, 50)
    moved = key()
    sent = one.dev_publish([moved], Objects(package, [2000], [41], card=0).lists)
    hetero = module(package, "hetero_client")
    with pytest.raises(hetero.FutureTimeoutException):
        sent[0].get(1)
    into = Objects(package, [2000], card=1)
    received = other.dev_subscribe([moved], into.lists)
    assert received[0].get(60000) == [] and sent[0].get(60000) == [] and into.hold(0, 41)
    assert one.async_dev_delete([key()]).get(60000) == []
