//! Random objects there and back again, every byte compared.

use std::sync::Arc;

use chariot_device::{Device, DeviceMemory, Direction, Runtime};
use chariot_npu_sim::Profile;
use chariot_transfer::{Arena, DeviceCore, Fragment, HostRange, ObjectCopy, Path};

use crate::process::{ascend, is_alone};
use crate::{core, host, in_time, pageable, pinned, submit};

const ARENA: usize = 2 << 20;
const BLOCK: usize = 256 << 10;
const POISON: u8 = 0xEE;

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// Fragments of one object and the ranges that they have, on both sides.
fn fragments(random: &mut Random, blocks: &[DeviceMemory], len: usize) -> Vec<Fragment> {
    let mut cursors = vec![0; blocks.len()];
    let (mut offset, mut fragments) = (random.below(64), Vec::new());
    let most = 1 + random.below(60);
    while fragments.len() < most && offset < len {
        let block = random.below(blocks.len());
        let room = (BLOCK - cursors[block]).min(len - offset);
        let size = (1 + random.below(16 << 10)).min(room);
        if size == 0 {
            break;
        }
        let device = blocks[block].clone();
        fragments.push(Fragment {
            device,
            device_at: cursors[block],
            offset,
            len: size,
        });
        cursors[block] += size + random.below(2) * 64;
        cursors[block] = cursors[block].min(BLOCK);
        // Half of them touch the next.
        offset += size + random.below(2) * random.below(100);
    }
    fragments
}

/// One object into the card and out of it to another place.
fn round(
    core: &DeviceCore,
    random: &mut Random,
    blocks: &[DeviceMemory],
    arenas: &[Arc<Arena>; 2],
) {
    let (from, to) = (random.below(ARENA / 2), random.below(ARENA / 2));
    let len = 1 + random.below(ARENA / 2);
    let fragments = fragments(random, blocks, len);
    let bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
    arenas[0].memory().write_at(from, &bytes).unwrap();
    arenas[1].memory().write_at(to, &vec![POISON; len]).unwrap();
    let host = |arena: &Arc<Arena>, at| HostRange {
        arena: Arc::clone(arena),
        at,
        len,
    };
    let into = ObjectCopy {
        host: host(&arenas[0], from),
        fragments: fragments.clone(),
    };
    let outcomes = submit(core, Direction::HostToDevice, vec![into], in_time()).wait();
    assert_eq!(outcomes, [Ok(())]);
    let out = ObjectCopy {
        host: host(&arenas[1], to),
        fragments: fragments.clone(),
    };
    let outcomes = submit(core, Direction::DeviceToHost, vec![out], in_time()).wait();
    assert_eq!(outcomes, [Ok(())]);
    let mut wanted = vec![POISON; len];
    for Fragment { offset, len, .. } in &fragments {
        wanted[*offset..offset + len].copy_from_slice(&bytes[*offset..offset + len]);
    }
    let mut found = vec![0; len];
    arenas[1].memory().read_at(to, &mut found).unwrap();
    assert!(found == wanted, "seed {}", random.0);
}

/// `rounds` rounds on each of some threads, which share the core.
fn rounds(core: &DeviceCore, arena: fn(&Device) -> Arc<Arena>, threads: u64, rounds: u32) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let device = core.device();
                let arenas = [arena(device), arena(device)];
                let blocks: Vec<_> = (0..8).map(|_| device.alloc(BLOCK).unwrap()).collect();
                let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (thread + 1));
                for _ in 0..rounds {
                    round(core, &mut random, &blocks, &arenas);
                }
            });
        }
    });
}

fn every_way(runtime: &Runtime, threads: u64, count: u32) {
    for forced in [
        None,
        Some(Path::Each),
        Some(Path::Queued),
        Some(Path::Gathered),
        Some(Path::Direct),
    ] {
        let core = core(runtime, forced);
        rounds(&core, |device| pinned(device, ARENA), threads, count);
        assert_eq!(core.probe().staged_bytes(), 0);
        rounds(&core, |_| pageable(ARENA), threads, count);
        assert!(core.probe().staged_bytes() > 0);
        if let Some(path) = forced {
            let moved = core.probe().path(path).bytes();
            assert!(moved > 0, "{path:?}");
        }
    }
}

#[test]
fn every_byte_arrives_on_the_host_backend() {
    every_way(&host(), 2, 15);
}

#[test]
fn every_byte_arrives_on_the_simulator() {
    let test = "random::every_byte_arrives_on_the_simulator";
    if is_alone(test, Profile::Cann91, &[]) {
        every_way(&ascend(), 2, 8);
    }
}

#[test]
fn every_byte_arrives_when_tasks_come_late() {
    let test = "random::every_byte_arrives_when_tasks_come_late";
    if is_alone(test, Profile::Cann91, &[("SCHEDULE", "late")]) {
        every_way(&ascend(), 2, 4);
    }
}

#[test]
#[ignore = "long: make test-long"]
fn a_hundred_thousand_transfers_on_the_simulator() {
    let test = "random::a_hundred_thousand_transfers_on_the_simulator";
    if is_alone(test, Profile::Cann91, &[("JITTER_US", "0")]) {
        // 5 ways, 2 kinds of memory, 4 threads, 1,250 rounds of 2 transfers.
        every_way(&ascend(), 4, 1_250);
    }
}

/// The comparison notices one bit: it is no comparison of nothing.
#[test]
#[should_panic(expected = "scoped thread panicked")]
fn a_flipped_bit_is_noticed() {
    let test = "random::a_flipped_bit_is_noticed";
    if std::env::var_os("MOVES_AGAIN").is_some() {
        let core = core(&ascend(), Some(Path::Each));
        rounds(&core, |device| pinned(device, ARENA), 1, 20);
        return;
    }
    assert!(!is_alone(test, Profile::Cann91, &[("FAULTS", "flip:0:30")]));
    panic!("a scoped thread panicked, as it had to");
}
