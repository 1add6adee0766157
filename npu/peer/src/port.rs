//! A card of this process, as programs use it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chariot_client::KeyHash;
use chariot_client::device::{CHUNK_LOG2, CHUNKS_MAX, DeviceShape, Lifetime};
use chariot_device::Device;

use crate::directory::{Directory, Wish};
use crate::error::PeerError;
use crate::object::{DeviceObject, Held};
use crate::state::{Shared, State};
use crate::{fetch, orders};

/// Most keys of one call.
pub(crate) const KEYS_MAX: usize = 10_000;

/// How a port works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// Shortest chunk, as a power of two: what one announcement costs must be little beside it.
    /// Default 20: 1 MiB.
    pub chunk_min_log2: u8,
    /// Chunks that an object is cut into when it is long enough, as a power of two. With `n`
    /// receivers the last has it about `n` chunks after the first. Default 8: 256 chunks.
    pub chunks_log2: u8,
    /// How long one end waits for a link to stand, or to move anything, before it breaks it.
    /// Default 10 s.
    pub stall: Duration,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            chunk_min_log2: 20,
            chunks_log2: 8,
            stall: Duration::from_secs(10),
        }
    }
}

impl PeerOptions {
    /// How an object of this shape is cut.
    fn chunk_log2(&self, shape: &DeviceShape) -> u8 {
        let wanted = shape.bytes() >> self.chunks_log2;
        let log2 = u8::try_from(wanted.max(1).next_power_of_two().trailing_zeros());
        let log2 = log2.unwrap_or(u8::MAX).max(self.chunk_min_log2);
        let mut log2 = log2.clamp(*CHUNK_LOG2.start(), *CHUNK_LOG2.end());
        while shape.chunks(log2) > CHUNKS_MAX && log2 < *CHUNK_LOG2.end() {
            log2 += 1;
        }
        log2
    }
}

/// What a port has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Link ends that stood.
    pub links_made: u64,
    /// Links that this port broke.
    pub links_broken: u64,
    /// Bytes sent to other cards.
    pub bytes_sent: u64,
    /// Bytes received from other cards.
    pub bytes_received: u64,
    /// Objects that it provides or receives now.
    pub objects: usize,
    /// Link ends that there are now.
    pub links: usize,
}

/// One card of this process: offers objects and gets them. Closed when it is dropped: its links
/// are broken, and what it provided is provided no longer. Lives on: any thread.
#[derive(Debug)]
pub struct PeerPort {
    shared: Arc<Shared>,
}

impl PeerPort {
    /// Opens the port of a card. One port a card and directory: a second one is told so by the
    /// directory when it asks for orders.
    ///
    /// # Errors
    /// [`PeerError::Invalid`]: the process can have no more threads.
    pub fn open(
        device: Device,
        directory: Arc<dyn Directory>,
        options: PeerOptions,
    ) -> Result<Self, PeerError> {
        let shared = Arc::new(Shared::new(device, directory, options));
        let started = shared.spawn(&mut shared.lock(), "chariot-orders", |shared| {
            orders::run(&shared);
        });
        if !started {
            return Err(PeerError::Invalid("the process can have no more threads"));
        }
        Ok(Self { shared })
    }

    /// The card.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// Offers objects to every card until they are deleted (`dev_mset`): one result each. The
    /// memory stays where it is and must not change meanwhile.
    #[must_use]
    pub fn put(&self, objects: &[DeviceObject]) -> Vec<Result<(), PeerError>> {
        self.offer(objects, Lifetime::Reference)
    }

    /// Offers objects to one receiver each (`dev_publish`). A future is ready when its object has
    /// been received; the memory must not change before.
    #[must_use]
    pub fn publish(&self, objects: &[DeviceObject]) -> Vec<Result<MovedFuture, PeerError>> {
        let offered = self.offer(objects, Lifetime::Move);
        offered
            .into_iter()
            .zip(objects)
            .map(|(offered, object)| {
                offered?;
                Ok(MovedFuture {
                    shared: Arc::clone(&self.shared),
                    hash: self.shared.directory.hash(&object.key)?,
                })
            })
            .collect()
    }

    fn offer(&self, objects: &[DeviceObject], lifetime: Lifetime) -> Vec<Result<(), PeerError>> {
        if let Err(error) = check_call(objects.len()) {
            return vec![Err(error); objects.len()];
        }
        if let Err(lost) = self.shared.device.check_alive() {
            return vec![Err(lost.into()); objects.len()];
        }
        let mut results: Vec<Result<(), PeerError>> = Vec::with_capacity(objects.len());
        let (mut wishes, mut places) = (Vec::new(), Vec::new());
        for object in objects {
            match self.hold(object, lifetime) {
                Ok(wish) => {
                    places.push(results.len());
                    wishes.push(wish);
                    results.push(Ok(()));
                },
                Err(error) => results.push(Err(error)),
            }
        }
        let put = self.shared.directory.put(self.shared.card(), &wishes);
        for ((place, wish), outcome) in places.into_iter().zip(&wishes).zip(put) {
            if outcome.is_err() {
                let name = (wish.hash.hi, wish.hash.lo);
                self.shared.change(|state| state.objects.remove(&name));
            }
            results[place] = outcome;
        }
        results
    }

    /// Notes an object before the directory knows it: the first order may come at once.
    fn hold(&self, object: &DeviceObject, lifetime: Lifetime) -> Result<Wish, PeerError> {
        let hash = self.shared.directory.hash(&object.key)?;
        let held = Held::new(hash, &object.blobs, lifetime)?;
        self.check_memory(&held)?;
        let chunk_log2 = self.shared.options.chunk_log2(&held.shape);
        assert!(held.cut(chunk_log2), "within the bounds");
        held.set_have(held.chunks());
        let wish = Wish {
            hash,
            shape: held.shape.clone(),
            lifetime,
            chunk_log2,
            number: 0,
            first: 0,
        };
        self.shared.change(|state| {
            if state.closing {
                return Err(PeerError::Closed);
            }
            let name = (hash.hi, hash.lo);
            if state.objects.contains_key(&name) {
                return Err(PeerError::Exists);
            }
            state.moved.retain(|one| *one != name);
            state.objects.insert(name, Arc::new(held));
            Ok(())
        })?;
        Ok(wish)
    }

    /// All blobs of a call lie on this card.
    fn check_memory(&self, held: &Held) -> Result<(), PeerError> {
        let is_here = |blob: &crate::DeviceBlob| blob.memory.is_on(&self.shared.device);
        if held.blobs.iter().all(is_here) {
            return Ok(());
        }
        Err(PeerError::Invalid(
            "the input deviceIdx is not the same as the deviceIdx of the port",
        ))
    }

    /// Gets objects into blobs of this card (`dev_mget`), waiting for providers until `wait` is
    /// over: one result each. A key that fails leaves its blobs unspecified; of a key that stands
    /// twice the first is served. What was got is provided to others until it is deleted.
    #[must_use]
    pub fn get(&self, objects: &[DeviceObject], wait: Duration) -> Vec<Result<(), PeerError>> {
        self.fetch(objects, Lifetime::Reference, (wait, wait), &mut |_| ())
    }

    /// As [`Self::get`], and what has found a provider within `wait` may take until `limit` is
    /// over, also from another one: a wait of zero gets what is there. Every key is asked for at
    /// least once, for 100 ms.
    #[must_use]
    pub fn get_within(
        &self,
        objects: &[DeviceObject],
        wait: Duration,
        limit: Duration,
    ) -> Vec<Result<(), PeerError>> {
        self.fetch(objects, Lifetime::Reference, (wait, limit), &mut |_| ())
    }

    /// Receives objects that were published for one receiver (`dev_subscribe`).
    #[must_use]
    pub fn subscribe(
        &self,
        objects: &[DeviceObject],
        wait: Duration,
    ) -> Vec<Result<(), PeerError>> {
        self.fetch(objects, Lifetime::Move, (wait, wait), &mut |_| ())
    }

    /// As [`Self::subscribe`], with a limit as in [`Self::get_within`]. `told` hears the place of
    /// each object as soon as it is here, on the calling thread; of what fails the results tell.
    #[must_use]
    pub fn subscribe_within(
        &self,
        objects: &[DeviceObject],
        wait: Duration,
        limit: Duration,
        told: &mut dyn FnMut(usize),
    ) -> Vec<Result<(), PeerError>> {
        self.fetch(objects, Lifetime::Move, (wait, limit), told)
    }

    fn fetch(
        &self,
        objects: &[DeviceObject],
        lifetime: Lifetime,
        (wait, limit): (Duration, Duration),
        told: &mut dyn FnMut(usize),
    ) -> Vec<Result<(), PeerError>> {
        if let Err(error) = check_call(objects.len()) {
            return vec![Err(error); objects.len()];
        }
        let now = Instant::now();
        let limits = fetch::Limits {
            provider: now + wait,
            whole: now + limit.max(wait),
        };
        let mut seen = BTreeSet::new();
        let mut wanted = Vec::with_capacity(objects.len());
        for object in objects {
            let held = self.shared.directory.hash(&object.key).and_then(|hash| {
                let held = Held::new(hash, &object.blobs, lifetime)?;
                self.check_memory(&held)?;
                if !seen.insert((hash.hi, hash.lo)) {
                    return Err(PeerError::Exists);
                }
                Ok(Arc::new(held))
            });
            wanted.push(held);
        }
        fetch::run(&self.shared, wanted, limits, told)
    }

    /// Removes objects everywhere (`dev_delete`): one result each, whether it was there. Transfers
    /// under way come to their end.
    #[must_use]
    pub fn delete(&self, keys: &[&[u8]]) -> Vec<Result<bool, PeerError>> {
        self.by_hash(keys, |shared, hashes| shared.directory.delete(hashes))
    }

    /// Provides objects no longer from this card (`dev_local_delete`): one result each, whether it
    /// did. Returns when nothing is sent from their memory any more; what still goes to a receiver
    /// goes to its end.
    #[must_use]
    pub fn local_delete(&self, keys: &[&[u8]]) -> Vec<Result<bool, PeerError>> {
        let until = Instant::now() + 2 * self.shared.options.stall;
        self.by_hash(keys, |shared, hashes| {
            let left = shared.directory.leave(shared.card(), hashes);
            for hash in hashes {
                settle(shared, (hash.hi, hash.lo), until);
            }
            left
        })
    }

    fn by_hash(
        &self,
        keys: &[&[u8]],
        ask: impl FnOnce(&Shared, &[KeyHash]) -> Vec<Result<bool, PeerError>>,
    ) -> Vec<Result<bool, PeerError>> {
        let mut results = Vec::with_capacity(keys.len());
        let (mut hashes, mut places) = (Vec::new(), Vec::new());
        for key in keys {
            match self.shared.directory.hash(key) {
                Ok(hash) => {
                    places.push(results.len());
                    hashes.push(hash);
                    results.push(Ok(false));
                },
                Err(error) => results.push(Err(error)),
            }
        }
        let asked = ask(&self.shared, &hashes);
        for (place, outcome) in places.into_iter().zip(asked) {
            results[place] = outcome;
        }
        results
    }

    /// The sizes of an object's blobs (`get_meta_info` of a device key); `None` for a miss.
    ///
    /// # Errors
    /// The daemon cannot be asked.
    pub fn shape(&self, key: &[u8]) -> Result<Option<DeviceShape>, PeerError> {
        let directory = &self.shared.directory;
        directory.shape(directory.hash(key)?)
    }

    /// What the port has done so far.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        let shared = &self.shared;
        let state = shared.lock();
        PeerStats {
            links_made: shared.links_made.load(Ordering::Relaxed),
            links_broken: shared.links_broken.load(Ordering::Relaxed),
            bytes_sent: shared.bytes_sent.load(Ordering::Relaxed),
            bytes_received: shared.bytes_received.load(Ordering::Relaxed),
            objects: state.objects.len(),
            links: state.arriving.len() + state.outgoing.len(),
        }
    }
}

fn check_call(keys: usize) -> Result<(), PeerError> {
    if keys > KEYS_MAX {
        return Err(PeerError::Invalid("the objectKeys size exceed 10000"));
    }
    Ok(())
}

/// Forgets an object, and waits until nothing is sent of it any more.
fn settle(shared: &Shared, name: (u64, u64), until: Instant) {
    let Some(held) = shared.change(|state| state.objects.remove(&name)) else {
        return;
    };
    let mut state = shared.lock();
    while held.is_serving() && Instant::now() < until {
        state = shared.wait(state, until);
    }
}

impl PeerPort {
    /// Ends what the port does, as dropping it would, without waiting for its threads: calls of
    /// other threads answer [`PeerError::Closed`].
    pub fn close(&self) {
        self.shared.change(|state| state.closing = true);
        self.shared.lose_all();
    }
}

impl Drop for PeerPort {
    fn drop(&mut self) {
        self.close();
        loop {
            let threads = std::mem::take(&mut self.shared.lock().threads);
            if threads.is_empty() {
                return;
            }
            for thread in threads {
                // A panic was told when it happened.
                drop(thread.join());
            }
        }
    }
}

/// An object that was published, until one receiver has it.
#[derive(Debug)]
pub struct MovedFuture {
    shared: Arc<Shared>,
    hash: KeyHash,
}

impl MovedFuture {
    /// Waits until a receiver has the object; its memory is the caller's again then.
    ///
    /// # Errors
    /// [`PeerError::Absent`]: nobody has it yet, wait again or delete it; [`PeerError::Closed`]:
    /// it was deleted, or the port closed.
    pub fn wait(&self, wait: Duration) -> Result<(), PeerError> {
        let until = Instant::now() + wait;
        let name = (self.hash.hi, self.hash.lo);
        let mut state = self.shared.lock();
        loop {
            if state.moved.contains(&name) {
                return Ok(());
            }
            let is_open = |state: &State| state.objects.contains_key(&name) && !state.closing;
            if !is_open(&state) {
                return Err(PeerError::Closed);
            }
            if Instant::now() >= until {
                return Err(PeerError::Absent);
            }
            state = self.shared.wait(state, until);
        }
    }
}

impl Drop for MovedFuture {
    fn drop(&mut self) {
        let name = (self.hash.hi, self.hash.lo);
        self.shared
            .change(|state| state.moved.retain(|one| *one != name));
    }
}
