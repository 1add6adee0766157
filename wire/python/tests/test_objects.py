"""ObjectClient, Buffer and transactions: every line of the old surface, old and new import paths."""

import importlib
import os
import re
import subprocess
import sys
import time
import uuid

import pytest

FIRST, NEWEST = "datasystem", "yr.datasystem"


def module(package, name):
    return importlib.import_module(package + "." + name)


@pytest.fixture(params=[FIRST, NEWEST])
def package(request):
    return request.param


def connect(package, daemon, part="object_client", owner="ObjectClient"):
    client = getattr(module(package, part), owner)(daemon.host, daemon.port)
    client.init()
    return client


@pytest.fixture
def objects(package, daemon):
    return connect(package, daemon)


def name():
    return "object-%s" % uuid.uuid4()


def read(objects, key):
    (buffer,) = objects.get([key], 1000)
    return bytes(buffer.immutable_data())


def test_create_write_publish_get(objects):
    key = name()
    buffer = objects.create(key, 16)
    assert buffer.get_size() == 16
    buffer.memory_copy(b"0123456789abcdef")
    buffer.publish()
    assert read(objects, key) == b"0123456789abcdef"
    data = buffer.mutable_data()
    data[:4] = b"AAAA"
    buffer.publish()
    assert read(objects, key) == b"AAAA456789abcdef"
    assert bytes(buffer.immutable_data()[:4]) == b"AAAA"
    assert buffer.immutable_data().readonly and not data.readonly


def test_what_was_got_can_be_changed_and_published(objects):
    key = name()
    objects.put(key, b"old old ")
    (buffer,) = objects.get([key], 1000)
    buffer.mutable_data()[:3] = b"new"
    assert read(objects, key) == b"old old "
    buffer.publish()
    assert read(objects, key) == b"new old "


@pytest.mark.parametrize("value", [b"v" * 10, bytearray(b"w" * 10), memoryview(b"x" * 10)])
def test_put_takes_three_types(objects, value):
    key = name()
    objects.put(key, value)
    assert read(objects, key) == bytes(value)


def test_arguments_of_every_generation_are_taken(package, objects):
    consistency = module(package, "object_client").ConsistencyType
    mode = module(package, "object_client").WriteMode.NONE_L2_CACHE_EVICT
    objects.create(name(), 8, mode, consistency.CAUSAL).publish()
    objects.create(name(), 8, write_mode=mode, consistency_type=consistency.PRAM).publish()
    objects.create(name(), 8, {"consistency_type": consistency.CAUSAL}).publish()
    objects.put(name(), b"v", mode, consistency.PRAM, [])
    objects.put(name(), b"v", {"consistency_type": consistency.PRAM}, [])
    objects.put(name(), b"v", nested_object_keys=[])
    with pytest.raises(TypeError):
        objects.put(name(), b"v", 3)
    with pytest.raises(TypeError):
        objects.create(name(), 8, colour=1)


def test_seal_ends_all_change(objects, package, daemon):
    key = name()
    buffer = objects.create(key, 4)
    buffer.memory_copy(b"once")
    buffer.seal()
    for again in (buffer.publish, buffer.seal):
        with pytest.raises(RuntimeError, match="already been sealed"):
            again()
    with pytest.raises(RuntimeError, match=re.escape("code: [Object already sealed error]")):
        connect(package, daemon).put(key, b"twice")
    assert read(objects, key) == b"once"


def test_invalidate_gives_up(objects):
    buffer = objects.create(name(), 4)
    data = buffer.mutable_data()
    buffer.invalidate_buffer()
    for call in (buffer.publish, buffer.mutable_data, buffer.immutable_data, buffer.rlatch):
        with pytest.raises(RuntimeError, match="The buffer is None, please create it first."):
            call()
    data[0] = 1


def test_latches_exclude_each_other(objects, package, daemon):
    key = name()
    objects.put(key, b"latched")
    other = connect(package, daemon)
    (one,), (two,) = objects.get([key], 1000), other.get([key], 1000)
    one.rlatch()
    two.rlatch(1)
    with pytest.raises(RuntimeError, match="Wlatch timeout"):
        two.wlatch(1)
    two.unrlatch()
    one.unrlatch()
    one.wlatch()
    with pytest.raises(RuntimeError, match="Rlatch timeout"):
        two.rlatch(1)
    one.unwlatch()
    two.wlatch(1)
    two.unwlatch()
    with pytest.raises(RuntimeError, match="does not hold"):
        two.unwlatch()
    with pytest.raises(RuntimeError, match="Invalid timeout_sec size 0"):
        two.rlatch(0)
    one.wlatch()
    del one
    two.wlatch(5)


HOLDER = """
import sys
from {package}.object_client import ObjectClient
client = ObjectClient("{host}", {port})
client.init()
(buffer,) = client.get(["{key}"], 1000)
buffer.wlatch()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_latch_ends_with_its_holder(objects, package, daemon):
    key = name()
    objects.put(key, b"held")
    text = HOLDER.format(package=package, host=daemon.host, port=daemon.port, key=key)
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        (buffer,) = objects.get([key], 1000)
        with pytest.raises(RuntimeError, match="latch timeout"):
            buffer.rlatch(1)
        holder.kill()
    buffer.rlatch(20)


def until_gone(objects, key):
    end = time.monotonic() + 10
    while True:
        try:
            objects.get([key], 1)
        except RuntimeError as failed:
            assert "Key not found" in str(failed)
            return
        assert time.monotonic() < end
        time.sleep(0.01)


def test_references_keep_and_end_an_object(objects, package, daemon):
    key = name()
    objects.put(key, b"counted")
    other = connect(package, daemon)
    assert objects.g_increase_ref([key]) == []
    assert objects.g_increase_ref([key]) == []
    assert other.g_increase_ref([key]) == []
    assert objects.query_global_ref_num(key) == 2
    assert objects.g_decrease_ref([key]) == []
    assert other.g_decrease_ref([key]) == []
    assert objects.query_global_ref_num(key) == 1
    assert read(objects, key) == b"counted"
    assert objects.g_decrease_ref([key]) == []
    until_gone(objects, key)
    assert objects.g_decrease_ref([name()]) == []
    assert objects.query_global_ref_num(key) == 0


def test_nested_keys_live_with_their_parent(objects, package, daemon):
    child, parent = name(), name()
    objects.put(child, b"child")
    assert objects.g_increase_ref([child]) == []
    objects.put(parent, b"parent", nested_object_keys=[child])
    assert objects.g_increase_ref([parent]) == []
    assert objects.g_decrease_ref([child]) == []
    assert read(objects, child) == b"child"
    assert objects.g_decrease_ref([parent]) == []
    until_gone(objects, parent)
    until_gone(objects, child)


def test_daemon_killed_and_restarted(package, own_daemon):
    objects = connect(package, own_daemon)
    objects.put("before", b"kept")
    (held,) = objects.get(["before"], 1000)
    half = objects.create("half", 4)
    own_daemon.kill()
    for call in (
        lambda: objects.put("after", b"lost"),
        lambda: objects.get(["before"], 10),
        lambda: objects.g_increase_ref(["before"]),
        lambda: half.publish(),
        lambda: held.wlatch(1),
    ):
        begin = time.monotonic()
        with pytest.raises(RuntimeError):
            call()
        assert time.monotonic() - begin < 20
    assert bytes(held.immutable_data()) == b"kept"
    own_daemon.start()
    end = time.monotonic() + 30
    while True:
        try:
            objects.put("after", b"found")
            break
        except RuntimeError:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert read(objects, "after") == b"found"
    half.publish()
    assert len(read(objects, "half")) == 4


def test_missing_objects_are_none_unless_all_are(objects):
    key = name()
    objects.put(key, b"v")
    found = objects.get([key, name()], 1)
    assert found[1] is None and bytes(found[0].immutable_data()) == b"v"
    with pytest.raises(RuntimeError, match="Key not found"):
        objects.get([name()], 1)


def test_object_keys_have_the_shape_of_their_generation(package, objects):
    generate = objects.generate_object_key if package == FIRST else objects.generate_object_id
    assert len(generate()) == (73 if package == FIRST else 36)
    assert generate("p").startswith("p")


@pytest.mark.parametrize(
    "call",
    [
        lambda objects: objects.create(1, 1),
        lambda objects: objects.create("k", "1"),
        lambda objects: objects.put("k", "text"),
        lambda objects: objects.put("k", 1),
        lambda objects: objects.put("k", b"v", nested_object_keys="k"),
        lambda objects: objects.get("k", 1),
        lambda objects: objects.get(["k"], "1"),
        lambda objects: objects.get(["k"]),
        lambda objects: objects.g_increase_ref("k"),
        lambda objects: objects.g_decrease_ref([1]),
        lambda objects: objects.query_global_ref_num(1),
        lambda objects: objects.generate_object_key(1),
        lambda objects: objects.create("k", 4).memory_copy("text"),
    ],
)
def test_wrong_types_are_type_errors(objects, call):
    with pytest.raises(TypeError):
        call(objects)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda objects: objects.create("", 1), "The objectKey should not be empty."),
        (lambda objects: objects.create("a b", 1), "illegal char"),
        (lambda objects: objects.create("k", 0), "The dataSize value should be bigger than zero."),
        (lambda objects: objects.create("k", 1 << 50), "Out of memory"),
        (lambda objects: objects.put("k", b""), "bigger than zero"),
        (lambda objects: objects.put("a b", b"v"), "illegal char"),
        (lambda objects: objects.get([], 1), "The input of object_keys list should not be empty"),
        (lambda objects: objects.get(["k"], -1), "should be between"),
        (lambda objects: objects.get(["k"], 1 << 31), "should be between"),
        (lambda objects: objects.g_increase_ref([]), "object_keys list should not be empty"),
        (lambda objects: objects.g_increase_ref(["k"] * 10_001), "size exceed 10000"),
        (lambda objects: objects.create("k", 4).memory_copy(b"12345"), "do not fit"),
    ],
)
def test_requests_that_are_refused_name_the_rule(objects, call, text):
    with pytest.raises(RuntimeError, match=re.escape(text)):
        call(objects)


# Transactions (chariot-ds 0.1.6 only).


@pytest.fixture
def kv(daemon):
    return connect(FIRST, daemon, "kv_client", "KVClient")


NX = module(FIRST, "kv_client").ExistenceOpt.NX


def test_msettx_sets_all_or_nothing(kv):
    keys = [name() for _ in range(8)]
    values = [os.urandom(10 + 3000 * at) for at in range(8)]
    assert kv.msettx(keys, values, existence_opt=NX) is None
    assert kv.get(keys) == values
    others = [name(), keys[3], name()]
    with pytest.raises(RuntimeError, match="already exist"):
        kv.msettx(others, [b"1", b"2", b"3"], existence_opt=NX)
    assert kv.exist(others) == [False, True, False]
    assert kv.get([keys[3]]) == [values[3]]


def test_msettx_names_its_rules(kv):
    with pytest.raises(RuntimeError, match="The maximum size of keys in single operation is 8."):
        kv.msettx([name() for _ in range(9)], [b"v"] * 9, existence_opt=NX)
    with pytest.raises(RuntimeError, match="only supports set not existence key now"):
        kv.msettx([name()], [b"v"])
    with pytest.raises(RuntimeError, match="contains duplicate key twice"):
        kv.msettx(["twice", "twice"], [b"1", b"2"], existence_opt=NX)
    with pytest.raises(RuntimeError, match="is not the same"):
        kv.msettx(["one"], [b"1", b"2"], existence_opt=NX)
    with pytest.raises(RuntimeError, match="The keys are empty"):
        kv.msettx([], [], existence_opt=NX)
    with pytest.raises(RuntimeError, match="should not be empty"):
        kv.msettx(["one"], [b""], existence_opt=NX)
    with pytest.raises(TypeError):
        kv.msettx(["one"], [1], existence_opt=NX)
