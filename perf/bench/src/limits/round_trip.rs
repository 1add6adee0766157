//! There and back between two threads on two CPUs: over a unix socket, by futex, and to one asleep.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chariot_shm::futex;

use super::Measured;
use crate::failure::Failure;
use crate::latency::Latency;
use crate::pinning;

/// Bytes of a message: one frame header.
const MESSAGE: usize = 64;
/// A hand-over that takes longer is looked at again, so that no lost wake hangs the tool.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the far side of a cold wake sleeps first: as between the calls of `kv --rate 100`.
const REST: Duration = Duration::from_millis(10);
/// The word's value that ends the other side.
const END: u32 = u32::MAX;

/// Keeps one side on the first usable CPU and the other on the last; with one CPU both share it.
fn pin_side(second: bool) {
    let cpus = pinning::usable_cpus();
    let cpu = if second { cpus.last() } else { cpus.first() };
    if let Some(cpu) = cpu {
        // Unpinned sides measure the same, less precisely.
        let pinned = pinning::pin_to(*cpu);
        drop(pinned);
    }
}

/// 64 bytes there and back over a unix stream socket.
pub(crate) fn unix(duration: Duration) -> Result<Measured, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("the unix socket failed ({error})"),
            "see the limits of this process",
        )
    };
    let (mut here, mut there) = UnixStream::pair().map_err(failed)?;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin_side(true);
            let mut message = [0; MESSAGE];
            while there.read_exact(&mut message).is_ok() && there.write_all(&message).is_ok() {}
        });
        let side = scope.spawn(move || {
            pin_side(false);
            let mut message = [7; MESSAGE];
            trips("unix_round_trip", MESSAGE, duration, None, || {
                here.write_all(&message)?;
                here.read_exact(&mut message)
            })
        });
        side.join()
            .expect("this side does not panic")
            .map_err(failed)
    })
}

/// A word there and back: each side sleeps on its futex until the other wakes it.
pub(crate) fn futex(duration: Duration) -> Result<Measured, Failure> {
    beside_an_echo(|ping, pong| {
        let mut turn = 0;
        trips("futex_hand_over", 4, duration, None, || {
            hand_over(ping, turn + 1);
            turn = wait_change(pong, turn);
            Ok(())
        })
    })
}

/// What one request to a parked shard costs without a shard: the far side has slept for 10 ms, is
/// woken by futex and answers at once; this side is awake, and spins until it sees the answer.
pub(crate) fn cold_wake(duration: Duration) -> Result<Measured, Failure> {
    beside_an_echo(|ping, pong| {
        let mut turn = 0;
        trips("cold_wake", 4, duration, Some(REST), || {
            turn += 1;
            hand_over(ping, turn);
            while pong.load(Ordering::Acquire) != turn {
                std::hint::spin_loop();
            }
            Ok(())
        })
    })
}

/// Runs one side while the other, on its own CPU, answers each word with itself.
fn beside_an_echo(
    side: impl FnOnce(&AtomicU32, &AtomicU32) -> std::io::Result<Measured> + Send,
) -> Result<Measured, Failure> {
    let (ping, pong) = (AtomicU32::new(0), AtomicU32::new(0));
    let measured = std::thread::scope(|scope| {
        let (ping, pong) = (&ping, &pong);
        scope.spawn(move || {
            pin_side(true);
            let mut seen = 0;
            while seen != END {
                seen = wait_change(ping, seen);
                hand_over(pong, seen);
            }
        });
        let side = scope.spawn(move || {
            pin_side(false);
            let measured = side(ping, pong);
            hand_over(ping, END);
            measured
        });
        side.join().expect("this side does not panic")
    });
    measured.map_err(|error| Failure::new(format!("futex: {error}"), "report this as a bug"))
}

fn hand_over(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    futex::wake(word, 1);
}

fn wait_change(word: &AtomicU32, seen: u32) -> u32 {
    loop {
        let value = word.load(Ordering::Acquire);
        if value != seen {
            return value;
        }
        futex::wait(word, seen, Some(PATIENCE));
    }
}

/// Gives the CPU away for that long; answers when it ended.
fn parked(rest: Duration) -> Instant {
    let end = Instant::now() + rest;
    loop {
        let now = Instant::now();
        let left = end.saturating_duration_since(now);
        if left.is_zero() {
            return now;
        }
        std::thread::park_timeout(left);
    }
}

/// Repeats a round trip until the time is over, with a rest before each that does not count.
fn trips(
    name: &'static str,
    size_bytes: usize,
    duration: Duration,
    rest: Option<Duration>,
    mut trip: impl FnMut() -> std::io::Result<()>,
) -> std::io::Result<Measured> {
    let mut latency = Latency::new();
    let mut count = 0_u64;
    let start = Instant::now();
    let mut last = start;
    while last - start < duration {
        if let Some(rest) = rest {
            last = parked(rest);
        }
        trip()?;
        let now = Instant::now();
        latency.record(now - last);
        last = now;
        count += 1;
    }
    let seconds = (last - start).as_secs_f64();
    Ok(Measured {
        name,
        size_bytes,
        threads: 2,
        seconds,
        ops_per_s: Some(count as f64 / seconds),
        bytes_per_s: None,
        lat_us: Some(latency.summary()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_trip_is_an_error_and_no_figure() {
        let outcome = trips("x", 1, Duration::from_secs(9), None, || {
            Err(std::io::ErrorKind::BrokenPipe.into())
        });
        assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_rest_is_no_part_of_a_trip() {
        let rest = Duration::from_millis(20);
        let measured = trips("x", 1, rest, Some(rest), || Ok(())).unwrap();
        // Two readings of the clock, however late the sleep ended.
        assert!(measured.lat_us.unwrap().p50 < 10_000.0);
        assert!(measured.seconds >= 0.02);
    }
}
