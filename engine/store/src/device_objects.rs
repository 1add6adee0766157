//! The directory of objects that lie on accelerators: who provides which, who receives it from
//! whom.
//!
//! ```text
//! put ─▶ provider (whole) ◀─────────────────────────── done ─┐
//! take ─▶ transfer from the least loaded provider ─▶ provider (growing) ─ fail ─▶ provider (cut)
//! ```
//! A receiver of [`Lifetime::Reference`] provides from the moment on when its transfer begins: it
//! passes chunks on while others still come. So that no two growing providers wait for each other,
//! a receiver is never given one whose own source leads back to it, nor one that leads nowhere:
//! every chain of sources ends at a whole provider.
//!
//! Of those that may serve, the one with the fewest transfers is chosen; of these a whole one, and
//! the oldest of them. With one source and many receivers that is a chain: every card sends an
//! object once and receives it once, whatever their number.
//!
//! Takes that find nobody wait, first come first served per key. Everything is tied to a port's
//! session and ends with it ([`DeviceObjects::drop_session`]).
//!
//! Bounds, of one tenant on one shard: [`DEVICE_OBJECTS_MAX`], [`DEVICE_RUNS_MAX`],
//! [`DEVICE_PROVIDERS_MAX`], [`DEVICE_TRANSFERS_MAX`], [`DEVICE_TAKES_MAX`], [`SERVED_MAX`].
//!
//! Lives on: owner shard of the key. Pure: time is passed in, orders come out as [`DeviceEffect`]s.

use std::collections::{BTreeMap, VecDeque};

use chariot_base::SessionId;
use chariot_proto::device::{DeviceOrder, DevicePort, DeviceShape, Lifetime};
use chariot_proto::{KeyHash, Status};
use hashbrown::HashMap;

use crate::limits::{
    AVOIDED_MAX, DEVICE_OBJECTS_MAX, DEVICE_PROVIDERS_MAX, DEVICE_RUNS_MAX, DEVICE_TAKES_MAX,
    DEVICE_TRANSFERS_MAX, SERVED_MAX,
};

/// An object as a port offers it or asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOffer {
    /// Its key.
    pub hash: KeyHash,
    /// Who provides or receives it.
    pub port: DevicePort,
    /// Sizes of its blobs.
    pub shape: DeviceShape,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Bytes of its chunks, as a power of two: of an offer.
    pub chunk_log2: u8,
}

/// A request for a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTake {
    /// What, and for whom; its `chunk_log2` is not looked at.
    pub offer: DeviceOffer,
    /// The receiver's number of the transfer, used once.
    pub number: u64,
    /// First chunk that it lacks.
    pub first: u32,
    /// The request's token.
    pub token: u32,
    /// Monotonic nanoseconds until which it waits.
    pub deadline_ns: u64,
}

/// What a receiver is told of its transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceGrant {
    /// Who sends.
    pub provider: DevicePort,
    /// Bytes of the chunks, as a power of two.
    pub chunk_log2: u8,
}

/// What became of a request for a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceTaken {
    /// It is on its way.
    Granted(DeviceGrant),
    /// The answer comes as an effect.
    Waiting,
    /// The object's blobs are others: so many.
    Mismatch {
        /// Blobs of the object.
        blobs: u64,
    },
    /// Refused for good: the port has it already, or asks for another lifetime.
    Refused(Status),
}

/// What the directory wants told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceEffect {
    /// A request that waited is over.
    Answer {
        /// Whose.
        session: SessionId,
        /// Its token.
        token: u32,
        /// What became of it; never [`DeviceTaken::Waiting`].
        taken: DeviceTaken,
    },
    /// An order for a port.
    Order {
        /// To whom.
        to: DevicePort,
        /// What.
        order: DeviceOrder,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Has all of it.
    Whole,
    /// Receives it from this port.
    Growing(DevicePort),
    /// Has a part, and nobody to get the rest from.
    CutOff,
    /// Has all of it and serves to the end those it serves, but nobody else.
    Leaving,
}

#[derive(Debug, Clone, Copy)]
struct Provider {
    port: DevicePort,
    standing: Standing,
    /// Transfers from it.
    load: u32,
}

/// One transfer: of which object of a key (it may have been removed, and offered again), from whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Transfer {
    hash: KeyHash,
    object: u64,
    provider: DevicePort,
}

#[derive(Debug)]
struct Object {
    /// Never used again.
    id: u64,
    lifetime: Lifetime,
    shape: DeviceShape,
    chunk_log2: u8,
    /// In the order of their coming.
    providers: Vec<Provider>,
    /// Receivers and the providers that failed them; the oldest are forgotten.
    avoided: VecDeque<(DevicePort, DevicePort)>,
}

/// The directory of one tenant on one shard.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct DeviceObjects {
    objects: HashMap<KeyHash, Object>,
    /// By receiver and its number.
    transfers: BTreeMap<(DevicePort, u64), Transfer>,
    waiting: HashMap<KeyHash, VecDeque<(u64, DeviceTake)>>,
    by_deadline: BTreeMap<(u64, u64), KeyHash>,
    /// Transfers from each port.
    served: HashMap<DevicePort, u32>,
    effects: VecDeque<DeviceEffect>,
    runs: usize,
    provider_count: usize,
    order: u64,
}

impl Object {
    fn find(&mut self, port: DevicePort) -> Option<&mut Provider> {
        self.providers.iter_mut().find(|one| one.port == port)
    }

    fn standing(&self, port: DevicePort) -> Option<Standing> {
        let found = self.providers.iter().find(|one| one.port == port);
        found.map(|one| one.standing)
    }

    fn has_whole(&self) -> bool {
        self.providers
            .iter()
            .any(|one| one.standing == Standing::Whole)
    }

    /// Whether the sources of `port` lead to a whole provider, and not through `receiver`.
    fn is_rooted(&self, port: DevicePort, receiver: DevicePort) -> bool {
        let mut at = port;
        // A chain has no cycle, since this very question was asked of each of its links.
        for _ in 0..=self.providers.len() {
            if at == receiver {
                return false;
            }
            match self.standing(at) {
                Some(Standing::Whole | Standing::Leaving) => return true,
                Some(Standing::Growing(source)) => at = source,
                Some(Standing::CutOff) | None => return false,
            }
        }
        unreachable!("a chain of sources is no longer than the list of providers")
    }

    /// The provider for a receiver, if one may serve it now.
    fn choose(
        &self,
        receiver: DevicePort,
        served: &HashMap<DevicePort, u32>,
    ) -> Option<DevicePort> {
        let may_serve = |one: &&Provider| {
            let is_free = match self.lifetime {
                Lifetime::Reference => true,
                Lifetime::Move => one.load == 0,
            };
            let grows = matches!(one.standing, Standing::Whole | Standing::Growing(_));
            let is_below = served
                .get(&one.port)
                .is_none_or(|count| *count < SERVED_MAX);
            is_free && grows && is_below && self.is_rooted(one.port, receiver)
        };
        let failed = |one: &Provider| self.avoided.contains(&(receiver, one.port));
        let rank = |one: &&Provider| (failed(one), one.load, one.standing != Standing::Whole);
        self.providers
            .iter()
            .filter(may_serve)
            .min_by_key(rank)
            .map(|one| one.port)
    }
}

impl DeviceObjects {
    /// Takes in an object that a port offers.
    ///
    /// # Errors
    /// `Exists`: somebody provides it; `Busy`: a table is full.
    pub fn put(&mut self, offer: DeviceOffer) -> Result<(), Status> {
        let DeviceOffer {
            hash, port, shape, ..
        } = offer;
        let runs = shape.runs().len();
        if self.provider_count >= DEVICE_PROVIDERS_MAX {
            return Err(Status::Busy);
        }
        let provider = Provider {
            port,
            standing: Standing::Whole,
            load: 0,
        };
        if let Some(object) = self.objects.get_mut(&hash) {
            // Its source is gone and receivers hold parts of it: the same object may come again.
            let is_same = object.shape == shape
                && object.lifetime == offer.lifetime
                && object.chunk_log2 == offer.chunk_log2;
            if object.has_whole() || !is_same || object.find(port).is_some() {
                return Err(Status::Exists);
            }
            object.providers.push(provider);
        } else {
            if self.objects.len() >= DEVICE_OBJECTS_MAX || self.runs + runs > DEVICE_RUNS_MAX {
                return Err(Status::Busy);
            }
            self.runs += runs;
            self.order += 1;
            let object = Object {
                id: self.order,
                lifetime: offer.lifetime,
                shape,
                chunk_log2: offer.chunk_log2,
                providers: vec![provider],
                avoided: VecDeque::new(),
            };
            self.objects.insert(hash, object);
        }
        self.provider_count += 1;
        self.match_waiting(hash);
        Ok(())
    }

    /// Finds a provider, or waits for one.
    ///
    /// # Errors
    /// `Busy`: a table is full; `InvalidArgument`: the number is in use.
    pub fn take(&mut self, take: DeviceTake) -> Result<DeviceTaken, Status> {
        let name = (take.offer.port, take.number);
        if self.transfers.contains_key(&name) {
            return Err(Status::InvalidArgument);
        }
        match self.try_take(&take) {
            Some(taken) => Ok(taken),
            None => self.wait(take),
        }
    }

    fn wait(&mut self, take: DeviceTake) -> Result<DeviceTaken, Status> {
        if self.by_deadline.len() >= DEVICE_TAKES_MAX {
            return Err(Status::Busy);
        }
        self.order += 1;
        let hash = take.offer.hash;
        self.by_deadline
            .insert((take.deadline_ns, self.order), hash);
        let waiting = self.waiting.entry(hash).or_default();
        waiting.push_back((self.order, take));
        Ok(DeviceTaken::Waiting)
    }

    /// The answer, where there is one now.
    fn try_take(&mut self, take: &DeviceTake) -> Option<DeviceTaken> {
        let DeviceOffer {
            hash,
            port: receiver,
            ref shape,
            lifetime,
            ..
        } = take.offer;
        let object = self.objects.get_mut(&hash)?;
        if object.lifetime != lifetime {
            return Some(DeviceTaken::Refused(Status::InvalidArgument));
        }
        if object.shape != *shape {
            let blobs = object.shape.blobs();
            return Some(DeviceTaken::Mismatch { blobs });
        }
        let own = object.standing(receiver);
        if matches!(own, Some(Standing::Whole | Standing::Leaving)) {
            return Some(DeviceTaken::Refused(Status::Exists));
        }
        if self.transfers.len() >= DEVICE_TRANSFERS_MAX {
            return Some(DeviceTaken::Refused(Status::Busy));
        }
        let provider = object.choose(receiver, &self.served)?;
        if let Some(own) = object.find(receiver) {
            if matches!(own.standing, Standing::Growing(_)) {
                // Twice at once would be two sources for the same bytes.
                return Some(DeviceTaken::Refused(Status::Exists));
            }
            own.standing = Standing::Growing(provider);
        } else if lifetime == Lifetime::Reference && self.provider_count < DEVICE_PROVIDERS_MAX {
            self.provider_count += 1;
            object.providers.push(Provider {
                port: receiver,
                standing: Standing::Growing(provider),
                load: 0,
            });
        }
        object.find(provider).expect("just chosen").load += 1;
        *self.served.entry(provider).or_default() += 1;
        let transfer = Transfer {
            hash,
            object: object.id,
            provider,
        };
        self.transfers.insert((receiver, take.number), transfer);
        self.effects.push_back(DeviceEffect::Order {
            to: provider,
            order: DeviceOrder::Serve {
                hash: (hash.hi, hash.lo),
                to: receiver,
                number: take.number,
                first: take.first,
            },
        });
        Some(DeviceTaken::Granted(DeviceGrant {
            provider,
            chunk_log2: object.chunk_log2,
        }))
    }

    /// Serves those who wait for a key, as far as it goes.
    fn match_waiting(&mut self, hash: KeyHash) {
        let Some(mut waiting) = self.waiting.remove(&hash) else {
            return;
        };
        let mut left = VecDeque::new();
        while let Some((order, take)) = waiting.pop_front() {
            match self.try_take(&take) {
                None => left.push_back((order, take)),
                Some(taken) => {
                    self.by_deadline.remove(&(take.deadline_ns, order));
                    self.answer(&take, taken);
                },
            }
        }
        if !left.is_empty() {
            self.waiting.insert(hash, left);
        }
    }

    fn answer(&mut self, take: &DeviceTake, taken: DeviceTaken) {
        self.effects.push_back(DeviceEffect::Answer {
            session: SessionId(take.offer.port.session()),
            token: take.token,
            taken,
        });
    }

    /// Ends a transfer in the tables: what it was, if it was.
    fn end_transfer(&mut self, receiver: DevicePort, number: u64) -> Option<Transfer> {
        let transfer = self.transfers.remove(&(receiver, number))?;
        let provider = transfer.provider;
        let count = self
            .served
            .get_mut(&provider)
            .expect("counted at the grant");
        *count -= 1;
        if *count == 0 {
            self.served.remove(&provider);
        }
        if let Some(object) = self.object_of(&transfer)
            && let Some(one) = object.find(provider)
        {
            one.load -= 1;
            if one.load == 0 && one.standing == Standing::Leaving {
                self.remove_provider(transfer.hash, provider);
            }
        }
        Some(transfer)
    }

    /// The object of a transfer, unless it was removed meanwhile.
    fn object_of(&mut self, transfer: &Transfer) -> Option<&mut Object> {
        let object = self.objects.get_mut(&transfer.hash)?;
        (object.id == transfer.object).then_some(object)
    }

    fn remove_provider(&mut self, hash: KeyHash, port: DevicePort) {
        let Some(object) = self.objects.get_mut(&hash) else {
            return;
        };
        let before = object.providers.len();
        object.providers.retain(|one| one.port != port);
        self.provider_count -= before - object.providers.len();
        if object.providers.is_empty() {
            self.remove_object(hash);
        }
    }

    fn remove_object(&mut self, hash: KeyHash) -> Option<Object> {
        let object = self.objects.remove(&hash)?;
        self.runs -= object.shape.runs().len();
        self.provider_count -= object.providers.len();
        Some(object)
    }

    /// A receiver has everything; it provides from now on, or the object has moved to it.
    ///
    /// # Errors
    /// `NotFound`: no such transfer, or the object was removed meanwhile.
    pub fn done(&mut self, hash: KeyHash, receiver: DevicePort, number: u64) -> Result<(), Status> {
        self.check_transfer(hash, receiver, number)?;
        let transfer = self
            .end_transfer(receiver, number)
            .ok_or(Status::NotFound)?;
        let object = self.object_of(&transfer).ok_or(Status::NotFound)?;
        if object.lifetime == Lifetime::Move {
            self.remove_object(hash);
            let order = DeviceOrder::Moved {
                hash: (hash.hi, hash.lo),
            };
            let to = transfer.provider;
            self.effects.push_back(DeviceEffect::Order { to, order });
            return Ok(());
        }
        if let Some(own) = object.find(receiver) {
            own.standing = Standing::Whole;
        }
        self.match_waiting(hash);
        Ok(())
    }

    fn check_transfer(
        &self,
        hash: KeyHash,
        receiver: DevicePort,
        number: u64,
    ) -> Result<(), Status> {
        let known = self.transfers.get(&(receiver, number));
        let is_of_key = known.is_some_and(|transfer| transfer.hash == hash);
        if is_of_key {
            Ok(())
        } else {
            Err(Status::NotFound)
        }
    }

    /// Forgets a request that waits: its caller has given up and hears no answer.
    fn forget_wait(&mut self, hash: KeyHash, receiver: DevicePort, number: u64) -> bool {
        let Some(waiting) = self.waiting.get_mut(&hash) else {
            return false;
        };
        let is_it =
            |one: &(u64, DeviceTake)| one.1.offer.port == receiver && one.1.number == number;
        let Some((order, take)) = waiting
            .iter()
            .position(is_it)
            .and_then(|at| waiting.remove(at))
        else {
            return false;
        };
        self.by_deadline.remove(&(take.deadline_ns, order));
        if waiting.is_empty() {
            self.waiting.remove(&hash);
        }
        self.effects.push_back(DeviceEffect::Answer {
            session: SessionId(receiver.session()),
            token: take.token,
            taken: DeviceTaken::Refused(Status::Timeout),
        });
        true
    }

    /// A receiver gives a transfer up, or the wait for one. `blames`: its provider is asked again
    /// only when nobody else is left.
    ///
    /// # Errors
    /// `NotFound`: no such transfer.
    pub fn fail(
        &mut self,
        hash: KeyHash,
        (receiver, number): (DevicePort, u64),
        blames: bool,
    ) -> Result<(), Status> {
        if self.forget_wait(hash, receiver, number) {
            return Ok(());
        }
        self.check_transfer(hash, receiver, number)?;
        let transfer = self
            .end_transfer(receiver, number)
            .ok_or(Status::NotFound)?;
        let provider = transfer.provider;
        self.stop(provider, receiver, true, number);
        if let Some(object) = self.object_of(&transfer) {
            if blames {
                if object.avoided.len() >= AVOIDED_MAX {
                    object.avoided.pop_front();
                }
                object.avoided.push_back((receiver, provider));
            }
            self.cut_off(&transfer, receiver);
        }
        self.match_waiting(hash);
        Ok(())
    }

    /// A growing provider has lost its source: it keeps its place while others get from it.
    fn cut_off(&mut self, transfer: &Transfer, port: DevicePort) {
        let Some(object) = self.object_of(transfer) else {
            return;
        };
        let Some(own) = object.find(port) else { return };
        if !matches!(own.standing, Standing::Growing(_)) {
            return;
        }
        if own.load > 0 {
            own.standing = Standing::CutOff;
        } else {
            self.remove_provider(transfer.hash, port);
        }
    }

    fn stop(&mut self, to: DevicePort, peer: DevicePort, sends: bool, number: u64) {
        let order = DeviceOrder::Stop {
            peer,
            sends,
            number,
        };
        self.effects.push_back(DeviceEffect::Order { to, order });
    }

    /// Removes an object; says whether it was there. Transfers under way come to their end.
    pub fn delete(&mut self, hash: KeyHash) -> bool {
        let Some(object) = self.remove_object(hash) else {
            return false;
        };
        for one in object.providers {
            let order = DeviceOrder::Dropped {
                hash: (hash.hi, hash.lo),
            };
            let to = one.port;
            self.effects.push_back(DeviceEffect::Order { to, order });
        }
        true
    }

    /// A port provides an object no longer; says whether it did. What it serves it serves to the
    /// end, unless it has only a part of it.
    pub fn leave(&mut self, hash: KeyHash, port: DevicePort) -> bool {
        let Some(object) = self.objects.get_mut(&hash) else {
            return false;
        };
        let id = object.id;
        let Some(own) = object.find(port) else {
            return false;
        };
        match own.standing {
            Standing::Leaving => return false,
            Standing::Whole if own.load > 0 => own.standing = Standing::Leaving,
            Standing::Whole => self.remove_provider(hash, port),
            Standing::Growing(_) | Standing::CutOff => {
                self.end_from(id, port);
                self.end_to(id, port);
                self.remove_provider(hash, port);
                self.match_waiting(hash);
            },
        }
        true
    }

    /// Ends all transfers of an object from a port; their receivers are told.
    fn end_from(&mut self, object: u64, provider: DevicePort) {
        let ended: Vec<_> = self
            .transfers
            .iter()
            .filter(|(_, of)| of.object == object && of.provider == provider)
            .map(|(name, of)| (*name, *of))
            .collect();
        for ((receiver, number), transfer) in ended {
            self.end_transfer(receiver, number);
            self.stop(receiver, provider, false, number);
            self.cut_off(&transfer, receiver);
        }
    }

    /// Ends the transfer of an object to a port; its provider is told.
    fn end_to(&mut self, object: u64, receiver: DevicePort) {
        let of_port = (receiver, 0)..=(receiver, u64::MAX);
        let own = self.transfers.range(of_port);
        let ended: Vec<_> = own
            .filter(|(_, of)| of.object == object)
            .map(|(name, of)| (name.1, of.provider))
            .collect();
        for (number, provider) in ended {
            self.end_transfer(receiver, number);
            self.stop(provider, receiver, true, number);
        }
    }

    /// The shape of an object.
    #[must_use]
    pub fn shape(&self, hash: KeyHash) -> Option<&DeviceShape> {
        self.objects.get(&hash).map(|object| &object.shape)
    }

    /// Takes out an effect, in order.
    pub fn take_effect(&mut self) -> Option<DeviceEffect> {
        self.effects.pop_front()
    }

    /// Takes out a request whose deadline has passed: session and token.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn take_expired(&mut self, now_ns: u64) -> Option<(SessionId, u32)> {
        let (&(deadline_ns, order), &hash) = self.by_deadline.first_key_value()?;
        if deadline_ns > now_ns {
            return None;
        }
        self.by_deadline.remove(&(deadline_ns, order));
        let waiting = self.waiting.get_mut(&hash).expect("registered in both");
        let at = waiting.iter().position(|one| one.0 == order);
        let (_, take) = waiting
            .remove(at.expect("registered in both"))
            .expect("just found");
        if waiting.is_empty() {
            self.waiting.remove(&hash);
        }
        Some((SessionId(take.offer.port.session()), take.token))
    }

    /// When the next request's deadline is.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|(key, _)| key.0)
    }

    /// Releases what a session that ended provided, received or waited for. O(objects and
    /// transfers of the tenant here), nothing where there are none.
    pub fn drop_session(&mut self, session: SessionId) {
        let is_its = |port: DevicePort| port.session() == session.0;
        self.waiting.retain(|_, waiting| {
            waiting.retain(|(order, take)| {
                let stays = !is_its(take.offer.port);
                if !stays {
                    self.by_deadline.remove(&(take.deadline_ns, *order));
                }
                stays
            });
            !waiting.is_empty()
        });
        let ended: Vec<_> = self
            .transfers
            .iter()
            .filter(|((receiver, _), of)| is_its(*receiver) || is_its(of.provider))
            .map(|(name, of)| (*name, *of))
            .collect();
        let mut touched = std::collections::BTreeSet::new();
        for ((receiver, number), transfer) in ended {
            let provider = transfer.provider;
            self.end_transfer(receiver, number);
            self.cut_off(&transfer, receiver);
            if !is_its(provider) {
                self.stop(provider, receiver, true, number);
            }
            if !is_its(receiver) {
                self.stop(receiver, provider, false, number);
            }
            touched.insert((transfer.hash.hi, transfer.hash.lo));
        }
        let mut left: Vec<_> = Vec::new();
        for (hash, object) in &self.objects {
            let ports = object.providers.iter().map(|one| one.port);
            left.extend(ports.filter(|port| is_its(*port)).map(|port| (*hash, port)));
        }
        left.sort_unstable_by_key(|(hash, port)| (hash.hi, hash.lo, *port));
        for (hash, port) in left {
            self.remove_provider(hash, port);
        }
        for (hi, lo) in touched {
            self.match_waiting(KeyHash { hi, lo });
        }
    }

    /// How many objects, transfers and waiting requests there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        (
            self.objects.len(),
            self.transfers.len(),
            self.by_deadline.len(),
        )
    }

    /// Checks that the tables agree.
    ///
    /// # Panics
    /// When they do not.
    pub fn check_invariants(&self) {
        let providers: usize = self.objects.values().map(|one| one.providers.len()).sum();
        assert_eq!(providers, self.provider_count);
        let runs: usize = self
            .objects
            .values()
            .map(|one| one.shape.runs().len())
            .sum();
        assert_eq!(runs, self.runs);
        let waiting: usize = self.waiting.values().map(VecDeque::len).sum();
        assert_eq!(waiting, self.by_deadline.len());
        let served: u64 = self.served.values().map(|count| u64::from(*count)).sum();
        assert_eq!(served, self.transfers.len() as u64);
        for object in self.objects.values() {
            assert!(!object.providers.is_empty(), "an object has a provider");
            for one in &object.providers {
                let mine = |of: &&Transfer| of.object == object.id && of.provider == one.port;
                let load = self.transfers.values().filter(mine).count();
                assert_eq!(one.load as usize, load, "as many as there are transfers");
                if let Standing::Growing(source) = one.standing {
                    self.check_source(object, one.port, source);
                }
            }
        }
    }

    fn check_source(&self, object: &Object, port: DevicePort, source: DevicePort) {
        let of_port = self.transfers.range((port, 0)..=(port, u64::MAX));
        let own = of_port.filter(|(_, of)| of.object == object.id && of.provider == source);
        assert_eq!(own.count(), 1, "one transfer feeds what grows");
        // Whatever it is rooted in, it is not itself.
        let mut at = source;
        for _ in 0..object.providers.len() {
            assert_ne!(at, port, "a chain of sources bites its tail");
            let Some(Standing::Growing(next)) = object.standing(at) else {
                return;
            };
            at = next;
        }
    }
}

#[cfg(test)]
mod tests;
