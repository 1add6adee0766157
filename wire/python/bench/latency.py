"""Latency of the Python SDK: one client, local hits, warm. Prints medians.

    target/python-venv/bin/python wire/python/bench/latency.py [--seconds 1] [--smoke]

Starts a daemon on core 0 with default flags and runs on core 1 (where there is one). 10^5 keys of
4 KiB are written; each figure is the median over batches of 1,000 calls, keys chosen at random.
Reads are verified: the first bytes of every value name its key.
"""

import argparse
import itertools
import os
import random
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests"))

import chariot
from conftest import Daemon
from datasystem.kv_client import KVClient as First
from yr.datasystem.kv_client import KVClient as Newest

KEYS = 100_000
SIZE = 4096
BATCH = 1000


def median_us(body, seconds):
    """Runs batches of calls for a while; answers the median time of one call."""
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        body()
        times.append((time.perf_counter() - begin) / BATCH * 1e6)
    return statistics.median(times)


def value_of(key):
    return key.encode().ljust(SIZE, b".")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--smoke", action="store_true", help="few keys, no figures of worth")
    arguments = parser.parse_args()
    count = 1000 if arguments.smoke else KEYS
    seconds = 0.05 if arguments.smoke else arguments.seconds
    daemon = Daemon(memory="256MiB" if arguments.smoke else "1024MiB")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[min(1, len(cores) - 1)]})
    try:
        measure(daemon, count, seconds)
    finally:
        daemon.close()


def measure(daemon, count, seconds):
    client = chariot.Client(daemon.address)
    first, newest = First(daemon.host, daemon.port), Newest(daemon.host, daemon.port)
    first.init()
    newest.init()
    keys = ["bench:%06d" % index for index in range(count)]
    for begin in range(0, count, 1000):
        client.mset({key: value_of(key) for key in keys[begin : begin + 1000]})
    chosen = random.sample(keys, count)
    lists = [[key] for key in chosen]
    value = b"v" * SIZE

    def each(call, arguments):
        """Every batch takes the next keys: the whole set is walked before one comes again."""
        batches = [arguments[at : at + BATCH] for at in range(0, count, BATCH)]
        following = itertools.cycle(batches)

        def body():
            for argument in next(following):
                call(argument)

        return body

    def check(call, arguments):
        for key, argument in zip(chosen[:BATCH], arguments):
            found = call(argument)
            found = found[0] if isinstance(found, list) else found
            assert found is True or bytes(found)[: len(key)] == key.encode(), key

    def viewed(key):
        return memoryview(client.view(key))

    rows = [
        ("nothing (the loop itself)", lambda _key: None, chosen, None),
        ("chariot exist", client.exist, chosen, 1.5),
        ("chariot view", client.view, chosen, 2),
        ("chariot view + memoryview", viewed, chosen, None),
        ("chariot get 4 KiB", client.get, chosen, 3),
        ("datasystem exist([key])", first.exist, lists, 1.5),
        ("datasystem get_buffers([key])", first.get_buffers, lists, 2),
        ("datasystem get([key]) 4 KiB", first.get, lists, 3),
        ("yr.datasystem exist([key])", newest.exist, lists, 1.5),
        ("yr.datasystem get_buffers([key])", newest.get_buffers, lists, 2),
        ("yr.datasystem get([key]) 4 KiB", newest.get, lists, 3),
    ]
    print("%-36s %10s %10s" % ("call", "median us", "goal us"))
    for title, call, given, goal in rows:
        if goal:
            check(call, given)
        print("%-36s %10.2f %10s" % (title, median_us(each(call, given), seconds), goal or ""))
    for title, call in (
        ("chariot set 4 KiB", client.set),
        ("datasystem set 4 KiB", first.set),
        ("yr.datasystem set 4 KiB", newest.set),
    ):
        took = median_us(each(lambda key: call(key, value), chosen), seconds)
        print("%-36s %10.2f %10s" % (title, took, 10))
    blobs(client, first, seconds)


def blobs(client, first, seconds):
    """62 x 72 KiB as bytes, beside Python's own bytes(memoryview) of the same sizes."""
    keys = ["blob:%d" % index for index in range(62)]
    size = 72 << 10
    client.mset({key: key.encode().ljust(size, b"#") for key in keys})
    private = [memoryview(bytearray(os.urandom(size))) for _ in keys]
    views = [memoryview(view) for view in client.mview(keys)]
    bodies = {
        "bytes(memoryview), private": lambda: [bytes(one) for one in private],
        "bytes(memoryview), pinned": lambda: [bytes(one) for one in views],
        "chariot mget": lambda: client.mget(keys),
        "chariot get, one by one": lambda: [client.get(key) for key in keys],
        "datasystem get": lambda: first.get(keys),
    }
    for key, value in zip(keys, client.mget(keys)):
        assert value.startswith(key.encode() + b"#")
    times = {title: [] for title in bodies}
    end = time.perf_counter() + 5 * seconds
    while time.perf_counter() < end:
        for title, body in bodies.items():
            begin = time.perf_counter()
            body()
            times[title].append(time.perf_counter() - begin)
    total = 62 * size
    base = None
    print("\n62 x 72 KiB as bytes %15s %10s" % ("GB/s", "of base"))
    for title, took in times.items():
        speed = total / statistics.median(took) / 1e9
        base = base or speed
        print("%-36s %10.2f %9.0f%%" % (title, speed, 100 * speed / base))


main()
