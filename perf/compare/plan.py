"""What is measured: cells, and how large a run is."""

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20
SIZES = (4 * KIB, 72 * KIB, MIB, 8 * MIB)
OPS = ("get", "view", "exist", "set")
CLIENTS = (1, 2, 4)
BATCHES = (62, 100)
# Larger batches would move hundreds of MiB a call.
BATCH_SIZES = (4 * KIB, 72 * KIB)


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    op: str
    size: int
    batch: int = 1
    clients: int = 1


@dataclass(frozen=True)
class Scale:
    """How large a run is. `keys` by size; `memory` is what each store is given, in bytes."""

    rounds: int
    seconds: float
    keys: dict
    memory: int


# 1e5 keys of 4 KiB, as everywhere in this project; the others fill about as much memory.
FULL = Scale(3, 0.5, {4 * KIB: 100_000, 72 * KIB: 8_000, MIB: 600, 8 * MIB: 75}, 2 << 30)
SMOKE = Scale(1, 0.05, {4 * KIB: 400, 72 * KIB: 200, MIB: 16, 8 * MIB: 4}, 1 << 30)


def cells(size):
    """The rows of one size, reads before writes."""
    rows = [Cell(op, size, 1, clients) for op in OPS for clients in CLIENTS]
    if size in BATCH_SIZES:
        rows += [Cell(op, size, batch, 1) for op in OPS for batch in BATCHES]
    return rows


def all_cells():
    return [cell for size in SIZES for cell in cells(size)]


def size_text(size):
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
