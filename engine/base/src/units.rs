//! Byte counts as people write them: `64MiB`, `4KiB`, `1.5GiB`, `4096`.
//!
//! Powers of 1024 only carry an `i`; `K`, `M`, `G`, `T` alone mean the same, because every memory
//! tool an operator knows reads them so. `KB` and its like are refused: nobody agrees on them.

use std::fmt;

const KIB: u64 = 1 << 10;
const SUFFIXES: [(&str, u64); 9] = [
    ("TiB", KIB * KIB * KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("MiB", KIB * KIB),
    ("KiB", KIB),
    ("T", KIB * KIB * KIB * KIB),
    ("G", KIB * KIB * KIB),
    ("M", KIB * KIB),
    ("K", KIB),
    ("B", 1),
];

/// Says why a text is no byte count; the person who wrote the text can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesError {
    /// The text is empty or does not begin with a number.
    NotANumber,
    /// What follows the number is none of `B KiB MiB GiB TiB K M G T`.
    UnknownUnit,
    /// The value is no whole number of bytes.
    NotWhole,
    /// The value does not fit in 64 bits.
    TooLarge,
}

impl fmt::Display for BytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "expected a number such as 64MiB",
            Self::UnknownUnit => "unknown unit, use B, KiB, MiB, GiB or TiB",
            Self::NotWhole => "not a whole number of bytes",
            Self::TooLarge => "more than 2^64 bytes",
        })
    }
}

impl std::error::Error for BytesError {}

/// Parses a byte count; spaces around and before the unit are allowed, as is a decimal fraction.
///
/// # Errors
/// [`BytesError`], one variant per cause; the caller tells its user.
pub fn parse_bytes(text: &str) -> Result<u64, BytesError> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start();
    let factor = if unit.is_empty() {
        1
    } else {
        let found = SUFFIXES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        found
            .map(|&(_, factor)| factor)
            .ok_or(BytesError::UnknownUnit)?
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(BytesError::NotANumber);
    }
    let whole: u128 = whole.parse().map_err(|_digits| BytesError::TooLarge)?;
    let mut bytes = whole
        .checked_mul(factor.into())
        .ok_or(BytesError::TooLarge)?;
    if !fraction.is_empty() {
        if fraction.len() > 18 {
            return Err(BytesError::NotWhole);
        }
        let digits: u128 = fraction.parse().map_err(|_digits| BytesError::NotANumber)?;
        let scale = fraction.chars().fold(1_u128, |scale, _digit| scale * 10);
        let scaled = digits * u128::from(factor);
        if !scaled.is_multiple_of(scale) {
            return Err(BytesError::NotWhole);
        }
        bytes += scaled / scale;
    }
    u64::try_from(bytes).map_err(|_overflow| BytesError::TooLarge)
}

/// Formats a byte count exactly, in the largest unit that divides it: `64MiB`, `1536KiB`, `17B`.
///
/// [`parse_bytes`] of the answer is the count again.
pub fn format_bytes(bytes: u64) -> String {
    let unit = SUFFIXES[..4]
        .iter()
        .find(|(_, factor)| bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) if bytes > 0 => format!("{}{name}", bytes / factor),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_spellings_parse() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("17B", 17),
            ("4KiB", 4096),
            ("4 kib", 4096),
            ("64MiB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn wrong_texts_name_their_cause() {
        for (text, cause) in [
            ("", BytesError::NotANumber),
            ("MiB", BytesError::NotANumber),
            ("1.", BytesError::NotANumber),
            ("1.2.3", BytesError::NotANumber),
            ("-1", BytesError::UnknownUnit),
            ("1MB", BytesError::UnknownUnit),
            ("0.3B", BytesError::NotWhole),
            ("16777216TiB", BytesError::TooLarge),
            (
                "99999999999999999999999999999999999999999999",
                BytesError::TooLarge,
            ),
        ] {
            assert_eq!(parse_bytes(text), Err(cause), "{text}");
            assert!(!cause.to_string().is_empty());
        }
    }

    #[test]
    fn formatted_count_parses_back() {
        for bytes in [0, 1, 1023, 1024, 1536 << 10, 64 << 20, 5 << 40, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
        assert_eq!(format_bytes(64 << 20), "64MiB");
        assert_eq!(format_bytes(1536 << 10), "1536KiB");
    }
}
