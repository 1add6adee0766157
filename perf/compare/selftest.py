"""Checks of everything that computes: seconds, no daemon, no network."""

import sys

import plan
import report
from machine import HERE
from plan import Cell
from systems.chariot import of_report

sys.path.insert(0, str(HERE / "clients"))
import loop  # noqa: E402  found through the path above


class Store:
    """A store in this process; with `broken` it changes a byte of what it keeps."""

    def __init__(self, broken=False):
        self.kept, self.broken = {}, broken

    def prepare(self, size):
        pass

    def set(self, keys, value):
        for key in keys:
            self.kept[key] = b"?" + value[1:] if self.broken else value

    def get(self, keys):
        return [self.kept.get(key) for key in keys]

    def exist(self, keys):
        return [key in self.kept for key in keys]


def run(store, op, batch=1):
    one = loop.Loop(store)
    one.answer({"do": "fill", "size": 4096, "keys": 100, "store": True})
    command = {"do": "run", "op": op, "batch": batch, "seconds": 0.02, "seed": 1}
    return report.merge([one.answer(command)])


def loop_measures_and_finds_wrong_bytes():
    found = run(Store(), "get", 62)
    assert found["keys_per_s"] > 0 and found["p50_us"] <= found["p99_us"], found
    assert "error" in run(Store(broken=True), "get")
    assert "absent" in run(Store(), "view")
    lossy = Store()
    lossy.exist = lambda keys: [False] * len(keys)
    assert "error" in run(lossy, "exist")


def quantiles_lie_within_a_bucket():
    histogram = {}
    for microseconds in range(1, 1001):
        slot = loop.bucket(microseconds * 1000)
        histogram[slot] = histogram.get(slot, 0) + 1
    for share, wanted in ((0.5, 500), (0.99, 990), (1.0, 1000)):
        assert abs(report.quantile(histogram, share) / wanted - 1) < 0.02


def merged_clients_add_up():
    answer = {"keys": 10, "seconds": 2.0, "bad": 0, "histogram": {"921": 10}}
    merged = report.merge([answer, answer])
    assert merged["keys_per_s"] == 10.0 and abs(merged["p50_us"] - 10) < 0.2, merged
    assert report.merge([answer, {"error": "x"}]) == {"error": "x"}
    assert "error" in report.merge([answer | {"bad": 1}])


def medians_are_of_rounds():
    rounds = [{"p50_us": v, "p99_us": v, "keys_per_s": v} for v in (3.0, 1.0, 100.0)]
    assert report.medians(rounds)["p50_us"] == 3.0
    assert report.medians([*rounds, {"error": "x"}]) == {"error": "x"}


def reports_of_the_load_tool_are_read():
    given = {"errors": 0, "misses": 0, "wrong_bytes": 0, "first_error": None, "batch": 100,
             "clients": 1, "ops_per_s": 5.0, "lat_us": {"p50": 1.0, "p99": 2.0},
             "limit": {"ops_per_s": 1e6}}
    measured, limit = of_report(given)
    assert measured == {"p50_us": 1.0, "p99_us": 2.0, "keys_per_s": 5.0}
    assert limit["p50_us"] == 100.0
    assert "error" in of_report(given | {"wrong_bytes": 1})[0]


def table_says_what_is_absent():
    cell, other = Cell("get", 4096), Cell("view", 4096)
    results = {("A", cell): {"p50_us": 1.25, "p99_us": 12345.0, "keys_per_s": 1.5e6},
               ("A", other): {"absent": "no view"}}
    text = report.markdown(["A", "B", "C"], [cell, other], results, {"C": "no | package"}, ["m"])
    assert "| get | 4 KiB | 1 | 1 | 1.25 / 12.3 k · 1.5 M | – |" in text, text
    assert "| – [1] | – |" in text and "[1] no view" in text, text
    assert "| **C** | | | | not measured: no \\| package |" in text, text


def plan_holds_every_row_once():
    cells = plan.all_cells()
    assert len(cells) == len(set(cells)) == 48 + 16
    for scale in (plan.FULL, plan.SMOKE):
        for size, keys in scale.keys.items():
            assert size * keys <= 0.7 * scale.memory, "the working set fits every peer"
            assert keys >= (max(plan.BATCHES) if size in plan.BATCH_SIZES else 1)


def check():
    checks = [loop_measures_and_finds_wrong_bytes, quantiles_lie_within_a_bucket,
              merged_clients_add_up, medians_are_of_rounds, reports_of_the_load_tool_are_read,
              table_says_what_is_absent, plan_holds_every_row_once]
    for one in checks:
        one()
    print(f"compare: {len(checks)} checks passed")
