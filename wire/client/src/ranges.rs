//! The range of a value that a read asks for.

use chariot_proto::Status;

use crate::error::Error;
use crate::options::GetOptions;

/// A range as asked for; it is judged when the value's length is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub offset: u64,
    pub len: Option<u64>,
}

impl Range {
    pub(crate) fn of(options: &GetOptions) -> Self {
        Self {
            offset: options.offset,
            len: options.len,
        }
    }

    /// Whether it is the whole value, whatever its length.
    pub(crate) fn is_whole(self) -> bool {
        self == Self::default()
    }

    /// First byte and length in a value of `value_len` bytes.
    #[inline]
    pub(crate) fn within(self, value_len: u64) -> Result<(u64, u64), Error> {
        let rest = value_len.checked_sub(self.offset);
        let len = rest.map(|rest| self.len.unwrap_or(rest));
        match (rest, len) {
            (Some(rest), Some(len)) if len <= rest => Ok((self.offset, len)),
            _ => Err(self.outside(value_len)),
        }
    }

    #[cold]
    fn outside(self, value_len: u64) -> Error {
        Error::new(
            Status::RangeInvalid,
            format!(
                "a range from byte {} is not inside {value_len} bytes",
                self.offset
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_must_lie_inside_the_value() {
        let range = |offset, len| Range { offset, len };
        assert_eq!(range(0, None).within(5).unwrap(), (0, 5));
        assert_eq!(range(5, None).within(5).unwrap(), (5, 0));
        assert_eq!(range(1, Some(4)).within(5).unwrap(), (1, 4));
        for wrong in [range(6, None), range(1, Some(5)), range(1, Some(u64::MAX))] {
            assert_eq!(wrong.within(5).unwrap_err().status(), Status::RangeInvalid);
        }
    }
}
