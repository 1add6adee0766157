"""Both old packages on a simulated Ascend card, whose addresses no process can read.

Each program runs in a process of its own, because a process finds its accelerators once, and the
simulator is told by the environment."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import TOP
from test_kv import FIRST, NEWEST

PROLOGUE = """
import sys
from card import Card
from {package} import hetero_client, ds_tensor_client

HOST, PORT = sys.argv[1], int(sys.argv[2])
Blob, DeviceBlobList = hetero_client.Blob, hetero_client.DeviceBlobList
SIZES = [1, 73728, 300_001]

def pattern(seed, size):
    return bytes((seed * 131 + at * 7 + (at >> 8)) & 0xFF for at in range(size))

def connect(make=hetero_client.HeteroClient, *more):
    client = make(HOST, PORT, *more, connect_timeout_ms=60000)
    client.init()
    return client

def filled(card, seed):
    return [card.filled(pattern(seed + at, size)) for at, size in enumerate(SIZES)]

def empty(card):
    return [card.allocate(size) for size in SIZES]

def blobs(card, addresses):
    return DeviceBlobList(card.ordinal, [Blob(a, s) for a, s in zip(addresses, SIZES)])

def holds(card, addresses, seed):
    wanted = [pattern(seed + at, size) for at, size in enumerate(SIZES)]
    return [card.read(a, s) for a, s in zip(addresses, SIZES)] == wanted

def say(word):
    print(word, flush=True)

def hear(word):
    line = sys.stdin.readline().strip()
    assert line == word, (line, word)
"""

COPIES = """
card = Card(1)
client = connect()
there = filled(card, 1)
client.mset_d2h(["copy/1"], [blobs(card, there)])
back = empty(card)
assert client.mget_h2d(["copy/1", "copy/none"], [blobs(card, back), blobs(card, empty(card))], 0) == [
    "copy/none"
]
assert holds(card, back, 1)
# Without a number: the card that this thread works with.
client.mset_d2h_from_multi_buffers(["copy/2"], [filled(card, 2)], [SIZES])
back = empty(card)
assert client.mget_h2d_from_multi_buffers(["copy/2"], [back], [SIZES], 0) == []
assert holds(card, back, 2)
assert client.async_mset_d2h(["copy/3"], [blobs(card, filled(card, 3))]).get(60000) == []
back = empty(card)
assert client.async_mget_h2d(["copy/3"], [blobs(card, back)], 0).get(60000) == []
assert holds(card, back, 3)
try:
    client.mset_d2h(["copy/4"], [DeviceBlobList(99, [Blob(there[1], SIZES[1])])])
except RuntimeError as error:
    assert "Invalid parameter" in str(error), error
else:
    raise AssertionError("there is no card 99")

class Tensor:
    def __init__(self, address, size, device):
        self._address, self.nbytes, self.device = address, size, device

    def is_contiguous(self):
        return True

    def data_ptr(self):
        return self._address

tensors = connect(ds_tensor_client.DsTensorClient, 1)
made = [Tensor(a, s, "Ascend:1") for a, s in zip(there, SIZES)]
keys = ["tensor/%d" % at for at in range(3)]
tensors.mset_d2h(keys, made)
back = empty(card)
assert tensors.mget_h2d(keys, [Tensor(a, s, "npu") for a, s in zip(back, SIZES)]) == []
assert holds(card, back, 1)
try:
    tensors.mset_d2h(["tensor/cuda"], [Tensor(there[0], 1, "cuda:0")])
except ValueError as error:
    assert "accelerators here are ascend" in str(error), error
else:
    raise AssertionError("an address of another kind of card")
say("done")
"""

PROVIDER = """
card = Card(0)
client = connect()
kept, moved = filled(card, 10), filled(card, 20)
assert client.dev_mset(["kept"], [blobs(card, kept)]) == []
sent = client.dev_publish(["moved"], [blobs(card, moved)])
say("offered")
assert sent[0].get(60000) == []
hear("received")
# Both directions at once: each waits for what the other has.
assert client.dev_mset(["mine/0"], [blobs(card, filled(card, 30))]) == []
back = empty(card)
assert client.dev_mget(["mine/1"], [blobs(card, back)], 60000) == [] and holds(card, back, 40)
say("crossed")
hear("crossed")
assert client.dev_delete(["kept", "mine/0", "mine/1"]) == []
say("deleted")
hear("end")
"""

RECEIVER = """
card = Card(1)
client = connect()
back = empty(card)
assert client.dev_mget(["kept"], [blobs(card, back)], 0) == [] and holds(card, back, 10)
failed, metas = client.get_meta_info(["kept"], True)
assert failed == [] and metas[0].blob_size_list == SIZES
into = empty(card)
assert client.dev_subscribe(["moved"], [blobs(card, into)])[0].get(60000) == []
assert holds(card, into, 20)
say("received")
assert client.dev_mset(["mine/1"], [blobs(card, filled(card, 40))]) == []
back = empty(card)
assert client.dev_mget(["mine/0"], [blobs(card, back)], 60000) == [] and holds(card, back, 30)
say("crossed")
hear("deleted")
for key in ("kept", "moved", "mine/0"):
    # A card that has a copy hears of the deletion a moment later; until then it serves itself.
    while True:
        try:
            client.dev_mget([key], [blobs(card, empty(card))], 0)
        except RuntimeError as error:
            assert "Key not found" in str(error), error
            break
say("end")
"""


@pytest.fixture(params=(FIRST, NEWEST))
def package(request):
    return request.param


@pytest.fixture
def simulated(tmp_path):
    """The environment of a host with simulated cards; what programs leave behind fails the test."""
    name = "libchariot_npu_sim.so"
    places = [TOP / "target" / profile / name for profile in ("debug", "release")]
    built = next((place for place in places if place.exists()), None)
    assert built, "no %s: cargo build -p chariot-npu-sim" % name
    for library in ("libascendcl.so", "libhccl.so", "libhcomm.so"):
        (tmp_path / library).symlink_to(built)
    return {
        **os.environ,
        "ASCEND_RT_LIB_DIR": str(tmp_path),
        "ASCEND_SIM_DIR": str(tmp_path / "host"),
        "ASCEND_SIM_PRESET": "instant",
        "ASCEND_SIM_DEVICES": "2",
        "CHARIOT_DEVICE_BACKEND": "ascend",
    }


class Program:
    def __init__(self, package, text, daemon, environment):
        text = textwrap.dedent(PROLOGUE.replace("{package}", package)) + textwrap.dedent(text)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, daemon.host, str(daemon.port)],
            env=environment,
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self, word):
        line = self.process.stdout.readline().strip()
        assert line == word, "%r and not %r" % (line, word)

    def tell(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self):
        assert self.process.wait(60) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_failure):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def test_copies_of_a_card_whose_memory_nobody_can_read(package, own_daemon, simulated):
    with Program(package, COPIES, own_daemon, simulated) as program:
        program.hear("done")
        program.end()


def test_two_processes_hand_objects_from_card_to_card(package, own_daemon, simulated):
    with Program(package, PROVIDER, own_daemon, simulated) as provider:
        provider.hear("offered")
        with Program(package, RECEIVER, own_daemon, simulated) as receiver:
            receiver.hear("received")
            provider.tell("received")
            receiver.hear("crossed")
            provider.hear("crossed")
            provider.tell("crossed")
            provider.hear("deleted")
            receiver.tell("deleted")
            receiver.hear("end")
            receiver.end()
            provider.tell("end")
        provider.end()
