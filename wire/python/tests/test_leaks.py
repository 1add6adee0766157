"""Nothing is leaked: memory and descriptors are measured around many cycles."""

import os

import chariot
import pytest
from datasystem.kv_client import KVClient as FirstKVClient


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def resident_kib():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    raise AssertionError("no RssAnon line")


def mappings():
    with open("/proc/self/maps") as maps:
        return sum(1 for _ in maps)


def cycle(count, body):
    """Runs `body` often; what is held afterwards is what was held after a warm-up."""
    for _ in range(min(count // 10 + 20, 2000)):
        body()
    before = descriptors(), resident_kib(), mappings()
    for _ in range(count):
        body()
    after = descriptors(), resident_kib(), mappings()
    assert after[0] <= before[0], "descriptors leak: %s then %s" % (before, after)
    assert after[1] <= before[1] + 4096, "memory leaks: %s then %s KiB" % (before, after)
    assert after[2] <= before[2] + 8, "mappings leak: %s then %s" % (before, after)


def views_and_buffers(daemon, count):
    with chariot.Client(daemon.address) as client:
        client.set("leak", b"l" * 5000)

        def body():
            memoryview(client.view("leak")).release()
            buffer = client.create("leak2", 4096)
            memoryview(buffer)[:1] = b"1"
            buffer.discard()

        cycle(count, body)


def test_views_and_buffers_leak_nothing(daemon):
    views_and_buffers(daemon, 100_000)


def test_published_buffers_leak_nothing(daemon):
    client = FirstKVClient(daemon.host, daemon.port)
    client.init()

    def body():
        buffers = client.mcreate(["leaked"], [4096])
        buffers[0].MutableData()[:1] = b"1"
        client.mset_buffer(buffers)
        assert client.get_buffers(["leaked"])[0].GetSize() == 4096

    cycle(5000, body)


def clients(daemon, count):
    def body():
        client = FirstKVClient(daemon.host, daemon.port)
        client.init()
        client.set("leak3", b"1")

    cycle(count, body)


def test_clients_leak_nothing(daemon):
    clients(daemon, 300)


@pytest.mark.long
def test_very_many_clients_leak_nothing(daemon):
    clients(daemon, 100_000)


def test_the_measure_sees_a_leak(daemon):
    held = []
    with pytest.raises(AssertionError, match="descriptors leak"):
        cycle(20, lambda: held.append(os.open("/dev/null", os.O_RDONLY)))
    with pytest.raises(AssertionError, match="memory leaks"):
        cycle(200, lambda: held.append(bytearray(os.urandom(65536))))
    for one in held:
        if isinstance(one, int):
            os.close(one)
