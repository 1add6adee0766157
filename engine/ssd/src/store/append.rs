//! What the caller hands over: objects and tombstones on their way into the lanes.
//!
//! Lives on: owner shard. Neighbour: `write.rs` takes the lanes from there.

use chariot_proto::{KeyHash, WriteMode};

use super::{COUNTER_BITS, DAY_MS, LaneName, SsdStore, is_kept};
use crate::effects::{Now, Part};
use crate::error::AppendError;
use crate::format::{self, RecordHeader, RecordKind};
use crate::gather::{Push, Role};
use crate::index::{Entry, Kind, Value};
use crate::limits::GATHERED_BYTES_MAX;
use crate::mutate::{Mutation, is_planted};
use crate::record::{Append, Delete, NewRecord, Source, Ticket};

impl SsdStore {
    /// Returns the most bytes that one value may have.
    pub fn len_max(&self) -> u32 {
        let block = self.block_bytes();
        // Segment header, group head (with a key of 1,024 bytes), footer.
        self.segment_bytes() - 3 * block.max(4096)
    }

    /// Writes an object. Its older versions on the device are dead from here on.
    ///
    /// # Errors
    /// [`AppendError`]: nothing has changed. An object whose older version was there must be
    /// deleted first, by `delete`, when memory overwrote it.
    ///
    /// # Panics
    /// When the record is outside the ranges of [`NewRecord`], or the source is of the wrong kind.
    pub fn append(
        &mut self,
        record: &NewRecord<'_>,
        source: Source<'_>,
        now: Now,
    ) -> Result<Append, AppendError> {
        assert!(record.len > 0);
        assert!(!record.key.is_empty());
        assert!(record.key.len() <= usize::from(chariot_proto::limits::KEY_MAX));
        if let Some(present) = self.check_append(record, now)? {
            return Ok(present);
        }
        let old = self.index.get(record.hash);
        self.bury(old.as_ref());
        let value = Value {
            len: record.len,
            crc: record.crc,
            expiry_unix_ms: record.expiry_unix_ms,
            has_checksum: record.has_checksum,
            mode: record.mode,
        };
        let mut entry = old.unwrap_or_else(|| Entry::dead(record.hash, record.version));
        entry.set_version(record.version);
        entry.set_place(None);
        entry.set_kind(Kind::Writing);
        entry.set_value(&value);
        entry.set_hits(0);
        entry.set_queued(false);
        self.put(old.is_some(), entry);
        let ticket = Ticket(self.number());
        self.push_value(record, value, source, ticket, now);
        self.stats.appended += 1;
        self.stats.appended_bytes += u64::from(record.len);
        self.cleaner.credit(u64::from(record.len), &self.options);
        self.pump(now);
        Ok(Append::Queued(ticket))
    }

    pub(super) fn put(&mut self, is_there: bool, entry: Entry) {
        if is_there {
            self.index.set(entry);
        } else {
            let fitted = self.index.insert(entry);
            assert!(fitted, "room in the index was checked");
        }
    }

    fn push_value(
        &mut self,
        record: &NewRecord<'_>,
        value: Value,
        source: Source<'_>,
        ticket: Ticket,
        now: Now,
    ) {
        let is_packed = self.is_packed(record.len);
        let padded_bytes = u64::from(record.len.next_multiple_of(self.block_bytes()));
        let (packed, payload) = match source {
            Source::Fill(fill) => (Some(fill), None),
            Source::Extent(extent) => {
                assert!(
                    extent.len == u64::from(record.len),
                    "the extent holds the value"
                );
                let part = Part::Extent {
                    tenant: record.tenant,
                    extent,
                    padded_bytes,
                };
                (None, Some(part))
            },
        };
        assert!(
            is_packed == packed.is_some(),
            "the source is what `is_packed` says"
        );
        let kind = if is_packed {
            RecordKind::Packed
        } else {
            RecordKind::Payload
        };
        let header = RecordHeader {
            hash: record.hash,
            version: record.version,
            value,
            kind,
            is_void: false,
            value_at: 0,
            tenant: record.tenant.0,
            key_len: u16::try_from(record.key.len()).expect("at most 1,024"),
            sequence_low: 0,
        };
        let push = Push {
            role: Role::Append(ticket),
            record: header,
            key: record.key,
            packed,
            payload,
        };
        self.user.push(push, now.ns);
    }

    fn check_append(
        &mut self,
        record: &NewRecord<'_>,
        now: Now,
    ) -> Result<Option<Append>, AppendError> {
        if self.retired.is_some() || self.is_closing {
            return Err(AppendError::Retired);
        }
        if record.len > self.len_max() {
            self.stats.refused += 1;
            return Err(AppendError::TooLarge {
                len: u64::from(record.len),
            });
        }
        match self.index.get(record.hash) {
            Some(entry) if entry.is_live() && entry.version() == record.version => {
                return Ok(Some(Append::Present));
            },
            Some(entry) if entry.version() >= record.version => return Err(AppendError::Stale),
            None if !self.index.has_room(record.hash) => {
                self.stats.refused += 1;
                return Err(AppendError::IndexFull);
            },
            Some(_) | None => {},
        }
        self.check_room(record)?;
        self.check_policy(record, now)?;
        Ok(None)
    }

    fn check_room(&mut self, record: &NewRecord<'_>) -> Result<(), AppendError> {
        let bytes = format::footprint(RecordKind::Payload, record.len, self.block_bytes());
        if is_kept(record.mode) && self.kept_bytes + bytes > self.kept_max() {
            self.stats.refused += 1;
            return Err(AppendError::Full);
        }
        let most = GATHERED_BYTES_MAX.min(u64::from(self.segment_bytes()));
        let is_full = self.user.bytes() > 0 && self.user.bytes() + bytes > most;
        if is_full {
            self.stats.refused += 1;
            self.wants_room = true;
            return Err(AppendError::Busy);
        }
        Ok(())
    }

    /// Kept objects may take half of the partition: the rest is what cleaning lives from.
    fn kept_max(&self) -> u64 {
        let own = &self.devices.own().superblock;
        u64::from(own.segment_bytes) * u64::from(own.segment_count) / 2
    }

    fn check_policy(&mut self, record: &NewRecord<'_>, now: Now) -> Result<(), AppendError> {
        if is_kept(record.mode) {
            return Ok(());
        }
        self.turn_day(now);
        let budget = self.options.day_budget_bytes;
        let is_spent = budget > 0 && self.stats.day_bytes + u64::from(record.len) > budget;
        let is_first = self
            .ghost
            .as_mut()
            .is_some_and(|ghost| !ghost.saw_before(record.hash));
        if is_spent || is_first {
            self.stats.not_admitted += 1;
            return Err(AppendError::NotAdmitted);
        }
        Ok(())
    }

    pub(super) fn turn_day(&mut self, now: Now) {
        let day = now.unix_ms / DAY_MS;
        // A day that is long gone by: the clock was ahead and has been set right. Without this, one
        // start under a wrong clock would spend the budget of all days until that one.
        if day > self.day || day + 1 < self.day {
            self.day = day;
            self.stats.day_bytes = 0;
        }
    }

    /// Makes sure that what the device holds of a key never comes back: for deletes, and for
    /// overwrites in memory. The user's answer waits for `Done`.
    pub fn delete(&mut self, hash: KeyHash, now: Now) -> Delete {
        if self.retired.is_some() || self.is_closing {
            return Delete::Refused;
        }
        // Everything of earlier starts is older than any version of this one.
        let floor = u64::from(self.options.epoch) << COUNTER_BITS;
        let old = self.index.get(hash);
        let is_gone =
            old.is_some_and(|entry| entry.kind() == Kind::Dead && entry.place().is_some());
        if is_gone || (old.is_none() && self.recovery.is_none()) {
            return Delete::Absent;
        }
        if old.is_none() && !self.index.has_room(hash) {
            return Delete::Refused;
        }
        let was_writing = old.is_some_and(|entry| entry.kind() == Kind::Writing);
        self.bury(old.as_ref());
        let mut entry = old.unwrap_or_else(|| Entry::dead(hash, floor));
        entry.set_version(entry.version().max(floor));
        entry.set_place(None);
        entry.set_kind(Kind::Dead);
        entry.set_queued(true);
        self.put(old.is_some(), entry);
        let ticket = Ticket(self.number());
        // A tombstone does not overtake the value that it kills.
        let lane = if was_writing {
            LaneName::User
        } else {
            LaneName::Urgent
        };
        let awaited = if is_planted(Mutation::DeleteNotAwaited) {
            self.done(ticket, Ok(()));
            None
        } else {
            Some(ticket)
        };
        self.push_tombstone(lane, Role::Tombstone(awaited), hash, entry.version(), now);
        self.pump(now);
        Delete::Queued(ticket)
    }

    pub(super) fn push_tombstone(
        &mut self,
        lane: LaneName,
        role: Role,
        hash: KeyHash,
        version: u64,
        now: Now,
    ) {
        let record = RecordHeader {
            hash,
            version,
            value: Value {
                len: 0,
                crc: 0,
                expiry_unix_ms: 0,
                has_checksum: false,
                mode: WriteMode::None,
            },
            kind: RecordKind::Tombstone,
            is_void: false,
            value_at: 0,
            tenant: 0,
            key_len: 0,
            sequence_low: 0,
        };
        let push = Push {
            role,
            record,
            key: &[],
            packed: None,
            payload: None,
        };
        self.stats.tombstones += 1;
        match lane {
            LaneName::User => self.user.push(push, now.ns),
            LaneName::Urgent => self.urgent.push(push, now.ns),
        }
    }
}
