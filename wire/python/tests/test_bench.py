"""The benchmark's body runs, at smoke size, and checks what it reads."""

import pathlib
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parents[1] / "bench" / "latency.py"


def test_the_latency_bench_runs_at_smoke_size():
    done = subprocess.run(
        [sys.executable, str(BENCH), "--smoke"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "chariot exist" in done.stdout and "datasystem get" in done.stdout
