//! `device --broadcast`: one card's object to N others, through the daemon's directory and links
//! between real processes, on the link model.
//!
//! A run of 4 GiB is a run of `--broadcast-bytes` on links that are slower by the same factor
//! (and by a further one that gives this host's few cores the time to move every byte of every
//! card): ratios are those of the whole object. Every receiver compares every byte. Links stand
//! before the clock starts, as those of a running system do.
//!
//! The parent has a process for each card, told what to do line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::{Client, ConnectOptions, Target};
use chariot_device::{CopyBatch, Device, Direction, Submission};
use chariot_peer::{DeviceBlob, DeviceObject, PeerOptions, PeerPort};
use serde::Serialize;

use super::{of_device, runtime, simulation};
use crate::args::DeviceArgs;
use crate::command::{Outcome, json_line, note, print};
use crate::failure::Failure;

/// Card of this process, when it is one of a broadcast.
const ROLE: &str = "CHARIOT_BENCH_CARD";
/// The object that the model's link moves in the model's time.
const WHOLE_BYTES: u64 = 4 << 30;
/// Chunks of the object, as a power of two: 16 MiB of 4 GiB.
const CHUNKS_LOG2: u8 = 8;
/// Between the beginnings of two gets, so that they are asked for in one order in each run.
const APART: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_mins(5);
const FRAGMENTS: u64 = 4;

/// The JSON line of one measurement.
#[derive(Clone, Debug, Serialize)]
struct BroadcastReport {
    bench: &'static str,
    simulated: bool,
    receivers: u32,
    bytes: u64,
    seconds: f64,
    ratio_to_one: f64,
    /// How many times slower the links are than the model's.
    links_slower: u64,
    /// Until the first, cold broadcast of a little object had reached everybody.
    cold_seconds: f64,
}

/// Runs the command, or the part of one card.
pub(crate) fn command(args: &DeviceArgs) -> Result<Outcome, Failure> {
    if let Some(card) = std::env::var_os(ROLE) {
        let card = card.to_string_lossy().parse();
        return card_process(args, card.map_err(|_odd| odd("a card that is no number"))?);
    }
    if !args.simulated {
        return Err(Failure::new(
            "a broadcast is measured on the link model",
            "take --backend ascend --simulated",
        ));
    }
    let Some(socket) = &args.socket else {
        return Err(Failure::new(
            "a broadcast goes through a daemon",
            "start chariotd and name its socket with --socket",
        ));
    };
    let slower = WHOLE_BYTES / args.broadcast_bytes.max(1) * u64::from(args.slower);
    let lines = format!(
        "SIMULATED: times of a link model, no device's performance\n{WHOLE_BYTES} bytes stand as \
         {} on links {slower} times slower; daemon at {}\n{}",
        args.broadcast_bytes,
        socket.display(),
        crate::machine::Machine::here().line()
    );
    note(&lines);
    let mut one = None;
    let mut outcome = Outcome::Clean;
    for &receivers in &args.broadcast {
        let measured = run(args, receivers, slower)?;
        if !measured.are_right {
            note("chariot-bench: bytes that arrived are wrong");
            outcome = Outcome::Flawed;
        }
        let seconds = measured.warm.as_secs_f64();
        let first = *one.get_or_insert(seconds);
        let report = BroadcastReport {
            bench: "broadcast",
            simulated: true,
            receivers,
            bytes: args.broadcast_bytes,
            seconds,
            ratio_to_one: seconds / first,
            links_slower: slower,
            cold_seconds: measured.cold.as_secs_f64(),
        };
        if args.json {
            print(&json_line(&report)?)?;
        } else {
            print(&format!(
                "1 -> {receivers:<3} {seconds:>8.3} s  {:>5.2} x  (cold: {:.3} s)",
                report.ratio_to_one, report.cold_seconds
            ))?;
        }
    }
    Ok(outcome)
}

fn odd(what: &str) -> Failure {
    Failure::new(what.to_owned(), "report this as a bug")
}

struct Run {
    cold: Duration,
    warm: Duration,
    are_right: bool,
}

/// One broadcast to `receivers` cards, cold and warm.
fn run(args: &DeviceArgs, receivers: u32, slower: u64) -> Result<Run, Failure> {
    let simulator = simulation::prepare()?;
    let mut cards = Vec::new();
    for card in 0..=receivers {
        cards.push(Card::start(
            args,
            &simulator,
            (card, receivers + 1),
            slower,
        )?);
    }
    for card in &mut cards {
        card.expect("ready")?;
    }
    let little = 1 << 16;
    let (cold, cold_right) = broadcast(&mut cards, "cold", little)?;
    let (warm, warm_right) = broadcast(&mut cards, "warm", args.broadcast_bytes)?;
    for mut card in cards {
        card.order("quit")?;
        card.expect("bye")?;
    }
    Ok(Run {
        cold,
        warm,
        are_right: cold_right && warm_right,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pace of the load, no synchronisation"
)]
fn broadcast(cards: &mut [Card], key: &str, bytes: u64) -> Result<(Duration, bool), Failure> {
    for card in cards.iter_mut() {
        card.order(&format!("make {key} {bytes}"))?;
        card.expect("made")?;
    }
    cards[0].order(&format!("put {key}"))?;
    cards[0].expect("put")?;
    let begun = Instant::now();
    for card in &mut cards[1..] {
        card.order(&format!("get {key}"))?;
        std::thread::sleep(APART);
    }
    for card in &mut cards[1..] {
        card.expect("got")?;
    }
    let took = begun.elapsed();
    let mut are_right = true;
    for card in &mut cards[1..] {
        card.order(&format!("check {key}"))?;
        are_right &= card.answer()? == "right";
    }
    Ok((took, are_right))
}

/// The process of one card, as the parent has it.
struct Card {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Card {
    fn start(
        args: &DeviceArgs,
        simulator: &simulation::Simulator,
        (card, cards): (u32, u32),
        slower: u64,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                format!("cannot start the process of a card ({error})"),
                "look at the limits of this user",
            )
        };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .args(std::env::args_os().skip(1))
            .env(ROLE, card.to_string());
        simulator.settings(args, &mut command);
        command
            .env("ASCEND_SIM_SCALE", "1")
            .env("ASCEND_SIM_PEER_SLOWER", slower.to_string())
            .env("ASCEND_SIM_DEVICES", cards.max(2).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        match (input, output) {
            (Some(input), Some(output)) => Ok(Self {
                child,
                input,
                output: BufReader::new(output),
            }),
            _ => Err(odd("a process without its pipes")),
        }
    }

    fn order(&mut self, order: &str) -> Result<(), Failure> {
        let written = writeln!(self.input, "{order}").and_then(|()| self.input.flush());
        written.map_err(|error| ended(&error.to_string()))
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Err(ended("it said nothing")),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(ended(&error.to_string())),
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), Failure> {
        let answer = self.answer()?;
        if answer == word {
            return Ok(());
        }
        Err(ended(&answer))
    }
}

fn ended(why: &str) -> Failure {
    Failure::new(
        format!("the process of a card failed ({why})"),
        "its own words are above",
    )
}

impl Drop for Card {
    fn drop(&mut self) {
        // It has ended by itself when all went well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The part of one card.
fn card_process(args: &DeviceArgs, card: u32) -> Result<Outcome, Failure> {
    let device = runtime(args)?
        .open(card)
        .map_err(|error| of_device("open the card", &error))?;
    let socket = args.socket.clone().ok_or_else(|| odd("no socket"))?;
    let client = Client::connect(ConnectOptions::new(Target::Unix(socket)))
        .map_err(|error| of_device("reach the daemon", &error))?;
    let options = PeerOptions {
        chunk_min_log2: 12,
        chunks_log2: CHUNKS_LOG2,
        stall: Duration::from_mins(1),
    };
    let port = PeerPort::open(device.clone(), Arc::new(client.devices()), options)
        .map_err(|error| of_device("open the port", &error))?;
    print("ready")?;
    let mut object = None;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| ended(&error.to_string()))?;
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), &object) {
            (["make", key, bytes], _) => {
                let bytes = bytes.parse().map_err(|_odd| odd("no number of bytes"))?;
                object = Some(make(&device, key, bytes, card == 0)?);
                print("made")?;
            },
            (["put", _], Some(object)) => {
                each(&port.put(std::slice::from_ref(object)))?;
                print("put")?;
            },
            (["get", _], Some(object)) => {
                each(&port.get(std::slice::from_ref(object), PATIENCE))?;
                print("got")?;
            },
            (["check", _], Some(object)) => {
                let right = bytes_of(&device, object, None)? == pattern(object);
                print(if right { "right" } else { "wrong" })?;
            },
            _ => break,
        }
    }
    drop(port);
    print("bye")?;
    Ok(Outcome::Clean)
}

fn each(results: &[Result<(), chariot_peer::PeerError>]) -> Result<(), Failure> {
    for result in results {
        if let Err(error) = result {
            return Err(of_device("move the object", error));
        }
    }
    Ok(())
}

fn make(device: &Device, key: &str, bytes: u64, is_source: bool) -> Result<DeviceObject, Failure> {
    let len = usize::try_from(bytes / FRAGMENTS).map_err(|_large| odd("too many bytes"))?;
    let mut blobs = Vec::new();
    for _ in 0..FRAGMENTS {
        let memory = device
            .alloc(len.max(1))
            .map_err(|error| of_device("get memory", &error))?;
        let len = memory.len();
        blobs.push(DeviceBlob { memory, at: 0, len });
    }
    let object = DeviceObject {
        key: format!("broadcast/{key}").into_bytes(),
        blobs,
    };
    let fill = is_source.then(|| pattern(&object));
    bytes_of(device, &object, fill.as_deref())?;
    Ok(object)
}

/// The bytes that an object ought to have: those of its key and their places.
fn pattern(object: &DeviceObject) -> Vec<u8> {
    let seed = u64::from(crc32c::crc32c(&object.key));
    let len: usize = object.blobs.iter().map(|blob| blob.len).sum();
    let word = |at: u64| {
        (at ^ seed)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .to_le_bytes()
    };
    let words = (0..).flat_map(word);
    words.take(len).collect()
}

/// Fills the object, or reads it.
fn bytes_of(
    device: &Device,
    object: &DeviceObject,
    fill: Option<&[u8]>,
) -> Result<Vec<u8>, Failure> {
    let failed = |error: chariot_device::DeviceError| of_device("copy", &error);
    let len: usize = object.blobs.iter().map(|blob| blob.len).sum();
    let (stream, host) = (
        device.stream().map_err(failed)?,
        device.alloc_host(len).map_err(failed)?,
    );
    let direction = if let Some(bytes) = fill {
        host.write_at(0, bytes).map_err(failed)?;
        Direction::HostToDevice
    } else {
        Direction::DeviceToHost
    };
    let (mut batch, mut at) = (CopyBatch::new(direction), 0);
    for blob in &object.blobs {
        batch
            .push((&blob.memory, blob.at), (&host, at), blob.len)
            .map_err(failed)?;
        at += blob.len;
    }
    stream.submit(batch, Submission::Each).map_err(failed)?;
    stream.wait(Some(PATIENCE)).map_err(failed)?;
    let mut bytes = vec![0; len];
    host.read_at(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}
