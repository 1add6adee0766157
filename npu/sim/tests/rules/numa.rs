//! Rule 13, the host's NUMA nodes: memory of another node than the card's is slow.

use crate::support::{Address, Sim};

const LEN: usize = 4 << 20;
/// How many times slower the other node is on `a2`: about 2 of 25 GB/s.
const FACTOR: f64 = 12.0;

/// Two CPUs that this process may use, as nodes of the simulated host.
fn two_nodes() -> &'static str {
    let [first, second, ..] = allowed()[..] else {
        return "";
    };
    Box::leak(format!("{first}/{second}").into_boxed_str())
}

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

fn run_on(cpu: usize) {
    // SAFETY: a set of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the CPU is one of a set of this size.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: 0 is the calling thread; the set is a local of the size that is said.
    let code = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(code, 0);
}

/// Model time of a copy between host and card, in both directions.
fn both_ways(sim: &Sim, host: Address) -> f64 {
    let (card, stream) = (sim.device_block(LEN), sim.stream());
    let begin = sim.now();
    assert_eq!(sim.copy(card, host, LEN, stream), 0);
    assert_eq!(sim.copy(host, card, LEN, stream), 0);
    assert_eq!(sim.sync(stream), 0);
    (sim.now() - begin) as f64
}

rule!(
    memory_of_the_other_node_is_slow,
    [PRESET = "a2", NUMA = two_nodes(), CARD_NODES = "0,1"],
    |sim| {
        let [first, second, ..] = allowed()[..] else {
            println!("skipped: this process may use one CPU alone");
            return;
        };
        sim.begin(0);
        run_on(first);
        let near = sim.pinned(&vec![1; LEN]);
        run_on(second);
        let far = sim.pinned(&vec![1; LEN]);
        let times = [both_ways(sim, near), both_ways(sim, far)];
        let slower = times[1] / times[0];
        println!("simulated: {slower:.1} times slower from the other node");
        assert!((FACTOR * 0.9..FACTOR * 1.1).contains(&slower), "{slower}");
        assert_eq!(sim.count("far_copies"), 2);
        // The other card hangs on the other node.
        ok!(sim.acl.aclrtSetDevice, 1);
        let turned = both_ways(sim, near) / both_ways(sim, far);
        assert!((FACTOR * 0.9..FACTOR * 1.1).contains(&turned), "{turned}");
    }
);

rule!(
    the_kernel_tells_where_memory_is,
    [PRESET = "a2", NUMA = "kernel", CARD_NODES = "0,63"],
    |sim| {
        sim.begin(1);
        let host = sim.pinned(&vec![1; LEN]);
        let elsewhere = both_ways(sim, host);
        if sim.count("node_unknown") > 0 {
            println!("skipped: this kernel does not tell");
            return;
        }
        // No machine has a node 63 with memory: all of it is on another one than the card.
        assert_eq!(sim.count("far_copies"), 2);
        ok!(sim.acl.aclrtSetDevice, 0);
        let here = both_ways(sim, host);
        if sim.count("far_copies") == 2 {
            assert!(elsewhere > 8.0 * here, "{elsewhere} {here}");
        }
    }
);
