#!/usr/bin/env python3
"""Measures whether readers slow a writer: `set` with two reading clients against `set` alone.

A machine of two cores has none left for readers once shard and writer have theirs: in time, readers on the
writer's core take their part of it, whatever they do to it. So this tells sets per second of the writer's **own
processor time**: the writer polls for its answer, so that whatever readers add to a set (lines of the index that
they share with the shard, pins that it scans, notes that it drains) is in there, and only the core that they
take away is not. The shard's processor time of a set is told beside it. With `--reader-cpus` on cores of their
own (four cores or more) throughput in time says the same, and is told too.

Runs with and without readers alternate; the ratio is that of the medians. Build first:

    cargo build --release --locked -p chariotd -p chariot-bench
    perf/writer_beside_readers.py [--runs 5] [--seconds 3]
"""

import argparse
import contextlib
import pathlib
import statistics
import subprocess
import time
import urllib.request

from measure import BIN, daemon

GOAL = 0.9


def processor_seconds(process, name=""):
    """What the threads of a process whose names begin so have run, by the scheduler's own count."""
    total = 0
    for task in pathlib.Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):
            if (task / "comm").read_text().startswith(name):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def sets(admin):
    """Sets that the daemon has finished."""
    text = urllib.request.urlopen(f"http://{admin}/metrics", timeout=5).read().decode()
    return sum(
        float(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("chariot_operations_total{") and any(f'"{op}"' in line for op in ("set", "publish"))
    )


def daemon_process():
    """The daemon among this process's children."""
    for children in pathlib.Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "chariotd":
                return int(child)
    raise SystemExit("no chariotd among the children")


@contextlib.contextmanager
def client(listen, operation, cpus, seconds, *arguments):
    command = [BIN / "chariot-bench", "kv", "--target", listen, "--op", operation, "--client-cpus", cpus,
               "--seconds", str(seconds), "--json", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def measure(listen, admin, options, readers):
    """Sets a second of time, sets a second of the writer's processor time, the shard's microseconds of a set."""
    long = options.seconds + 30
    server = daemon_process()
    with contextlib.ExitStack() as stack:
        for number in range(readers):
            stack.enter_context(client(listen, options.reads, options.reader_cpus, long, "--seed", str(number + 2)))
        writer = stack.enter_context(client(listen, "set", options.writer_cpu, long))
        # All have written their keys, and work.
        time.sleep(options.warm_up)
        before = (time.monotonic(), sets(admin), processor_seconds(writer.pid), processor_seconds(server, "shard"))
        time.sleep(options.seconds)
        after = (time.monotonic(), sets(admin), processor_seconds(writer.pid), processor_seconds(server, "shard"))
    elapsed, done, own, shard = (b - a for a, b in zip(before, after))
    return done / elapsed, done / max(own, 1e-9), shard / max(done, 1) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warm-up", type=float, default=4)
    parser.add_argument("--reads", default="view")
    parser.add_argument("--writer-cpu", default="1")
    parser.add_argument("--reader-cpus", default="1")
    options = parser.parse_args()
    alone, beside = [], []
    with daemon() as (listen, admin):
        for _ in range(options.runs):
            alone.append(measure(listen, admin, options, 0))
            beside.append(measure(listen, admin, options, 2))
    print("| readers | sets/s | sets/s of the writer's processor time | shard, us a set |\n|---|---|---|---|")
    medians = []
    for name, runs in (("none", alone), ("two", beside)):
        columns = list(zip(*runs))
        medians.append([statistics.median(column) for column in columns])
        cells = [f"{statistics.median(column):,.1f} ({min(column):,.1f} to {max(column):,.1f})" for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")
    ratio = medians[1][1] / medians[0][1]
    print(f"\nwith readers {ratio:.2f} of without (goal {GOAL}), in time {medians[1][0] / medians[0][0]:.2f}")


if __name__ == "__main__":
    main()
