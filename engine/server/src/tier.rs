//! The SSD tier of one shard: what is evicted from memory goes there, what is missing in memory is
//! read back, what is overwritten or deleted leaves a tombstone before anybody is answered.
//!
//! ```text
//!  evicted ──spill.rs──► SsdStore ──Write──► io.rs ──► data ring
//!  missing ──find.rs───► SsdStore ──read───► io.rs ──► data ring ──► extent ──► answer
//!  written, deleted ──hooks.rs──► SsdStore ──tombstone──► Done ──► answer
//! ```
//! Lives on: owner shard, inside [`Shard`]. Tasks on the data ring bring completions; they borrow
//! the shard between rounds, never inside one. Bounds: [`UNKNOWN_MAX`] requests that wait for
//! recovery, [`chariot_ssd::limits::READS_IN_FLIGHT_MAX`] reads, and what is spilled at a time is
//! the tenant's [`spill::Spills`] budget.
//!
//! Neighbours: `chariot_ssd` decides, `control/partitions.rs` opens the files.

pub(crate) mod find;
pub(crate) mod hooks;
mod io;
pub(crate) mod spill;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use chariot_base::{SessionId, ShardId, TenantId};
use chariot_proto::{KeyHash, Status};
use chariot_shard::{IoFd, ShardContext, monotonic_ns};
use chariot_ssd::{Delete, Done, Effect, Now, ReadId, SsdOptions, SsdStore, Ticket};
use hashbrown::HashMap;

use crate::call::{Call, Reply};
use crate::handlers::calls;
use crate::message::{SegmentNote, ShardMessage};
use crate::node::ssd::ShardPartitions;
use crate::reply::completion;
use crate::request::{Answer, Kept};
use crate::seam::SsdTierStats;
use crate::session::Place;
use crate::shard::Shard;
use crate::tickets::TicketId;

use find::Reading;

/// Requests of one shard that wait for recovery to know their key: each keeps its key and what came
/// along inline, at most 2 KiB, so 8 MiB.
const UNKNOWN_MAX: usize = 4096;
/// How often requests that wait are looked at for their deadlines, in nanoseconds.
const SCAN_INTERVAL_NS: u64 = 20_000_000;

/// Bytes taken out of memory in one step of a stop.
const DRAIN_STEP_BYTES: u64 = 4 << 20;

/// Who waits for an answer of the tier.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asker {
    /// A local session's request.
    Local {
        /// Where the answer goes.
        place: Place,
        /// Whose it is.
        session: SessionId,
        /// Its token.
        token: u32,
        /// What was asked.
        opcode: u8,
        /// When it was taken.
        taken_ns: u64,
        /// Absolute monotonic nanoseconds; 0 = none.
        deadline_ns: u64,
    },
    /// A call of a connection.
    Remote {
        /// Its shard.
        from: ShardId,
        /// Its ticket.
        ticket: TicketId,
        /// It will read the bytes.
        hold: bool,
    },
}

impl Asker {
    /// Whether a local request has waited for the device as long as it may: it becomes a miss at
    /// three quarters of its time, so that the answer is there before its deadline.
    fn has_waited_enough(&self, now_ns: u64) -> bool {
        match *self {
            Self::Local {
                taken_ns,
                deadline_ns,
                ..
            } => {
                let rest_ns = deadline_ns.saturating_sub(taken_ns) / 4;
                deadline_ns != 0 && now_ns.saturating_add(rest_ns) >= deadline_ns
            },
            Self::Remote { .. } => false,
        }
    }
}

/// A request that is handled again later.
#[derive(Debug)]
pub(crate) enum Retry {
    /// Of a local session.
    Local(Box<Kept>),
    /// Of a connection.
    Remote {
        /// Its shard.
        from: ShardId,
        /// Its ticket.
        ticket: TicketId,
        /// What it asks.
        call: Call,
        /// Until when it may wait.
        deadline_ns: u64,
    },
}

/// An answer that waits for a tombstone.
#[derive(Debug)]
struct Owed {
    asker: Asker,
    tenant: TenantId,
    answer: Answer,
    reply: Reply,
}

/// What became of a wish that the device's copy of a key never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Burial {
    /// There is none, or none that is served.
    Done,
    /// The answer waits for this.
    Waits(Ticket),
    /// The node stops, or recovery has filled the tier's index: nothing may be acknowledged.
    Refused,
}

/// What an ended append or delete was for.
#[derive(Debug)]
enum Errand {
    Spill(TenantId, u64),
    Tombstone(Box<Owed>),
}

/// The tier of one shard.
pub(crate) struct Tier {
    pub(crate) store: SsdStore,
    files: BTreeMap<u16, IoFd>,
    context: ShardContext,
    shard: Weak<RefCell<Shard>>,
    errands: HashMap<Ticket, Errand>,
    reads: BTreeMap<ReadId, Reading>,
    reading: HashMap<KeyHash, ReadId>,
    unknown: VecDeque<Retry>,
    knows_more: bool,
    io_in_flight: usize,
    next_scan_ns: u64,
    io_deadline_ns: u64,
    is_closed: bool,
    /// What the tier counts itself; the rest of it is filled in when asked.
    pub(crate) counters: SsdTierStats,
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier")
            .field("reads", &self.reads.len())
            .field("errands", &self.errands.len())
            .finish_non_exhaustive()
    }
}

/// The time as the store wants it.
pub(crate) fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let unix_ms = since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    });
    Now {
        ns: monotonic_ns(),
        unix_ms,
    }
}

/// Opens the tier of a shard over the partitions that the control thread opened.
pub(crate) fn open(
    shard: &Rc<RefCell<Shard>>,
    context: &ShardContext,
    partitions: ShardPartitions,
    options: SsdOptions,
) -> std::io::Result<()> {
    let store = SsdStore::open(options, &partitions.shapes, now())
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let files = partitions.files.into_iter();
    let io_deadline_ns = u64::try_from(options.io_deadline.as_nanos()).unwrap_or(u64::MAX);
    let tier = Tier {
        store,
        files: files
            .map(|(number, file)| (number, IoFd::new(file)))
            .collect(),
        context: context.clone(),
        shard: Rc::downgrade(shard),
        errands: HashMap::new(),
        reads: BTreeMap::new(),
        reading: HashMap::new(),
        unknown: VecDeque::new(),
        knows_more: false,
        io_in_flight: 0,
        next_scan_ns: 0,
        io_deadline_ns,
        is_closed: false,
        counters: SsdTierStats::default(),
    };
    let mut shard = shard.borrow_mut();
    shard.tier = Some(Box::new(tier));
    with(&mut shard, |_, _| ());
    Ok(())
}

/// Works with the tier, then carries out what it asks for. `None` without a tier.
pub(crate) fn with<R>(
    shard: &mut Shard,
    work: impl FnOnce(&mut Tier, &mut Shard) -> R,
) -> Option<R> {
    let mut tier = shard.tier.take()?;
    let result = work(&mut tier, shard);
    tier.carry_out(shard);
    assert!(shard.tier.is_none(), "the tier is taken out once at a time");
    shard.tier = Some(tier);
    Some(result)
}

/// One round: deadlines, spills, retries. Says whether it did anything.
pub(crate) fn pass(shard: &mut Shard) -> bool {
    let now_ns = shard.now_ns;
    let due = shard
        .tier
        .as_deref()
        .is_some_and(|tier| tier.is_due(now_ns));
    let has_spills = shard.tier.is_some()
        && (shard.tenants.iter().flatten())
            .any(|tenant| tenant.spills.has_waiting() || !tenant.unburied.is_empty());
    if !due && !has_spills {
        return false;
    }
    let retries = with(shard, |tier, shard| {
        if tier
            .store
            .next_wake_ns()
            .is_some_and(|due_ns| due_ns <= now_ns)
        {
            tier.store.on_tick(now());
        }
        spill::feed(tier, shard);
        tier.scan(shard);
        std::mem::take(&mut tier.knows_more).then(|| std::mem::take(&mut tier.unknown))
    });
    for retry in retries.flatten().into_iter().flatten() {
        again(shard, retry);
    }
    true
}

/// When the tier wants its next round.
pub(crate) fn next_ns(shard: &Shard) -> Option<u64> {
    let tier = shard.tier.as_deref()?;
    let scan = (!tier.reads.is_empty() || !tier.unknown.is_empty()).then_some(tier.next_scan_ns);
    let wake = tier.store.next_wake_ns();
    scan.into_iter().chain(wake).min()
}

/// Whether the device works for this shard.
pub(crate) fn is_busy(shard: &Shard) -> bool {
    (shard.tier.as_deref()).is_some_and(|tier| tier.io_in_flight > 0)
}

/// Takes a note of another shard about a segment.
pub(crate) fn on_note(shard: &mut Shard, note: SegmentNote) {
    with(shard, |tier, _| {
        let SegmentNote {
            partition,
            segment,
            sequence,
            is_erased,
            from,
        } = note;
        if is_erased {
            tier.store.on_erased(partition, segment, sequence, now());
        } else {
            tier.store
                .on_released(partition, segment, sequence, from.0, now());
        }
    });
}

/// One step of a stop: what is in memory is written out for as long as `--drain-to-ssd` says, then
/// the store is closed. Says whether nothing is left to do.
pub(crate) fn drain(shard: &mut Shard) -> bool {
    if shard.tier.is_none() {
        return true;
    }
    let until_ns = shard.drain_to_ssd_until_ns;
    let mut is_empty = true;
    for share in shard.tenants.iter_mut().flatten() {
        if shard.now_ns < until_ns && !share.spills.is_full() {
            is_empty &= share.evict_to_tier(DRAIN_STEP_BYTES) == 0;
        }
        is_empty &= share.spills.bytes() == 0 || shard.now_ns >= until_ns;
    }
    let is_closed = with(shard, |tier, shard| {
        spill::feed(tier, shard);
        if is_empty {
            tier.store.close(now());
        }
        tier.is_closed
    });
    is_closed.unwrap_or(true)
}

/// What the tier tells about itself.
pub(crate) fn stats(shard: &Shard) -> Option<SsdTierStats> {
    let tier = shard.tier.as_deref()?;
    let tenants = shard.tenants.iter().flatten();
    Some(SsdTierStats {
        store: tier.store.stats(),
        spilling_bytes: tenants.map(|tenant| tenant.spills.bytes()).sum(),
        is_recovering: tier.store.is_recovering(),
        ..tier.counters
    })
}

/// Handles a request again that waited.
fn again(shard: &mut Shard, retry: Retry) {
    match retry {
        Retry::Local(kept) => crate::dispatch::again(shard, &kept),
        Retry::Remote {
            from, ticket, call, ..
        } => {
            let tenant = call.tenant();
            if let Some(reply) = calls::handle(shard, from, Some(ticket), &call) {
                shard.reply(from, ticket, tenant, reply);
            }
        },
    }
}

/// Answers a request with a status alone.
fn refuse(shard: &mut Shard, retry: &Retry, status: Status) {
    match retry {
        Retry::Local(kept) => {
            if shard.sessions.find(kept.session) != Some(kept.place) {
                return;
            }
            let words = completion(kept.words.token, &Answer::status(status));
            shard.sessions.post(kept.place, &words);
            shard.count_operation(kept.words.opcode, status, kept.taken_ns);
        },
        Retry::Remote {
            from, ticket, call, ..
        } => shard.reply(*from, *ticket, call.tenant(), Reply::status(status)),
    }
}

impl Tier {
    fn is_due(&self, now_ns: u64) -> bool {
        let is_due = |due_ns: u64| due_ns <= now_ns;
        self.knows_more
            || self.store.next_wake_ns().is_some_and(is_due)
            || ((!self.reads.is_empty() || !self.unknown.is_empty()) && is_due(self.next_scan_ns))
    }

    /// Lets a request wait until recovery knows its key; gives it back when too many do.
    pub(crate) fn wait_to_know(&mut self, retry: Retry) -> Option<Retry> {
        if self.unknown.len() >= UNKNOWN_MAX {
            return Some(retry);
        }
        self.counters.waited_for_recovery += 1;
        self.unknown.push_back(retry);
        None
    }

    /// Ends what has waited too long.
    fn scan(&mut self, shard: &mut Shard) {
        if self.next_scan_ns > shard.now_ns {
            return;
        }
        self.next_scan_ns = shard.now_ns + SCAN_INTERVAL_NS;
        for _ in 0..self.unknown.len() {
            let Some(retry) = self.unknown.pop_front() else {
                break;
            };
            let deadline_ns = match &retry {
                Retry::Local(kept) if kept.words.deadline_ns != 0 => kept.words.deadline_ns,
                Retry::Local(kept) => kept.taken_ns + crate::limits::RESERVE_WAIT_NS,
                Retry::Remote { deadline_ns, .. } => *deadline_ns,
            };
            if deadline_ns <= shard.now_ns {
                // Not a miss: the key may still be found.
                refuse(shard, &retry, Status::Again);
            } else {
                self.unknown.push_back(retry);
            }
        }
        find::expire(self, shard);
    }

    /// Carries out everything that the store asks for.
    fn carry_out(&mut self, shard: &mut Shard) {
        while let Some(effect) = self.store.next_effect() {
            match effect {
                Effect::Write(write) => io::write(self, shard, write),
                Effect::Read(read) => io::read(self, read),
                Effect::Flush { id, partition } => io::flush(self, id, partition),
                Effect::Done(done) => self.done(shard, done),
                Effect::Room => {
                    for tenant in shard.tenants.iter_mut().flatten() {
                        tenant.freed_events += 1;
                    }
                    spill::feed(self, shard);
                },
                Effect::Progress(_) => self.knows_more = true,
                Effect::Recovered => {
                    self.knows_more = true;
                    let stats = self.store.stats();
                    tracing::info!(
                        shard = shard.id.0,
                        objects = stats.objects,
                        took_ms = stats.recovery_ms,
                        "the SSD tier is recovered"
                    );
                },
                Effect::Retired(fault) => {
                    tracing::error!(shard = shard.id.0, ?fault, "the SSD partition is given up");
                    shard.shared.ssd_retired.fetch_add(1, Ordering::Relaxed);
                    self.knows_more = true;
                },
                Effect::Released {
                    partition,
                    segment,
                    sequence,
                } => {
                    let note = SegmentNote {
                        partition,
                        segment,
                        sequence,
                        is_erased: false,
                        from: shard.id,
                    };
                    let owner = ShardId(partition % shard.shared.shard_count());
                    shard.mail.send(owner, ShardMessage::Segment(note));
                },
                Effect::Erased {
                    partition,
                    segment,
                    sequence,
                } => {
                    let note = SegmentNote {
                        partition,
                        segment,
                        sequence,
                        is_erased: true,
                        from: shard.id,
                    };
                    for to in 0..shard.shared.shard_count() {
                        shard.mail.send(ShardId(to), ShardMessage::Segment(note));
                    }
                },
                Effect::Drained { partition } => {
                    tracing::info!(partition, "nothing of any shard is left in that partition");
                },
                Effect::Closed => self.is_closed = true,
            }
        }
    }

    fn done(&mut self, shard: &mut Shard, done: Done) {
        match self.errands.remove(&done.ticket) {
            Some(Errand::Spill(tenant, number)) => {
                spill::on_done(self, shard, tenant, number, done.result);
            },
            Some(Errand::Tombstone(owed)) => pay(shard, &owed),
            None => {},
        }
    }

    /// Keeps the device's older copy of a key from coming back.
    fn bury(&mut self, hash: KeyHash) -> Burial {
        match self.store.delete(hash, now()) {
            Delete::Queued(ticket) => Burial::Waits(ticket),
            Delete::Absent => Burial::Done,
            // Of a device that was given up nothing is served until an operator has looked at it.
            Delete::Refused if self.store.stats().is_retired => Burial::Done,
            Delete::Refused => Burial::Refused,
        }
    }

    fn owe(&mut self, ticket: Ticket, owed: Owed) {
        let before = self
            .errands
            .insert(ticket, Errand::Tombstone(Box::new(owed)));
        assert!(before.is_none(), "a ticket is given once");
    }
}

/// Gives an answer that had to wait.
fn pay(shard: &mut Shard, owed: &Owed) {
    answer(shard, owed.tenant, &owed.asker, &owed.answer, owed.reply);
}

/// Answers whoever asked, wherever it came from.
fn answer(shard: &mut Shard, tenant: TenantId, asker: &Asker, answer: &Answer, reply: Reply) {
    match *asker {
        Asker::Local {
            place,
            session,
            token,
            opcode,
            taken_ns,
            ..
        } => {
            if shard.sessions.find(session) == Some(place) {
                shard.sessions.post(place, &completion(token, answer));
                shard.count_operation(opcode, answer.status, taken_ns);
            }
        },
        Asker::Remote { from, ticket, .. } => shard.reply(from, ticket, tenant, reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_waits_for_the_device_three_quarters_of_its_time() {
        let asker = |deadline_ns| Asker::Local {
            place: Place(0),
            session: SessionId::default(),
            token: 0,
            opcode: 0,
            taken_ns: 1_000,
            deadline_ns,
        };
        assert!(!asker(5_000).has_waited_enough(3_999));
        assert!(asker(5_000).has_waited_enough(4_000));
        assert!(
            asker(500).has_waited_enough(1_000),
            "it was late when it came"
        );
        assert!(
            !asker(0).has_waited_enough(u64::MAX),
            "no deadline of its own"
        );
    }
}
