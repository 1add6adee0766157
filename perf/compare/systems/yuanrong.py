"""openYuanrong datasystem: one worker with its own metastore, shared memory, populated ahead.

Its `shared_memory_populate` asks for one arena and no fallocate. The shared-memory way is taken at
all sizes, and clients use the exclusive connection.
"""

import os
import re
import signal
import time

from machine import Unavailable, apt, checked, compiled, environment, pinned, port
from systems.peer import Peer


class Yuanrong(Peer):
    title = "openYuanrong"

    def __init__(self, flavour):
        super().__init__(flavour)
        self.pid = None

    def install(self):
        python = environment("yuanrong", ["openyuanrong-datasystem==0.8.1"])
        self.bin = python.parent
        package = next(python.parent.parent.glob("lib/python3*/site-packages/yr/datasystem"))
        self.library = package / "lib"
        if self.flavour == "native":
            apt(["g++"])
            self.program = [compiled("yuanrong", [
                "-isystem", str(package / "include"), f"-L{self.library}", "-ldatasystem",
                f"-Wl,-rpath-link,{self.library}"])]
        else:
            self.program = [python, self.script("yuanrong_client.py")]

    def start(self, run):
        self.port = port()
        home = run.directory / "yr"
        home.mkdir(exist_ok=True)
        said = checked(
            [self.bin / "dscli", "start", "-d", home, "-w",
             "--worker_address", f"127.0.0.1:{self.port}",
             "--start_metastore_service", "true", "--metastore_address", f"127.0.0.1:{port()}",
             "--shared_memory_size_mb", str(run.scale.memory >> 20),
             "--shared_memory_populate", "true", "--arena_per_tenant", "1",
             "--enable_fallocate", "false", "--oc_shm_transfer_threshold_kb", "0"],
            "dscli start", preexec_fn=pinned(run.daemon_cpus))
        found = re.search(r"success, PID: (\d+)", said)
        if found is None:
            raise Unavailable(f"dscli start: {said.strip().splitlines()[-1]}")
        self.pid = int(found.group(1))

    def client(self, index):
        env = dict(os.environ)
        if self.flavour == "native":
            env["LD_LIBRARY_PATH"] = str(self.library)
        return [*self.program, "127.0.0.1", self.port], env

    def stop(self):
        """Through its own tool, and by process id should that not have ended it."""
        if self.pid is None:
            return
        pid, self.pid = self.pid, None
        try:
            checked([self.bin / "dscli", "stop", "--worker_address", f"127.0.0.1:{self.port}"],
                    "dscli stop")
        except Unavailable:
            pass
        for number in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + 10
            while time.monotonic() < end:
                if not is_worker(pid):
                    return
                time.sleep(0.1)
            os.kill(pid, number)


def is_worker(pid):
    """Whether that process runs and still is the worker: a number may be given again."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"datasystem_worker" in file.read()
    except OSError:
        return False
