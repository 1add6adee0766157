"""``KVClient`` of the old SDKs."""

from collections import namedtuple

from chariot._native import View as ReadOnlyMemoryViewBuffer
from chariot._native import WriteBuffer as StateValueBuffer

from .connect import Connected, Settings, generate_key
from .enums import CacheType, ExistenceOpt, WriteMode
from .util import (
    INT32_MAX,
    NOT_INITIALIZED,
    UINT32_MAX,
    Status,
    StrictValidator,
    Validator,
    failure,
)

ReadParam = namedtuple("ReadParam", ["key", "offset", "size"])

_VALUE_TYPES = frozenset((bytes, bytearray, memoryview, str))
_EXIST_MAX = 100_000
_NO_KEYS = "The input of keys list should not be empty"


class SetParam:
    """How to write, as one object."""

    def __init__(
        self,
        write_mode=WriteMode.NONE_L2_CACHE,
        ttl_second=0,
        existence=ExistenceOpt.NONE,
        cache_type=CacheType.MEMEORY,
    ):
        self.write_mode = write_mode
        self.ttl_second = ttl_second
        self.existence = existence
        self.cache_type = cache_type


class ReadOnlyBuffer:
    """A value that was read in place. It never changes, so its latch is always free."""

    __slots__ = ("_view",)

    def __init__(self, view):
        self._view = view

    def immutable_data(self, with_latch=False, timeout_sec=60):
        """The bytes, as a read-only memoryview that keeps them alive."""
        return memoryview(self._view)

    def rlatch(self, timeout_sec=60):
        """Takes the read latch."""

    def unrlatch(self):
        """Releases the read latch."""

    def get_size(self):
        """The length in bytes."""
        return len(self._view)


def _wait_ms(first, second):
    """The wait under either of its two names."""
    wait = first if second is None else second
    if type(wait) is not int and not isinstance(wait, int):
        raise TypeError("The input of timeout_ms has invalid type, valid type: [%r]" % int)
    if not 0 <= wait <= INT32_MAX:
        raise failure(
            "Invalid parameter",
            "subTimeoutMs %d is out of range, which should be between[%d, %d]"
            % (wait, 0, INT32_MAX),
        )
    return wait


def check_ttl(ttl_second):
    if not 0 <= ttl_second <= UINT32_MAX:
        raise TypeError("ttl_second %s is out of range [0, %d]" % (ttl_second, UINT32_MAX))


class BaseKVClient(Connected):
    """The calls; the two packages give the constructors."""

    def _check(self, args):
        self._validator.check_args_types(args)

    def _check_keys(self, keys):
        if type(keys) is not list:
            if keys is None:
                raise RuntimeError(_NO_KEYS)
            self._check([["keys", keys, list]])

    def _check_write(self, write_mode, ttl_second):
        if type(write_mode) is not WriteMode or type(ttl_second) is not int:
            self._check([["write_mode", write_mode, WriteMode], ["ttl_second", ttl_second, int]])
        check_ttl(ttl_second)

    def set(self, key, val, write_mode=WriteMode.NONE_L2_CACHE, ttl_second=0):
        """Writes one value; an existing one is replaced."""
        if (
            type(key) is not str
            or type(val) not in _VALUE_TYPES
            or type(write_mode) is not WriteMode
            or type(ttl_second) is not int
        ):
            self._check(
                [
                    ["key", key, str],
                    ["value", val, memoryview, bytes, bytearray, str],
                    ["write_mode", write_mode, WriteMode],
                    ["ttl_second", ttl_second, int],
                ]
            )
        if not 0 <= ttl_second <= UINT32_MAX:
            check_ttl(ttl_second)
        self._kv.set(key, val, write_mode, ttl_second)

    def set_value(self, val, write_mode=WriteMode.NONE_L2_CACHE, ttl_second=0):
        """Writes one value under a new key, and returns the key; an empty one on failure."""
        self._check([["value", val, memoryview, bytes, bytearray, str]])
        self._check_write(write_mode, ttl_second)
        key = self.generate_key()
        try:
            self._kv.set(key, val, write_mode, ttl_second)
        except RuntimeError:
            if self._kv is NOT_INITIALIZED:
                raise
            return ""
        return key

    def _check_pairs(self, keys, vals, write_mode, ttl_second, existence_opt):
        self._check(
            [["keys", keys, list], ["vals", vals, list], ["existence_opt", existence_opt, ExistenceOpt]]
        )
        for val in vals:
            if type(val) not in _VALUE_TYPES:
                self._check([["value", val, memoryview, bytes, bytearray, str]])
        self._check_write(write_mode, ttl_second)

    def mset(
        self,
        keys,
        vals,
        write_mode=WriteMode.NONE_L2_CACHE,
        ttl_second=0,
        existence_opt=ExistenceOpt.NONE,
    ):
        """Writes many values and returns the keys that failed; RuntimeError when all did."""
        self._check_pairs(keys, vals, write_mode, ttl_second, existence_opt)
        return self._kv.mset(keys, vals, write_mode, ttl_second, existence_opt is ExistenceOpt.NX)

    def msettx(
        self,
        keys,
        vals,
        write_mode=WriteMode.NONE_L2_CACHE,
        ttl_second=0,
        existence_opt=ExistenceOpt.NONE,
    ):
        """Writes up to 8 values where none exists, all or nothing (the first generation's call)."""
        if not self._is_first:
            raise failure(
                "Not supported", "MSetTx is a deprecated API and is no longer supported."
            )
        self._check_pairs(keys, vals, write_mode, ttl_second, existence_opt)
        is_absent = existence_opt is ExistenceOpt.NX
        self._kv.objects().msettx(keys, vals, write_mode, ttl_second, is_absent)

    def mcreate(self, keys, sizes, write_mode=WriteMode.NONE_L2_CACHE, ttl_second=0):
        """Lends shared memory to write many values in place; see ``mset_buffer``."""
        self._check([["keys", keys, list], ["sizes", sizes, list]])
        self._check_write(write_mode, ttl_second)
        for size in sizes:
            if type(size) is not int:
                self._check([["size", size, int]])
            if size < 0:
                raise TypeError("size %s is negative" % size)
        return self._kv.mcreate(keys, sizes, write_mode, ttl_second)

    def mset_buffer(self, buffers):
        """Publishes buffers of ``mcreate``; RuntimeError when one fails (the others are tried)."""
        self._check([["buffers", buffers, list]])
        if not buffers:
            raise failure("Invalid parameter", "The buffers should not be empty.")
        if len(buffers) > 10_000:
            raise failure("Invalid parameter", "The buffers size exceed 10000.")
        self._kv.publish(buffers)

    def get_read_only_buffers(self, keys=None, sub_timeout_ms=0, *, timeout_ms=None):
        """Reads values in place; None for those that are missing, RuntimeError when all are."""
        self._check_keys(keys)
        views = self._kv.views(keys, _wait_ms(sub_timeout_ms, timeout_ms))
        return [None if view is None else ReadOnlyBuffer(view) for view in views]

    def get_buffers(self, keys=None, timeout_ms=0, *, sub_timeout_ms=None):
        """Reads values in place, as objects with the buffer protocol; None for a missing one."""
        self._check_keys(keys)
        return self._kv.views(keys, _wait_ms(timeout_ms, sub_timeout_ms))

    def get(self, keys=None, convert_to_str=False, sub_timeout_ms=0, *, timeout_ms=None):
        """Reads values; None for those that are missing, RuntimeError when all are."""
        if type(keys) is not list:
            self._check_keys(keys)
        if type(convert_to_str) is not bool:
            self._check([["convert_to_str", convert_to_str, bool]])
        if sub_timeout_ms != 0 or timeout_ms is not None:
            sub_timeout_ms = _wait_ms(sub_timeout_ms, timeout_ms)
        return self._kv.get(keys, convert_to_str, sub_timeout_ms)

    def read(self, read_params=None, **other):
        """Reads ranges of values in place: [ReadParam(key, offset, size)]."""
        for name in ("readParams", "params"):
            read_params = other.pop(name, read_params)
        if other:
            raise TypeError("unexpected keyword argument %r" % next(iter(other)))
        if read_params is None:
            raise RuntimeError(_NO_KEYS)
        self._check([["read_params", read_params, list]])
        ranges = []
        for param in read_params:
            key, offset, size = param
            self._check([["key", key, str], ["offset", offset, int], ["size", size, int]])
            if offset < 0 or size < 0 or offset >= 1 << 64 or size >= 1 << 64:
                raise TypeError("offset and size are unsigned 64-bit numbers")
            ranges.append((offset, size))
        views = self._kv.read([param[0] for param in read_params], ranges)
        return [None if view is None else ReadOnlyBuffer(view) for view in views]

    def delete(self, keys=None):
        """Deletes keys, missing ones too, and returns those that failed."""
        self._check_keys(keys)
        return self._kv.delete(keys)

    def generate_key(self, prefix=""):
        """Returns a new key."""
        self._check([["prefix", prefix, str]])
        return generate_key(self._is_first, prefix, self._settings)

    def exist(self, keys=None):
        """Tells for each key whether it has a value."""
        if type(keys) is not list:
            self._check_keys(keys)
        return self._kv.exist(keys, _EXIST_MAX)

    def expire(self, keys=None, ttl_second=0):
        """Gives keys a new life in seconds (0: for ever) and returns those that are missing."""
        self._check_keys(keys)
        if type(ttl_second) is not int:
            self._check([["ttl_second", ttl_second, int]])
        check_ttl(ttl_second)
        return self._kv.expire(keys, ttl_second)

    def health_check(self):
        """Tells whether the worker answers, as a Status."""
        if self._kv is NOT_INITIALIZED:
            return Status(8, "Not ready", "Client has not been initialized yet")
        return Status(*self._kv.health())


class FirstKVClient(BaseKVClient):
    """The constructor of chariot-ds 0.1.6; names of later generations are taken too."""

    def __init__(
        self,
        host="",
        port=0,
        timeout_ms=60000,
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
        timeout_ms = others.pop("connect_timeout_ms", timeout_ms)
        settings = Settings(Validator, 60000, host, port, timeout_ms, others)
        super().__init__(settings, True, Validator)


class NewestKVClient(BaseKVClient):
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
        fast_transport_mem_size=268435456,
        service_discovery=None,
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
            fast_transport_mem_size=fast_transport_mem_size,
            service_discovery=service_discovery,
        )
        timeout_ms = others.pop("timeout_ms", connect_timeout_ms)
        settings = Settings(StrictValidator, 9000, host, port, timeout_ms, others)
        super().__init__(settings, False, StrictValidator)
