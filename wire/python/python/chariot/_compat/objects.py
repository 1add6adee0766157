"""``ObjectClient`` and ``Buffer`` of the old SDKs: they connect; objects are refused by name."""

from .connect import Connected, Settings, generate_key
from .util import StrictValidator, Validator, not_supported

_WHY = "the engine's objects (references, seal, latches) are not connected to Python"


class Buffer:
    """An object's memory; only ``create`` and ``get`` make one."""

    def __init__(self, *_arguments):
        raise not_supported("Buffer", _WHY)


class BaseObjectClient(Connected):
    def create(self, object_key, size, *_arguments, **_options):
        raise not_supported("ObjectClient.create", _WHY)

    def put(self, object_key, value, *_arguments, **_options):
        raise not_supported("ObjectClient.put", _WHY)

    def get(self, object_keys, *_arguments, **_options):
        raise not_supported("ObjectClient.get", _WHY)

    def g_increase_ref(self, object_keys):
        raise not_supported("ObjectClient.g_increase_ref", _WHY)

    def g_decrease_ref(self, object_keys):
        raise not_supported("ObjectClient.g_decrease_ref", _WHY)

    def query_global_ref_num(self, object_key):
        raise not_supported("ObjectClient.query_global_ref_num", _WHY)

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
