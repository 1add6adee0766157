//! Segments of any bytes: what was written comes back, damage never does.

use chariot_base::{Random, SplitMix64, TenantId};
use chariot_proto::{KeyHash, WriteMode};

use super::*;
use crate::effects::Part;
use crate::format::{RecordHeader, encode_footer};
use crate::gather::{Lane, Push, Role, Spot};
use crate::index::Value;
use crate::mutate::with;

const SEGMENT: u32 = 64 << 10;
const BLOCK: u32 = 4096;

fn header() -> SegmentHeader {
    SegmentHeader {
        format: [3; 16],
        segment: 5,
        shard: 0,
        shard_count: 1,
        sequence: 77,
        epoch: 2,
        is_erased: false,
    }
}

fn value_of(number: u64, len: u32) -> Vec<u8> {
    let word = SplitMix64::new(number).next_u64().to_le_bytes();
    let mut value = word.repeat(len as usize / 8 + 1);
    value.truncate(len as usize);
    value
}

/// Returns a segment of five groups, and the rows that describe it.
fn segment(has_footer: bool) -> (Vec<u8>, Vec<Row>) {
    let mut bytes = header().encode();
    bytes.resize(BLOCK as usize, 0);
    let mut rows = Vec::new();
    for group in 0..5_u64 {
        let mut lane = Lane::new(1 << 20, BLOCK);
        for (number, len) in (group * 8..).zip([0, 1, 300, 900, 4096, 700, 5000]) {
            push(&mut lane, number, len);
        }
        let mut gather = lane.pop().unwrap();
        let spot = Spot {
            sequence: 77,
            tag: tag_of(&[3; 16]),
            segment: 5,
            at: as_u32(bytes.len()),
        };
        if bytes.len() as u64 + gather.total_bytes() > 56 << 10 {
            break;
        }
        let encoded = gather.encode(&spot, &[]);
        rows.extend(encoded.rows);
        for part in encoded.parts {
            match part {
                Part::Own(own) => bytes.extend_from_slice(&own),
                Part::Extent { .. } => unreachable!("only own bytes were pushed"),
            }
        }
    }
    bytes.resize(SEGMENT as usize, 0);
    if has_footer {
        let footer = encode_footer(&header(), &rows, BLOCK);
        let at = bytes.len() - footer.len();
        bytes[at..].copy_from_slice(&footer);
    }
    (bytes, rows)
}

fn push(lane: &mut Lane, number: u64, len: u32) {
    let value = value_of(number, len);
    let kind = match len {
        0 => RecordKind::Tombstone,
        1..4096 => RecordKind::Packed,
        _ => RecordKind::Payload,
    };
    let record = RecordHeader {
        hash: KeyHash { hi: number, lo: 1 },
        version: number + 1,
        value: Value {
            len,
            crc: crc32c::crc32c(&value),
            expiry_unix_ms: number * 1000,
            has_checksum: true,
            mode: WriteMode::NoneEvict,
        },
        kind,
        is_void: false,
        value_at: 0,
        tenant: TenantId(3).0,
        key_len: 3,
        sequence_low: 0,
    };
    let mut fill = |target: &mut [u8]| target.copy_from_slice(&value);
    let mut padded = value.clone();
    padded.resize(value.len().next_multiple_of(BLOCK as usize), 0);
    let push = Push {
        role: Role::Tombstone(None),
        record,
        key: b"key",
        packed: (kind == RecordKind::Packed).then_some(&mut fill as &mut dyn FnMut(&mut [u8])),
        payload: (kind == RecordKind::Payload).then_some(Part::Own(padded)),
    };
    lane.push(push, 0);
}

fn load(bytes: &[u8]) -> Load {
    let mut load = Load::new(header(), SEGMENT, BLOCK);
    // Every step moves on, so a load of 16 blocks ends within some dozens.
    for _ in 0..100 {
        match load.step() {
            Step::Done => return load,
            Step::Read { at, len } => {
                let fed = bytes[at as usize..(at + len) as usize].to_vec();
                load.feed(&fed);
            },
        }
    }
    panic!("a load ends");
}

#[test]
fn table_and_scan_give_the_same_rows() {
    let (bytes, rows) = segment(true);
    let loaded = load(&bytes);
    assert!(loaded.has_footer);
    assert_eq!(loaded.rows, rows);
    let (bytes, _) = segment(false);
    let scanned = load(&bytes);
    assert!(!scanned.has_footer);
    assert_eq!(scanned.rows, rows);
    assert_eq!(scanned.damaged, 0);
}

/// Flips bits all over a segment; returns whether anything came back that was not written.
fn believes_damage(seeds: u64) -> bool {
    let (sound, rows) = segment(true);
    (0..seeds).any(|seed| {
        let mut random = SplitMix64::new(seed);
        let mut bytes = sound.clone();
        for _ in 0..=random.below(3) {
            // The footer is where most damage is interesting.
            let at = match random.below(3) {
                0 => random.below(u64::from(SEGMENT)),
                1 => u64::from(SEGMENT) - 1 - random.below(2048),
                _ => 4096 + random.below(4096),
            };
            bytes[usize::try_from(at).unwrap()] ^= 1 << random.below(8);
        }
        // A table may speak of a value that is damaged: its checksum tells when it is read.
        load(&bytes).rows.iter().any(|row| !rows.contains(row))
    })
}

#[test]
fn damaged_segment_gives_nothing_that_was_not_written() {
    assert!(!believes_damage(4000));
}

#[test]
fn mutant_footer_checksum_ignored_is_seen() {
    assert!(with(Mutation::FooterCrcIgnored, || believes_damage(4000)));
}

#[test]
fn random_bytes_give_no_rows_and_no_panic() {
    for seed in 0..300 {
        let mut random = SplitMix64::new(seed);
        let bytes: Vec<u8> = (0..SEGMENT / 8)
            .flat_map(|_| random.next_u64().to_le_bytes())
            .collect();
        assert!(load(&bytes).rows.is_empty());
    }
}

#[test]
fn forged_lengths_under_good_checksums_do_not_panic() {
    let (sound, _) = segment(true);
    for seed in 0..20_000 {
        let mut random = SplitMix64::new(seed);
        let mut bytes = sound.clone();
        let (at, sealed) = match random.below(3) {
            0 => (SEGMENT as usize - TRAILER_BYTES, TRAILER_BYTES),
            1 => (BLOCK as usize, GROUP_HEADER_BYTES as usize),
            _ => (BLOCK as usize + 64 * (1 + small(random.below(4))), 64),
        };
        let field = at + 8 + 4 * small(random.below(sealed as u64 / 4 - 3));
        let word = match random.below(3) {
            0 => u32::MAX,
            1 => 0,
            _ => u32::try_from(random.below(1 << 17)).unwrap(),
        };
        bytes[field..field + 4].copy_from_slice(&word.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[at..at + sealed - 4]);
        bytes[at + sealed - 4..at + sealed].copy_from_slice(&crc.to_le_bytes());
        if at > BLOCK as usize && at < 2 * BLOCK as usize {
            reseal_group(&mut bytes);
        }
        load(&bytes);
    }
}

fn small(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

/// Makes the checksums of the first group agree with what was forged in it.
fn reseal_group(bytes: &mut [u8]) {
    let at = BLOCK as usize;
    let Some(group) = GroupHeader::parse(&bytes[at..]) else {
        return;
    };
    let end = at + group.head_bytes as usize;
    let forged = GroupHeader {
        head_crc: crc32c::crc32c(&bytes[at + GROUP_HEADER_BYTES as usize..end]),
        ..group
    };
    bytes[at..at + GROUP_HEADER_BYTES as usize].copy_from_slice(&forged.encode());
    // Without its trailer the segment is scanned.
    let len = bytes.len();
    bytes[len - TRAILER_BYTES..].fill(0);
}
