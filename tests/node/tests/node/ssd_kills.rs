//! kill -9 of a node that is being written to, again and again: what it then shows is judged key by
//! key (`ledger.rs`), and by an older copy of its device the judge itself is judged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chariot_client::{Client, GetOptions, Place, SetOptions};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, with_timeout};
use chariot_tests_node::ledger::{self, Key, Wrong};
use chariot_tests_node::random::Random;
use chariot_tests_node::wait;
use tempfile::TempDir;

const SHARDS: u16 = 2;
const WRITERS: usize = 4;
const KEYS_EACH: usize = 250;
/// 210 KB each in the middle: all keys together are 210 MB, more than the 128 MiB of memory.
const SIZES: [usize; 5] = [300, 5_000, 72 << 10, 200_001, 768 << 10];
/// What waits for room waits for the device, which others may keep busy.
const LONG: Duration = Duration::from_mins(1);

fn start(directory: &TempDir, size: &str) -> Daemon {
    let path = directory.path().display().to_string();
    let flags = ["--ssd", &path, "--ssd-size", size];
    Daemon::start_with(&DaemonOptions {
        memory_mib: 64 * u64::from(SHARDS),
        shards_per_core: SHARDS,
        flags: flags.map(str::to_owned).to_vec(),
        ..DaemonOptions::default()
    })
}

fn local(daemon: &Daemon) -> Client {
    Client::connect(with_timeout(daemon.local_options(), LONG)).unwrap()
}

fn remote(daemon: &Daemon) -> Client {
    Client::connect(with_timeout(daemon.remote_options(), LONG)).unwrap()
}

fn name(writer: usize, at: usize) -> Vec<u8> {
    format!("writer-{writer}/key-{at}").into_bytes()
}

fn value(version: u64) -> Vec<u8> {
    let nth = usize::try_from(version).unwrap() % SIZES.len();
    ledger::value(SIZES[nth], version)
}

/// Reads a key: its version, or nothing. Wrong bytes end the test.
fn read(client: &Client, name: &[u8]) -> Option<u64> {
    let name_text = String::from_utf8_lossy(name);
    let read = client.get(name, &GetOptions::default());
    let bytes = read.unwrap_or_else(|error| panic!("get of {name_text}: {error}"))?;
    let version = ledger::version_of(&bytes);
    let version = version.unwrap_or_else(|| panic!("{name_text}: bytes that nobody wrote"));
    assert_eq!(bytes.len(), value(version).len(), "{name_text} is whole");
    Some(version)
}

fn recovered(daemon: &Daemon) {
    wait::within(LONG, "the tier is recovered", || {
        let metrics = daemon.metrics();
        metrics.count("chariot_ssd_recovering") == usize::from(SHARDS)
            && metrics.total("chariot_ssd_recovering") == 0.0
    });
}

/// What all writers of a round share.
#[derive(Debug, Default)]
struct Round {
    /// The last version given out, over all rounds.
    version: AtomicU64,
    /// Operations done.
    done: AtomicU64,
    /// Set before the node is killed: answers after it prove nothing.
    is_dying: AtomicBool,
}

impl Round {
    fn next_version(&self) -> u64 {
        1 + self.version.fetch_add(1, Ordering::Relaxed)
    }

    /// Sets, deletes and reads keys until the node is gone.
    fn write(&self, client: &Client, writer: usize, keys: &mut [Key], random: &mut Random) {
        loop {
            let at = usize::try_from(random.below(keys.len() as u64)).unwrap();
            let key = &mut keys[at];
            let name = name(writer, at);
            let to = match random.below(10) {
                choice if choice < 3 || key.is_unsure() => {
                    if !self.look(client, &name, key) {
                        return;
                    }
                    continue;
                },
                3 => None,
                _ => Some(self.next_version()),
            };
            key.begin(to);
            let result = match to {
                None => client.delete(&name).map(|_| ()),
                Some(version) => client
                    .set(&name, &value(version), &SetOptions::default())
                    .map(|_| ()),
            };
            match result {
                Ok(()) => key.end(),
                Err(_) if self.is_dying.load(Ordering::Acquire) => return,
                Err(error) => panic!("change of {}: {error}", String::from_utf8_lossy(&name)),
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads a key while the node lives; `false`: it does not any more.
    fn look(&self, client: &Client, name: &[u8], key: &mut Key) -> bool {
        let on_ssd = client.stats().hits_ssd;
        let read = client.get(name, &GetOptions::default());
        if self.is_dying.load(Ordering::Acquire) {
            // A miss of a dead node is none. The next change tells whether it is dead already.
            return client.place() != Place::Away;
        }
        let bytes = read.unwrap_or_else(|error| panic!("get: {error}"));
        let seen = bytes.map(|bytes| ledger::version_of(&bytes).expect("bytes that were written"));
        let judged = key.judge(seen);
        assert_eq!(judged, Ok(()), "{}", String::from_utf8_lossy(name));
        if client.stats().hits_ssd > on_ssd {
            key.on_device();
        }
        true
    }
}

/// All keys, by writer.
type Ledger = Vec<Vec<Key>>;

fn new_ledger() -> Ledger {
    vec![vec![Key::default(); KEYS_EACH]; WRITERS]
}

/// Writes with all writers until `operations` are done, then kills the node under them.
fn load_and_kill(daemon: &mut Daemon, ledger: &mut Ledger, round: &Round, seed: u64, load: u64) {
    let until = round.done.load(Ordering::Relaxed) + load;
    round.is_dying.store(false, Ordering::Release);
    std::thread::scope(|scope| {
        for (writer, keys) in ledger.iter_mut().enumerate() {
            let client = if writer % 2 == 0 {
                local(daemon)
            } else {
                remote(daemon)
            };
            let mut random = Random::new(seed ^ ((writer as u64) << 32));
            scope.spawn(move || round.write(&client, writer, keys, &mut random));
        }
        wait::within(2 * LONG, "the round's load", || {
            round.done.load(Ordering::Relaxed) >= until
        });
        let metrics = daemon.metrics();
        let unwell = ["chariot_ssd_dropped_total", "chariot_ssd_retired"]
            .map(|name| metrics.total(name) > 0.0);
        round.is_dying.store(true, Ordering::Release);
        daemon.kill();
        assert_eq!(unwell, [false; 2], "there is room for everything");
    });
}

/// What was found wrong, and how much was found.
#[derive(Debug, Default)]
struct Verdict {
    wrong: Vec<(Vec<u8>, Wrong)>,
    found: u32,
    /// Keys that had to be there.
    due: u32,
}

/// Reads every key and judges it. What a node that has just started has lies on its device.
fn judge(client: &Client, ledger: &mut Ledger) -> Verdict {
    let mut verdict = Verdict::default();
    for (writer, keys) in ledger.iter_mut().enumerate() {
        for (at, key) in keys.iter_mut().enumerate() {
            let name = name(writer, at);
            let seen = read(client, &name);
            verdict.due += u32::from(key.must_be_there());
            verdict.found += u32::from(seen.is_some());
            match key.judge(seen) {
                Ok(()) if seen.is_some() => key.on_device(),
                Ok(()) => {},
                Err(wrong) => verdict.wrong.push((name, wrong)),
            }
        }
    }
    verdict
}

fn kill_again_and_again(seed: u64, kills: u64, load: u64) {
    println!("seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory, "1GiB");
    let (mut ledger, round) = (new_ledger(), Round::default());
    write_all(&daemon, &mut ledger, &round);
    let (mut found, mut due) = (0, 0);
    for kill in 0..kills {
        let mut random = Random::new(seed.wrapping_add(kill));
        // Some die in the middle of their recovery or soon after it, most under a full load.
        let load = if kill % 5 == 4 {
            random.below(20)
        } else {
            load + random.below(load)
        };
        let seed = random.number();
        load_and_kill(&mut daemon, &mut ledger, &round, seed, load);
        daemon.restart();
        if kill % 5 != 3 {
            let client = local(&daemon);
            // At once, while it recovers, and again: what was not there then is not there now.
            for when in ["during recovery", "after it"] {
                let verdict = judge(&client, &mut ledger);
                let wrong = verdict.wrong;
                assert!(
                    wrong.is_empty(),
                    "seed {seed} kill {kill}, {when}: {wrong:?}"
                );
                found += verdict.found;
                due += verdict.due;
                recovered(&daemon);
            }
        }
    }
    println!("{found} found, {due} of them had to be");
    assert!(found > 100, "the test has seen the tier: {found}");
    assert!(due > 100, "and what it keeps: {due}");
}

#[test]
fn ten_kills_under_load_show_nothing_older_and_lose_nothing_spilled() {
    kill_again_and_again(1, 10, 500);
}

#[test]
#[ignore = "long: make test-long"]
fn twenty_kills_under_load_show_nothing_older_and_lose_nothing_spilled() {
    for seed in 2..5 {
        kill_again_and_again(seed, 20, 2_000);
    }
}

/// Everything evicted is on the device.
fn settle(daemon: &Daemon) {
    wait::within(LONG, "everything evicted is written", || {
        daemon.metrics().total("chariot_ssd_spilling_bytes") == 0.0
    });
}

/// Writes a new version of every key: more than memory holds.
fn write_all(daemon: &Daemon, ledger: &mut Ledger, round: &Round) {
    let client = local(daemon);
    for (writer, keys) in ledger.iter_mut().enumerate() {
        for (at, key) in keys.iter_mut().enumerate() {
            let version = round.next_version();
            key.begin(Some(version));
            let options = SetOptions::default();
            client
                .set(&name(writer, at), &value(version), &options)
                .unwrap();
            key.end();
        }
    }
    settle(daemon);
}

/// Pushes everything out of memory.
fn push_out(daemon: &Daemon) {
    let client = local(daemon);
    let filler = ledger::value(1 << 20, 0);
    for number in 0..64 * u64::from(SHARDS) * 3 / 2 {
        let name = format!("filler-{number}");
        client
            .set(name.as_bytes(), &filler, &SetOptions::default())
            .unwrap();
    }
    settle(daemon);
}

/// Copies the partitions of the tier from one directory into another.
fn copy_partitions(from: &TempDir, to: &TempDir) {
    for entry in std::fs::read_dir(from.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_older_copy_of_the_device_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let mut daemon = start(&directory, "512MiB");
    let (mut ledger, round) = (new_ledger(), Round::default());
    write_all(&daemon, &mut ledger, &round);
    push_out(&daemon);
    daemon.kill();
    copy_partitions(&directory, &older);
    daemon.restart();
    let verdict = judge(&local(&daemon), &mut ledger);
    assert!(verdict.wrong.is_empty(), "{:?}", verdict.wrong);
    assert!(verdict.found > 500, "{} were pushed out", verdict.found);
    write_all(&daemon, &mut ledger, &round);
    push_out(&daemon);
    daemon.kill();
    copy_partitions(&older, &directory);
    daemon.restart();
    let verdict = judge(&local(&daemon), &mut ledger);
    let older = verdict.wrong.iter();
    let older = older.filter(|(_, wrong)| matches!(wrong, Wrong::NotTheLast { .. }));
    assert!(older.count() > 500, "{:?}", verdict.wrong);
}
