"""Redis through redis-py with the hiredis parser, over the unix socket."""

import loop
import redis


class Client:
    def __init__(self, path):
        self.redis = redis.Redis(unix_socket_path=path)
        self.redis.ping()

    def prepare(self, size):
        pass

    def get(self, keys):
        if len(keys) == 1:
            return [self.redis.get(keys[0])]
        return self.redis.mget(keys)

    def set(self, keys, value):
        if len(keys) == 1:
            return self.redis.set(keys[0], value)
        return self.redis.mset({key: value for key in keys})

    def exist(self, keys):
        if len(keys) == 1:
            return [self.redis.exists(keys[0])]
        pipeline = self.redis.pipeline(transaction=False)
        for key in keys:
            pipeline.exists(key)
        return pipeline.execute()

    def close(self):
        self.redis.close()


if __name__ == "__main__":
    loop.serve(Client)
