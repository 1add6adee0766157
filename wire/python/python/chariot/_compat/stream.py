"""``StreamClient`` of the successor: it connects, and refuses streams by name."""

from .connect import Connected, Settings
from .util import StrictValidator, not_supported

_WHY = "the engine has no streams"


class Producer:
    """Writes to a stream; only ``create_producer`` makes one."""

    def __init__(self, *_arguments):
        raise not_supported("Producer", _WHY)


class Consumer:
    """Reads from a stream; only ``subscribe`` makes one."""

    def __init__(self, *_arguments):
        raise not_supported("Consumer", _WHY)


class StreamClient(Connected):
    def __init__(
        self,
        host="",
        port=0,
        client_public_key="",
        client_private_key="",
        server_public_key="",
        access_key="",
        secret_key="",
        token="",
        tenant_id="",
        **others
    ):
        others.update(
            client_public_key=client_public_key,
            client_private_key=client_private_key,
            server_public_key=server_public_key,
            access_key=access_key,
            secret_key=secret_key,
            token=token,
            tenant_id=tenant_id,
        )
        timeout_ms = others.pop("connect_timeout_ms", 9000)
        settings = Settings(StrictValidator, 9000, host, port, timeout_ms, others)
        super().__init__(settings, False, StrictValidator)

    def create_producer(
        self,
        stream_name,
        delay_flush_time_ms=5,
        page_size_byte=1 << 20,
        max_stream_size_byte=1 << 30,
        auto_cleanup=False,
        retain_for_num_consumers=0,
        encrypt_stream=False,
        reserve_size=0,
    ):
        raise not_supported("StreamClient.create_producer", _WHY)

    def subscribe(self, stream_name, sub_name, subscription_type):
        raise not_supported("StreamClient.subscribe", _WHY)

    def delete_stream(self, stream_name):
        raise not_supported("StreamClient.delete_stream", _WHY)

    def query_global_producer_num(self, stream_name):
        raise not_supported("StreamClient.query_global_producer_num", _WHY)

    def query_global_consumer_num(self, stream_name):
        raise not_supported("StreamClient.query_global_consumer_num", _WHY)
