//! Reads a number of a message in one way, whether it is owned or archived.

use rkyv::rend::{u16_le, u32_le, u64_le};

/// Is an unsigned number of a message, of either form.
pub trait Number: Copy {
    /// Returns the number, widened to 64 bits.
    fn wide(self) -> u64;
}

macro_rules! number {
    ($($native:ty, $archived:ty;)+) => {
        $(
            impl Number for $native {
                fn wide(self) -> u64 {
                    u64::from(self)
                }
            }

            impl Number for $archived {
                fn wide(self) -> u64 {
                    u64::from(self.to_native())
                }
            }
        )+
    };
}

number! {
    u16, u16_le;
    u32, u32_le;
}

impl Number for u8 {
    fn wide(self) -> u64 {
        u64::from(self)
    }
}

impl Number for u64 {
    fn wide(self) -> u64 {
        self
    }
}

impl Number for u64_le {
    fn wide(self) -> u64 {
        self.to_native()
    }
}
