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


def _device_type(tensor):
    """The name of a tensor's kind of device, as its framework says it."""
    device = getattr(tensor, "device", None)
    kind = getattr(device, "type", device)
    if not isinstance(kind, str):
        raise TypeError(
            "The input of tensors has invalid type, valid type: a tensor of torch or MindSpore, "
            "not %r" % type(tensor)
        )
    return kind.split(":")[0]


def _range(tensor):
    """Address and length of a tensor's bytes."""
    if not tensor.is_contiguous():
        raise TypeError("A tensor is not contiguous: call its contiguous() first")
    nbytes = getattr(tensor, "nbytes", None)
    if nbytes is None:
        nbytes = tensor.element_size() * tensor.numel()
    address = tensor.data_ptr()
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

    def _blobs(self, keys, tensors):
        """Checks keys and tensors; where they lie, and their memory."""
        self._validator.check_args_types([["keys", keys, list], ["tensors", tensors, list]])
        if not keys or not tensors:
            raise RuntimeError(_EMPTY)
        kinds = {_device_type(tensor) for tensor in tensors}
        for kind in kinds:
            if kind.lower() not in _BACKENDS:
                raise ValueError("%s tensor, not a npu/Ascend tensor" % kind)
        backends = {_BACKENDS[kind.lower()] for kind in kinds}
        if len(backends) > 1:
            raise ValueError("tensors of several kinds of device in one call: %s" % sorted(kinds))
        backend = backends.pop()
        objects = [(self._device_id, [_range(tensor)]) for tensor in tensors]
        if backend is None:
            return "host", objects, tensors
        found = self._device().backend()
        if found != backend:
            # An address of one kind of card means nothing to another.
            raise ValueError("%s tensor, and the accelerators here are %s" % (kinds.pop(), found))
        return "card", objects, tensors

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
        given = self._blobs(keys, tensors)
        return self._offer(keys, given)

    def dev_mget(self, keys, tensors, sub_timeout_ms=0):
        """Gets tensors of other cards and returns the keys that failed."""
        given = self._blobs(keys, tensors)
        return self._fetch(keys, given, sub_timeout_ms)

    def dev_mget_into_tensor(self, keys, tensor, copy_ranges, sub_timeout_ms=60000):
        """Would get parts of objects; objects are copied as a whole."""
        raise not_supported(
            "DsTensorClient.dev_mget_into_tensor", "an object is copied as a whole"
        )

    def dev_send(self, keys, tensors):
        """Offers tensors to one receiver each: a future a key."""
        given = self._blobs(keys, tensors)
        return self._publish(keys, given)

    def dev_recv(self, keys, tensors):
        """Receives tensors that were sent: a future a key."""
        given = self._blobs(keys, tensors)
        return self._subscribe(keys, given)

    def page_attn_mset_d2h(self, *_arguments, **_options):
        """Belonged to one release of the old SDKs alone."""
        raise not_supported("DsTensorClient.page_attn_mset_d2h", "use mset_d2h of HeteroClient")

    def page_attn_mget_h2d(self, *_arguments, **_options):
        """Belonged to one release of the old SDKs alone."""
        raise not_supported("DsTensorClient.page_attn_mget_h2d", "use mget_h2d of HeteroClient")


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
