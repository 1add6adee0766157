"""Mooncake Store through its Python binding: an embedded client beside the master.

The first client mounts the segment, hence its reads and writes are local copies plus an RPC to the
master; the others mount none and reach the first one's memory over loopback TCP.
"""

import loop
from mooncake.store import MooncakeDistributedStore

LOCAL_BUFFER = 512 << 20


class Client:
    def __init__(self, master, segment):
        self.store = MooncakeDistributedStore()
        status = self.store.setup(
            "127.0.0.1", "P2PHANDSHAKE", int(segment), LOCAL_BUFFER, "tcp", "", master
        )
        if status != 0:
            raise RuntimeError(f"setup answered {status}")

    def prepare(self, size):
        pass

    def get(self, keys):
        if len(keys) == 1:
            return [self.store.get(keys[0])]
        return self.store.get_batch(keys)

    def view(self, keys):
        if len(keys) == 1:
            return [self.store.get_buffer(keys[0])]
        return self.store.batch_get_buffer(keys)

    def set(self, keys, value):
        """Upsert, because put leaves a key that exists as it is."""
        if len(keys) == 1:
            status = self.store.upsert(keys[0], value)
        else:
            status = self.store.upsert_batch(keys, [value] * len(keys))
        if status != 0:
            raise RuntimeError(f"upsert answered {status}")

    def exist(self, keys):
        if len(keys) == 1:
            return [self.store.is_exist(keys[0]) == 1]
        return [found == 1 for found in self.store.batch_is_exist(keys)]

    def close(self):
        self.store.close()


if __name__ == "__main__":
    loop.serve(Client)
