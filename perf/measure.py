#!/usr/bin/env python3
"""Measures the canonical rows of perf/README.md and prints them as Markdown.

The daemon runs on CPU 0 with default flags, the client on CPU 1; every row is run several times and
its median told, with the lowest and highest. Build first:

    cargo build --release --locked -p chariotd -p chariot-bench
    perf/measure.py [--runs 3] [--seconds 3] [--trace FILE]
"""

import argparse
import contextlib
import json
import pathlib
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "release"

# name, arguments of `chariot-bench kv`, which figure, goal
ROWS = [
    ("set 4 KiB, awake", "--op set", "p50", "p50 <= 8 us"),
    ("set 4 KiB, shard parked", "--op set --rate 100 --seconds 10", "p50", "p50 <= 35 us"),
    ("get 4 KiB", "--op get", "p50", "like set"),
    ("view 4 KiB", "--op view", "p50p99", "p50 <= 0.3 us, p99 <= 1 us"),
    ("exist", "--op exist", "p50", "p50 <= 0.2 us"),
    ("mget 100 x 4 KiB", "--op mget --batch 100", "keys", ">= 1 M keys/s"),
    ("mset 100 x 4 KiB", "--op mset --batch 100", "keys", ">= 0.7 M keys/s"),
    ("mset 100 x 4 KiB, no checksum", "--op mset --batch 100 --no-checksum", "keys", ">= 1 M keys/s"),
    ("mview 100 x 4 KiB", "--op mview --batch 100", "keys", ">= 6 M keys/s"),
    ("set 1 MiB", "--op set --size 1MiB --keys 1000", "ratio", ">= 0.8 x memcpy"),
    ("set 8 MiB", "--op set --size 8MiB --keys 100", "ratio", ">= 0.8 x memcpy"),
    ("set 1 MiB, no checksum", "--op set --size 1MiB --keys 1000 --no-checksum", "ratio", ">= 1.2 x memcpy"),
    ("set 8 MiB, no checksum", "--op set --size 8MiB --keys 100 --no-checksum", "ratio", ">= 1.2 x memcpy"),
    ("remote get 1 MiB", "--op get --size 1MiB --keys 1000 --transport tcp", "ratio", ">= 0.75 x loopback TCP"),
    ("remote get 1 MiB, no checksum", "--op get --size 1MiB --keys 1000 --transport tcp --no-checksum",
     "ratio", ">= 0.95 x loopback TCP"),
    ("remote get 1 MiB, two connections, no checksum",
     "--op get --size 1MiB --keys 1000 --transport tcp --no-checksum --clients 2", "ratio", ">= 0.95 x loopback TCP"),
    ("remote mget 8 x 1 MiB, no checksum",
     "--op mget --batch 8 --size 1MiB --keys 1000 --transport tcp --no-checksum", "ratio", ">= 0.95 x loopback TCP"),
    ("mixed 4 KiB", "--op mixed", "p50", "none"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def daemon(*extra):
    """A fresh daemon on CPU 0, ended by its process id."""
    listen, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = [BIN / "chariotd", "--cores", "0", "--memory", "2GiB", "--listen", f"127.0.0.1:{listen}",
                   "--admin", f"127.0.0.1:{admin}", "--socket", f"{directory}/chariot.sock", *extra]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_populated(admin, process)
            yield f"127.0.0.1:{listen}", f"127.0.0.1:{admin}"
        finally:
            process.terminate()
            process.wait(30)


def wait_populated(admin, process, deadline_s=60):
    """A row measures a warm daemon: all of its memory is there."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=1).read().decode()
            for line in text.splitlines():
                if line.startswith("chariot_populated_bytes ") and float(line.split()[1]) >= 2 << 30:
                    return
        time.sleep(0.1)
    if process.poll() is not None:
        raise SystemExit("chariotd ended while it started; run it by hand to see why")
    raise SystemExit(f"chariotd had not populated its arena after {deadline_s} s; is there memory for it?")


def bench(*arguments):
    output = subprocess.run([BIN / "chariot-bench", *arguments, "--json"], check=True, capture_output=True, text=True)
    return json.loads(output.stdout.splitlines()[-1])


def figure(report, kind):
    if kind == "ratio":
        return report["limit"]["ratio"]
    if kind == "keys":
        return report["ops_per_s"] / 1e6
    return report["lat_us"]["p50"]


def row(name, arguments, kind, goal, options):
    reports = []
    for _ in range(options.runs):
        with daemon() as (listen, _):
            given = arguments.split()
            if "--seconds" not in given:
                given += ["--seconds", str(options.seconds)]
            reports.append(bench("kv", "--target", listen, "--client-cpus", "1", *given))
    values = [figure(report, kind) for report in reports]
    unit = {"ratio": "x", "keys": "M keys/s"}.get(kind, "us")
    result = f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"
    if kind == "p50p99":
        result += f", p99 {statistics.median(r['lat_us']['p99'] for r in reports):.2f} us"
    bad = sum(report["errors"] + report["misses"] for report in reports)
    rate = statistics.median(report["bytes_per_s"] for report in reports) / (1 << 30)
    print(f"| {name} | `kv {arguments}` | {goal} | {result} | {rate:.2f} GiB/s | {bad} |", flush=True)


def replay(options, policy):
    with daemon("--eviction", policy) as (listen, admin):
        report = bench("replay", "--target", listen, "--admin", admin, "--trace", options.trace,
                       "--block-bytes", "64KiB", "--client-cpus", "1")
    print(f"| replay, `--eviction {policy}` | hit ratio {report['hit_ratio']:.3f} | errors {report['errors']} | wrong bytes "
          f"{report['wrong_bytes']} | evictions {report['evictions']} | {report['bytes_per_s'] / (1 << 30):.2f} GiB/s | "
          f"p50 {report['lat_us']['p50']:.0f} us, p99 {report['lat_us']['p99']:.0f} us a request |", flush=True)


def limits():
    """What the machine could do in the same minutes; the wakes of parked rows are bounded by `cold_wake`."""
    output = subprocess.run([BIN / "chariot-bench", "limits", "--json"], check=True, capture_output=True, text=True)
    print("\n| limit | size | threads | figure |\n|---|---|---|---|")
    for line in output.stdout.splitlines():
        one = json.loads(line)
        latency = one["lat_us"]
        figure = f"p50 {latency['p50']:.1f} us, p99 {latency['p99']:.0f} us" if latency else \
            f"{one['bytes_per_s'] / (1 << 30):.2f} GiB/s"
        print(f"| {one['name']} | {one['size_bytes']} B | {one['threads']} | {figure} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--trace", default="")
    options = parser.parse_args()
    print("| row | command | goal | median (lowest to highest) | throughput | errors and misses |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, arguments, kind, goal in ROWS:
        if options.only in name:
            row(name, arguments, kind, goal, options)
    if options.trace:
        print()
        for policy in ("lru", "s3fifo"):
            replay(options, policy)
    limits()


if __name__ == "__main__":
    main()
