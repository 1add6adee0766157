"""``ObjectClient`` and ``Buffer`` of the old SDKs.

A buffer is private memory, copied when it is published: memoryviews of it stay valid for as long as
they live, whatever happens to the object. What is read comes in place, under a pin.
"""

from .connect import Connected, Settings, generate_key
from .enums import ConsistencyType, WriteMode
from .util import INT32_MAX, NOT_INITIALIZED, StrictValidator, Validator, failure

_PUT_TYPES = (bytes, bytearray, memoryview)


class Buffer:
    """An object's memory; ``create`` and ``get`` of the client make it."""

    def __init__(self, objects, validator, key, size, write_mode, view=None):
        self._objects = objects
        self._validator = validator
        self._key = key
        self._size = size
        self._write_mode = write_mode
        self._view = view
        self._draft = None if view is not None else bytearray(size)
        self._latches = {True: [], False: []}
        self._is_gone = False
        self._is_sealed = False

    def _check_there(self):
        if self._is_gone:
            raise failure("Buffer deprecated", "The buffer is None, please create it first.")

    def _own(self):
        """The private memory, made from what was read if need be."""
        self._check_there()
        if self._draft is None:
            self._draft = bytearray(self._view)
        return self._draft

    def _latch(self, is_exclusive, timeout_sec):
        self._check_there()
        self._validator.check_args_types([["timeout_sec", timeout_sec, int]])
        self._validator.check_param_range("timeout_sec", timeout_sec, 1, INT32_MAX)
        latch = self._objects.latch(self._key, is_exclusive, timeout_sec)
        self._latches[is_exclusive].append(latch)

    def _unlatch(self, is_exclusive):
        self._check_there()
        held = self._latches[is_exclusive]
        if not held:
            raise failure("Runtime error", "this buffer does not hold the latch")
        self._objects.unlatch(self._key, held.pop())

    def wlatch(self, timeout_sec=60):
        """Takes the write latch: nobody else holds any."""
        self._latch(True, timeout_sec)

    def unwlatch(self):
        self._unlatch(True)

    def rlatch(self, timeout_sec=60):
        """Takes the read latch, beside other readers."""
        self._latch(False, timeout_sec)

    def unrlatch(self):
        self._unlatch(False)

    def mutable_data(self):
        """The bytes, to be written; others see them after the next publish."""
        return memoryview(self._own())

    def immutable_data(self):
        """The bytes, read only."""
        self._check_there()
        if self._draft is None:
            return memoryview(self._view)
        return memoryview(self._draft).toreadonly()

    def memory_copy(self, value):
        """Copies a value to the beginning of the buffer."""
        self._validator.check_args_types([["value", value, *_PUT_TYPES]])
        source = memoryview(value).cast("B")
        if source.nbytes > self._size:
            raise failure(
                "Invalid parameter",
                "%d bytes do not fit a buffer of %d" % (source.nbytes, self._size),
            )
        memoryview(self._own())[: source.nbytes] = source

    def publish(self, nested_object_keys=None):
        """Makes the bytes the object's value; may be repeated."""
        self._publish(nested_object_keys, False)

    def seal(self, nested_object_keys=None):
        """Publishes for the last time: the object never changes again."""
        self._publish(nested_object_keys, True)
        self._is_sealed = True

    def _publish(self, nested, is_last):
        self._check_there()
        if self._is_sealed:
            raise failure(
                "Object already sealed error", "The client object has already been sealed."
            )
        nested = _nested(self._validator, nested)
        source = self._view if self._draft is None else self._draft
        self._objects.publish(self._key, source, nested, self._write_mode, is_last)

    def invalidate_buffer(self):
        """Gives the bytes up; what was published stays."""
        self._check_there()
        self._release()
        self._is_gone = True
        self._draft = self._view = None

    def get_size(self):
        return self._size

    def _release(self):
        for is_exclusive, latches in self._latches.items():
            while latches:
                self._objects.unlatch(self._key, latches.pop())

    def __del__(self):
        # Half made when the constructor failed; a daemon that is gone holds no latch.
        try:
            self._release()
        except (AttributeError, RuntimeError):
            pass


def _nested(validator, nested):
    nested = [] if nested is None else nested
    if isinstance(nested, (set, tuple)):
        nested = list(nested)
    validator.check_args_types([["nested_object_keys", nested, list]])
    return nested


class BaseObjectClient(Connected):
    """The calls; the two packages give the constructors."""

    _objects = NOT_INITIALIZED

    def init(self):
        super().init()
        self._objects = self._kv.objects()

    def _how(self, param, options):
        """The write mode: of the first generation's arguments or of the newest one's dict."""
        mode, consistency = WriteMode.NONE_L2_CACHE, ConsistencyType.PRAM
        if isinstance(param, dict):
            mode = param.get("write_mode", mode)
            consistency = param.get("consistency_type", consistency)
        elif param is not None:
            mode = param
        mode = options.pop("write_mode", mode)
        consistency = options.pop("consistency_type", consistency)
        if options:
            raise TypeError("unexpected keyword argument %r" % next(iter(options)))
        self._validator.check_args_types(
            [["write_mode", mode, WriteMode], ["consistency_type", consistency, ConsistencyType]]
        )
        return mode

    def create(self, object_key, size, param=None, consistency_type=ConsistencyType.PRAM, **options):
        """Lends memory for an object."""
        self._validator.check_args_types([["object_key", object_key, str], ["size", size, int]])
        options.setdefault("consistency_type", consistency_type)
        mode = self._how(param, options)
        if size <= 0:
            raise failure("Invalid parameter", "The dataSize value should be bigger than zero.")
        self._kv.check_key(object_key, size)
        try:
            return Buffer(self._objects, self._validator, object_key, size, mode)
        except MemoryError:
            raise failure("Out of memory", "no memory for %d bytes" % size) from None

    def put(
        self,
        object_key,
        value,
        param=None,
        consistency_type=ConsistencyType.PRAM,
        nested_object_keys=None,
        **options
    ):
        """Publishes a value as an object."""
        self._validator.check_args_types(
            [["object_key", object_key, str], ["value", value, *_PUT_TYPES]]
        )
        # The newest generation's fourth argument is the nested keys.
        if isinstance(consistency_type, (list, set, tuple)):
            nested_object_keys, consistency_type = consistency_type, ConsistencyType.PRAM
        options.setdefault("consistency_type", consistency_type)
        mode = self._how(param, options)
        nested = _nested(self._validator, nested_object_keys)
        self._objects.publish(object_key, value, nested, mode, False)

    def get(self, object_keys, timeout_ms=None, *, sub_timeout_ms=None):
        """Opens objects; None for those that are missing, RuntimeError when all are."""
        wait = timeout_ms if sub_timeout_ms is None else sub_timeout_ms
        if not object_keys and (object_keys is None or isinstance(object_keys, list)):
            raise RuntimeError("The input of object_keys list should not be empty")
        self._validator.check_args_types(
            [["object_keys", object_keys, list], ["timeout_ms", wait, int]]
        )
        least = 0 if self._is_first else 1
        self._validator.check_param_range("timeout_ms", wait, least, INT32_MAX)
        views = self._kv.views(object_keys, wait)
        return [
            None
            if view is None
            else Buffer(
                self._objects, self._validator, key, len(view), WriteMode.NONE_L2_CACHE, view
            )
            for key, view in zip(object_keys, views)
        ]

    def _check_list(self, object_keys):
        if not object_keys and (object_keys is None or isinstance(object_keys, list)):
            raise RuntimeError("The input of object_keys list should not be empty")
        self._validator.check_args_types([["object_keys", object_keys, list]])

    def g_increase_ref(self, object_keys):
        """Holds objects for this client, and returns the keys that failed."""
        self._check_list(object_keys)
        return self._objects.increase(object_keys)

    def g_decrease_ref(self, object_keys):
        """Lets go of objects; the last of all clients deletes them."""
        self._check_list(object_keys)
        return self._objects.decrease(object_keys)

    def query_global_ref_num(self, object_key):
        """How many clients hold an object."""
        self._validator.check_args_types([["object_key", object_key, str]])
        return self._objects.references(object_key)

    def generate_object_key(self, prefix=""):
        """Returns a new key."""
        self._validator.check_args_types([["prefix", prefix, str]])
        return generate_key(self._is_first, prefix, self._settings)

    generate_object_id = generate_object_key


class FirstObjectClient(BaseObjectClient):
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


class NewestObjectClient(BaseObjectClient):
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
        req_timeout_ms=0,
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
            req_timeout_ms=req_timeout_ms,
        )
        settings = Settings(StrictValidator, 9000, host, port, connect_timeout_ms, others)
        super().__init__(settings, False, StrictValidator)
