"""The measuring loop of the Python clients: one process, one session, commands on stdin.

A client connects, says `{"ready": true}` and then answers one JSON line for each command:

    {"do": "fill", "size": 4096, "keys": 1000}
    {"do": "run", "op": "set", "batch": 1, "seconds": 0.5, "seed": 1, "part": 0, "parts": 2}
    {"do": "quit"}

The clock runs around the call alone; choosing keys, checking a sample and dropping what was read
lie outside it. Clients that write together write keys of their own, each its part: some peers
refuse a write to a key that another is writing. native/loop.hpp is the same loop in C++, and answers the same commands.
"""

import json
import math
import os
import random
import sys
import time

# One value in this many is compared in full; of all others the length is.
VERIFY_EVERY = 64
# Buckets per factor of e: a bucket is 1 % wide.
RESOLUTION = 100
# Longest fill call, in bytes and keys.
FILL_BYTES = 4 << 20
FILL_KEYS = 100
# Random choices prepared before the clock starts.
CHOICES = 4096


def key(index):
    """The key of an index: 40 bytes, as long as a hash of a block with its prefix."""
    return f"tenant:model:layer:block-{index:016x}"


def value(size):
    """The value of every key of this size; the same bytes in every client."""
    return random.Random(size).randbytes(min(size, 1 << 20)) * max(1, size >> 20)


def bucket(nanoseconds):
    return int(math.log(max(1, nanoseconds)) * RESOLUTION)


class Loop:
    """Runs commands on `client`, which offers some of get, view, exist, set by a list of keys.

    `get` and `view` return a list of bytes-like objects (None is a miss), `exist` a list of truths.
    """

    def __init__(self, client):
        self.client = client
        self.keys = []
        self.value = b""

    def fill(self, size, keys):
        self.keys = [key(index) for index in range(keys)]
        self.value = value(size)
        self.client.prepare(size)

    def store(self):
        step = max(1, min(FILL_KEYS, FILL_BYTES // len(self.value)))
        for start in range(0, len(self.keys), step):
            self.client.set(self.keys[start : start + step], self.value)

    def wrong(self, op, answer, wanted, full):
        """How many of `wanted` answers are missing or not as they were written."""
        if op == "set":
            return 0
        if len(answer) != wanted:
            return wanted
        if op == "exist":
            return sum(1 for found in answer if not found)
        bad = 0
        for found in answer:
            if found is None:
                bad += 1
                continue
            found = memoryview(found).cast("B")
            if found.nbytes != len(self.value) or (full and found != self.value):
                bad += 1
        return bad

    def run(self, op, batch, seconds, seed, part=0, parts=1):
        call = getattr(self.client, op, None)
        if call is None:
            return {"absent": f"the client offers no {op}"}
        chosen = random.Random(seed)
        keys = self.keys[part::parts] if op == "set" else self.keys
        choices = [
            chosen.sample(keys, batch)
            for _ in range(CHOICES if batch == 1 else 256)
        ]
        is_set = op == "set"
        arguments = (self.value,) if is_set else ()
        for keys in choices[: min(8, len(choices))]:
            call(keys, *arguments)
        clock = time.perf_counter_ns
        histogram, calls, bad = {}, 0, 0
        start = clock()
        end = start + int(seconds * 1e9)
        now = start
        while now < end:
            keys = choices[calls % len(choices)]
            before = clock()
            answer = call(keys, *arguments)
            now = clock()
            slot = bucket(now - before)
            histogram[slot] = histogram.get(slot, 0) + 1
            bad += self.wrong(op, answer, batch, calls % VERIFY_EVERY == 0)
            del answer
            calls += 1
        spent = (clock() - start) / 1e9
        return {"calls": calls, "keys": calls * batch, "seconds": spent, "bad": bad,
                "histogram": histogram}

    def answer(self, command):
        try:
            if command["do"] == "fill":
                self.fill(command["size"], command["keys"])
                if command["store"]:
                    self.store()
                return {"filled": len(self.keys)}
            return self.run(**{name: given for name, given in command.items() if name != "do"})
        except NotImplementedError as error:
            return {"absent": str(error)}
        except Exception as error:  # each peer has errors of its own; each is a reason
            return {"error": f"{type(error).__name__}: {error}"[:300]}


def serve(connect):
    """Connects with the arguments of the command line and answers commands until `quit`.

    Some clients log to stdout: answers go to a descriptor of their own, and stdout to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    client = connect(*sys.argv[1:])
    loop = Loop(client)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "quit":
            break
        print(json.dumps(loop.answer(command)), file=answers, flush=True)
    client.close()
