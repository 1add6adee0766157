"""``HeteroClient`` of the old SDKs: objects of device memory, in the cache and between cards.

Host copies share the key space of ``KVClient``, so existence and deletion are those of any key.
Which accelerators there are is looked up at the first call that needs one: Ascend's libraries,
else CUDA's driver; ``CHARIOT_DEVICE_BACKEND`` (``ascend``, ``cuda``, ``host``) chooses.
"""

import os

from chariot._native import Cards, Hetero

from .connect import Connected, Settings, generate_key
from .kv import SetParam, check_ttl
from .util import (
    INT32_MAX,
    NOT_INITIALIZED,
    StrictValidator,
    Validator,
    failure,
    not_supported,
)

_EXIST_MAX = 100_000
_EMPTY = "The input of keys and data_blob_list should not be empty"


class FutureTimeoutException(Exception):
    """A device future was not done in time."""


class Future:
    """The outcome of an asynchronous device call, or of one key of it; only those calls make one."""

    __slots__ = ("_native", "_is_of_cards")

    def __init__(self, native, is_of_cards):
        self._native = native
        self._is_of_cards = is_of_cards

    def get(self, timeout_ms=60000):
        """Waits, and returns the keys that failed; raises when all did, and when the time is over."""
        Validator.check_args_types([["timeout_ms", timeout_ms, int]])
        _check_wait(timeout_ms)
        failed = self._native.get(timeout_ms)
        if failed is not None:
            return failed
        if self._is_of_cards:
            raise FutureTimeoutException("Future get timeout")
        raise failure("RPC deadline exceeded", "Future get timeout")


def _check_wait(wait_ms):
    if not 0 <= wait_ms <= INT32_MAX:
        raise failure(
            "Invalid parameter",
            "subTimeoutMs %d is out of range, which should be between[%d, %d]"
            % (wait_ms, 0, INT32_MAX),
        )


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


def _bad_size(size):
    return failure(
        "Invalid parameter",
        "Got empty or illegal size in devBlobList and the illegal size is: %s" % (size,),
    )


def ranges_of(blob_list):
    """Addresses and lengths of a ``DeviceBlobList``, checked."""
    if blob_list.src_offset:
        raise not_supported("src_offset", "an object is copied as a whole")
    ranges = []
    for blob in blob_list.blob_list:
        if type(blob.dev_ptr) is not int or type(blob.size) is not int:
            Validator.check_args_types([["dev_ptr", blob.dev_ptr, int], ["size", blob.size, int]])
        if blob.size <= 0:
            raise _bad_size(blob.size)
        if blob.dev_ptr <= 0:
            raise failure("Invalid parameter", "a blob has no memory at %#x" % blob.dev_ptr)
        ranges.append((blob.dev_ptr, blob.size))
    if not ranges:
        raise _bad_size(0)
    return blob_list.dev_idx, ranges


class Hosted(Connected):
    """What host copies share with any key, and the way to the device calls."""

    def __init__(self, settings, is_first, validator):
        super().__init__(settings, is_first, validator)
        self._hetero = None
        self._cards = None

    def _device(self):
        """The calls between a card and the cache."""
        if self._hetero is None:
            if self._kv is NOT_INITIALIZED:
                # Every use of it says that init was not called.
                self._kv.exist
            self._hetero = Hetero(self._kv, os.environ.get("CHARIOT_DEVICE_BACKEND", ""))
        return self._hetero

    def _between(self):
        """The calls between cards."""
        if self._cards is None:
            self._cards = Cards(self._device())
        return self._cards

    def _check_list(self, keys):
        if not keys and (keys is None or isinstance(keys, list)):
            raise RuntimeError("The input of keys list should not be empty")
        self._validator.check_args_types([["keys", keys, list]])

    def _check_sub_timeout(self, wait_ms):
        self._validator.check_args_types([["sub_timeout_ms", wait_ms, int]])
        _check_wait(wait_ms)

    def _check_set_param(self, set_param):
        if set_param is None:
            return SetParam()
        self._validator.check_args_types([["set_param", set_param, SetParam]])
        check_ttl(set_param.ttl_second)
        return set_param

    def delete(self, keys=None):
        """Deletes host copies and returns the keys that failed."""
        self._check_list(keys)
        return self._kv.delete(keys)

    def exist(self, keys=None):
        """Tells for each key whether it has a value."""
        self._check_list(keys)
        return self._kv.exist(keys, _EXIST_MAX)

    def dev_delete(self, keys=None):
        """Removes objects from all cards and returns the keys that failed."""
        self._check_list(keys)
        return self._between().dev_delete(keys, False)

    def async_dev_delete(self, keys=None):
        """As ``dev_delete``, on another thread."""
        self._check_list(keys)
        return Future(self._between().async_dev_delete(keys), True)

    def dev_local_delete(self, keys=None):
        """Removes objects from this client's cards and returns the keys that failed."""
        self._check_list(keys)
        return self._between().dev_delete(keys, True)

    # What the faces of blobs and of tensors have in common. `given` is (place, objects, owner): whose
    # memory, cards with addresses and lengths, and what has to stand meanwhile.

    def _set(self, keys, given, set_param):
        param = self._check_set_param(set_param)
        self._device().mset_d2h(keys, given, param.write_mode, param.ttl_second)

    def _get(self, keys, given, wait_ms):
        self._check_sub_timeout(wait_ms)
        return self._device().mget_h2d(keys, given, wait_ms)

    def _async_set(self, keys, given, set_param):
        param = self._check_set_param(set_param)
        native = self._device().async_mset_d2h(
            keys, given, param.write_mode, param.ttl_second
        )
        return Future(native, False)

    def _async_get(self, keys, given, wait_ms):
        self._check_sub_timeout(wait_ms)
        native = self._device().async_mget_h2d(keys, given, wait_ms)
        return Future(native, False)

    def _offer(self, keys, given):
        return self._between().dev_mset(keys, given)

    def _fetch(self, keys, given, wait_ms):
        self._check_sub_timeout(wait_ms)
        return self._between().dev_mget(keys, given, wait_ms)

    def _publish(self, keys, given):
        futures = self._between().dev_publish(keys, given)
        return [Future(future, True) for future in futures]

    def _subscribe(self, keys, given):
        futures = self._between().dev_subscribe(keys, given)
        return [Future(future, True) for future in futures]


class BaseHeteroClient(Hosted):
    """The calls; the two packages give the constructors.

    The memory behind ``Blob`` must be the named card's, stand until the call (or its future) is
    over, and not be used meanwhile. Work of a framework's own streams is not waited for:
    synchronise them before.
    """

    def generate_key(self, prefix=""):
        """Returns a new key."""
        self._validator.check_args_types([["prefix", prefix, str]])
        return generate_key(self._is_first, prefix, self._settings)

    def batch_is_exist(self, keys):
        """As ``exist``, with 1 and 0."""
        return [int(found) for found in self.exist(keys)]

    def _lists(self, keys, data_blob_list):
        """Checks keys and lists, and takes the lists apart."""
        self._validator.check_args_types(
            [["keys", keys, list], ["data_blob_list", data_blob_list, list]]
        )
        if not keys or not data_blob_list:
            raise RuntimeError(_EMPTY)
        for one in data_blob_list:
            if not isinstance(one, DeviceBlobList):
                raise TypeError(
                    "The input of data_blob_list has invalid type, valid type: [%r]" % DeviceBlobList
                )
        return "card", [ranges_of(one) for one in data_blob_list], list(data_blob_list)

    def _buffers(self, keys, addrs, sizes):
        """Checks keys with addresses and lengths; the card is the calling thread's own."""
        self._validator.check_args_types(
            [["keys", keys, list], ["addrs", addrs, list], ["sizes", sizes, list]]
        )
        if not len(keys) == len(addrs) == len(sizes):
            raise ValueError(
                "keys, addrs and sizes differ in length: %d, %d, %d"
                % (len(keys), len(addrs), len(sizes))
            )
        objects = []
        for addresses, lengths in zip(addrs, sizes):
            if not addresses or len(addresses) != len(lengths):
                raise ValueError(
                    "addrs and sizes of a key have %d and %d entries"
                    % (len(addresses), len(lengths))
                )
            blobs = [Blob(address, size) for address, size in zip(addresses, lengths)]
            objects.append(ranges_of(DeviceBlobList(0, blobs)))
        return "current", objects, addrs

    def mset_d2h(self, keys, data_blob_list, set_param=None):
        """Copies objects of one card into the cache; keys that have a value keep it."""
        given = self._lists(keys, data_blob_list)
        self._set(keys, given, set_param)

    def mget_h2d(self, keys, data_blob_list, sub_timeout_ms=0):
        """Copies objects of the cache into one card and returns the keys that failed."""
        given = self._lists(keys, data_blob_list)
        return self._get(keys, given, sub_timeout_ms)

    def async_mset_d2h(self, keys, data_blob_list, set_param=None):
        """As ``mset_d2h``, on another thread."""
        given = self._lists(keys, data_blob_list)
        return self._async_set(keys, given, set_param)

    def async_mget_h2d(self, keys, data_blob_list, sub_timeout_ms=0):
        """As ``mget_h2d``, on another thread."""
        given = self._lists(keys, data_blob_list)
        return self._async_get(keys, given, sub_timeout_ms)

    def mset_d2h_from_multi_buffers(self, keys, addrs, sizes, set_param=None):
        """As ``mset_d2h``, from addresses and lengths on the calling thread's card."""
        given = self._buffers(keys, addrs, sizes)
        if keys:
            self._set(keys, given, set_param)

    def mget_h2d_from_multi_buffers(self, keys, addrs, sizes, sub_timeout_ms=0):
        """As ``mget_h2d``, into addresses and lengths on the calling thread's card."""
        given = self._buffers(keys, addrs, sizes)
        if not keys:
            return []
        return self._get(keys, given, sub_timeout_ms)

    def dev_mset(self, keys, data_blob_list):
        """Offers objects of a card to all others until they are deleted; returns what failed."""
        given = self._lists(keys, data_blob_list)
        return self._offer(keys, given)

    def dev_mget(self, keys, data_blob_list, sub_timeout_ms=0):
        """Gets objects of other cards and returns the keys that failed."""
        given = self._lists(keys, data_blob_list)
        return self._fetch(keys, given, sub_timeout_ms)

    def dev_publish(self, keys, data_blob_list):
        """Offers objects to one receiver each: a future a key."""
        given = self._lists(keys, data_blob_list)
        return self._publish(keys, given)

    def dev_subscribe(self, keys, data_blob_list):
        """Receives published objects: a future a key."""
        given = self._lists(keys, data_blob_list)
        return self._subscribe(keys, given)

    def get_meta_info(self, keys, is_dev_key=False):
        """The keys that failed, and a ``MetaInfo`` for each key."""
        self._check_list(keys)
        self._validator.check_args_types([["is_dev_key", is_dev_key, bool]])
        failed, metas = self._device().meta(keys, is_dev_key)
        return failed, [MetaInfo(lens) for lens in metas]

    def pre_register_device_memory(self, dev_ptrs, sizes):
        """Is for copies from another node's memory, which do not exist yet."""
        raise not_supported(
            "HeteroClient.pre_register_device_memory", "nodes do not copy into each other's cards"
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
