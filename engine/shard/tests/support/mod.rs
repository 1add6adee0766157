//! What the tests of this crate share: a pass that only stops, one-shard runs, bounded waits.
#![expect(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses its part; tests unwrap"
)]

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_base::ShardId;
use chariot_shard::{
    IoSpan, Pass, Progress, Rails, ShardContext, ShardExecutor, ShardSeat, ShardSpec, SpinSetting,
};
use chariot_shm::{Mapping, Memfd, MemfdOptions};

/// Nothing here may take longer, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Stops the driver when told; owes nothing to anybody.
pub(crate) struct StopPass {
    pub(crate) stop: Rc<Cell<bool>>,
}

impl Pass for StopPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        Progress {
            stop: self.stop.get(),
            ..Progress::default()
        }
    }

    fn pending(&mut self) -> bool {
        self.stop.get()
    }
}

pub(crate) fn spec(spin_us: u32) -> ShardSpec {
    ShardSpec {
        spin: SpinSetting::Fixed { spin_us },
        ..ShardSpec::new(ShardId(0))
    }
}

pub(crate) fn seat(spin_us: u32) -> ShardSeat {
    ShardSeat::new(spec(spin_us)).unwrap()
}

pub(crate) fn seat_with(rails: Rails, spin_us: u32) -> ShardSeat {
    ShardSeat::new(ShardSpec {
        rails,
        ..spec(spin_us)
    })
    .unwrap()
}

/// Runs `body` as a local task of one shard, with a driver, and returns what it returns.
pub(crate) fn on_shard<F, Fut, T>(seat: ShardSeat, body: F) -> T
where
    F: FnOnce(ShardContext) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let join = ShardExecutor::spawn(seat, move |context| async move {
        let stop = Rc::new(Cell::new(false));
        let task = context.spawn_local({
            let body = body(context.clone());
            let stop = Rc::clone(&stop);
            async move {
                let result = body.await;
                stop.set(true);
                result
            }
        });
        context.run(&mut StopPass { stop }).await.unwrap();
        task.await
    });
    join.unwrap().join().unwrap()
}

/// Spins until `done`; panics when patience ends.
pub(crate) fn wait_until(what: &str, done: impl FnMut() -> bool) {
    assert!(wait_for(PATIENCE, done), "{what}: not within {PATIENCE:?}");
}

/// Spins until `done` or until the time is up; says whether it was done.
pub(crate) fn wait_for(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut spins = 0_u32;
    while !done() {
        spins = spins.wrapping_add(1);
        if spins.is_multiple_of(64) {
            if start.elapsed() > time {
                return false;
            }
            std::thread::yield_now();
        }
        std::hint::spin_loop();
    }
    true
}

/// A small generator for test data and delays; the seed is its state.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A mapped memory file, as the arena is one.
pub(crate) struct Mapped {
    memory: Arc<Mapping>,
}

impl Mapped {
    pub(crate) fn new(size: usize) -> Self {
        let file = Memfd::create("shard-test", size as u64, MemfdOptions::default()).unwrap();
        Self {
            memory: Arc::new(Mapping::read_write(file.fd(), 0, size).unwrap()),
        }
    }

    pub(crate) fn mapping(&self) -> Arc<Mapping> {
        Arc::clone(&self.memory)
    }

    pub(crate) fn span(&self, offset: u64, len: u64) -> IoSpan {
        IoSpan::new(Rc::new(Arc::clone(&self.memory)), offset, len).unwrap()
    }
}

/// Copies bytes into a span.
pub(crate) fn fill(span: &IoSpan, bytes: &[u8]) {
    assert_eq!(span.len(), bytes.len());
    // SAFETY: the span's memory is mapped writable while the span lives; no operation runs on it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), span.as_ptr().as_ptr(), bytes.len()) };
}

/// Copies a span's bytes out.
pub(crate) fn bytes_of(span: &IoSpan) -> Vec<u8> {
    let mut bytes = vec![0; span.len()];
    // SAFETY: the span's memory is mapped readable while the span lives; no operation runs on it.
    unsafe {
        std::ptr::copy_nonoverlapping(span.as_ptr().as_ptr(), bytes.as_mut_ptr(), bytes.len());
    };
    bytes
}

/// Bytes that depend on the seed and on the place of each.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed | 1);
    (0..len).map(|_| random.next().to_le_bytes()[3]).collect()
}
