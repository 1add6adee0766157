//! A client of the stress test: it writes, reads and checks, or fills the arena, until the board
//! says that it is over or a signal ends it.
//!
//! `writer SOCKET BOARD SEED RUN`, `reader SOCKET BOARD SEED NUMBER`, `filler SOCKET BOARD SEED`,
//! `survivor SOCKET BOARD SEED`. Exit status 0: told to end. 10: a writer that does not know what
//! became of a write, and wants a new run with new keys. Anything else: a promise was broken, and
//! the last line says which.
//!
//! Two programs are made of it: `chariot-stress` on the product's client, and, under the feature
//! `testing`, `chariot-stress-mutant` on one that leaves out the step that `CHARIOT_SWITCH` names.

use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::time::Duration;

use crate::board::{Board, KEYS, Key, SMALL_KEYS};
use crate::pattern;
use crate::random::Random;
use crate::wait::PATIENCE;
use chariot_client::{Client, ConnectOptions, Error, GetOptions, SetOptions, Status, Target};
use chariot_client::{View, WriteMode};

/// Views that a reader holds at a time.
const HELD: usize = 40;
/// Reads between two looks at the board's other numbers.
const ROUND: u64 = 64;

/// A survivor's board: so many reads hit while the daemon lived, and missed after its death.
pub const HITS: u64 = 1;
/// See [`HITS`].
pub const MISSES: u64 = 2;
/// The run that tells a survivor that its daemon is dead.
pub const DEAD: u64 = 1;

/// The program: what its first argument says it is.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [role, socket, board, seed, rest @ ..] = &words[..] else {
        unreachable!("role, socket, board, seed, and a number");
    };
    let number = rest.first().map_or(0, |number| number.parse().unwrap());
    let board = Board::open(board.as_ref()).unwrap();
    let Some(client) = connect(socket, &board) else {
        return ExitCode::SUCCESS;
    };
    let random = Random::new(seed.parse().unwrap());
    match *role {
        "writer" => Writer {
            client,
            board,
            random,
            run: number,
            next: vec![1; usize::try_from(KEYS).unwrap()],
            lie: u64::from(std::env::var_os("CHARIOT_STRESS_LIE").is_some()),
        }
        .write(),
        "reader" => Reader {
            client,
            board,
            random,
            number,
            seen: HashMap::new(),
            held: VecDeque::new(),
            hits: 0,
        }
        .read(),
        "filler" => fill(&client, &board, random),
        "survivor" => survive(&client, &board),
        other => unreachable!("no such role: {other}"),
    }
}

/// A session, however long the daemon is away; `None` when it is over before that.
fn connect(socket: &str, board: &Board) -> Option<Client> {
    loop {
        let options = ConnectOptions {
            request_timeout: Duration::from_secs(2),
            connect_timeout: PATIENCE,
            ..ConnectOptions::new(Target::Unix(socket.into()))
        };
        match Client::connect(options) {
            Ok(client) => return Some(client),
            Err(_) if board.has_ended() => return None,
            // Killed before or amid the handshake, or full for a moment.
            Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
        }
    }
}

fn options() -> SetOptions {
    SetOptions {
        mode: WriteMode::NoneEvict,
        ..SetOptions::default()
    }
}

/// What became of a write.
enum Written {
    Done,
    /// It is certain that nothing changed and nothing will.
    Refused,
    /// It may have happened, or happen yet.
    Unknown,
}

fn judge_write<T>(result: &Result<T, Error>) -> Written {
    match result.as_ref().map_err(Error::status) {
        Ok(_) => Written::Done,
        // The memory that it went to is gone with the daemon.
        Err(Status::Restarting | Status::OutOfMemory | Status::Busy) => Written::Refused,
        Err(_) => Written::Unknown,
    }
}

/// The one who writes the keys of one run.
struct Writer {
    client: Client,
    board: Board,
    random: Random,
    run: u64,
    /// The next version of each key.
    next: Vec<u64>,
    /// What is added to what is told of writes: 0, but for the proof that readers notice.
    lie: u64,
}

impl Writer {
    fn write(&mut self) -> ExitCode {
        while !self.board.has_ended() {
            let keys = self.some_keys();
            let known = match self.random.below(8) {
                0 => self.delete(&keys),
                1 if keys.len() == 1 => self.create(keys[0]),
                _ => self.set(&keys),
            };
            if !known {
                return ExitCode::from(10);
            }
        }
        ExitCode::SUCCESS
    }

    /// One key, or eight neighbours, so that none is there twice.
    fn some_keys(&mut self) -> Vec<Key> {
        let count = if self.random.below(4) == 0 { 8 } else { 1 };
        let first = self.random.below(KEYS - count + 1);
        let key = |index| Key {
            run: self.run,
            index,
        };
        (first..first + count).map(key).collect()
    }

    fn next(&mut self, key: Key) -> &mut u64 {
        &mut self.next[usize::try_from(key.index).unwrap()]
    }

    fn set(&mut self, keys: &[Key]) -> bool {
        let names: Vec<String> = keys.iter().map(|key| key.name()).collect();
        let values: Vec<Vec<u8>> = keys.iter().map(|key| key.value(*self.next(*key))).collect();
        let items: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(String::as_bytes)
            .zip(values.iter().map(Vec::as_slice))
            .collect();
        let results = self.client.mset(&items, &options());
        let mut known = true;
        for (key, result) in keys.iter().zip(&results) {
            known &= self.tell_version(*key, &judge_write(result));
        }
        known
    }

    fn create(&mut self, key: Key) -> bool {
        let value = key.value(*self.next(key));
        let written = self
            .client
            .create(key.name().as_bytes(), value.len(), &options())
            .and_then(|mut buffer| {
                buffer.copy_from_slice(&value);
                buffer.publish()
            });
        self.tell_version(key, &judge_write(&written))
    }

    fn tell_version(&mut self, key: Key, written: &Written) -> bool {
        let version = *self.next(key);
        *self.next(key) = version + 1;
        match written {
            Written::Done => self.board.set_floor(key, version + self.lie),
            Written::Refused => {},
            Written::Unknown => return false,
        }
        true
    }

    fn delete(&mut self, keys: &[Key]) -> bool {
        let names: Vec<String> = keys.iter().map(|key| key.name()).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let results = self.client.mdelete(&names);
        let mut known = true;
        for (key, result) in keys.iter().zip(&results) {
            match judge_write(result) {
                // Nothing that was written before may be read.
                Written::Done => {
                    let version = *self.next(*key);
                    self.board.set_floor(*key, version);
                },
                Written::Refused => {},
                Written::Unknown => known = false,
            }
        }
        known
    }
}

/// One who reads keys and checks them.
struct Reader {
    client: Client,
    board: Board,
    random: Random,
    number: u64,
    /// The newest version of each key that was read.
    seen: HashMap<Key, u64>,
    held: VecDeque<(View, Key, u64)>,
    hits: u64,
}

impl Reader {
    fn read(&mut self) -> ExitCode {
        let mut buffer = vec![0; 1 << 20];
        while !self.board.has_ended() {
            let mut run = self.board.run();
            if self.random.below(8) == 0 {
                // The keys of the run before are as true as ever.
                run = run.saturating_sub(1);
            }
            for _ in 0..ROUND {
                self.read_something(run, &mut buffer);
            }
            let key = Key {
                run,
                index: self.random.below(SMALL_KEYS),
            };
            self.read_often(key, &mut buffer);
            self.board.set_count(self.number, self.hits);
        }
        self.check_held(0);
        ExitCode::SUCCESS
    }

    /// Most of the time of these reads is spent in look-ups: a stop is likely to hit one.
    fn read_often(&mut self, key: Key, buffer: &mut [u8]) {
        let name = key.name();
        for _ in 0..ROUND * 16 {
            let floor = self.floor(key);
            let read = self.client.get_into(name.as_bytes(), buffer);
            self.check(key, floor, hit(read).map(|len| &buffer[..len]));
        }
    }

    fn read_something(&mut self, run: u64, buffer: &mut [u8]) {
        let key = |index| Key { run, index };
        let one = key(self.random.below(KEYS));
        let first = self.random.below(KEYS - 16);
        let many: Vec<Key> = (first..first + 16).map(key).collect();
        match self.random.below(10) {
            0..3 => {
                let floor = self.floor(one);
                let read = self
                    .client
                    .get(one.name().as_bytes(), &GetOptions::default());
                self.check(one, floor, hit(read).as_deref());
            },
            3..5 => {
                let floor = self.floor(one);
                let read = self.client.get_into(one.name().as_bytes(), buffer);
                self.check(one, floor, hit(read).map(|len| &buffer[..len]));
            },
            5..7 => {
                let floor = self.floor(one);
                let view = hit(self.client.view(one.name().as_bytes()));
                self.check(one, floor, view.as_deref());
                self.hold(one, view);
            },
            7 => {
                let floors: Vec<u64> = many.iter().map(|key| self.floor(*key)).collect();
                let names: Vec<String> = many.iter().map(|key| key.name()).collect();
                let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
                let read = self.client.mget(&names);
                for ((key, floor), read) in many.iter().zip(floors).zip(read) {
                    self.check(*key, floor, hit(read).as_deref());
                }
            },
            8 => {
                let floors: Vec<u64> = many.iter().map(|key| self.floor(*key)).collect();
                let names: Vec<String> = many.iter().map(|key| key.name()).collect();
                let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
                let views = self.client.mview(&names);
                for ((key, floor), view) in many.iter().zip(floors).zip(views) {
                    let view = hit(view);
                    self.check(*key, floor, view.as_deref());
                    self.hold(*key, view);
                }
            },
            _ => {
                hit(self.client.exist(one.name().as_bytes()).map(Some));
                hit(self.client.size(one.name().as_bytes()));
            },
        }
    }

    /// The oldest version that may be read from now on.
    fn floor(&self, key: Key) -> u64 {
        let seen = self.seen.get(&key).copied().unwrap_or(0);
        self.board.floor(key).max(seen)
    }

    fn check(&mut self, key: Key, floor: u64, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return };
        match key.judge(bytes) {
            Ok(version) => {
                assert!(
                    version >= floor,
                    "OLD: {key:?}: {version}, known was {floor}"
                );
                self.seen.insert(key, version);
                self.hits += 1;
            },
            Err(wrong) => panic!("WRONG: {wrong}"),
        }
    }

    fn hold(&mut self, key: Key, view: Option<View>) {
        if let Some(view) = view {
            self.held.push_back((view, key, self.seen[&key]));
            self.check_held(HELD);
        }
    }

    /// Lets the oldest views go, down to `left`; each must be what it was.
    fn check_held(&mut self, left: usize) {
        while self.held.len() > left {
            let (view, key, version) = self.held.pop_front().unwrap();
            let now = key.judge(&view);
            assert_eq!(now, Ok(version), "WRONG: a view of {key:?} has changed");
        }
    }
}

/// The value of a hit. A read may time out (the process was stopped), and nothing else.
fn hit<T>(read: Result<Option<T>, Error>) -> Option<T> {
    match read {
        Ok(read) => read,
        Err(error) if error.status() == Status::Timeout => None,
        Err(error) => panic!("ERROR: a read ended with {error}"),
    }
}

/// Uses the arena up, so that everything in it is evicted and reused.
fn fill(client: &Client, board: &Board, mut random: Random) -> ExitCode {
    while !board.has_ended() {
        let name = format!("fill/{}", random.below(1_000));
        let len = usize::try_from(random.below(200_000)).unwrap() + 1;
        let value = pattern::value(len, random.number());
        // It is refused when everything is pinned, or the daemon away.
        drop(client.set(name.as_bytes(), &value, &options()));
        if random.below(16) == 0 {
            drop(client.delete(name.as_bytes()));
        }
    }
    ExitCode::SUCCESS
}

/// Reads one key without end: while the daemon lives and after it was killed, when nothing that was
/// true before may be answered any more.
fn survive(client: &Client, board: &Board) -> ExitCode {
    client.set(b"survivor", b"alive", &options()).unwrap();
    let (mut hits, mut misses) = (0, 0);
    while !board.has_ended() {
        let is_dead = board.run() == DEAD;
        let mut buffer = [0; 16];
        let read = hit(client.get_into(b"survivor", &mut buffer));
        match (read, is_dead) {
            (Some(_), false) => hits += 1,
            (Some(_), true) => panic!("DEAD: a dead daemon's value was served"),
            (None, true) => misses += 1,
            (None, false) => {},
        }
        board.set_count(HITS, hits);
        board.set_count(MISSES, misses);
    }
    ExitCode::SUCCESS
}
