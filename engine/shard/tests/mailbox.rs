//! Three shards that flood each other far beyond what their mailboxes hold.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chariot_base::ShardId;
use chariot_shard::{
    BellHandle, Delivery, DriverStats, Mailboxes, Pass, Progress, ShardExecutor, ShardSeat,
    ShardSpec, SpinSetting, mailboxes,
};

const SHARDS: u16 = 3;
const MESSAGES: u64 = 20_000;
const CAPACITY: usize = 4;

/// Sends its numbers to every other shard as fast as it can, and checks theirs.
struct FloodPass {
    mail: Mailboxes<u64>,
    next: BTreeMap<ShardId, u64>,
    expected: BTreeMap<ShardId, u64>,
    done: Arc<AtomicUsize>,
    everybody: Vec<BellHandle>,
    finished: bool,
    queued: u64,
}

impl FloodPass {
    fn send_burst(&mut self) -> bool {
        let mut worked = false;
        for (to, next) in &mut self.next {
            for _ in 0..64 {
                if *next == MESSAGES || self.mail.pressed(*to) {
                    break;
                }
                if self.mail.send(*to, *next).unwrap() == Delivery::Queued {
                    self.queued += 1;
                }
                *next += 1;
                worked = true;
            }
        }
        worked
    }

    fn receive(&mut self) -> usize {
        let Self { mail, expected, .. } = self;
        mail.poll(32, |from, number| {
            let wanted = expected.get_mut(&from).unwrap();
            assert_eq!(number, *wanted, "in order, none lost, none twice");
            *wanted += 1;
        })
    }

    fn finish(&mut self) {
        let sent = self.next.values().all(|next| *next == MESSAGES);
        let received = self.expected.values().all(|next| *next == MESSAGES);
        let drained = self.next.keys().all(|to| !self.mail.pressed(*to));
        if !self.finished && sent && received && drained {
            self.finished = true;
            self.done.fetch_add(1, Ordering::AcqRel);
            self.everybody.iter().for_each(BellHandle::ring);
        }
    }

    fn all_done(&self) -> bool {
        self.done.load(Ordering::Acquire) == usize::from(SHARDS)
    }
}

impl Pass for FloodPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        let sent = self.send_burst();
        let received = self.receive();
        let moved = self.mail.flush();
        self.finish();
        Progress {
            worked: sent || received > 0 || moved > 0,
            stop: self.all_done(),
            ..Progress::default()
        }
    }

    fn pending(&mut self) -> bool {
        self.mail.pending() || self.all_done()
    }
}

fn flood(spin_us: u32) -> Vec<(u64, DriverStats)> {
    let spec = |shard| ShardSpec {
        spin: SpinSetting::Fixed { spin_us },
        ..ShardSpec::new(ShardId(shard))
    };
    let seats: Vec<ShardSeat> = (0..SHARDS)
        .map(|shard| ShardSeat::new(spec(shard)).unwrap())
        .collect();
    let bells: Vec<BellHandle> = seats.iter().map(ShardSeat::bell).collect();
    let done = Arc::new(AtomicUsize::new(0));
    let mesh = mailboxes::<u64>(&bells, CAPACITY);
    let joins: Vec<_> = seats
        .into_iter()
        .zip(mesh)
        .map(|(seat, mail)| {
            let me = seat.shard();
            let others: Vec<ShardId> = (0..SHARDS).map(ShardId).filter(|to| *to != me).collect();
            let mut pass = FloodPass {
                mail,
                next: others.iter().map(|to| (*to, 0)).collect(),
                expected: others.iter().map(|from| (*from, 0)).collect(),
                done: Arc::clone(&done),
                everybody: bells.clone(),
                finished: false,
                queued: 0,
            };
            ShardExecutor::spawn(seat, move |context| async move {
                context.run(&mut pass).await.unwrap();
                (pass.queued, context.driver_stats())
            })
            .unwrap()
        })
        .collect();
    joins.into_iter().map(|join| join.join().unwrap()).collect()
}

#[test]
fn three_shards_flood_each_other_without_loss_or_deadlock_while_spinning() {
    for (queued, _) in flood(50) {
        assert!(queued > 0, "the flood went beyond the rings");
    }
}

#[test]
fn three_shards_flood_each_other_without_loss_or_deadlock_while_parking() {
    for (queued, stats) in flood(0) {
        assert!(queued > 0, "the flood went beyond the rings");
        assert!(
            stats.sleeps > 0,
            "a shard that waits for room sleeps: {stats:?}"
        );
    }
}
