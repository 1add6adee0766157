//! `device`: objects of fragments between host memory and an accelerator, through the device core.
//!
//! Each figure is a share of what the backend's own copy engine reached with one large page-locked
//! copy in the same run. With `--simulated` the program starts itself again on the simulated CANN
//! (`simulation`), whose times are a link model's; such figures say so wherever they stand.

mod broadcast;
mod objects;
mod simulation;
mod work;

use std::path::PathBuf;

use chariot_ascend_rt_sys::Search;
use chariot_device::{Ascend, BackendKind, Cuda, Device, Direction, Host, HostOptions, Runtime};
use chariot_transfer::{CoreOptions, DeviceCore};
use serde::Serialize;

use crate::args::{BackendArg, DeviceArgs};
use crate::command::{Outcome, json_line, note, print, seconds};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::text;
use objects::Objects;
use work::Measured;

/// Fragments of an object: length and number (DeepSeek-V3's layers, twice that, Qwen2.5's).
const SHAPES: [(usize, usize); 3] = [(72 << 10, 62), (144 << 10, 61), (1 << 20, 28)];
const DIRECTIONS: [Direction; 2] = [Direction::HostToDevice, Direction::DeviceToHost];

/// The JSON line of one measurement.
#[derive(Clone, Debug, Serialize)]
struct DeviceReport {
    bench: &'static str,
    backend: String,
    simulated: bool,
    dir: &'static str,
    blob_bytes: usize,
    blobs: usize,
    keys: u32,
    threads: u32,
    bytes_per_s: f64,
    ratio_to_peak: f64,
}

/// What all measurements of a run share.
struct Setting<'a> {
    args: &'a DeviceArgs,
    core: DeviceCore,
    backend: BackendKind,
    /// Times that this run's clock is slower than the machine that it stands for.
    slower: f64,
    /// Bytes a second of one large copy, into the card and out of it.
    peaks: [f64; 2],
}

/// Runs the command.
pub(crate) fn command(args: &DeviceArgs) -> Result<Outcome, Failure> {
    let seconds = seconds(args.seconds)?;
    if args.simulated && args.backend != BackendArg::Ascend {
        return Err(Failure::new(
            "only CANN is simulated",
            "take --backend ascend, with a --preset for the machine",
        ));
    }
    if !args.broadcast.is_empty() {
        return broadcast::command(args);
    }
    if args.simulated && !simulation::is_inside() {
        return simulation::start_again(args);
    }
    let runtime = runtime(args)?;
    let device = runtime
        .open(args.card)
        .map_err(|error| of_device("open the card", &error))?;
    say_what_it_is(args, &runtime, &device)?;
    let options = CoreOptions::default();
    let core = DeviceCore::start(device.clone(), options);
    let core = core.map_err(|error| of_device("start the device core", &error))?;
    let peak = |direction| work::peak(&device, direction);
    let peaks = [peak(DIRECTIONS[0])?, peak(DIRECTIONS[1])?];
    let slower = if args.simulated {
        f64::from(args.slower)
    } else {
        1.0
    };
    let setting = Setting {
        args,
        core,
        backend: runtime.kind(),
        slower,
        peaks,
    };
    if !args.json {
        let rates = peaks.map(|peak| text::bytes(peak * slower));
        print(&format!(
            "one large copy: {}/s in, {}/s out",
            rates[0], rates[1]
        ))?;
        print(
            "dir  blobs           keys threads      bytes/s   of peak  way       lane CPU a key",
        )?;
    }
    let mut outcome = Outcome::Clean;
    for (blob_bytes, blobs) in SHAPES {
        let objects = Objects::new(&device, blob_bytes, blobs)
            .map_err(|error| of_device("get memory for the objects", &error))?;
        for direction in DIRECTIONS {
            for keys in &args.keys {
                for threads in &args.threads {
                    let cell = (direction, *keys, *threads);
                    let measured = work::measure(&setting.core, &objects, cell, seconds)?;
                    setting.report(&objects, cell, &measured)?;
                }
            }
        }
        if !objects.are_right() {
            note("chariot-bench: bytes that came back are wrong");
            outcome = Outcome::Flawed;
        }
    }
    Ok(outcome)
}

/// A failure of the card, as a user reads it.
fn of_device(what: &str, error: &dyn std::error::Error) -> Failure {
    Failure::new(
        format!("cannot {what} ({error})"),
        "look at the driver's own tools",
    )
}

fn runtime(args: &DeviceArgs) -> Result<Runtime, Failure> {
    let absent = |error: chariot_device::DeviceError| {
        Failure::new(
            error.to_string(),
            "or take --backend host, or ascend --simulated",
        )
    };
    match args.backend {
        BackendArg::Host => Ok(Host::start(HostOptions::default())),
        BackendArg::Cuda => Cuda::load(None).map_err(absent),
        BackendArg::Ascend => {
            let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
            Ascend::load(&Search::standard(variable)).map_err(absent)
        },
    }
}

/// Backend, versions, and whether it is simulated: under every figure, or beside the JSON.
fn say_what_it_is(args: &DeviceArgs, runtime: &Runtime, device: &Device) -> Result<(), Failure> {
    let (kind, name) = (runtime.kind(), device.capabilities().name);
    let versions = runtime.versions().join(", ");
    let what = if args.simulated {
        let slower = args.slower;
        format!("SIMULATED: times of a link model, {slower} times slowed, no device's performance")
    } else {
        "measured".to_owned()
    };
    let lines = format!(
        "{kind}, {name} ({versions})\n{what}\n{}",
        Machine::here().line()
    );
    if args.json {
        note(&lines);
        return Ok(());
    }
    print(&lines)
}

impl Setting<'_> {
    fn report(
        &self,
        objects: &Objects,
        (direction, keys, threads): (Direction, u32, u32),
        measured: &Measured,
    ) -> Result<(), Failure> {
        let into = direction == Direction::HostToDevice;
        let peak = if into { self.peaks[0] } else { self.peaks[1] };
        let report = DeviceReport {
            bench: "device",
            backend: self.backend.to_string(),
            simulated: self.args.simulated,
            dir: if into { "h2d" } else { "d2h" },
            blob_bytes: objects.blob_bytes,
            blobs: objects.blobs,
            keys,
            threads,
            bytes_per_s: measured.bytes_per_s * self.slower,
            ratio_to_peak: measured.bytes_per_s / peak,
        };
        if self.args.json {
            return print(&json_line(&report)?);
        }
        // A simulated card's time is not this processor's.
        let cpu = if self.args.simulated {
            "-".to_owned()
        } else {
            text::micros(measured.cpu_us_per_key)
        };
        print(&format!(
            "{:<4} {:>9} x {:<3} {:>4} {:>7} {:>10}/s {:>7.1} %  {:<9} {cpu}",
            report.dir,
            text::bytes(objects.blob_bytes as f64),
            objects.blobs,
            keys,
            threads,
            text::bytes(report.bytes_per_s),
            report.ratio_to_peak * 100.0,
            measured.path,
        ))
    }
}
