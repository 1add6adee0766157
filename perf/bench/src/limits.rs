//! `limits`: what this machine can do without a cache between. `kv` divides by these figures.
//!
//! | name | what is measured |
//! |---|---|
//! | `memcpy` | libc's copy into random slots of a working set, 1 and N threads |
//! | `crc32c` | the hardware checksum over the same working set |
//! | `unix_round_trip` | 64 bytes there and back over a unix stream socket, two CPUs |
//! | `futex_hand_over` | a word there and back between two CPUs, both sleeping on futexes |
//! | `cold_wake` | the same to a side that slept 10 ms, seen by one that spins: a parked shard |
//! | `loopback_tcp` | 1 MiB writes over loopback TCP, one stream |
//! | `iperf3` | the same as iperf3 sees it, where it is installed |

use std::time::Duration;

use serde::Serialize;

use crate::args::LimitsArgs;
use crate::command::{Outcome, json_line, print, progress, seconds};
use crate::failure::Failure;
use crate::latency::LatencyUs;
use crate::machine::Machine;
use crate::text;

pub(crate) mod copying;
mod iperf;
pub(crate) mod lookup;
mod round_trip;
pub(crate) mod tcp;

/// Sizes of one copy: a small value, a block, a large value.
const COPY_SIZES: [usize; 3] = [4 << 10, 64 << 10, 4 << 20];
/// Bytes that all copies of one measurement walk over: beyond every cache.
const WORKING_SET: usize = 512 << 20;
/// Bytes of one write to a socket.
const WRITE_SIZE: usize = 1 << 20;

/// One limit; the JSON line of this command. What does not apply is null.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LimitReport {
    pub bench: &'static str,
    pub name: &'static str,
    pub size_bytes: u64,
    pub threads: u32,
    pub seconds: f64,
    pub ops_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    pub lat_us: Option<LatencyUs>,
    #[serde(flatten)]
    pub machine: Machine,
}

/// What one measurement yields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub name: &'static str,
    pub size_bytes: usize,
    pub threads: usize,
    pub seconds: f64,
    pub ops_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    pub lat_us: Option<LatencyUs>,
}

impl Measured {
    fn report(self, machine: &Machine) -> LimitReport {
        LimitReport {
            bench: "limits",
            name: self.name,
            size_bytes: self.size_bytes as u64,
            threads: u32::try_from(self.threads).unwrap_or(u32::MAX),
            seconds: self.seconds,
            ops_per_s: self.ops_per_s,
            bytes_per_s: self.bytes_per_s,
            lat_us: self.lat_us,
            machine: machine.clone(),
        }
    }

    fn row(&self) -> String {
        let size = text::bytes(self.size_bytes as f64);
        let threads = self.threads;
        let bytes = self
            .bytes_per_s
            .map(|rate| format!("{}/s", text::bytes(rate)));
        let ops = self.ops_per_s.map(text::rate);
        let latency = self.lat_us.map(|lat| {
            format!(
                "p50 {}  p99 {}",
                text::micros(lat.p50),
                text::micros(lat.p99)
            )
        });
        let figures: Vec<String> = [bytes, ops, latency].into_iter().flatten().collect();
        let name = self.name;
        format!(
            "  {name:<22} {size:>10} {threads:>3} thread(s)  {}\n",
            figures.join("  ")
        )
    }
}

/// The command.
pub(crate) fn command(args: &LimitsArgs) -> Result<Outcome, Failure> {
    let duration = seconds(args.seconds)?;
    let machine = Machine::here();
    let plan = Plan {
        duration,
        working_set: WORKING_SET,
        threads: machine.cores,
        iperf: true,
    };
    let mut rows = String::new();
    let bar = progress("limits", plan.steps());
    for measure in plan.measurements() {
        let measured = measure(&plan)?;
        bar.inc(1);
        for one in measured {
            if args.json {
                print(&json_line(&one.report(&machine))?)?;
            } else {
                rows.push_str(&one.row());
            }
        }
    }
    bar.finish_and_clear();
    if !args.json {
        print(&format!("limits of this machine\n{rows}{}", machine.line()))?;
    }
    Ok(Outcome::Clean)
}

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    duration: Duration,
    working_set: usize,
    threads: usize,
    iperf: bool,
}

type Measurement = fn(&Plan) -> Result<Vec<Measured>, Failure>;

impl Plan {
    fn measurements(&self) -> Vec<Measurement> {
        let mut all: Vec<Measurement> = vec![
            |plan| Ok(plan.copies(1)),
            |plan| {
                Ok(if plan.threads > 1 {
                    plan.copies(plan.threads)
                } else {
                    Vec::new()
                })
            },
            |plan| Ok(plan.checksums()),
            |plan| Ok(vec![round_trip::unix(plan.duration)?]),
            |plan| Ok(vec![round_trip::futex(plan.duration)?]),
            |plan| Ok(vec![round_trip::cold_wake(plan.duration)?]),
            |plan| Ok(vec![tcp::one_way(WRITE_SIZE, plan.duration)?]),
        ];
        if self.iperf {
            all.push(|_| Ok(iperf::measure().into_iter().collect()));
        }
        all
    }

    fn steps(&self) -> u64 {
        self.measurements().len() as u64
    }

    fn copies(&self, threads: usize) -> Vec<Measured> {
        let copy = |size| copying::Load {
            kind: copying::Kind::Write,
            size,
            working_set: self.working_set,
            threads,
            cpus: Vec::new(),
            duration: self.duration,
        };
        COPY_SIZES
            .into_iter()
            .flat_map(|size| {
                [
                    copying::memcpy(&copy(size)),
                    copying::nontemporal(&copy(size)),
                ]
            })
            .collect()
    }

    fn checksums(&self) -> Vec<Measured> {
        let sizes = [COPY_SIZES[0], COPY_SIZES[2]];
        sizes
            .map(|size| copying::checksum(size, self.working_set, self.duration))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_measured_at_smoke_size() {
        let plan = Plan {
            duration: Duration::from_millis(5),
            working_set: 8 << 20,
            threads: 2,
            iperf: false,
        };
        let machine = Machine::here();
        let mut names = Vec::new();
        for measure in plan.measurements() {
            for one in measure(&plan).unwrap() {
                assert!(!one.row().is_empty());
                let line = serde_json::to_value(one.report(&machine)).unwrap();
                check_schema(&line);
                names.push(one.name);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        let wanted = [
            "memcpy",
            "copy_nontemporal",
            "crc32c",
            "unix_round_trip",
            "futex_hand_over",
            "cold_wake",
            "loopback_tcp",
        ];
        assert_eq!(names, wanted);
    }

    fn check_schema(line: &serde_json::Value) {
        assert_eq!(line["bench"], "limits");
        for field in ["name", "machine", "kernel", "commit"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        for field in ["size_bytes", "threads", "cores"] {
            assert!(
                line[field].as_u64().is_some_and(|count| count > 0),
                "{field}: {line}"
            );
        }
        let figure = |field: &str| line[field].as_f64().filter(|value| *value > 0.0);
        assert!(figure("seconds").is_some(), "{line}");
        let told = figure("bytes_per_s").or_else(|| figure("ops_per_s"));
        assert!(told.is_some(), "a limit without a figure: {line}");
    }
}
