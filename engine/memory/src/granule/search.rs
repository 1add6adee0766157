//! The search for a run of adjacent granules: one pass with a sliding window.

use std::ops::Range;

use chariot_base::ShardId;

/// What one virtual granule is; the drawing in the parent module shows the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Unbacked,
    Populating { holder: Option<ShardId> },
    Ready { holder: Option<ShardId> },
    Punching,
}

impl Cell {
    pub(super) fn holder(self) -> Option<ShardId> {
        match self {
            Self::Populating { holder } | Self::Ready { holder } => holder,
            Self::Unbacked | Self::Punching => None,
        }
    }

    pub(super) fn is_free(self) -> bool {
        self.holder().is_none() && self != Self::Punching
    }
}

/// A run, and what taking it would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) first: u32,
    pub(super) unbacked: u32,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    barred: u32,
    held: u32,
    unbacked: u32,
    unready: u32,
}

impl Counts {
    fn of(cell: Cell, usable: bool) -> Self {
        Self {
            barred: u32::from(!usable),
            held: u32::from(cell.holder().is_some()),
            unbacked: u32::from(cell == Cell::Unbacked),
            unready: u32::from(!matches!(cell, Cell::Ready { .. })),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            barred: self.barred + other.barred,
            held: self.held + other.held,
            unbacked: self.unbacked + other.unbacked,
            unready: self.unready + other.unready,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            barred: self.barred - other.barred,
            held: self.held - other.held,
            unbacked: self.unbacked - other.unbacked,
            unready: self.unready - other.unready,
        }
    }
}

/// Finds the best run of `count` usable cells: fewest held, fewest unbacked, most populated, beside
/// what the shard holds, at home, lowest.
pub(super) fn best_run(
    cells: &[Cell],
    count: u32,
    shard: ShardId,
    home: &Range<u32>,
    usable: impl Fn(Cell) -> bool,
) -> Option<Found> {
    let mut counts = Counts::default();
    let mut best = None;
    let length = count as usize;
    for (index, &cell) in cells.iter().enumerate() {
        counts = counts.plus(Counts::of(cell, usable(cell)));
        if let Some(left) = index.checked_sub(length) {
            counts = counts.minus(Counts::of(cells[left], usable(cells[left])));
        }
        if index + 1 < length || counts.barred > 0 {
            continue;
        }
        let first = index + 1 - length;
        let own = |place: Option<usize>| {
            place
                .and_then(|at| cells.get(at))
                .is_some_and(|cell| cell.holder() == Some(shard))
        };
        let lonely = !(own(first.checked_sub(1)) || own(Some(index + 1)));
        let start = u32::try_from(first).expect("granules are numbered in 32 bits");
        let away = !(home.contains(&start) && start + count <= home.end);
        let rank = (
            counts.held,
            counts.unbacked,
            counts.unready,
            lonely,
            away,
            start,
        );
        if best.is_none_or(|(least, _)| rank < least) {
            best = Some((
                rank,
                Found {
                    first: start,
                    unbacked: counts.unbacked,
                },
            ));
        }
    }
    best.map(|(_, found)| found)
}
