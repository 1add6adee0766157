//! The planner: fragments to runs, and the way that costs least. A pure function.
//!
//! Neighbours are joined first: two fragments that touch on both sides are one copy. Then the ways
//! that this card offers are priced with the measured model, and the cheapest wins:
//!
//! - *direct*: one call that copies a batch on the calling thread;
//! - *queued*: one call that puts a batch on a stream;
//! - *gathered*: fragments into device staging (or out of it) by copies within the card over
//!   several streams, and one large copy;
//! - *each*: a call a copy.

use chariot_device::Direction;

use crate::cost::CostModel;

/// A way to move a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// One synchronous call for the batch.
    Direct,
    /// One call that queues the batch.
    Queued,
    /// Through device staging, with one large copy an object.
    Gathered,
    /// One queued call a copy.
    Each,
}

/// One fragment of an object, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which object of the batch: fragments of two objects are never joined.
    pub object: u32,
    /// Which block of device memory; blocks are told apart by number, not by address, since copies
    /// across two allocations are refused by drivers even where they touch.
    pub block: u32,
    /// First byte in the block.
    pub device_at: usize,
    /// First byte in the arena.
    pub host_at: usize,
    /// Bytes.
    pub len: usize,
}

/// One copy of a plan: a span, inside one registered piece of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The copy.
    pub span: Span,
    /// Which piece of the arena.
    pub piece: usize,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The copies, sorted by object and host address.
    pub pieces: Vec<Piece>,
    /// The way.
    pub path: Path,
    /// Bytes of all copies.
    pub bytes: u64,
}

/// Joins spans that touch on both sides. Sorts them by object and host address.
fn join(spans: &[Span]) -> Vec<Span> {
    let mut sorted: Vec<Span> = spans.iter().copied().filter(|span| span.len > 0).collect();
    sorted.sort_unstable_by_key(|span| (span.object, span.host_at));
    let mut joined: Vec<Span> = Vec::with_capacity(sorted.len());
    for span in sorted {
        if let Some(last) = joined.last_mut()
            && (last.object, last.block) == (span.object, span.block)
            && last.device_at + last.len == span.device_at
            && last.host_at + last.len == span.host_at
        {
            last.len += span.len;
            continue;
        }
        joined.push(span);
    }
    joined
}

/// Cuts spans where a piece of the arena ends: no copy may span two registrations.
fn cut(spans: &[Span], piece_bytes: usize) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(spans.len());
    for span in spans {
        let mut done = 0;
        while done < span.len {
            let host_at = span.host_at + done;
            let piece = host_at / piece_bytes;
            let len = (span.len - done).min((piece + 1) * piece_bytes - host_at);
            let device_at = span.device_at + done;
            pieces.push(Piece {
                span: Span {
                    device_at,
                    host_at,
                    len,
                    ..*span
                },
                piece,
            });
            done += len;
        }
    }
    pieces
}

/// Longest contiguous host range of a copy out of (or into) staging, for each object: the objects
/// that can be gathered are those whose pieces follow each other without a gap.
fn large_copies(pieces: &[Piece]) -> usize {
    let gap = |pair: &&[Piece]| {
        let (first, second) = (&pair[0], &pair[1]);
        first.span.object != second.span.object
            || first.piece != second.piece
            || first.span.host_at + first.span.len != second.span.host_at
    };
    usize::from(!pieces.is_empty()) + pieces.windows(2).filter(gap).count()
}

/// Plans a batch of `direction`: `piece_bytes` is the size of the arena's pieces, `staging_bytes`
/// the device staging that the caller has (0 for none).
///
/// # Panics
/// When `piece_bytes` is 0.
#[must_use]
pub fn plan(
    spans: &[Span],
    direction: Direction,
    piece_bytes: usize,
    staging_bytes: usize,
    model: &CostModel,
) -> Plan {
    assert!(piece_bytes > 0, "an arena has pieces of a size");
    let pieces = cut(&join(spans), piece_bytes);
    let bytes: u64 = pieces.iter().map(|piece| piece.span.len as u64).sum();
    let (count, large) = (pieces.len(), large_copies(&pieces));
    let fits = bytes <= staging_bytes as u64 && large < count;
    let mut best = (Path::Each, model.each_ns(direction, count, bytes));
    let mut offer = |path, cost: Option<f64>| {
        if let Some(cost) = cost
            && cost < best.1
        {
            best = (path, cost);
        }
    };
    offer(Path::Queued, model.queued_ns(direction, count, bytes));
    offer(Path::Direct, model.direct_ns(direction, count, bytes));
    let gathered = fits.then(|| model.gathered_ns(direction, count, large, bytes));
    offer(Path::Gathered, gathered);
    Plan {
        path: best.0,
        pieces,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::CallCost;

    const KIB: usize = 1024;

    /// What calibration finds on the simulator's presets, in the model's own figures.
    fn a3() -> CostModel {
        CostModel {
            bytes_per_ns: [39.0, 39.0],
            each: CallCost {
                fixed_ns: 5_000.0,
                entry_ns: 7_100.0,
            },
            queued: Some(CallCost {
                fixed_ns: 5_000.0,
                entry_ns: 7_100.0,
            }),
            direct: Some(CallCost {
                fixed_ns: 12_100.0,
                entry_ns: 100.0,
            }),
            local: CallCost {
                fixed_ns: 6_000.0,
                entry_ns: 5_000.0,
            },
            local_bytes_per_ns: 1000.0,
        }
    }

    fn spans(count: usize, len: usize) -> Vec<Span> {
        let span = |index: usize| Span {
            object: 0,
            block: u32::try_from(index).unwrap(),
            device_at: 0,
            host_at: index * len,
            len,
        };
        (0..count).map(span).collect()
    }

    fn path(spans: &[Span], staging: usize, model: &CostModel) -> Path {
        plan(spans, Direction::HostToDevice, 1 << 30, staging, model).path
    }

    #[test]
    fn touching_fragments_are_one_copy() {
        let mut touching = spans(62, 72 * KIB);
        for (index, span) in touching.iter_mut().enumerate() {
            (span.block, span.device_at) = (0, index * 72 * KIB);
        }
        touching.reverse();
        let plan = plan(&touching, Direction::DeviceToHost, 1 << 30, 0, &a3());
        assert_eq!((plan.pieces.len(), plan.bytes), (1, 62 * 72 * 1024));
        assert_eq!(
            plan.pieces[0].span,
            Span {
                len: 62 * 72 * KIB,
                ..touching[61]
            }
        );
    }

    #[test]
    fn fragments_that_touch_on_one_side_stay_apart() {
        let near = Span {
            object: 0,
            block: 0,
            device_at: 0,
            host_at: 0,
            len: 8,
        };
        for other in [
            Span {
                host_at: 8,
                device_at: 9,
                ..near
            },
            Span {
                host_at: 9,
                device_at: 8,
                ..near
            },
            Span {
                host_at: 8,
                device_at: 8,
                block: 1,
                ..near
            },
            Span {
                host_at: 8,
                device_at: 8,
                object: 1,
                ..near
            },
        ] {
            let plan = plan(&[near, other], Direction::HostToDevice, 1 << 30, 0, &a3());
            assert_eq!(plan.pieces.len(), 2, "{other:?}");
        }
    }

    #[test]
    fn nothing_is_copied_for_empty_fragments() {
        let empty = Span {
            object: 0,
            block: 0,
            device_at: 5,
            host_at: 5,
            len: 0,
        };
        let plan = plan(&[empty], Direction::HostToDevice, 64, 0, &a3());
        assert_eq!((plan.pieces.len(), plan.bytes), (0, 0));
    }

    #[test]
    fn copies_end_where_a_piece_ends() {
        let span = Span {
            object: 0,
            block: 0,
            device_at: 7,
            host_at: 60,
            len: 80,
        };
        let plan = plan(&[span], Direction::HostToDevice, 64, 0, &a3());
        let found: Vec<_> = plan
            .pieces
            .iter()
            .map(|piece| {
                (
                    piece.piece,
                    piece.span.device_at,
                    piece.span.host_at,
                    piece.span.len,
                )
            })
            .collect();
        assert_eq!(found, [(0, 7, 60, 4), (1, 11, 64, 64), (2, 75, 128, 12)]);
    }

    #[test]
    fn the_cheapest_way_wins() {
        let fragments = spans(62, 72 * KIB);
        assert_eq!(path(&fragments, 0, &a3()), Path::Direct);
        let no_direct = CostModel {
            direct: None,
            ..a3()
        };
        assert_eq!(
            path(&fragments, 0, &no_direct),
            Path::Each,
            "a batch that is only a loop"
        );
        assert_eq!(path(&fragments, 16 << 20, &no_direct), Path::Gathered);
        assert_eq!(
            path(&fragments, 1 << 20, &no_direct),
            Path::Each,
            "no room in staging"
        );
        let queued = Some(CallCost {
            fixed_ns: 8_000.0,
            entry_ns: 600.0,
        });
        let pcie = CostModel {
            queued,
            ..no_direct
        };
        assert_eq!(path(&fragments, 16 << 20, &pcie), Path::Queued);
        let one = spans(1, 4 << 20);
        assert_eq!(
            path(&one, 16 << 20, &no_direct),
            Path::Each,
            "one copy is one call"
        );
    }

    #[test]
    fn objects_with_gaps_gain_nothing_from_staging() {
        let mut gaps = spans(62, 72 * KIB);
        for (index, span) in gaps.iter_mut().enumerate() {
            span.host_at += index;
        }
        let no_direct = CostModel {
            direct: None,
            ..a3()
        };
        assert_eq!(path(&gaps, 16 << 20, &no_direct), Path::Each);
    }

    #[test]
    fn every_byte_is_planned_once() {
        // Random fragments of random objects: the pieces tile them, whatever was joined and cut.
        let mut seed = 0x1234_5678_9abc_def1_u64;
        let mut random = |most: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % most as u64).unwrap()
        };
        for _ in 0..500 {
            let (mut host, mut device, mut spans) = (random(50), 0, Vec::new());
            for _ in 0..random(40) {
                let (len, block) = (random(30), u32::from(random(3) == 0));
                spans.push(Span {
                    object: 0,
                    block,
                    device_at: device,
                    host_at: host,
                    len,
                });
                (host, device) = (host + len + random(2), device + len + random(2));
            }
            let plan = plan(&spans, Direction::DeviceToHost, 1 + random(64), 0, &a3());
            let bytes = |at: usize, to: usize, len: usize, block: u32| {
                (0..len).map(move |byte| (at + byte, to + byte, block))
            };
            let mut wanted: Vec<_> = spans
                .iter()
                .flat_map(|span| bytes(span.host_at, span.device_at, span.len, span.block))
                .collect();
            let planned = plan.pieces.iter().map(|piece| piece.span);
            let mut found: Vec<_> = planned
                .flat_map(|span| bytes(span.host_at, span.device_at, span.len, span.block))
                .collect();
            wanted.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, wanted);
        }
    }
}
