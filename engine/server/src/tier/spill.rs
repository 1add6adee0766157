//! Spilling: what eviction took out of memory stays readable here until it lies on the device.
//!
//! An evicted value keeps its extent: it belongs to [`Spills`] from the eviction to the end of its
//! write, then goes to the quarantine like any other. What the tier does not take is forgotten
//! where its write mode allows, and put back, not to be evicted again, where it does not.
//!
//! Lives on: owner shard. Bound: eviction stops while more than [`Spills::most_bytes`] wait.

use std::collections::{BTreeMap, VecDeque};

use chariot_base::{Extent, TenantId};
use chariot_proto::{KeyHash, WriteMode};
use chariot_ssd::{Append, AppendError, NewRecord, Source, SpillFault};
use chariot_store::{LastWords, NewEntry, Retired};
use hashbrown::HashMap;

use super::{Errand, Tier, now};
use crate::shard::Shard;

/// Largest share of the arena that may wait for its write, one in so many bytes.
const SPILL_SHARE: u64 = 8;
/// Most bytes of one tenant and shard that wait for their write: 16 group writes of 1 MiB keep a
/// device busy, twice that keeps eviction ahead of it.
const SPILL_BYTES_MAX: u64 = 32 << 20;

/// Bytes that are evicted ahead of what is wanted: eight group writes of 1 MiB.
const SPILL_AHEAD_BYTES: u64 = 8 << 20;

/// A value between memory and the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spilled {
    /// Its key.
    pub(crate) hash: KeyHash,
    /// Where it lies; `len` is the value's length.
    pub(crate) extent: Extent,
    /// What its entry said.
    pub(crate) last: LastWords,
    /// Overwritten or deleted meanwhile.
    is_dead: bool,
}

/// The values of one tenant that are on their way to the device.
#[derive(Debug, Default)]
pub(crate) struct Spills {
    is_on: bool,
    all: BTreeMap<u64, Spilled>,
    by_hash: HashMap<KeyHash, u64>,
    waiting: VecDeque<u64>,
    next: u64,
    bytes: u64,
    most_bytes: u64,
}

impl Spills {
    /// Begins to take evicted values of a tenant whose shard has `arena_bytes` of memory.
    pub(crate) fn switch_on(&mut self, arena_bytes: u64) {
        self.is_on = true;
        self.most_bytes = (arena_bytes / SPILL_SHARE).min(SPILL_BYTES_MAX);
    }

    /// Whether evicted values come here.
    pub(crate) const fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether eviction must wait for the device.
    pub(crate) const fn is_full(&self) -> bool {
        self.is_on && self.bytes >= self.most_bytes
    }

    /// Whether enough is on its way to the device to make room for `len` bytes and keep it busy.
    pub(crate) fn is_enough_for(&self, len: u64) -> bool {
        self.is_full() || (self.is_on && self.bytes >= len.saturating_add(SPILL_AHEAD_BYTES))
    }

    /// Whether something has not been handed to the device yet.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes on their way.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes an evicted value over.
    pub(crate) fn take(&mut self, retired: &Retired) {
        assert!(self.is_on);
        let number = self.next;
        self.next += 1;
        self.bytes += retired.extent.len;
        let spilled = Spilled {
            hash: retired.hash,
            extent: retired.extent,
            last: retired.last,
            is_dead: false,
        };
        self.all.insert(number, spilled);
        if let Some(older) = self.by_hash.insert(retired.hash, number) {
            self.kill(older);
        }
        self.waiting.push_back(number);
    }

    fn kill(&mut self, number: u64) {
        if let Some(spilled) = self.all.get_mut(&number) {
            spilled.is_dead = true;
        }
    }

    /// A key was overwritten or deleted; says whether it was here.
    pub(crate) fn forget(&mut self, hash: KeyHash) -> bool {
        let number = self.by_hash.remove(&hash);
        if let Some(number) = number {
            self.kill(number);
        }
        number.is_some()
    }

    /// Finds a value that is on its way and not expired.
    pub(crate) fn find(&self, hash: KeyHash, now_ms: u64) -> Option<Spilled> {
        let spilled = *self.all.get(self.by_hash.get(&hash)?)?;
        let expiry_ms = spilled.last.expiry_ms;
        (expiry_ms == 0 || expiry_ms > now_ms).then_some(spilled)
    }

    fn end(&mut self, number: u64) -> Spilled {
        let spilled = self.all.remove(&number).expect("a spill ends once");
        self.bytes -= spilled.extent.len;
        if self.by_hash.get(&spilled.hash) == Some(&number) {
            self.by_hash.remove(&spilled.hash);
        }
        spilled
    }
}

/// Hands what waits to the device, as far as it has room.
pub(crate) fn feed(tier: &mut Tier, shard: &mut Shard) {
    for index in 0..shard.tenants.len() {
        let tenant = TenantId(u16::try_from(index).expect("bounded by TENANTS_MAX"));
        let unburied = shard.tenants[index].as_mut();
        let unburied = unburied.map(|share| std::mem::take(&mut share.unburied));
        for hash in unburied.into_iter().flatten() {
            tier.bury(hash);
        }
        while let Some(share) = shard.tenants[index].as_mut() {
            let Some(number) = share.spills.waiting.pop_front() else {
                break;
            };
            if !hand_over(tier, shard, tenant, number) {
                shard.tenant_mut(tenant).spills.waiting.push_front(number);
                break;
            }
        }
    }
}

/// Hands one value over; `false`: the device has no room now.
fn hand_over(tier: &mut Tier, shard: &mut Shard, tenant: TenantId, number: u64) -> bool {
    let now = now();
    let now_ms = shard.now_ms;
    let share = shard.tenant_mut(tenant);
    let spilled = share.spills.all[&number];
    let expiry_ms = spilled.last.expiry_ms;
    if spilled.is_dead || (expiry_ms != 0 && expiry_ms <= now_ms) {
        end(shard, tenant, number);
        return true;
    }
    let Ok(len) = u32::try_from(spilled.extent.len) else {
        give_up(tier, shard, tenant, number);
        return true;
    };
    let (arena, extent) = (&share.arena, spilled.extent);
    let name = format!("{:016x}{:016x}", spilled.hash.hi, spilled.hash.lo);
    let record = NewRecord {
        hash: spilled.hash,
        tenant,
        key: name.as_bytes(),
        version: spilled.last.version,
        expiry_unix_ms: if expiry_ms == 0 {
            0
        } else {
            now.unix_ms + (expiry_ms - now_ms)
        },
        len,
        crc: (spilled.last.crc).unwrap_or_else(|| arena.checksum(extent)),
        has_checksum: spilled.last.crc.is_some(),
        mode: spilled.last.write_mode,
    };
    let mut fill = |target: &mut [u8]| arena.copy_out(extent, target);
    let source = if tier.store.is_packed(len) {
        Source::Fill(&mut fill)
    } else {
        Source::Extent(extent)
    };
    match tier.store.append(&record, source, now) {
        Ok(Append::Queued(ticket)) => {
            tier.counters.spills += 1;
            let errand = Errand::Spill(tenant, number);
            assert!(tier.errands.insert(ticket, errand).is_none());
            true
        },
        Ok(Append::Present) | Err(AppendError::Stale) => {
            end(shard, tenant, number);
            true
        },
        Err(AppendError::Busy) => false,
        Err(_refused) => {
            give_up(tier, shard, tenant, number);
            true
        },
    }
}

/// A write has ended, one way or the other.
pub(super) fn on_done(
    tier: &mut Tier,
    shard: &mut Shard,
    tenant: TenantId,
    number: u64,
    result: Result<(), SpillFault>,
) {
    match result {
        Ok(()) | Err(SpillFault::Superseded) => end(shard, tenant, number),
        Err(SpillFault::Write(_) | SpillFault::Retired) => {
            tier.counters.spill_failures += 1;
            give_up(tier, shard, tenant, number);
        },
    }
}

/// The extent is nobody's any more but for pins and I/O.
fn end(shard: &mut Shard, tenant: TenantId, number: u64) {
    let share = shard.tenant_mut(tenant);
    let spilled = share.spills.end(number);
    share.retire(spilled.extent);
}

/// The tier does not take it: it is forgotten where its write allows, else it goes back.
fn give_up(tier: &mut Tier, shard: &mut Shard, tenant: TenantId, number: u64) {
    let now_ms = shard.now_ms;
    let share = shard.tenant_mut(tenant);
    let spilled = share.spills.end(number);
    let is_kept = spilled.last.write_mode == WriteMode::None && !spilled.is_dead;
    if is_kept {
        let entry = NewEntry {
            extent: spilled.extent,
            crc: spilled.last.crc,
            expiry_ms: spilled.last.expiry_ms,
            write_mode: spilled.last.write_mode,
            set_if_absent: true,
        };
        if share.restore(spilled.hash, &entry, (spilled.last.version, true), now_ms) {
            return;
        }
    }
    if !spilled.is_dead {
        tier.counters.forgotten += 1;
        share.objects.on_retired(spilled.hash);
    }
    share.retire(spilled.extent);
}

#[cfg(test)]
mod tests {
    use chariot_store::RetireReason;

    use super::*;

    fn retired(number: u64, version: u64) -> Retired {
        Retired {
            extent: Extent::new(version << 20, 100),
            reason: RetireReason::Evicted,
            hash: KeyHash { hi: number, lo: 1 },
            last: LastWords {
                crc: None,
                version,
                expiry_ms: 0,
                write_mode: WriteMode::NoneEvict,
            },
        }
    }

    #[test]
    fn the_newest_evicted_version_of_a_key_is_found_until_it_ends() {
        let mut spills = Spills::default();
        spills.switch_on(1 << 30);
        let hash = KeyHash { hi: 7, lo: 1 };
        spills.take(&retired(7, 1));
        spills.take(&retired(7, 2));
        assert_eq!(spills.find(hash, 0).unwrap().last.version, 2);
        assert!(spills.end(0).is_dead, "an older version is nobody's");
        assert_eq!(spills.find(hash, 0).unwrap().last.version, 2);
        assert!(!spills.end(1).is_dead);
        assert!(spills.find(hash, 0).is_none());
        assert_eq!(spills.bytes(), 0);
    }

    #[test]
    fn a_forgotten_key_is_not_found_and_its_bytes_count_until_the_write_ends() {
        let mut spills = Spills::default();
        spills.switch_on(800);
        spills.take(&retired(7, 1));
        assert!(spills.is_full(), "100 bytes are an eighth");
        assert!(spills.forget(KeyHash { hi: 7, lo: 1 }));
        assert!(!spills.forget(KeyHash { hi: 7, lo: 1 }));
        assert!(spills.find(KeyHash { hi: 7, lo: 1 }, 0).is_none());
        assert!(spills.is_full());
        spills.end(0);
        assert!(!spills.is_full());
    }
}
