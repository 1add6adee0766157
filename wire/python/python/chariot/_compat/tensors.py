"""``DsTensorClient`` of the old SDKs: tensors as objects of device memory.

Tensors are known by what they offer, so that neither torch nor MindSpore is imported here: torch's
``data_ptr()``, ``nbytes``, ``is_contiguous()`` and ``device.type``, or MindSpore's, whose ``device`` is
a text such as ``Ascend:0``. A tensor on the processor is copied from and to memory of the process.
"""

from .connect import Settings
from .hetero import Hosted
from .util import StrictValidator, Validator, failure, not_supported

_EMPTY = "The input of keys and tensors should not be empty"
# What frameworks call them, and which backend has such cards; None is memory of the process.
_BACKENDS = {"npu": "ascend", "ascend": "ascend", "cuda": "cuda", "gpu": "cuda", "cpu": None}


def _device_of(tensor):
    """A tensor's kind of device and its number, as its framework says them; None for no number."""
    device = getattr(tensor, "device", None)
    if isinstance(device, str):
        kind, _, number = device.partition(":")
        return kind, int(number) if number.isdigit() else None
    kind = getattr(device, "type", None)
    if not isinstance(kind, str):
        raise TypeError(
            "The input of tensors has invalid type, valid type: a tensor of torch or MindSpore, "
            "not %r" % type(tensor)
        )
    return kind, getattr(device, "index", None)


def _range(tensor):
    """Address and length of a tensor's bytes."""
    if not tensor.is_contiguous():
        raise TypeError("A tensor is not contiguous: call its contiguous() first")
    nbytes = getattr(tensor, "nbytes", None)
    if nbytes is None:
        nbytes = tensor.element_size() * tensor.numel()
    address = tensor.data_ptr()
    if address and isinstance(tensor.device, str) and hasattr(tensor, "storage_offset"):
        # MindSpore's address is that of the storage, torch's that of the first element.
        width = tensor.element_size() if hasattr(tensor, "element_size") else tensor.itemsize
        address += tensor.storage_offset() * width
    if address == 0 or nbytes == 0:
        raise failure(
            "Invalid parameter",
            "Got empty or illegal size in devBlobList and the illegal size is: %s" % nbytes,
        )
    return address, nbytes


class CopyRange:
    """A part of a device object and where it goes."""

    def __init__(self, src_offset, dst_offset, length):
        self.src_offset = src_offset
        self.dst_offset = dst_offset
        self.length = length


class BaseDsTensorClient(Hosted):
    """Tensors as objects of one blob each, on the card that the constructor named.

    A tensor is held until its call (or future) is over. Work of the framework's own streams is not
    waited for: synchronise them before.
    """

    def __init__(self, settings, is_first, validator, device_id):
        super().__init__(settings, is_first, validator)
        self._device_id = device_id

    def _place(self, tensors, between_cards=False):
        """Checks where tensors lie: whose memory it is, and the card of each."""
        devices = [_device_of(tensor) for tensor in tensors]
        kinds = {kind for kind, _number in devices}
        for kind in kinds:
            if kind.lower() not in _BACKENDS:
                raise ValueError("%s tensor, not a npu/Ascend tensor" % kind)
        backends = {_BACKENDS[kind.lower()] for kind in kinds}
        if len(backends) > 1:
            raise ValueError("tensors of several kinds of device in one call: %s" % sorted(kinds))
        backend, kind = backends.pop(), kinds.pop()
        if backend is None:
            if not between_cards:
                return "host", [0] * len(tensors)
            if self._device().backend() != "host":
                raise ValueError("%s tensor, not a npu/Ascend tensor" % kind)
            # Memory of the process stands in for that of the card that the client works with.
            return "card", [self._device_id] * len(tensors)
        found = self._device().backend()
        if found != backend:
            # An address of one kind of card means nothing to another.
            raise ValueError("%s tensor, and the accelerators here are %s" % (kind, found))
        # Where a framework names the card it is that one; else the client's.
        numbers = [self._device_id if number is None else number for _kind, number in devices]
        return "card", numbers

    def _check(self, keys, tensors):
        self._validator.check_args_types([["keys", keys, list], ["tensors", tensors, list]])
        if not keys or not tensors:
            raise RuntimeError(_EMPTY)

    def _blobs(self, keys, tensors, between_cards=False):
        """Checks keys and tensors; where they lie, and their memory."""
        self._check(keys, tensors)
        place, cards = self._place(tensors, between_cards)
        objects = [(card, [_range(tensor)]) for card, tensor in zip(cards, tensors)]
        return place, objects, list(tensors)

    def _pages(self, keys, layer_tensors, block_ids, between_cards):
        """Checks layers of paged attention; where they lie, and the blocks of each."""
        self._check(keys, layer_tensors)
        self._validator.check_args_types([["block_ids", block_ids, list]])
        if not block_ids:
            raise RuntimeError("The input of block_ids list should not be empty")
        place, cards = self._place(layer_tensors, between_cards)
        pages = []
        for tensor in layer_tensors:
            address, nbytes = _range(tensor)
            count = tensor.shape[0]
            size = nbytes // count
            for block in block_ids:
                self._validator.check_args_types([["block_ids", block, int]])
                if not 0 <= block < count:
                    raise failure(
                        "Invalid parameter",
                        "block %d is out of range: a layer has %d blocks" % (block, count),
                    )
            pages.append([(address + block * size, size) for block in block_ids])
        return place, cards, pages

    def _layers(self, keys, layer_tensors, block_ids):
        """A layer is an object, its blocks are the blobs."""
        place, cards, pages = self._pages(keys, layer_tensors, block_ids, True)
        return place, list(zip(cards, pages)), list(layer_tensors)

    def _blocks(self, keys, layer_tensors, block_ids):
        """A block is an object, its parts of all layers are the blobs."""
        place, cards, pages = self._pages(keys, layer_tensors, block_ids, False)
        for card in cards:
            if card != cards[0]:
                raise failure(
                    "Invalid parameter",
                    "The input deviceIdx(%s) is not the same as the deviceIdx which client used(%s)."
                    % (card, cards[0]),
                )
        objects = [(cards[0], list(parts)) for parts in zip(*pages)]
        return place, objects, list(layer_tensors)

    def mset_d2h(self, keys, tensors, set_param=None):
        """Copies tensors into the cache; keys that have a value keep it."""
        given = self._blobs(keys, tensors)
        self._set(keys, given, set_param)

    def mget_h2d(self, keys, tensors, sub_timeout_ms=0):
        """Copies values of the cache into tensors and returns the keys that failed."""
        given = self._blobs(keys, tensors)
        return self._get(keys, given, sub_timeout_ms)

    def async_mset_d2h(self, keys, tensors, set_param=None):
        """As ``mset_d2h``, on another thread."""
        given = self._blobs(keys, tensors)
        return self._async_set(keys, given, set_param)

    def async_mget_h2d(self, keys, tensors, sub_timeout_ms=0):
        """As ``mget_h2d``, on another thread."""
        given = self._blobs(keys, tensors)
        return self._async_get(keys, given, sub_timeout_ms)

    def dev_mset(self, keys, tensors):
        """Offers tensors to all cards until they are deleted; returns the keys that failed."""
        given = self._blobs(keys, tensors, True)
        return self._offer(keys, given)

    def dev_mget(self, keys, tensors, sub_timeout_ms=0):
        """Gets tensors of other cards and returns the keys that failed."""
        given = self._blobs(keys, tensors, True)
        return self._fetch(keys, given, sub_timeout_ms)

    def dev_mget_into_tensor(self, keys, tensor, copy_ranges, sub_timeout_ms=60000):
        """Would get parts of objects; objects are copied as a whole."""
        raise not_supported(
            "DsTensorClient.dev_mget_into_tensor", "an object is copied as a whole"
        )

    def dev_send(self, keys, tensors):
        """Offers tensors to one receiver each: a future a key."""
        given = self._blobs(keys, tensors, True)
        return self._publish(keys, given)

    def dev_recv(self, keys, tensors):
        """Receives tensors that were sent: a future a key."""
        given = self._blobs(keys, tensors, True)
        return self._subscribe(keys, given)

    def put_page_attn_layerwise_d2d(self, keys, layer_tensors, block_ids):
        """Offers blocks of each layer to one receiver: a key and a future for each layer."""
        given = self._layers(keys, layer_tensors, block_ids)
        return self._publish(keys, given)

    def get_page_attn_layerwise_d2d(self, keys, layer_tensors, block_ids):
        """Receives blocks of each layer: a key and a future for each layer."""
        given = self._layers(keys, layer_tensors, block_ids)
        return self._subscribe(keys, given)

    def mset_page_attn_blockwise_d2h(self, keys, layer_tensors, block_ids, set_param=None):
        """Copies blocks of all layers into the cache: a key for each block, one future."""
        given = self._blocks(keys, layer_tensors, block_ids)
        return self._async_set(keys, given, set_param)

    def mget_page_attn_blockwise_h2d(self, keys, layer_tensors, block_ids, sub_timeout_ms=0):
        """Copies blocks of all layers from the cache: a key for each block, one future."""
        given = self._blocks(keys, layer_tensors, block_ids)
        return self._async_get(keys, given, sub_timeout_ms)


class FirstDsTensorClient(BaseDsTensorClient):
    """The constructor of chariot-ds 0.1.6."""

    def __init__(
        self,
        host="",
        port=0,
        device_id=0,
        connect_timeout_ms=60000,
        client_public_key="",
        client_private_key="",
        server_public_key="",
        access_key="",
        secret_key="",
        tenant_id="",
        enable_cross_node_connection=False,
        **others
    ):
        Validator.check_args_types([["device_id", device_id, int]])
        others.update(
            client_public_key=client_public_key,
            client_private_key=client_private_key,
            server_public_key=server_public_key,
            access_key=access_key,
            secret_key=secret_key,
            tenant_id=tenant_id,
            enable_cross_node_connection=enable_cross_node_connection,
        )
        settings = Settings(Validator, 60000, host, port, connect_timeout_ms, others)
        super().__init__(settings, True, Validator, device_id)


class NewestDsTensorClient(BaseDsTensorClient):
    """The constructor of the newest successor."""

    def __init__(
        self,
        host="",
        port=0,
        device_id=0,
        connect_timeout_ms=9000,
        client_public_key="",
        client_private_key="",
        server_public_key="",
        req_timeout_ms=0,
        enable_remote_h2d=False,
        **others
    ):
        StrictValidator.check_args_types([["device_id", device_id, int]])
        others.update(
            client_public_key=client_public_key,
            client_private_key=client_private_key,
            server_public_key=server_public_key,
            req_timeout_ms=req_timeout_ms,
            enable_remote_h2d=enable_remote_h2d,
        )
        settings = Settings(StrictValidator, 9000, host, port, connect_timeout_ms, others)
        super().__init__(settings, False, StrictValidator, device_id)
