//! Frees and allocates at random among N live objects of one length: for counting instructions.
//!
//! `valgrind --tool=callgrind target/release/examples/pairs LIVE PAIRS LEN`; the difference of two
//! runs with different PAIRS, divided by the difference of PAIRS, is the cost of one pair.

use std::io::Write;

use chariot_base::limits::GRANULE_BYTES;
use chariot_base::{GranuleIndex, Random, SplitMix64};
use chariot_memory::ExtentAllocator;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args()
        .skip(1)
        .filter_map(|text| text.parse::<u64>().ok());
    let live = arguments.next().unwrap_or(10_000);
    let pairs = arguments.next().unwrap_or(100_000);
    let len = arguments.next().unwrap_or(4096);
    let granules = (live * len.next_multiple_of(4096)).div_ceil(GRANULE_BYTES) + 1;
    let mut allocator = ExtentAllocator::new();
    allocator.add_granules(
        GranuleIndex(0),
        u32::try_from(granules).expect("few granules"),
    );
    let mut random = SplitMix64::new(live);
    let births = (0..live).map(|_| allocator.allocate(len).expect("room for all").offset);
    let mut offsets: Vec<u64> = births.collect();
    let mut freed = 0;
    for _ in 0..pairs {
        let index = usize::try_from(random.below(live)).expect("few objects");
        freed += allocator.free(offsets[index]);
        offsets[index] = allocator.allocate(len).expect("one was just freed").offset;
    }
    let each = allocator.metadata_bytes() as f64 / live as f64;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{live} live of {len} B, {pairs} pairs, {freed} B freed, {each:.1} B of books each"
    )
}
