//! What the ways reach of the link's peak, in the model's own time: the lane's work is done on the
//! test's thread, whose clock the simulator keeps. Each test runs in a process of its own.

use std::path::PathBuf;

use chariot_ascend_rt_sys::{Libraries, Search};
use chariot_device::{Ascend, Runtime};
use chariot_npu_sim::{Profile, install};

use super::*;
use crate::cost::CallCost;
use crate::object::{HostRange, InFlight, ObjectCopy, Transfer};

const KIB: usize = 1024;
/// The link of the `a3` preset, in bytes per nanosecond.
const A3_LINK: f64 = 39.0;

/// Starts the test again on a simulator, and says whether this is that process.
fn is_alone(test: &str) -> bool {
    if std::env::var_os("LANE_TEST").is_some() {
        return true;
    }
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), Profile::Cann91).unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([
        &format!("lane::tests::{test}"),
        "--exact",
        "--test-threads=1",
        "-q",
    ]);
    command
        .args(["--nocapture"])
        .env("LANE_TEST", "1")
        .env("ASCEND_RT_LIB_DIR", dir.path());
    command
        .env("ASCEND_SIM_DIR", dir.path().join("host"))
        .env("ASCEND_SIM_CLOCK", "virtual");
    command.env("ASCEND_SIM_PRESET", "a3");
    let output = command.output().unwrap();
    let words = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{}", words[0]);
    assert!(output.status.success(), "{test}: {}", words.join("\n"));
    false
}

fn search() -> Search {
    Search::standard(|name| std::env::var_os(name).map(PathBuf::from))
}

/// The calling thread's time of the model in nanoseconds.
fn model_now() -> u64 {
    let libraries = Libraries::open(&search(), &["libascendcl.so"]).unwrap();
    let address = libraries.require("asim_now").unwrap();
    // SAFETY: the simulator declares this symbol with this type.
    let now: extern "C" fn() -> u64 = unsafe { std::mem::transmute(address) };
    now()
}

/// The a3 preset as calibration would find it; time is virtual, so that it is given.
fn a3_model() -> CostModel {
    let each = CallCost {
        fixed_ns: 5_000.0,
        entry_ns: 7_100.0,
    };
    let direct = CallCost {
        fixed_ns: 12_100.0,
        entry_ns: 100.0,
    };
    CostModel {
        bytes_per_ns: [A3_LINK, A3_LINK],
        each,
        queued: Some(each),
        direct: Some(direct),
        local: CallCost {
            fixed_ns: 10_000.0,
            entry_ns: 5_000.0,
        },
        local_bytes_per_ns: 1000.0,
    }
}

fn lane(runtime: &Runtime, direction: Direction, forced: Option<Path>) -> Lane {
    let shared = Shared {
        device: runtime.open(0).unwrap(),
        model: a3_model(),
        probe: Probe::default(),
        place: Place::default(),
        stopped: AtomicBool::new(false),
        forced,
    };
    let queue = Arc::new(Queue::new(1, 64 << 20));
    Lane::new(Arc::new(shared), queue, direction).unwrap()
}

/// Share of the link that one object of fragments reaches, each in device memory of its own.
fn share(direction: Direction, count: usize, len: usize, forced: Option<Path>) -> (f64, Path) {
    let runtime = Ascend::load(&search()).unwrap();
    let mut lane = lane(&runtime, direction, forced);
    let device = lane.shared.device.clone();
    let host = Arena::as_given(device.alloc_host(count * len).unwrap());
    let fragments = (0..count).map(|index| Fragment {
        device: device.alloc(len).unwrap(),
        device_at: 0,
        offset: index * len,
        len,
    });
    let host = HostRange {
        arena: host,
        at: 0,
        len: count * len,
    };
    let object = ObjectCopy {
        host,
        fragments: fragments.collect(),
    };
    let deadline = Instant::now() + Duration::from_mins(5);
    // Twice, as the first pays for staging.
    let mut took = 0;
    for number in 0..2 {
        let transfer = Transfer {
            direction,
            objects: vec![object.clone()],
            deadline,
        };
        let transfer = Arc::new(InFlight::new(transfer, number));
        transfer.set_parts(0, 1);
        let bytes = count * len;
        let part = Part {
            transfer: Arc::clone(&transfer),
            object: 0,
            fragments: 0..count,
            bytes,
        };
        let begun = model_now();
        lane.move_parts(&[part]);
        took = model_now() - begun;
        assert!(transfer.is_done());
    }
    let paths = [Path::Direct, Path::Queued, Path::Gathered, Path::Each];
    let moved = |path: &Path| lane.shared.probe.path(*path).batches() > 0;
    let path = paths.into_iter().find(moved).unwrap();
    let share = (count * len) as f64 / took as f64 / A3_LINK;
    println!(
        "simulated a3, {direction:?} {count} x {len}: {path:?} {:.1} %",
        share * 100.0
    );
    (share, path)
}

#[test]
fn a_loop_of_copies_reaches_a_fifth_of_the_link() {
    if is_alone("a_loop_of_copies_reaches_a_fifth_of_the_link") {
        let (share, _) = share(Direction::HostToDevice, 62, 72 * KIB, Some(Path::Each));
        assert!((0.15..0.30).contains(&share), "{share}");
    }
}

#[test]
fn the_planner_reaches_most_of_the_link_into_the_card() {
    if is_alone("the_planner_reaches_most_of_the_link_into_the_card") {
        for (count, len, least) in [(62, 72, 0.85), (61, 144, 0.90), (28, 1024, 0.95)] {
            let (share, path) = share(Direction::HostToDevice, count, len * KIB, None);
            assert!(share >= least, "{share} of {count} x {len} KiB");
            assert_eq!(path, Path::Direct);
        }
    }
}

#[test]
fn the_planner_reaches_most_of_the_link_out_of_the_card() {
    if is_alone("the_planner_reaches_most_of_the_link_out_of_the_card") {
        for (count, len, least) in [(62, 72, 0.85), (61, 144, 0.90), (28, 1024, 0.95)] {
            let (share, path) = share(Direction::DeviceToHost, count, len * KIB, None);
            assert!(share >= least, "{share} of {count} x {len} KiB");
            assert_eq!(path, Path::Direct);
        }
    }
}
