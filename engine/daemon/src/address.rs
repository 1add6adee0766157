//! Who owns an address: the socket's directory, its lock file, and the TCP port.
//!
//! The lock file lies beside the socket and is locked (flock) for the life of the process: the
//! kernel lets go of it however the process ends, and a successor serves only after it has it.
//! The file is never removed: removing it would let two processes hold two files of one name.
//! A second start is told which process holds the address.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::seam::StartError;

/// How long a start waits for its port: a daemon that was killed has given up its lock a moment
/// before the kernel has torn down the last operation on its listeners.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits between two looks.
const PORT_PAUSE: Duration = Duration::from_millis(20);

/// Most bytes of a lock file that are read: a pid and an address.
const LOCK_TEXT_MAX: u64 = 256;

/// Mode bits that let others put files into a directory.
const OTHERS_WRITE: u32 = 0o022;

/// The claim on a socket path. Ends with the process or when dropped.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
    socket: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A socket file that stays behind only costs the next start a removal.
        drop(std::fs::remove_file(&self.socket));
    }
}

fn refuse(cause: String, remedy: impl Into<String>) -> StartError {
    StartError {
        cause,
        remedy: remedy.into(),
    }
}

/// Makes sure of the directory, takes the lock, and removes a socket that a dead owner left.
///
/// `own_directory` is the derived directory, made with mode 0700 if absent; a directory that the
/// operator names must exist.
///
/// # Errors
/// Somebody else holds the address (the message says who), or the directory is not safe.
pub fn claim(
    socket: &Path,
    own_directory: Option<&Path>,
    listen: SocketAddr,
    uid: u32,
) -> Result<Claim, StartError> {
    if let Some(directory) = own_directory {
        prepare_directory(directory, uid)?;
    }
    let path = lock_path(socket);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&path)
        .map_err(|error| {
            refuse(
                format!("cannot open the lock file {}: {error}", path.display()),
                "make its directory, writable for the daemon's user, or give another --socket",
            )
        })?;
    match lock.try_lock() {
        Ok(()) => {},
        Err(TryLockError::WouldBlock) => {
            let holder = read_holder(&mut lock);
            return Err(refuse(
                format!("{} is held by {holder}", socket.display()),
                "stop that daemon, or give another --listen port or --socket",
            ));
        },
        Err(TryLockError::Error(error)) => {
            let cause = format!("cannot lock {}: {error}", path.display());
            return Err(refuse(cause, "put the socket on a file system with locks"));
        },
    }
    check_port(listen, PORT_PATIENCE, pause)?;
    write_holder(&mut lock, listen).map_err(|error| {
        let cause = format!("cannot write {}: {error}", path.display());
        refuse(cause, "make room on its file system")
    })?;
    remove_stale(socket)?;
    Ok(Claim {
        _lock: lock,
        socket: socket.to_owned(),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells when a port is free again, and nothing else happens before it is"
)]
fn pause() {
    std::thread::sleep(PORT_PAUSE);
}

fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

/// Makes the directory, or checks the one that is there: in `/tmp` anyone may have been first.
fn prepare_directory(directory: &Path, uid: u32) -> Result<(), StartError> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {},
        Err(error) => {
            let cause = format!("cannot make {}: {error}", directory.display());
            return Err(refuse(
                cause,
                "make it for the daemon's user, or give --socket",
            ));
        },
    }
    let metadata = std::fs::symlink_metadata(directory).map_err(|error| {
        refuse(
            format!("cannot look at {}: {error}", directory.display()),
            "give --socket",
        )
    })?;
    let safe = metadata.is_dir() && metadata.uid() == uid && metadata.mode() & OTHERS_WRITE == 0;
    if safe {
        return Ok(());
    }
    Err(refuse(
        format!(
            "{} is not a directory of this user alone",
            directory.display()
        ),
        "remove it, or give --socket in a directory that belongs to the daemon's user",
    ))
}

fn write_holder(lock: &mut File, listen: SocketAddr) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "pid {} listen {listen}", std::process::id())
}

/// What the holder wrote; a file in the middle of being written reads as an unknown process.
fn read_holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(LOCK_TEXT_MAX).read_to_string(&mut text);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words[..] {
        ["pid", pid, "listen", listen] if read.is_ok() => {
            format!("process {pid} (listening on {listen})")
        },
        _ => "another process".to_owned(),
    }
}

/// Binds the port for a moment without `SO_REUSEPORT`: the shards listen with it, and two daemons
/// of one user would share the port without noticing. A port in use is tried again for `patience`,
/// with a `pause` after each try; then its holder is named.
fn check_port(
    listen: SocketAddr,
    patience: Duration,
    mut pause: impl FnMut(),
) -> Result<(), StartError> {
    let start = Instant::now();
    let bound = loop {
        match TcpListener::bind(listen) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < patience =>
            {
                pause();
            },
            bound => break bound,
        }
    };
    match bound {
        Ok(_listener) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = port_holder(Path::new("/proc"), listen.port()).map_or_else(
                || "another process".to_owned(),
                |pid| format!("process {pid}"),
            );
            let cause = format!("{listen} is held by {holder}");
            Err(refuse(cause, "stop it, or give another --listen port"))
        },
        Err(error) => {
            let cause = format!("cannot listen on {listen}: {error}");
            Err(refuse(
                cause,
                "give --listen an address of this host and a port above 1023",
            ))
        },
    }
}

/// The process with a socket that listens on `port`, if `/proc` shows it to us.
fn port_holder(proc: &Path, port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["net/tcp", "net/tcp6"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(proc.join(name)).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let holds = |pid: u32| {
        let descriptors = std::fs::read_dir(proc.join(pid.to_string()).join("fd")).ok();
        descriptors.into_iter().flatten().flatten().any(|entry| {
            let target = std::fs::read_link(entry.path()).ok();
            target.is_some_and(|target| inodes.iter().any(|inode| target == Path::new(inode)))
        })
    };
    let processes = std::fs::read_dir(proc).ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds(*pid))
}

/// Inodes of sockets in state LISTEN (0A) on `port`, from the text of `/proc/net/tcp`.
fn listening_inodes(text: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let rows = text
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[1].ends_with(&suffix) && row[3] == "0A")
        .map(|row| row[9].to_owned())
        .collect()
}

/// Removes a socket file that nobody owns: we hold the lock.
fn remove_stale(socket: &Path) -> Result<(), StartError> {
    let metadata = match std::fs::symlink_metadata(socket) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let cause = format!("cannot look at {}: {error}", socket.display());
            return Err(refuse(cause, "give another --socket"));
        },
    };
    if !metadata.file_type().is_socket() {
        let cause = format!("{} exists and is no socket", socket.display());
        return Err(refuse(cause, "remove it, or give another --socket"));
    }
    std::fs::remove_file(socket).map_err(|error| {
        let cause = format!("cannot remove the old socket {}: {error}", socket.display());
        refuse(cause, "remove it, or give another --socket")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A loopback address that was free a moment ago.
    fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    }

    fn own_uid() -> u32 {
        crate::doctor::facts::effective_uid().unwrap()
    }

    #[test]
    fn a_second_start_says_who_holds_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s.sock");
        let listen = free_address();
        let claimed = claim(&socket, None, listen, own_uid()).unwrap();
        let error = claim(&socket, None, listen, own_uid())
            .unwrap_err()
            .to_string();
        let holder = format!(
            "is held by process {} (listening on {listen})",
            std::process::id()
        );
        assert!(error.contains(&holder), "{error}");
        drop(claimed);
        claim(&socket, None, listen, own_uid()).unwrap();
    }

    #[test]
    fn a_port_in_use_names_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap();
        let socket = directory.path().join("s.sock");
        let error = claim(&socket, None, listen, own_uid())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("held by process {}", std::process::id())),
            "{error}"
        );
    }

    #[test]
    fn a_port_that_is_given_up_in_a_moment_is_waited_for() {
        let mut dying = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        let listen = dying.as_ref().unwrap().local_addr().unwrap();
        let mut pauses = 0;
        let waited = check_port(listen, Duration::MAX, || {
            pauses += 1;
            if pauses == 3 {
                drop(dying.take());
            }
        });
        waited.unwrap();
        assert_eq!(pauses, 3);
        let _alive = TcpListener::bind(listen).unwrap();
        check_port(listen, Duration::ZERO, || unreachable!("no patience")).unwrap_err();
    }

    #[test]
    fn a_stale_socket_goes_and_a_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s.sock");
        drop(UnixListener::bind(&socket).unwrap());
        assert!(socket.exists());
        drop(claim(&socket, None, free_address(), own_uid()).unwrap());
        assert!(!socket.exists());
        std::fs::write(&socket, "precious").unwrap();
        let error = claim(&socket, None, free_address(), own_uid())
            .unwrap_err()
            .to_string();
        assert!(error.contains("is no socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    }

    #[test]
    fn the_derived_directory_is_private_or_refused() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("chariot");
        let socket = directory.join("s.sock");
        let attempt = || claim(&socket, Some(&directory), free_address(), own_uid());
        drop(attempt().unwrap());
        assert_eq!(std::fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = attempt().unwrap_err().to_string();
        assert!(
            error.contains("not a directory of this user alone"),
            "{error}"
        );
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        let error = claim(&link.join("s"), Some(&link), free_address(), own_uid()).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }

    #[test]
    fn an_absent_directory_of_the_operator_is_refused_with_a_remedy() {
        let socket = Path::new("/nonexistent/s.sock");
        let error = claim(socket, None, free_address(), own_uid())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("lock file") && error.contains("make its directory"),
            "{error}"
        );
    }

    #[test]
    fn a_half_written_lock_file_is_no_panic() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"pid 1").unwrap();
        assert_eq!(read_holder(&mut file), "another process");
    }
}
