"""openYuanrong datasystem through its Python SDK, shared memory and an exclusive connection."""

import loop
from yr.datasystem.kv_client import KVClient

# mset refuses values of 500 KiB and more.
BATCH_VALUE_MAX = 500 * 1024


class Client:
    def __init__(self, host, port):
        self.client = KVClient(host, int(port), enable_exclusive_connection=True)
        self.client.init()

    def prepare(self, size):
        pass

    def get(self, keys):
        return self.client.get(keys)

    def view(self, keys):
        return [
            None if found is None else found.immutable_data()
            for found in self.client.get_read_only_buffers(keys)
        ]

    def set(self, keys, value):
        if len(keys) == 1 or len(value) >= BATCH_VALUE_MAX:
            for key in keys:
                self.client.set(key, value)
            return
        failed = self.client.mset(keys, [value] * len(keys))
        if failed:
            raise RuntimeError(f"mset left out {len(failed)} of {len(keys)} keys")

    def exist(self, keys):
        return self.client.exist(keys)

    def close(self):
        pass


if __name__ == "__main__":
    loop.serve(Client)
