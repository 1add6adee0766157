//! fio beside the daemon: direct I/O through `io_uring`, one job, a file of its own.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::args::SsdArgs;
use crate::failure::Failure;

/// Name of the file, removed at the end.
const FILE: &str = "chariot-bench-fio.tmp";

/// Where and how long fio runs.
#[derive(Debug)]
pub(super) struct Fio {
    file: PathBuf,
    bytes: usize,
    cpu: Option<u32>,
    duration: Duration,
}

/// What fio reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reached {
    pub bytes_per_s: f64,
    pub cpu_ns_per_byte: f64,
    pub p50_us: f64,
}

impl Fio {
    pub(super) fn new(args: &SsdArgs, duration: Duration) -> Result<Self, Failure> {
        let version = Command::new("fio").arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            return Err(Failure::new(
                "fio is not installed",
                "as root: apt-get install --no-install-recommends fio",
            ));
        }
        if !args.directory.is_dir() {
            return Err(Failure::new(
                format!("{} is no directory", args.directory.display()),
                "name the daemon's --ssd directory with --directory",
            ));
        }
        Ok(Self {
            file: args.directory.join(FILE),
            bytes: args.fio_bytes,
            cpu: args.fio_cpu,
            duration,
        })
    }

    /// Writes the file from its beginning to its end, as a log is written.
    pub(super) fn write(&self, block_bytes: usize, depth: u32) -> Result<Reached, Failure> {
        // Blocks that a file system gives when they are first written cost; the log's are there.
        self.lay_out()?;
        self.run("write", block_bytes, depth)
    }

    /// Reads blocks at random.
    pub(super) fn read(&self, block_bytes: usize, depth: u32) -> Result<Reached, Failure> {
        self.run("randread", block_bytes, depth)
    }

    /// Writes the whole file once, where it is not there.
    pub(super) fn lay_out(&self) -> Result<(), Failure> {
        if fs::metadata(&self.file).is_ok_and(|file| file.len() >= self.bytes as u64) {
            return Ok(());
        }
        self.start(&["--rw=write", "--bs=1048576", "--iodepth=16"])
            .map(drop)
    }

    fn run(&self, kind: &str, block_bytes: usize, depth: u32) -> Result<Reached, Failure> {
        let arguments = [
            format!("--rw={kind}"),
            format!("--bs={block_bytes}"),
            format!("--iodepth={depth}"),
            format!("--runtime={}ms", self.duration.as_millis()),
            "--time_based".to_owned(),
        ];
        let json = self.start(&arguments.each_ref().map(String::as_str))?;
        let direction = if kind == "write" { "write" } else { "read" };
        reached(&json, direction).ok_or_else(|| {
            Failure::new(
                "the report of fio has no figures",
                "run fio by hand and look",
            )
        })
    }

    fn start(&self, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut filename = OsString::from("--filename=");
        filename.push(&self.file);
        let mut command = Command::new("fio");
        command
            .args(["--name=ssd", "--direct=1", "--ioengine=io_uring"])
            .args(["--output-format=json", "--randrepeat=1", "--norandommap"])
            .args(["--lat_percentiles=1", "--clat_percentiles=0"])
            .arg(filename)
            .arg(format!("--size={}", self.bytes))
            .args(arguments);
        if let Some(cpu) = self.cpu {
            command.arg(format!("--cpus_allowed={cpu}"));
        }
        let output = command.output();
        let output = output.map_err(|error| {
            Failure::new(format!("cannot start fio ({error})"), "run it by hand")
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("no word").to_owned();
        Err(Failure::new(
            format!("fio failed ({first})"),
            "check room and rights in --directory",
        ))
    }
}

impl Drop for Fio {
    fn drop(&mut self) {
        // It may never have been made.
        drop(fs::remove_file(&self.file));
    }
}

/// Reads rate, processor time and median latency out of fio's JSON.
pub(super) fn reached(json: &[u8], direction: &str) -> Option<Reached> {
    // Warnings may stand in front.
    let start = json.iter().position(|&byte| byte == b'{')?;
    let report: serde_json::Value = serde_json::from_slice(&json[start..]).ok()?;
    let job = &report["jobs"][0];
    let side = &job[direction];
    let bytes = side["io_bytes"].as_f64().filter(|bytes| *bytes > 0.0)?;
    let cpu_percent = job["usr_cpu"].as_f64()? + job["sys_cpu"].as_f64()?;
    // Percent of the job's own time, in milliseconds.
    let cpu_ns = job["job_runtime"].as_f64()? * cpu_percent * 1e4;
    Some(Reached {
        bytes_per_s: side["bw_bytes"].as_f64()?,
        cpu_ns_per_byte: cpu_ns / bytes,
        p50_us: side["lat_ns"]["percentile"]["50.000000"].as_f64()? / 1e3,
    })
}
