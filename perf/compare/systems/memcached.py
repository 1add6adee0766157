"""memcached: one worker thread, items up to 16 MiB, the unix socket."""

import os

from machine import Process, apt, compiled, environment
from systems.peer import Peer


class Memcached(Peer):
    title = "memcached"

    def install(self):
        if self.flavour == "native":
            apt(["memcached", "libmemcached-dev", "g++"])
            self.program = [compiled("memcached", ["-lmemcached"])]
        else:
            apt(["memcached"])
            python = environment("memcached", ["pymemcache==4.0.0"])
            self.program = [python, self.script("memcached_client.py")]

    def start(self, run):
        self.socket = run.directory / "memcached.sock"
        user = ["-u", "root"] if os.geteuid() == 0 else []
        self.daemon = Process(
            ["memcached", "-s", self.socket, "-t", "1", "-I", "16m", "-m",
             run.scale.memory >> 20, *user],
            run.daemon_cpus, run.directory / "memcached.log")
        self.daemon.until(self.socket.exists, "memcached")

    def stop(self):
        super().stop()
        if hasattr(self, "socket"):
            self.socket.unlink(missing_ok=True)

    def client(self, index):
        return [*self.program, self.socket], dict(os.environ)
