//! Everything one shard owns, and the small things that every handler needs of it.
//!
//! Lives on: owner shard, behind one `Rc<RefCell<_>>` that the pass and the connections' tasks
//! share; nobody holds the borrow across an await. The pass (`pass.rs`) drives it; handlers change
//! it; `mail.rs` carries what leaves it.

use std::collections::VecDeque;
use std::sync::Arc;

use chariot_base::{GranuleIndex, ShardId, TenantId};
use chariot_proto::{KeyHash, Opcode, Status};
use chariot_shard::monotonic_ns;

use crate::call::Reply;
use crate::granules::{GranuleHome, Vacating};
use crate::handlers::calls;
use crate::handlers::staged_publish::StagedCopy;
use crate::limits::WAKES_PER_PASS;
use crate::mail::Mail;
use crate::message::{GranuleMessage, ShardMessage};
use crate::metadata::MetadataPool;
use crate::node::Shared;
use crate::reply::completion;
use crate::request::{Answer, Outcome};
use crate::seam::ShardStats;
use crate::session::Sessions;
use crate::tenant::TenantShard;
use crate::tickets::{TicketId, Tickets};
use crate::tier::Tier;
use crate::watching::{Watched, Watching, caller_shard};

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Its number.
    pub(crate) id: ShardId,
    /// What the whole node knows and nobody changes.
    pub(crate) shared: Arc<Shared>,
    /// By tenant number.
    pub(crate) tenants: Vec<Option<TenantShard>>,
    /// What its tenants share for their records.
    pub(crate) metadata: MetadataPool,
    /// Local sessions.
    pub(crate) sessions: Sessions,
    /// Gets that wait for their keys.
    pub(crate) watching: Watching,
    /// Calls of this shard's connections.
    pub(crate) tickets: Tickets,
    /// Messages to other shards.
    pub(crate) mail: Mail,
    /// Only on shard 0.
    pub(crate) home: Option<GranuleHome>,
    /// Granules on their way out, by tenant.
    pub(crate) vacating: VecDeque<(TenantId, Vacating)>,
    /// The SSD tier, where there is one; taken out while somebody works with it (`tier::with`).
    pub(crate) tier: Option<Box<Tier>>,
    /// Counters that no part below keeps itself.
    pub(crate) counters: ShardStats,
    /// Time of this pass, monotonic nanoseconds.
    pub(crate) now_ns: u64,
    /// Time of this pass, coarse monotonic milliseconds: the clock of expiries.
    pub(crate) now_ms: u64,
    /// Connections served now.
    pub(crate) connections: usize,
    /// Requests of connections between their header and their answer.
    pub(crate) requests: usize,
    /// While the node stops, memory is written out to the SSD tier until then.
    pub(crate) drain_to_ssd_until_ns: u64,
    /// No new work: the node drains.
    pub(crate) draining: bool,
    /// Values of strict sessions that are being copied. Bound: requests in flight.
    pub(crate) copies: VecDeque<StagedCopy>,
    woken: Vec<Watched>,
}

impl Shard {
    /// Makes an empty shard.
    pub(crate) fn new(
        id: ShardId,
        shared: Arc<Shared>,
        mail: Mail,
        home: Option<GranuleHome>,
    ) -> Self {
        let metadata = MetadataPool::new(shared.records_per_shard(), shared.tenants_max());
        Self {
            id,
            metadata,
            shared,
            tenants: Vec::new(),
            sessions: Sessions::default(),
            watching: Watching::default(),
            tickets: Tickets::default(),
            mail,
            home,
            vacating: VecDeque::new(),
            tier: None,
            counters: ShardStats::default(),
            now_ns: monotonic_ns(),
            now_ms: chariot_shm::clock::coarse_ms(),
            connections: 0,
            requests: 0,
            drain_to_ssd_until_ns: 0,
            draining: false,
            copies: VecDeque::new(),
            woken: Vec::new(),
        }
    }

    /// A tenant's share. Every shard knows a tenant before any session or connection of it.
    pub(crate) fn tenant_mut(&mut self, tenant: TenantId) -> &mut TenantShard {
        self.tenants[usize::from(tenant.0)]
            .as_mut()
            .expect("known before its first session")
    }

    /// A tenant's share and the sessions whose pins it asks about.
    pub(crate) fn tenant_and_sessions(
        &mut self,
        tenant: TenantId,
    ) -> (&mut TenantShard, &mut Sessions) {
        let share = self.tenants[usize::from(tenant.0)]
            .as_mut()
            .expect("known before its first session");
        (share, &mut self.sessions)
    }

    /// Notes that a key was just published: whoever waits for it is told in this round or, when
    /// there are many, in the next ones.
    pub(crate) fn wake_watchers(&mut self, tenant: TenantId, hash: KeyHash) {
        if self.watching.len() > 0 {
            self.watching.note_published(tenant, hash);
        }
    }

    /// Tells those who wait for published keys, at most [`WAKES_PER_PASS`] of them; says whether
    /// anybody was told.
    pub(crate) fn tell_watchers(&mut self) -> bool {
        let mut left = WAKES_PER_PASS;
        let mut told = false;
        while left > 0
            && let Some((tenant, hash)) = self.watching.next_published()
        {
            let now_ms = self.now_ms;
            let entry = self.tenant_mut(tenant).store.lookup(hash, now_ms);
            let Some(entry) = entry else {
                // Gone again before its turn came: they wait on.
                self.watching.pass_over();
                continue;
            };
            let mut woken = std::mem::take(&mut self.woken);
            self.watching.take_woken(left, &mut woken);
            for watched in woken.drain(..) {
                left -= 1;
                told = true;
                // A connection's read is counted where it is held.
                if caller_shard(watched.session).is_none() {
                    self.count_read(entry.extent.len);
                }
                let found = crate::handlers::get::found(&entry);
                self.answer_watched(&watched, Outcome::Done(found));
            }
            self.woken = woken;
        }
        told
    }

    /// Answers a get whose wait is over, wherever it came from.
    pub(crate) fn answer_watched(&mut self, watched: &Watched, outcome: Outcome) {
        let Outcome::Done(answer) = outcome else {
            unreachable!("a wait ends with an answer")
        };
        if let Some(from) = caller_shard(watched.session) {
            let ticket = TicketId(u32::try_from(watched.token).expect("the token is a ticket"));
            let now_ms = self.now_ms;
            let entry = self
                .tenant_mut(watched.tenant)
                .store
                .peek(watched.hash, now_ms);
            let reply = match entry {
                Some(entry) if answer.status.is_ok() => {
                    Reply::Found(calls::found(self, watched.tenant, &entry, true))
                },
                _ => Reply::status(answer.status),
            };
            self.reply(from, ticket, watched.tenant, reply);
            return;
        }
        let Some(place) = self.sessions.find(watched.session) else {
            return;
        };
        let token = u32::try_from(watched.token).expect("a ring's token has 32 bits");
        self.sessions.post(place, &completion(token, &answer));
        self.count_operation(Opcode::Wait.as_u8(), answer.status, watched.taken_ns);
    }

    /// The most that one local session may lease on this shard at its own request, beyond its idle
    /// budget: half the arena, as one value may. Not a share of it: memory is the node's and not a
    /// shard's, and a buffer that is being filled in place counts as idle here, so that a share of
    /// 32 MiB refused the fourth buffer of 10 MiB to the only writer of an empty node of 256 MiB.
    pub(crate) fn lease_most_bytes(&self) -> u64 {
        self.shared.options.memory_bytes / 2
    }

    /// Sends the answer of a call to where it came from.
    pub(crate) fn reply(
        &mut self,
        from: ShardId,
        ticket: TicketId,
        tenant: TenantId,
        reply: Reply,
    ) {
        let message = ShardMessage::Reply {
            ticket,
            tenant,
            from: self.id,
            reply,
        };
        self.mail.send(from, message);
    }

    /// Sends a message to the granule home.
    pub(crate) fn tell_home(&mut self, message: GranuleMessage) {
        self.mail.send(ShardId(0), ShardMessage::Granule(message));
    }

    /// Gives an empty granule back.
    pub(crate) fn return_granule(&mut self, tenant: TenantId, granule: GranuleIndex) {
        self.tenant_mut(tenant).extents.remove_granule(granule);
        let shard = self.id;
        self.tell_home(GranuleMessage::Returned {
            shard,
            tenant,
            granule,
        });
    }

    /// Counts a finished operation of a ring, by the table of the seam.
    pub(crate) fn count_operation(&mut self, opcode: u8, status: Status, taken_ns: u64) {
        let Some(operation) = operation_index(opcode) else {
            return;
        };
        let elapsed_ns = monotonic_ns().saturating_sub(taken_ns);
        self.counters.operations[operation][status.class() as usize] += 1;
        self.counters.latencies[operation].observe(elapsed_ns);
    }

    /// Counts a hit and the bytes handed out.
    pub(crate) fn count_read(&mut self, bytes: u64) {
        self.counters.hits += 1;
        self.counters.bytes_read += bytes;
    }

    /// Counts a miss.
    pub(crate) fn count_miss(&mut self) {
        self.counters.misses += 1;
    }

    /// Counts bytes that became a value.
    pub(crate) fn count_written(&mut self, bytes: u64) {
        self.counters.bytes_written += bytes;
    }
}

/// An answer as an outcome, for callers that hold a status.
impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Done(answer)
    }
}

/// The row of an opcode in `seam::OPERATIONS`; `None` for what is not counted.
pub(crate) fn operation_index(opcode: u8) -> Option<usize> {
    let name = match Opcode::from_u8(opcode)? {
        Opcode::Set => "set",
        Opcode::Publish | Opcode::StagedPublish => "publish",
        Opcode::Get => "get",
        Opcode::View => "view",
        Opcode::Exist => "exist",
        Opcode::Prefix => "prefix",
        Opcode::Size => "size",
        Opcode::Delete => "delete",
        Opcode::Expire => "expire",
        Opcode::Wait => "wait",
        Opcode::LeaseGrant | Opcode::LeaseReturn => "lease",
        Opcode::ObjectLatch => "latch",
        Opcode::ObjectRef => "reference",
        Opcode::ObjectNest => "nest",
        Opcode::ObjectBind => "bind",
        Opcode::MultiSetTx => "transaction",
        _ => return None,
    };
    crate::seam::OPERATIONS
        .iter()
        .position(|&operation| operation == name)
}

#[cfg(test)]
mod tests {
    use chariot_proto::StatusClass;

    use super::*;

    #[test]
    fn classes_are_the_columns_of_the_seam() {
        let classes = [
            StatusClass::Ok,
            StatusClass::Retry,
            StatusClass::Busy,
            StatusClass::Missing,
            StatusClass::Conflict,
            StatusClass::Invalid,
            StatusClass::Denied,
            StatusClass::Internal,
        ];
        for (index, class) in classes.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            assert_eq!(class.name(), crate::seam::RESULTS[index]);
        }
    }

    #[test]
    fn every_counted_operation_has_a_row() {
        for opcode in 0..=u8::MAX {
            if let Some(row) = operation_index(opcode) {
                assert!(row < crate::seam::OPERATIONS.len());
            }
        }
        assert_eq!(operation_index(Opcode::Set.as_u8()), Some(0));
        assert_eq!(operation_index(Opcode::Nop.as_u8()), None);
    }
}
