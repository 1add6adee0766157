"""KVClient of both generations, row by row: one test or more for every line of the old surface."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import threading
import time
import uuid

import pytest

FIRST, NEWEST = "datasystem", "yr.datasystem"
BOTH = [FIRST, NEWEST]


def module(package, name):
    return importlib.import_module(package + "." + name)


@pytest.fixture(params=BOTH)
def package(request):
    return request.param


@pytest.fixture
def kv(package, daemon):
    client = module(package, "kv_client").KVClient(daemon.host, daemon.port)
    client.init()
    return client


@pytest.fixture
def first(daemon):
    client = module(FIRST, "kv_client").KVClient(daemon.host, daemon.port)
    client.init()
    return client


@pytest.fixture
def newest(daemon):
    client = module(NEWEST, "kv_client").KVClient(daemon.host, daemon.port)
    client.init()
    return client


def name():
    return "key-%s" % uuid.uuid4()


# Connecting.


def test_ds_client_gives_three_clients(package, daemon):
    client = module(package, "ds_client").DsClient(daemon.host, daemon.port)
    assert client.init() is None
    key = name()
    client.kv().set(key, b"v")
    assert client.kv().get([key]) == [b"v"]
    assert client.hetero().exist([key]) == [True]
    assert client.object().generate_object_key("p").startswith("p")


def test_ds_client_checks_its_arguments(package):
    make = module(package, "ds_client").DsClient
    for arguments in ((1, 2), ("h", "2"), ("h", 2, "3"), (None, 2)):
        with pytest.raises(TypeError, match="has invalid type"):
            make(*arguments)
    with pytest.raises(TypeError):
        make("h", 1, token=3)


def test_newest_ds_client_wants_host_and_port_together():
    with pytest.raises(RuntimeError, match="host and port must be provided together"):
        module(NEWEST, "ds_client").DsClient("127.0.0.1")


def test_constructors_take_every_documented_name():
    def names(package, part, owner):
        return list(inspect.signature(getattr(module(package, part), owner).__init__).parameters)[1:]

    tail = [
        "client_public_key",
        "client_private_key",
        "server_public_key",
        "access_key",
        "secret_key",
        "tenant_id",
        "enable_cross_node_connection",
    ]
    assert names(FIRST, "kv_client", "KVClient")[:-1] == ["host", "port", "timeout_ms"] + tail
    for part, owner in (
        ("ds_client", "DsClient"),
        ("hetero_client", "HeteroClient"),
        ("object_client", "ObjectClient"),
    ):
        assert names(FIRST, part, owner)[:-1] == ["host", "port", "connect_timeout_ms"] + tail
    assert names(FIRST, "ds_tensor_client", "DsTensorClient")[:4] == [
        "host",
        "port",
        "device_id",
        "connect_timeout_ms",
    ]
    newest = ["host", "port", "connect_timeout_ms", "token"] + tail + ["req_timeout_ms"]
    assert names(NEWEST, "kv_client", "KVClient")[:14] == newest + [
        "fast_transport_mem_size",
        "service_discovery",
    ]
    assert names(NEWEST, "ds_client", "DsClient") == newest + ["service_discovery"]


@pytest.mark.parametrize(
    "options",
    [
        dict(timeout_ms=2000),
        dict(connect_timeout_ms=2000),
        dict(req_timeout_ms=1000),
        dict(enable_cross_node_connection=True),
        dict(enable_exclusive_connection=False),
        dict(fast_transport_mem_size=1 << 20),
        dict(tenant_id=""),
    ],
)
def test_names_of_every_generation_are_taken(package, daemon, options):
    client = module(package, "kv_client").KVClient(daemon.host, daemon.port, **options)
    client.init()
    client.set("options", b"1")


def test_an_unknown_name_is_a_type_error(package):
    with pytest.raises(TypeError, match="unexpected keyword"):
        module(package, "kv_client").KVClient("h", 1, colour=1)


@pytest.mark.parametrize(
    "option", ["token", "client_public_key", "client_private_key", "server_public_key"]
)
def test_credentials_that_nothing_checks_fail_by_name(package, daemon, option, monkeypatch):
    make = module(package, "kv_client").KVClient
    with pytest.raises(RuntimeError, match=option):
        make(daemon.host, daemon.port, **{option: "secret"}).init()
    monkeypatch.setenv("DATASYSTEM_" + option.upper(), "secret")
    with pytest.raises(RuntimeError, match=option):
        make(daemon.host, daemon.port).init()


def test_environment_names_host_port_and_time(package, daemon, monkeypatch):
    monkeypatch.setenv("DATASYSTEM_HOST", daemon.host)
    monkeypatch.setenv("DATASYSTEM_PORT", str(daemon.port))
    monkeypatch.setenv("DATASYSTEM_CONNECT_TIME_MS", "3000")
    client = module(package, "kv_client").KVClient()
    client.init()
    client.set("environment", b"1")
    monkeypatch.setenv("DATASYSTEM_PORT", "many")
    with pytest.raises(RuntimeError, match="DATASYSTEM_PORT"):
        module(package, "kv_client").KVClient().init()
    monkeypatch.delenv("DATASYSTEM_HOST")
    monkeypatch.delenv("DATASYSTEM_PORT")
    with pytest.raises(RuntimeError, match="host and port"):
        module(package, "kv_client").KVClient().init()


def test_access_keys_are_proved(package):
    from conftest import Daemon

    daemon = None
    path = "/tmp/chariot-python-auth-%d.toml" % os.getpid()
    with open(path, "w") as file:
        file.write('[[credential]]\naccess-key = "a"\nsecret-key = "long enough secret 0123456789"\ntenant = "t"\n')
    os.chmod(path, 0o600)
    try:
        daemon = Daemon("--auth=" + path, memory="128MiB")
        make = module(package, "kv_client").KVClient
        good = dict(access_key="a", secret_key="long enough secret 0123456789", tenant_id="t")
        client = make(daemon.host, daemon.port, **good)
        client.init()
        client.set("authorised", b"1")
        for bad in ({}, dict(good, secret_key="wrong"), dict(good, access_key="b")):
            with pytest.raises(RuntimeError, match=re.escape("code: [Not authorized]")):
                make(daemon.host, daemon.port, **bad).init()
    finally:
        os.unlink(path)
        if daemon:
            daemon.close()


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_connect_timeout_is_positive(package, timeout):
    client = module(package, "kv_client").KVClient("127.0.0.1", 1, timeout)
    with pytest.raises(RuntimeError, match="must be a positive integer"):
        client.init()


@pytest.mark.parametrize("port", [-1, 70000])
def test_a_port_is_in_range(package, port):
    with pytest.raises(RuntimeError, match="Invalid parameter"):
        module(package, "kv_client").KVClient("127.0.0.1", port).init()


def test_calls_before_init_say_so(package):
    client = module(package, "kv_client").KVClient("127.0.0.1", 1)
    for call in (
        lambda: client.set("k", b"v"),
        lambda: client.get(["k"]),
        lambda: client.delete(["k"]),
        lambda: client.exist(["k"]),
        lambda: client.set_value(b"v"),
    ):
        with pytest.raises(RuntimeError, match="has not been initialized yet"):
            call()
    assert client.health_check().is_error()


# Single values.


@pytest.mark.parametrize("value", [b"b", bytearray(b"ba"), memoryview(b"mv"), "text \u00e9"])
def test_set_takes_four_types_and_get_gives_bytes(kv, value):
    key = name()
    assert kv.set(key, value) is None
    expected = value.encode() if isinstance(value, str) else bytes(value)
    assert kv.get([key]) == [expected]


def test_set_overwrites(kv):
    key = name()
    kv.set(key, b"1")
    kv.set(key=key, val=b"2", ttl_second=0)
    assert kv.get(keys=[key]) == [b"2"]


def test_get_converts_to_str(kv):
    key = name()
    kv.set(key, "w\u00f6rt")
    assert kv.get([key], True) == ["w\u00f6rt"]
    assert kv.get([key], convert_to_str=True) == ["w\u00f6rt"]


def test_set_value_makes_a_key(kv):
    key = kv.set_value(b"v")
    assert kv.get([key]) == [b"v"]
    assert kv.set_value(b"v", write_mode_of(kv).WRITE_THROUGH_L2_CACHE) == ""


def write_mode_of(kv):
    package = FIRST if kv._is_first else NEWEST
    return module(package, "kv_client").WriteMode


@pytest.mark.parametrize("size", [1, 500, 4096, 600 << 10, 5 << 20])
def test_values_of_every_size_come_back(kv, size):
    key, value = name(), os.urandom(size)
    kv.set(key, value)
    assert kv.get([key]) == [value]
    kv.delete([key])


@pytest.mark.parametrize("mode", ["NONE_L2_CACHE", "NONE_L2_CACHE_EVICT"])
def test_modes_without_l2_work(kv, mode):
    key = name()
    kv.set(key, b"v", getattr(write_mode_of(kv), mode))
    assert kv.get([key]) == [b"v"]


@pytest.mark.parametrize(
    "mode", ["WRITE_THROUGH_L2_CACHE", "WRITE_BACK_L2_CACHE", "WRITE_BACK_L2_CACHE_EVICT"]
)
def test_modes_with_l2_fail_by_name(kv, mode):
    mode = getattr(write_mode_of(kv), mode)
    for call in (
        lambda: kv.set(name(), b"v", mode),
        lambda: kv.set(name(), b"v" * 5000, mode),
        lambda: kv.mset([name()], [b"v"], mode),
    ):
        with pytest.raises(RuntimeError, match="L2_cache_type is set to none") as raised:
            call()
        assert "code: [Invalid parameter]" in str(raised.value)
        assert "WRITE_THROUGH_L2_CACHE" in str(raised.value)


def test_ttl_ends_and_overwrites_replace_it(kv):
    mortal, saved = name(), name()
    kv.set(mortal, b"1", ttl_second=1)
    kv.set(saved, b"1", ttl_second=1)
    kv.set(saved, b"2")
    assert kv.exist([mortal, saved]) == [True, True]
    end = time.monotonic() + 10
    while kv.exist([mortal]) == [True]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert kv.get([mortal, saved]) == [None, b"2"]


@pytest.mark.parametrize("ttl", [-1, 1 << 32, "1", 1.5, None])
def test_a_ttl_out_of_range_is_a_type_error(kv, ttl):
    for call in (
        lambda: kv.set("k", b"v", ttl_second=ttl),
        lambda: kv.mset(["k"], [b"v"], ttl_second=ttl),
        lambda: kv.expire(["k"], ttl),
        lambda: kv.mcreate(["k"], [1], ttl_second=ttl),
        lambda: kv.set_value(b"v", ttl_second=ttl),
    ):
        with pytest.raises(TypeError):
            call()


# Types: bool passes as int in the first generation only.


@pytest.mark.parametrize(
    "call",
    [
        lambda kv: kv.set(1, b"v"),
        lambda kv: kv.set(b"k", b"v"),
        lambda kv: kv.set("k", 1),
        lambda kv: kv.set("k", None),
        lambda kv: kv.set("k", [b"v"]),
        lambda kv: kv.set("k", b"v", 3),
        lambda kv: kv.set("k", b"v", "NONE_L2_CACHE"),
        lambda kv: kv.get("k"),
        lambda kv: kv.get(("k",)),
        lambda kv: kv.get([1]),
        lambda kv: kv.get([b"k"]),
        lambda kv: kv.get(["k"], 1),
        lambda kv: kv.get(["k"], False, "1"),
        lambda kv: kv.get_read_only_buffers("k"),
        lambda kv: kv.get_buffers("k"),
        lambda kv: kv.read("k"),
        lambda kv: kv.delete("k"),
        lambda kv: kv.delete([1]),
        lambda kv: kv.exist("k"),
        lambda kv: kv.expire("k", 1),
        lambda kv: kv.mset("k", [b"v"]),
        lambda kv: kv.mset(["k"], b"v"),
        lambda kv: kv.mset(["k"], [1]),
        lambda kv: kv.mset(["k"], [b"v"], existence_opt=1),
        lambda kv: kv.mcreate("k", [1]),
        lambda kv: kv.mcreate(["k"], 1),
        lambda kv: kv.mcreate(["k"], ["1"]),
        lambda kv: kv.mcreate(["k"], [-1]),
        lambda kv: kv.mset_buffer("k"),
        lambda kv: kv.mset_buffer(["k"]),
        lambda kv: kv.generate_key(1),
    ],
)
def test_wrong_types_are_type_errors(kv, call):
    with pytest.raises(TypeError):
        call(kv)


def test_a_bool_is_an_int_for_the_first_generation_only(first, newest):
    first.set("bool", b"v", ttl_second=True)
    with pytest.raises(TypeError, match="ttl_second has invalid type"):
        newest.set("bool", b"v", ttl_second=True)


# Keys.


@pytest.mark.parametrize("key", ["a" * 255, "a" * 1024, "Az09~.-/_!@#%^&*()+=:;", "m@pcp0@dcp0:1.2"])
def test_keys_of_every_generation_are_taken(kv, key):
    kv.set(key, b"v")
    assert kv.get([key]) == [b"v"]
    assert kv.exist([key]) == [True]
    assert kv.delete([key]) == []


@pytest.mark.parametrize("key", ["with space", "dollar$", "\u00e9", "a\0b", "a" * 1025])
def test_other_keys_name_the_rule(kv, key):
    for call in (
        lambda: kv.set(key, b"v"),
        lambda: kv.get([key]),
        lambda: kv.mset([key], [b"v"]),
        lambda: kv.delete([key]),
        lambda: kv.exist([key]),
        lambda: kv.mcreate(["fine", key], [1, 1]),
        lambda: kv.expire([key], 1),
    ):
        with pytest.raises(RuntimeError, match="illegal char") as raised:
            call()
        assert "code: [Invalid parameter]" in str(raised.value)


def test_empty_keys_and_lists_name_the_rule(kv):
    with pytest.raises(RuntimeError, match="The objectKey should not be empty."):
        kv.set("", b"v")
    for call in (kv.get, kv.get_buffers, kv.get_read_only_buffers, kv.delete, kv.exist):
        with pytest.raises(RuntimeError, match="The keys are empty"):
            call([])
        with pytest.raises(RuntimeError, match=re.escape("keys[0] can not be empty")):
            call([""])
    for call in (kv.get, kv.delete, kv.get_read_only_buffers):
        with pytest.raises(RuntimeError, match="The input of keys list should not be empty"):
            call()


def test_only_the_first_key_of_a_batch_is_judged(kv):
    key = name()
    kv.set(key, b"v")
    assert kv.get([key, "not a key"]) == [b"v", None]
    assert kv.exist([key, "not a key"]) == [True, False]


@pytest.mark.parametrize(
    "call",
    [
        lambda kv, keys: kv.get(keys),
        lambda kv, keys: kv.get_buffers(keys),
        lambda kv, keys: kv.get_read_only_buffers(keys),
        lambda kv, keys: kv.delete(keys),
        lambda kv, keys: kv.expire(keys, 1),
        lambda kv, keys: kv.mcreate(keys, [1] * len(keys)),
    ],
)
def test_a_batch_has_at_most_10000_keys(kv, call):
    with pytest.raises(RuntimeError, match="size exceed 10000"):
        call(kv, ["k"] * 10_001)


def test_exist_takes_100000_keys(kv):
    key = name()
    kv.set(key, b"v")
    assert kv.exist([key] + ["k%d" % index for index in range(99_999)])[:2] == [True, False]
    with pytest.raises(RuntimeError, match="The objectKeys size exceed 100000"):
        kv.exist(["k"] * 100_001)
    with pytest.raises(RuntimeError, match="Invalid parameter"):
        kv.exist([])


# Values.


def test_an_empty_value_names_the_rule(kv):
    with pytest.raises(RuntimeError, match="The dataSize value should be bigger than zero."):
        kv.set("k", b"")
    with pytest.raises(RuntimeError, match="associated with key k2 should not be empty"):
        kv.mset(["k1", "k2"], [b"v", b""])
    with pytest.raises(RuntimeError, match="bigger than zero"):
        kv.mcreate(["k"], [0])


def test_a_value_beyond_memory_is_out_of_memory(kv):
    with pytest.raises(RuntimeError, match="Shared memory no space in arena") as raised:
        kv.mcreate(["huge"], [1 << 40])
    assert "code: [Out of memory]" in str(raised.value)


# Misses.


def test_missing_keys_are_none_unless_all_are(kv):
    key = name()
    kv.set(key, b"v")
    assert kv.get([key, name()]) == [b"v", None]
    for call in (
        lambda: kv.get([name()]),
        lambda: kv.get([name(), name()]),
        lambda: kv.get_buffers([name()]),
        lambda: kv.get_read_only_buffers([name()]),
    ):
        with pytest.raises(RuntimeError, match="Key not found") as raised:
            call()
        assert "Cannot get objects from worker" in str(raised.value)


def test_get_waits_for_what_comes(kv, daemon):
    writer = module(FIRST, "kv_client").KVClient(daemon.host, daemon.port)
    writer.init()
    for wait in (
        lambda key: kv.get([key], False, 20_000),
        lambda key: kv.get([key], sub_timeout_ms=20_000),
        lambda key: kv.get([key], timeout_ms=20_000),
        lambda key: [bytes(kv.get_buffers([key], timeout_ms=20_000)[0])],
        lambda key: [bytes(kv.get_read_only_buffers([key], 20_000)[0].immutable_data())],
    ):
        key = name()
        timer = threading.Timer(0.03, writer.set, (key, b"late"))
        timer.start()
        assert wait(key) == [b"late"]
        timer.join()


def test_get_gives_up_after_its_wait(kv):
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="Key not found"):
        kv.get([name()], False, 100)
    assert 0.05 < time.monotonic() - begin < 5


@pytest.mark.parametrize("wait", [-1, 1 << 31])
def test_a_wait_out_of_range_names_the_range(kv, wait):
    for call in (kv.get_read_only_buffers, kv.get_buffers, lambda keys, ms: kv.get(keys, False, ms)):
        with pytest.raises(RuntimeError, match="is out of range"):
            call(["k"], wait)


# Batches.


def test_mset_returns_no_failed_keys(kv):
    keys = [name() for _ in range(1999)]
    assert kv.mset(keys, [b"v%d" % index for index in range(1999)]) == []
    assert kv.get(keys)[1998] == b"v1998"
    assert kv.delete(keys) == []


def test_mset_first_of_equal_keys_wins(kv):
    key, other = name(), name()
    assert kv.mset([key, other, key], [b"1", b"2", b"3"]) == [key]
    assert kv.get([key, other]) == [b"1", b"2"]


def test_mset_of_unequal_lengths_names_the_rule(kv):
    with pytest.raises(RuntimeError, match="The number of key and value is not the same."):
        kv.mset(["a", "b"], [b"v"])


def test_mset_nx_keeps_what_exists(package, kv):
    nx = module(package, "kv_client").ExistenceOpt.NX
    old, new = name(), name()
    kv.set(old, b"old")
    assert kv.mset([old, new], [b"1", b"2"], existence_opt=nx) == []
    assert kv.get([old, new]) == [b"old", b"2"]


def test_mset_reports_keys_that_failed(kv):
    good = name()
    assert kv.mset([good, "not a key"], [b"1", b"2"]) == ["not a key"]
    assert kv.get([good]) == [b"1"]


def test_mset_of_the_first_generation_has_limits(first, newest):
    keys = [name() for _ in range(2000)]
    with pytest.raises(RuntimeError, match="less than 2000"):
        first.mset(keys, [b"v"] * 2000)
    assert newest.mset(keys, [b"v"] * 2000) == []
    with pytest.raises(RuntimeError, match="must be less than 512000 Byte"):
        first.mset([name()], [b"v" * 512_000])
    assert first.mset([name()], [b"v" * 511_999]) == []
    assert newest.mset([name()], [b"v" * 512_000]) == []


def test_delete_of_missing_keys_succeeds(kv):
    key = name()
    kv.set(key, b"v")
    assert kv.delete([key, name()]) == []
    assert kv.delete([key]) == []
    assert kv.exist([key]) == [False]


def test_expire_renews_ends_and_reports_missing(kv):
    key, gone = name(), name()
    kv.set(key, b"v", ttl_second=1000)
    assert kv.expire([key, gone], 100) == [gone]
    assert kv.expire(keys=[key], ttl_second=0) == []
    with pytest.raises(RuntimeError, match=re.escape("code: [Key not found]")):
        kv.expire([gone], 1)
    assert kv.expire([key], 1) == []
    end = time.monotonic() + 10
    while kv.exist([key]) == [True]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_generate_key_has_the_shape_of_its_generation(first, newest):
    assert len(first.generate_key()) == 73 and first.generate_key()[36] == ";"
    assert first.generate_key("pre").startswith("pre;")
    assert len(newest.generate_key()) == 36 and ";" not in newest.generate_key()
    assert newest.generate_key("pre") == "pre"
    for kv in (first, newest):
        assert kv.generate_key() != kv.generate_key()
        kv.set(kv.generate_key(), b"v")


def test_health_check_is_a_status(kv):
    status = kv.health_check()
    assert status.is_ok() and not status.is_error()
    assert "code: [OK]" in status.to_string()
    assert status.get_msg() == ""


# Buffers.


def test_read_only_buffer_has_data_and_latches(kv):
    key, value = name(), os.urandom(1 << 20)
    kv.set(key, value)
    (buffer,) = kv.get_read_only_buffers([key])
    data = buffer.immutable_data()
    assert data == value and data.readonly
    buffer.rlatch(60)
    assert buffer.immutable_data(with_latch=True, timeout_sec=5) == value
    buffer.unrlatch()
    kv.set(key, b"other")
    del buffer
    assert data == value


def test_get_buffers_owns_pins_of_10000_keys(newest):
    keys = ["many%d" % index for index in range(10_000)]
    assert newest.mset(keys, [b"%08d" % index * 16 for index in range(10_000)]) == []
    buffers = newest.get_buffers(keys)
    assert all(bytes(memoryview(buffer)[:8]) == b"%08d" % at for at, buffer in enumerate(buffers))
    assert newest.delete(keys) == []
    assert bytes(buffers[9_999]) == b"00009999" * 16
    with pytest.raises(RuntimeError, match="Key not found"):
        newest.get_buffers(keys[:2])


def test_mcreate_buffers_are_written_in_place_and_published(kv):
    keys = [name() for _ in range(20)]
    sizes = [100 * (index + 1) for index in range(20)]
    buffers = kv.mcreate(keys, sizes)
    assert [buffer.GetSize() for buffer in buffers] == sizes
    assert kv.exist(keys) == [False] * 20
    for at, buffer in enumerate(buffers):
        data = buffer.MutableData()
        assert not data.readonly and len(data) == sizes[at]
        data[:] = bytes([at]) * sizes[at]
    del data
    assert bytes(buffers[3].ImmutableData()) == b"\3" * 400
    buffers[0].RLatch()
    buffers[0].UnRLatch()
    assert kv.mset_buffer(buffers) is None
    for at, value in enumerate(kv.get_buffers(keys)):
        assert value.GetSize() == sizes[at]
        assert bytes(value) == bytes([at]) * sizes[at]
    assert bytes(buffers[1].ImmutableData(True, 60)) == b"\1" * 200
    with pytest.raises(RuntimeError, match="published"):
        kv.mset_buffer(buffers)
    with pytest.raises(RuntimeError, match="buffers should not be empty"):
        kv.mset_buffer([])


def test_mcreate_checks_every_key_and_size(kv):
    with pytest.raises(RuntimeError, match="duplicate key"):
        kv.mcreate(["twice", "twice"], [1, 1])
    with pytest.raises(RuntimeError, match="not the same"):
        kv.mcreate(["one"], [1, 2])


def test_mset_buffer_under_live_memoryviews_copies(kv):
    key = name()
    (buffer,) = kv.mcreate([key], [4096])
    data = buffer.MutableData()
    data[:] = b"1" * 4096
    kv.mset_buffer([buffer])
    data[:] = b"2" * 4096
    assert kv.get([key]) == [b"1" * 4096]


def test_read_gives_ranges(package, kv):
    param = module(package, "kv_client").ReadParam
    one, two = name(), name()
    kv.set(one, b"0123456789")
    kv.set(two, b"abcdefghij")
    parts = kv.read([param(one, 2, 3), param(key=two, offset=8, size=2), param(name(), 0, 1)])
    assert [part and bytes(part.immutable_data()) for part in parts] == [b"234", b"ij", None]
    (rest,) = kv.read([param(one, 7, 0)])
    assert bytes(rest.immutable_data()) == b"789"
    with pytest.raises(RuntimeError, match=re.escape("The read offset 10 out of range [0,10)")):
        kv.read([param(one, 10, 1)])
    with pytest.raises(RuntimeError, match="duplicate key"):
        kv.read([param(one, 0, 1), param(one, 1, 1)])
    with pytest.raises(RuntimeError, match="overflow"):
        kv.read([param(one, (1 << 64) - 1, 2)])
    for bad in (param(one, -1, 1), param(1, 0, 1), param(one, "0", 1)):
        with pytest.raises(TypeError):
            kv.read([bad])


# Transactions.


def test_msettx_of_the_newest_generation_is_gone(newest):
    with pytest.raises(RuntimeError, match="MSetTx is a deprecated API and is no longer supported"):
        newest.msettx([name()], [b"v"])


# Trouble.


def test_no_daemon_fails_within_the_deadline(package, own_daemon):
    own_daemon.kill()
    for part, owner in (
        ("kv_client", "KVClient"),
        ("object_client", "ObjectClient"),
        ("hetero_client", "HeteroClient"),
        ("ds_client", "DsClient"),
    ):
        client = getattr(module(package, part), owner)(own_daemon.host, own_daemon.port, 2000)
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=re.escape("code: [RPC unavailable]")):
            client.init()
        assert time.monotonic() - begin < 4


def test_a_call_under_way_ends_when_the_daemon_dies(package, own_daemon):
    """Killed in the middle: a reader that waits for a key, and a writer in a loop."""
    client = module(package, "kv_client").KVClient(own_daemon.host, own_daemon.port, 3000)
    client.init()
    client.set("before", b"1")
    outcomes = {}

    def waits():
        begin = time.monotonic()
        try:
            client.get([name()], False, 60_000)
        except RuntimeError as failed:
            outcomes["reader"] = str(failed), time.monotonic() - begin

    def writes():
        written = 0
        try:
            while True:
                client.set("written", b"%d" % written * 2000)
                written += 1
                started.set()
        except RuntimeError as failed:
            outcomes["writer"] = str(failed), written

    started = threading.Event()
    threads = [threading.Thread(target=body) for body in (waits, writes)]
    for thread in threads:
        thread.start()
    assert started.wait(20)
    own_daemon.kill()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert outcomes["writer"][1] >= 1 and "code: [" in outcomes["writer"][0]
    assert outcomes["reader"][1] < 20 and "code: [" in outcomes["reader"][0]


def test_daemon_killed_and_restarted(package, own_daemon):
    client = module(package, "kv_client").KVClient(own_daemon.host, own_daemon.port, 2000)
    client.init()
    client.set("before", b"1" * 5000)
    (buffer,) = client.get_buffers(["before"])
    (unpublished,) = client.mcreate(["open"], [5000])
    own_daemon.kill()
    for call in (
        lambda: client.get(["before"]),
        lambda: client.set("before", b"2"),
        lambda: client.mset(["before"], [b"2"]),
        lambda: client.exist(["before"]),
        lambda: client.delete(["before"]),
        lambda: client.mset_buffer([unpublished]),
    ):
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=r"code: \["):
            call()
        assert time.monotonic() - begin < 4
    assert client.health_check().is_error()
    assert bytes(buffer) == b"1" * 5000
    own_daemon.start()
    end = time.monotonic() + 30
    while client.health_check().is_error():
        assert time.monotonic() < end
        time.sleep(0.01)
    client.set("after", b"3")
    assert client.get(["after"]) == [b"3"]


PROGRAM = """
import sys, time
begin = time.process_time()
import {package}
from {package} import KVClient, DsClient, HeteroClient
ms = (time.process_time() - begin) * 1000
assert not {{"torch", "numpy", "asyncio", "uuid"}} & set(sys.modules), "heavy imports"
print(ms)
"""


def test_import_is_quick_and_light(package):
    times = []
    for _ in range(5):
        command = [sys.executable, "-c", PROGRAM.format(package=package)]
        times.append(float(subprocess.check_output(command)))
    assert min(times) < 50, "import takes %s ms" % times
