//! The rules of the old SDKs that the engine does not have, and the words of their messages.
//!
//! Programs look for parts of these texts, so they are kept as they were. Both generations take
//! keys of up to 1,024 bytes here (the first one took 255): longer keys were an error for
//! everybody.

use std::collections::HashSet;
use std::time::Duration;

use chariot_client::{Error, Status, WriteMode};
use pyo3::prelude::*;

use crate::arguments::Value;
use crate::error::old;
use crate::view::View;

/// Most keys of a batch.
const BATCH_MAX: usize = 10_000;
/// Longest key in bytes.
const KEY_MAX: usize = 1024;
/// `mset` of the first generation takes fewer keys than this.
const FIRST_MSET_KEYS: usize = 2000;
/// `mset` of the first generation takes shorter values than this, in bytes.
const FIRST_MSET_VALUE: usize = 500 * 1024;
/// Longest wait of a read.
const WAIT_MAX: Duration = Duration::from_hours(24);
/// What keys are made of, as the messages say it.
const ALPHABET: &str = r"^[a-zA-Z0-9\~\.\-\/_!@#%\^\&\*\(\)\+\=\:;]*$";

/// A read's wait.
pub(crate) fn wait(wait_ms: u64) -> Duration {
    Duration::from_millis(wait_ms).min(WAIT_MAX)
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"~.-/_!@#%^&*()+=:;".contains(&byte)
}

/// Checks one key.
pub(crate) fn check_key(name: &[u8], is_first: bool) -> PyResult<()> {
    if name.is_empty() {
        let message = "The key should not be empty. The objectKey should not be empty.";
        return Err(old(Status::InvalidArgument, message));
    }
    if name.len() <= KEY_MAX && name.iter().all(|&byte| is_key_byte(byte)) {
        return Ok(());
    }
    let len = name.len();
    let message = if is_first {
        format!(
            "The key contains illegal char(s), allowed format: {ALPHABET} or the length of key is \
             {len} > {KEY_MAX}."
        )
    } else {
        let shown = String::from_utf8_lossy(&name[..len.min(64)]);
        format!(
            "The key contains illegal char(s), allowed regex format: {ALPHABET} or the length of \
             key must be no more than {KEY_MAX}. Current key: {shown}, length: {len}"
        )
    };
    Err(old(Status::InvalidArgument, &message))
}

/// Checks a batch of at most `limit` keys: of their contents, that of the first.
pub(crate) fn check_batch(keys: &[&[u8]], limit: usize, is_first: bool) -> PyResult<()> {
    let Some(name) = keys.first() else {
        let message = "The keys are empty. The keys should not be empty.";
        return Err(old(Status::InvalidArgument, message));
    };
    if keys.len() > limit {
        let message = format!("The objectKeys size exceed {limit}.");
        return Err(old(Status::InvalidArgument, &message));
    }
    if name.is_empty() {
        let message = "keys[0] can not be empty. The key should not be empty.";
        return Err(old(Status::InvalidArgument, message));
    }
    check_key(name, is_first)
}

/// Checks a batch of the usual size.
pub(crate) fn check_keys(keys: &[&[u8]], is_first: bool) -> PyResult<()> {
    check_batch(keys, BATCH_MAX, is_first)
}

/// Checks that no key stands twice.
pub(crate) fn check_no_duplicate(keys: &[&[u8]]) -> PyResult<()> {
    let mut seen = HashSet::with_capacity(keys.len());
    for name in keys {
        if !seen.insert(*name) {
            let shown = String::from_utf8_lossy(name);
            let message = format!("The input parameter contains duplicate key {shown}.");
            return Err(old(Status::InvalidArgument, &message));
        }
    }
    Ok(())
}

/// Checks a value of a single set.
pub(crate) fn check_value(value: &[u8]) -> PyResult<()> {
    if value.is_empty() {
        let message = "The dataSize value should be bigger than zero.";
        return Err(old(Status::InvalidArgument, message));
    }
    Ok(())
}

/// Pairs keys with values.
pub(crate) fn check_pairs<'a>(
    keys: &[&'a [u8]],
    values: &'a [Value<'a>],
    is_first: bool,
) -> PyResult<Vec<(&'a [u8], &'a [u8])>> {
    if keys.len() != values.len() {
        let message = "The number of key and value is not the same.";
        return Err(old(Status::InvalidArgument, message));
    }
    if is_first && keys.len() >= FIRST_MSET_KEYS {
        let message =
            format!("The maximum size of keys in single operation is less than {FIRST_MSET_KEYS}.");
        return Err(old(Status::InvalidArgument, &message));
    }
    let mut pairs = Vec::with_capacity(keys.len());
    for (name, value) in keys.iter().zip(values) {
        let bytes = value.bytes();
        if bytes.is_empty() {
            let shown = String::from_utf8_lossy(name);
            let message = format!("The value associated with key {shown} should not be empty.");
            return Err(old(Status::InvalidArgument, &message));
        }
        if is_first && bytes.len() >= FIRST_MSET_VALUE {
            let message = format!("The size for the val must be less than {FIRST_MSET_VALUE} Byte");
            return Err(old(Status::InvalidArgument, &message));
        }
        pairs.push((*name, bytes));
    }
    Ok(pairs)
}

/// Checks the sizes of new values.
pub(crate) fn check_sizes(keys: &[&[u8]], sizes: &[usize]) -> PyResult<()> {
    if keys.len() != sizes.len() {
        let message = "The number of key and value is not the same.";
        return Err(old(Status::InvalidArgument, message));
    }
    check_no_duplicate(keys)?;
    if sizes.contains(&0) {
        let message = "The dataSize value should be bigger than zero.";
        return Err(old(Status::InvalidArgument, message));
    }
    Ok(())
}

/// Lends a range of a value: (first byte, bytes), cut at its end; 0 bytes reads to the end.
pub(crate) fn range_of(view: chariot_client::View, range: (u64, u64)) -> PyResult<View> {
    let len = view.len() as u64;
    let (offset, size) = range;
    if offset >= len {
        let message = format!("The read offset {offset} out of range [0,{len})");
        return Err(old(Status::RangeInvalid, &message));
    }
    let rest = len - offset;
    let size = if size == 0 { rest } else { size.min(rest) };
    let to_usize = |bytes: u64| usize::try_from(bytes).expect("inside a value in memory");
    Ok(View::of_range(view, to_usize(offset), to_usize(size)))
}

/// The error of a write.
pub(crate) fn write_failed(failed: &Error, mode: WriteMode, is_first: bool) -> PyErr {
    batch_failed("", failed, mode, is_first)
}

/// The error of a batch of writes; `before` begins its text.
pub(crate) fn batch_failed(before: &str, failed: &Error, mode: WriteMode, is_first: bool) -> PyErr {
    let needs_l2 = !matches!(mode, WriteMode::None | WriteMode::NoneEvict);
    let (status, detail) = match failed.status() {
        Status::NotSupported if needs_l2 && is_first => (
            Status::InvalidArgument,
            "The key is set to WRITE_THROUGH_L2_CACHE or WRITE_BACK_L2_CACHE, but L2_cache_type \
             is set to none."
                .to_owned(),
        ),
        Status::NotSupported if needs_l2 => (
            Status::InvalidArgument,
            "The key is set to WRITE_THROUGH_L2_CACHE, WRITE_BACK_L2_CACHE or \
             WRITE_BACK_L2_CACHE_EVICT, but L2_cache_type is set to none."
                .to_owned(),
        ),
        Status::OutOfMemory | Status::TooLarge => (
            Status::OutOfMemory,
            format!("Shared memory no space in arena: {}", failed.cause()),
        ),
        status => (status, failed.cause().to_owned()),
    };
    let message = if before.is_empty() {
        detail
    } else {
        format!("{before} {detail}")
    };
    old(status, &message)
}
