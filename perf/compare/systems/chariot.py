"""Ours, by chariot-bench and from Python, and the limit that chariot-bench measures in the same call."""

import json
import os
import subprocess
from pathlib import Path

from machine import ROOT, Process, checked, environment, port
from systems.peer import Peer

BENCH_TIMEOUT = 300
BATCH_OPS = {"get": "mget", "view": "mview", "set": "mset", "exist": "exist"}


def built():
    """The directory of chariotd and chariot-bench, built from this checkout."""
    checked(["cargo", "build", "--release", "--locked", "-q", "-p", "chariotd",
             "-p", "chariot-bench"], "cargo build", cwd=ROOT)
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release"


def daemon(binaries, run, address, socket):
    """A fresh chariotd on the daemons' CPUs."""
    cores = ",".join(map(str, sorted(run.daemon_cpus)))
    process = Process(
        [binaries / "chariotd", "--cores", cores, "--memory", run.scale.memory, "--listen", address,
         "--admin", f"127.0.0.1:{port()}", "--socket", socket],
        run.daemon_cpus, run.directory / "chariot.log")
    process.until(socket.exists, "chariotd")
    return process


class Chariot:
    name = "Chariot (Rust)"

    def __init__(self):
        self.daemon = None
        self.limits = {}

    def install(self):
        self.binaries = built()

    def start(self, run):
        self.socket = run.directory / "chariot.sock"
        self.daemon = daemon(self.binaries, run, f"127.0.0.1:{port()}", self.socket)

    def visit(self, run, size, cells):
        try:
            self.start(run)
            for cell in cells:
                measured, limit = self.measure(run, cell)
                if limit is not None:
                    self.limits.setdefault(cell, []).append(limit)
                yield cell, measured
        finally:
            if self.daemon is not None:
                self.daemon.stop()
            self.daemon = None

    def measure(self, run, cell):
        op = cell.op if cell.batch == 1 else BATCH_OPS[cell.op]
        cpus = ",".join(map(str, sorted(run.client_cpus)))
        command = [self.binaries / "chariot-bench", "kv", "--socket", self.socket,
                   "--op", op, "--size", cell.size, "--keys", run.scale.keys[cell.size],
                   "--clients", cell.clients, "--batch", cell.batch,
                   "--seconds", run.scale.seconds, "--client-cpus", cpus,
                   "--seed", run.round + 1, "--json"]
        try:
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                                  timeout=BENCH_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return {"error": f"no report in {BENCH_TIMEOUT} s"}, None
        if not done.stdout.strip():
            return {"error": done.stderr.strip()[-300:] or "no report"}, None
        return of_report(json.loads(done.stdout))


def of_report(report):
    """Measurement and limit of one report of chariot-bench; pure, for the self-test."""
    failed = report["errors"] + report["misses"] + report["wrong_bytes"]
    if failed:
        return {"error": f"{failed} errors, misses or wrong bytes: {report['first_error']}"}, None
    measured = {"p50_us": report["lat_us"]["p50"], "p99_us": report["lat_us"]["p99"],
                "keys_per_s": report["ops_per_s"]}
    # A limit is a rate: the time of a call follows from it.
    limit = report["limit"]
    call = 1e6 * report["batch"] * report["clients"] / limit["ops_per_s"]
    return measured, {"p50_us": call, "p99_us": call, "keys_per_s": limit["ops_per_s"]}


class ChariotPython(Peer):
    """Ours from Python: the same daemon, and the clients' loop of the peers."""

    title = "Chariot"

    def __init__(self):
        super().__init__("python")

    def install(self):
        self.binaries = built()
        self.python = environment("chariot", ["maturin>=1.9,<2"])
        venv = self.python.parent.parent
        checked([self.python.parent / "maturin", "develop", "--release", "--locked", "--quiet",
                 "--manifest-path", ROOT / "wire/python/Cargo.toml"], "maturin develop",
                cwd=ROOT, env={**os.environ, "VIRTUAL_ENV": str(venv)})

    def start(self, run):
        self.address = f"127.0.0.1:{port()}"
        self.daemon = daemon(self.binaries, run, self.address, run.directory / "chariot-py.sock")

    def client(self, index):
        return [self.python, self.script("chariot_client.py"), self.address], dict(os.environ)


class Limit:
    """A column filled from Chariot's visits: memcpy for what moves bytes, a map look-up else."""

    name = "limit (memcpy, look-up)"

    def install(self):
        pass
