//! Sizes and figures as people write and read them.

/// Parses `4096`, `4KiB`, `1MiB`, `2GiB`; at least one byte.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let units = [
        ("KiB", 1_usize << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("B", 1),
    ];
    let (digits, unit) = units
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|digits| (digits, *unit)))
        .unwrap_or((text, 1));
    let count: Option<usize> = digits.trim().parse().ok();
    count
        .and_then(|count| count.checked_mul(unit))
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("`{text}` is no size: write bytes or 4KiB, 1MiB, 2GiB"))
}

/// Bytes with the largest unit that leaves at least 1.
pub(crate) fn bytes(count: f64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Counts per second with `k` and `M`.
pub(crate) fn rate(count: f64) -> String {
    scaled(count, 1000.0, &["/s", "k/s", "M/s", "G/s"])
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 && value.fract() == 0.0 {
        0
    } else {
        2
    };
    format!("{value:.digits$} {}", units[unit])
}

/// Microseconds with as many digits as matter.
pub(crate) fn micros(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.1} ms", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0} us"),
        value => format!("{value:.2} us"),
    }
}

/// A table of names and values, the values in one column.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows
        .iter()
        .map(|(name, value)| format!("  {name:width$}  {value}\n"));
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_with_and_without_unit() {
        for (text, size) in [
            ("1", 1),
            ("4096", 4096),
            ("4KiB", 4096),
            ("64B", 64),
            ("2 MiB", 2 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
    }

    #[test]
    fn sizes_without_sense_are_refused_with_the_remedy() {
        for text in [
            "",
            "0",
            "KiB",
            "-1",
            "4kb",
            "1.5MiB",
            "99999999999999999999",
            "99999999999GiB",
        ] {
            assert!(
                parse_size(text)
                    .unwrap_err()
                    .contains("write bytes or 4KiB"),
                "{text}"
            );
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(65_536.0), "64.00 KiB");
        assert_eq!(rate(1_234_567.0), "1.23 M/s");
        assert_eq!(micros(0.25), "0.25 us");
        assert_eq!(micros(250_000.0), "250.0 ms");
        assert_eq!(
            table(&[("a", "1".into()), ("bcd", "2".into())]),
            "  a    1\n  bcd  2\n"
        );
    }
}
