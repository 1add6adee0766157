//! The settings of the SSD tier.

use std::path::PathBuf;
use std::time::Duration;

use chariot_base::units::format_bytes;

use super::{Reader, parse_path, within};
use crate::seam::SsdTierOptions;
use crate::settings::SettingsError;
use crate::settings::value::parse_number;

const SIZE_MIN: u64 = 64 << 20;
const SIZE_MAX: u64 = 256 << 40;
const SEGMENT_MIN: u64 = 1 << 20;
const SEGMENT_MAX: u64 = 1 << 30;
/// A partition has at least 8 segments, and some bytes in front.
const SEGMENTS_MIN: u64 = 9;
/// Segments of a partition whose size leaves the choice.
const SEGMENTS_WANTED: u64 = 64;
const SEGMENT_DEFAULT: u64 = 64 << 20;
const DAY_MAX: u64 = 1 << 60;

fn parse_paths(text: &str) -> Result<Vec<PathBuf>, String> {
    text.split(',').map(parse_path).collect()
}

fn format_paths(paths: &[PathBuf]) -> String {
    let texts: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    texts.join(",")
}

/// Reads all settings of the tier; `None` when `--ssd` is not given.
pub(super) fn resolve(
    reader: &mut Reader<'_>,
    shard_count: usize,
) -> Result<Option<SsdTierOptions>, SettingsError> {
    let bytes = |bytes: &u64| format_bytes(*bytes);
    let paths = reader.read("ssd", parse_paths, |paths| format_paths(paths))?;
    let size = reader.read("ssd-size", |text| within(text, SIZE_MIN, SIZE_MAX), bytes)?;
    let segment = reader.read(
        "ssd-segment",
        |text| match within(text, SEGMENT_MIN, SEGMENT_MAX)? {
            bytes if bytes.is_power_of_two() => Ok(bytes),
            _ => Err("not a power of two".to_owned()),
        },
        bytes,
    )?;
    let number = |range| move |text: &str| parse_number(text, range);
    let text = ToString::to_string;
    let flush_ms = reader.required("ssd-flush-ms", number(1..=60_000), text)?;
    let second_hit = reader.required("ssd-admission", parse_admission, |second_hit| {
        String::from(if *second_hit { "second-hit" } else { "always" })
    })?;
    let day_bytes = reader.required("ssd-bytes-per-day", |text| within(text, 0, DAY_MAX), bytes)?;
    let clean_bytes_per_s = reader.required(
        "ssd-clean-bytes-per-s",
        |text| within(text, 1 << 20, DAY_MAX),
        bytes,
    )?;
    let promote_hits = reader.required("ssd-promote-hits", number(1..=3), text)?;
    let drain_s = reader.required("drain-to-ssd", number(0..=3_600), text)?;
    let Some(paths) = paths else {
        return Ok(None);
    };
    let Some(size_bytes) = size else {
        let cause = "says where, and nothing says how much".to_owned();
        return Err(reader.refuse("ssd", cause, "give --ssd-size SIZE too".to_owned()));
    };
    let share = size_bytes / shard_count as u64;
    let wanted = (share / SEGMENTS_WANTED).clamp(SEGMENT_MIN, SEGMENT_DEFAULT);
    let segment_bytes = segment.unwrap_or_else(|| 1 << wanted.ilog2());
    reader.keep("ssd-segment", Some(format_bytes(segment_bytes)));
    if share < SEGMENTS_MIN * segment_bytes {
        let cause = format!(
            "{} for each of {shard_count} shards are fewer than {SEGMENTS_MIN} segments",
            format_bytes(share)
        );
        let remedy = "give more, or smaller segments with --ssd-segment".to_owned();
        return Err(reader.refuse("ssd-size", cause, remedy));
    }
    Ok(Some(SsdTierOptions {
        paths,
        size_bytes,
        segment_bytes: u32::try_from(segment_bytes).expect("at most 1 GiB"),
        flush: Duration::from_millis(flush_ms),
        second_hit,
        day_bytes,
        clean_bytes_per_s,
        promote_hits: u8::try_from(promote_hits).expect("at most 3"),
        drain: Duration::from_secs(drain_s),
    }))
}

fn parse_admission(text: &str) -> Result<bool, String> {
    match text {
        "always" => Ok(false),
        "second-hit" => Ok(true),
        _ => Err("no such admission".to_owned()),
    }
}
