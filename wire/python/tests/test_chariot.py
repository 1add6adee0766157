"""Our own package: values, views, buffers, batches, life cycles, errors."""

import asyncio
import gc
import os
import pickle
import threading
import time

import chariot
import pytest


@pytest.fixture
def client(daemon):
    with chariot.Client(daemon.address) as client:
        yield client


def test_set_and_get_take_every_kind_of_bytes(client):
    for value in (b"bytes", bytearray(b"array"), memoryview(b"view"), "t\u00e9xt"):
        version = client.set("kind", value)
        assert version > 0
        expected = value.encode() if isinstance(value, str) else bytes(value)
        assert client.get("kind") == expected
        assert client.get(b"kind") == expected


def test_get_of_a_missing_key_is_none(client):
    assert client.get("nothing") is None
    assert client.view("nothing") is None
    assert client.size("nothing") is None
    assert client.get_into("nothing", bytearray(4)) is None
    assert "nothing" not in client
    assert client.delete("nothing") is False
    assert client.expire("nothing", 1) is False


@pytest.mark.parametrize("size", [1, 100, 4096, 65536, 65537, 72 << 10, 3 << 20])
def test_bytes_come_back_in_every_size(client, size):
    value = os.urandom(size)
    client.set("sized", value)
    assert client.get("sized") == value
    assert client.size("sized") == size
    with client.view("sized") as view:
        assert bytes(view) == value
        assert len(view) == size
    buffer = bytearray(size)
    assert client.get_into("sized", buffer) == size
    assert buffer == value


def test_get_of_a_range_reads_only_that(client):
    client.set("range", b"0123456789")
    assert client.get("range", offset=2, size=3) == b"234"
    assert client.get("range", offset=7) == b"789"
    with client.view("range", offset=1, size=2) as view:
        assert bytes(view) == b"12"
    with pytest.raises(chariot.Error) as raised:
        client.get("range", offset=5, size=6)
    assert raised.value.status == "RangeInvalid"
    assert raised.value.code == 506
    assert raised.value.remedy


def test_view_is_a_read_only_buffer_that_owns_its_pin(client):
    client.set("pinned", b"a" * 5000)
    view = client.view("pinned")
    assert view.pinned
    shown = memoryview(view)
    assert shown.readonly and shown.nbytes == 5000 and shown.contiguous
    with pytest.raises(TypeError):
        shown[0] = 1
    with pytest.raises(BufferError):
        view.release()
    version = view.version
    del view
    gc.collect()
    client.set("pinned", b"b" * 5000)
    client.delete("pinned")
    for _ in range(50):
        client.set("filler", b"c" * 5000)
    assert shown == b"a" * 5000
    assert version > 0
    shown.release()


def test_view_released_lends_nothing_more(client):
    client.set("released", b"x" * 10)
    view = client.view("released")
    view.release()
    view.release()
    with pytest.raises(BufferError):
        memoryview(view)


def test_view_outlives_its_client(daemon):
    client = chariot.Client(daemon.address)
    client.set("outlived", b"y" * 4096)
    shown = memoryview(client.view("outlived"))
    client.close()
    assert shown == b"y" * 4096
    with pytest.raises(ValueError, match="closed"):
        client.get("outlived")


def test_create_publishes_what_was_written_in_place(client):
    with client.create("made", 8192) as buffer:
        memoryview(buffer)[:] = b"z" * 8192
    assert client.get("made") == b"z" * 8192
    with pytest.raises(chariot.Error, match="published"):
        buffer.publish()
    with pytest.raises(BufferError):
        memoryview(buffer)


def test_create_discards_when_the_block_fails(client):
    with pytest.raises(KeyError):
        with client.create("unmade", 64):
            raise KeyError
    assert not client.exist("unmade")


def test_publish_under_a_live_memoryview_copies_and_stays_harmless(client):
    buffer = client.create("watched", 4096)
    shown = memoryview(buffer)
    shown[:] = b"1" * 4096
    buffer.publish()
    shown[:] = b"2" * 4096
    assert client.get("watched") == b"1" * 4096
    shown.release()


def test_batches_answer_in_order(client):
    items = {"batch%d" % index: b"v%d" % index * 50 for index in range(300)}
    client.mset(items)
    names = list(items) + ["batch-missing"]
    assert client.mget(names) == list(items.values()) + [None]
    assert [view and bytes(view) for view in client.mview(names)] == list(items.values()) + [None]
    assert client.mexist(names) == [True] * 300 + [False]
    assert client.prefix(names) == 300
    assert client.mdelete(names) == [True] * 300 + [False]
    assert client.mget([]) == []


def test_ttl_ends_and_expire_changes_it(client):
    client.set("mortal", b"1", ttl=0.2)
    client.set("saved", b"1", ttl=0.2)
    assert client.expire("saved", None)
    end = time.monotonic() + 10
    while client.exist("mortal"):
        assert time.monotonic() < end
    assert client.get("mortal") is None
    assert client.get("saved") == b"1"


def test_if_absent_keeps_the_first(client):
    client.delete("first")
    client.set("first", b"1", if_absent=True)
    with pytest.raises(chariot.Error) as raised:
        client.set("first", b"2", if_absent=True)
    assert raised.value.status == "Exists"
    assert client.get("first") == b"1"


def test_wait_sees_a_value_that_comes_later(client, daemon):
    writer = chariot.Client(daemon.address)
    client.delete("later")
    timer = threading.Timer(0.05, writer.set, ("later", b"now"))
    timer.start()
    assert client.get("later", wait=20) == b"now"
    timer.join()


def test_other_threads_run_while_a_call_waits(client):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(client.get("never", wait=1.0)))
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += 1
        time.sleep(0)
    thread.join()
    assert seen == [None]
    assert turns > 10, "the interpreter stood still while a call waited"


def test_tcp_reads_and_writes_the_same(daemon):
    with chariot.Client(daemon.address, shared_memory=False) as client:
        assert client.place == "tcp"
        client.set("remote", b"r" * 100_000)
        assert client.get("remote") == b"r" * 100_000
        with client.view("remote") as view:
            assert not view.pinned
        with client.create("remote2", 10) as buffer:
            memoryview(buffer)[:] = b"0123456789"
        assert client.mget(["remote2", "none"]) == [b"0123456789", None]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get(1),
        lambda client: client.get(None),
        lambda client: client.set("k", 1),
        lambda client: client.set("k", None),
        lambda client: client.mget("one string"),
        lambda client: client.mget([1]),
        lambda client: client.mset({"k": 3}),
        lambda client: client.set("k", b"v", ttl="x"),
        lambda client: client.get(),
        lambda client: client.get("k", unknown=1),
        lambda client: client.get_into("k", b"fixed"),
        lambda client: pickle.dumps(client),
    ],
)
def test_wrong_types_are_type_errors(client, call):
    client.set("k", b"v")
    with pytest.raises((TypeError, BufferError)):
        call(client)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.set("k", b"v", ttl=-1),
        lambda client: client.set("k", b"v", ttl=0),
        lambda client: client.set("k", b"v", ttl=float("nan")),
        lambda client: client.set("k", b"v", mode="fast"),
        lambda client: client.get("k", wait=-1),
    ],
)
def test_values_without_sense_are_value_errors(client, call):
    with pytest.raises(ValueError):
        call(client)


@pytest.mark.parametrize(
    "call, status",
    [
        (lambda client: client.get(""), "KeyInvalid"),
        (lambda client: client.get("with space"), "KeyInvalid"),
        (lambda client: client.set("k" * 1025, b"v"), "KeyInvalid"),
        (lambda client: client.set("k", b""), "InvalidArgument"),
        (lambda client: client.set("k", b"v", mode="write_through"), "NotSupported"),
        (lambda client: client.create("k", 1 << 40), "TooLarge"),
    ],
)
def test_requests_that_are_refused_name_their_status(client, call, status):
    with pytest.raises(chariot.Error) as raised:
        call(client)
    assert raised.value.status == status


def test_errors_travel_between_processes(client):
    with pytest.raises(chariot.Error) as raised:
        client.get("")
    copied = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(copied, chariot.Error)
    assert (copied.status, str(copied)) == ("KeyInvalid", str(raised.value))
    assert repr(copied).startswith("Error(")


def test_connect_where_nobody_listens_fails_soon(own_daemon):
    own_daemon.kill()
    begin = time.monotonic()
    with pytest.raises(chariot.Error) as raised:
        chariot.Client(own_daemon.address)
    assert raised.value.status == "Restarting"
    assert time.monotonic() - begin < 5


def test_daemon_killed_means_misses_then_recovery(own_daemon):
    client = chariot.Client(own_daemon.address, request_timeout=2)
    client.set("lost", b"1" * 5000)
    shown = memoryview(client.view("lost"))
    own_daemon.kill()
    begin = time.monotonic()
    assert client.get("lost") is None
    with pytest.raises(chariot.Error):
        client.set("lost", b"2")
    assert time.monotonic() - begin < 5
    assert client.place == "away"
    assert shown == b"1" * 5000, "a view keeps its bytes"
    own_daemon.start()
    end = time.monotonic() + 30
    while True:
        try:
            client.set("found", b"3")
            break
        except chariot.Error:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert client.get("found") == b"3"


def test_fork_with_live_views_and_buffers_is_harmless(daemon):
    client = chariot.Client(daemon.address)
    client.set("forked", b"f" * 5000)
    view = client.view("forked")
    shown = memoryview(view)
    buffer = client.create("half", 5000)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            bytes(shown[:10])
            try:
                client.get("forked")
            except chariot.Error:
                code = 0
            other = chariot.Client(daemon.address)
            if other.get("forked") != b"f" * 5000:
                code = 2
            shown.release()
            del view, buffer, client
            gc.collect()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert shown == b"f" * 5000
    memoryview(buffer)[:] = b"h" * 5000
    buffer.publish()
    assert client.get("half") == b"h" * 5000


def _use_elsewhere(address):
    with chariot.Client(address) as client:
        return client.get("pool")


def test_multiprocessing_pool_connects_for_itself(daemon, client):
    import multiprocessing

    client.set("pool", b"p" * 5000)
    view = client.view("pool")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_use_elsewhere, [daemon.address] * 4) == [b"p" * 5000] * 4
    assert bytes(view) == b"p" * 5000


def test_asyncio_face_awaits(daemon):
    async def run():
        async with await chariot.AsyncClient.connect(daemon.address) as client:
            await client.set("async", b"a")
            values = await asyncio.gather(*(client.get("async") for _ in range(20)))
            assert values == [b"a"] * 20
            buffer = await client.create("async2", 3)
            memoryview(buffer)[:] = b"abc"
            buffer.publish()
            assert await client.mget(["async2", "gone"]) == [b"abc", None]
            assert (await client.view("async2")).pinned
            assert await client.exist("async2") and await client.delete("async2")

    asyncio.run(run())
