//! One suite for all backends: what every accelerator has to do behind the safe interface.
//!
//! `host` runs in this process. `ascend` runs on the CANN of this machine where there is one, else
//! on the simulated one, in a process of its own (a runtime is initialised once a process), and
//! there nothing may be skipped. `cuda` runs where a driver is. Each says what ran and what was
//! skipped, and why. Faults that only the simulator can make are in `faults`.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "an integration test is a test module; patterns are bytes"
)]

mod faults;
mod links;
mod order;
mod process;
mod spaces;

use chariot_device::{Cuda, Device, Host, HostMemory, HostOptions, Runtime, Stream};
use chariot_npu_sim::Profile;
use process::{Role, again};

/// What became of a check.
pub(crate) enum Outcome {
    Ran,
    Skipped(&'static str),
}

/// What a check works with.
pub(crate) struct Kit {
    pub(crate) runtime: Runtime,
    pub(crate) device: Device,
}

type Check = (&'static str, fn(&Kit) -> Outcome);

impl Kit {
    pub(crate) fn new(runtime: Runtime) -> Self {
        let device = runtime.open(0).unwrap();
        Self { runtime, device }
    }

    pub(crate) fn stream(&self) -> Stream {
        self.device.stream().unwrap()
    }

    /// Page-locked memory with a pattern.
    pub(crate) fn pinned(&self, len: usize, seed: u64) -> HostMemory {
        let memory = self.device.alloc_host(len).unwrap();
        memory.write_at(0, &pattern(len, seed)).unwrap();
        memory
    }
}

/// Bytes that tell apart where they are and which pattern they are of.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    };
    (0..len).map(|_| next() as u8).collect()
}

/// The bytes of host memory.
pub(crate) fn bytes_of(memory: &HostMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len()];
    memory.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Runs every check, and says what ran. Returns the names of those that were skipped.
fn suite(runtime: Runtime) -> Vec<&'static str> {
    let (kind, versions) = (runtime.kind(), runtime.versions().join(", "));
    println!("conformance of {kind} ({versions})");
    let kit = Kit::new(runtime);
    let (mut ran, mut skipped) = (0, Vec::new());
    for (name, check) in spaces::CHECKS
        .iter()
        .chain(order::CHECKS)
        .chain(links::CHECKS)
    {
        match check(&kit) {
            Outcome::Ran => {
                ran += 1;
                println!("  ran      {name}");
            },
            Outcome::Skipped(why) => {
                skipped.push(*name);
                println!("  skipped  {name}: {why}");
            },
        }
    }
    println!("{kind}: {ran} ran, {} skipped", skipped.len());
    skipped
}

fn host() -> Runtime {
    Host::start(HostOptions {
        devices: 2,
        device_bytes: 1 << 30,
        ..HostOptions::default()
    })
}

#[test]
fn host_conforms() {
    if let Some(role) = Role::of_this() {
        return links::other_process(&role, host());
    }
    assert_eq!(suite(host()), [""; 0]);
    assert_eq!(Stream::forgotten(), 0);
}

#[test]
fn cuda_conforms() {
    match Cuda::load(None) {
        Ok(runtime) if runtime.device_count() == Ok(0) => println!("cuda: skipped, no card"),
        Ok(runtime) => match Role::of_this() {
            Some(role) => links::other_process(&role, runtime),
            None => drop(suite(runtime)),
        },
        Err(absent) => println!("cuda: skipped, {absent}"),
    }
}

#[test]
fn a_machine_without_a_driver_says_so() {
    if let Err(absent) = Cuda::load(Some(std::path::Path::new("/nowhere"))) {
        let text = absent.to_string();
        assert!(text.contains("libcuda.so.1"), "{text}");
        assert!(text.contains("driver"), "{text}");
    }
}

#[test]
fn ascend_conforms() {
    if let Some(role) = Role::of_this() {
        return links::other_process(&role, process::ascend());
    }
    let Some(dir) = process::is_again() else {
        if process::real_ascend() {
            drop(suite(process::ascend()));
            return;
        }
        return again("ascend_conforms", Profile::Cann91, &[("PRESET", "instant")]);
    };
    drop(dir);
    assert_eq!(
        suite(process::ascend()),
        [""; 0],
        "nothing is skipped on the simulator"
    );
    assert_eq!(Stream::forgotten(), 0);
}

#[test]
fn ascend_conforms_when_tasks_come_late() {
    if let Some(role) = Role::of_this() {
        return links::other_process(&role, process::ascend());
    }
    if process::is_again().is_none() {
        let settings = [("PRESET", "instant"), ("SCHEDULE", "late")];
        return again(
            "ascend_conforms_when_tasks_come_late",
            Profile::Cann91,
            &settings,
        );
    }
    assert_eq!(suite(process::ascend()), [""; 0]);
}

#[test]
fn ascend_without_later_symbols_goes_on() {
    if let Some(role) = Role::of_this() {
        return links::other_process(&role, process::ascend());
    }
    if process::is_again().is_none() {
        let settings = [("PRESET", "instant")];
        return again(
            "ascend_without_later_symbols_goes_on",
            Profile::Cann81,
            &settings,
        );
    }
    assert_eq!(
        suite(process::ascend()),
        ["memory_of_another_process_is_copied"]
    );
}
