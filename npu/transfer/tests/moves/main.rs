//! The device core from outside: bytes, outcomes, bounds, faults, leaks.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "an integration test is a test module; sizes here are small"
)]

mod bounds;
mod faults;
mod numa;
mod process;
mod random;
mod registering;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_device::{Device, Direction, Host, HostMemory, HostOptions, Runtime};
use chariot_transfer::{
    Arena, Calibration, CallCost, CoreOptions, CostModel, DeviceCore, Fragment, Handle, HostRange,
    ObjectCopy, Path, Submit, Transfer,
};

/// A model in which a batch is cheap; nobody measures a busy machine here.
pub(crate) fn model() -> CostModel {
    let call = |fixed_ns, entry_ns| CallCost { fixed_ns, entry_ns };
    CostModel {
        bytes_per_ns: [30.0, 30.0],
        each: call(5_000.0, 5_000.0),
        queued: Some(call(6_000.0, 500.0)),
        direct: None,
        local: call(6_000.0, 2_000.0),
        local_bytes_per_ns: 500.0,
    }
}

pub(crate) fn options(forced: Option<Path>) -> CoreOptions {
    let calibration = Calibration::Fixed(model());
    CoreOptions {
        calibration,
        forced,
        ..CoreOptions::default()
    }
}

pub(crate) fn host() -> Runtime {
    Host::start(HostOptions {
        device_bytes: 1 << 30,
        ..HostOptions::default()
    })
}

pub(crate) fn core(runtime: &Runtime, forced: Option<Path>) -> DeviceCore {
    DeviceCore::start(runtime.open(0).unwrap(), options(forced)).unwrap()
}

/// An object of `count` fragments of `len`, each in memory of its own.
pub(crate) fn object(device: &Device, arena: &Arc<Arena>, count: usize, len: usize) -> ObjectCopy {
    let fragment = |index| Fragment {
        device: device.alloc(len).unwrap(),
        device_at: 0,
        offset: index * len,
        len,
    };
    let host = HostRange {
        arena: Arc::clone(arena),
        at: 0,
        len: count * len,
    };
    ObjectCopy {
        host,
        fragments: (0..count).map(fragment).collect(),
    }
}

pub(crate) fn pinned(device: &Device, len: usize) -> Arc<Arena> {
    Arena::as_given(device.alloc_host(len).unwrap())
}

pub(crate) fn pageable(len: usize) -> Arc<Arena> {
    Arena::as_given(HostMemory::pageable(vec![0; len]))
}

pub(crate) fn in_time() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// A transfer that there is room for.
pub(crate) fn submit(
    core: &DeviceCore,
    direction: Direction,
    objects: Vec<ObjectCopy>,
    deadline: Instant,
) -> Handle {
    match core.try_submit(Transfer {
        direction,
        objects,
        deadline,
    }) {
        Submit::Accepted(handle) => handle,
        Submit::Full(_) => panic!("no room"),
    }
}
