//! The status table: stable numbers, their class, what each means and what to do about it.
//!
//! One line per status; enum, parsing, texts and the check of `wire/PROTOCOL.md` come from it.
//! The class is the number's hundred. A status joins when any implementation could meet it.

// tidy: table
use core::fmt;

/// Says what a caller may do about a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// It worked.
    Ok,
    /// Nothing is wrong with the request: send it again.
    Retry,
    /// A resource is used up for now: send less, or later.
    Busy,
    /// The key is not there; no failure.
    Missing,
    /// Somebody else's state forbids it.
    Conflict,
    /// The request will never be accepted as it is.
    Invalid,
    /// The caller may not do this.
    Denied,
    /// The node failed, not the request.
    Internal,
}

impl StatusClass {
    /// Returns the class's name as documents and metrics spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::Busy => "busy",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Internal => "internal",
        }
    }
}

macro_rules! status_table {
    ($($name:ident = $number:literal, $text:literal, $remedy:literal;)+) => {
        /// Says how a request, or one key of it, ended. Numbers never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Status {
            $(#[doc = concat!("Means: ", $text, ". Remedy: ", $remedy, ".")] $name = $number,)+
        }

        impl Status {
            /// Every status, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the status of a number, or `None` for one outside the table.
            pub const fn from_u16(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Returns the status's name as the documents spell it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns what happened, lower case without period.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Returns what the reader of the text can do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

status_table! {
    Ok = 0, "done", "none needed";
    Timeout = 100, "the deadline passed before the request was carried out", "send it again with a later deadline";
    Restarting = 101, "the node is starting or was restarted", "connect again and repeat; reads may count as misses";
    Again = 102, "the request met a change under way", "repeat it at once";
    Busy = 200, "a table of the node is full", "repeat later, or open fewer sessions and requests at a time";
    OutOfMemory = 201, "no memory could be freed before the deadline: the rest is kept, pinned or leased", "delete or release objects, write with NONE_EVICT, or start the node with more --memory";
    MetadataFull = 202, "the memory for entries is full and nothing may be evicted", "delete objects, or start the node with more --metadata-memory";
    NotFound = 300, "no such key", "none needed: a miss";
    Exists = 400, "the key exists and if-absent was asked", "use the value that is there, or write without if-absent";
    Pinned = 401, "a pin or an unfinished transfer holds the object", "release views of it, then repeat";
    Sealed = 402, "the object is sealed: its value will never change", "publish under another key";
    InvalidArgument = 500, "an argument has no meaning", "correct the argument that the message names";
    KeyInvalid = 501, "the key is empty, too long or holds a byte outside the alphabet", "use 1 to 1024 bytes of letters, digits and ~.-/_!@#%^&*()+=:;";
    TooLarge = 502, "a value, a batch or a frame is over its limit", "send less at a time; the limits are in the welcome";
    NotSupported = 503, "this node has no engine for what was asked", "leave the option out, or configure the node for it";
    VersionMismatch = 504, "no protocol version is spoken by both sides", "upgrade the older side";
    Malformed = 505, "bytes that are no valid frame or message", "report it: the peer's implementation or the network is broken";
    RangeInvalid = 506, "a byte range lies outside the value", "ask for the size first";
    NotAuthorized = 600, "the access key, the proof or the user is not accepted", "check access key, secret and tenant, or the node's --allow-uid";
    Expelled = 601, "the session broke the protocol or an operator expelled it: it is served no more", "close it and open another; report the client";
    Internal = 900, "the node met a fault of its own", "see the node's log";
    ChecksumMismatch = 901, "the bytes do not have the checksum they were stored with", "send the value again; if it stays, check memory and network";
    ShuttingDown = 902, "the node is draining and takes no new work", "use another node, or connect again later";
}

impl Status {
    /// Returns the status's number.
    pub const fn as_u16(self) -> u16 {
        // The numbers are the discriminants of a `repr(u16)` enum.
        self as u16
    }

    /// Returns what a caller may do about it.
    pub const fn class(self) -> StatusClass {
        match self {
            Self::Ok => StatusClass::Ok,
            Self::Timeout | Self::Restarting | Self::Again => StatusClass::Retry,
            Self::Busy | Self::OutOfMemory | Self::MetadataFull => StatusClass::Busy,
            Self::NotFound => StatusClass::Missing,
            Self::Exists | Self::Pinned | Self::Sealed => StatusClass::Conflict,
            Self::InvalidArgument
            | Self::KeyInvalid
            | Self::TooLarge
            | Self::NotSupported
            | Self::VersionMismatch
            | Self::Malformed
            | Self::RangeInvalid => StatusClass::Invalid,
            Self::NotAuthorized | Self::Expelled => StatusClass::Denied,
            Self::Internal | Self::ChecksumMismatch | Self::ShuttingDown => StatusClass::Internal,
        }
    }

    /// Returns whether it worked.
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }

    /// Returns the status for a number of a peer that may be newer: a number outside the table
    /// counts as the plain status of its class (its hundred), and as `Internal` beyond those.
    pub const fn from_peer(number: u16) -> Self {
        if let Some(status) = Self::from_u16(number) {
            return status;
        }
        match number / 100 {
            1 => Self::Again,
            2 => Self::Busy,
            3 => Self::NotFound,
            4 => Self::Exists,
            5 => Self::InvalidArgument,
            6 => Self::NotAuthorized,
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_rise() {
        for pair in Status::ALL.windows(2) {
            assert!(pair[0].as_u16() < pair[1].as_u16());
        }
        for &status in Status::ALL {
            assert_eq!(Status::from_u16(status.as_u16()), Some(status));
            assert_eq!(Status::from_peer(status.as_u16()), status);
        }
    }

    #[test]
    fn class_is_the_hundred_of_the_number() {
        for &status in Status::ALL {
            let hundred = match status.class() {
                StatusClass::Ok => 0,
                StatusClass::Retry => 1,
                StatusClass::Busy => 2,
                StatusClass::Missing => 3,
                StatusClass::Conflict => 4,
                StatusClass::Invalid => 5,
                StatusClass::Denied => 6,
                StatusClass::Internal => 9,
            };
            assert_eq!(status.as_u16() / 100, hundred, "{status:?}");
        }
    }

    #[test]
    fn unknown_numbers_keep_their_class() {
        for number in 0..=u16::MAX {
            let status = Status::from_peer(number);
            if (100..700).contains(&number) {
                assert_eq!(status.as_u16() / 100, number / 100);
            } else if number >= 700 && Status::from_u16(number).is_none() {
                assert_eq!(status, Status::Internal);
            }
        }
        assert_eq!(
            Status::from_peer(1),
            Status::Internal,
            "an unknown success is none"
        );
    }

    #[test]
    fn every_failure_has_a_text_and_a_remedy() {
        for &status in Status::ALL {
            assert!(!status.text().is_empty() && !status.text().ends_with('.'));
            assert!(!status.remedy().is_empty() && !status.remedy().ends_with('.'));
        }
    }
}
