//! Prints how fast copies and checksums are beside libc's memcpy.
//!
//! `cargo run --release -p chariot-shm --example copy_speed`: sizes from 4 KiB to 8 MiB over
//! working sets of 256 MiB on each side, variants in turn, the best of several rounds each.

#![expect(clippy::print_stdout, reason = "a table is what it is for")]

use std::hint::black_box;
use std::time::Instant;

use chariot_shm::copy;

const WORKING_SET: usize = 256 << 20;
const ROUNDS: usize = 7;

type Variant = fn(*mut u8, *const u8, usize) -> u32;

fn memcpy(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: `round` passes places inside its two vectors.
    unsafe { libc::memcpy(dst.cast(), src.cast(), len) };
    0
}

fn plain(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: `round` passes places inside its two vectors.
    unsafe { copy::copy(dst, src, len) };
    0
}

fn nontemporal(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: `round` passes places inside its two vectors.
    unsafe { copy::copy_nontemporal(dst, src, len) };
    0
}

fn with_crc(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: `round` passes places inside its two vectors.
    unsafe { copy::copy_with_crc(dst, src, len) }
}

fn nontemporal_with_crc(dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: `round` passes places inside its two vectors.
    unsafe { copy::copy_nontemporal_with_crc_append(0, dst, src, len) }
}

fn sum(_dst: *mut u8, src: *const u8, len: usize) -> u32 {
    // SAFETY: `round` passes places inside its two vectors.
    unsafe { copy::crc32c(src, len) }
}

const VARIANTS: [(&str, Variant); 6] = [
    ("memcpy", memcpy),
    ("copy", plain),
    ("nontemporal", nontemporal),
    ("copy_with_crc", with_crc),
    ("nontemporal_with_crc", nontemporal_with_crc),
    ("crc32c", sum),
];

/// Bytes per second of one pass over the working set, objects in a scattered order.
fn round(variant: Variant, dst: &mut [u8], src: &[u8], size: usize) -> f64 {
    let count = WORKING_SET / size;
    let started = Instant::now();
    for turn in 0..count {
        let at = turn * 7919 % count * size;
        let target = dst[at..at + size].as_mut_ptr();
        black_box(variant(target, src[at..at + size].as_ptr(), size));
    }
    (count * size) as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let src = vec![0x5a; WORKING_SET];
    let mut dst = vec![1; WORKING_SET];
    print!("{:>9}", "size");
    for (name, _) in VARIANTS {
        print!(" {name:>20}");
    }
    println!();
    for size in [4 << 10, 16 << 10, 72 << 10, 256 << 10, 1 << 20, 8 << 20] {
        let mut best = [0.0_f64; VARIANTS.len()];
        for _ in 0..ROUNDS {
            for (index, (_, variant)) in VARIANTS.iter().enumerate() {
                best[index] = best[index].max(round(*variant, &mut dst, &src, size));
            }
        }
        print!("{:>6}KiB", size >> 10);
        for speed in best {
            print!(" {:>7.2} GB/s ({:>4.2})", speed / 1e9, speed / best[0]);
        }
        println!();
    }
}
