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
//! During recovery tables have a sixteenth of room, which is trimmed at its end.
//! A table grows by itself, a tenth at a time: with 10 M objects that moves 2,441 entries (107 KB),
//! with the most that fit 65,535 (2.9 MB, under a millisecond). Rejected: one open-addressing table
//! of whole entries (needs 0.92 load for 48 B, and long probes), linear hashing (buckets not yet
//! split hold twice the load), a sorted array (moves entries on insert).
//!
//! Lives on: owner shard.

use chariot_proto::{KeyHash, WriteMode};

use crate::limits::ENTRIES_MAX;

const TABLES: usize = 4096;
const TABLE_BITS: u32 = 12;
const TABLE_LEN_MAX: usize = 65_535;
const EMPTY: u16 = u16::MAX;
/// A full table gets room for one more of so many entries.
const GROWTH: usize = 64;
/// The same during recovery: a step copies the table, so an entry is copied 16 times and not 64.
const GROWTH_IN_BULK: usize = 16;
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
}

/// All keys of one store.
pub(crate) struct Index {
    tables: Vec<Table>,
    len: u64,
    entries_max: u64,
    /// One more of so many entries is the room that a full table gets.
    growth: usize,
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
            growth: GROWTH,
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

    /// Begins to take many entries at once: tables grow in larger steps until
    /// [`Self::trim`], for each step copies a table.
    pub(crate) fn begin_bulk(&mut self) {
        self.growth = GROWTH_IN_BULK;
    }

    /// Trims tables to the room they would have without [`Self::begin_bulk`], from table `from` on,
    /// some a call; returns where to go on, `None` when all are trimmed. Growth is slow again from
    /// the first call on.
    pub(crate) fn trim(&mut self, from: usize) -> Option<usize> {
        self.growth = GROWTH;
        let mut looked_at = 0;
        for (at, table) in self.tables.iter_mut().enumerate().skip(from) {
            if looked_at >= TRIMMED_A_TURN {
                return Some(at);
            }
            let len = table.entries.len();
            looked_at += len;
            table.entries.shrink_to(len + (len / GROWTH).max(8));
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
    fn find(&self, hash: KeyHash) -> Option<(usize, usize)> {
        if self.slots.is_empty() {
            return None;
        }
        let mut slot = home(hash, self.slots.len());
        loop {
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

    fn insert(&mut self, entry: Entry, growth: usize) {
        if self.entries.len() == self.entries.capacity() {
            self.entries
                .reserve_exact((self.entries.len() / growth).max(8));
        }
        self.entries.push(entry);
        if self.entries.len() * 5 > self.slots.len() * 4 {
            self.rebuild();
        } else {
            self.link(self.entries.len() - 1);
        }
    }

    fn link(&mut self, at: usize) {
        let mut slot = home(self.entries[at].hash(), self.slots.len());
        while self.slots[slot] != EMPTY {
            slot = self.after(slot);
        }
        self.slots[slot] = u16::try_from(at).expect("a table has at most 65,535 entries");
    }

    fn rebuild(&mut self) {
        let slots = (self.entries.len() * 11 / 8).max(12);
        self.slots = Vec::new();
        self.slots.reserve_exact(slots);
        self.slots.resize(slots, EMPTY);
        for at in 0..self.entries.len() {
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
                hole = next;
            }
            next = self.after(next);
        }
        self.slots[hole] = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chariot_base::{Random, SplitMix64};

    use super::*;

    #[test]
    fn index_agrees_with_a_map_through_inserts_and_removes() {
        let mut random = SplitMix64::new(11);
        let mut index = Index::new(0);
        let mut model = BTreeMap::new();
        for step in 0..60_000_u64 {
            // Few tables, so that probes are long and gaps are closed.
            let hash = KeyHash {
                hi: (random.below(3000) << 12) | random.below(2),
                lo: 7,
            };
            if random.below(5) < 3 {
                if index.get(hash).is_none() {
                    assert!(index.insert(Entry::dead(hash, step)));
                    model.insert(hash, step);
                }
            } else if model.remove(&hash).is_some() {
                index.remove(hash);
            }
            assert_eq!(
                index.get(hash).map(|entry| entry.version()),
                model.get(&hash).copied()
            );
        }
        assert_eq!(index.len(), model.len() as u64);
        for (&hash, &version) in &model {
            assert_eq!(index.get(hash).unwrap().version(), version);
        }
        assert_eq!(index.iter().count(), model.len());
    }

    #[test]
    fn fields_of_an_entry_do_not_touch_each_other() {
        let mut entry = Entry::dead(KeyHash { hi: 1, lo: 2 }, 3);
        assert_eq!(entry.place(), None);
        let place = Place {
            segment: (1 << 20) - 2,
            at: (1 << 30) - 8,
        };
        entry.set_place(Some(place));
        entry.set_kind(Kind::Payload);
        entry.set_hits(9);
        entry.set_queued(true);
        entry.set_value(&Value {
            len: (1 << 30) - 1,
            crc: 77,
            expiry_unix_ms: EXPIRY_BASE_MS + 6400,
            has_checksum: true,
            mode: WriteMode::WriteBackEvict,
        });
        for _ in 0..300 {
            entry.add_record();
        }
        entry.drop_record();
        assert_eq!(entry.records(), 255, "many stay many");
        assert_eq!(entry.place(), Some(place));
        assert_eq!(entry.kind(), Kind::Payload);
        assert_eq!((entry.hits(), entry.is_queued()), (3, true));
        assert_eq!(entry.mode(), WriteMode::WriteBackEvict);
        assert_eq!((entry.len(), entry.crc()), ((1 << 30) - 1, 77));
        assert_eq!(entry.expiry_unix_ms(), EXPIRY_BASE_MS + 6400);
        assert!(entry.is_expired(EXPIRY_BASE_MS + 6400));
        assert!(!entry.is_expired(EXPIRY_BASE_MS + 6399));
        entry.set_place(None);
        assert_eq!(entry.place(), None);
        assert_eq!(entry.kind(), Kind::Payload);
    }

    #[test]
    fn memory_of_bulk_is_given_back_by_trimming() {
        let mut random = SplitMix64::new(6);
        let mut index = Index::new(0);
        index.begin_bulk();
        // Just past a step of most tables, where the slack is largest.
        for count in 1..=1_100_000_u64 {
            let hash = KeyHash {
                hi: random.next_u64(),
                lo: count,
            };
            assert!(index.insert(Entry::dead(hash, count)));
        }
        let before = index.size_bytes();
        let mut turns = 1;
        let mut from = 0;
        while let Some(next) = index.trim(from) {
            from = next;
            turns += 1;
        }
        assert!(
            (8..=9).contains(&turns),
            "{turns} turns of 131,072 and a table"
        );
        let after = index.size_bytes();
        assert!(after < before, "{after} of {before}");
        assert!(after <= 48 * 1_100_000, "{after}");
        let mut random = SplitMix64::new(6);
        for count in 1..=1_100_000_u64 {
            let hash = KeyHash {
                hi: random.next_u64(),
                lo: count,
            };
            assert_eq!(index.get(hash).unwrap().version(), count);
        }
    }

    #[test]
    fn full_index_refuses_and_stays_as_it_was() {
        let mut index = Index::new(2);
        for hi in 0..2 {
            assert!(index.insert(Entry::dead(KeyHash { hi, lo: 0 }, 1)));
        }
        assert!(!index.insert(Entry::dead(KeyHash { hi: 9, lo: 0 }, 1)));
        assert_eq!(index.len(), 2);
        index.clear();
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn memory_stays_below_48_bytes_at_the_worst_point() {
        let mut random = SplitMix64::new(5);
        let mut index = Index::new(0);
        for count in 1..=2_000_000_u64 {
            let hash = KeyHash {
                hi: random.next_u64(),
                lo: count,
            };
            assert!(index.insert(Entry::dead(hash, 1)));
            if count >= 1_000_000 && count.is_multiple_of(5000) {
                let each = index.size_bytes() as f64 / count as f64;
                assert!(each <= 48.0, "{each} bytes at {count}");
            }
        }
    }
}
