"""``DsClient`` of the old SDKs: one address, three clients."""

from .hetero import FirstHeteroClient, NewestHeteroClient
from .kv import FirstKVClient, NewestKVClient
from .objects import FirstObjectClient, NewestObjectClient
from .util import failure


class _Clients:
    def init(self):
        """Connects all three; RuntimeError when that fails."""
        for client in (self._kv, self._hetero, self._object):
            client.init()

    def kv(self):
        return self._kv

    def hetero(self):
        return self._hetero

    def object(self):
        return self._object


class FirstDsClient(_Clients):
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
        arguments = (
            host,
            port,
            connect_timeout_ms,
            client_public_key,
            client_private_key,
            server_public_key,
            access_key,
            secret_key,
            tenant_id,
            enable_cross_node_connection,
        )
        self._kv = FirstKVClient(*arguments, **others)
        self._hetero = FirstHeteroClient(*arguments, **others)
        self._object = FirstObjectClient(*arguments, **others)


class NewestDsClient(_Clients):
    """The constructor of the newest successor."""

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
        service_discovery=None,
    ):
        options = dict(
            connect_timeout_ms=connect_timeout_ms,
            token=token,
            client_public_key=client_public_key,
            client_private_key=client_private_key,
            server_public_key=server_public_key,
            access_key=access_key,
            secret_key=secret_key,
            tenant_id=tenant_id,
            enable_cross_node_connection=enable_cross_node_connection,
            req_timeout_ms=req_timeout_ms,
            service_discovery=service_discovery,
        )
        self._kv = NewestKVClient(host, port, **options)
        self._hetero = NewestHeteroClient(host, port, **options)
        self._object = NewestObjectClient(host, port, **options)
        if bool(host) != bool(port):
            raise failure(
                "Invalid parameter",
                "host and port must be provided together, or use service_discovery",
            )
