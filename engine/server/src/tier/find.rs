//! Gets of what memory does not have: one read on the device for each object, however many ask.
//!
//! The value is read straight into an extent where it may be, and through a buffer where it is
//! packed. When policy wants it in memory again it becomes an entry; else the extent goes to the
//! quarantine as soon as the answers that name it are out, and lives as long as they pin it.
//!
//! Lives on: owner shard. Invariant: an extent under a read is freed only by the read's completion,
//! whatever became of those who asked.

use chariot_base::{Extent, TenantId};
use chariot_proto::{KeyHash, Status};
use chariot_ssd::{IoFault, Lookup, ReadId, ReadLayout, ReadOutcome, ReadPlan, ReadResult, SsdHit};
use chariot_store::NewEntry;

use super::{Asker, Retry, SCAN_INTERVAL_NS, Tier, again, answer, io, now, refuse};
use crate::call::{Found, Reply};
use crate::request::Answer;
use crate::shard::Shard;

/// How often a read that failed is made anew because the object has moved meanwhile. A move takes
/// the cleaner a whole segment: one is rare, three in a row is a device that fails.
const MOVES_MAX: u8 = 3;

/// A read under way.
#[derive(Debug)]
pub(super) struct Reading {
    tenant: TenantId,
    hit: SsdHit,
    /// Room for the bytes; `len` is what was reserved.
    extent: Extent,
    askers: Vec<Asker>,
    /// Requests that want the object in memory, and then are handled again.
    retries: Vec<Retry>,
    started_ns: u64,
    /// Reads that came back with nothing because the object had moved.
    moves: u8,
    /// Given up: its completion frees the extent and answers nobody.
    is_over: bool,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is answered, or will be.
    Taken,
    /// The tier does not have it.
    Absent,
    /// Recovery may still find it.
    Unknown,
    /// No memory to read into: queue for so many bytes.
    NoMemory(u64),
    /// Too many reads are under way.
    Busy,
}

/// What the tier knows of a key, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Here, with so many bytes.
    Len(u64),
    /// Not here.
    Absent,
    /// Recovery may still find it.
    Unknown,
}

/// Who wants the object: an answer, or a request that is handled again when it is in memory.
#[derive(Debug)]
pub(crate) enum Wish {
    /// An answer with the value.
    Value(Asker),
    /// The object in memory, then another try.
    Promoted(Retry),
}

/// Says what the tier knows of a key.
pub(crate) fn known(tier: &Tier, shard: &mut Shard, tenant: TenantId, hash: KeyHash) -> Known {
    let now_ms = shard.now_ms;
    if let Some(spilled) = shard.tenant_mut(tenant).spills.find(hash, now_ms) {
        return Known::Len(spilled.extent.len);
    }
    match tier.store.peek(hash, now()) {
        Lookup::Hit(hit) => Known::Len(u64::from(hit.len)),
        Lookup::Unknown => Known::Unknown,
        Lookup::Absent | Lookup::Writing => Known::Absent,
    }
}

/// Finds a key that memory does not have.
pub(crate) fn ask(
    tier: &mut Tier,
    shard: &mut Shard,
    tenant: TenantId,
    hash: KeyHash,
    wish: Wish,
) -> Asked {
    let now_ms = shard.now_ms;
    if let Some(spilled) = shard.tenant_mut(tenant).spills.find(hash, now_ms) {
        let Wish::Value(asker) = wish else {
            // Its write ends soon, and then it can be read.
            return Asked::NoMemory(1);
        };
        tier.counters.spilling_hits += 1;
        let value = Value {
            extent: spilled.extent,
            version: spilled.last.version,
            expiry_ms: spilled.last.expiry_ms,
            crc: spilled.last.crc,
            is_from_ssd: false,
        };
        give(shard, tenant, &asker, &value);
        return Asked::Taken;
    }
    let hit = match tier.store.lookup(hash, now()) {
        Lookup::Hit(hit) => hit,
        Lookup::Unknown => return Asked::Unknown,
        Lookup::Absent | Lookup::Writing => return Asked::Absent,
    };
    if let Some(id) = tier.reading.get(&hash)
        && let Some(reading) = tier.reads.get_mut(id)
        && reading.hit.version == hit.version
    {
        tier.counters.shared_reads += 1;
        reading.hit.promote |= hit.promote;
        reading.add(wish);
        return Asked::Taken;
    }
    start(tier, shard, tenant, hit, wish)
}

fn start(tier: &mut Tier, shard: &mut Shard, tenant: TenantId, hit: SsdHit, wish: Wish) -> Asked {
    let need = if tier.store.is_packed(hit.len) {
        u64::from(hit.len)
    } else {
        u64::from(hit.len).next_multiple_of(io::BLOCK)
    };
    let now_ns = shard.now_ns;
    let (share, sessions) = shard.tenant_and_sessions(tenant);
    let Some(extent) = share.reserve(need, sessions, now_ns) else {
        return Asked::NoMemory(need);
    };
    let Some(plan) = tier.store.start_read(&hit, now()) else {
        share.free(extent.offset);
        return Asked::Busy;
    };
    let mut reading = Reading {
        tenant,
        hit: plan.hit,
        extent,
        askers: Vec::new(),
        retries: Vec::new(),
        started_ns: now_ns,
        moves: 0,
        is_over: false,
    };
    reading.add(wish);
    if tier.reads.is_empty() {
        tier.next_scan_ns = now_ns + SCAN_INTERVAL_NS;
    }
    submit(tier, shard, &plan, reading);
    Asked::Taken
}

fn submit(tier: &mut Tier, shard: &mut Shard, plan: &ReadPlan, reading: Reading) {
    let extent = reading.extent;
    let is_direct = plan.layout == ReadLayout::Payload
        && u64::from(plan.len) <= extent.len
        && extent.offset.is_multiple_of(io::BLOCK);
    let arena = &shard.tenant_mut(reading.tenant).arena;
    let target = is_direct.then(|| (arena.mapping(), extent));
    tier.reading.insert(plan.hit.hash, plan.id);
    tier.reads.insert(plan.id, reading);
    io::read_hit(tier, plan, target);
}

/// Reads anew what has moved since the read was planned; gives the reading back when it has not,
/// or has too often.
fn follow(tier: &mut Tier, shard: &mut Shard, mut reading: Reading) -> Option<Reading> {
    let now = now();
    let Lookup::Hit(hit) = tier.store.peek(reading.hit.hash, now) else {
        return Some(reading);
    };
    // Of another length or under a read of its own: those who asked are told to ask again.
    let fits = hit.len == reading.hit.len && !tier.reading.contains_key(&hit.hash);
    if reading.moves >= MOVES_MAX || !fits {
        return Some(reading);
    }
    let Some(plan) = tier.store.start_read(&hit, now) else {
        return Some(reading);
    };
    reading.moves += 1;
    reading.started_ns = shard.now_ns;
    reading.hit = SsdHit {
        promote: reading.hit.promote,
        ..plan.hit
    };
    tier.counters.moved_reads += 1;
    submit(tier, shard, &plan, reading);
    None
}

/// Whether a key that a read did not find is there all the same.
fn is_elsewhere(tier: &Tier, shard: &mut Shard, tenant: TenantId, hash: KeyHash) -> bool {
    let now_ms = shard.now_ms;
    known(tier, shard, tenant, hash) != Known::Absent
        || shard.tenant_mut(tenant).store.exists(hash, now_ms)
}

impl Reading {
    fn add(&mut self, wish: Wish) {
        match wish {
            Wish::Value(asker) => self.askers.push(asker),
            Wish::Promoted(retry) => self.retries.push(retry),
        }
    }
}

/// A read has ended on the device.
pub(super) fn on_read(
    tier: &mut Tier,
    shard: &mut Shard,
    id: ReadId,
    outcome: Result<Option<&[u8]>, IoFault>,
) -> Vec<Retry> {
    let reading = tier.reads.remove(&id).expect("a read ends once");
    if tier.reading.get(&reading.hit.hash) == Some(&id) {
        tier.reading.remove(&reading.hit.hash);
    }
    let share = shard.tenant_mut(reading.tenant);
    if reading.is_over {
        share.free(reading.extent.offset);
        return Vec::new();
    }
    let value = Extent::new(reading.extent.offset, u64::from(reading.hit.len));
    let judged = match outcome {
        Ok(Some(bytes)) => ReadOutcome::Bytes(bytes),
        Ok(None) => ReadOutcome::Checksum(share.arena.checksum(value)),
        Err(fault) => ReadOutcome::Failed(fault),
    };
    match tier.store.finish_read(id, judged, now()) {
        ReadResult::Value { at } => {
            if let Ok(Some(bytes)) = outcome {
                let at = at as usize;
                let len = reading.hit.len as usize;
                share.arena.copy_in(value, &bytes[at..at + len]);
            }
            serve(tier, shard, reading, value)
        },
        ReadResult::Corrupt => {
            shard.counters.checksum_failures += 1;
            miss(tier, shard, reading)
        },
        ReadResult::Failed => miss(tier, shard, reading),
    }
}

/// Nothing came: everyone is told that the key is not there, unless it is by now.
fn miss(tier: &mut Tier, shard: &mut Shard, reading: Reading) -> Vec<Retry> {
    let Some(reading) = follow(tier, shard, reading) else {
        return Vec::new();
    };
    shard.tenant_mut(reading.tenant).free(reading.extent.offset);
    let missing = if is_elsewhere(tier, shard, reading.tenant, reading.hit.hash) {
        Status::Again
    } else {
        Status::NotFound
    };
    for asker in &reading.askers {
        shard.count_miss();
        answer(
            shard,
            reading.tenant,
            asker,
            &Answer::status(missing),
            Reply::status(missing),
        );
    }
    for retry in &reading.retries {
        refuse(shard, retry, missing);
    }
    Vec::new()
}

fn serve(tier: &mut Tier, shard: &mut Shard, reading: Reading, extent: Extent) -> Vec<Retry> {
    let Reading {
        tenant,
        hit,
        askers,
        retries,
        ..
    } = reading;
    let now = now();
    let now_ms = shard.now_ms;
    let value = Value {
        extent,
        version: hit.version,
        expiry_ms: match hit.expiry_unix_ms {
            0 => 0,
            unix_ms => now_ms + unix_ms.saturating_sub(now.unix_ms).max(1),
        },
        crc: hit.has_checksum.then_some(hit.crc),
        is_from_ssd: true,
    };
    let is_current = matches!(
        tier.store.peek(hit.hash, now),
        Lookup::Hit(found) if found.version == hit.version
    );
    let share = shard.tenant_mut(tenant);
    let is_wanted = (hit.promote || !retries.is_empty()) && is_current;
    let entry = NewEntry {
        extent,
        crc: value.crc,
        expiry_ms: value.expiry_ms,
        write_mode: hit.mode,
        set_if_absent: true,
    };
    let is_promoted = is_wanted && share.restore(hit.hash, &entry, (hit.version, false), now_ms);
    tier.counters.promotions += u64::from(is_promoted);
    tier.counters.hits += askers.len() as u64;
    for asker in &askers {
        give(shard, tenant, asker, &value);
    }
    if is_promoted {
        return retries;
    }
    shard.tenant_mut(tenant).retire(extent);
    for retry in &retries {
        // Changed meanwhile, or no record for it: the caller may ask again.
        refuse(shard, retry, Status::Again);
    }
    Vec::new()
}

/// A value that can be handed out.
#[derive(Debug, Clone, Copy)]
struct Value {
    extent: Extent,
    version: u64,
    expiry_ms: u64,
    crc: Option<u32>,
    is_from_ssd: bool,
}

fn give(shard: &mut Shard, tenant: TenantId, asker: &Asker, value: &Value) {
    let held = matches!(asker, Asker::Remote { hold: true, .. });
    if held {
        shard.tenant_mut(tenant).io_pins.pin(value.extent);
    }
    if held || matches!(asker, Asker::Local { .. }) {
        shard.count_read(value.extent.len);
    }
    let reply = Reply::Found(Found {
        extent: value.extent,
        crc: value.crc,
        version: value.version,
        expiry_ms: value.expiry_ms,
        held,
        is_from_ssd: value.is_from_ssd,
    });
    let found = Answer {
        extent: Some(value.extent.offset),
        len: value.extent.len,
        version: value.version,
        expiry_ms: value.expiry_ms,
        crc: value.crc,
        is_from_ssd: value.is_from_ssd,
        ..Answer::status(Status::Ok)
    };
    answer(shard, tenant, asker, &found, reply);
}

/// Ends the waiting of those whose deadline is near, and reads that hang: both are misses.
pub(super) fn expire(tier: &mut Tier, shard: &mut Shard) {
    let now_ns = shard.now_ns;
    let mut hung = Vec::new();
    for (&id, reading) in &mut tier.reads {
        let is_hung = now_ns.saturating_sub(reading.started_ns) >= tier.io_deadline_ns;
        let tenant = reading.tenant;
        reading.askers.retain(|asker| {
            let ends = asker.has_waited_enough(now_ns) || (is_hung && !reading.is_over);
            if ends {
                let missing = Status::NotFound;
                shard.count_miss();
                let reply = Reply::status(missing);
                answer(shard, tenant, asker, &Answer::status(missing), reply);
            }
            !ends
        });
        if is_hung && !reading.is_over {
            reading.is_over = true;
            for retry in std::mem::take(&mut reading.retries) {
                refuse(shard, &retry, Status::NotFound);
            }
            hung.push((id, reading.hit.hash));
        }
    }
    for (id, hash) in hung {
        if tier.reading.get(&hash) == Some(&id) {
            tier.reading.remove(&hash);
        }
        let timed_out = ReadOutcome::Failed(IoFault::TimedOut);
        tier.store.finish_read(id, timed_out, now());
    }
}

/// Handles requests again whose object is in memory now.
pub(super) fn retry_all(shard: &mut Shard, retries: Vec<Retry>) {
    for retry in retries {
        again(shard, retry);
    }
}
