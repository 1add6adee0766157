//! The conditions in which glommio parks over runnable tasks: threads that lose their CPU at any
//! moment.
//!
//! The workload runs in a process of its own, which the test stops and continues at random while
//! three hogs per CPU compete with it. A request may wait as long as its threads are off the CPU,
//! and 100 ms.

#![expect(
    clippy::print_stdout,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and this one reports to its parent"
)]

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use chariot_shard::{Pass, Progress, Rails, ShardExecutor, Watchdog};
use support::{Random, seat_with};

const STALL_MAX: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Shared {
    request: AtomicU64,
    answer: AtomicU64,
    rounds: AtomicU64,
    shard_thread: AtomicI32,
    stop: AtomicBool,
}

/// Answers requests; with `restless`, also works all the time, so that the preempt timer fires.
struct WorkPass {
    shared: Arc<Shared>,
    seen: u64,
    restless: bool,
}

impl Pass for WorkPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        let request = self.shared.request.load(Ordering::Acquire);
        let mut worked = self.restless;
        if self.restless {
            let mut value = request;
            for _ in 0..3000 {
                value = value
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
            }
            std::hint::black_box(value);
        }
        if request != self.seen {
            self.seen = request;
            self.shared.answer.store(request, Ordering::Release);
            worked = true;
        }
        self.shared.rounds.fetch_add(1, Ordering::Relaxed);
        let stop = self.shared.stop.load(Ordering::Acquire);
        Progress {
            worked,
            stop,
            ..Progress::default()
        }
    }

    fn pending(&mut self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
            || self.shared.request.load(Ordering::Acquire) != self.seen
    }
}

fn thread_id() -> i32 {
    // SAFETY: gettid(2) takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Time that a thread of this process has waited for a CPU, in nanoseconds.
fn run_delay_ns(thread: i32) -> u64 {
    let path = format!("/proc/self/task/{thread}/schedstat");
    let words = std::fs::read_to_string(path).unwrap_or_default();
    words
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Runs requests for `time`; returns the longest wait beyond time off the CPU, and how many there
/// were.
fn request_loop(shared: &Shared, ring: impl Fn(), time: Duration) -> (Duration, u64) {
    let threads = [shared.shard_thread.load(Ordering::Acquire), thread_id()];
    let delays = || threads.map(run_delay_ns).iter().sum::<u64>();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (start, mut sampled, mut delay) = (Instant::now(), Instant::now(), delays());
    let (mut longest, mut request) = (Duration::ZERO, 0);
    while start.elapsed() < time {
        if sampled.elapsed() > Duration::from_millis(5) {
            (sampled, delay) = (Instant::now(), delays());
        }
        request += 1;
        let sent = Instant::now();
        shared.request.store(request, Ordering::Release);
        ring();
        support::wait_until("an answer", || {
            shared.answer.load(Ordering::Acquire) == request
        });
        let waited = sent.elapsed();
        if waited > longest {
            let off_cpu = Duration::from_nanos(delays() - delay);
            longest = longest.max(waited.saturating_sub(off_cpu));
        }
        for _ in 0..random.next() % 20_000 {
            std::hint::spin_loop();
        }
    }
    (longest, request)
}

fn workload(time: Duration) {
    let shared = Arc::new(Shared::default());
    let seat = seat_with(Rails::default(), 50);
    let bell = seat.bell();
    let mut watchdog = Watchdog::new([&seat]);
    let mut pass = WorkPass {
        shared: Arc::clone(&shared),
        seen: 0,
        restless: false,
    };
    let join = ShardExecutor::spawn(seat, move |context| async move {
        pass.shared
            .shard_thread
            .store(thread_id(), Ordering::Release);
        context.run(&mut pass).await.unwrap();
    })
    .unwrap();
    support::wait_until("the shard's start", || {
        shared.rounds.load(Ordering::Acquire) > 0
    });

    let background = Arc::clone(&shared);
    let ticking = std::thread::spawn(move || {
        while !background.stop.load(Ordering::Acquire) {
            watchdog.tick();
            park_timeout(Duration::from_millis(20));
        }
        watchdog.stats().kicks
    });
    let hogs: Vec<_> = (0..3 * std::thread::available_parallelism().unwrap().get())
        .map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();

    let (longest, requests) = request_loop(&shared, || bell.ring(), time);
    shared.stop.store(true, Ordering::Release);
    bell.ring();
    join.join().unwrap();
    for hog in hogs {
        hog.join().unwrap();
    }
    let kicks = ticking.join().unwrap();
    println!(
        "longest_us={} requests={requests} kicks={kicks}",
        longest.as_micros()
    );
}

#[test]
#[ignore = "part of another test, which runs it in a process of its own"]
fn stall_workload() {
    let seconds = std::env::var("CHARIOT_STALL_SECONDS").map_or(2, |text| text.parse().unwrap());
    workload(Duration::from_secs(seconds));
}

fn signal(process: u32, signal: libc::c_int) {
    let process = libc::pid_t::try_from(process).unwrap();
    // SAFETY: kill(2) takes two integers and no memory; the process is our own child, not yet
    // waited for.
    let failed = unsafe { libc::kill(process, signal) };
    assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
}

/// Stops and continues the workload at random for `seconds`; returns its report and the longest
/// stop.
fn run_stopped_and_continued(seconds: u64) -> (String, Duration) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stall_workload", "--ignored", "--nocapture"])
        .env("CHARIOT_STALL_SECONDS", seconds.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut longest = Duration::ZERO;
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(
            start.elapsed() < Duration::from_secs(seconds) + support::PATIENCE,
            "it hangs"
        );
        let stopped = Instant::now();
        signal(child.id(), libc::SIGSTOP);
        park_timeout(Duration::from_micros(100 + random.next() % 30_000));
        signal(child.id(), libc::SIGCONT);
        longest = longest.max(stopped.elapsed());
        park_timeout(Duration::from_micros(5_000 + random.next() % 60_000));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the workload failed");
    (String::from_utf8(output.stdout).unwrap(), longest)
}

fn value(report: &str, name: &str) -> u64 {
    let word = report
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name));
    word.unwrap_or_else(|| panic!("{name} in {report}"))
        .parse()
        .unwrap()
}

fn judge(seconds: u64) {
    let (report, longest_stop) = run_stopped_and_continued(seconds);
    let longest = Duration::from_micros(value(&report, "longest_us="));
    println!("{report}longest stop {longest_stop:?}");
    assert!(value(&report, "requests=") > 50, "{report}");
    // A request can meet two stops; they are off the CPU, but in no statistic of the kernel.
    assert!(
        longest < STALL_MAX + 2 * longest_stop,
        "{longest:?}, stops of up to {longest_stop:?}"
    );
}

#[test]
fn no_request_waits_beyond_its_time_off_the_cpu() {
    judge(5);
}

#[test]
#[ignore = "long: make test-long"]
fn no_request_waits_beyond_its_time_off_the_cpu_for_a_minute() {
    judge(60);
}

/// Lets a restless shard run with `rails` for `time` and returns the longest standstill of its
/// rounds.
fn longest_standstill(rails: Rails, watched: bool, time: Duration) -> (Duration, u64) {
    let shared = Arc::new(Shared::default());
    let seat = seat_with(rails, 0);
    let mut watchdog = Watchdog::new([&seat]);
    let mut pass = WorkPass {
        shared: Arc::clone(&shared),
        seen: 0,
        restless: true,
    };
    let join = ShardExecutor::spawn(seat, move |context| async move {
        context.run(&mut pass).await.unwrap();
    })
    .unwrap();
    support::wait_until("the shard's start", || {
        shared.rounds.load(Ordering::Acquire) > 0
    });
    let (start, mut rounds, mut moved) = (Instant::now(), 0, Instant::now());
    let (mut longest, mut ticked) = (Duration::ZERO, Instant::now());
    while start.elapsed() < time {
        park_timeout(Duration::from_millis(1));
        let now = shared.rounds.load(Ordering::Relaxed);
        if now != rounds {
            (rounds, moved) = (now, Instant::now());
        }
        longest = longest.max(moved.elapsed());
        if watched && ticked.elapsed() >= Duration::from_millis(20) {
            ticked = Instant::now();
            watchdog.tick();
        }
        if longest > Duration::from_secs(1) {
            // It hangs for good; its thread is left where it is.
            return (longest, watchdog.stats().kicks);
        }
    }
    shared.stop.store(true, Ordering::Release);
    let stopped = join.join();
    stopped.unwrap();
    (longest, watchdog.stats().kicks)
}

/// A preempt timer so short that a round is often longer: the defect strikes without any
/// contention.
const HAIR_TRIGGER: Rails = Rails {
    preempt_timer: Duration::from_micros(50),
    heartbeat: false,
    rescue: false,
};

#[test]
#[ignore = "mutation: shows the defect that the rails are there for"]
fn mutation_without_rails_and_with_a_short_preempt_timer_the_shard_hangs() {
    let (longest, _) = longest_standstill(HAIR_TRIGGER, false, Duration::from_secs(20));
    assert!(longest > Duration::from_secs(1), "no hang: {longest:?}");
}

// With a timer of 50 µs and a busy machine the executor can also park before the driver's first
// round, when there is no shard to rescue yet: run alone, by hand.
#[test]
#[ignore = "long: make test-long"]
fn the_watchdog_rescues_a_shard_that_glommio_has_parked_over_its_tasks() {
    let rails = Rails {
        rescue: true,
        ..HAIR_TRIGGER
    };
    let (longest, kicks) = longest_standstill(rails, true, Duration::from_secs(3));
    println!("longest standstill {longest:?}, {kicks} kicks");
    assert!(
        longest < Duration::from_secs(1),
        "it was rescued each time: {longest:?}"
    );
}
