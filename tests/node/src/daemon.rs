//! A real daemon in a process of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use chariot_client::{Client, ConnectOptions, Error, Secret, SharedMemory, Target};
use tempfile::TempDir;

use crate::metrics::{Metrics, http_get};
use crate::wait;

/// The binary under test. Built by cargo, which knows whether there is anything to do, into the
/// target directory and profile of this very program.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| program(&["-p", "chariotd"], "chariotd"))
}

/// The client of the stress test that leaves steps out, built likewise.
pub fn stress_mutant() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let what = ["-p", env!("CARGO_PKG_NAME"), "--features", "testing"];
    let bin = ["--bin", "chariot-stress-mutant"];
    BINARY.get_or_init(|| program(&[&what[..], &bin].concat(), "chariot-stress-mutant"))
}

/// Builds what `what` names, as cargo's arguments, and answers where it lies: `path` within the
/// directory of the profile.
pub fn program(what: &[&str], path: &str) -> PathBuf {
    // target/PROFILE/deps/test-hash
    let own = std::env::current_exe().unwrap();
    let profile_dir = own.parent().and_then(Path::parent).unwrap();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => unreachable!("a test program lies in a directory"),
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_unset| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["build", "--locked", "--quiet"])
        .args(what)
        .args(["--profile", profile, "--target-dir"])
        .arg(profile_dir.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{path} does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile_dir.join(path)
}

/// How to start a daemon.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Size of the arena in MiB.
    pub memory_mib: u64,
    /// `--cores`: one shard each.
    pub cores: String,
    /// `--shards-per-core`.
    pub shards_per_core: u16,
    /// Lines of the `--auth` file; none: open.
    pub auth: Option<String>,
    /// More flags.
    pub flags: Vec<String>,
}

impl Default for DaemonOptions {
    /// 256 MiB and two shards on one core, so that machines of any size see the same daemon.
    fn default() -> Self {
        Self {
            memory_mib: 256,
            cores: "0".to_owned(),
            shards_per_core: 2,
            auth: None,
            flags: Vec::new(),
        }
    }
}

/// A running daemon; killed and forgotten on drop. Its log is shown when the test fails.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    options: DaemonOptions,
    directory: TempDir,
    listen: SocketAddr,
    admin: SocketAddr,
}

impl Daemon {
    /// Starts a daemon with the default options and waits until all of its memory is there: on a
    /// busy machine the first write would otherwise wait for pages, not for the daemon.
    pub fn start() -> Self {
        let daemon = Self::start_with(&DaemonOptions::default());
        let all = 256.0 * 1024.0 * 1024.0;
        wait::until("the arena is populated", || {
            daemon.metrics().total("chariot_populated_bytes") >= all
        });
        daemon
    }

    /// Starts a daemon and waits until it serves.
    pub fn start_with(options: &DaemonOptions) -> Self {
        let mut directory = tempfile::tempdir().unwrap();
        // Another user must reach the socket: the tests of strict sessions.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        if let Some(auth) = &options.auth {
            let file = directory.path().join("auth.toml");
            std::fs::write(&file, auth).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Free a moment ago; somebody else may take them before the daemon does.
            let (listen, admin) = (free_address(), free_address());
            let child = spawn(options, directory.path(), listen, admin);
            let mut daemon = Self {
                child,
                options: options.clone(),
                directory,
                listen,
                admin,
            };
            if daemon.wait_serving() {
                return daemon;
            }
            let log = daemon.log();
            assert!(
                attempt < 5 && log.contains("in use"),
                "chariotd did not start:\n{log}"
            );
            directory = std::mem::replace(&mut daemon.directory, tempfile::tempdir().unwrap());
        }
    }

    /// Waits for the log's word; `false` when the process ended instead.
    fn wait_serving(&mut self) -> bool {
        let mut running = true;
        wait::until("the daemon serves", || {
            running = self.child.try_wait().unwrap().is_none();
            !running || self.log().contains("serving")
        });
        running
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The TCP address for clients.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// The address of the admin HTTP server.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("s.sock")
    }

    /// A directory that lives as long as the daemon and that every user may enter.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Scrapes the metrics.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin).unwrap()
    }

    /// What `/sessions` says of the first session of a process; `None` when it has none.
    #[track_caller]
    pub fn session_of(&self, pid: u32) -> Option<serde_json::Value> {
        let text = http_get(self.admin, "/sessions").unwrap();
        let sessions: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        sessions.into_iter().find(|session| session["pid"] == pid)
    }

    /// Runs `chariotd --expel` against this daemon: whether it exited with 0, and what it said.
    pub fn expel(&self, session: u64, kill: bool) -> (bool, String) {
        let mut command = Command::new(binary());
        command
            .args(["--expel", &session.to_string()])
            .args(["--admin", &self.admin.to_string()])
            .arg("--socket")
            .arg(self.socket());
        if kill {
            command.arg("--kill");
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    /// Options for a session over shared memory, without fall-back.
    pub fn local_options(&self) -> ConnectOptions {
        ConnectOptions {
            connect_timeout: wait::PATIENCE,
            ..ConnectOptions::new(Target::Unix(self.socket()))
        }
    }

    /// Options for a session over TCP, on the same host.
    pub fn remote_options(&self) -> ConnectOptions {
        ConnectOptions {
            shared_memory: SharedMemory::Never,
            connect_timeout: wait::PATIENCE,
            ..ConnectOptions::new(Target::Tcp(self.listen.to_string()))
        }
    }

    /// A session over shared memory.
    #[track_caller]
    pub fn local(&self) -> Client {
        Client::connect(self.local_options()).unwrap()
    }

    /// A session over TCP.
    #[track_caller]
    pub fn remote(&self) -> Client {
        Client::connect(self.remote_options()).unwrap()
    }

    /// One client of each transport, with a name to show.
    #[track_caller]
    pub fn both(&self) -> [(&'static str, Client); 2] {
        [("local", self.local()), ("remote", self.remote())]
    }

    /// Kills the process without a warning and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the daemon again on the same addresses, after [`Self::kill`]. The kernel may need a
    /// moment longer than the process to let go of a socket that a ring was listening on.
    pub fn restart(&mut self) {
        wait::until("the addresses are free again", || {
            self.child = spawn(
                &self.options,
                self.directory.path(),
                self.listen,
                self.admin,
            );
            let serves = self.wait_serving();
            let log = self.log();
            assert!(
                serves || log.contains("held by another process"),
                "chariotd did not restart:\n{log}"
            );
            serves
        });
    }

    /// Ends it with SIGTERM and says whether it exited with 0.
    pub fn terminate(&mut self) -> bool {
        crate::signals::send(self.pid(), "TERM");
        let mut status = None;
        wait::until("the drain ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().success()
    }

    /// Asserts that the process still runs.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        let status = self.child.try_wait().unwrap();
        assert!(status.is_none(), "chariotd ended with {status:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already, and it may be stopped: SIGKILL ends it all the same.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(9_000);
            let tail = log.get(tail..).unwrap_or(&log);
            drop(std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("--- log of chariotd {}:\n{tail}---\n", self.pid()).as_bytes(),
            ));
        }
    }
}

/// Credentials for [`DaemonOptions::auth`]: access key, secret and tenant each.
pub fn auth_file(credentials: &[(&str, &str, &str)]) -> String {
    let tables: Vec<String> = credentials
        .iter()
        .map(|(access, secret, tenant)| {
            let pair = format!("access-key = \"{access}\"\nsecret-key = \"{secret}\"\n");
            format!("[[credential]]\n{pair}tenant = \"{tenant}\"\n")
        })
        .collect();
    tables.concat()
}

/// The same options with credentials.
#[must_use]
pub fn with_credentials(options: ConnectOptions, access: &str, secret: &str) -> ConnectOptions {
    ConnectOptions {
        access_key: access.to_owned(),
        secret_key: Secret::new(secret),
        ..options
    }
}

/// The status of an error result, for comparing.
#[track_caller]
pub fn status_of<T: std::fmt::Debug>(result: Result<T, Error>) -> chariot_client::Status {
    result.expect_err("an error was expected").status()
}

/// Options with another time allowed for each call.
#[must_use]
pub fn with_timeout(options: ConnectOptions, request_timeout: Duration) -> ConnectOptions {
    ConnectOptions {
        request_timeout,
        ..options
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn spawn(
    options: &DaemonOptions,
    directory: &Path,
    listen: SocketAddr,
    admin: SocketAddr,
) -> Child {
    let log = File::create(directory.join("log")).unwrap();
    let mut command = Command::new(binary());
    command
        .args(["--cores", &options.cores])
        .args(["--shards-per-core", &options.shards_per_core.to_string()])
        .args(["--memory", &format!("{}MiB", options.memory_mib)])
        .args(["--listen", &listen.to_string()])
        .args(["--admin", &admin.to_string()])
        .arg("--socket")
        .arg(directory.join("s.sock"))
        .args(&options.flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    if options.auth.is_some() {
        command.arg("--auth").arg(directory.join("auth.toml"));
    }
    command.spawn().unwrap()
}
