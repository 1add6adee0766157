//! Entries that are held against eviction, and entries that nobody sees yet.
//!
//! A hidden entry is a transaction's value: stored, with its record and its version, under an
//! expiry that was over long ago, so that this store and every reader of the index take it for a
//! miss. To reveal it is to store its true expiry: one word, which cannot fail. No timer runs for
//! it.

use chariot_proto::KeyHash;
use chariot_shm::index::{RecordId, RecordWords};

use super::{HIDDEN_MS, Store, fingerprint};
use crate::effects::{Effects, RetireReason};
use crate::entry::{InsertError, Inserted, NewEntry};

impl Store {
    /// Keeps a key from eviction until as many [`Store::release`]s; it need not exist.
    pub fn hold(&mut self, hash: KeyHash) {
        let count = self.held.entry(hash).or_default();
        *count += 1;
        if *count == 1
            && let Some(id) = self.index.find(hash.hi, hash.lo)
        {
            let len = self.index.read(id).len;
            self.policy.remove(id.get(), len);
        }
    }

    /// Ends one [`Store::hold`].
    ///
    /// # Panics
    /// When the key is not held.
    pub fn release(&mut self, hash: KeyHash) {
        let count = self.held.get_mut(&hash).expect("the key is held");
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.held.remove(&hash);
        if let Some(id) = self.index.find(hash.hi, hash.lo) {
            let words = self.index.read(id);
            if self.evictable(&words) && !self.policy.is_linked(id.get()) {
                self.policy.insert(id.get(), words.len, fingerprint(hash));
            }
        }
    }

    /// Stores a value that nobody finds before [`Store::reveal`]; the store owns the extent from
    /// then on. The caller refuses all other writes of the key meanwhile.
    ///
    /// # Errors
    /// As [`Store::insert`] with `set_if_absent`.
    ///
    /// # Panics
    /// As [`Store::insert`].
    pub fn reserve(
        &mut self,
        hash: KeyHash,
        entry: &NewEntry,
        now_ms: u64,
        effects: &mut Effects,
    ) -> Result<Inserted, InsertError> {
        if let Some(id) = self.index.find(hash.hi, hash.lo)
            && self.index.read(id).expiry_ms == HIDDEN_MS
        {
            return Err(InsertError::Reserved);
        }
        if self.exists(hash, now_ms) {
            self.stats.refused_exists += 1;
            return Err(InsertError::Exists);
        }
        // Takes away what has expired.
        self.remove(hash, now_ms, effects);
        let hidden = NewEntry {
            expiry_ms: HIDDEN_MS,
            set_if_absent: false,
            ..*entry
        };
        self.hold(hash);
        let inserted = self.insert(hash, &hidden, 0, effects);
        match &inserted {
            Ok(inserted) => self.wheel.clear(inserted.record.get()),
            Err(_) => self.release(hash),
        }
        inserted
    }

    /// Makes a reserved value visible, with its true expiry (0 = never).
    ///
    /// # Panics
    /// When the key is not reserved.
    pub fn reveal(&mut self, hash: KeyHash, expiry_ms: u64) {
        let id = self.hidden(hash);
        self.index.set_expiry(id, expiry_ms);
        self.wheel.set(id.get(), expiry_ms);
        self.release(hash);
    }

    /// Removes a reserved value, which nobody has seen.
    ///
    /// # Panics
    /// When the key is not reserved.
    pub fn unreserve(&mut self, hash: KeyHash, effects: &mut Effects) {
        let id = self.hidden(hash);
        self.take_out(id, RetireReason::Deleted, effects);
        self.release(hash);
    }

    fn hidden(&self, hash: KeyHash) -> RecordId {
        let id = self.index.find(hash.hi, hash.lo).expect("it is reserved");
        assert_eq!(self.index.read(id).expiry_ms, HIDDEN_MS);
        id
    }

    pub(super) fn is_evictable(&self, hash: KeyHash, words: &RecordWords) -> bool {
        self.evictable(words) && (self.held.is_empty() || !self.held.contains_key(&hash))
    }

    pub(super) fn hash_of(&self, id: RecordId) -> KeyHash {
        let (hi, lo) = self.index.hash(id);
        KeyHash { hi, lo }
    }
}

#[cfg(test)]
mod tests {
    use chariot_base::Extent;
    use chariot_proto::WriteMode;
    use chariot_shm::index::{IndexMemory, IndexOptions, IndexWriter};

    use super::*;
    use crate::store::{Blocked, StoreOptions};

    const KEY: KeyHash = KeyHash { hi: 5, lo: 6 };

    fn store() -> Store {
        let options = IndexOptions::new(64);
        let memory = IndexMemory::heap(&options).unwrap();
        let index = IndexWriter::new(memory, &options).unwrap();
        Store::new(index, StoreOptions::default())
    }

    fn entry(offset: u64) -> NewEntry {
        NewEntry {
            extent: Extent::new(offset, 64),
            crc: None,
            expiry_ms: 0,
            write_mode: WriteMode::NoneEvict,
            set_if_absent: false,
        }
    }

    #[test]
    fn a_reserved_key_is_a_miss_until_it_is_revealed() {
        let (mut store, mut effects) = (store(), Effects::new());
        store.reserve(KEY, &entry(64), 1000, &mut effects).unwrap();
        store.check_invariants();
        assert!(!store.exists(KEY, 1000));
        assert!(!store.remove(KEY, 1000, &mut effects));
        assert!(!store.set_expiry(KEY, 9, 1000));
        assert_eq!(store.advance(50_000, &mut effects, 100).expired, 0);
        let evicted = store.evict(64, &|_| false, &mut effects);
        assert_eq!(evicted.blocked, Some(Blocked::Kept));
        let again = store.reserve(KEY, &entry(128), 1000, &mut effects);
        assert_eq!(again, Err(InsertError::Reserved));
        store.reveal(KEY, 60_000);
        store.check_invariants();
        assert_eq!(store.peek(KEY, 1000).unwrap().expiry_ms, 60_000);
        assert_eq!(store.advance(61_000, &mut effects, 100).expired, 1);
        store.check_invariants();
    }

    #[test]
    fn a_reservation_that_is_given_up_leaves_nothing() {
        let (mut store, mut effects) = (store(), Effects::new());
        store.insert(KEY, &entry(64), 10, &mut effects).unwrap();
        let refused = store.reserve(KEY, &entry(128), 10, &mut effects);
        assert_eq!(refused, Err(InsertError::Exists));
        store.remove(KEY, 10, &mut effects);
        store.reserve(KEY, &entry(128), 10, &mut effects).unwrap();
        store.unreserve(KEY, &mut effects);
        assert!(store.is_empty());
        assert_eq!(effects.retired.len(), 2);
        store.check_invariants();
    }

    #[test]
    fn a_held_key_is_not_evicted_and_evictable_again_afterwards() {
        let (mut store, mut effects) = (store(), Effects::new());
        store.hold(KEY);
        store.insert(KEY, &entry(64), 10, &mut effects).unwrap();
        store.insert(KEY, &entry(128), 10, &mut effects).unwrap();
        store.check_invariants();
        store.hold(KEY);
        store.release(KEY);
        assert_eq!(store.evict(64, &|_| false, &mut effects).entries, 0);
        store.release(KEY);
        store.check_invariants();
        assert_eq!(store.evict(64, &|_| false, &mut effects).entries, 1);
    }
}
