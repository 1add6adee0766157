//! What the runtime costs, beside plain threads in the same run. Smoke sizes under `cargo test`;
//! figures with `cargo test --release -p chariot-shard --test measure -- --ignored --nocapture
//! --test-threads 1`.

#![expect(
    clippy::print_stdout,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and this one prints figures"
)]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chariot_base::ShardId;
use chariot_shard::{
    DataRing, IoFd, Pass, PollHandle, Progress, ShardExecutor, ShardSeat, ShardSpec, SpinSetting,
};
use support::{Mapped, on_shard};

const MIB: usize = 1 << 20;

/// Pins the calling thread where there are two CPUs to choose from.
fn pin(cpu: usize) {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: all zeros is the empty set.
    let set = unsafe { set.assume_init_mut() };
    // SAFETY: CPU_SET writes one bit of the set; `cpu` is 0 or 1.
    unsafe { libc::CPU_SET(cpu, set) };
    // SAFETY: sched_setaffinity(2) reads the set's bytes, alive here. A refusal leaves the thread
    // unpinned.
    let _refused = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

fn seat(spin_us: u32) -> ShardSeat {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let cpu = (cpus > 1).then_some(1);
    let spin = SpinSetting::Fixed { spin_us };
    ShardSeat::new(ShardSpec {
        cpu,
        spin,
        ..ShardSpec::new(ShardId(0))
    })
    .unwrap()
}

#[derive(Default)]
struct Slot {
    request: AtomicU64,
    answer: AtomicU64,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// Echoes; its sleep word is its own, as a session's is, so that either bell can be measured.
struct EchoPass {
    slot: Arc<Slot>,
    seen: u64,
    ring: DataRing,
    _session: Option<PollHandle>,
}

impl Pass for EchoPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        while self.ring.take_ready().is_some() {}
        let request = self.slot.request.load(Ordering::Acquire);
        let worked = request != self.seen;
        self.seen = request;
        self.slot.answer.store(request, Ordering::Release);
        Progress {
            worked,
            stop: self.slot.stop.load(Ordering::Acquire),
            ..Progress::default()
        }
    }

    fn prepare_sleep(&mut self) {
        self.slot.asleep.store(true, Ordering::Relaxed);
    }

    fn pending(&mut self) -> bool {
        self.slot.request.load(Ordering::Acquire) != self.seen
            || self.slot.stop.load(Ordering::Acquire)
    }

    fn woke(&mut self) {
        self.slot.asleep.store(false, Ordering::Relaxed);
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{name:<44} p50 {:>8.2} us  p99 {:>8.2} us  n {}",
        percentile(&times, 50),
        percentile(&times, 99),
        times.len()
    );
}

fn think(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn round_trips(name: &str, spin_us: u32, session: bool, rounds: u64, pause: Duration) {
    let slot = Arc::new(Slot::default());
    let seat = seat(spin_us);
    let bell = seat.bell();
    // SAFETY: eventfd(2) takes two integers and no memory.
    let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    // SAFETY: `raw` was returned by eventfd(2) just now and has no other owner.
    let session_bell = File::from(unsafe { OwnedFd::from_raw_fd(raw) });
    let polled = session.then(|| session_bell.try_clone().unwrap());
    let shared = Arc::clone(&slot);
    let join = ShardExecutor::spawn(seat, move |context| async move {
        let ring = context.ring();
        let session = polled.map(|bell| ring.poll_multishot(&IoFd::new(bell), 1).unwrap());
        let mut pass = EchoPass {
            slot: shared,
            seen: 0,
            ring,
            _session: session,
        };
        context.run(&mut pass).await.unwrap();
    })
    .unwrap();
    pin(0);
    let mut times = Vec::new();
    for round in 1..=rounds {
        let start = Instant::now();
        slot.request.store(round, Ordering::Release);
        if session {
            std::sync::atomic::fence(Ordering::SeqCst);
            if slot.asleep.load(Ordering::Relaxed) {
                #[expect(clippy::host_endian_bytes, reason = "an eventfd counts in host order")]
                (&session_bell).write_all(&1_u64.to_ne_bytes()).unwrap();
            }
        } else {
            bell.ring();
        }
        support::wait_until("an answer", || slot.answer.load(Ordering::Acquire) == round);
        times.push(start.elapsed());
        think(pause);
    }
    slot.stop.store(true, Ordering::Release);
    bell.ring();
    join.join().unwrap();
    report(name, times);
}

/// The floor: two plain threads and two futex words.
fn futex_round_trips(rounds: u64, pause: Duration) {
    fn wait(word: &AtomicU32, value: u32) {
        while word.load(Ordering::Acquire) == value {
            // SAFETY: futex(2) FUTEX_WAIT reads the word, which outlives the call; no timeout.
            let _woken = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    word.as_ptr(),
                    libc::FUTEX_WAIT,
                    value,
                    0_usize,
                )
            };
        }
    }
    fn store(word: &AtomicU32, value: u32) {
        word.store(value, Ordering::Release);
        // SAFETY: futex(2) FUTEX_WAKE takes the word's address and a count.
        let _woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    }
    let words = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    let rounds = u32::try_from(rounds).unwrap();
    let echo = std::thread::spawn({
        let words = Arc::clone(&words);
        move || {
            pin(1);
            for round in 0..rounds {
                wait(&words.0, round);
                store(&words.1, round + 1);
            }
        }
    });
    pin(0);
    let mut times = Vec::new();
    for round in 1..=rounds {
        let start = Instant::now();
        store(&words.0, round);
        // As the clients above: it spins for the answer.
        support::wait_until("an answer", || words.1.load(Ordering::Acquire) == round);
        times.push(start.elapsed());
        think(pause);
    }
    echo.join().unwrap();
    report("plain threads, futex (floor of parked)", times);
}

/// Sends `count` MiB from a plain thread on CPU 0; returns bytes per second as seen by the
/// receiver.
fn throughput(count: usize, receive: impl FnOnce(TcpListener, usize)) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sender = std::thread::spawn(move || {
        pin(0);
        let mut stream = TcpStream::connect(address).unwrap();
        let bytes = vec![7; MIB];
        for _ in 0..count {
            stream.write_all(&bytes).unwrap();
        }
    });
    let start = Instant::now();
    receive(listener, count);
    let elapsed = start.elapsed();
    sender.join().unwrap();
    (count * MIB) as f64 / elapsed.as_secs_f64() / f64::from(1 << 30)
}

fn plain_receive(listener: TcpListener, count: usize) {
    std::thread::spawn(move || {
        pin(1);
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = vec![0; MIB];
        for _ in 0..count {
            stream.read_exact(&mut bytes).unwrap();
        }
    })
    .join()
    .unwrap();
}

fn ring_receive(listener: TcpListener, count: usize) {
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(4 * MIB);
        let socket = ring.accept(&IoFd::new(listener)).await.unwrap();
        for round in 0..count {
            let span = memory.span((round % 4 * MIB) as u64, MIB as u64);
            ring.recv_exact(&socket, span).await.unwrap();
        }
    });
}

fn tcp(rounds: usize, count: usize) {
    let (mut plain, mut ring): (Vec<f64>, Vec<f64>) = (0..rounds)
        .map(|_| {
            (
                throughput(count, plain_receive),
                throughput(count, ring_receive),
            )
        })
        .unzip();
    plain.sort_unstable_by(f64::total_cmp);
    ring.sort_unstable_by(f64::total_cmp);
    let (plain, ring) = (plain[rounds / 2], ring[rounds / 2]);
    println!(
        "tcp 1 MiB loopback, receive: plain {plain:.2} GiB/s, ring {ring:.2} GiB/s, ratio {:.2}",
        ring / plain
    );
}

#[test]
fn smoke_measurements_run() {
    round_trips("smoke, spinning", 50, false, 100, Duration::ZERO);
    round_trips("smoke, session", 0, true, 100, Duration::ZERO);
    futex_round_trips(100, Duration::ZERO);
    tcp(1, 8);
}

#[test]
#[ignore = "long: make test-long"]
fn measurements() {
    let pause = Duration::from_micros(100);
    round_trips(
        "bell, shard spins 50 us, 5 us think",
        50,
        false,
        100_000,
        Duration::from_micros(5),
    );
    futex_round_trips(10_000, pause);
    round_trips("bell, shard parked, 100 us think", 0, false, 10_000, pause);
    round_trips(
        "session bell (eventfd poll), parked",
        0,
        true,
        10_000,
        pause,
    );
    futex_round_trips(10_000, pause);
    round_trips("bell, shard parked, again", 0, false, 10_000, pause);
    tcp(5, 2048);
}
