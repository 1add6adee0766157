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
    fn note(&mut self, cell: Cell, barred: bool, enters: bool) {
        let change = |count: &mut u32, counts: bool| {
            if counts {
                *count = if enters { *count + 1 } else { *count - 1 };
            }
        };
        change(&mut self.barred, barred);
        change(&mut self.held, cell.holder().is_some());
        change(&mut self.unbacked, cell == Cell::Unbacked);
        change(&mut self.unready, !matches!(cell, Cell::Ready { .. }));
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
        counts.note(cell, !usable(cell), true);
        if let Some(left) = index.checked_sub(length) {
            counts.note(cells[left], !usable(cells[left]), false);
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
