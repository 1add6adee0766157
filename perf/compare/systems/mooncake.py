"""Mooncake Store: the master on the daemon's CPU, embedded clients, local copies (TCP otherwise).

The master is a single process with metadata only; the values lie in the first client, as in its
documented embedded deployment. Further clients reach them over loopback TCP.
"""

import os
import socket

from machine import Process, Unavailable, apt, environment, port
from systems.peer import Peer


class Mooncake(Peer):
    title = "Mooncake Store"

    def install(self):
        if self.flavour == "native":
            raise Unavailable("the package holds a Python binding, and no headers for C++")
        apt(["libibverbs1"])
        python = environment("mooncake", ["mooncake-transfer-engine-non-cuda==0.3.13.post1"])
        self.master = python.parent / "mooncake_master"
        self.program = [python, self.script("mooncake_client.py")]

    def start(self, run):
        number = port()
        self.address, self.memory = f"127.0.0.1:{number}", run.scale.memory
        self.daemon = Process(
            [self.master, "-rpc_address", "127.0.0.1", "-rpc_port", number,
             "-metrics_host", "127.0.0.1", "-metrics_port", port()],
            run.daemon_cpus, run.directory / "mooncake.log")

        def listening():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", number)) == 0

        self.daemon.until(listening, "mooncake_master")

    def client(self, index):
        env = dict(os.environ, MC_STORE_MEMCPY="1", GLOG_minloglevel="2")
        return [*self.program, self.address, self.memory if index == 0 else 0], env
