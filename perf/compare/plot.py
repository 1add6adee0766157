"""Draws the plot of a results.json; runs in the environment that holds matplotlib.

    plot.py RESULTS.json OUT.svg [OUT.png ...]
"""

import json
import sys

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as pyplot  # noqa: E402  the backend is chosen first

OPS = ("get", "view", "exist", "set")


def draw(data, outputs):
    systems = data["systems"]
    sizes = sorted({row["size"] for row in data["results"]})
    figure, panels = pyplot.subplots(2, 2, figsize=(13, 8))
    colours = pyplot.get_cmap("tab20")
    for op, panel in zip(OPS, panels.flat):
        for place, system in enumerate(systems):
            times = {row["size"]: row["p50_us"] for row in data["results"]
                     if row["system"] == system and row["op"] == op and row["batch"] == 1
                     and row["clients"] == 1 and "p50_us" in row}
            width = 0.8 / len(systems)
            left = place * width - 0.4
            where = [index + left for index, size in enumerate(sizes) if size in times]
            panel.bar(where, [times[size] for size in sizes if size in times], width,
                      label=system, color=colours(place % 20))
        panel.set_yscale("log")
        panel.set_title(f"{op}, one client")
        panel.set_ylabel("p50 of a call, µs")
        names = [f"{s >> 20} MiB" if s >= 1 << 20 else f"{s >> 10} KiB" for s in sizes]
        panel.set_xticks(range(len(sizes)), names)
        panel.grid(axis="y", alpha=0.3)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=5)
    figure.suptitle(data["title"])
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    for output in outputs:
        figure.savefig(output)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        draw(json.load(file), sys.argv[2:])
