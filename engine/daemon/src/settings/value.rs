//! Text to values and back: the small grammars of core lists, spins and addresses.
//!
//! Sizes are read and written by `chariot_base::units`.
//!
//! Each parser answers with the cause of a refusal in a few words; the caller adds the name of the
//! setting, its source and the remedy.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use crate::seam::SpinBudget;

/// Most elements of any list setting.
pub const LIST_MAX: usize = 64;

/// Highest core number accepted: far above what the kernel supports (8,192 CPUs).
const CORE_MAX: usize = 65_535;

/// Most bytes of a text setting that is looked at.
const TEXT_MAX: usize = 4_096;

/// Parses `0,1` or `0-3` or `0,4-7` into core numbers in the order given.
///
/// # Errors
/// The cause: not a number, an empty or backward range, a core named twice, too many.
pub fn parse_cores(text: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.trim()
                .parse::<usize>()
                .ok()
                .filter(|core| *core <= CORE_MAX)
                .ok_or_else(|| format!("'{part}' is neither a core number nor a range"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {part} runs backwards"));
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is named twice"));
            }
            if cores.len() == LIST_MAX {
                return Err(format!("more than {LIST_MAX} cores"));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// Most URLs of etcd.
const ENDPOINTS_MAX: usize = 16;

/// Parses `http://a:2379,http://b:2379`; `a:2379` means the same as `http://a:2379`.
///
/// # Errors
/// The cause: nothing, too many, or another scheme.
pub fn parse_endpoints(text: &str) -> Result<Vec<String>, String> {
    let mut endpoints = Vec::new();
    for part in text.split(',').map(str::trim) {
        let rest = match part.split_once("://") {
            None => part,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(format!("{scheme}:// is not spoken, only http://")),
        };
        let port = rest
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        if !matches!(port, Some((host, Ok(_))) if !host.is_empty()) {
            return Err(format!("'{part}' is not host:port"));
        }
        if endpoints.len() == ENDPOINTS_MAX {
            return Err(format!("more than {ENDPOINTS_MAX} URLs"));
        }
        endpoints.push(format!("http://{rest}"));
    }
    Ok(endpoints)
}

/// Parses the name of a cluster.
///
/// # Errors
/// The cause: empty, too long, or a character that a key of etcd would not separate.
pub fn parse_cluster(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.len() {
        0 => Err("an empty name".to_owned()),
        65.. => Err("longer than 64 characters".to_owned()),
        _ if text.bytes().all(is_good) => Ok(text.to_owned()),
        _ => Err("a character other than letters, digits, dot, dash and underscore".to_owned()),
    }
}

/// Writes core numbers as the parser reads them.
pub fn format_list<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Parses user or group ids with commas between them; sorted, each once. Empty text is no ids.
///
/// # Errors
/// The cause: not a number, or too many.
pub fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    let mut ids = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        ids.push(
            part.parse::<u32>()
                .map_err(|_not_a_number| format!("'{part}' is no id"))?,
        );
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > LIST_MAX {
        return Err(format!("more than {LIST_MAX} ids"));
    }
    Ok(ids)
}

/// Parses `auto` or a number of microseconds up to 1,000.
///
/// # Errors
/// The cause. The bound keeps a shard's loop pass well below its stall limit (10 ms).
pub fn parse_spin(text: &str) -> Result<SpinBudget, String> {
    if text == "auto" {
        return Ok(SpinBudget::Auto);
    }
    let micros: u64 = text
        .parse()
        .map_err(|_not_a_number| "neither auto nor a number")?;
    if micros > 1_000 {
        return Err(format!(
            "{micros} µs would keep a shard from its other work"
        ));
    }
    Ok(SpinBudget::Fixed(Duration::from_micros(micros)))
}

/// Parses `host:port`; a host name is looked up, and its first address taken.
///
/// # Errors
/// The cause: no port, or a name that does not resolve.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if !text.contains(':') || text.len() > TEXT_MAX {
        return Err("not an address with a port".to_owned());
    }
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| "not an address with a port, and no host of that name".to_owned())
}

/// Parses `true` or `false`; a flag without a value is `true` before it comes here.
///
/// # Errors
/// The cause.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// Parses a whole number within `range`.
///
/// # Errors
/// The cause.
pub fn parse_number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let number: u64 = text.parse().map_err(|_not_a_number| "not a whole number")?;
    if range.contains(&number) {
        return Ok(number);
    }
    Err(format!("not between {} and {}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_take_lists_and_ranges() {
        assert_eq!(parse_cores("0").unwrap(), [0]);
        assert_eq!(parse_cores("3,1").unwrap(), [3, 1]);
        assert_eq!(parse_cores("0-2, 8").unwrap(), [0, 1, 2, 8]);
        for wrong in [
            "", "a", "1,1", "2-1", "0-", "-1", "0-64", "0,,1", "99999999",
        ] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_sorted_and_once() {
        assert_eq!(parse_ids("10, 2,10").unwrap(), [2, 10]);
        assert!(parse_ids("").unwrap().is_empty());
        assert!(parse_ids("root").unwrap_err().contains("no id"));
    }

    #[test]
    fn endpoints_are_urls_or_addresses() {
        let parsed = parse_endpoints("http://a:2379, 127.0.0.1:2379").unwrap();
        assert_eq!(parsed, ["http://a:2379", "http://127.0.0.1:2379"]);
        assert!(
            parse_endpoints("https://a:2379")
                .unwrap_err()
                .contains("https")
        );
        for bad in ["", "a", "a:port", ":2379", "a:2379,"] {
            let cause = parse_endpoints(bad).expect_err(bad);
            assert!(cause.contains("is not host:port"), "{cause}");
        }
        let many = parse_endpoints(&["a:1"; 17].join(","));
        assert_eq!(many.unwrap_err(), "more than 16 URLs");
    }

    #[test]
    fn cluster_names_stay_within_one_part_of_a_key() {
        assert_eq!(parse_cluster("az-1.test_2").unwrap(), "az-1.test_2");
        for bad in ["", "a/b", "a b", &"x".repeat(65)] {
            let cause = parse_cluster(bad).expect_err(bad);
            assert!(!cause.is_empty());
        }
    }

    #[test]
    fn spin_is_auto_or_bounded() {
        assert_eq!(parse_spin("auto").unwrap(), SpinBudget::Auto);
        assert_eq!(parse_spin("0").unwrap(), SpinBudget::Fixed(Duration::ZERO));
        assert!(parse_spin("1001").unwrap_err().contains("1001"));
        assert!(parse_spin("5us").unwrap_err().contains("neither"));
    }

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(parse_address("127.0.0.1:80").unwrap().port(), 80);
        assert!(parse_address("[::1]:80").unwrap().is_ipv6());
        for wrong in ["", "127.0.0.1", "80", "127.0.0.1:99999"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }
}
