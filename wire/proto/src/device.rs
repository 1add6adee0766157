//! Objects of accelerators: what processes of one node say to each other through its shards, in
//! the words of a ring.
//!
//! Role: the forms of `DeviceOp` (the directory, on the shard of the key) and `DeviceLink` (orders,
//! links and tickets, on shard 0), and the words that carry them; `wire/SHARED-MEMORY.md` lists
//! them. The bytes of an object never pass here: they go from card to card over links.
//!
//! - A **port** is a card of a session. A **link** leads from one port to another, one way; it has
//!   a number that is never used again.
//! - A **transfer** is one object on its way to one port; the receiver numbers it.
//! - An object is cut into **chunks** of a power of two bytes; each chunk is as many **pieces** as
//!   it touches blobs, and each piece takes one ticket of its link.
//!
//! Neighbours: `engine/store` (both state machines), `wire/client` (asks), `npu/peer` (moves).

use crate::limits::INLINE_MAX;

/// Most cards of one session: the ordinal of a card is below it.
pub const DEVICES_MAX: u16 = 256;
/// Most blobs of one object.
pub const BLOBS_MAX: u64 = 1 << 20;
/// Most runs of equal blobs of one object: what an inline value holds.
pub const RUNS_MAX: usize = INLINE_MAX as usize / RUN_BYTES;
/// Most bytes of one object: what a length of 48 bits holds.
pub const OBJECT_BYTES_MAX: u64 = 1 << 47;
/// Most chunks of one object; with its piece numbers they stay within 32 bits.
pub const CHUNKS_MAX: u64 = 1 << 24;
/// Most tickets of one announcement.
pub const TICKETS_MAX: u32 = 1 << 21;
/// Shortest and longest chunk, as a power of two.
pub const CHUNK_LOG2: core::ops::RangeInclusive<u8> = 12..=30;

const RUN_BYTES: usize = 16;

/// A form of `DeviceOp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectForm {
    /// Offer an object.
    Put = 0,
    /// Ask for a provider of one, waiting for it until the deadline.
    Take = 1,
    /// A transfer is over: its bytes are there.
    Done = 2,
    /// A transfer is given up.
    Fail = 3,
    /// Remove an object everywhere.
    Delete = 4,
    /// Provide an object no longer.
    Leave = 5,
    /// Read one run of an object's shape.
    Shape = 6,
}

/// A form of `DeviceLink`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkForm {
    /// Wait for the next order to a port.
    Next = 0,
    /// Ask for a link to another port.
    Open = 1,
    /// A link's end stands.
    Joined = 2,
    /// A link is broken.
    Break = 3,
    /// Tell the receiver which chunks come under which tickets.
    Announce = 4,
    /// The port cannot serve what it was told to.
    Refuse = 5,
}

macro_rules! from_u8 {
    ($name:ident: $($variant:ident)+) => {
        impl $name {
            /// Returns the form of a number, or `None` for one that is none.
            #[must_use]
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number {
                    $(number if number == Self::$variant.as_u8() => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Returns the form's number.
            #[must_use]
            pub const fn as_u8(self) -> u8 {
                // The numbers are the discriminants of a `repr(u8)` enum.
                self as u8
            }
        }
    };
}

from_u8!(ObjectForm: Put Take Done Fail Delete Leave Shape);
from_u8!(LinkForm: Next Open Joined Break Announce Refuse);

/// How long an object of a card lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lifetime {
    /// Until it is removed; whoever received it provides it as well.
    #[default]
    Reference = 0,
    /// Until one receiver has it.
    Move = 1,
}

impl Lifetime {
    /// Returns the lifetime of a number, or `None` for one that is none.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Reference),
            1 => Some(Self::Move),
            _ => None,
        }
    }
}

/// A card of a session: who sends and who receives.
///
/// One word: the session's number in the upper 48 bits, the card's ordinal in the lower 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevicePort(u64);

impl DevicePort {
    /// Names card `device` of session `session`; `None` where either is out of range.
    #[must_use]
    pub const fn new(session: u64, device: u32) -> Option<Self> {
        if session >> 48 != 0 || device >= DEVICES_MAX as u32 {
            return None;
        }
        Some(Self((session << 16) | device as u64))
    }

    /// Takes a word as a port; `None` for one that names no possible card.
    #[must_use]
    pub const fn from_word(word: u64) -> Option<Self> {
        let session = word >> 16;
        #[expect(clippy::cast_possible_truncation, reason = "the lower 16 bits")]
        let device = word as u16;
        Self::new(session, device as u32)
    }

    /// Returns the word.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Returns the session's number.
    #[must_use]
    pub const fn session(self) -> u64 {
        self.0 >> 16
    }

    /// Returns the card's ordinal.
    #[must_use]
    pub const fn device(self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "the lower 16 bits")]
        let device = self.0 as u16;
        device
    }
}

/// Why bytes are no shape of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No run, an empty blob or run, neighbours that are one run, or bytes that are no runs.
    #[error("a shape is a list of runs of blobs, each of at least one blob of at least one byte")]
    Malformed,
    /// More runs, blobs or bytes than an object has.
    #[error("an object has at most {RUNS_MAX} runs of equal blobs, {BLOBS_MAX} blobs, 2^47 bytes")]
    TooLarge,
}

/// The sizes of an object's blobs, in order, as runs of equal ones. Two objects of the same blobs
/// have equal shapes: neighbouring runs differ in size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceShape {
    /// Bytes of each blob, and how many in a row.
    runs: Vec<(u64, u32)>,
    bytes: u64,
    blobs: u64,
}

impl DeviceShape {
    /// Makes the shape of blobs of these sizes.
    ///
    /// # Errors
    /// [`ShapeError`]: no blob, an empty one, or too many.
    pub fn of(sizes: impl IntoIterator<Item = u64>) -> Result<Self, ShapeError> {
        let mut runs: Vec<(u64, u32)> = Vec::new();
        for size in sizes {
            let is_full = runs.len() == RUNS_MAX;
            match runs.last_mut() {
                Some(last) if last.0 == size => {
                    last.1 = last.1.checked_add(1).ok_or(ShapeError::TooLarge)?;
                },
                _ if is_full => return Err(ShapeError::TooLarge),
                _ => runs.push((size, 1)),
            }
        }
        Self::from_runs(runs)
    }

    /// Makes a shape of runs: bytes of a blob, and how many in a row.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn from_runs(runs: Vec<(u64, u32)>) -> Result<Self, ShapeError> {
        if runs.is_empty() || runs.iter().any(|run| run.0 == 0 || run.1 == 0) {
            return Err(ShapeError::Malformed);
        }
        if runs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ShapeError::Malformed);
        }
        if runs.len() > RUNS_MAX {
            return Err(ShapeError::TooLarge);
        }
        let (mut bytes, mut blobs) = (0_u64, 0_u64);
        for &(size, count) in &runs {
            let run = size.checked_mul(count.into()).ok_or(ShapeError::TooLarge)?;
            bytes = bytes.checked_add(run).ok_or(ShapeError::TooLarge)?;
            blobs += u64::from(count);
        }
        if bytes > OBJECT_BYTES_MAX || blobs > BLOBS_MAX {
            return Err(ShapeError::TooLarge);
        }
        Ok(Self { runs, bytes, blobs })
    }

    /// Takes what another process wrote.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ShapeError> {
        let (records, rest) = bytes.as_chunks::<RUN_BYTES>();
        if !rest.is_empty() {
            return Err(ShapeError::Malformed);
        }
        let mut runs = Vec::with_capacity(records.len().min(RUNS_MAX));
        for record in records {
            let number = u128::from_le_bytes(*record);
            #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
            let size = number as u64;
            let count = u32::try_from(number >> 64).map_err(|_large| ShapeError::Malformed)?;
            runs.push((size, count));
        }
        Self::from_runs(runs)
    }

    /// The bytes that [`Self::parse`] takes: 16 for each run.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let record = |&(size, count): &(u64, u32)| {
            (u128::from(size) | (u128::from(count) << 64)).to_le_bytes()
        };
        self.runs.iter().flat_map(record).collect()
    }

    /// The runs: bytes of a blob, and how many in a row.
    #[must_use]
    pub fn runs(&self) -> &[(u64, u32)] {
        &self.runs
    }

    /// The size of each blob.
    pub fn sizes(&self) -> impl Iterator<Item = u64> + '_ {
        let run = |&(size, count): &(u64, u32)| core::iter::repeat_n(size, count as usize);
        self.runs.iter().flat_map(run)
    }

    /// Bytes of all blobs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of blobs.
    #[must_use]
    pub fn blobs(&self) -> u64 {
        self.blobs
    }

    /// Number of chunks of `2^chunk_log2` bytes; the last may be shorter.
    #[must_use]
    pub fn chunks(&self, chunk_log2: u8) -> u64 {
        self.bytes.div_ceil(1 << chunk_log2)
    }
}

/// What a port is told to do. The first word of an order is its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceOrder {
    /// Send an object from chunk `first` on.
    Serve {
        /// The object's key: `hi`, `lo`.
        hash: (u64, u64),
        /// Who receives it.
        to: DevicePort,
        /// The receiver's number of the transfer.
        number: u64,
        /// First chunk that the receiver lacks.
        first: u32,
    },
    /// A transfer with `peer` ends; the receiver asks anew for what it lacks.
    Stop {
        /// The other end of it.
        peer: DevicePort,
        /// Who receives it is told apart by this: whether the port is the sender.
        sends: bool,
        /// The receiver's number of the transfer.
        number: u64,
    },
    /// A receiver has an object whose lifetime is [`Lifetime::Move`]: it is gone here.
    Moved {
        /// The object's key.
        hash: (u64, u64),
    },
    /// An object was removed everywhere.
    Dropped {
        /// The object's key.
        hash: (u64, u64),
    },
    /// Set up one end of a link now.
    Connect {
        /// The link.
        link: u64,
        /// The other end.
        peer: DevicePort,
        /// Whether the port is the end that sends, and invites.
        sends: bool,
    },
    /// A link is no more.
    Broken {
        /// The link.
        link: u64,
        /// The other end.
        peer: DevicePort,
    },
    /// Post receives: `count` chunks from `first` on come under tickets from `ticket` on.
    Receive {
        /// The link.
        link: u64,
        /// The receiver's number of the transfer.
        number: u64,
        /// First chunk.
        first: u32,
        /// Number of chunks.
        count: u32,
        /// First ticket.
        ticket: u64,
    },
    /// Orders were lost, because the port did not ask for them: break every link and begin anew.
    Reset,
}

/// The words of an order in a completion: kind, then five words.
pub type OrderWords = (u16, [u64; 5]);

const SERVE: u16 = 1;
const STOP: u16 = 2;
const MOVED: u16 = 3;
const DROPPED: u16 = 4;
const CONNECT: u16 = 5;
const BROKEN: u16 = 6;
const RECEIVE: u16 = 7;
const RESET: u16 = 8;

impl DeviceOrder {
    /// Writes the order as words.
    #[must_use]
    pub fn words(&self) -> OrderWords {
        match *self {
            Self::Serve {
                hash,
                to,
                number,
                first,
            } => (SERVE, [hash.0, hash.1, to.word(), number, first.into()]),
            Self::Stop {
                peer,
                sends,
                number,
            } => (STOP, [peer.word(), sends.into(), number, 0, 0]),
            Self::Moved { hash } => (MOVED, [hash.0, hash.1, 0, 0, 0]),
            Self::Dropped { hash } => (DROPPED, [hash.0, hash.1, 0, 0, 0]),
            Self::Connect { link, peer, sends } => {
                (CONNECT, [link, peer.word(), sends.into(), 0, 0])
            },
            Self::Broken { link, peer } => (BROKEN, [link, peer.word(), 0, 0, 0]),
            Self::Receive {
                link,
                number,
                first,
                count,
                ticket,
            } => (RECEIVE, [link, number, first.into(), count.into(), ticket]),
            Self::Reset => (RESET, [0; 5]),
        }
    }

    /// Reads an order of a daemon; `None` for what is none.
    #[must_use]
    pub fn from_words((kind, words): OrderWords) -> Option<Self> {
        let [w1, w2, w3, w4, w5] = words;
        let short = |word: u64| u32::try_from(word).ok();
        Some(match kind {
            SERVE => Self::Serve {
                hash: (w1, w2),
                to: DevicePort::from_word(w3)?,
                number: w4,
                first: short(w5)?,
            },
            STOP => Self::Stop {
                peer: DevicePort::from_word(w1)?,
                sends: flag(w2)?,
                number: w3,
            },
            MOVED => Self::Moved { hash: (w1, w2) },
            DROPPED => Self::Dropped { hash: (w1, w2) },
            CONNECT => Self::Connect {
                link: w1,
                peer: DevicePort::from_word(w2)?,
                sends: flag(w3)?,
            },
            BROKEN => Self::Broken {
                link: w1,
                peer: DevicePort::from_word(w2)?,
            },
            RECEIVE => Self::Receive {
                link: w1,
                number: w2,
                first: short(w3)?,
                count: short(w4)?,
                ticket: w5,
            },
            RESET => Self::Reset,
            _ => return None,
        })
    }
}

fn flag(word: u64) -> Option<bool> {
    match word {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_canonical_and_come_back() {
        let shape = DeviceShape::of([5, 5, 7, 5]).unwrap();
        assert_eq!(shape.runs(), [(5, 2), (7, 1), (5, 1)]);
        assert_eq!((shape.bytes(), shape.blobs()), (22, 4));
        assert_eq!(shape.sizes().collect::<Vec<_>>(), [5, 5, 7, 5]);
        assert_eq!(DeviceShape::parse(&shape.encode()), Ok(shape.clone()));
        assert_eq!(shape.chunks(4), 2);
    }

    #[test]
    fn hostile_shapes_are_refused() {
        let run = |size: u64, count: u64| {
            let number = u128::from(size) | (u128::from(count) << 64);
            number.to_le_bytes().to_vec()
        };
        let cases = [
            (Vec::new(), ShapeError::Malformed),
            (vec![1; 15], ShapeError::Malformed),
            (run(0, 1), ShapeError::Malformed),
            (run(1, 0), ShapeError::Malformed),
            (run(1, 1 << 40), ShapeError::Malformed),
            ([run(4, 1), run(4, 1)].concat(), ShapeError::Malformed),
            (run(u64::MAX, 2), ShapeError::TooLarge),
            (run(1 << 47, 2), ShapeError::TooLarge),
            (run(1, (1 << 20) + 1), ShapeError::TooLarge),
        ];
        for (bytes, error) in cases {
            assert_eq!(DeviceShape::parse(&bytes), Err(error), "{bytes:?}");
        }
        let many: Vec<_> = (1..=RUNS_MAX as u64 + 1).collect();
        assert_eq!(DeviceShape::of(many), Err(ShapeError::TooLarge));
        assert_eq!(DeviceShape::of([]), Err(ShapeError::Malformed));
    }

    #[test]
    fn ports_are_one_word_and_nothing_else_is_a_port() {
        let port = DevicePort::new(77, 5).unwrap();
        assert_eq!((port.session(), port.device()), (77, 5));
        assert_eq!(DevicePort::from_word(port.word()), Some(port));
        assert_eq!(DevicePort::new(1, DEVICES_MAX.into()), None);
        assert_eq!(DevicePort::new(1 << 48, 0), None);
        assert_eq!(DevicePort::from_word(0xFFFF), None);
    }

    #[test]
    fn orders_come_back_and_nonsense_is_none() {
        let port = DevicePort::new(3, 1).unwrap();
        let hash = (1, u64::MAX);
        let orders = [
            DeviceOrder::Serve {
                hash,
                to: port,
                number: 9,
                first: 4,
            },
            DeviceOrder::Stop {
                peer: port,
                sends: true,
                number: 8,
            },
            DeviceOrder::Moved { hash },
            DeviceOrder::Dropped { hash },
            DeviceOrder::Connect {
                link: 6,
                peer: port,
                sends: false,
            },
            DeviceOrder::Broken {
                link: 6,
                peer: port,
            },
            DeviceOrder::Receive {
                link: 6,
                number: 9,
                first: 1,
                count: 2,
                ticket: 3,
            },
            DeviceOrder::Reset,
        ];
        for order in orders {
            assert_eq!(DeviceOrder::from_words(order.words()), Some(order));
        }
        let nonsense = [
            (0, [0; 5]),
            (9, [0; 5]),
            (SERVE, [0, 0, 0xFFFF, 0, 0]),
            (SERVE, [0, 0, 0, 0, 1 << 32]),
            (STOP, [0, 2, 0, 0, 0]),
            (RECEIVE, [0, 0, u64::MAX, 0, 0]),
        ];
        for words in nonsense {
            assert_eq!(DeviceOrder::from_words(words), None, "{words:?}");
        }
        for number in 0..=u8::MAX {
            assert!(ObjectForm::from_u8(number).is_none_or(|form| form.as_u8() == number));
            assert!(LinkForm::from_u8(number).is_none_or(|form| form.as_u8() == number));
            assert!(Lifetime::from_u8(number).is_none_or(|form| form as u8 == number));
        }
    }
}
