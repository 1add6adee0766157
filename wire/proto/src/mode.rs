//! Options of a write that are small numbers on the wire.

/// Says what a write promises beyond this node's memory, and what may happen to it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum WriteMode {
    /// In this node only and kept: never evicted, a full node refuses new writes instead.
    #[default]
    None = 0,
    /// In the object store before the write returns.
    WriteThrough = 1,
    /// In the durable queue to the object store before the write returns.
    WriteBack = 2,
    /// In this node only; may be evicted.
    NoneEvict = 3,
    /// As `WriteBack`; may be evicted for good.
    WriteBackEvict = 4,
}

impl WriteMode {
    /// Returns the mode of a number, or `None` for one without meaning (`InvalidArgument`).
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::WriteThrough),
            2 => Some(Self::WriteBack),
            3 => Some(Self::NoneEvict),
            4 => Some(Self::WriteBackEvict),
            _ => None,
        }
    }

    /// Returns the mode's number.
    pub const fn as_u8(self) -> u8 {
        // The numbers are the discriminants of a `repr(u8)` enum.
        self as u8
    }

    /// Returns whether the promise needs an object store: a node without one answers
    /// `NotSupported`, it never accepts and weakens.
    pub const fn needs_object_store(self) -> bool {
        matches!(
            self,
            Self::WriteThrough | Self::WriteBack | Self::WriteBackEvict
        )
    }

    /// Returns whether the entry may be dropped to make room.
    pub const fn is_evictable(self) -> bool {
        matches!(self, Self::NoneEvict | Self::WriteBackEvict)
    }
}

/// Says what a write does when its key exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ExistenceOpt {
    /// Overwrites.
    #[default]
    None = 0,
    /// Answers `Exists` and changes nothing.
    IfAbsent = 1,
}

impl ExistenceOpt {
    /// Returns the option of a number, or `None` for one without meaning (`InvalidArgument`).
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::IfAbsent),
            _ => None,
        }
    }

    /// Returns the option's number.
    pub const fn as_u8(self) -> u8 {
        // The numbers are the discriminants of a `repr(u8)` enum.
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        let modes = (0..=u8::MAX).filter_map(WriteMode::from_u8);
        assert!(modes.eq([0, 1, 2, 3, 4].map(|n| WriteMode::from_u8(n).unwrap())));
        for number in 0..=u8::MAX {
            assert!(WriteMode::from_u8(number).is_none_or(|mode| mode.as_u8() == number));
            assert!(ExistenceOpt::from_u8(number).is_none_or(|opt| opt.as_u8() == number));
        }
        assert!(ExistenceOpt::from_u8(2).is_none());
    }

    #[test]
    fn only_object_store_modes_need_one() {
        assert!(!WriteMode::None.needs_object_store() && !WriteMode::None.is_evictable());
        assert!(!WriteMode::NoneEvict.needs_object_store() && WriteMode::NoneEvict.is_evictable());
        assert!(WriteMode::WriteBackEvict.needs_object_store());
    }
}
