"""memcached through pymemcache, over the unix socket."""

import loop
from pymemcache.client.base import Client as Memcache


class Client:
    def __init__(self, path):
        self.memcache = Memcache(path, no_delay=True)
        self.memcache.version()

    def prepare(self, size):
        pass

    def get(self, keys):
        if len(keys) == 1:
            return [self.memcache.get(keys[0])]
        found = self.memcache.get_many(keys)
        return [found.get(key) for key in keys]

    def set(self, keys, value):
        if len(keys) == 1:
            stored = self.memcache.set(keys[0], value, noreply=False)
            failed = [] if stored else keys
        else:
            failed = self.memcache.set_many({key: value for key in keys}, noreply=False)
        if failed:
            raise RuntimeError(f"memcached did not store {len(failed)} of {len(keys)} keys")

    def exist(self, keys):
        """The meta command mg without flags answers HD or EN and moves no value."""
        if len(keys) > 1:
            raise NotImplementedError("the client offers no batch of exist")
        return [self.memcache.raw_command(f"mg {keys[0]}") == b"HD"]

    def close(self):
        self.memcache.close()


if __name__ == "__main__":
    loop.serve(Client)
