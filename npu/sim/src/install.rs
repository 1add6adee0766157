//! Puts the built library where a product looks for CANN.
//!
//! One file under three names: opening two of them gives one handle, so that HCCL finds the
//! runtime's streams. For an older version, the copy's table of names loses what that version had
//! not: the name that the dynamic linker compares with is overwritten, and the symbol cannot be
//! found any more.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// A version of CANN, as far as its symbols differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 8.1: neither batch copies nor memory between processes nor registration of its second form.
    Cann81,
    /// 8.5: everything but groups.
    Cann85,
    /// 9.1: everything.
    Cann91,
}

/// What 8.1 had not and 8.5 has, of the functions that we know (device facts, 1.2).
const SINCE_85: &[&str] = &[
    "aclFinalizeReference",
    "aclrtDeviceGetBareTgid",
    "aclrtGetDeviceInfo",
    "aclrtGetDevicesTopo",
    "aclrtFreeWithDevSync",
    "aclrtHostGetDevicePointer",
    "aclrtHostRegisterV2",
    "aclrtIpcMemClose",
    "aclrtIpcMemGetExportKey",
    "aclrtIpcMemImportByKey",
    "aclrtIpcMemSetImportPid",
    "aclrtLaunchHostFunc",
    "aclrtMemcpyBatch",
    "aclrtMemcpyBatchAsync",
    "aclsysGetVersionStr",
];

/// What came after 8.5 (device facts, 2.1).
const SINCE_91: &[&str] = &["HcclGroupEnd", "HcclGroupStart"];

/// Text in the library that names its profile; the copy's is overwritten.
const MARK: &str = "ASCEND_SIM_PROFILE_IS=9.1";

/// The mark of the running library.
static PROFILE: [u8; 25] = *b"ASCEND_SIM_PROFILE_IS=9.1";

impl Profile {
    fn text(self) -> &'static str {
        match self {
            Self::Cann81 => "8.1",
            Self::Cann85 => "8.5",
            Self::Cann91 => "9.1",
        }
    }

    fn hidden(self) -> Vec<&'static str> {
        match self {
            Self::Cann81 => [SINCE_85, SINCE_91].concat(),
            Self::Cann85 => SINCE_91.to_vec(),
            Self::Cann91 => Vec::new(),
        }
    }

    /// The highest version of a communicator's configuration that the library takes.
    pub(crate) fn comm_config_version(self) -> u32 {
        match self {
            Self::Cann81 => 5,
            Self::Cann85 => 6,
            Self::Cann91 => 10,
        }
    }

    /// The profile of the running library.
    pub(crate) fn of_this() -> Self {
        let first: *const u8 = PROFILE.as_ptr();
        let last = first.wrapping_add(PROFILE.len() - 3);
        // SAFETY: inside a static; volatile, because the copy's bytes are not those that were
        // compiled.
        let major = unsafe { last.read_volatile() };
        // SAFETY: the static's last byte, likewise.
        let minor = unsafe { last.wrapping_add(2).read_volatile() };
        match (major, minor) {
            (b'8', b'1') => Self::Cann81,
            (b'8', _) => Self::Cann85,
            _ => Self::Cann91,
        }
    }
}

/// Where cargo put the shared object, as seen from a test's own path.
fn built() -> Result<PathBuf> {
    let name = "libchariot_npu_sim.so";
    let program = std::env::current_exe()?;
    let places = program.ancestors().skip(1).take(3);
    let mut found = places.flat_map(|dir| [dir.join(name), dir.join("deps").join(name)]);
    found.find(|path| path.exists()).ok_or_else(|| {
        let text = format!(
            "{name} is not beside {}: build chariot-npu-sim",
            program.display()
        );
        Error::new(ErrorKind::NotFound, text)
    })
}

/// Where `wanted` begins first. The C library's search: the tests' own build of this is not
/// optimised, and the library is long.
fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let (start, long) = (bytes.as_ptr(), wanted.as_ptr());
    // SAFETY: both ranges are slices, borrowed for the call.
    let at = unsafe { libc::memmem(start.cast(), bytes.len(), long.cast(), wanted.len()) };
    (!at.is_null()).then(|| at as usize - start as usize)
}

fn overwrite(bytes: &mut [u8], from: &[u8], to: &[u8]) -> usize {
    assert!(from.len() == to.len(), "a name in place keeps its length");
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = position(&bytes[at..], from) {
        found.push(at + step);
        at += step + 1;
    }
    for at in &found {
        bytes[*at..*at + to.len()].copy_from_slice(to);
    }
    found.len()
}

/// Puts `libascendcl.so`, `libhccl.so` and, from 9.1 on, `libhcomm.so` into `dir`.
///
/// # Errors
/// When the library was not built beside the running test, or `dir` cannot be written.
///
/// # Panics
/// When the library lacks a symbol that `profile` is to hide: the tables above are wrong.
pub fn install(dir: &Path, profile: Profile) -> Result<()> {
    let source = built()?;
    let target = if profile == Profile::Cann91 {
        source
    } else {
        let mut bytes = std::fs::read(source)?;
        for name in profile.hidden() {
            let from = [b"\0", name.as_bytes(), b"\0"].concat();
            let mut to = from.clone();
            to[1] = b'_';
            let count = overwrite(&mut bytes, &from, &to);
            assert!(count > 0, "{name} is no symbol of the library");
        }
        let mark = MARK.replace("9.1", profile.text());
        let marks = overwrite(&mut bytes, MARK.as_bytes(), mark.as_bytes());
        assert!(marks > 0, "the library carries its profile");
        let target = dir.join("libcann-sim.so");
        std::fs::write(&target, bytes)?;
        target
    };
    let mut names = vec!["libascendcl.so", "libhccl.so"];
    if profile == Profile::Cann91 {
        names.push("libhcomm.so");
    }
    for name in names {
        std::os::unix::fs::symlink(&target, dir.join(name))?;
    }
    Ok(())
}
