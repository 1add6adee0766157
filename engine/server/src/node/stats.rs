//! One shard's counters, gathered from its parts when asked.

use chariot_memory::{LedgerStats, MemoryReport};
use chariot_shard::DriverStats;

use crate::granules::GranuleHome;
use crate::seam::ShardStats;
use crate::shard::Shard;

/// What a shard answers to a stats order.
#[derive(Debug, Clone)]
pub(crate) struct ShardReport {
    /// Its counters.
    pub(crate) shard: ShardStats,
    /// The ledger's, from the granule home.
    pub(crate) home: Option<LedgerStats>,
    /// Jobs of the populate thread that failed; known to the granule home.
    pub(crate) populate_failures: u64,
}

/// Gathers a shard's counters. O(tenants + sessions).
pub(crate) fn report(shard: &Shard, driver: &DriverStats) -> ShardReport {
    let mut stats = shard.counters.clone();
    for tenant in shard.tenants.iter().flatten() {
        let store = tenant.store.stats();
        stats.evictions += store.eviction_ages.count;
        stats.evicted_age_ms_sum += store.eviction_ages.sum_ms;
        stats.evicted_bytes += store.evicted_bytes;
        // Those that a lookup found at their end count like those that the timer found.
        stats.expirations += store.expirations;
        // Reads through the index are known by their notes alone.
        stats.hits += tenant.noted.0;
        stats.entries += store.entries;
        stats.metadata_bytes += store.metadata_bytes + tenant.extents.metadata_bytes();
        stats.out_of_memory_waits += tenant.waits;
        stats.out_of_memory_timeouts += tenant.wait_timeouts;
        stats.out_of_memory_waiting += tenant.waiters.len() as u64;
        let objects = &tenant.objects;
        let waiting = objects.latches.waiting() as u64;
        stats.latches_waiting += waiting;
        stats.latches_held += u64::from(objects.latches.len()) - waiting;
        stats.references += u64::from(objects.references.len());
        stats.nested_keys += u64::from(objects.nesting.len());
        stats.transaction_keys += objects.reservations.len() as u64;
        stats.transactions_undecided += objects.decisions.len() as u64;
        let quarantine = tenant.quarantine.stats();
        let leases = tenant.leases.total_idle_bytes();
        let expelled = shard.sessions.expelled_ids();
        let of_expelled: u64 = expelled.map(|id| tenant.leases.idle_bytes(id)).sum();
        stats.lease_bytes += leases - of_expelled;
        stats.quarantine_bytes[2] += of_expelled;
        stats.leases += tenant.leases.idle_count();
        stats.quarantine_bytes[0] += quarantine.bytes - quarantine.dead_bytes;
        stats.quarantine_bytes[3] += quarantine.dead_bytes;
        stats.quarantine_bytes[1] += tenant.io_pins.bytes();
        let memory = MemoryReport::new(
            &tenant.extents.stats(),
            store.bytes,
            leases,
            quarantine.bytes,
        );
        stats.payload_bytes += memory.payload;
        stats.slack_bytes += memory.slack;
        stats.free_bytes += memory.free;
    }
    stats.ssd = crate::tier::stats(shard);
    stats.pins = shard.sessions.last_pins().len() as u64;
    stats.ring_depth = shard.sessions.unanswered() + shard.tickets.outstanding() as u64;
    stats.ring_depth_max = stats.ring_depth_max.max(stats.ring_depth);
    stats.loop_passes = driver.passes;
    stats.loop_stalls = driver.stalls;
    stats.loop_stall_max_ns = driver.longest_stall_ns;
    stats.local_rings = shard.sessions.ring_count();
    stats.connections = shard.connections as u64;
    stats.expulsions = shard.sessions.expulsions();
    ShardReport {
        shard: stats,
        home: shard.home.as_ref().map(GranuleHome::stats),
        populate_failures: shard.home.as_ref().map_or(0, GranuleHome::failures),
    }
}
