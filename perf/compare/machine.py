"""Processes, packages and places: everything that touches the machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# What is installed and compiled once, and found again by the next run.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chariot-compare"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0


class Unavailable(Exception):
    """A system that cannot be installed, built or started; the text is the reason."""


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def checked(command, what, **options):
    """Runs to the end, or says what failed with its last lines."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=900, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{what}: {error}") from error
    if done.returncode != 0:
        tail = " ".join(done.stdout.strip().splitlines()[-3:])
        raise Unavailable(f"{what}: {tail or f'exit status {done.returncode}'}")
    return done.stdout


def apt(packages):
    """Installs Debian packages that are missing, without starting their services."""
    def here(package):
        status = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package],
                                capture_output=True, text=True, check=False)
        return status.stdout == "install ok installed"

    if shutil.which("apt-get") is None:
        raise Unavailable("no apt-get on this machine")
    missing = [package for package in packages if not here(package)]
    if not missing:
        return
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and shutil.which("sudo") is None:
        raise Unavailable(f"not root, and no sudo: install {' '.join(missing)}")
    say(f"installing {' '.join(missing)} (apt-get)")
    subprocess.run([*prefix, "apt-get", "update", "-q"], capture_output=True, check=False)
    # RUNLEVEL=1 keeps the packages' scripts from starting their services.
    checked([*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install",
             "-q", "-y", "--no-install-recommends", *missing], "apt-get install")


def environment(name, requirements):
    """A virtual environment of its own with these packages; answers its Python."""
    place = CACHE / name
    python = place / "bin" / "python"
    stamp = place / "installed"
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"installing {' '.join(requirements)} (pip, into {place})")
    checked([sys.executable, "-m", "venv", "--clear", str(place)], "python3 -m venv")
    checked([str(python), "-m", "pip", "install", "-q", *requirements], "pip install")
    stamp.write_text(wanted)
    return python


def compiled(name, flags):
    """native/NAME.cc as a program; built again only when a source is newer."""
    source, program = HERE / "native" / f"{name}.cc", CACHE / f"client-{name}"
    newest = max(source.stat().st_mtime, (HERE / "native" / "loop.hpp").stat().st_mtime)
    if not program.exists() or program.stat().st_mtime < newest:
        CACHE.mkdir(parents=True, exist_ok=True)
        checked(["g++", "-std=c++17", "-O2", "-o", str(program), str(source), *flags],
                f"g++ {source.name}")
    return program


def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pinned(cpus):
    return lambda: os.sched_setaffinity(0, cpus)


class Process:
    """A child on fixed CPUs, ended by its process id."""

    def __init__(self, command, cpus, log, **options):
        self.log = Path(log)
        with open(self.log, "ab") as sink:
            options.setdefault("stdout", sink)
            self.child = subprocess.Popen([str(word) for word in command], stderr=sink,
                                          preexec_fn=pinned(cpus), **options)

    def until(self, ready, what):
        """Waits until `ready()`; says the log's last line when the process ends before."""
        end = time.monotonic() + START_TIMEOUT
        while not ready():
            if self.child.poll() is not None:
                raise Unavailable(f"{what} ended with {self.child.returncode}: {self.tail()}")
            if time.monotonic() > end:
                raise Unavailable(f"{what} is not ready after {START_TIMEOUT:.0f} s")
            time.sleep(0.05)

    def tail(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
