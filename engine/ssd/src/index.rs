//! Where every object lies: at most 48 bytes of memory each.
//!
//! ```text
//!  hash.hi, low 12 bits ─► one of 4,096 tables ─► slots (u16, linear probing, at most 4/5 full)
//!                                                   │
//!                                                   ▼
//!                                                 entries (44 B each, dense, in no order)
//! ```
//! The arithmetic at the worst point, just after growth: entry 44, room of the last growth of the
//! entries at most a 64th (0.7), slots 2 bytes at 8/11 full (2.75), table 0.02 at 10 M: 47.5 bytes.
//! A table grows by itself, a tenth at a time: with 10 M objects that moves 2,441 entries (107 KB),
//! with the most that fit 65,535 (2.9 MB, under a millisecond). Rejected: one open-addressing table
//! of whole entries (needs 0.92 load for 48 B, and long probes), linear hashing (buckets not yet
//! split hold twice the load), a sorted array (moves entries on insert).
//!
//! Recovery takes many new keys at once, and what a new key costs are misses of the processor's
//! caches: a probe looks at an entry for each slot that it meets, six at 3/4 full. So until
//! [`Index::trim`] a slot has a tag of 8 bits beside it: 255 of 256 entries of other keys are told
//! from it without being looked at, and [`Index::warm`] asks for the tags of many keys at once.
//! Slots are 1/2 to 4/5 full then (6 bytes at most, tags included), and a full table grows by a
//! sixteenth, or up to what [`Index::expect`] says, at most to its double: untouched room is no
//! memory. The worst is 53 bytes a key that are touched, until trimming makes it 47.5. Rejected: to
//! prefetch entries (six lines a key instead of one), rows sorted by table (of 4 KiB objects a
//! segment has a handful for each table), tags for good (1.4 bytes: more than the 48 allow).
//!
//! Lives on: owner shard.

#[cfg(test)]
mod tests;

use std::hint::black_box;

use chariot_proto::{KeyHash, WriteMode};

use crate::limits::ENTRIES_MAX;

const TABLES: usize = 4096;
const TABLE_BITS: u32 = 12;
const TABLE_LEN_MAX: usize = 65_535;
const EMPTY: u16 = u16::MAX;
/// A full table gets room for one more of so many entries.
const GROWTH: usize = 64;
/// The same during recovery, where nothing is expected: a step copies the table, so an entry is
/// copied 16 times and not 64.
const GROWTH_IN_BULK: usize = 16;
/// The tag of a slot that is empty.
const NO_TAG: u8 = 0;
/// Entries of the tables that one turn of trimming looks at: 6 MB, should all of them move.
const TRIMMED_A_TURN: usize = 131_072;

/// 2020-01-01 in milliseconds since 1970: expiry is counted from here, in units of 64 ms.
const EXPIRY_BASE_MS: u64 = 1_577_836_800_000;
const EXPIRY_UNIT_BITS: u32 = 6;
const EXPIRY_MAX: u64 = (1 << 34) - 1;
const LEN_BITS: u32 = 30;
const RECORDS_STUCK: u8 = u8::MAX;

const _: () = assert!(size_of::<Entry>() == 44);
const _: () = assert!(ENTRIES_MAX == (TABLES * TABLE_LEN_MAX) as u64);

/// A record on a device: segment (numbered over all partitions) and first byte inside it.
///
/// For a payload of whole blocks that is its first block, else the record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) at: u32,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Dead: deleted, overwritten in memory, or given up.
    Dead,
    /// A value among others in the head of a group.
    Packed,
    /// A value in blocks of its own.
    Payload,
    /// A value whose write has not completed.
    Writing,
}

const NOWHERE: u64 = (1 << 20) - 1;

/// One key. Packed to four bytes alignment, read and written by value.
///
/// `place`: segment 20, offset in units of 8 bytes 27, kind 2, mode 3, checksum 1, hits 2,
/// queued 1, records 8 bits. `span`: length 30, expiry 34 bits.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub(crate) struct Entry {
    hash: KeyHash,
    version: u64,
    place: u64,
    span: u64,
    crc: u32,
}

const fn bits(word: u64, shift: u32, width: u32) -> u64 {
    (word >> shift) & ((1 << width) - 1)
}

fn with_bits(word: u64, shift: u32, width: u32, value: u64) -> u64 {
    assert!(value < 1 << width, "a field of an entry fits its bits");
    (word & !(((1 << width) - 1) << shift)) | (value << shift)
}

fn small(value: u64) -> u32 {
    u32::try_from(value).expect("fields of an entry are below 2^32")
}

impl Entry {
    /// Makes a dead entry that lies nowhere.
    pub(crate) fn dead(hash: KeyHash, version: u64) -> Self {
        Self {
            hash,
            version,
            place: NOWHERE,
            span: 0,
            crc: 0,
        }
    }

    pub(crate) fn hash(&self) -> KeyHash {
        self.hash
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    pub(crate) fn place(&self) -> Option<Place> {
        let segment = bits(self.place, 0, 20);
        (segment != NOWHERE).then(|| Place {
            segment: small(segment),
            at: small(bits(self.place, 20, 27) << 3),
        })
    }

    pub(crate) fn set_place(&mut self, place: Option<Place>) {
        let (segment, at) = place.map_or((NOWHERE, 0), |place| {
            assert!(place.at.is_multiple_of(8));
            assert!(u64::from(place.segment) != NOWHERE);
            (u64::from(place.segment), u64::from(place.at >> 3))
        });
        self.place = with_bits(with_bits(self.place, 0, 20, segment), 20, 27, at);
    }

    pub(crate) fn kind(&self) -> Kind {
        match bits(self.place, 47, 2) {
            0 => Kind::Dead,
            1 => Kind::Packed,
            2 => Kind::Payload,
            _ => Kind::Writing,
        }
    }

    pub(crate) fn set_kind(&mut self, kind: Kind) {
        let number = match kind {
            Kind::Dead => 0,
            Kind::Packed => 1,
            Kind::Payload => 2,
            Kind::Writing => 3,
        };
        self.place = with_bits(self.place, 47, 2, number);
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.kind(), Kind::Packed | Kind::Payload)
    }

    pub(crate) fn mode(&self) -> WriteMode {
        let number = u8::try_from(bits(self.place, 49, 3)).expect("three bits");
        WriteMode::from_u8(number).expect("only modes are stored")
    }

    pub(crate) fn has_checksum(&self) -> bool {
        bits(self.place, 52, 1) == 1
    }

    /// Sets what does not change as long as the version stays.
    pub(crate) fn set_value(&mut self, value: &Value) {
        let word = with_bits(self.place, 49, 3, u64::from(value.mode as u8));
        self.place = with_bits(word, 52, 1, u64::from(value.has_checksum));
        self.crc = value.crc;
        let expiry = match value.expiry_unix_ms {
            0 => 0,
            ms => (ms.saturating_sub(EXPIRY_BASE_MS) >> EXPIRY_UNIT_BITS).clamp(1, EXPIRY_MAX),
        };
        self.span = with_bits(0, 0, LEN_BITS, u64::from(value.len)) | (expiry << LEN_BITS);
    }

    pub(crate) fn hits(&self) -> u8 {
        u8::try_from(bits(self.place, 53, 2)).expect("two bits")
    }

    pub(crate) fn set_hits(&mut self, hits: u8) {
        self.place = with_bits(self.place, 53, 2, u64::from(hits.min(3)));
    }

    /// Returns whether a tombstone is on its way.
    pub(crate) fn is_queued(&self) -> bool {
        bits(self.place, 55, 1) == 1
    }

    pub(crate) fn set_queued(&mut self, queued: bool) {
        self.place = with_bits(self.place, 55, 1, u64::from(queued));
    }

    /// Returns how many records of this hash lie on devices, the current one included; 255 = that
    /// many or more, and never counted down again.
    pub(crate) fn records(&self) -> u8 {
        u8::try_from(bits(self.place, 56, 8)).expect("eight bits")
    }

    pub(crate) fn add_record(&mut self) {
        self.set_records(self.records().saturating_add(1));
    }

    pub(crate) fn drop_record(&mut self) {
        let records = self.records();
        assert!(records > 0, "a record that is erased was counted");
        if records != RECORDS_STUCK {
            self.set_records(records - 1);
        }
    }

    fn set_records(&mut self, records: u8) {
        self.place = with_bits(self.place, 56, 8, u64::from(records));
    }

    pub(crate) fn len(&self) -> u32 {
        small(bits(self.span, 0, LEN_BITS))
    }

    pub(crate) fn expiry_unix_ms(&self) -> u64 {
        match self.span >> LEN_BITS {
            0 => 0,
            units => EXPIRY_BASE_MS + (units << EXPIRY_UNIT_BITS),
        }
    }

    pub(crate) fn is_expired(&self, unix_ms: u64) -> bool {
        let expiry = self.expiry_unix_ms();
        expiry != 0 && expiry <= unix_ms
    }

    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("hash", &self.hash())
            .field("version", &self.version())
            .field("kind", &self.kind())
            .field("place", &self.place())
            .field("records", &self.records())
            .finish_non_exhaustive()
    }
}

/// What an entry says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) expiry_unix_ms: u64,
    pub(crate) has_checksum: bool,
    pub(crate) mode: WriteMode,
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    slots: Vec<u16>,
    /// One a slot in a table that was filled in bulk, none else.
    tags: Vec<u8>,
}

/// How tables grow.
#[derive(Debug, Clone, Copy)]
enum Growth {
    /// As little as is fair.
    Slow,
    /// Many keys come; a table is expected to have so many in the end, 0 = nobody knows.
    Bulk { expected: usize },
}

impl Growth {
    /// Returns how many more entries a full table of `len` gets room for.
    fn room(self, len: usize) -> usize {
        let room = match self {
            Self::Slow => len / GROWTH,
            Self::Bulk { expected } => {
                (len / GROWTH_IN_BULK).max(expected.saturating_sub(len).min(len))
            },
        };
        room.max(8)
    }
}

/// All keys of one store.
pub(crate) struct Index {
    tables: Vec<Table>,
    len: u64,
    entries_max: u64,
    growth: Growth,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

fn table_of(hash: KeyHash) -> usize {
    usize::try_from(bits(hash.hi, 0, TABLE_BITS)).expect("twelve bits")
}

fn home(hash: KeyHash, slots: usize) -> usize {
    let spread = bits(hash.hi, TABLE_BITS, 32) * slots as u64;
    usize::try_from(spread >> 32).expect("below the number of slots")
}

/// Returns what stands beside the slot of a hash: bits that choose neither table nor slot.
fn tag(hash: KeyHash) -> u8 {
    u8::try_from(bits(hash.lo, 0, 8))
        .expect("eight bits")
        .max(NO_TAG + 1)
}

impl Index {
    /// Makes an empty index; 0 entries means the most there can be.
    pub(crate) fn new(entries_max: u64) -> Self {
        let entries_max = match entries_max {
            0 => ENTRIES_MAX,
            limit => limit.min(ENTRIES_MAX),
        };
        Self {
            tables: (0..TABLES).map(|_| Table::default()).collect(),
            len: 0,
            entries_max,
            growth: Growth::Slow,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether one more key fits, whatever its hash.
    pub(crate) fn has_room(&self, hash: KeyHash) -> bool {
        self.len < self.entries_max && self.tables[table_of(hash)].entries.len() < TABLE_LEN_MAX
    }

    /// Returns the bytes of memory that it takes. Cost: the number of tables.
    pub(crate) fn size_bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|table| {
            table.entries.capacity() * size_of::<Entry>()
                + table.slots.capacity() * size_of::<u16>()
                + table.tags.capacity()
                + size_of::<Table>()
        });
        tables.sum::<usize>() as u64
    }

    pub(crate) fn get(&self, hash: KeyHash) -> Option<Entry> {
        let table = &self.tables[table_of(hash)];
        table.find(hash).map(|(_, at)| table.entries[at])
    }

    /// Changes an entry that is there.
    pub(crate) fn set(&mut self, entry: Entry) {
        let table = &mut self.tables[table_of(entry.hash())];
        let (_, at) = table.find(entry.hash()).expect("a changed entry is there");
        table.entries[at] = entry;
    }

    /// Adds an entry; returns whether it fitted.
    pub(crate) fn insert(&mut self, entry: Entry) -> bool {
        if !self.has_room(entry.hash()) {
            return false;
        }
        let table = &mut self.tables[table_of(entry.hash())];
        assert!(table.find(entry.hash()).is_none(), "a new entry is new");
        table.insert(entry, self.growth);
        self.len += 1;
        true
    }

    pub(crate) fn remove(&mut self, hash: KeyHash) {
        self.tables[table_of(hash)].remove(hash);
        self.len -= 1;
    }

    /// Begins to take many entries at once, as the head of this file says, until [`Self::trim`].
    pub(crate) fn begin_bulk(&mut self) {
        assert!(self.len == 0, "slots get their tags from the first on");
        self.growth = Growth::Bulk { expected: 0 };
    }

    /// Says how many entries there will be in the end, by estimate; tables take their room sooner.
    pub(crate) fn expect(&mut self, entries: u64) {
        if let Growth::Bulk { expected } = &mut self.growth {
            let each = entries.min(self.entries_max) / TABLES as u64;
            // Three deviations more: one table in a thousand grows once again.
            let each = each + 3 * each.isqrt();
            *expected = usize::try_from(each).expect("at most TABLE_LEN_MAX and a little");
        }
    }

    /// Brings what decides about keys into the processor's cache, all of them at once.
    ///
    /// These are plain loads that do not wait for each other, so they need neither `unsafe` nor
    /// the name of an instruction set. Only keys that are not there yet profit by much.
    pub(crate) fn warm(&self, hashes: impl Iterator<Item = KeyHash>) {
        let mut seen = 0_u16;
        for hash in hashes {
            let table = &self.tables[table_of(hash)];
            if !table.tags.is_empty() {
                let slot = home(hash, table.slots.len());
                seen ^= u16::from(table.tags[slot]) ^ table.slots[slot];
            }
        }
        black_box(seen);
    }

    /// Trims tables to what they would be without [`Self::begin_bulk`], from table `from` on,
    /// some a call; returns where to go on, `None` when all are trimmed. Growth is slow again from
    /// the first call on.
    pub(crate) fn trim(&mut self, from: usize) -> Option<usize> {
        self.growth = Growth::Slow;
        let mut looked_at = 0;
        for (at, table) in self.tables.iter_mut().enumerate().skip(from) {
            if looked_at >= TRIMMED_A_TURN {
                return Some(at);
            }
            let len = table.entries.len();
            looked_at += len;
            table.entries.shrink_to(len + (len / GROWTH).max(8));
            if !table.tags.is_empty() {
                table.rebuild(Growth::Slow);
            }
        }
        None
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.entries_max);
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.tables
            .iter()
            .flat_map(|table| table.entries.iter().copied())
    }
}

impl Table {
    /// Returns slot and entry of a hash.
    fn find(&self, hash: KeyHash) -> Option<(usize, usize)> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = home(hash, self.slots.len());
        let is_tagged = !self.tags.is_empty();
        let wanted = tag(hash);
        loop {
            if is_tagged && self.tags[slot] != wanted {
                if self.tags[slot] == NO_TAG {
                    return None;
                }
                slot = self.after(slot);
                continue;
            }
            let at = usize::from(self.slots[slot]);
            if at == usize::from(EMPTY) {
                return None;
            }
            if self.entries[at].hash() == hash {
                return Some((slot, at));
            }
            slot = self.after(slot);
        }
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() {
            0
        } else {
            slot + 1
        }
    }

    fn insert(&mut self, entry: Entry, growth: Growth) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(growth.room(self.entries.len()));
        }
        self.entries.push(entry);
        if self.entries.len() * 5 > self.slots.len() * 4 {
            self.rebuild(growth);
        } else {
            self.link(self.entries.len() - 1);
        }
    }

    /// Gives an entry the first empty slot from its home on.
    fn link(&mut self, at: usize) {
        let hash = self.entries[at].hash();
        let mut slot = home(hash, self.slots.len());
        if self.tags.is_empty() {
            while self.slots[slot] != EMPTY {
                slot = self.after(slot);
            }
        } else {
            while self.tags[slot] != NO_TAG {
                slot = self.after(slot);
            }
            self.tags[slot] = tag(hash);
        }
        self.slots[slot] = u16::try_from(at).expect("a table has at most 65,535 entries");
    }

    /// Makes the slots anew, and the tags where they are wanted.
    fn rebuild(&mut self, growth: Growth) {
        let len = self.entries.len();
        let (slots, tags) = match growth {
            Growth::Slow => ((len * 11 / 8).max(12), 0),
            Growth::Bulk { .. } => ((len * 2).max(12), (len * 2).max(12)),
        };
        // What is there goes first: no room for both is needed.
        (self.slots, self.tags) = (Vec::new(), Vec::new());
        self.slots.reserve_exact(slots);
        self.slots.resize(slots, EMPTY);
        self.tags.reserve_exact(tags);
        self.tags.resize(tags, NO_TAG);
        for at in 0..len {
            self.link(at);
        }
    }

    fn remove(&mut self, hash: KeyHash) {
        let (slot, at) = self.find(hash).expect("a removed entry is there");
        self.unlink(slot);
        let last = self.entries.len() - 1;
        if at != last {
            let (moved, _) = self
                .find(self.entries[last].hash())
                .expect("the last entry has a slot");
            self.slots[moved] = u16::try_from(at).expect("at most 65,535 entries");
        }
        self.entries.swap_remove(at);
    }

    /// Empties a slot and closes the gap behind it (no marks of removal are left).
    fn unlink(&mut self, slot: usize) {
        let mut hole = slot;
        let mut next = self.after(hole);
        while self.slots[next] != EMPTY {
            let entry = self.entries[usize::from(self.slots[next])];
            let wanted = home(entry.hash(), self.slots.len());
            let count = self.slots.len();
            let from_home = (next + count - wanted) % count;
            let from_hole = (next + count - hole) % count;
            if from_home >= from_hole {
                self.slots[hole] = self.slots[next];
                if !self.tags.is_empty() {
                    self.tags[hole] = self.tags[next];
                }
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = EMPTY;
        if !self.tags.is_empty() {
            self.tags[hole] = NO_TAG;
        }
    }
}
