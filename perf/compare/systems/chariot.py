"""Ours, by chariot-bench, and the machine's limit that it measures in the same call."""

import json
import os
import subprocess

from machine import ROOT, Process, Unavailable, checked, port

BENCH_TIMEOUT = 300
BATCH_OPS = {"get": "mget", "view": "mview", "set": "mset", "exist": "exist"}


class Chariot:
    name = "Chariot (Rust)"

    def __init__(self):
        self.daemon = None
        self.limits = {}

    def install(self):
        self.target = os.environ.get("CARGO_TARGET_DIR") or str(ROOT / "target")
        checked(["cargo", "build", "--release", "--locked", "-q", "-p", "chariotd",
                 "-p", "chariot-bench"], "cargo build", cwd=ROOT)

    def start(self, run):
        self.socket = run.directory / "chariot.sock"
        cores = ",".join(map(str, sorted(run.daemon_cpus)))
        self.daemon = Process(
            [f"{self.target}/release/chariotd", "--cores", cores, "--memory", run.scale.memory,
             "--listen", f"127.0.0.1:{port()}", "--admin", f"127.0.0.1:{port()}",
             "--socket", self.socket],
            run.daemon_cpus, run.directory / "chariot.log")
        self.daemon.until(self.socket.exists, "chariotd")

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
        command = [f"{self.target}/release/chariot-bench", "kv", "--socket", self.socket,
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


class ChariotPython:
    name = "Chariot (Python)"

    def install(self):
        raise Unavailable("the Python SDK is not built yet")


class Limit:
    """A column filled from Chariot's visits: memcpy for what moves bytes, a map look-up else."""

    name = "limit (memcpy, look-up)"

    def install(self):
        pass
