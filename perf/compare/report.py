"""From measurements to the table: merging clients, medians over rounds, Markdown."""

import math
import re
import statistics

from plan import size_text

# Must be the buckets of clients/loop.py and native/loop.hpp.
RESOLUTION = 100


def quantile(histogram, share):
    """Microseconds below which `share` of the calls lie; the middle of a bucket 1 % wide."""
    total = sum(histogram.values())
    assert total > 0 and 0.0 < share <= 1.0
    wanted, seen = math.ceil(total * share), 0
    for slot in sorted(histogram):
        seen += histogram[slot]
        if seen >= wanted:
            return math.exp((slot + 0.5) / RESOLUTION) / 1000.0
    raise AssertionError("the histogram adds up to its total")


def merge(answers):
    """One measurement of the answers of clients that ran together."""
    for word in ("error", "absent"):
        for answer in answers:
            if word in answer:
                return {word: answer[word]}
    histogram = {}
    for answer in answers:
        for slot, count in answer["histogram"].items():
            histogram[int(slot)] = histogram.get(int(slot), 0) + count
    bad = sum(answer["bad"] for answer in answers)
    if bad:
        return {"error": f"{bad} values were missing or wrong"}
    return {
        "p50_us": quantile(histogram, 0.5),
        "p99_us": quantile(histogram, 0.99),
        "keys_per_s": sum(answer["keys"] / answer["seconds"] for answer in answers),
    }


def medians(measured):
    """The medians over rounds; what failed or is absent in any round is said instead."""
    for word in ("error", "absent"):
        for one in measured:
            if word in one:
                return {word: one[word]}
    return {
        name: statistics.median(one[name] for one in measured)
        for name in ("p50_us", "p99_us", "keys_per_s")
    } | {"rounds": len(measured)}


def number(value):
    """Three digits, and k or M beyond thousands."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}" if value < 1000 * factor else f"{value:.3g}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cell_text(found, notes):
    if found is None:
        return "–"
    for word in ("error", "absent"):
        if word in found:
            # Thread and process numbers would make a note of its own of every failure.
            note = re.sub(r"\d{6,}", "N", one_line(found[word]))
            if note not in notes:
                notes.append(note)
            return f"– [{notes.index(note) + 1}]"
    return f"{number(found['p50_us'])} / {number(found['p99_us'])} · {number(found['keys_per_s'])}"


def markdown(systems, cells, results, unavailable, about):
    """The page. `results[(system, cell)]` is what `medians` answered; `unavailable` maps a system
    that has no column to the reason."""
    lines = ["# Side by side", ""]
    lines += [f"- {line}" for line in about]
    lines += ["", "Each entry: p50 / p99 of a call in µs · keys per second of all clients.", ""]
    columns = [system for system in systems if system not in unavailable]
    lines.append("| operation | size | batch | clients | " + " | ".join(columns) + " |")
    lines.append("|---|---|---|---|" + "---|" * len(columns))
    notes = []
    for cell in cells:
        entries = [cell_text(results.get((system, cell)), notes) for system in columns]
        head = f"| {cell.op} | {size_text(cell.size)} | {cell.batch} | {cell.clients} | "
        lines.append(head + " | ".join(entries) + " |")
    for system, reason in unavailable.items():
        lines.append(f"| **{system}** | | | | not measured: {one_line(reason)} |")
    lines.append("")
    lines += [f"[{index}] {note}  " for index, note in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def one_line(text):
    return " ".join(str(text).split()).replace("|", "\\|")
