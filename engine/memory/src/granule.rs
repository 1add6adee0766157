//! Who holds which granule of memory: the node's one ledger, kept by the first shard.
//!
//! Lives on: shard 0, the "granule home"; other shards reach it by mailbox. Pure: it decides, the
//! arena and the populate threads act.
//!
//! A tenant's arena is virtual, twice as many granules as the node has memory; a granule of memory
//! is a credit, and a virtual granule takes one when it is backed. So a run of adjacent granules is
//! always found without giving up more memory than the run costs.
//!
//! ```text
//!            take: credit                 work_done             take
//!   unbacked ------------> populating ---------------> ready ----------> held by a shard
//!      ^                       | (holder or not)        |  ^---------------'
//!      |                       v unstarted: at once     v        give_back
//!      '-------------------------------------------- punching   (contents stay: same tenant)
//! ```
//!
//! Memory that changes tenant goes through the hole punch, so the kernel zeroes it. A shard prefers
//! its own home stretch of the arena, and there the neighbours of what it holds, so that its
//! granules lie side by side.
//!
//! A shard that gets nothing waits in order; [`GranuleLedger::vacate_plan`] says who must give up
//! what, and the run it names is reserved until the waiter is served or gives up.

use std::collections::{BTreeMap, VecDeque};

use chariot_base::limits::{GRANULE_BYTES, SHARDS_MAX, TENANTS_MAX, VIRTUAL_FACTOR};
use chariot_base::{GranuleIndex, ShardId, TenantId};

mod search;
#[cfg(test)]
mod tests;

use search::{Cell, Found, best_run};

/// Sizes of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct LedgerOptions {
    /// Granules of memory on this node, of 64 MiB each; at least one per shard.
    pub granule_count: u32,
    /// Shards of this node.
    pub shard_count: u16,
}

/// Adjacent granules that belong to the taker from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose arena.
    pub tenant: TenantId,
    /// Who holds them.
    pub shard: ShardId,
    /// The lowest of them.
    pub first: GranuleIndex,
    /// How many.
    pub count: u32,
    /// All pages are there; otherwise the populate threads are on their way, and a first touch
    /// costs.
    pub populated: bool,
}

/// Names one waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TakeTicket(u64);

/// What became of a request for granules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOutcome {
    /// Here they are.
    Granted(Grant),
    /// Queued: [`GranuleLedger::poll_grant`] will serve it.
    Waiting(TakeTicket),
    /// More than the node has: never.
    TooLarge,
}

/// Something for the populate threads to do; report it with [`GranuleLedger::work_done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GranuleWork {
    /// Make all pages of the granule present, without changing bytes.
    Populate {
        /// Whose arena.
        tenant: TenantId,
        /// Which granule.
        granule: GranuleIndex,
    },
    /// Give the granule's pages back to the kernel.
    Punch {
        /// Whose arena.
        tenant: TenantId,
        /// Which granule.
        granule: GranuleIndex,
    },
}

/// Who must give up what, so that a waiting request can be served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VacatePlan {
    /// These granules, because they lie in the run.
    pub granules: Vec<(ShardId, GranuleIndex)>,
    /// So many granules of their choice from these shards, coldest first.
    pub any: Vec<(TenantId, ShardId, u32)>,
}

/// Counts for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Granules of memory on the node.
    pub granule_count: u32,
    /// Of those, backing some virtual granule.
    pub backed_count: u32,
    /// Of those, held by shards.
    pub held_count: u32,
    /// Bytes whose pages are present.
    pub populated_bytes: u64,
    /// Requests that wait.
    pub waiting_count: u32,
}

#[derive(Debug)]
struct Waiter {
    ticket: TakeTicket,
    tenant: TenantId,
    shard: ShardId,
    count: u32,
    /// First granule of the run that its plan reserved.
    reserved: Option<u32>,
}

/// Keeps who holds which granule. Lives on: shard 0.
#[derive(Debug)]
pub struct GranuleLedger {
    options: LedgerOptions,
    tenants: BTreeMap<TenantId, Vec<Cell>>,
    backed: u32,
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
    punches: VecDeque<GranuleWork>,
    /// Granules that a shard holds and will touch soon.
    urgent: VecDeque<GranuleWork>,
    /// Granules populated for whoever comes.
    ahead: VecDeque<GranuleWork>,
    coldness: BTreeMap<(TenantId, ShardId), u64>,
}

impl GranuleLedger {
    /// Makes a ledger of unbacked memory without tenants.
    ///
    /// # Panics
    /// When there is no shard, more shards than the limit, or fewer granules than shards.
    pub fn new(options: LedgerOptions) -> Self {
        assert!(options.shard_count > 0);
        assert!(usize::from(options.shard_count) <= SHARDS_MAX);
        assert!(options.granule_count >= u32::from(options.shard_count));
        Self {
            options,
            tenants: BTreeMap::new(),
            backed: 0,
            waiters: VecDeque::new(),
            next_ticket: 0,
            punches: VecDeque::new(),
            urgent: VecDeque::new(),
            ahead: VecDeque::new(),
            coldness: BTreeMap::new(),
        }
    }

    /// Returns how many virtual granules a tenant's arena has.
    pub const fn virtual_granules(&self) -> u32 {
        self.options.granule_count * VIRTUAL_FACTOR
    }

    /// Makes room in the books for a tenant.
    ///
    /// # Panics
    /// When the tenant is known, or one too many.
    pub fn add_tenant(&mut self, tenant: TenantId) {
        assert!(self.tenants.len() < TENANTS_MAX);
        let cells = vec![Cell::Unbacked; self.virtual_granules() as usize];
        let known = self.tenants.insert(tenant, cells);
        assert!(known.is_none(), "{tenant} is known already");
    }

    /// Has all memory populated ahead in the shards' home stretches, evenly, for this tenant.
    ///
    /// # Panics
    /// When the tenant is unknown.
    pub fn populate_ahead(&mut self, tenant: TenantId) {
        let spare = self.options.granule_count - self.backed;
        let mut placed = 0;
        for depth in 0..self.virtual_granules() {
            for shard in 0..self.options.shard_count {
                let home = self.home_of(ShardId(shard));
                let index = home.start + depth;
                if placed == spare {
                    return;
                }
                let cells = self.tenants.get_mut(&tenant).expect("a known tenant");
                if index < home.end && cells[index as usize] == Cell::Unbacked {
                    cells[index as usize] = Cell::Populating { holder: None };
                    self.backed += 1;
                    placed += 1;
                    let granule = GranuleIndex(index);
                    self.ahead
                        .push_back(GranuleWork::Populate { tenant, granule });
                }
            }
        }
    }

    fn home_of(&self, shard: ShardId) -> std::ops::Range<u32> {
        let shards = u32::from(self.options.shard_count);
        let place = |shard: u32| {
            let wide = u64::from(self.virtual_granules()) * u64::from(shard) / u64::from(shards);
            u32::try_from(wide).expect("below the virtual size")
        };
        place(u32::from(shard.0))..place(u32::from(shard.0) + 1)
    }

    /// Asks for `count` adjacent granules. O(virtual granules).
    ///
    /// The taker hands back its empty granules first: they are not found otherwise.
    ///
    /// # Panics
    /// When the tenant or shard is unknown or `count` is 0.
    pub fn take(&mut self, tenant: TenantId, shard: ShardId, count: u32) -> TakeOutcome {
        assert!(self.tenants.contains_key(&tenant));
        assert!(shard.0 < self.options.shard_count);
        assert!(count > 0);
        if count > self.options.granule_count {
            return TakeOutcome::TooLarge;
        }
        let ticket = TakeTicket(self.next_ticket);
        self.next_ticket += 1;
        let waiter = Waiter {
            ticket,
            tenant,
            shard,
            count,
            reserved: None,
        };
        if self.waiters.is_empty()
            && let Some(grant) = self.try_grant(&waiter)
        {
            return TakeOutcome::Granted(grant);
        }
        self.waiters.push_back(waiter);
        TakeOutcome::Waiting(ticket)
    }

    /// Serves the first in line if it can be; call after every event until `None`.
    pub fn poll_grant(&mut self) -> Option<(TakeTicket, Grant)> {
        let waiter = self.waiters.pop_front()?;
        let grant = self.try_grant(&waiter);
        let ticket = waiter.ticket;
        if grant.is_none() {
            self.waiters.push_front(waiter);
        }
        grant.map(|grant| (ticket, grant))
    }

    /// Gives up waiting; `false` when the request is not (or no longer) queued.
    pub fn cancel(&mut self, ticket: TakeTicket) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.ticket != ticket);
        self.waiters.len() < before
    }

    /// Finds a run for a request and takes it, or starts the hole punches that would allow it.
    fn try_grant(&mut self, waiter: &Waiter) -> Option<Grant> {
        let found = self.find_run(waiter, Cell::is_free)?;
        let spare = self.options.granule_count - self.backed;
        if found.unbacked > spare {
            // Pages are given up only when that serves the request: a populated granule is dear.
            let run = found.first..found.first + waiter.count;
            let outside = self.reclaimable_outside(waiter.tenant, &run);
            if found.unbacked as usize > spare as usize + outside {
                return None;
            }
            self.free_credits(waiter.tenant, found, waiter.count, found.unbacked - spare);
        }
        if found.unbacked > self.options.granule_count - self.backed {
            return None;
        }
        Some(self.hand_over(waiter, found.first))
    }

    fn find_run(&self, waiter: &Waiter, usable: impl Fn(Cell) -> bool) -> Option<Found> {
        let cells = &self.tenants[&waiter.tenant];
        let home = self.home_of(waiter.shard);
        best_run(cells, waiter.count, waiter.shard, &home, usable)
    }

    fn hand_over(&mut self, waiter: &Waiter, first: u32) -> Grant {
        let Waiter {
            tenant,
            shard,
            count,
            ..
        } = *waiter;
        let cells = self.tenants.get_mut(&tenant).expect("a known tenant");
        let mut populated = true;
        for index in first..first + count {
            let cell = &mut cells[index as usize];
            let work = GranuleWork::Populate {
                tenant,
                granule: GranuleIndex(index),
            };
            match *cell {
                Cell::Ready { holder: None } => {
                    *cell = Cell::Ready {
                        holder: Some(shard),
                    }
                },
                Cell::Populating { holder: None } => {
                    populated = false;
                    *cell = Cell::Populating {
                        holder: Some(shard),
                    };
                    if let Some(place) = self.ahead.iter().position(|&queued| queued == work) {
                        self.ahead.remove(place);
                        self.urgent.push_back(work);
                    }
                },
                Cell::Unbacked => {
                    populated = false;
                    *cell = Cell::Populating {
                        holder: Some(shard),
                    };
                    self.backed += 1;
                    self.urgent.push_back(work);
                },
                Cell::Ready { .. } | Cell::Populating { .. } | Cell::Punching => {
                    panic!("a granted granule is free")
                },
            }
        }
        assert!(self.backed <= self.options.granule_count);
        Grant {
            tenant,
            shard,
            first: GranuleIndex(first),
            count,
            populated,
        }
    }

    /// Gets credits back from free granules outside a run: at once when unpopulated, else by punch.
    fn free_credits(&mut self, keep_in: TenantId, keep: Found, count: u32, mut need: u32) {
        let punching = u32::try_from(self.punches_under_way()).expect("few granules");
        need = need.saturating_sub(punching);
        for (&tenant, cells) in &mut self.tenants {
            for (index, cell) in (0_u32..).zip(cells.iter_mut()) {
                let kept = tenant == keep_in && (keep.first..keep.first + count).contains(&index);
                if need == 0 {
                    return;
                }
                let granule = GranuleIndex(index);
                let work = GranuleWork::Populate { tenant, granule };
                if kept {
                    continue;
                }
                if *cell == (Cell::Ready { holder: None }) {
                    *cell = Cell::Punching;
                    self.punches
                        .push_back(GranuleWork::Punch { tenant, granule });
                    need -= 1;
                } else if *cell == (Cell::Populating { holder: None })
                    && let Some(place) = self.ahead.iter().position(|&queued| queued == work)
                {
                    self.ahead.remove(place);
                    *cell = Cell::Unbacked;
                    self.backed -= 1;
                    need -= 1;
                }
            }
        }
    }

    /// Returns how many granules are on their way back to the kernel. O(virtual granules).
    pub fn punches_under_way(&self) -> usize {
        self.tenants
            .values()
            .flatten()
            .filter(|&&cell| cell == Cell::Punching)
            .count()
    }

    /// Takes a granule back from its holder, which has emptied it. Its bytes stay as they are.
    ///
    /// # Panics
    /// When the shard does not hold it.
    pub fn give_back(&mut self, tenant: TenantId, shard: ShardId, granule: GranuleIndex) {
        let cells = self.tenants.get_mut(&tenant).expect("a known tenant");
        let cell = &mut cells[granule.0 as usize];
        *cell = match *cell {
            Cell::Ready {
                holder: Some(holder),
            } if holder == shard => Cell::Ready { holder: None },
            Cell::Populating {
                holder: Some(holder),
            } if holder == shard => Cell::Populating { holder: None },
            other => panic!("{shard} gives back {granule}, which is {other:?}"),
        };
    }

    /// Returns the next thing that somebody waits for.
    pub fn next_urgent(&mut self) -> Option<GranuleWork> {
        self.punches.pop_front().or_else(|| self.urgent.pop_front())
    }

    /// Returns the next granule to populate for whoever comes.
    pub fn next_ahead(&mut self) -> Option<GranuleWork> {
        self.ahead.pop_front()
    }

    /// Returns the next thing to do at all.
    pub fn next_work(&mut self) -> Option<GranuleWork> {
        self.next_urgent().or_else(|| self.next_ahead())
    }

    /// Notes that a work item is done; call [`Self::poll_grant`] then.
    ///
    /// # Panics
    /// When the work was not under way.
    pub fn work_done(&mut self, work: GranuleWork) {
        let (GranuleWork::Populate { tenant, granule } | GranuleWork::Punch { tenant, granule }) =
            work;
        let cells = self.tenants.get_mut(&tenant).expect("a known tenant");
        let cell = &mut cells[granule.0 as usize];
        *cell = match (*cell, work) {
            (Cell::Populating { holder }, GranuleWork::Populate { .. }) => Cell::Ready { holder },
            (Cell::Punching, GranuleWork::Punch { .. }) => {
                self.backed -= 1;
                Cell::Unbacked
            },
            (other, _) => panic!("{granule} is {other:?}, not under work"),
        };
    }

    /// Notes how cold a shard's coldest object is: the coarse time of its last access, in
    /// milliseconds. Only a hint, sent now and then.
    pub fn set_coldness(&mut self, tenant: TenantId, shard: ShardId, last_access_ms: u64) {
        self.coldness.insert((tenant, shard), last_access_ms);
    }

    /// Returns the shard that should give memory up before `shard` evicts: the one whose coldest
    /// object is older than the asker's own. `None`: evict at home. O(virtual granules).
    pub fn donor_for(&self, tenant: TenantId, shard: ShardId) -> Option<(TenantId, ShardId)> {
        let own = self
            .coldness
            .get(&(tenant, shard))
            .copied()
            .unwrap_or(u64::MAX);
        let held = self.held_by_holder();
        let others = held.keys().filter(|&&holder| holder != (tenant, shard));
        let aged = others.filter_map(|holder| Some((*self.coldness.get(holder)?, *holder)));
        aged.filter(|&(age, _)| age < own)
            .min()
            .map(|(_, holder)| holder)
    }

    fn held_by_holder(&self) -> BTreeMap<(TenantId, ShardId), u32> {
        let mut held = BTreeMap::new();
        for (&tenant, cells) in &self.tenants {
            for holder in cells.iter().filter_map(|cell| cell.holder()) {
                *held.entry((tenant, holder)).or_insert(0) += 1;
            }
        }
        held
    }

    /// Says who must give up what for the first in line, and reserves the run for it.
    ///
    /// `None` when nobody waits or punches under way will do. The caller sends the requests once,
    /// and again after a while for what has not come. O(virtual granules).
    pub fn vacate_plan(&mut self) -> Option<(TakeTicket, VacatePlan)> {
        let waiter = self.waiters.pop_front()?;
        let plan = self.plan_for(&waiter);
        let ticket = waiter.ticket;
        let reserved = plan.as_ref().map(|&(first, _)| first).or(waiter.reserved);
        self.waiters.push_front(Waiter { reserved, ..waiter });
        plan.map(|(_, plan)| (ticket, plan))
    }

    fn plan_for(&self, waiter: &Waiter) -> Option<(u32, VacatePlan)> {
        let cells = &self.tenants[&waiter.tenant];
        let held = |first: u32| {
            let run = &cells[first as usize..(first + waiter.count) as usize];
            run.iter().filter(|cell| cell.holder().is_some()).count()
        };
        // A plan once made is kept while its run still serves, so that donors' work is not lost.
        let first = match waiter.reserved {
            Some(first) => first,
            None => self.find_run(waiter, |_| true)?.first,
        };
        let run = first..first + waiter.count;
        let mut plan = VacatePlan::default();
        for index in run.clone() {
            if let Some(holder) = cells[index as usize].holder() {
                plan.granules.push((holder, GranuleIndex(index)));
            }
        }
        assert_eq!(plan.granules.len(), held(first));
        let unbacked = cells[run.start as usize..run.end as usize]
            .iter()
            .filter(|&&cell| cell == Cell::Unbacked || cell == Cell::Punching)
            .count();
        let outside = self.reclaimable_outside(waiter.tenant, &run);
        let spare = (self.options.granule_count - self.backed) as usize + outside;
        let missing = unbacked.saturating_sub(spare);
        plan.any = self.donors(waiter, &plan.granules, u32::try_from(missing).expect("few"));
        let idle = plan.granules.is_empty() && plan.any.is_empty();
        (!idle).then_some((first, plan))
    }

    /// Counts free or punching granules outside a run: credits that need nobody's consent.
    fn reclaimable_outside(&self, keep_in: TenantId, run: &std::ops::Range<u32>) -> usize {
        let mut count = 0;
        for (&tenant, cells) in &self.tenants {
            for (index, cell) in (0_u32..).zip(cells) {
                let inside = tenant == keep_in && run.contains(&index);
                let free = cell.holder().is_none() && *cell != Cell::Unbacked;
                count += usize::from(free && (!inside || *cell == Cell::Punching));
            }
        }
        count
    }

    /// Spreads `missing` granules over the shards that hold some: coldest first, then the richest.
    fn donors(
        &self,
        waiter: &Waiter,
        named: &[(ShardId, GranuleIndex)],
        mut missing: u32,
    ) -> Vec<(TenantId, ShardId, u32)> {
        let mut held = self.held_by_holder();
        for &(shard, _) in named {
            *held
                .get_mut(&(waiter.tenant, shard))
                .expect("it holds what was named") -= 1;
        }
        let mut order: Vec<_> = held.into_iter().filter(|&(_, count)| count > 0).collect();
        order.sort_by_key(|&(holder, count)| {
            let age = self.coldness.get(&holder).copied().unwrap_or(u64::MAX);
            (
                holder == (waiter.tenant, waiter.shard),
                age,
                u32::MAX - count,
                holder,
            )
        });
        let mut donors = Vec::new();
        for ((tenant, shard), count) in order {
            if missing == 0 {
                break;
            }
            let share = count.min(missing);
            donors.push((tenant, shard, share));
            missing -= share;
        }
        donors
    }

    /// Returns how many shards the node has.
    pub const fn shard_count(&self) -> u16 {
        self.options.shard_count
    }

    /// Returns whether the pages of a granule are present.
    ///
    /// # Panics
    /// When the tenant is unknown.
    pub fn is_populated(&self, tenant: TenantId, granule: GranuleIndex) -> bool {
        let cells = &self.tenants[&tenant];
        cells
            .get(granule.0 as usize)
            .is_some_and(|cell| matches!(cell, Cell::Ready { .. }))
    }

    /// Returns who is first in line.
    pub fn first_waiting(&self) -> Option<(TenantId, ShardId)> {
        self.waiters
            .front()
            .map(|waiter| (waiter.tenant, waiter.shard))
    }

    /// Returns the counts. O(virtual granules).
    ///
    /// # Panics
    /// When a count exceeds 32 bits, which the virtual size forbids.
    pub fn stats(&self) -> LedgerStats {
        let cells = || self.tenants.values().flatten();
        let ready = cells()
            .filter(|cell| matches!(cell, Cell::Ready { .. }))
            .count();
        let held = cells().filter(|cell| cell.holder().is_some()).count();
        LedgerStats {
            granule_count: self.options.granule_count,
            backed_count: self.backed,
            held_count: u32::try_from(held).expect("few granules"),
            populated_bytes: ready as u64 * GRANULE_BYTES,
            waiting_count: u32::try_from(self.waiters.len()).expect("few waiters"),
        }
    }

    /// Returns how many granules a shard holds for a tenant. O(virtual granules).
    pub fn held_count(&self, tenant: TenantId, shard: ShardId) -> u32 {
        self.held_by_holder()
            .get(&(tenant, shard))
            .copied()
            .unwrap_or(0)
    }

    /// Checks that credits and work agree with the cells; O(virtual granules).
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let cells = || self.tenants.values().flatten();
        let backed = cells().filter(|&&cell| cell != Cell::Unbacked).count();
        assert_eq!(backed, self.backed as usize);
        assert!(self.backed <= self.options.granule_count);
        let populating = cells()
            .filter(|c| matches!(c, Cell::Populating { .. }))
            .count();
        assert!(self.urgent.len() + self.ahead.len() <= populating);
        assert!(self.punches.len() <= self.punches_under_way());
    }
}
