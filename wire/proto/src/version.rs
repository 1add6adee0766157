//! Which protocol versions this build speaks, and how two peers agree on one.

/// Oldest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// Newest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

const _: () = assert!(PROTOCOL_VERSION_MIN >= 1);
const _: () = assert!(PROTOCOL_VERSION_MIN <= PROTOCOL_VERSION_MAX);

/// Holds the versions that one peer speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// Oldest version.
    pub min: u16,
    /// Newest version.
    pub max: u16,
}

impl VersionRange {
    /// What this build speaks.
    pub const OURS: Self = Self {
        min: PROTOCOL_VERSION_MIN,
        max: PROTOCOL_VERSION_MAX,
    };

    /// Returns the newest version that both speak, or `None` (answer `VersionMismatch`).
    pub const fn agree(self, peer: Self) -> Option<u16> {
        let newest = if self.max < peer.max {
            self.max
        } else {
            peer.max
        };
        let oldest = if self.min > peer.min {
            self.min
        } else {
            peer.min
        };
        if newest < oldest || peer.min > peer.max || self.min > self.max {
            return None;
        }
        Some(newest)
    }

    /// Returns whether `version` lies inside.
    pub const fn contains(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(min: u16, max: u16) -> VersionRange {
        VersionRange { min, max }
    }

    #[test]
    fn agree_takes_the_newest_common_version() {
        assert_eq!(range(1, 1).agree(range(1, 2)), Some(1));
        assert_eq!(range(2, 4).agree(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).agree(range(2, 3)), None);
        assert_eq!(
            range(1, 3).agree(range(3, 1)),
            None,
            "a range upside down is empty"
        );
        assert!(VersionRange::OURS.contains(1) && !VersionRange::OURS.contains(0));
    }
}
