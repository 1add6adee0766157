//! The opcode table: one number for one operation, the same in rings and in frames.
//!
//! One line per opcode; enum, parsing and the check of `wire/PROTOCOL.md` come from it. Reserved
//! numbers belong to operations that are planned: they are decoded and answered `NotSupported`.

/// Says which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Asks for something; also every frame of the handshake.
    Request,
    /// Answers the request of the same id.
    Response,
}

/// Says where an opcode may be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpcodeRoom {
    /// In the rings of local sessions only; a frame with it is answered `NotSupported`.
    Ring,
    /// In rings and in frames.
    Both,
    /// In frames only.
    Frame,
    /// Nowhere yet; answered `NotSupported`.
    Reserved,
}

impl OpcodeRoom {
    /// Returns the room's name as the document spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Both => "both",
            Self::Frame => "frame",
            Self::Reserved => "reserved",
        }
    }
}

macro_rules! opcode_table {
    ($($name:ident = $number:literal, $room:ident, $text:literal;)+) => {
        /// Names an operation. Numbers never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Opcode {
            $(#[doc = concat!("Does: ", $text, ".")] $name = $number,)+
        }

        impl Opcode {
            /// Every opcode, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the opcode of a number, or `None` for one outside the table.
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Returns the opcode's name as the documents spell it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Returns what it does, lower case without period.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Returns where it may be met.
            pub const fn room(self) -> OpcodeRoom {
                match self { $(Self::$name => OpcodeRoom::$room,)+ }
            }
        }
    };
}

opcode_table! {
    Nop = 0, Both, "nothing; an answer shows that the peer lives";
    Set = 1, Both, "store values";
    Publish = 2, Ring, "publish the extent of a lease as a value";
    Get = 3, Both, "read values or ranges of them";
    View = 4, Both, "read values; in a ring the completion's pin is kept, in a frame it is Get";
    Exist = 5, Both, "say which keys exist";
    Prefix = 6, Both, "count the leading keys of a list that exist";
    Size = 7, Both, "say how long values are";
    Delete = 8, Both, "remove keys";
    Expire = 9, Both, "give keys a new time to live";
    LeaseGrant = 10, Ring, "lend memory for writing";
    LeaseReturn = 11, Ring, "give lent memory back unused";
    Wait = 12, Both, "read values, waiting for those that do not exist yet";
    Cancel = 13, Ring, "give up a request that was submitted";
    Note = 14, Ring, "tell which entries were read through the index";
    StagedPublish = 15, Ring, "publish a value that lies in the staging memory of a strict session";
    Scatter = 32, Reserved, "write one value from many places";
    Gather = 33, Reserved, "read one value into many places";
    PinSoft = 34, Reserved, "ask that an object be kept while there is room";
    PinHard = 35, Reserved, "keep an object until it is released";
    Upsert = 36, Reserved, "store a value if the version is the expected one";
    Group = 37, Reserved, "treat objects as one for eviction and deletion";
    Replicate = 38, Reserved, "keep copies on other nodes";
    EventRead = 39, Reserved, "read events from a cursor on";
    QuotaSet = 40, Reserved, "bound what a tenant holds";
    ObjectLatch = 41, Both, "take or release a latch of an object";
    StreamOp = 42, Reserved, "operate on a stream";
    DeviceOp = 43, Reserved, "operate on memory of an accelerator";
    MultiSetTx = 44, Both, "store several values or none; in a ring begin or decide that";
    ObjectRef = 45, Both, "add, drop or count references to an object";
    ObjectNest = 46, Both, "hold keys for the next version of their parent";
    ObjectBind = 47, Both, "tie held keys to a version of their parent, or seal that version";
    Hello = 64, Frame, "open a session: versions, features, tenant, access key";
    Challenge = 65, Frame, "answer a hello: version chosen, nonce to prove the secret with";
    Proof = 66, Frame, "prove the secret";
    Welcome = 67, Frame, "accept the session: identities, sizes, limits, descriptors";
    OpenRing = 68, Frame, "open the ring of one shard";
    RingOpened = 69, Frame, "accept the ring; carries the bell of that shard";
    Bye = 70, Frame, "close the session on purpose";
    Refused = 71, Frame, "say no, with status and text; body of every answer that failed whole";
    Attach = 72, Frame, "hand over descriptors made after the welcome";
    Stats = 73, Frame, "read the node's counters";
}

impl Opcode {
    /// Returns the opcode's number.
    pub const fn as_u8(self) -> u8 {
        // The numbers are the discriminants of a `repr(u8)` enum.
        self as u8
    }

    /// Returns whether the operation is planned but has no engine: answer `NotSupported`.
    pub const fn is_reserved(self) -> bool {
        matches!(self.room(), OpcodeRoom::Reserved)
    }

    /// Returns whether a frame may carry it.
    pub const fn is_framed(self) -> bool {
        matches!(self.room(), OpcodeRoom::Both | OpcodeRoom::Frame)
    }

    /// Returns whether a ring may carry it.
    pub const fn is_ringed(self) -> bool {
        matches!(self.room(), OpcodeRoom::Both | OpcodeRoom::Ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_rise() {
        for pair in Opcode::ALL.windows(2) {
            assert!(pair[0].as_u8() < pair[1].as_u8());
        }
        let known = (0..=u8::MAX).filter_map(Opcode::from_u8).count();
        assert_eq!(known, Opcode::ALL.len());
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_u8(opcode.as_u8()), Some(opcode));
        }
    }

    #[test]
    fn reserved_opcodes_are_met_nowhere() {
        for &opcode in Opcode::ALL {
            let number = opcode.as_u8();
            assert_eq!(
                opcode.is_reserved(),
                (32..=43).contains(&number) && number != Opcode::ObjectLatch.as_u8()
            );
            assert_eq!(
                opcode.is_reserved(),
                !opcode.is_framed() && !opcode.is_ringed()
            );
        }
    }
}
