//! What this kernel and this container allow, asked once before anything is built on it.
//!
//! Every refusal names its cause and the remedy: an operator reads it, once, at three in the
//! morning. Lives on: any thread.

use std::io;
use std::mem::MaybeUninit;

use io_uring::{Probe, opcode};

use crate::data_ring::{RingMode, build_ring};
use crate::limits::MEMLOCK_MIN_BYTES;

/// Oldest kernel on which the data ring's operations work.
const KERNEL_MIN: KernelVersion = KernelVersion {
    major: 5,
    minor: 15,
};
/// Oldest kernel that is tested.
const KERNEL_SUPPORTED: KernelVersion = KernelVersion { major: 6, minor: 6 };

/// A kernel's version as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// What was found; all of it suffices to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCapabilities {
    /// The running kernel.
    pub kernel: KernelVersion,
    /// Its full release string.
    pub release: String,
    /// The rung of the feature ladder that data rings will use.
    pub ring_mode: RingMode,
    /// Soft limit of locked memory in bytes; `u64::MAX` when there is none.
    pub memlock_bytes: u64,
    /// Zero-copy send is there (a switch, off on loopback).
    pub send_zero_copy: bool,
}

/// Why a shard cannot run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct ProbeError {
    /// What is wrong, with the value found.
    pub cause: String,
    /// What the operator changes.
    pub remedy: String,
}

impl ProbeError {
    fn new(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }
}

/// The operations that the data ring and glommio cannot do without.
const NEEDED: [(&str, u8); 12] = [
    ("ACCEPT", opcode::Accept::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("READ", opcode::Read::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("TIMEOUT_REMOVE", opcode::TimeoutUpdate::CODE),
    ("WRITE", opcode::Write::CODE),
    ("NOP", opcode::Nop::CODE),
];

impl KernelCapabilities {
    /// Asks the kernel; makes and drops one ring.
    ///
    /// # Errors
    /// [`ProbeError`] with cause and remedy for the first thing that is missing.
    pub fn probe() -> Result<Self, ProbeError> {
        let release = kernel_release();
        let kernel = check_kernel(&release)?;
        let memlock_bytes = check_memlock(memlock_limit())?;
        let (ring, ring_mode) = build_ring(RingMode::Deferred).map_err(|error| {
            explain_setup(&error, io_uring_disabled().as_deref(), memlock_bytes)
        })?;
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| {
                ProbeError::new(
                    format!("the kernel does not list its io_uring operations ({error})"),
                    "allow io_uring_register in the container's seccomp profile",
                )
            })?;
        check_operations(|code| probe.is_supported(code), &release)?;
        Ok(Self {
            kernel,
            release,
            ring_mode,
            memlock_bytes,
            send_zero_copy: probe.is_supported(opcode::SendZc::CODE),
        })
    }

    /// Returns what runs, but not as well as it could, in full sentences for `--doctor`.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.kernel < KERNEL_SUPPORTED {
            warnings.push(format!(
                "Kernel {} works as well as it can; 6.6 or newer is supported.",
                self.release
            ));
        }
        if self.ring_mode != RingMode::Deferred {
            warnings.push(format!(
                "io_uring runs in mode {:?}; DEFER_TASKRUN (kernel 6.1) gives shorter tails.",
                self.ring_mode
            ));
        }
        warnings
    }
}

fn check_kernel(release: &str) -> Result<KernelVersion, ProbeError> {
    let kernel = parse_release(release).ok_or_else(|| {
        ProbeError::new(
            format!("the kernel's release \"{release}\" cannot be read"),
            "run on Linux 6.6 or newer",
        )
    })?;
    if kernel < KERNEL_MIN {
        return Err(ProbeError::new(
            format!("kernel {release} is older than 5.15"),
            "upgrade to Linux 6.6 or newer (5.15 to 6.5 work as well as they can)",
        ));
    }
    Ok(kernel)
}

fn parse_release(release: &str) -> Option<KernelVersion> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(KernelVersion { major, minor })
}

fn check_memlock(limit_bytes: u64) -> Result<u64, ProbeError> {
    if limit_bytes < MEMLOCK_MIN_BYTES {
        return Err(ProbeError::new(
            format!(
                "the limit of locked memory is {} KiB, and an executor needs {} KiB to start",
                limit_bytes >> 10,
                MEMLOCK_MIN_BYTES >> 10
            ),
            "raise it: `ulimit -l unlimited`, LimitMEMLOCK=infinity in the systemd unit, or \
             `--ulimit memlock=-1` for the container",
        ));
    }
    Ok(limit_bytes)
}

/// Explains why a ring could not be made; `disabled` is `/proc/sys/kernel/io_uring_disabled`.
fn explain_setup(error: &io::Error, disabled: Option<&str>, memlock_bytes: u64) -> ProbeError {
    let disabled = disabled.map(str::trim);
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some("2")) => ProbeError::new(
            "io_uring is switched off for everybody (kernel.io_uring_disabled = 2)",
            "`sysctl kernel.io_uring_disabled=0`, and put it into /etc/sysctl.d",
        ),
        (Some(libc::EPERM), Some("1")) => ProbeError::new(
            "io_uring is switched off for this user (kernel.io_uring_disabled = 1)",
            "`sysctl kernel.io_uring_disabled=0`, or add the user to the group named by \
             kernel.io_uring_group",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => ProbeError::new(
            "io_uring_setup is refused, most likely by a seccomp profile (docker and containerd \
             refuse it by default)",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the profile, or run \
             with \
             `--security-opt seccomp=unconfined`",
        ),
        (Some(libc::ENOSYS), _) => ProbeError::new(
            "io_uring_setup does not exist here: the kernel was built without CONFIG_IO_URING, or \
             a \
             sandbox (gVisor) stands in front of it",
            "run on a Linux kernel with io_uring, outside of the sandbox",
        ),
        (Some(libc::ENOMEM), _) => ProbeError::new(
            format!(
                "there is no memory for a ring; the limit of locked memory is {} KiB",
                memlock_bytes >> 10
            ),
            "raise it: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the systemd unit",
        ),
        (Some(libc::EMFILE | libc::ENFILE), _) => ProbeError::new(
            "no descriptor is left for a ring",
            "raise the limit of open files: `ulimit -n 65536`, or LimitNOFILE=65536",
        ),
        _ => ProbeError::new(
            format!("io_uring_setup failed: {error}"),
            "report this with the kernel's release",
        ),
    }
}

fn check_operations(supported: impl Fn(u8) -> bool, release: &str) -> Result<(), ProbeError> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, code)| !supported(*code))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ProbeError::new(
        format!(
            "kernel {release} lacks the io_uring operations {}",
            missing.join(", ")
        ),
        "upgrade to Linux 6.6 or newer, or lift the io_uring restriction of the container",
    ))
}

fn io_uring_disabled() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()
}

fn kernel_release() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    read.map(|release| release.trim().to_owned())
        .unwrap_or_default()
}

fn memlock_limit() -> u64 {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: getrlimit(2) asks for writable memory of one rlimit: `limit`.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, limit.as_mut_ptr()) };
    assert_eq!(failed, 0, "RLIMIT_MEMLOCK exists on every Linux");
    // SAFETY: getrlimit returned 0, so it has written the whole struct.
    unsafe { limit.assume_init() }.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(errno: i32, disabled: Option<&str>) -> String {
        explain_setup(&io::Error::from_raw_os_error(errno), disabled, 64 << 10).to_string()
    }

    #[test]
    fn probe_succeeds_where_the_tests_run() {
        let found = KernelCapabilities::probe().unwrap();
        assert!(found.kernel >= KERNEL_MIN);
    }

    #[test]
    fn a_refused_setup_names_its_cause_and_remedy() {
        let everybody = setup(libc::EPERM, Some("2\n"));
        assert!(
            everybody.contains("kernel.io_uring_disabled = 2"),
            "{everybody}"
        );
        assert!(
            everybody.contains("sysctl kernel.io_uring_disabled=0"),
            "{everybody}"
        );
        assert!(setup(libc::EPERM, Some("1\n")).contains("kernel.io_uring_group"));
        assert!(setup(libc::EPERM, Some("0\n")).contains("seccomp"));
        assert!(setup(libc::EPERM, None).contains("seccomp"));
        assert!(setup(libc::ENOSYS, None).contains("CONFIG_IO_URING"));
        assert!(setup(libc::ENOMEM, None).contains("64 KiB"));
        assert!(setup(libc::EMFILE, None).contains("ulimit -n"));
        assert!(setup(libc::EIO, None).contains("io_uring_setup failed"));
    }

    #[test]
    fn too_little_locked_memory_is_refused_with_the_figures() {
        let refused = check_memlock(64 << 10).unwrap_err().to_string();
        assert!(
            refused.contains("64 KiB") && refused.contains("512 KiB"),
            "{refused}"
        );
        assert!(refused.contains("LimitMEMLOCK=infinity"), "{refused}");
        assert_eq!(check_memlock(512 << 10), Ok(512 << 10));
    }

    #[test]
    fn old_and_unreadable_kernels_are_refused() {
        assert!(
            check_kernel("5.10.0-60.18.0")
                .unwrap_err()
                .to_string()
                .contains("older than 5.15")
        );
        assert!(
            check_kernel("linux")
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
        assert_eq!(
            check_kernel("5.15.0-generic"),
            Ok(KernelVersion {
                major: 5,
                minor: 15
            })
        );
        assert_eq!(
            check_kernel("6.18.44"),
            Ok(KernelVersion {
                major: 6,
                minor: 18
            })
        );
    }

    #[test]
    fn missing_operations_are_listed() {
        let refused = check_operations(|code| code != opcode::Recv::CODE, "5.15.1").unwrap_err();
        assert!(
            refused.to_string().contains("operations RECV;"),
            "{refused}"
        );
        assert_eq!(check_operations(|_| true, "6.6"), Ok(()));
    }
}
