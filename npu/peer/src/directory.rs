//! The port to whoever knows which card has what: the daemon of this host, later a cluster.

use std::fmt::Debug;
use std::time::Duration;

use chariot_client::device::{DeviceOrder, DevicePort, DeviceShape, Lifetime};
use chariot_client::{
    DevicePut, DeviceTake, DeviceTaken, Devices, GetOptions, KeyHash, SetOptions, Status,
};

use crate::error::PeerError;

/// An object that a card offers or wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The key.
    pub hash: KeyHash,
    /// Sizes of its blobs.
    pub shape: DeviceShape,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Offers: bytes of a chunk, as a power of two.
    pub chunk_log2: u8,
    /// Takes: names the transfer, used once by this card.
    pub number: u64,
    /// Takes: first chunk that is lacking.
    pub first: u32,
}

/// What became of a take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This port was told to send.
    Granted {
        /// The sender.
        provider: DevicePort,
        /// Bytes of a chunk, as a power of two.
        chunk_log2: u8,
    },
    /// Nobody in time.
    Absent,
    /// The offer has so many blobs, and not of these sizes.
    Mismatch(u64),
}

/// A link that was wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number, never used again.
    pub link: u64,
    /// Whether both ends stand already.
    pub is_up: bool,
}

/// Who knows which card has what, gives links their turns and transfers their tickets.
///
/// `card` is the ordinal of a card of this process in every call. Orders come in the order in which
/// they were given; the tickets of a link in the order of their `Receive`s.
pub trait Directory: Debug + Send + Sync {
    /// The identity of a key.
    ///
    /// # Errors
    /// The key is none.
    fn hash(&self, key: &[u8]) -> Result<KeyHash, PeerError>;

    /// Offers objects; one result each.
    fn put(&self, card: u32, wishes: &[Wish]) -> Vec<Result<(), PeerError>>;

    /// Asks for providers, waiting at most `wait`; one result each.
    fn take(&self, card: u32, wishes: &[Wish], wait: Duration) -> Vec<Result<Taken, PeerError>>;

    /// A transfer is over.
    ///
    /// # Errors
    /// The object was removed meanwhile.
    fn done(&self, card: u32, hash: KeyHash, number: u64) -> Result<(), PeerError>;

    /// A transfer is given up; `blames` its provider.
    ///
    /// # Errors
    /// It had ended.
    fn fail(&self, card: u32, hash: KeyHash, number: u64, blames: bool) -> Result<(), PeerError>;

    /// Removes objects everywhere; says of each whether it was there.
    fn delete(&self, hashes: &[KeyHash]) -> Vec<Result<bool, PeerError>>;

    /// The card provides objects no longer; says of each whether it did.
    fn leave(&self, card: u32, hashes: &[KeyHash]) -> Vec<Result<bool, PeerError>>;

    /// Sizes of an object's blobs, `None` for a miss.
    ///
    /// # Errors
    /// The directory cannot be reached.
    fn shape(&self, hash: KeyHash) -> Result<Option<DeviceShape>, PeerError>;

    /// Waits for the next order to a card.
    ///
    /// # Errors
    /// The directory cannot be reached: all it knew of this card is lost.
    fn next_order(&self, card: u32, wait: Duration) -> Result<Option<DeviceOrder>, PeerError>;

    /// Wishes for a link.
    ///
    /// # Errors
    /// The other port is no more.
    fn open_link(&self, card: u32, to: DevicePort) -> Result<Opened, PeerError>;

    /// The card's end of a link stands.
    ///
    /// # Errors
    /// The link is no more.
    fn joined(&self, card: u32, link: u64) -> Result<(), PeerError>;

    /// Ends a link.
    ///
    /// # Errors
    /// It is no more.
    fn break_link(&self, card: u32, link: u64) -> Result<(), PeerError>;

    /// The card cannot serve transfer `number` to a port.
    ///
    /// # Errors
    /// The port is no more.
    fn refuse(&self, card: u32, to: DevicePort, number: u64) -> Result<(), PeerError>;

    /// Gives tickets for chunks (first, number) of a transfer and tells the receiver; returns the
    /// first ticket.
    ///
    /// # Errors
    /// The link is no more, or the receiver is far behind.
    fn announce(
        &self,
        card: u32,
        of: (u64, u64),
        chunks: (u32, u16),
        tickets: u32,
    ) -> Result<u64, PeerError>;

    /// Hands an invitation to the other end of a link.
    ///
    /// # Errors
    /// The directory cannot be reached.
    fn invite(&self, link: u64, invitation: &[u8], life: Duration) -> Result<(), PeerError>;

    /// Waits for the invitation to a link.
    ///
    /// # Errors
    /// [`PeerError::Absent`]: it has not come yet.
    fn invitation(&self, link: u64, wait: Duration) -> Result<Vec<u8>, PeerError>;

    /// Tells the end of a link that invited that the other one begins.
    ///
    /// # Errors
    /// The directory cannot be reached.
    fn accept(&self, link: u64, life: Duration) -> Result<(), PeerError>;

    /// Waits until the other end of a link begins.
    ///
    /// # Errors
    /// [`PeerError::Absent`]: it has not said so yet.
    fn accepted(&self, link: u64, wait: Duration) -> Result<(), PeerError>;
}

/// The key under which an invitation lies for a moment.
fn invitation_key(link: u64) -> Vec<u8> {
    format!("~chariot/link/{link}").into_bytes()
}

/// The key under which the answer to it lies.
fn answer_key(link: u64) -> Vec<u8> {
    format!("~chariot/link/{link}/accepted").into_bytes()
}

/// Leaves a word for another process, for `life`.
fn leave_word(devices: &Devices, key: &[u8], word: &[u8], life: Duration) -> Result<(), PeerError> {
    let options = SetOptions {
        ttl: Some(life),
        ..SetOptions::default()
    };
    devices.client().set(key, word, &options)?;
    Ok(())
}

/// Takes such a word, waiting for it.
fn take_word(devices: &Devices, key: &[u8], wait: Duration) -> Result<Vec<u8>, PeerError> {
    let options = GetOptions {
        wait: Some(wait),
        ..GetOptions::default()
    };
    let word = match devices.client().get(key, &options) {
        Err(error) if error.status() == Status::Timeout => None,
        other => other?,
    };
    let word = word.ok_or(PeerError::Absent)?;
    // Read once; it would go by its time to live.
    drop(devices.client().delete(key));
    Ok(word)
}

fn each<T, U>(
    results: Vec<Result<T, chariot_client::Error>>,
    convert: impl Fn(T) -> U,
) -> Vec<Result<U, PeerError>> {
    let convert = |result: Result<T, chariot_client::Error>| Ok(convert(result?));
    results.into_iter().map(convert).collect()
}

impl Directory for Devices {
    fn hash(&self, key: &[u8]) -> Result<KeyHash, PeerError> {
        Ok(Self::hash(self, key)?)
    }

    fn put(&self, card: u32, wishes: &[Wish]) -> Vec<Result<(), PeerError>> {
        let put = |wish: &Wish| DevicePut {
            hash: wish.hash,
            device: card,
            shape: wish.shape.clone(),
            lifetime: wish.lifetime,
            chunk_log2: wish.chunk_log2,
        };
        let puts: Vec<_> = wishes.iter().map(put).collect();
        each(Self::put(self, &puts), |()| ())
    }

    fn take(&self, card: u32, wishes: &[Wish], wait: Duration) -> Vec<Result<Taken, PeerError>> {
        let take = |wish: &Wish| DeviceTake {
            hash: wish.hash,
            device: card,
            shape: wish.shape.clone(),
            lifetime: wish.lifetime,
            number: wish.number,
            first: wish.first,
        };
        let takes: Vec<_> = wishes.iter().map(take).collect();
        each(Self::take(self, &takes, wait), |taken| match taken {
            DeviceTaken::Granted {
                provider,
                chunk_log2,
            } => Taken::Granted {
                provider,
                chunk_log2,
            },
            DeviceTaken::Absent => Taken::Absent,
            DeviceTaken::Mismatch { blobs } => Taken::Mismatch(blobs),
        })
    }

    fn done(&self, card: u32, hash: KeyHash, number: u64) -> Result<(), PeerError> {
        Ok(Self::done(self, hash, card, number)?)
    }

    fn fail(&self, card: u32, hash: KeyHash, number: u64, blames: bool) -> Result<(), PeerError> {
        Ok(Self::fail(self, hash, card, number, blames)?)
    }

    fn delete(&self, hashes: &[KeyHash]) -> Vec<Result<bool, PeerError>> {
        each(Self::delete(self, hashes), |was_there| was_there)
    }

    fn leave(&self, card: u32, hashes: &[KeyHash]) -> Vec<Result<bool, PeerError>> {
        each(Self::leave(self, hashes, card), |was_there| was_there)
    }

    fn shape(&self, hash: KeyHash) -> Result<Option<DeviceShape>, PeerError> {
        Ok(Self::shape(self, hash)?)
    }

    fn next_order(&self, card: u32, wait: Duration) -> Result<Option<DeviceOrder>, PeerError> {
        Ok(Self::next_order(self, card, wait)?)
    }

    fn open_link(&self, card: u32, to: DevicePort) -> Result<Opened, PeerError> {
        let opened = Self::open_link(self, card, to)?;
        Ok(Opened {
            link: opened.link,
            is_up: opened.is_up,
        })
    }

    fn joined(&self, card: u32, link: u64) -> Result<(), PeerError> {
        Ok(Self::joined(self, card, link)?)
    }

    fn break_link(&self, card: u32, link: u64) -> Result<(), PeerError> {
        Ok(Self::break_link(self, card, link)?)
    }

    fn announce(
        &self,
        card: u32,
        of: (u64, u64),
        chunks: (u32, u16),
        tickets: u32,
    ) -> Result<u64, PeerError> {
        Ok(Self::announce(self, card, of, chunks, tickets)?)
    }

    fn refuse(&self, card: u32, to: DevicePort, number: u64) -> Result<(), PeerError> {
        Ok(Self::refuse(self, card, to, number)?)
    }

    fn invite(&self, link: u64, invitation: &[u8], life: Duration) -> Result<(), PeerError> {
        leave_word(self, &invitation_key(link), invitation, life)
    }

    fn invitation(&self, link: u64, wait: Duration) -> Result<Vec<u8>, PeerError> {
        take_word(self, &invitation_key(link), wait)
    }

    fn accept(&self, link: u64, life: Duration) -> Result<(), PeerError> {
        leave_word(self, &answer_key(link), b"1", life)
    }

    fn accepted(&self, link: u64, wait: Duration) -> Result<(), PeerError> {
        take_word(self, &answer_key(link), wait).map(drop)
    }
}
