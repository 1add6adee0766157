//! What the fake keeps: entries by hash, and one index for each shard that says the same.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use chariot_proto::KeyHash;
use chariot_shm::index::{
    IndexMemory, IndexOptions, IndexWriter, RecordId, RecordState, RecordWords,
};
use chariot_shm::{Memfd, MemfdOptions, clock};

/// Whose indexes a session is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum IndexOf {
    /// Its own.
    #[default]
    Us,
    OtherShard,
    OtherTenant,
    OtherBoot,
    /// One too few.
    Missing,
}

pub(super) const BOOT_ID: u64 = 99;
pub(super) const TENANT: u16 = 3;

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub extent: u64,
    pub len: u64,
    pub version: u64,
    pub expiry_ms: u64,
}

impl Entry {
    fn words(&self) -> RecordWords {
        RecordWords {
            extent: self.extent,
            len: self.len,
            state: RecordState::Here,
            version: self.version,
            expiry_ms: self.expiry_ms,
            ..RecordWords::default()
        }
    }

    fn has_expired(&self) -> bool {
        self.expiry_ms != 0 && self.expiry_ms <= clock::coarse_ms()
    }
}

/// All entries. The index is changed before an answer is posted, as a shard does.
pub(super) struct Store {
    entries: HashMap<KeyHash, Entry>,
    indexes: Vec<IndexWriter>,
    files: Vec<Memfd>,
    /// Where the index says that values are, if not where they are.
    wild_extent: Option<u64>,
}

impl Store {
    pub(super) fn new(shards: u16, of: IndexOf, wild_extent: Option<u64>) -> Self {
        let mut store = Self {
            entries: HashMap::new(),
            indexes: Vec::new(),
            files: Vec::new(),
            wild_extent,
        };
        for shard in 0..shards {
            let options = IndexOptions {
                shard: shard + u16::from(of == IndexOf::OtherShard),
                tenant: TENANT + u16::from(of == IndexOf::OtherTenant),
                boot_id: BOOT_ID + u64::from(of == IndexOf::OtherBoot),
                ..IndexOptions::new(1 << 16)
            };
            let size = options.memory_size_bytes().next_multiple_of(64 << 10);
            let file = Memfd::create("fake-index", size, MemfdOptions::default()).unwrap();
            let memory = IndexMemory::shared(&file).unwrap();
            store
                .indexes
                .push(IndexWriter::new(memory, &options).unwrap());
            store.files.push(file);
        }
        store
    }

    /// Read-only descriptors of all indexes, in the order of the shards.
    pub(super) fn descriptors(&self) -> Vec<OwnedFd> {
        self.files
            .iter()
            .map(|file| file.read_only().unwrap())
            .collect()
    }

    pub(super) fn index_len(&self) -> u64 {
        self.files[0].size()
    }

    pub(super) fn get(&mut self, hash: KeyHash) -> Option<Entry> {
        let entry = *self.entries.get(&hash)?;
        if entry.has_expired() {
            self.remove(hash);
            return None;
        }
        Some(entry)
    }

    /// Makes a key whose bytes are not in the arena, for the index; the shard knows nothing of it.
    pub(super) fn put_away(&mut self, hash: KeyHash) {
        let words = RecordWords {
            state: RecordState::Ssd,
            ..RecordWords::default()
        };
        self.index(hash).insert(hash.hi, hash.lo, &words).unwrap();
    }

    /// Inserts or replaces.
    pub(super) fn put(&mut self, hash: KeyHash, entry: Entry) {
        let mut words = entry.words();
        if let Some(extent) = self.wild_extent {
            words.extent = extent;
        }
        let known = self.entries.insert(hash, entry).is_some();
        if let Some(id) = self.record(hash) {
            assert!(known, "index and entries agree");
            self.index(hash).update(id, &words);
        } else {
            assert!(!known, "index and entries agree");
            self.index(hash).insert(hash.hi, hash.lo, &words).unwrap();
        }
    }

    pub(super) fn remove(&mut self, hash: KeyHash) -> bool {
        let known = self.entries.remove(&hash).is_some();
        if let Some(id) = self.record(hash) {
            self.index(hash).remove(id);
        }
        known
    }

    pub(super) fn set_expiry(&mut self, hash: KeyHash, expiry_ms: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&hash) else {
            return false;
        };
        entry.expiry_ms = expiry_ms;
        let id = self.record(hash).expect("index and entries agree");
        self.index(hash).set_expiry(id, expiry_ms);
        true
    }

    /// The record of a key and its generation.
    pub(super) fn generation(&mut self, hash: KeyHash) -> (u32, u64) {
        let id = self.record(hash).expect("the key is known");
        (id.get(), self.index(hash).generation(id))
    }

    fn record(&mut self, hash: KeyHash) -> Option<RecordId> {
        self.index(hash).find(hash.hi, hash.lo)
    }

    fn index(&mut self, hash: KeyHash) -> &mut IndexWriter {
        let shards = u16::try_from(self.indexes.len()).unwrap();
        &mut self.indexes[usize::from(hash.shard(shards))]
    }
}
