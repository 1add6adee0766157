//! The simulated CANN: a library in a directory of this run, and this program again below it.
//!
//! The settings of the simulator are variables of the process that loads it, hence the second
//! process; the product's code in it finds the library as it finds CANN.

use std::process::Command;

use chariot_npu_sim::{Profile, install};

use crate::args::{DeviceArgs, PresetArg};
use crate::command::Outcome;
use crate::failure::Failure;

/// Set in the process that runs below the simulator.
const INSIDE: &str = "CHARIOT_BENCH_SIMULATED";

/// True in the second process.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A simulated host: its library and what its processes share, until this is dropped.
pub(crate) struct Simulator {
    dir: tempfile::TempDir,
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(
        format!("cannot start the simulator ({error})"),
        "build all of it: cargo build --release -p chariot-bench -p chariot-npu-sim",
    )
}

/// Makes a simulated host.
pub(crate) fn prepare() -> Result<Simulator, Failure> {
    // Device memory is files below this directory: in memory where the host has that.
    let shm = std::path::Path::new("/dev/shm");
    let dir = if shm.is_dir() {
        tempfile::tempdir_in(shm)
    } else {
        tempfile::tempdir()
    };
    let dir = dir.map_err(|error| failed(&error))?;
    install(dir.path(), Profile::Cann91).map_err(|error| failed(&error))?;
    Ok(Simulator { dir })
}

impl Simulator {
    /// Lets a process run on it.
    pub(crate) fn settings(&self, args: &DeviceArgs, command: &mut Command) {
        let preset = match args.preset.unwrap_or(PresetArg::A3) {
            PresetArg::A3 => "a3",
            PresetArg::A2 => "a2",
            PresetArg::H200pcie => "h200pcie",
        };
        command
            .env(INSIDE, "1")
            .env("ASCEND_RT_LIB_DIR", self.dir.path())
            .env("ASCEND_SIM_DIR", self.dir.path().join("host"))
            .env("ASCEND_SIM_PRESET", preset)
            .env("ASCEND_SIM_CLOCK", "real")
            .env("ASCEND_SIM_SCALE", args.slower.to_string())
            .env("ASCEND_SIM_JITTER_US", "0");
    }
}

/// Runs this program again with the same arguments on a simulator.
pub(crate) fn start_again(args: &DeviceArgs) -> Result<Outcome, Failure> {
    let simulator = prepare()?;
    let again = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut again = Command::new(again);
    again.args(std::env::args_os().skip(1));
    simulator.settings(args, &mut again);
    let status = again.status().map_err(|error| failed(&error))?;
    match status.code() {
        Some(0) => Ok(Outcome::Clean),
        Some(1) => Ok(Outcome::Flawed),
        _ => Err(Failure::new(
            format!("the simulated run ended with {status}"),
            "its own words are above",
        )),
    }
}
