//! Size classes: 64-byte steps up to 1 KiB, then eight classes per doubling up to 256 KiB.
//!
//! At most an eighth of a slot is lost to rounding above 1 KiB. Every slot length is a multiple of
//! 64, and of 4 KiB from 32 KiB on, so that direct I/O needs no bounce there.

use chariot_base::limits::{EXTENT_ALIGN_BYTES, SLAB_LEN_MAX};

/// Classes in all: 16 of 64-byte steps, then 8 for each of the 8 doublings to 256 KiB.
pub(super) const CLASS_COUNT: usize = 80;

const LINEAR_CLASSES: u64 = 16;

/// Returns the class of a length of 1 byte to 256 KiB.
pub(super) fn class_of(len: u64) -> u8 {
    assert!(len > 0);
    assert!(len <= SLAB_LEN_MAX);
    let lines = len.div_ceil(EXTENT_ALIGN_BYTES);
    if lines <= LINEAR_CLASSES {
        return u8::try_from(lines - 1).expect("at most 16");
    }
    // `lines - 1` has its top bit at `log`; three bits below it choose among eight classes.
    let log = (lines - 1).ilog2();
    let step = ((lines - 1) >> (log - 3)) & 7;
    u8::try_from(LINEAR_CLASSES + u64::from(log - 4) * 8 + step).expect("at most 79")
}

/// Returns the slot length of a class in bytes.
pub(super) fn slot_len(class: u8) -> u64 {
    assert!(usize::from(class) < CLASS_COUNT);
    let class = u64::from(class);
    if class < LINEAR_CLASSES {
        return (class + 1) * EXTENT_ALIGN_BYTES;
    }
    let doubling = (class - LINEAR_CLASSES) / 8;
    let step = (class - LINEAR_CLASSES) % 8;
    ((9 + step) << (doubling + 1)) * EXTENT_ALIGN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_is_the_smallest_that_holds_each_length() {
        for len in (1..=SLAB_LEN_MAX)
            .step_by(61)
            .chain([1, 64, 65, 1024, 1025, SLAB_LEN_MAX])
        {
            let class = class_of(len);
            assert!(slot_len(class) >= len, "{len}");
            assert!(class == 0 || slot_len(class - 1) < len, "{len}");
        }
        assert_eq!(usize::from(class_of(SLAB_LEN_MAX)), CLASS_COUNT - 1);
        assert_eq!(slot_len(79), SLAB_LEN_MAX);
    }

    #[test]
    fn slot_lengths_are_aligned_and_waste_at_most_an_eighth() {
        for class in 16..80 {
            assert_eq!(slot_len(class) % EXTENT_ALIGN_BYTES, 0);
            let smallest = slot_len(class - 1) + 1;
            assert!(slot_len(class) - smallest < slot_len(class) / 8);
        }
        assert_eq!(slot_len(class_of(4096)), 4096);
        assert_eq!(slot_len(class_of(64 << 10)), 64 << 10);
    }
}
