//! A process with one port, told what to do line by line.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::Search;
use chariot_client::{Client, ConnectOptions, Target};
use chariot_device::{Ascend, Device, Host, HostOptions, Runtime};
use chariot_npu_sim::{Profile, install};
use chariot_peer::{DeviceObject, Directory, MovedFuture, PeerError, PeerOptions, PeerPort};
use chariot_tests_node::daemon::Daemon;
use tempfile::TempDir;

use crate::doomed::Doomed;
use crate::objects::{PATIENCE, empty, filled, holds};

const ROLE: &str = "PEER_WORKER";
/// At which step of its directory a worker is killed, see [`Doomed`].
const DOOM: &str = "PEER_DOOM";

/// How the ports of a test work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Host,
    Simulated,
}

/// A daemon, and what the processes of a test share.
pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    backend: Backend,
    dir: TempDir,
    settings: Vec<(String, String)>,
}

impl Stage {
    /// Settings are `ASCEND_SIM_*` without the prefix, of every process.
    pub(crate) fn new(backend: Backend, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        if backend == Backend::Simulated {
            install(dir.path(), Profile::Cann91).unwrap();
        }
        let owned =
            |(name, value): &(&str, &str)| (format!("ASCEND_SIM_{name}"), (*value).to_owned());
        Self {
            daemon: Daemon::start(),
            backend,
            dir,
            settings: settings.iter().map(owned).collect(),
        }
    }

    /// Starts a process that is killed at a step of its directory, if the step is not empty.
    pub(crate) fn start_doomed(
        &self,
        card: u32,
        stall: Duration,
        step: &str,
        settings: &[(&str, &str)],
    ) -> Worker {
        let mut command = self.command(card, stall, settings);
        command.env(DOOM, step);
        self.spawn(card, command)
    }

    /// Starts a process with the port of a card.
    pub(crate) fn start(&self, card: u32) -> Worker {
        self.start_with(card, Duration::from_secs(20), &[])
    }

    /// The same, with its own limit of standstill and settings.
    pub(crate) fn start_with(
        &self,
        card: u32,
        stall: Duration,
        settings: &[(&str, &str)],
    ) -> Worker {
        self.spawn(card, self.command(card, stall, settings))
    }

    fn report(&self, card: u32) -> PathBuf {
        self.dir.path().join(format!("leaks-{card}"))
    }

    fn command(&self, card: u32, stall: Duration, settings: &[(&str, &str)]) -> Command {
        let role = format!(
            "{:?} {card} {} {}",
            self.backend,
            stall.as_millis(),
            self.daemon.socket().display()
        );
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "worker::acts",
                "--exact",
                "--nocapture",
                "--test-threads=1",
                "-q",
            ])
            .env(ROLE, role)
            .env("ASCEND_RT_LIB_DIR", self.dir.path())
            .env("ASCEND_SIM_DIR", self.dir.path().join("host"))
            .env("ASCEND_SIM_DEVICES", "16")
            .env("ASCEND_SIM_REPORT", self.report(card))
            .envs(self.settings.iter().cloned())
            .envs(
                settings
                    .iter()
                    .map(|(name, value)| (format!("ASCEND_SIM_{name}"), value)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    fn spawn(&self, card: u32, mut command: Command) -> Worker {
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let report = (self.backend == Backend::Simulated).then(|| self.report(card));
        let mut worker = Worker {
            child,
            input,
            output: BufReader::new(output),
            report,
        };
        assert_eq!(worker.answer(), "ready");
        worker
    }
}

/// A process with a port, as the test has it.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    report: Option<PathBuf>,
}

impl Worker {
    /// Gives an order without waiting for its answer.
    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.input, "{order}").unwrap();
        self.input.flush().unwrap();
    }

    /// Waits for the answer of the oldest order that has none.
    pub(crate) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(
                read > 0,
                "the worker has ended: {:?}",
                self.child.try_wait()
            );
            // The test harness has words of its own.
            if let Some(at) = line.find("@ ") {
                return line[at + 2..].trim().to_owned();
            }
        }
    }

    pub(crate) fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    /// Ends the process, which must leave nothing behind.
    pub(crate) fn finish(mut self) {
        assert_eq!(self.ask("quit"), "bye");
        assert!(self.child.wait().unwrap().success());
        if let Some(report) = self.report.take() {
            let leaks = std::fs::read_to_string(report).unwrap_or_default();
            assert_eq!(leaks, "", "left behind");
        }
    }

    /// Waits for a process that kills itself.
    pub(crate) fn died(mut self) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(libc::SIGKILL), "{status}");
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it lives on");
            std::thread::yield_now();
        }
    }

    /// Kills the process at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a worker has.
struct Actor {
    device: Device,
    port: Arc<PeerPort>,
    objects: BTreeMap<String, DeviceObject>,
    published: BTreeMap<String, MovedFuture>,
}

/// The body of a second process; of the test run itself it is nothing.
#[test]
fn acts() {
    run();
}

/// Does what the parent says, when this process is a worker.
fn run() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let words: Vec<&str> = role.split(' ').collect();
    let [backend, card, stall, socket] = words[..] else {
        panic!("{role}")
    };
    let runtime = if backend == "Host" {
        Host::start(HostOptions {
            devices: 16,
            ..HostOptions::default()
        })
    } else {
        ascend()
    };
    let device = runtime.open(card.parse().unwrap()).unwrap();
    let target = Target::Unix(Path::new(socket).to_owned());
    let client = Client::connect(ConnectOptions::new(target)).unwrap();
    let options = PeerOptions {
        chunk_min_log2: 14,
        chunks_log2: 5,
        stall: Duration::from_millis(stall.parse().unwrap()),
    };
    let directory: Arc<dyn Directory> = match std::env::var(DOOM) {
        Ok(step) => Arc::new(Doomed::new(client.devices(), &step)),
        Err(_unset) => Arc::new(client.devices()),
    };
    let port = PeerPort::open(device.clone(), directory, options).unwrap();
    let mut actor = Actor {
        device,
        port: Arc::new(port),
        objects: BTreeMap::new(),
        published: BTreeMap::new(),
    };
    println!("@ ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        if line == "quit" {
            break;
        }
        println!("@ {}", actor.act(&line));
    }
    drop(actor);
    println!("@ bye");
}

fn ascend() -> Runtime {
    let search = Search::standard(|name| std::env::var_os(name).map(PathBuf::from));
    Ascend::load(&search).unwrap()
}

/// Sizes of blobs, `100x3,7`: three of 100 and one of 7.
pub(crate) fn sizes(text: &str) -> Vec<usize> {
    let run = |run: &str| {
        let (size, count) = run.split_once('x').unwrap_or((run, "1"));
        vec![size.parse().unwrap(); count.parse().unwrap()]
    };
    text.split(',').flat_map(run).collect()
}

fn said(result: &Result<(), PeerError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(PeerError::Absent) => "absent".to_owned(),
        Err(PeerError::Mismatch { sender, receiver }) => format!("mismatch {sender} {receiver}"),
        Err(PeerError::Exists) => "exists".to_owned(),
        Err(PeerError::Closed) => "closed".to_owned(),
        Err(other) => format!("failed {other}"),
    }
}

impl Actor {
    fn act(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["put", key, shape, seed] => {
                let object = filled(&self.device, key, &sizes(shape), seed.parse().unwrap());
                let put = self.port.put(std::slice::from_ref(&object));
                self.objects.insert(key.to_owned(), object);
                said(&put[0])
            },
            ["publish", key, shape, seed] => {
                let object = filled(&self.device, key, &sizes(shape), seed.parse().unwrap());
                let mut published = self.port.publish(std::slice::from_ref(&object));
                self.objects.insert(key.to_owned(), object);
                match published.pop().unwrap() {
                    Ok(future) => {
                        self.published.insert(key.to_owned(), future);
                        "ok".to_owned()
                    },
                    Err(error) => said(&Err(error)),
                }
            },
            ["moved", key, wait] => {
                let wait = Duration::from_millis(wait.parse().unwrap());
                said(&self.published[key].wait(wait))
            },
            ["get" | "subscribe", keys, shape, seed, wait] => {
                let keys: Vec<&str> = keys.split(',').collect();
                let wait = Duration::from_millis(wait.parse().unwrap());
                let new = |key: &&str| empty(&self.device, key, &sizes(shape));
                let objects: Vec<_> = keys.iter().map(new).collect();
                let got = if words[0] == "get" {
                    self.port.get(&objects, wait)
                } else {
                    self.port.subscribe(&objects, wait)
                };
                self.check(keys, objects, &got, seed.parse().unwrap())
            },
            ["within" | "each", ..] => self.receive(&words),
            ["delete", key] => format!("{:?}", self.port.delete(&[key.as_bytes()])[0]),
            ["forget", key] => {
                let left = self.port.local_delete(&[key.as_bytes()]);
                self.objects.remove(key);
                format!("{:?}", left[0])
            },
            ["shape", key] => match self.port.shape(key.as_bytes()).unwrap() {
                Some(shape) => format!("{:?}", shape.runs()),
                None => "none".to_owned(),
            },
            ["clear"] => {
                self.objects.clear();
                "ok".to_owned()
            },
            ["stats"] => {
                let stats = self.port.stats();
                format!(
                    "{} {} {}",
                    stats.objects, stats.bytes_sent, stats.bytes_received
                )
            },
            _ => panic!("{line}"),
        }
    }

    /// The calls with more to say than an answer at the end.
    fn receive(&mut self, words: &[&str]) -> String {
        match *words {
            ["within", keys, shape, seed, provider, transfer] => {
                let keys: Vec<&str> = keys.split(',').collect();
                let [provider, transfer] =
                    [provider, transfer].map(|ms| Duration::from_millis(ms.parse().unwrap()));
                let new = |key: &&str| empty(&self.device, key, &sizes(shape));
                let objects: Vec<_> = keys.iter().map(new).collect();
                let got = self
                    .port
                    .get_within(&objects, provider, provider + transfer);
                self.check(keys, objects, &got, seed.parse().unwrap())
            },
            ["each", keys, shape] => {
                let keys: Vec<&str> = keys.split(',').collect();
                let new = |key: &&str| empty(&self.device, key, &sizes(shape));
                let objects: Vec<_> = keys.iter().map(new).collect();
                let wait = Duration::from_mins(1);
                let got = self
                    .port
                    .subscribe_within(&objects, wait, wait, &mut |place| {
                        println!("@ here {place}");
                    });
                got.iter().map(said).collect::<Vec<_>>().join(" ")
            },
            _ => panic!("{words:?}"),
        }
    }

    /// What became of each key; bytes that are wrong are `wrong`.
    fn check(
        &mut self,
        keys: Vec<&str>,
        objects: Vec<DeviceObject>,
        got: &[Result<(), PeerError>],
        seed: u64,
    ) -> String {
        let mut words = Vec::new();
        for ((key, object), got) in keys.into_iter().zip(objects).zip(got) {
            let is_wrong = got.is_ok() && !holds(&self.device, &object, seed);
            words.push(if is_wrong {
                "wrong".to_owned()
            } else {
                said(got)
            });
            self.objects.insert(key.to_owned(), object);
        }
        words.join(" ")
    }
}
