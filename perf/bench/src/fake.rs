//! A cache in this process for tests: a map of bounded size, oldest out first, that can be told to
//! damage what it gives out and to refuse what it gets.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use chariot_client::{Error, Status, Version};

use crate::cache::{Cache, CachePlace, Hits};

#[derive(Debug, Default)]
struct Inside {
    values: HashMap<Vec<u8>, Vec<u8>>,
    order: VecDeque<Vec<u8>>,
    evictions: u64,
    writes: u64,
    hits: Hits,
    shortest_key: usize,
    longest_key: usize,
}

/// Shared by all clients made from it.
#[derive(Clone, Debug)]
pub(crate) struct FakeCache {
    inside: Arc<Mutex<Inside>>,
    /// Values held at most.
    capacity: usize,
    /// Flip one bit of every value given out.
    pub damage: bool,
    /// Refuse every write.
    pub refuse: bool,
    /// One value in so many comes from an SSD; 0 = none.
    pub ssd_every: u64,
}

impl FakeCache {
    pub(crate) fn new(capacity: usize) -> Self {
        let inside = Inside {
            shortest_key: usize::MAX,
            ..Inside::default()
        };
        let inside = Arc::new(Mutex::new(inside));
        Self {
            inside,
            capacity,
            damage: false,
            refuse: false,
            ssd_every: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.inside.lock().unwrap().values.len()
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.inside.lock().unwrap().evictions
    }

    pub(crate) fn writes(&self) -> u64 {
        self.inside.lock().unwrap().writes
    }

    /// Shortest and longest key ever written.
    pub(crate) fn key_lengths(&self) -> (usize, usize) {
        let inside = self.inside.lock().unwrap();
        (inside.shortest_key, inside.longest_key)
    }

    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut inside = self.inside.lock().unwrap();
        let mut value = inside.values.get(key).cloned()?;
        inside.hits.all += 1;
        inside.hits.ssd +=
            u64::from(self.ssd_every > 0 && inside.hits.all.is_multiple_of(self.ssd_every));
        drop(inside);
        if self.damage {
            let middle = value.len() / 2;
            value[middle] ^= 1;
        }
        Some(value)
    }
}

impl Cache for FakeCache {
    type View = Vec<u8>;

    fn place(&self) -> CachePlace {
        CachePlace::SharedMemory
    }

    fn hits(&self) -> Hits {
        self.inside.lock().unwrap().hits
    }

    fn set(&self, key: &[u8], value: &[u8]) -> Result<Version, Error> {
        if self.refuse {
            return Err(Error::new(Status::OutOfMemory, "the fake is full"));
        }
        let mut inside = self.inside.lock().unwrap();
        inside.writes += 1;
        inside.shortest_key = inside.shortest_key.min(key.len());
        inside.longest_key = inside.longest_key.max(key.len());
        if inside.values.insert(key.to_vec(), value.to_vec()).is_none() {
            inside.order.push_back(key.to_vec());
        }
        while inside.values.len() > self.capacity {
            let oldest = inside.order.pop_front().unwrap();
            if inside.values.remove(&oldest).is_some() {
                inside.evictions += 1;
            }
        }
        Ok(Version::from_raw(inside.writes))
    }

    fn mset(&self, items: &[(&[u8], &[u8])]) -> Vec<Result<Version, Error>> {
        items
            .iter()
            .map(|(key, value)| self.set(key, value))
            .collect()
    }

    fn get_into(&self, key: &[u8], buffer: &mut [u8]) -> Result<Option<usize>, Error> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        buffer[..value.len()].copy_from_slice(&value);
        Ok(Some(value.len()))
    }

    fn mget_into(
        &self,
        keys: &[&[u8]],
        buffers: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        assert_eq!(keys.len(), buffers.len());
        keys.iter()
            .zip(buffers)
            .map(|(key, buffer)| self.get_into(key, buffer))
            .collect()
    }

    fn view(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.value(key))
    }

    fn mview(&self, keys: &[&[u8]]) -> Vec<Result<Option<Vec<u8>>, Error>> {
        keys.iter().map(|key| self.view(key)).collect()
    }

    fn exist(&self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.inside.lock().unwrap().values.contains_key(key))
    }

    fn mexist(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        keys.iter().map(|key| self.exist(key)).collect()
    }

    fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        let mut inside = self.inside.lock().unwrap();
        let found = inside.values.remove(key).is_some();
        inside.order.retain(|held| held != key);
        Ok(found)
    }

    fn mdelete(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        keys.iter().map(|key| self.delete(key)).collect()
    }

    fn prefix(&self, keys: &[&[u8]]) -> Result<usize, Error> {
        let inside = self.inside.lock().unwrap();
        Ok(keys
            .iter()
            .take_while(|key| inside.values.contains_key(**key))
            .count())
    }
}
