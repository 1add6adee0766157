"""Ours through its Python SDK, over shared memory."""

import chariot
import loop


class Client:
    def __init__(self, address):
        self.client = chariot.Client(address, shared_memory=True)

    def prepare(self, size):
        pass

    def get(self, keys):
        if len(keys) == 1:
            return [self.client.get(keys[0])]
        return self.client.mget(keys)

    def view(self, keys):
        if len(keys) == 1:
            return [self.client.view(keys[0])]
        return self.client.mview(keys)

    def set(self, keys, value):
        if len(keys) == 1:
            return self.client.set(keys[0], value)
        return self.client.mset({key: value for key in keys})

    def exist(self, keys):
        if len(keys) == 1:
            return [self.client.exist(keys[0])]
        return self.client.mexist(keys)

    def close(self):
        self.client.close()


if __name__ == "__main__":
    loop.serve(Client)
