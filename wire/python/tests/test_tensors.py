"""DsTensorClient with stand-ins for tensors: it knows them by what they offer."""

import ctypes
import uuid

import pytest

from test_kv import FIRST, NEWEST, module


@pytest.fixture(params=(FIRST, NEWEST))
def package(request):
    return request.param


@pytest.fixture
def tensors(package, daemon):
    client = module(package, "ds_tensor_client").DsTensorClient(daemon.host, daemon.port, 0)
    client.init()
    return client


def key():
    return "tensor/" + uuid.uuid4().hex


class Kind:
    """What torch calls a device."""

    def __init__(self, kind):
        self.type, self.index = kind, 0


class Torch:
    """What torch's tensors offer."""

    def __init__(self, data, kind="cpu", contiguous=True, address=None):
        self._memory = ctypes.create_string_buffer(bytes(data), len(data))
        self._contiguous = contiguous
        self._address = ctypes.addressof(self._memory) if address is None else address
        self.device = Kind(kind)

    def is_contiguous(self):
        return self._contiguous

    def data_ptr(self):
        return self._address

    def element_size(self):
        return 1

    def numel(self):
        return len(self._memory)

    def read(self):
        return bytes(self._memory.raw)


class MindSpore(Torch):
    """What MindSpore's tensors offer."""

    def __init__(self, data, device="CPU"):
        super().__init__(data)
        self.device = device
        self.nbytes = len(data)

    def numel(self):
        raise AssertionError("nbytes tells")


@pytest.mark.parametrize("make", [Torch, MindSpore])
def test_tensors_of_the_processor_come_back(package, tensors, make):
    keys = [key(), key()]
    tensors.mset_d2h(keys, [make(b"first" * 1000), make(b"other" * 2000)])
    assert tensors.exist(keys) == [True, True]
    back = [make(bytes(5000)), make(bytes(10_000))]
    assert tensors.mget_h2d(keys, back) == []
    assert [one.read() for one in back] == [b"first" * 1000, b"other" * 2000]
    # Not overwritten; deleted first, as programs do, it is written anew.
    tensors.mset_d2h(keys[:1], [make(b"again" * 1000)])
    assert tensors.mget_h2d(keys[:1], back[:1]) == [] and back[0].read() == b"first" * 1000
    assert tensors.delete(keys[:1]) == []
    param = module(package, "kv_client").SetParam()
    assert tensors.async_mset_d2h(keys[:1], [make(b"again" * 1000)], param).get() == []
    assert tensors.async_mget_h2d(keys[:1], back[:1]).get(60000) == []
    assert back[0].read() == b"again" * 1000


def test_a_future_holds_its_tensors(tensors):
    keys = [key() for _ in range(20)]
    futures = [tensors.async_mset_d2h([one], [Torch(one.encode() * 3000)]) for one in keys]
    assert [future.get(60000) for future in futures] == [[]] * 20
    for one in keys:
        back = Torch(bytes(len(one) * 3000))
        assert tensors.mget_h2d([one], [back]) == [] and back.read() == one.encode() * 3000


def test_what_is_no_tensor_of_a_card_is_refused(tensors):
    with pytest.raises(TypeError, match="not contiguous"):
        tensors.mset_d2h([key()], [Torch(b"x", contiguous=False)])
    with pytest.raises(TypeError, match="has invalid type"):
        tensors.mset_d2h([key()], [object()])
    with pytest.raises(TypeError, match="has invalid type"):
        tensors.mset_d2h("key", [Torch(b"x")])
    with pytest.raises(ValueError, match="meta tensor, not a npu/Ascend tensor"):
        tensors.mset_d2h([key()], [Torch(b"x", kind="meta")])
    with pytest.raises(ValueError, match="several kinds of device"):
        tensors.mset_d2h([key(), key()], [Torch(b"x"), Torch(b"x", kind="npu")])
    with pytest.raises(RuntimeError, match="illegal size in devBlobList"):
        tensors.mset_d2h([key()], [Torch(b"x", address=0)])
    with pytest.raises(RuntimeError, match="keys and tensors should not be empty"):
        tensors.mset_d2h([], [])
    with pytest.raises(RuntimeError, match="size of objectKeys and devBlobList does not match"):
        tensors.mset_d2h([key(), key()], [Torch(b"x")])


def test_an_address_of_one_kind_of_card_is_nothing_to_another(tensors, monkeypatch):
    """Taken for memory of this process, it would be read there."""
    monkeypatch.setenv("CHARIOT_DEVICE_BACKEND", "host")
    for kind in ("npu", "cuda", "Ascend:3"):
        make = MindSpore(b"x", kind) if ":" in kind else Torch(b"x", kind=kind)
        with pytest.raises(ValueError, match="and the accelerators here are host"):
            tensors.mset_d2h([key()], [make])
