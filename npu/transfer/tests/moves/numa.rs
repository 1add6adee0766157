//! A card's threads and memory on its own NUMA node, on a simulated host of two nodes: each is one
//! CPU of this machine, and memory is on the node of the CPU that allocates it.

use std::time::{Duration, Instant};

use chariot_device::Direction;
use chariot_npu_sim::Profile;
use chariot_transfer::{Calibration, CoreOptions, DeviceCore, Path};

use crate::process::{ascend, count, is_alone};
use crate::{in_time, model, object, options, pageable, submit};

const LEN: usize = 4 << 20;

/// CPUs that this process may use.
fn allowed() -> Vec<usize> {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: 0 is the calling thread; the set is a local of the size that is said.
    let code = unsafe { libc::sched_getaffinity(0, size, &raw mut set) };
    assert_eq!(code, 0);
    // SAFETY: the CPU is inside the set.
    let has = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    (0..8 * size).filter(has).collect()
}

/// Puts the calling thread on a CPU.
fn run_on(cpu: usize) {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the CPU is one of a set of this size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: 0 is the calling thread; the set is a local of the size that is said.
    let code = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(code, 0);
}

/// Runs a test on a host of two nodes, with the cards on the second. The body is given the CPU of
/// each; the calling thread is on the first.
fn on_two_nodes(test: &str, settings: &[(&str, &str)], body: impl FnOnce([usize; 2])) {
    let cpus = allowed();
    let [first, second, ..] = cpus[..] else {
        println!("skipped: this process may use one CPU alone");
        return;
    };
    let nodes = format!("{first}/{second}");
    let settings = [&[("NUMA", nodes.as_str()), ("CARD_NODES", "1")], settings].concat();
    if is_alone(test, Profile::Cann91, &settings) {
        run_on(first);
        body([first, second]);
    }
}

fn only(cpu: usize) -> &'static [usize] {
    Box::leak(vec![cpu].into_boxed_slice())
}

/// A core whose threads run on a CPU, which is the node's own or, as a planted bug, is not.
fn core_on(cpu: usize) -> DeviceCore {
    let options = CoreOptions {
        numa_node: Some(1),
        node_cpus: Some(only(cpu)),
        ..options(Some(Path::Each))
    };
    DeviceCore::start(ascend().open(0).unwrap(), options).unwrap()
}

/// Moves pageable memory, through staging, into the card and out of it; the quickest of some times.
fn staged(core: &DeviceCore) -> Duration {
    let arena = pageable(LEN);
    let objects = vec![object(core.device(), &arena, 4, LEN / 4)];
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        for direction in [Direction::HostToDevice, Direction::DeviceToHost] {
            let outcomes = submit(core, direction, objects.clone(), in_time()).wait();
            assert_eq!(outcomes, [Ok(())]);
        }
        best = best.min(begun.elapsed());
    }
    best
}

#[test]
fn staging_is_on_the_cards_node_and_elsewhere_it_is_slow() {
    let test = "numa::staging_is_on_the_cards_node_and_elsewhere_it_is_slow";
    // 4 MiB each way take 27 ms of this model, and 12 times that from the other node.
    let settings = [("PRESET", "a3"), ("SCALE", "128"), ("JITTER_US", "0")];
    on_two_nodes(test, &settings, |[far, near]| {
        let good = core_on(near);
        let quick = staged(&good);
        assert_eq!(count(c"far_copies"), 0, "all of it on the node");
        drop(good);
        // The planted bug: staging of threads that are not where they belong.
        let bad = core_on(far);
        let slow = staged(&bad);
        assert!(count(c"far_copies") > 0, "told apart");
        println!("simulated: {quick:?} on the card's node, {slow:?} on the other");
        assert!(slow > 4 * quick, "{quick:?} {slow:?}");
    });
}

#[test]
fn a_card_is_measured_from_its_own_node() {
    let test = "numa::a_card_is_measured_from_its_own_node";
    on_two_nodes(test, &[], |[far, near]| {
        let measured = |cpu| CoreOptions {
            calibration: Calibration::Measured,
            numa_node: Some(1),
            node_cpus: Some(only(cpu)),
            ..CoreOptions::default()
        };
        let card = ascend().open(0).unwrap();
        drop(DeviceCore::start(card.clone(), measured(near)).unwrap());
        assert_eq!(count(c"far_copies"), 0, "although the caller is elsewhere");
        // The planted bug.
        drop(DeviceCore::start(card, measured(far)).unwrap());
        assert!(count(c"far_copies") > 0);
    });
}

#[test]
fn without_a_node_threads_stay_where_they_are() {
    let test = "numa::without_a_node_threads_stay_where_they_are";
    on_two_nodes(test, &[], |_cpus| {
        let options = CoreOptions {
            calibration: Calibration::Fixed(model()),
            ..options(None)
        };
        let core = DeviceCore::start(ascend().open(0).unwrap(), options).unwrap();
        staged(&core);
        // The test's own thread is on the other node, and nobody said where the card is.
        assert!(count(c"far_copies") > 0);
    });
}
