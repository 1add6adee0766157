"""Acceptance of ``DsTensorClient``: tensors between cards, and pages of attention caches.

Stand-ins for the frameworks' tensors are those of `test_tensors`; host memory stands in for cards,
and each client works with the card that its constructor names."""

import pytest

from test_device_objects import pattern
from test_kv import FIRST, NEWEST, module
from test_simulated_card import Program, simulated  # noqa: F401 (a fixture)
from test_tensors import MindSpore, Torch, key


@pytest.fixture(params=(FIRST, NEWEST))
def package(request):
    return request.param


@pytest.fixture(autouse=True)
def host_backend(monkeypatch):
    monkeypatch.setenv("CHARIOT_DEVICE_BACKEND", "host")


@pytest.fixture
def both(package, daemon):
    """Clients of two cards."""
    clients = []
    for card in (0, 1):
        made = module(package, "ds_tensor_client").DsTensorClient
        clients.append(made(daemon.host, daemon.port, card, connect_timeout_ms=60000))
        clients[-1].init()
    return clients


class Pages(Torch):
    """A layer's cache: `blocks` of `size` bytes."""

    def __init__(self, blocks, size, seed=None):
        data = bytes(blocks * size) if seed is None else pattern(seed, blocks * size)
        super().__init__(data)
        self.shape = (blocks, size)

    def block(self, at):
        size = self.shape[1]
        return self.read()[at * size : (at + 1) * size]


class Slice(MindSpore):
    """A tensor of MindSpore that begins inside its storage."""

    itemsize = 2

    def __init__(self, data, offset):
        super().__init__(data)
        self.nbytes = len(data) - offset * self.itemsize
        self._offset = offset

    def storage_offset(self):
        return self._offset

    def element_size(self):
        return self.itemsize


def test_weights_go_from_card_to_card(both):
    """As loaders of weights and a distributed framework call it, by names of arguments."""
    one, other = both
    keys = [key(), key()]
    assert one.dev_mset(keys=keys, tensors=[Torch(b"w" * 70_000), Torch(b"b" * 11)]) == []
    back = [Torch(bytes(70_000)), Torch(bytes(11))]
    assert other.dev_mget(keys=keys, tensors=back, sub_timeout_ms=10_000) == []
    assert [tensor.read() for tensor in back] == [b"w" * 70_000, b"b" * 11]
    with pytest.raises(RuntimeError, match="Blobs count mismatch|another size"):
        other.dev_local_delete(keys)
        other.dev_mget(keys[:1], [Torch(bytes(5))], 0)
    assert one.dev_delete(keys=keys) == [] and one.async_dev_delete(keys).get() == []
    with pytest.raises(RuntimeError, match="Key not found"):
        other.dev_mget(keys, back, 0)


def test_a_tensor_is_sent_to_one_receiver(both, package):
    one, other = both
    name, back = key(), MindSpore(bytes(3000))
    sent = one.dev_send([name], [MindSpore(b"abc" * 1000)])
    with pytest.raises(module(package, "hetero_client").FutureTimeoutException):
        sent[0].get(1)
    assert [future.get(60000) for future in other.dev_recv([name], [back])] == [[]]
    assert back.read() == b"abc" * 1000 and sent[0].get(60000) == []


def test_layers_of_pages_are_handed_on(both):
    one, other = both
    keys = [key() for _ in range(3)]
    layers = [Pages(5, 300, seed) for seed in range(3)]
    into = [Pages(5, 300) for _ in range(3)]
    sent = one.put_page_attn_layerwise_d2d(keys, layers, [0, 3, 4])
    got = other.get_page_attn_layerwise_d2d(keys, into, [1, 3, 0])
    assert [future.get(60000) for future in sent + got] == [[]] * 6
    for layer, copy in zip(layers, into):
        assert copy.block(1) == layer.block(0) and copy.block(3) == layer.block(3)
        assert copy.block(0) == layer.block(4) and copy.block(2) == copy.block(4) == bytes(300)


def test_blocks_of_pages_are_kept(both):
    client, keys = both[0], [key(), key()]
    layers = [Pages(4, 512, seed) for seed in range(5)]
    assert client.mset_page_attn_blockwise_d2h(keys, layers, [2, 0]).get(60000) == []
    into = [Pages(4, 512) for _ in range(5)]
    future = client.mget_page_attn_blockwise_h2d(keys + [key()], into, [1, 3, 0], 0)
    assert len(future.get(60000)) == 1
    for layer, copy in zip(layers, into):
        assert copy.block(1) == layer.block(2) and copy.block(3) == layer.block(0)
        assert copy.block(0) == copy.block(2) == bytes(512)


def test_pages_are_checked(both):
    client, layers = both[0], [Pages(4, 64, 1)]
    for call in (client.put_page_attn_layerwise_d2d, client.mset_page_attn_blockwise_d2h):
        for wrong in ([4], [-1]):
            with pytest.raises(RuntimeError, match="block -?\\d is out of range"):
                call([key()], layers, wrong)
        with pytest.raises(TypeError, match="has invalid type"):
            call([key()], layers, ["0"])
        with pytest.raises(TypeError, match="has invalid type"):
            call([key()], layers, 0)
        with pytest.raises(RuntimeError, match="block_ids list should not be empty"):
            call([key()], layers, [])
    with pytest.raises(RuntimeError, match="size of objectKeys and devBlobList does not match"):
        client.put_page_attn_layerwise_d2d([key(), key()], layers, [0])
    with pytest.raises(RuntimeError, match="size of objectKeys and devBlobList does not match"):
        client.mset_page_attn_blockwise_d2h([key(), key()], layers, [0]).get(60000)


def test_a_tensor_inside_its_storage_is_found(both):
    """MindSpore names the storage and where the tensor begins in it."""
    client, name = both[0], key()
    client.mset_d2h([name], [Slice(b"headTAIL", 2)])
    back = Torch(bytes(4))
    assert client.mget_h2d([name], [back]) == [] and back.read() == b"TAIL"


def test_a_training_queue_puts_and_gets(both):
    """Deletes first, since nothing is overwritten; the answers of gets are not looked at."""
    client, keys = both[0], [key() for _ in range(50)]
    for seed in (1, 2):
        try:
            client.delete(keys)
        except RuntimeError:
            pass
        client.mset_d2h(keys, [Torch(pattern(seed + at, 999)) for at in range(50)])
        back = [Torch(bytes(999)) for _ in keys]
        client.mget_h2d(keys, back)
        assert all(one.read() == pattern(seed + at, 999) for at, one in enumerate(back))


def test_parts_of_objects_are_refused_by_name(both, package):
    ranges = [module(package, "ds_tensor_client").CopyRange(0, 0, 1)]
    with pytest.raises(RuntimeError, match="dev_mget_into_tensor is not supported yet"):
        both[0].dev_mget_into_tensor([key()], Torch(b"x"), ranges)


CARDS = """
import gc
from card import Card

class Where:
    def __init__(self, type, index):
        self.type, self.index = type, index

class Tensor:
    def __init__(self, card, shape, seed=None, index=None):
        self.shape, self.size = shape, shape[0] * shape[1]
        self.card, self.address = card, card.allocate(self.size)
        card.write(self.address, bytes(self.size) if seed is None else pattern(seed, self.size))
        self.device = Where("npu", card.ordinal if index is None else index)

    def is_contiguous(self):
        return True

    def data_ptr(self):
        return self.address

    def element_size(self):
        return 2

    def numel(self):
        return self.size // 2

    def read(self):
        return self.card.read(self.address, self.size)

class OnHost(Tensor):
    def __init__(self):
        self.memory = bytearray(64)
        self.shape, self.size, self.address = (1, 64), 64, 4096
        self.device = Where("cpu", None)
"""

ONE_PROCESS = CARDS + """
card = Card(1)
# The client works with card 0; its tensors say that they lie on card 1, and that is what counts.
client = connect(ds_tensor_client.DsTensorClient, 0)
layers = [Tensor(card, (4, 600), seed) for seed in range(3)]
names = ["t/%d" % at for at in range(3)]
client.mset_d2h(names, layers)
back = [Tensor(card, (4, 600)) for _ in names]
assert client.mget_h2d(names, back) == []
assert [one.read() for one in back] == [one.read() for one in layers]
client.mset_page_attn_blockwise_d2h(["b/0", "b/1"], layers, [3, 1]).get(60000)
back = [Tensor(card, (4, 600)) for _ in names]
assert client.mget_page_attn_blockwise_h2d(["b/0", "b/1"], back, [0, 2], 1000).get(60000) == []
for layer, copy in zip(layers, back):
    block = lambda tensor, at: tensor.read()[at * 600 : at * 600 + 600]
    assert block(copy, 0) == block(layer, 3) and block(copy, 2) == block(layer, 1)
for wrong, words in (
    ([layers[0], Tensor(card, (1, 2), 0, 0)], "is not the same as the deviceIdx"),
    ([Tensor(card, (1, 2), 0, 7)] * 2, "Invalid parameter"),
):
    try:
        client.mset_d2h(["x/0", "x/1"], wrong)
    except RuntimeError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)
try:
    client.dev_mset(["x/2"], [OnHost()])
except ValueError as error:
    assert "cpu tensor, not a npu/Ascend tensor" in str(error), error
else:
    raise AssertionError("host memory offered to cards")
# Offered until the client goes: the tensors are held till then, and no longer.
assert client.dev_mset(["kept"], [Tensor(card, (1, 64), 5)]) == []
del client
gc.collect()
card.free()
say("done")
"""

SENDER = CARDS + """
card = Card(0)
client = connect(ds_tensor_client.DsTensorClient, 0)
layers = [Tensor(card, (5, 40_000), seed) for seed in range(4)]
sent = client.put_page_attn_layerwise_d2d(["l/%d" % at for at in range(4)], layers, [0, 4])
say("sent")
assert [future.get(60000) for future in sent] == [[]] * 4
say("gone")
hear("end")
"""

TAKER = CARDS + """
card = Card(1)
client = connect(ds_tensor_client.DsTensorClient, 1)
layers = [Tensor(card, (3, 40_000)) for _ in range(4)]
got = client.get_page_attn_layerwise_d2d(["l/%d" % at for at in range(4)], layers, [2, 0])
assert [future.get(60000) for future in got] == [[]] * 4
for seed, layer in enumerate(layers):
    wanted, found = pattern(seed, 200_000), layer.read()
    assert found[80_000:] == wanted[:40_000] and found[:40_000] == wanted[160_000:]
say("got")
"""


def test_tensors_of_a_simulated_card_and_nothing_left_behind(
    package, own_daemon, simulated, tmp_path
):
    report = tmp_path / "leaks"
    environment = {**simulated, "ASCEND_SIM_REPORT": str(report)}
    with Program(package, ONE_PROCESS, own_daemon, environment) as program:
        program.hear("done")
        program.end()
    assert report.read_text() == ""


def test_layers_go_to_another_process(package, own_daemon, simulated):
    with Program(package, SENDER, own_daemon, simulated) as sender:
        sender.hear("sent")
        with Program(package, TAKER, own_daemon, simulated) as taker:
            taker.hear("got")
            taker.end()
        sender.hear("gone")
        sender.tell("end")
        sender.end()
