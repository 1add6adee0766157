//! How long the work in memory of a recovery takes: 10 M objects of 512 bytes, read from footers
//! that are made on the way, so that no device is timed.

use std::time::Duration;

use chariot_base::{ShardId, SplitMix64};
use chariot_proto::{KeyHash, WriteMode};

use crate::format::{RecordKind, Row, SegmentHeader, encode_footer};
use crate::index::Value;
use crate::limits::RESERVED_BYTES;
use crate::{Effect, Identity, Now, PartitionShape, SsdOptions, SsdStore, Superblock};

const SEGMENT: u32 = 16 << 20;
const BLOCK: u32 = 4096;
const ROWS: u64 = 20_000;

struct Device {
    format: [u8; 16],
    made: Option<(u32, Vec<u8>)>,
}

impl Device {
    fn header(&self, segment: u32) -> SegmentHeader {
        SegmentHeader {
            format: self.format,
            segment,
            shard: 0,
            shard_count: 1,
            sequence: u64::from(segment) + 1,
            epoch: 1,
            is_erased: false,
        }
    }

    fn footer(&self, segment: u32) -> Vec<u8> {
        use chariot_base::Random;
        let mut random = SplitMix64::new(u64::from(segment));
        let rows: Vec<Row> = (0..ROWS)
            .map(|number| Row {
                hash: KeyHash {
                    hi: random.next_u64(),
                    lo: random.next_u64(),
                },
                version: (1 << 44) | (u64::from(segment) * ROWS + number),
                value: Value {
                    len: 512,
                    crc: 1,
                    expiry_unix_ms: 0,
                    has_checksum: true,
                    mode: WriteMode::NoneEvict,
                },
                kind: RecordKind::Packed,
                is_void: false,
                header_at: 4096 + u32::try_from(number).unwrap() * 640,
                place_at: 4096 + u32::try_from(number).unwrap() * 640,
            })
            .collect();
        encode_footer(&self.header(segment), &rows, BLOCK)
    }

    fn read(&mut self, offset: u64, len: u32) -> Vec<u8> {
        let segment = u32::try_from((offset - RESERVED_BYTES) / u64::from(SEGMENT)).unwrap();
        let at = u32::try_from((offset - RESERVED_BYTES) % u64::from(SEGMENT)).unwrap();
        if at == 0 {
            let mut bytes = self.header(segment).encode();
            bytes.resize(len as usize, 0);
            return bytes;
        }
        if self.made.as_ref().is_none_or(|(made, _)| *made != segment) {
            self.made = Some((segment, self.footer(segment)));
        }
        let (_, footer) = self.made.as_ref().unwrap();
        let start = SEGMENT - u32::try_from(footer.len()).unwrap();
        let from = (at - start) as usize;
        footer[from..from + len as usize].to_vec()
    }
}

/// Time that this thread has had a processor: work of others on the machine does not count.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let first = text.split_whitespace().next().unwrap();
    Duration::from_nanos(first.parse().unwrap())
}

/// Recovers `segments` segments; returns the processor time of it, without that of making what is
/// read, and what it then takes.
fn recover(segments: u32) -> (Duration, u64, u64) {
    let identity = Identity {
        node: [1; 16],
        secret: [2; 32],
        next_epoch: 2,
    };
    let size = RESERVED_BYTES + u64::from(segments) * u64::from(SEGMENT);
    let mut superblock = Superblock::plan(&identity, [9; 16], 0, size, SEGMENT).unwrap();
    superblock.epoch = 1;
    let shape = PartitionShape {
        partition: 0,
        superblock,
    };
    let mut options = SsdOptions::new(ShardId(0), 1, 2, [0; 16]);
    // One segment at a time, so that each footer is made once.
    options.recovery_reads = 1;
    let mut device = Device {
        format: [9; 16],
        made: None,
    };
    let now = Now {
        ns: 1,
        unix_ms: 1_790_000_000_000,
    };
    let mut making = Duration::ZERO;
    let started = processor_time();
    let mut store = SsdStore::open(options, &[shape], now).unwrap();
    while store.is_recovering() {
        let Some(effect) = store.next_effect() else {
            store.on_tick(now);
            continue;
        };
        match effect {
            Effect::Read(io) => {
                let before = processor_time();
                let bytes = device.read(io.offset, io.len);
                making += processor_time().saturating_sub(before);
                store.on_read(io.id, Ok(&bytes), now);
            },
            Effect::Write(io) => store.on_written(io.id, Ok(()), now),
            Effect::Flush { id, .. } => store.on_flushed(id, Ok(()), now),
            _ => {},
        }
    }
    let spent = processor_time()
        .saturating_sub(started)
        .saturating_sub(making);
    let stats = store.stats();
    assert_eq!(stats.objects, u64::from(segments) * ROWS);
    (spent, stats.objects, stats.index_bytes)
}

#[test]
fn recovery_from_footers_finds_every_object() {
    let (_, objects, index_bytes) = recover(10);
    assert_eq!(objects, 200_000);
    assert!(index_bytes < objects * 64);
}

#[test]
#[ignore = "long: make test-long"]
fn recovery_of_ten_million_objects_takes_less_than_ten_seconds() {
    let (spent, objects, index_bytes) = recover(500);
    assert_eq!(objects, 10_000_000);
    let each = index_bytes as f64 / objects as f64;
    eprintln!("{objects} objects in {spent:?}, {each:.2} bytes of index each");
    assert!(spent < Duration::from_secs(10), "{spent:?}");
    assert!(each <= 48.0, "{each} bytes");
}
