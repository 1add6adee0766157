//! What a caller chooses, as plain structs: each begins with its size, set by its `_init`.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use chariot_client::{
    ConnectOptions, Error, GetOptions, ReadPath, Secret, SetOptions, SharedMemory, Target,
    WriteMode,
};

use crate::boundary::{answer, bytes, handle, invalid, text};

/// A run of bytes that belongs to the caller: a key, a value, a secret.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// The first byte; may be null when `len` is 0.
    pub data: *const c_void,
    /// How many bytes.
    pub len: usize,
}

/// A run of bytes that belongs to the caller and may be written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BytesMut {
    /// The first byte; may be null when `len` is 0.
    pub data: *mut c_void,
    /// How many bytes.
    pub len: usize,
}

/// Shared memory when the daemon is on this host, TCP otherwise.
pub const CHARIOT_SHARED_MEMORY_AUTO: u8 = 0;
/// Always TCP.
pub const CHARIOT_SHARED_MEMORY_NEVER: u8 = 1;
/// An error where `AUTO` would fall back to TCP.
pub const CHARIOT_SHARED_MEMORY_REQUIRE: u8 = 2;

/// Kept: never evicted; a full node refuses new writes instead.
pub const CHARIOT_MODE_NONE: u8 = 0;
/// In the object store before the write returns.
pub const CHARIOT_MODE_WRITE_THROUGH: u8 = 1;
/// In the durable queue to the object store before the write returns.
pub const CHARIOT_MODE_WRITE_BACK: u8 = 2;
/// In this node only; may be evicted. The default.
pub const CHARIOT_MODE_NONE_EVICT: u8 = 3;
/// As `WRITE_BACK`; may be evicted for good.
pub const CHARIOT_MODE_WRITE_BACK_EVICT: u8 = 4;

/// How to connect. Fill with `chariot_connect_options_init` first. Texts are copied by the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CConnectOptions {
    /// Size of this struct; set by init.
    pub struct_size: u64,
    /// `host:port`, or `unix:/path/of/the.sock`.
    pub target: *const c_char,
    /// Name of the access key; null or empty where the daemon asks for none.
    pub access_key: *const c_char,
    /// The secret that belongs to it; it never crosses the wire.
    pub secret_key: Bytes,
    /// The tenant; null or empty for the default one.
    pub tenant: *const c_char,
    /// Time allowed for connecting, in microseconds, at least 1. 5 s by default.
    pub connect_timeout_us: u64,
    /// Time allowed for a call that sets no deadline, in microseconds, at least 1. 5 s by default.
    pub request_timeout_us: u64,
    /// How long a caller polls before it sleeps, in microseconds, at most. 400 by default.
    pub spin_us: u64,
    /// Most TCP connections kept between calls, at least 1. 8 by default.
    pub remote_connections: u32,
    /// One of `CHARIOT_SHARED_MEMORY_*`. `AUTO` by default.
    pub shared_memory: u8,
    /// 1: values carry a checksum, and payload received over TCP is checked. 1 by default.
    pub checksum: u8,
    /// 1: every read asks the shard, none goes through the index. 0 by default.
    pub reads_by_ring: u8,
    /// Zero.
    pub reserved: u8,
}

/// How to write. Fill with `chariot_set_options_init` first; null stands for the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CSetOptions {
    /// Size of this struct; set by init.
    pub struct_size: u64,
    /// Life of the value in milliseconds; 0 until evicted or deleted.
    pub ttl_ms: u64,
    /// Time allowed for this call in microseconds; 0 takes the client's.
    pub deadline_us: u64,
    /// One of `CHARIOT_MODE_*`. `NONE_EVICT` by default.
    pub mode: u8,
    /// 1: write only where no value exists; otherwise `CHARIOT_EXISTS`.
    pub if_absent: u8,
    /// Zeros.
    pub reserved: [u8; 6],
}

/// How to read. Fill with `chariot_get_options_init` first; null stands for the defaults.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CGetOptions {
    /// Size of this struct; set by init.
    pub struct_size: u64,
    /// How long to wait for a key that does not exist yet, in microseconds; 0 answers at once.
    pub wait_us: u64,
    /// First byte to read.
    pub offset: u64,
    /// Bytes to read from `offset` on; `UINT64_MAX` reads to the end.
    pub len: u64,
    /// Time allowed for this call beyond the wait, in microseconds; 0 takes the client's.
    pub deadline_us: u64,
}

/// Fills in the defaults. `target` is null and must be set. Null is ignored. Threads: any.
///
/// # Safety
///
/// `options` is null or has room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_connect_options_init(options: *mut CConnectOptions) {
    let defaults = ConnectOptions::new(Target::Tcp(String::new()));
    let filled = CConnectOptions {
        struct_size: size_of::<CConnectOptions>() as u64,
        target: std::ptr::null(),
        access_key: std::ptr::null(),
        secret_key: Bytes {
            data: std::ptr::null(),
            len: 0,
        },
        tenant: std::ptr::null(),
        connect_timeout_us: micros(defaults.connect_timeout),
        request_timeout_us: micros(defaults.request_timeout),
        spin_us: micros(defaults.spin),
        remote_connections: u32::try_from(defaults.remote_connections).unwrap_or(u32::MAX),
        shared_memory: CHARIOT_SHARED_MEMORY_AUTO,
        checksum: u8::from(defaults.checksum),
        reads_by_ring: 0,
        reserved: 0,
    };
    // SAFETY: the caller's contract.
    unsafe { answer(options, filled) };
}

/// Fills in the defaults: no expiry, overwriting, evictable. Null is ignored. Threads: any.
///
/// # Safety
///
/// `options` is null or has room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_set_options_init(options: *mut CSetOptions) {
    let filled = CSetOptions {
        struct_size: size_of::<CSetOptions>() as u64,
        ttl_ms: 0,
        deadline_us: 0,
        mode: CHARIOT_MODE_NONE_EVICT,
        if_absent: 0,
        reserved: [0; 6],
    };
    // SAFETY: the caller's contract.
    unsafe { answer(options, filled) };
}

/// Fills in the defaults: the whole value, no wait. Null is ignored. Threads: any.
///
/// # Safety
///
/// `options` is null or has room for the struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chariot_get_options_init(options: *mut CGetOptions) {
    let filled = CGetOptions {
        struct_size: size_of::<CGetOptions>() as u64,
        wait_us: 0,
        offset: 0,
        len: u64::MAX,
        deadline_us: 0,
    };
    // SAFETY: the caller's contract.
    unsafe { answer(options, filled) };
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn some_micros(micros: u64) -> Option<Duration> {
    (micros != 0).then(|| Duration::from_micros(micros))
}

fn flag(value: u8) -> Result<bool, Error> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid("a flag is neither 0 nor 1")),
    }
}

fn check_size<T>(struct_size: u64) -> Result<(), Error> {
    if struct_size != size_of::<T>() as u64 {
        return Err(invalid(
            "a struct of options has not the size of this ABI: call its init function first",
        ));
    }
    Ok(())
}

/// # Safety
///
/// `options` is null or points to a struct whose texts end with a zero byte.
pub(crate) unsafe fn connect_options(
    options: *const CConnectOptions,
) -> Result<ConnectOptions, Error> {
    // SAFETY: the caller keeps this function's contract.
    let given = unsafe { handle(options) }?;
    check_size::<CConnectOptions>(given.struct_size)?;
    // SAFETY: the caller keeps this function's contract.
    let target = unsafe { text(given.target) }?;
    // SAFETY: the caller keeps this function's contract.
    let access_key = unsafe { text(given.access_key) }?;
    // SAFETY: the caller keeps this function's contract.
    let tenant = unsafe { text(given.tenant) }?;
    // SAFETY: the caller keeps this function's contract.
    let secret = unsafe { bytes(given.secret_key.data, given.secret_key.len) }?;
    if target.is_empty() {
        return Err(invalid("no target: set host:port or unix:/path"));
    }
    let target = match target.strip_prefix("unix:") {
        Some(path) => Target::Unix(path.into()),
        None => Target::Tcp(target.to_owned()),
    };
    Ok(ConnectOptions {
        access_key: access_key.to_owned(),
        secret_key: Secret::new(secret),
        tenant: tenant.to_owned(),
        connect_timeout: Duration::from_micros(given.connect_timeout_us),
        request_timeout: Duration::from_micros(given.request_timeout_us),
        spin: Duration::from_micros(given.spin_us),
        checksum: flag(given.checksum)?,
        shared_memory: match given.shared_memory {
            CHARIOT_SHARED_MEMORY_AUTO => SharedMemory::Auto,
            CHARIOT_SHARED_MEMORY_NEVER => SharedMemory::Never,
            CHARIOT_SHARED_MEMORY_REQUIRE => SharedMemory::Require,
            _ => return Err(invalid("shared_memory is none of CHARIOT_SHARED_MEMORY_*")),
        },
        read_path: if flag(given.reads_by_ring)? {
            ReadPath::Ring
        } else {
            ReadPath::Index
        },
        remote_connections: given.remote_connections as usize,
        ..ConnectOptions::new(target)
    })
}

/// # Safety
///
/// `options` is null or points to a struct.
pub(crate) unsafe fn set_options(options: *const CSetOptions) -> Result<SetOptions, Error> {
    if options.is_null() {
        return Ok(SetOptions::default());
    }
    // SAFETY: the caller keeps this function's contract.
    let given = unsafe { handle(options) }?;
    check_size::<CSetOptions>(given.struct_size)?;
    Ok(SetOptions {
        ttl: (given.ttl_ms != 0).then(|| Duration::from_millis(given.ttl_ms)),
        if_absent: flag(given.if_absent)?,
        mode: WriteMode::from_u8(given.mode)
            .ok_or_else(|| invalid("mode is none of CHARIOT_MODE_*"))?,
        deadline: some_micros(given.deadline_us),
    })
}

/// # Safety
///
/// `options` is null or points to a struct.
pub(crate) unsafe fn get_options(options: *const CGetOptions) -> Result<GetOptions, Error> {
    if options.is_null() {
        return Ok(GetOptions::default());
    }
    // SAFETY: the caller keeps this function's contract.
    let given = unsafe { handle(options) }?;
    check_size::<CGetOptions>(given.struct_size)?;
    Ok(GetOptions {
        wait: some_micros(given.wait_us),
        offset: given.offset,
        len: (given.len != u64::MAX).then_some(given.len),
        deadline: some_micros(given.deadline_us),
    })
}
