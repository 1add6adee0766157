"""``HeteroClient`` of the old SDKs: what needs no accelerator works, the rest says what is missing.

Host copies share the key space of ``KVClient``, so existence and deletion are those of any key.
"""

from .connect import Connected, Settings, generate_key
from .util import StrictValidator, Validator, not_supported

_EXIST_MAX = 100_000
_MISSING = "copies between accelerators and the cache are not connected to Python"


class FutureTimeoutException(Exception):
    """A device future was not done in time."""


class Future:
    """The answer of an asynchronous device call; only those calls make one."""

    def __init__(self, *_arguments):
        raise not_supported("Future", _MISSING)

    def get(self, timeout_ms=60000):
        """Waits, and returns the keys that failed."""
        raise not_supported("Future.get", _MISSING)


class MetaInfo:
    """What is known of a key."""

    def __init__(self, blob_size_list=None):
        self.blob_size_list = blob_size_list or []


class Blob:
    """A piece of device memory."""

    def __init__(self, dev_ptr, size):
        self.dev_ptr = dev_ptr
        self.size = size

    def set_dev_ptr(self, dev_ptr):
        self.dev_ptr = dev_ptr

    def set_size(self, size):
        self.size = size

    def to_ds_blob(self):
        return self


class DeviceBlobList:
    """Pieces of memory of one device that make one object."""

    def __init__(self, dev_idx, blob_list, src_offset=0):
        self.dev_idx = dev_idx
        self.blob_list = blob_list
        self.src_offset = src_offset

    def append_blob(self, blob):
        self.blob_list.append(blob)

    def set_dev_idx(self, dev_idx):
        self.dev_idx = dev_idx

    def set_src_offset(self, src_offset):
        self.src_offset = src_offset

    def get_blob_list(self):
        return self.blob_list

    def to_ds_blob_list(self):
        return self


def refuse(owner, *names):
    """Gives a class methods that refuse by name."""
    for name in names:

        def method(self, *_arguments, _name="%s.%s" % (owner.__name__, name), **_options):
            raise not_supported(_name, _MISSING)

        method.__name__ = name
        setattr(owner, name, method)


class _Hosted(Connected):
    """What host copies share with any key."""

    def _check_list(self, keys):
        if not keys and (keys is None or isinstance(keys, list)):
            raise RuntimeError("The input of keys list should not be empty")
        self._validator.check_args_types([["keys", keys, list]])

    def delete(self, keys=None):
        """Deletes host copies and returns the keys that failed."""
        self._check_list(keys)
        return self._kv.delete(keys)

    def exist(self, keys=None):
        """Tells for each key whether it has a value."""
        self._check_list(keys)
        return self._kv.exist(keys, _EXIST_MAX)


class BaseHeteroClient(_Hosted):
    def generate_key(self, prefix=""):
        """Returns a new key."""
        self._validator.check_args_types([["prefix", prefix, str]])
        return generate_key(self._is_first, prefix, self._settings)

    def batch_is_exist(self, keys):
        """As ``exist``, with 1 and 0."""
        return [int(found) for found in self.exist(keys)]


refuse(
    BaseHeteroClient,
    "mset_d2h",
    "mget_h2d",
    "async_mset_d2h",
    "async_mget_h2d",
    "mset_d2h_from_multi_buffers",
    "mget_h2d_from_multi_buffers",
    "dev_publish",
    "dev_subscribe",
    "dev_mset",
    "dev_mget",
    "dev_delete",
    "async_dev_delete",
    "dev_local_delete",
    "get_meta_info",
    "pre_register_device_memory",
)


class FirstHeteroClient(BaseHeteroClient):
    """The constructor of chariot-ds 0.1.6; names of later generations are taken too."""

    def __init__(
        self,
        host="",
        port=0,
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
        super().__init__(settings, True, Validator)


class NewestHeteroClient(BaseHeteroClient):
    """The constructor of the newest successor; names of earlier generations are taken too."""

    def __init__(
        self,
        host="",
        port=0,
        connect_timeout_ms=9000,
        token="",
        client_public_key="",
        client_private_key="",
        server_public_key="",
        access_key="",
        secret_key="",
        tenant_id="",
        enable_cross_node_connection=False,
        req_timeout_ms=0,
        enable_remote_h2d=False,
        **others
    ):
        others.update(
            token=token,
            client_public_key=client_public_key,
            client_private_key=client_private_key,
            server_public_key=server_public_key,
            access_key=access_key,
            secret_key=secret_key,
            tenant_id=tenant_id,
            enable_cross_node_connection=enable_cross_node_connection,
            req_timeout_ms=req_timeout_ms,
            enable_remote_h2d=enable_remote_h2d,
        )
        settings = Settings(StrictValidator, 9000, host, port, connect_timeout_ms, others)
        super().__init__(settings, False, StrictValidator)


class CopyRange:
    """A part of a device object and where it goes."""

    def __init__(self, src_offset, dst_offset, length):
        self.src_offset = src_offset
        self.dst_offset = dst_offset
        self.length = length


class BaseDsTensorClient(_Hosted):
    """Tensors as device objects. torch is only needed by the calls that take tensors."""


refuse(
    BaseDsTensorClient,
    "mset_d2h",
    "mget_h2d",
    "async_mset_d2h",
    "async_mget_h2d",
    "dev_mset",
    "dev_mget",
    "dev_mget_into_tensor",
    "dev_delete",
    "async_dev_delete",
    "dev_local_delete",
    "dev_send",
    "dev_recv",
    "page_attn_mset_d2h",
    "page_attn_mget_h2d",
)


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
        super().__init__(settings, True, Validator)


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
        super().__init__(settings, False, StrictValidator)
