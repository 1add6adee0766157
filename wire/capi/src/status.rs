//! Status numbers and their words: the same numbers on the wire and in every SDK.

use std::ffi::{CString, c_char};
use std::sync::LazyLock;

use chariot_client::Status;

/// Done.
pub const CHARIOT_OK: i32 = 0;
/// The deadline passed before the request was carried out.
pub const CHARIOT_TIMEOUT: i32 = 100;
/// The node is starting or was restarted.
pub const CHARIOT_RESTARTING: i32 = 101;
/// The request met a change under way.
pub const CHARIOT_AGAIN: i32 = 102;
/// A table of the node is full.
pub const CHARIOT_BUSY: i32 = 200;
/// No memory could be freed before the deadline: the rest is kept, pinned or leased.
pub const CHARIOT_OUT_OF_MEMORY: i32 = 201;
/// The memory for entries is full and nothing may be evicted.
pub const CHARIOT_METADATA_FULL: i32 = 202;
/// No such key.
pub const CHARIOT_NOT_FOUND: i32 = 300;
/// The key exists and if-absent was asked.
pub const CHARIOT_EXISTS: i32 = 400;
/// A pin or an unfinished transfer holds the object.
pub const CHARIOT_PINNED: i32 = 401;
/// The object is sealed: its value will never change.
pub const CHARIOT_SEALED: i32 = 402;
/// An argument has no meaning.
pub const CHARIOT_INVALID_ARGUMENT: i32 = 500;
/// The key is empty, too long or holds a byte outside the alphabet.
pub const CHARIOT_KEY_INVALID: i32 = 501;
/// A value, a batch or a frame is over its limit.
pub const CHARIOT_TOO_LARGE: i32 = 502;
/// This node has no engine for what was asked.
pub const CHARIOT_NOT_SUPPORTED: i32 = 503;
/// No protocol version is spoken by both sides.
pub const CHARIOT_VERSION_MISMATCH: i32 = 504;
/// Bytes that are no valid frame or message.
pub const CHARIOT_MALFORMED: i32 = 505;
/// A byte range lies outside the value.
pub const CHARIOT_RANGE_INVALID: i32 = 506;
/// The access key, the proof or the user is not accepted.
pub const CHARIOT_NOT_AUTHORIZED: i32 = 600;
/// The session broke the protocol or an operator expelled it: it is served no more.
pub const CHARIOT_EXPELLED: i32 = 601;
/// The node met a fault of its own.
pub const CHARIOT_INTERNAL: i32 = 900;
/// The bytes do not have the checksum they were stored with.
pub const CHARIOT_CHECKSUM_MISMATCH: i32 = 901;
/// The node is draining and takes no new work.
pub const CHARIOT_SHUTTING_DOWN: i32 = 902;

/// The version of this ABI. It grows by one when a function or a field is added, and its hundreds
/// grow when something is taken away.
pub const CHARIOT_ABI_VERSION: u32 = 1;

/// The ABI version of the library that is linked; at least the header's is needed.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn chariot_abi_version() -> u32 {
    CHARIOT_ABI_VERSION
}

/// The release of the library, as `0.1.0`. A static string.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn chariot_version() -> *const c_char {
    static VERSION: LazyLock<CString> =
        LazyLock::new(|| CString::new(env!("CARGO_PKG_VERSION")).unwrap_or_default());
    VERSION.as_ptr()
}

struct Words {
    number: i32,
    name: CString,
    text: CString,
    remedy: CString,
}

fn words(number: i32) -> Option<&'static Words> {
    static TABLE: LazyLock<Vec<Words>> = LazyLock::new(|| {
        let line = |status: &Status| Words {
            number: i32::from(status.as_u16()),
            name: CString::new(status.name()).unwrap_or_default(),
            text: CString::new(status.text()).unwrap_or_default(),
            remedy: CString::new(status.remedy()).unwrap_or_default(),
        };
        Status::ALL.iter().map(line).collect()
    });
    TABLE.iter().find(|words| words.number == number)
}

/// The name of a status, as `TooLarge`; `unknown` outside the table. A static string.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn chariot_status_name(status: i32) -> *const c_char {
    words(status).map_or(c"unknown".as_ptr(), |words| words.name.as_ptr())
}

/// What a status means; empty outside the table. A static string.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn chariot_status_text(status: i32) -> *const c_char {
    words(status).map_or(c"".as_ptr(), |words| words.text.as_ptr())
}

/// What to do about a status; empty outside the table. A static string.
///
/// Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn chariot_status_remedy(status: i32) -> *const c_char {
    words(status).map_or(c"".as_ptr(), |words| words.remedy.as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants are written by hand for the generator of the header: against the table.
    #[test]
    fn every_status_has_a_constant_of_its_number() {
        let source = include_str!("status.rs");
        for status in Status::ALL {
            let mut name = String::new();
            for letter in status.name().chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            let line = format!("pub const CHARIOT_{name}: i32 = {};", status.as_u16());
            assert!(source.contains(&line), "missing: {line}");
        }
    }

    #[test]
    fn words_are_found_by_number() {
        // SAFETY: a static string.
        let name = unsafe { std::ffi::CStr::from_ptr(chariot_status_name(CHARIOT_TOO_LARGE)) };
        assert_eq!(name, c"TooLarge");
        // SAFETY: a static string.
        let none = unsafe { std::ffi::CStr::from_ptr(chariot_status_name(-1)) };
        assert_eq!(none, c"unknown");
    }
}
