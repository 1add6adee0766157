"""A real daemon for the tests: its own process, its own ports, gone with the test."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[3]
STEP_S = 0.01
START_LIMIT_S = 60


def binary():
    """The daemon under test: CHARIOTD, or what cargo built here."""
    named = os.environ.get("CHARIOTD")
    places = [Path(named)] if named else []
    places += [TOP / "target" / profile / "chariotd" for profile in ("release", "debug")]
    for place in places:
        if place.exists():
            return str(place)
    pytest.exit("no chariotd: cargo build -p chariotd, or set CHARIOTD", 2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds, limit_s=START_LIMIT_S):
    """Waits for something to hold; fails with its name."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "waited in vain until " + what
        time.sleep(STEP_S)


class Daemon:
    def __init__(self, *flags, memory="256MiB"):
        self.directory = tempfile.mkdtemp(prefix="chariot-python-")
        self.flags = flags
        assert memory.endswith("MiB")
        self.memory = memory
        self.bytes = int(memory[:-3]) << 20
        self.host = "127.0.0.1"
        self.port, self.admin = free_port(), free_port()
        self.process = None
        self.start()

    @property
    def address(self):
        return "%s:%d" % (self.host, self.port)

    def start(self):
        """Starts (again) and waits until it serves."""
        log_path = os.path.join(self.directory, "log")
        with open(log_path, "w") as log:
            self.process = subprocess.Popen(
                [
                    binary(),
                    "--cores=0",
                    "--memory=" + self.memory,
                    "--listen=" + self.address,
                    "--admin=127.0.0.1:%d" % self.admin,
                    "--socket=" + os.path.join(self.directory, "socket"),
                    *self.flags,
                ],
                stdout=log,
                stderr=log,
            )

        def serves():
            text = Path(log_path).read_text()
            assert self.process.poll() is None, text
            return "serving" in text

        until("the daemon serves", serves)
        # Memory comes a while after; on a busy machine the first write would wait for pages.
        until("the arena is populated", lambda: self.populated() >= self.bytes)

    def populated(self):
        with urllib.request.urlopen("http://127.0.0.1:%d/metrics" % self.admin, timeout=10) as page:
            lines = page.read().decode().splitlines()
        name = "chariot_populated_bytes"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(scope="session")
def daemon():
    daemon = Daemon()
    yield daemon
    daemon.close()


@pytest.fixture
def own_daemon():
    """A daemon that the test may kill."""
    daemon = Daemon(memory="128MiB")
    yield daemon
    daemon.close()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the long tests too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        skip = pytest.mark.skip(reason="long: make test-long")
        for item in items:
            if "long" in item.keywords:
                item.add_marker(skip)
