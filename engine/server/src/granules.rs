//! Granules between shards: what a shard knows and asks for, and the home that gives them out.
//!
//! Lives on: every shard has a [`GranuleState`] per tenant; shard 0 has the [`GranuleHome`] with
//! the node's ledger and the populate threads. A shard asks ahead of need. The home grants
//! populated granules; while none is free it says `Exhausted`, keeps the request in line, and the
//! shard evicts among its own; where that cannot help (a value longer than a granule, a shard with
//! less than its share) it asks others to vacate. A granule handed over is empty: its last holder
//! evicted what lived there and waited until no pin was left.
//!
//! Messages: `message.rs` [`GranuleMessage`]. Pure decisions: `chariot_memory::GranuleLedger`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chariot_base::limits::GRANULE_BYTES;
use chariot_base::{GranuleIndex, RecordId, ShardId, TenantId};
use chariot_memory::{
    ArenaMemory, Grant, GranuleLedger, GranuleWork, Haste, LedgerOptions, LedgerStats,
    PopulateDone, PopulateJob, PopulateThreads, TakeOutcome, TakeTicket, VacatePlan,
};

use crate::message::GranuleMessage;

#[cfg(test)]
mod tests;

/// How long a shard evicts on its own before it asks the home again, in milliseconds.
const RETRY_MS: u64 = 20;
/// How long the home waits before it repeats a plan whose granules have not come, in milliseconds.
/// Longer than a shard tries ([`Vacating::TRY_MS`]): what is under way is not asked for again, from
/// other granules.
const PLAN_RETRY_MS: u64 = Vacating::TRY_MS + 50;
/// How long a hole that could not be punched waits for its next try, in milliseconds: the kernel is
/// short of something, and one try after another would be all that the helper does.
const PUNCH_RETRY_MS: u64 = 1_000;

/// What a shard knows of the node's free granules, for one tenant.
#[derive(Debug, Default)]
pub(crate) struct GranuleState {
    /// Granules in a row that are needed and not asked for yet.
    wanted: u32,
    /// Granules in a row asked for because something needs them.
    asked: u32,
    /// The home has none free; the request stays in line.
    exhausted: bool,
    /// One granule ahead of need: asked for, or refused since the last grant.
    ahead: Ahead,
}

/// The request ahead of need.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    #[default]
    No,
    /// To be asked for in this pass.
    Wanted,
    /// Asked for, or refused: not again before the next grant.
    Over,
}

impl GranuleState {
    /// Notes that a value of `len` bytes found no room.
    pub(crate) fn want(&mut self, len: u64) {
        let adjacent = u32::try_from(len.div_ceil(GRANULE_BYTES)).unwrap_or(u32::MAX);
        if adjacent > self.asked {
            self.wanted = self.wanted.max(adjacent);
        }
    }

    /// Notes that room runs low.
    pub(crate) fn want_ahead(&mut self) {
        if self.ahead == Ahead::No && self.asked == 0 && !self.exhausted {
            self.ahead = Ahead::Wanted;
        }
    }

    /// Takes the request that the pass sends, if there is one: how many in a row, and whether it
    /// is ahead of need.
    pub(crate) fn take_request(&mut self) -> Option<(u32, bool)> {
        if self.wanted > 0 {
            self.asked = std::mem::take(&mut self.wanted);
            return Some((self.asked, false));
        }
        if self.ahead == Ahead::Wanted {
            self.ahead = Ahead::Over;
            return Some((1, true));
        }
        None
    }

    /// Gives up asking for granules in a row when nobody waits for that much any more; says whether
    /// the home has to know. It serves in order, so that a stale request for much would keep every
    /// other shard waiting.
    pub(crate) fn take_withdrawal(&mut self) -> bool {
        let is_stale = self.asked > 1 && self.wanted == 0;
        if is_stale {
            *self = Self::default();
        }
        is_stale
    }

    /// The home has none: evict.
    pub(crate) fn on_exhausted(&mut self) {
        self.exhausted = true;
    }

    /// Granules came.
    pub(crate) fn on_granted(&mut self) {
        *self = Self::default();
    }

    /// Whether the shard must evict to make room.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.exhausted
    }
}

/// A granted run whose pages are still being made.
#[derive(Debug)]
struct Unready {
    grant: Grant,
    missing: u32,
}

/// The home's side: ledger, populate threads, and what it told whom.
#[derive(Debug)]
pub(crate) struct GranuleHome {
    ledger: GranuleLedger,
    populate: PopulateThreads,
    arenas: BTreeMap<TenantId, Arc<ArenaMemory>>,
    waiting: BTreeMap<(TenantId, ShardId), (TakeTicket, u32)>,
    unready: Vec<Unready>,
    /// Urgent jobs that the helper's queue had no room for, and those to repeat. Bound: granules.
    held_urgent: VecDeque<PopulateJob>,
    /// The one job ahead that the helper's queue had no room for.
    held_ahead: Option<PopulateJob>,
    /// Granules that the ahead thread has begun or will begin. Bound: its queue and two.
    begun_ahead: Vec<PopulateJob>,
    /// Punches that failed, and when each is tried again. Bound: granules.
    paused_jobs: VecDeque<(u64, PopulateJob)>,
    plan_after_ms: u64,
    /// Answers that the question for empty granules still waits for; 0 = none is under way.
    spares_due: u32,
    /// What each shard may keep in the question under way.
    spares_keep: u32,
    /// Who learns at the end of a question that there is nothing.
    untold: Vec<(TenantId, ShardId)>,
    /// Who is asked about again once the punches under way are over. Bound: as `waiting`.
    behind_punch: Vec<(TenantId, ShardId)>,
    /// Who asked ahead of need and is tried again at its end.
    ahead: Vec<(TenantId, ShardId)>,
    outgoing: VecDeque<(ShardId, GranuleMessage)>,
    failures: u64,
}

impl GranuleHome {
    /// Makes the home of an unpopulated node, on the control thread: the helper threads may run
    /// where their maker may, and must not share a shard's core. `on_done` runs on them: it sends
    /// the result to shard 0.
    pub(crate) fn new(
        options: LedgerOptions,
        on_done: impl FnMut(PopulateDone) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        Ok(Self {
            ledger: GranuleLedger::new(options),
            populate: PopulateThreads::start(on_done)?,
            arenas: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unready: Vec::new(),
            held_urgent: VecDeque::new(),
            held_ahead: None,
            begun_ahead: Vec::new(),
            paused_jobs: VecDeque::new(),
            plan_after_ms: 0,
            spares_due: 0,
            spares_keep: 0,
            untold: Vec::new(),
            behind_punch: Vec::new(),
            ahead: Vec::new(),
            outgoing: VecDeque::new(),
            failures: 0,
        })
    }

    /// Knows a tenant; the first one has the node's memory populated ahead for it.
    pub(crate) fn add_tenant(&mut self, tenant: TenantId, arena: Arc<ArenaMemory>) {
        self.ledger.add_tenant(tenant);
        let first = self.arenas.is_empty();
        let before = self.arenas.insert(tenant, arena);
        assert!(before.is_none());
        if first {
            self.ledger.populate_ahead(tenant);
        }
        self.submit_work();
    }

    /// A shard asks for granules in a row.
    pub(crate) fn on_want(&mut self, shard: ShardId, tenant: TenantId, adjacent: u32, ahead: bool) {
        if ahead {
            self.on_want_ahead(shard, tenant);
            return;
        }
        if let Some(&(ticket, count)) = self.waiting.get(&(tenant, shard)) {
            if count >= adjacent {
                self.refuse(tenant, shard);
                return;
            }
            self.ledger.cancel(ticket);
            self.waiting.remove(&(tenant, shard));
        }
        match self.ledger.take(tenant, shard, adjacent) {
            TakeOutcome::Granted(grant) => self.hand_out(grant),
            TakeOutcome::Waiting(ticket) => {
                self.waiting.insert((tenant, shard), (ticket, adjacent));
                // Nobody evicts while another shard holds an empty granule.
                self.untold.push((tenant, shard));
                self.ask_for_spares();
            },
            TakeOutcome::TooLarge => self.tell(shard, GranuleMessage::Exhausted { tenant }),
        }
        self.submit_work();
    }

    /// A shard asks for one granule before it needs it: a free one, or one that lies empty beside
    /// another empty one elsewhere. A refusal is silence: the shard asks again when something needs
    /// it, or after its next grant.
    fn on_want_ahead(&mut self, shard: ShardId, tenant: TenantId) {
        if !self.try_ahead(shard, tenant) {
            self.ahead.push((tenant, shard));
            self.ask_for_spares();
        }
        self.submit_work();
    }

    fn try_ahead(&mut self, shard: ShardId, tenant: TenantId) -> bool {
        match self.ledger.take(tenant, shard, 1) {
            TakeOutcome::Granted(grant) => {
                self.hand_out(grant);
                true
            },
            TakeOutcome::Waiting(ticket) => {
                let was_waiting = self.ledger.cancel(ticket);
                assert!(was_waiting, "it was queued a moment ago");
                false
            },
            TakeOutcome::TooLarge => false,
        }
    }

    /// Asks every shard for its empty granules, one question at a time.
    fn ask_for_spares(&mut self) {
        if self.spares_due > 0 || (self.untold.is_empty() && self.ahead.is_empty()) {
            return;
        }
        let keep = u32::from(self.untold.is_empty());
        self.spares_keep = keep;
        self.spares_due = u32::from(self.ledger.shard_count());
        for number in 0..self.ledger.shard_count() {
            self.tell(ShardId(number), GranuleMessage::Spare { keep });
        }
    }

    /// A shard has given back what it had empty. At the end of a question, requests ahead are tried
    /// once more, and who still waits learns that there is nothing but eviction.
    pub(crate) fn on_spared(&mut self) {
        assert!(self.spares_due > 0, "every answer was asked for");
        self.spares_due -= 1;
        if self.spares_due > 0 {
            return;
        }
        for (tenant, shard) in std::mem::take(&mut self.ahead) {
            self.try_ahead(shard, tenant);
        }
        if self.spares_keep == 0 {
            for (tenant, shard) in std::mem::take(&mut self.untold) {
                self.refuse(tenant, shard);
            }
        }
        self.submit_work();
        self.ask_for_spares();
    }

    /// Tells a shard that waits that there is nothing but eviction, unless memory is on its way.
    fn refuse(&mut self, tenant: TenantId, shard: ShardId) {
        if !self.waiting.contains_key(&(tenant, shard)) {
            return;
        }
        let is_its =
            |unready: &Unready| (unready.grant.tenant, unready.grant.shard) == (tenant, shard);
        if self.unready.iter().any(is_its) {
            // It asks again after the grant, if that does not do.
            return;
        }
        // Those that failed and wait for another try may fail for ever.
        if self.ledger.punches_under_way() > self.paused_jobs.len() {
            if !self.behind_punch.contains(&(tenant, shard)) {
                self.behind_punch.push((tenant, shard));
            }
            return;
        }
        self.tell(shard, GranuleMessage::Exhausted { tenant });
    }

    /// A shard no longer needs the granules that it waits for.
    pub(crate) fn on_withdrawn(&mut self, shard: ShardId, tenant: TenantId) {
        if let Some((ticket, _)) = self.waiting.remove(&(tenant, shard)) {
            let was_waiting = self.ledger.cancel(ticket);
            assert!(was_waiting, "what waits here waits in the ledger");
            self.plan_after_ms = 0;
            self.serve();
        }
    }

    /// A granule comes back empty.
    pub(crate) fn on_returned(&mut self, shard: ShardId, tenant: TenantId, granule: GranuleIndex) {
        self.ledger.give_back(tenant, shard, granule);
        self.serve();
    }

    /// A populate thread finished a job.
    pub(crate) fn on_done(&mut self, done: &PopulateDone, now_ms: u64) {
        match (&done.result, done.work) {
            (Err(error), GranuleWork::Punch { tenant, granule }) => {
                tracing::warn!(%error, granule = granule.0, "granule not punched; trying again");
                self.failures += 1;
                let arena = Arc::clone(&self.arenas[&tenant]);
                let job = PopulateJob::new(done.work, arena);
                self.paused_jobs.push_back((now_ms + PUNCH_RETRY_MS, job));
            },
            (result, work) => {
                if let Err(error) = result {
                    // Usable all the same: the first touch makes the page, or fails as it would
                    // have.
                    tracing::warn!(%error, ?work, "short of memory: granule not populated");
                    self.failures += 1;
                }
                self.begun_ahead.retain(|job| job.work() != work);
                self.ledger.work_done(work);
                self.on_populated(work);
            },
        }
        self.serve();
        if matches!(done.work, GranuleWork::Punch { .. }) {
            for (tenant, shard) in std::mem::take(&mut self.behind_punch) {
                self.refuse(tenant, shard);
            }
        }
    }

    fn on_populated(&mut self, work: GranuleWork) {
        let GranuleWork::Populate { tenant, granule } = work else {
            return;
        };
        let mut ready = Vec::new();
        self.unready.retain_mut(|unready| {
            let grant = unready.grant;
            let inside = grant.first.0 <= granule.0 && granule.0 - grant.first.0 < grant.count;
            if grant.tenant == tenant && inside {
                unready.missing -= 1;
            }
            if unready.missing == 0 {
                ready.push(grant);
            }
            unready.missing > 0
        });
        for grant in ready {
            self.send_grant(grant);
        }
    }

    fn serve(&mut self) {
        while let Some((ticket, grant)) = self.ledger.poll_grant() {
            let waiter = self.waiting.remove(&(grant.tenant, grant.shard));
            assert_eq!(waiter.map(|(waiting, _)| waiting), Some(ticket));
            self.plan_after_ms = 0;
            self.hand_out(grant);
        }
        self.submit_work();
    }

    fn hand_out(&mut self, grant: Grant) {
        if grant.populated {
            self.send_grant(grant);
            return;
        }
        let mut missing = 0;
        for granule in (0..grant.count).map(|step| GranuleIndex(grant.first.0 + step)) {
            let tenant = grant.tenant;
            if self.ledger.is_populated(tenant, granule) {
                continue;
            }
            missing += 1;
            // Others were not begun: the ledger has moved them to what is urgent.
            let work = GranuleWork::Populate { tenant, granule };
            let begun = self.begun_ahead.iter().find(|job| job.work() == work);
            self.held_urgent.extend(begun.cloned());
        }
        self.unready.push(Unready { grant, missing });
    }

    fn send_grant(&mut self, grant: Grant) {
        let Grant {
            tenant,
            shard,
            first,
            count,
            ..
        } = grant;
        self.tell(
            shard,
            GranuleMessage::Granted {
                tenant,
                first,
                count,
            },
        );
    }

    fn tell(&mut self, shard: ShardId, message: GranuleMessage) {
        self.outgoing.push_back((shard, message));
    }

    fn submit_work(&mut self) {
        while let Some(job) = self.next_urgent() {
            if let Err(job) = self.populate.try_submit(job, Haste::Urgent) {
                self.held_urgent.push_front(job);
                break;
            }
        }
        while let Some(job) = self.next_ahead() {
            if let Err(job) = self.populate.try_submit(job, Haste::Ahead) {
                self.held_ahead = Some(job);
                break;
            }
        }
    }

    fn next_urgent(&mut self) -> Option<PopulateJob> {
        if let Some(job) = self.held_urgent.pop_front() {
            return Some(job);
        }
        let work = self.ledger.next_urgent()?;
        Some(self.job(work))
    }

    fn next_ahead(&mut self) -> Option<PopulateJob> {
        if let Some(job) = self.held_ahead.take() {
            return Some(job);
        }
        let work = self.ledger.next_ahead()?;
        let job = self.job(work);
        self.begun_ahead.push(job.clone());
        Some(job)
    }

    fn job(&self, work: GranuleWork) -> PopulateJob {
        let (GranuleWork::Populate { tenant, .. } | GranuleWork::Punch { tenant, .. }) = work;
        PopulateJob::new(work, Arc::clone(&self.arenas[&tenant]))
    }

    /// Asks other shards to give up memory for the first in line, where eviction at home cannot
    /// help: it needs several granules in a row, or holds less than its share. Called now and then.
    pub(crate) fn plan(&mut self, now_ms: u64) {
        self.resume(now_ms);
        if self.waiting.is_empty() || now_ms < self.plan_after_ms {
            return;
        }
        self.plan_after_ms = now_ms + PLAN_RETRY_MS;
        // Since the last question something may have become empty.
        if let Some(first) = self.ledger.first_waiting() {
            if !self.untold.contains(&first) {
                self.untold.push(first);
            }
            self.ask_for_spares();
        }
        let stats = self.ledger.stats();
        let share = stats.granule_count / u32::from(self.ledger.shard_count());
        let needy = self
            .waiting
            .iter()
            .any(|(&(tenant, shard), &(_, adjacent))| {
                adjacent > 1 || self.ledger.held_count(tenant, shard) < share.max(1)
            });
        if !needy {
            return;
        }
        let Some((_, plan)) = self.ledger.vacate_plan() else {
            return;
        };
        let VacatePlan { granules, any } = plan;
        let first = self.ledger.first_waiting().expect("a plan is for somebody");
        for (holder, granule) in granules {
            self.tell(
                holder,
                GranuleMessage::Vacate {
                    tenant: first.0,
                    granule: Some(granule),
                },
            );
        }
        for (tenant, holder, count) in any {
            for _ in 0..count {
                self.tell(
                    holder,
                    GranuleMessage::Vacate {
                        tenant,
                        granule: None,
                    },
                );
            }
        }
    }

    /// Tries those punches again whose pause is over.
    fn resume(&mut self, now_ms: u64) {
        let due = |paused: &(u64, PopulateJob)| paused.0 <= now_ms;
        if !self.paused_jobs.front().is_some_and(due) {
            return;
        }
        while self.paused_jobs.front().is_some_and(due) {
            let (_, job) = self.paused_jobs.pop_front().expect("looked at it");
            self.held_urgent.push_back(job);
        }
        self.submit_work();
    }

    /// When the home wants to look at its plans again.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let plan = (!self.waiting.is_empty()).then_some(self.plan_after_ms);
        let paused = self.paused_jobs.front().map(|&(due_ms, _)| due_ms);
        plan.into_iter().chain(paused).min()
    }

    /// Takes the next message to a shard.
    pub(crate) fn take_outgoing(&mut self) -> Option<(ShardId, GranuleMessage)> {
        self.outgoing.pop_front()
    }

    /// Jobs of the populate threads that failed: pages not made ahead, holes not punched.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// The ledger's counts.
    pub(crate) fn stats(&self) -> LedgerStats {
        self.ledger.stats()
    }
}

/// A granule that a shard empties for others.
#[derive(Debug)]
pub(crate) struct Vacating {
    /// Which one.
    pub(crate) granule: GranuleIndex,
    /// Until when it is tried; kept objects may make it impossible.
    pub(crate) until_ms: u64,
    /// Who lived there when it was last looked through.
    pub(crate) tags: Vec<RecordId>,
}

impl Vacating {
    /// How long a granule is tried to be emptied before its memory is used again.
    pub(crate) const TRY_MS: u64 = 10 * RETRY_MS;

    /// Begins to empty a granule that was just closed.
    pub(crate) const fn new(granule: GranuleIndex, until_ms: u64) -> Self {
        Self {
            granule,
            until_ms,
            tags: Vec::new(),
        }
    }
}
