#!/usr/bin/env python3
"""Runs the same work on Chariot, its peers and the machine's limits, side by side.

    compare.py                  everything: three rounds, about 40 minutes on an idle machine
    compare.py --smoke          the same rows at sizes of a few seconds: figures mean nothing
    compare.py --only Redis     some systems, by a part of their names
    compare.py --self-test      check this program itself

Rounds are interleaved: in each round every system takes its turn at every size, with a fresh
daemon, before the next round begins. It installs what is missing and says so; a system that cannot
be installed or started becomes a row with the reason.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import plan
import report
import selftest
from machine import ROOT, Unavailable, environment, say
from systems import ALL
from systems.chariot import Limit


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--rounds", type=int, help="rounds [default: 3]")
    parser.add_argument("--seconds", type=float, help="of each measurement [default: 0.5]")
    parser.add_argument("--only", action="append", default=[], help="part of a system's name")
    parser.add_argument("--daemon-cpus", default="0", help="such as 0 or 0,2 [default: 0]")
    parser.add_argument("--client-cpus", default="1", help="such as 1 or 1,3 [default: 1]")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "compare",
                        help="directory of the table, the plot and the data")
    parser.add_argument("--self-test", action="store_true", help="check this program and exit")
    return parser.parse_args()


def scaled(options):
    scale = plan.SMOKE if options.smoke else plan.FULL
    return plan.Scale(options.rounds or scale.rounds, options.seconds or scale.seconds,
                      scale.keys, scale.memory)


def about(options, scale):
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True, check=False).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if "model name" in line),
                     platform.machine())
    lines = [
        f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, commit {commit}",
        f"daemons on CPU {options.daemon_cpus}, all clients on CPU {options.client_cpus}",
        f"medians of {scale.rounds} interleaved rounds of {scale.seconds} s for each entry",
        "keys: " + ", ".join(f"{count} of {plan.size_text(size)}"
                             for size, count in scale.keys.items()),
        f"each store may use {scale.memory >> 30} GiB; Redis and memcached over unix sockets, "
        "Mooncake with the values in the first client, openYuanrong over shared memory",
    ]
    if options.smoke:
        lines.insert(0, "**Smoke sizes: these figures say that it runs, and nothing else.**")
    return lines


def measure(systems, unavailable, run):
    """All rounds; answers {(system, cell): [measurement of each round]}."""
    measured = {}
    for number in range(run.scale.rounds):
        run.round = number
        for size in plan.SIZES:
            for system in systems:
                if system.name in unavailable or isinstance(system, Limit):
                    continue
                say(f"round {number + 1} of {run.scale.rounds}, {plan.size_text(size)}, "
                    f"{system.name}")
                cells = plan.cells(size)
                done = set()
                try:
                    for cell, found in system.visit(run, size, cells):
                        measured.setdefault((system.name, cell), []).append(found)
                        done.add(cell)
                except Unavailable as reason:
                    say(f"{system.name}: {reason}")
                    for cell in cells:
                        if cell not in done:
                            failed = {"error": f"{system.name}: {reason}"}
                            measured.setdefault((system.name, cell), []).append(failed)
        for system in systems:
            for cell, limits in getattr(system, "limits", {}).items():
                measured[(Limit.name, cell)] = limits
    return measured


def write(options, scale, systems, results, unavailable):
    names = [system.name for system in systems]
    options.out.mkdir(parents=True, exist_ok=True)
    lines = about(options, scale)
    rows = [{"system": name, **vars(cell), **found} for (name, cell), found in results.items()]
    shown = [name for name in names if name not in unavailable]
    data = options.out / "results.json"
    data.write_text(json.dumps({"title": lines[0].strip("*"), "about": lines, "systems": shown,
                                "unavailable": unavailable, "results": rows}, indent=1))
    table = report.markdown(names, plan.all_cells(), results, unavailable, lines)
    (options.out / "table.md").write_text(table)
    try:
        python = environment("plot", ["matplotlib==3.11.2"])
    except Unavailable as reason:
        say(f"no plot: {reason}")
    else:
        plots = [options.out / "plot.svg", options.out / "plot.png"]
        subprocess.run([python, Path(__file__).parent / "plot.py", data, *plots], check=True)
    say(f"wrote {options.out}/table.md, plot.svg, plot.png, results.json")


def main():
    options = arguments()
    if options.self_test:
        selftest.check()
        return
    # A termination unwinds like an interrupt, so that daemons are ended and directories removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scale = scaled(options)
    systems = [system for system in ALL
               if not options.only or any(part in system.name for part in options.only)]
    unavailable = {}
    for system in systems:
        try:
            system.install()
        except Unavailable as reason:
            unavailable[system.name] = str(reason)
            say(f"{system.name}: {reason}")
    cpus = [{int(cpu) for cpu in text.split(",")}
            for text in (options.daemon_cpus, options.client_cpus)]
    # A short path: unix sockets allow 107 bytes, openYuanrong 80.
    directory = Path(tempfile.mkdtemp(prefix="cmp.", dir="/tmp"))
    run = SimpleNamespace(scale=scale, directory=directory, round=0,
                          daemon_cpus=cpus[0], client_cpus=cpus[1])
    try:
        measured = measure(systems, unavailable, run)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    results = {place: report.medians(found) for place, found in measured.items()}
    write(options, scale, systems, results, unavailable)


if __name__ == "__main__":
    main()
