"""Redis: one thread, no persistence, the unix socket, which is its fastest way on one host."""

import os

from machine import Process, apt, compiled, environment
from systems.peer import Peer


class Redis(Peer):
    title = "Redis"

    def install(self):
        if self.flavour == "native":
            apt(["redis-server", "libhiredis-dev", "g++"])
            self.program = [compiled("redis", ["-lhiredis"])]
        else:
            apt(["redis-server"])
            python = environment("redis", ["redis==8.1.0", "hiredis==3.5.0"])
            self.program = [python, self.script("redis_client.py")]

    def start(self, run):
        self.socket = run.directory / "redis.sock"
        self.daemon = Process(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "",
             "--appendonly", "no", "--maxmemory", run.scale.memory, "--dir", run.directory],
            run.daemon_cpus, run.directory / "redis.log")
        self.daemon.until(self.socket.exists, "redis-server")

    def client(self, index):
        return [*self.program, self.socket], dict(os.environ)
