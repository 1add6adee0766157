//! One run: processes, what is done to them, and what they say.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chariot_tests_node::board::Board;
use chariot_tests_node::daemon::{Daemon, DaemonOptions, stress_mutant};
use chariot_tests_node::random::Random;
use chariot_tests_node::signals::Signals;
use chariot_tests_node::wait;

const READERS: usize = 3;
/// The exit status of a writer that wants a new run.
const NEW_RUN: i32 = 10;
/// The least there is: all of it is reused again and again.
const ARENA_MIB: u64 = 128;

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub seed: u64,
    pub time: Duration,
    /// Whether the clients are those that obey `CHARIOT_SWITCH` and `CHARIOT_PAUSE`.
    pub is_mutant: bool,
    /// Variables for the clients: what they do wrong or slowly.
    pub variables: &'static [(&'static str, &'static str)],
}

impl Plan {
    fn program(&self) -> &'static Path {
        if self.is_mutant {
            stress_mutant()
        } else {
            Path::new(env!("CARGO_BIN_EXE_chariot-stress"))
        }
    }
}

/// What was done and seen.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub hits: u64,
    pub kills: u64,
    pub stops: u64,
    pub daemon_stops: u64,
    pub restarts: u64,
    pub runs: u64,
}

pub(crate) enum Outcome {
    Right(Summary),
    /// A promise was broken: what the process said that found it.
    Broken(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
    Filler,
}

/// A client process, killed on drop.
struct Actor {
    role: Role,
    child: Child,
    /// Until when it is stopped.
    stopped: Option<Instant>,
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Stage<'a> {
    plan: &'a Plan,
    random: Random,
    signals: Signals,
    board: Board,
    board_path: PathBuf,
    actors: Vec<Actor>,
    /// Readers started so far: each has a place to count.
    readers: u64,
    summary: Summary,
    /// Until when the daemon is stopped.
    daemon_stopped: Option<Instant>,
    // Last: it outlives the clients.
    daemon: Daemon,
}

pub(crate) fn run(plan: &Plan) -> Outcome {
    // Built before the clock starts.
    plan.program();
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib: ARENA_MIB,
        ..DaemonOptions::default()
    });
    let board_path = daemon.directory().join("board");
    let mut stage = Stage {
        plan,
        random: Random::new(plan.seed),
        signals: Signals::start(),
        board: Board::open(&board_path).unwrap(),
        board_path,
        actors: Vec::new(),
        readers: 0,
        summary: Summary::default(),
        daemon_stopped: None,
        daemon,
    };
    match stage.play().and_then(|()| stage.end()) {
        Ok(()) => Outcome::Right(stage.summary),
        Err(said) => Outcome::Broken(said),
    }
}

impl Stage<'_> {
    fn play(&mut self) -> Result<(), String> {
        let roles = [Role::Writer, Role::Filler].into_iter();
        for role in roles.chain([Role::Reader; READERS]) {
            let actor = self.start(role);
            self.actors.push(actor);
        }
        let end = Instant::now() + self.plan.time;
        let mut restart_at = Instant::now() + Duration::from_secs(3);
        // Once in the life of each daemon for certain, however few turns a busy machine allows.
        let mut stop_daemon_at = Some(Instant::now() + Duration::from_millis(1_500));
        while Instant::now() < end {
            let pause = Duration::from_millis(1 + self.random.below(30));
            self.watch_until(Instant::now() + pause)?;
            let now = Instant::now();
            let victim = usize::try_from(self.random.below(READERS as u64 + 2)).unwrap();
            let short = Duration::from_millis(1 + self.random.below(30));
            match self.random.below(64) {
                0..48 => self.stop(victim, now + short),
                48..52 => self.stop(victim, now + short * 10),
                52..58 => self.kill(victim),
                58 => self.stop_daemon(now + short * 10),
                _ => {},
            }
            if stop_daemon_at.is_some_and(|at| now >= at) {
                stop_daemon_at = None;
                self.stop_daemon(now + short * 10);
            }
            if now >= restart_at {
                self.restart();
                restart_at = now + Duration::from_millis(3_000 + self.random.below(4_000));
                stop_daemon_at = Some(now + Duration::from_millis(1_500));
            }
        }
        Ok(())
    }

    fn start(&mut self, role: Role) -> Actor {
        let (name, number) = match role {
            Role::Writer => {
                self.summary.runs += 1;
                self.board.set_run(self.summary.runs);
                ("writer", self.summary.runs)
            },
            Role::Reader => {
                self.readers += 1;
                ("reader", self.readers)
            },
            Role::Filler => ("filler", 0),
        };
        let mut command = Command::new(self.plan.program());
        command
            .arg(name)
            .arg(self.daemon.socket())
            .arg(&self.board_path)
            .args([self.random.number().to_string(), number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.envs(self.plan.variables.iter().copied());
        let child = command.spawn().unwrap();
        Actor {
            role,
            child,
            stopped: None,
        }
    }

    /// Lets everybody go on, wakes who is stopped when it is time, and looks for ends.
    fn watch_until(&mut self, until: Instant) -> Result<(), String> {
        loop {
            let now = Instant::now();
            self.go_on(now);
            for index in 0..self.actors.len() {
                self.look_at(index)?;
            }
            if now >= until {
                return Ok(());
            }
            std::thread::park_timeout((until - now).min(Duration::from_millis(2)));
        }
    }

    fn go_on(&mut self, now: Instant) {
        for actor in &mut self.actors {
            if actor.stopped.is_some_and(|until| until <= now) {
                actor.stopped = None;
                self.signals.send(actor.child.id(), "CONT");
            }
        }
        if self.daemon_stopped.is_some_and(|until| until <= now) {
            self.daemon_stopped = None;
            self.signals.send(self.daemon.pid(), "CONT");
        }
    }

    fn look_at(&mut self, index: usize) -> Result<(), String> {
        let actor = &mut self.actors[index];
        let Some(status) = actor.child.try_wait().unwrap() else {
            return Ok(());
        };
        let role = actor.role;
        if role == Role::Writer && status.code() == Some(NEW_RUN) {
            self.actors[index] = self.start(role);
            return Ok(());
        }
        let mut said = String::new();
        let errors = actor.child.stderr.as_mut().unwrap();
        errors.read_to_string(&mut said).unwrap();
        Err(format!("{role:?} ended with {status}: {said}"))
    }

    fn stop(&mut self, victim: usize, until: Instant) {
        let actor = &mut self.actors[victim];
        if actor.stopped.is_none() {
            self.signals.send(actor.child.id(), "STOP");
            actor.stopped = Some(until);
            self.summary.stops += 1;
        }
    }

    fn stop_daemon(&mut self, until: Instant) {
        if self.daemon_stopped.is_none() {
            self.signals.send(self.daemon.pid(), "STOP");
            self.daemon_stopped = Some(until);
            self.summary.daemon_stops += 1;
        }
    }

    fn kill(&mut self, victim: usize) {
        let role = self.actors[victim].role;
        // The old one is killed, and its end awaited, before the next begins.
        let old = self.actors.remove(victim);
        drop(old);
        let next = self.start(role);
        self.actors.insert(victim, next);
        self.summary.kills += 1;
    }

    /// The daemon dies, stopped or not, and another one takes its place.
    fn restart(&mut self) {
        self.daemon_stopped = None;
        self.daemon.kill();
        self.daemon.restart();
        self.summary.restarts += 1;
    }

    /// Lets everybody come to an end and counts.
    fn end(&mut self) -> Result<(), String> {
        self.board.end();
        let limit = Instant::now() + wait::PATIENCE;
        while let Some(mut actor) = self.actors.pop() {
            if actor.stopped.is_some() {
                self.signals.send(actor.child.id(), "CONT");
            }
            if let Some(_until) = self.daemon_stopped.take() {
                self.signals.send(self.daemon.pid(), "CONT");
            }
            let mut status = None;
            wait::within(limit - Instant::now(), "a client ends when told", || {
                status = actor.child.try_wait().unwrap();
                status.is_some()
            });
            let status = status.unwrap();
            let is_fine =
                status.success() || actor.role == Role::Writer && status.code() == Some(NEW_RUN);
            if !is_fine {
                let mut said = String::new();
                let errors = actor.child.stderr.as_mut().unwrap();
                errors.read_to_string(&mut said).unwrap();
                return Err(format!("{:?} ended with {status}: {said}", actor.role));
            }
        }
        self.summary.hits = (1..=self.readers)
            .map(|reader| self.board.count(reader))
            .sum();
        Ok(())
    }
}
