//! The daemon's side of objects that lie on accelerators: its directory, the orders to a card's
//! port, its links and their tickets.
//!
//! Role: what `chariot-peer` speaks to the node through; a program calls that crate. Every call is
//! one round trip through a ring, or one for each shard of a batch. Nothing here carries bytes of
//! an object. What a session offered and opened ends with it: after a restart of the daemon
//! ([`Status::Restarting`]) the tables are empty, and the ports have other numbers.

use std::time::Duration;

use chariot_proto::device::{
    DeviceOrder, DevicePort, DeviceShape, Lifetime, LinkForm, ObjectForm, OrderWords,
};
use chariot_proto::{KeyHash, Opcode, Status};

use crate::client::Client;
use crate::error::Error;
use crate::local::{DeviceAsk, DeviceReply};
use crate::mode::{Mode, block};
use crate::transport::Link;

/// What names the shard that keeps the links.
const LINK_SHARD: KeyHash = KeyHash { hi: 0, lo: 0 };

/// The device calls of a [`Client`], made by [`Client::devices`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Devices {
    client: Client,
}

/// An object as a card offers it.
#[derive(Clone, Debug)]
pub struct DevicePut {
    /// The key.
    pub hash: KeyHash,
    /// Ordinal of the card.
    pub device: u32,
    /// Sizes of the blobs.
    pub shape: DeviceShape,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Bytes of its chunks, as a power of two.
    pub chunk_log2: u8,
}

/// An object that a card wants.
#[derive(Clone, Debug)]
pub struct DeviceTake {
    /// The key.
    pub hash: KeyHash,
    /// Ordinal of the card.
    pub device: u32,
    /// Sizes of the blobs, which must be those of the offer.
    pub shape: DeviceShape,
    /// As offered.
    pub lifetime: Lifetime,
    /// Names the transfer; used once by this card.
    pub number: u64,
    /// First chunk that the card lacks.
    pub first: u32,
}

/// What became of a wish for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTaken {
    /// A provider was told to send.
    Granted {
        /// Who sends.
        provider: DevicePort,
        /// Bytes of the chunks, as a power of two.
        chunk_log2: u8,
    },
    /// Nobody provided it in time.
    Absent,
    /// The offer has another number of blobs, or blobs of other sizes.
    Mismatch {
        /// Blobs of the offer.
        blobs: u64,
    },
}

/// What became of a wish for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLinkOpened {
    /// Its number.
    pub link: u64,
    /// Whether both ends stand; else the order to connect comes to both.
    pub is_up: bool,
}

impl Client {
    /// Gives the device calls of this session.
    pub fn devices(&self) -> Devices {
        Devices {
            client: self.clone(),
        }
    }
}

/// A reply that has nothing but its status to say.
fn plain(reply: &DeviceReply) -> Result<(), Error> {
    match reply.status {
        Status::Ok => Ok(()),
        other => Err(Error::from_status(other)),
    }
}

impl Devices {
    /// The client behind it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The identity of a key, as orders name it.
    ///
    /// # Errors
    ///
    /// [`Status::KeyInvalid`]; [`Status::NotSupported`] without shared memory.
    pub fn hash(&self, key: &[u8]) -> Result<KeyHash, Error> {
        match self.client.core().link()? {
            Link::Local(session) => session.key_hash(key),
            Link::Remote(_) => Err(unsupported()),
        }
    }

    fn ask(&self, asks: &[DeviceAsk], budget: Option<Duration>) -> Vec<Result<DeviceReply, Error>> {
        let link = match self.client.core().link() {
            Ok(Link::Local(session)) => session,
            Ok(Link::Remote(_)) => return vec![Err(unsupported()); asks.len()],
            Err(error) => return vec![Err(error); asks.len()],
        };
        block(link.ask_devices(Mode::Blocking, asks, budget))
    }

    fn ask_one(&self, ask: DeviceAsk, budget: Option<Duration>) -> Result<DeviceReply, Error> {
        let mut replies = self.ask(&[ask], budget);
        replies.pop().expect("one reply per request")
    }

    /// Offers objects; one result each, in the order of the call.
    ///
    /// # Errors
    ///
    /// [`Status::Exists`]: somebody provides it; [`Status::Busy`]: the node's table is full.
    pub fn put(&self, puts: &[DevicePut]) -> Vec<Result<(), Error>> {
        let form = ObjectForm::Put.as_u8();
        let ask = |put: &DevicePut| DeviceAsk {
            class: put.lifetime as u8,
            count: put.chunk_log2.into(),
            payload: put.shape.encode(),
            ..DeviceAsk::new(Opcode::DeviceOp, form, put.hash, put.device)
        };
        let asks: Vec<_> = puts.iter().map(ask).collect();
        let replies = self.ask(&asks, None);
        replies.into_iter().map(|reply| plain(&reply?)).collect()
    }

    /// Asks for providers, waiting for them no longer than `wait`; one result each.
    ///
    /// # Errors
    ///
    /// [`Status::Exists`]: the card has it, or is receiving it; [`Status::InvalidArgument`]: it has
    /// another lifetime; [`Status::Busy`].
    pub fn take(&self, takes: &[DeviceTake], wait: Duration) -> Vec<Result<DeviceTaken, Error>> {
        let form = ObjectForm::Take.as_u8();
        let ask = |take: &DeviceTake| DeviceAsk {
            number: take.number,
            first: take.first,
            class: take.lifetime as u8,
            payload: take.shape.encode(),
            ..DeviceAsk::new(Opcode::DeviceOp, form, take.hash, take.device)
        };
        let asks: Vec<_> = takes.iter().map(ask).collect();
        let replies = self.ask(&asks, Some(wait));
        replies.into_iter().map(|reply| taken(&reply?)).collect()
    }

    /// A transfer is over: the card has every byte, and provides the object from now on.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: the object was removed meanwhile, and the card provides nothing.
    pub fn done(&self, hash: KeyHash, device: u32, number: u64) -> Result<(), Error> {
        let form = ObjectForm::Done.as_u8();
        let ask = DeviceAsk {
            number,
            ..DeviceAsk::new(Opcode::DeviceOp, form, hash, device)
        };
        plain(&self.ask_one(ask, None)?)
    }

    /// Gives a transfer up. `blames`: another provider is preferred from now on.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: it has ended already.
    pub fn fail(&self, hash: KeyHash, device: u32, number: u64, blames: bool) -> Result<(), Error> {
        let form = ObjectForm::Fail.as_u8();
        let ask = DeviceAsk {
            number,
            class: blames.into(),
            ..DeviceAsk::new(Opcode::DeviceOp, form, hash, device)
        };
        plain(&self.ask_one(ask, None)?)
    }

    /// Removes objects everywhere; says of each whether it was there.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn delete(&self, hashes: &[KeyHash]) -> Vec<Result<bool, Error>> {
        self.remove(hashes, 0, ObjectForm::Delete)
    }

    /// A card provides objects no longer; says of each whether it did.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn leave(&self, hashes: &[KeyHash], device: u32) -> Vec<Result<bool, Error>> {
        self.remove(hashes, device, ObjectForm::Leave)
    }

    fn remove(
        &self,
        hashes: &[KeyHash],
        device: u32,
        form: ObjectForm,
    ) -> Vec<Result<bool, Error>> {
        let ask = |hash: &KeyHash| DeviceAsk::new(Opcode::DeviceOp, form.as_u8(), *hash, device);
        let asks: Vec<_> = hashes.iter().map(ask).collect();
        let was_there = |reply: DeviceReply| match reply.status {
            Status::Ok => Ok(true),
            Status::NotFound => Ok(false),
            other => Err(Error::from_status(other)),
        };
        let replies = self.ask(&asks, None);
        replies.into_iter().map(|reply| was_there(reply?)).collect()
    }

    /// The sizes of an object's blobs; `None` where nobody provides it.
    ///
    /// # Errors
    ///
    /// [`Status::Again`]: it changed while it was read; those of the connection.
    pub fn shape(&self, hash: KeyHash) -> Result<Option<DeviceShape>, Error> {
        let mut runs = Vec::new();
        loop {
            let ask = DeviceAsk {
                number: runs.len() as u64,
                ..DeviceAsk::new(Opcode::DeviceOp, ObjectForm::Shape.as_u8(), hash, 0)
            };
            let reply = self.ask_one(ask, None)?;
            match reply.status {
                Status::Ok => {},
                Status::NotFound => return Ok(None),
                Status::RangeInvalid => return Err(Error::from_status(Status::Again)),
                other => return Err(Error::from_status(other)),
            }
            let count = u32::try_from(reply.words.len);
            let count = count.map_err(|_large| Error::malformed("a run of too many blobs"))?;
            runs.push((reply.words.extent, count));
            if runs.len() as u64 >= reply.words.version {
                let shape = DeviceShape::from_runs(runs);
                return shape
                    .map(Some)
                    .map_err(|_odd| Error::from_status(Status::Again));
            }
        }
    }

    /// Waits for the next order to a card of this session, no longer than `wait`. One caller a card
    /// at a time.
    ///
    /// # Errors
    ///
    /// Those of the connection; [`Status::Restarting`]: everything is to be offered anew.
    pub fn next_order(&self, device: u32, wait: Duration) -> Result<Option<DeviceOrder>, Error> {
        let ask = DeviceAsk::new(
            Opcode::DeviceLink,
            LinkForm::Next.as_u8(),
            LINK_SHARD,
            device,
        );
        let reply = self.ask_one(ask, Some(wait))?;
        match reply.status {
            Status::Ok => {},
            Status::Timeout => return Ok(None),
            other => return Err(Error::from_status(other)),
        }
        let words = reply.words;
        let order: OrderWords = (
            words.lease_count,
            [
                words.extent,
                words.len,
                words.version,
                words.lease_extent,
                words.lease_len,
            ],
        );
        let order = DeviceOrder::from_words(order);
        order
            .map(Some)
            .ok_or_else(|| Error::malformed("an order that cannot be"))
    }

    /// Wishes for a link from a card to another port, or finds the one there is.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: the other session is no more; [`Status::Busy`]: too many links.
    pub fn open_link(&self, device: u32, to: DevicePort) -> Result<DeviceLinkOpened, Error> {
        let ask = link_ask(LinkForm::Open, device, to.word());
        let reply = self.ask_one(ask, None)?;
        plain(&reply)?;
        Ok(DeviceLinkOpened {
            link: reply.words.extent,
            is_up: reply.words.len != 0,
        })
    }

    /// A card's end of a link stands.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: the link is no more.
    pub fn joined(&self, device: u32, link: u64) -> Result<(), Error> {
        plain(&self.ask_one(link_ask(LinkForm::Joined, device, link), None)?)
    }

    /// Ends a link; both ends are told.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: it is no more.
    pub fn break_link(&self, device: u32, link: u64) -> Result<(), Error> {
        plain(&self.ask_one(link_ask(LinkForm::Break, device, link), None)?)
    }

    /// Tells the receiver of transfer `number` that this card cannot send it.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: its session is no more.
    pub fn refuse(&self, device: u32, to: DevicePort, number: u64) -> Result<(), Error> {
        let ask = DeviceAsk {
            second: number,
            ..link_ask(LinkForm::Refuse, device, to.word())
        };
        plain(&self.ask_one(ask, None)?)
    }

    /// Tells a link's receiver which chunks come next, and returns the first of their tickets.
    /// `chunks` is the first of them and how many.
    ///
    /// # Errors
    ///
    /// [`Status::NotFound`]: the link is no more; [`Status::Busy`]: the receiver is far behind.
    pub fn announce(
        &self,
        device: u32,
        (link, number): (u64, u64),
        chunks: (u32, u16),
        tickets: u32,
    ) -> Result<u64, Error> {
        let hash = KeyHash {
            hi: tickets.into(),
            ..LINK_SHARD
        };
        let form = LinkForm::Announce.as_u8();
        let ask = DeviceAsk {
            number: link,
            second: number,
            first: chunks.0,
            count: chunks.1,
            ..DeviceAsk::new(Opcode::DeviceLink, form, hash, device)
        };
        let reply = self.ask_one(ask, None)?;
        plain(&reply)?;
        Ok(reply.words.extent)
    }
}

fn link_ask(form: LinkForm, device: u32, number: u64) -> DeviceAsk {
    DeviceAsk {
        number,
        ..DeviceAsk::new(Opcode::DeviceLink, form.as_u8(), LINK_SHARD, device)
    }
}

fn taken(reply: &DeviceReply) -> Result<DeviceTaken, Error> {
    match reply.status {
        Status::Ok => {
            let provider = DevicePort::from_word(reply.words.extent);
            let chunk_log2 = u8::try_from(reply.words.len).ok();
            match (provider, chunk_log2) {
                (Some(provider), Some(chunk_log2)) => Ok(DeviceTaken::Granted {
                    provider,
                    chunk_log2,
                }),
                _ => Err(Error::malformed("a provider that cannot be")),
            }
        },
        Status::Timeout => Ok(DeviceTaken::Absent),
        Status::RangeInvalid => Ok(DeviceTaken::Mismatch {
            blobs: reply.words.len,
        }),
        other => Err(Error::from_status(other)),
    }
}

fn unsupported() -> Error {
    Error::new(
        Status::NotSupported,
        "objects of accelerators need a daemon on this host and shared memory",
    )
}
