use std::path::Path;

use super::*;
use crate::resolve::{Surroundings, resolve};
use crate::settings::{RawSettings, Source, find};

fn settings(given: &[(&str, &str)]) -> Resolved {
    let mut raw = RawSettings::default();
    for (name, text) in given {
        raw.offer(find(name).unwrap(), (*text).to_owned(), Source::Flag);
    }
    let around = Surroundings {
        uid: 1,
        affinity: vec![0, 1],
        runtime_dir: None,
    };
    resolve(&raw, &around).unwrap()
}

fn machine() -> Facts {
    Facts {
        kernel_release: "6.6.1".to_owned(),
        kernel: Some((6, 6)),
        io_uring: Ok("with deferred task work".to_owned()),
        seccomp: 0,
        memlock: None,
        may_lock: false,
        open_files: 1 << 20,
        memory_available: 64 << 30,
        cgroup_available: None,
        overcommit: 0,
        hugepages_free: 0,
        hugepage_bytes: 2 << 20,
        shmem_huge: "advise".to_owned(),
        page_bytes: 4_096,
        affinity: vec![0, 1],
        cpu_quota: None,
        numa_nodes: vec![(0, vec![0, 1])],
        pid_namespace_depth: 1,
    }
}

fn refusal() -> Result<String, chariot_shard::ProbeError> {
    let (cause, remedy) = ("no".to_owned(), "lift the sandbox".to_owned());
    Err(chariot_shard::ProbeError { cause, remedy })
}

fn verdict(facts: &Facts, given: &[(&str, &str)], check: &str) -> (Verdict, String) {
    let report = examine(facts, &settings(given));
    let finding = report
        .findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap();
    (finding.verdict, finding.remedy.clone())
}

#[test]
fn a_good_machine_has_nothing_to_complain_of() {
    let report = examine(&machine(), &settings(&[]));
    assert_eq!(report.worst(), Verdict::Ok, "{}", report.table());
}

/// How one test spoils the machine.
type Spoil = fn(&mut Facts);

/// Check, what is wrong with the machine, verdict, words of the remedy.
const SPOILT: &[(&str, Spoil, Verdict, &str)] = &[
    (
        "kernel",
        |f| f.kernel = Some((5, 10)),
        Verdict::Fail,
        "6.6 or newer",
    ),
    (
        "kernel",
        |f| f.kernel = Some((5, 15)),
        Verdict::Warn,
        "6.6 or newer",
    ),
    ("kernel", |f| f.kernel = None, Verdict::Warn, "6.6 or newer"),
    (
        "io_uring",
        |f| f.io_uring = refusal(),
        Verdict::Fail,
        "sandbox",
    ),
    (
        "seccomp",
        |f| {
            f.io_uring = refusal();
            f.seccomp = 2;
        },
        Verdict::Warn,
        "pidfd_open",
    ),
    (
        "memlock",
        |f| f.memlock = Some(65_536),
        Verdict::Fail,
        "LimitMEMLOCK",
    ),
    (
        "memlock",
        |f| f.memlock = Some(8 << 20),
        Verdict::Warn,
        "LimitMEMLOCK",
    ),
    (
        "open files",
        |f| f.open_files = 1_024,
        Verdict::Warn,
        "LimitNOFILE",
    ),
    (
        "memory",
        |f| f.memory_available = 512 << 20,
        Verdict::Fail,
        "lower --memory",
    ),
    (
        "memory",
        |f| f.cgroup_available = Some(512 << 20),
        Verdict::Fail,
        "container",
    ),
    (
        "memory",
        |f| f.memory_available = 1_150 << 20,
        Verdict::Warn,
        "lower --memory",
    ),
    (
        "overcommit",
        |f| f.overcommit = 2,
        Verdict::Warn,
        "vm.overcommit_memory",
    ),
    (
        "huge shmem pages",
        |f| f.shmem_huge = "never".to_owned(),
        Verdict::Warn,
        "advise",
    ),
    (
        "cores",
        |f| f.affinity = vec![1],
        Verdict::Fail,
        "choose --cores from 1",
    ),
    (
        "cpu quota",
        |f| f.cpu_quota = Some(0.5),
        Verdict::Warn,
        "CPU limit",
    ),
    (
        "pid namespace",
        |f| {
            f.kernel = Some((5, 15));
            f.pid_namespace_depth = 2;
        },
        Verdict::Warn,
        "6.5 or newer",
    ),
];

#[test]
fn every_check_can_fail_and_names_its_remedy() {
    for (check, spoil, expected, remedy) in SPOILT {
        let mut facts = machine();
        spoil(&mut facts);
        let (found, text) = verdict(&facts, &[], check);
        assert_eq!(found, *expected, "{check}");
        assert!(text.contains(remedy), "{check}: {text}");
    }
}

#[test]
fn memlock_does_not_bind_a_process_with_the_capability() {
    let mut facts = machine();
    facts.memlock = Some(0);
    facts.may_lock = true;
    assert_eq!(verdict(&facts, &[], "memlock").0, Verdict::Ok);
}

#[test]
fn huge_pages_are_counted_when_asked_for() {
    let given = [("hugepages", "true")];
    let mut facts = machine();
    facts.hugepages_free = 511;
    let (found, remedy) = verdict(&facts, &given, "huge pages");
    assert_eq!(found, Verdict::Fail);
    assert!(remedy.contains("vm.nr_hugepages=512"), "{remedy}");
    facts.hugepages_free = 512;
    assert_eq!(verdict(&facts, &given, "huge pages").0, Verdict::Ok);
}

#[test]
fn cores_of_two_numa_nodes_are_worth_a_warning() {
    let mut facts = machine();
    facts.numa_nodes = vec![(0, vec![0]), (1, vec![1])];
    assert_eq!(
        verdict(&facts, &[("cores", "0,1")], "NUMA").0,
        Verdict::Warn
    );
    assert_eq!(verdict(&facts, &[("cores", "0")], "NUMA").0, Verdict::Ok);
}

/// Writes files below a directory.
fn lay_out(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn facts_are_read_from_proc_and_sys() {
    let root = lay_out(&[
        ("proc/sys/kernel/osrelease", "6.8.0-40-generic\n"),
        ("proc/sys/vm/overcommit_memory", "1\n"),
        (
            "proc/self/status",
            "NSpid:\t9\t1\nCapEff:\t0000000000004000\nSeccomp:\t2\nCpus_allowed_list:\t0-1,4\n",
        ),
        (
            "proc/self/limits",
            "Max locked memory         65536  65536 bytes\nMax open files   1024 4096 files\n",
        ),
        (
            "proc/meminfo",
            "MemAvailable:  1024 kB\nHugePages_Free: 3\nHugepagesize:   2048 kB\n",
        ),
        (
            "sys/kernel/mm/transparent_hugepage/shmem_enabled",
            "always advise [never]\n",
        ),
        ("proc/self/smaps", "1-2 r\nKernelPageSize:       64 kB\n"),
        ("sys/devices/system/node/online", "0-1\n"),
        ("sys/devices/system/node/node1/cpulist", "4-5\n"),
    ]);
    let facts = Facts::read(root.path(), refusal());
    assert_eq!(facts.kernel, Some((6, 8)));
    assert_eq!(facts.overcommit, 1);
    assert_eq!((facts.seccomp, facts.may_lock), (2, true));
    assert_eq!(facts.affinity, [0, 1, 4]);
    assert_eq!((facts.memlock, facts.open_files), (Some(65_536), 1_024));
    assert_eq!((facts.memory_available, facts.hugepages_free), (1 << 20, 3));
    assert_eq!(
        (facts.shmem_huge.as_str(), facts.page_bytes),
        ("never", 64 << 10)
    );
    assert_eq!(facts.numa_nodes, [(0, vec![]), (1, vec![4, 5])]);
    assert_eq!(facts.pid_namespace_depth, 2);
    assert_eq!(facts.cgroup_available, None);
}

#[test]
fn the_tightest_cgroup_limit_counts_in_both_versions() {
    let root = lay_out(&[
        ("proc/self/cgroup", "0::/a/b\n"),
        ("sys/fs/cgroup/a/memory.max", "1000\n"),
        ("sys/fs/cgroup/a/memory.current", "700\n"),
        ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 200\n"),
        ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n"),
    ]);
    let facts = Facts::read(root.path(), Ok(String::new()));
    assert_eq!(facts.cgroup_available, Some(500));
    assert_eq!(facts.cpu_quota, Some(1.5));

    let root = lay_out(&[
        ("proc/self/cgroup", "4:memory:/x\n1:cpu:/\n0::/\n"),
        ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "900\n"),
        ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "100\n"),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        ),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ]);
    let facts = Facts::read(root.path(), Ok(String::new()));
    assert_eq!(facts.cgroup_available, Some(800));
    assert_eq!(facts.cpu_quota, None);
}

#[test]
fn an_unreadable_machine_does_not_refuse_by_itself() {
    let facts = Facts::read(Path::new("/nonexistent"), Ok("fine".to_owned()));
    let report = examine(&facts, &settings(&[]));
    let failed: Vec<_> = report
        .of(Verdict::Fail)
        .map(|finding| finding.check)
        .collect();
    assert_eq!(failed, ["cores"], "only what must be known");
}

#[test]
fn an_ssd_that_cannot_be_used_refuses_and_one_without_direct_io_warns() {
    let refusal = StartError {
        cause: "the cause".to_owned(),
        remedy: "the remedy".to_owned(),
    };
    let device = SsdDevice {
        path: "/dev/nvme0n1".into(),
        size_bytes: 1 << 40,
        block_bytes: 4096,
        is_ours: true,
        is_in_use: false,
    };
    let said = describe(&device);
    assert!(
        said.starts_with("/dev/nvme0n1: 1TiB, logical blocks of 4096 bytes"),
        "{said}"
    );
    let mut report = Report::default();
    judge_ssd(&mut report, &Err(refusal));
    assert_eq!(report.worst(), Verdict::Fail);
    for (is_direct, needed_bytes, verdict) in [
        (true, 10 << 20, Verdict::Ok),
        (false, 10 << 20, Verdict::Warn),
        (true, 30 << 20, Verdict::Fail),
    ] {
        let examined = SsdExamination {
            partitions: 1,
            needed_bytes,
            free_bytes: 20 << 20,
            is_direct,
            devices: vec![device.clone()],
        };
        let mut report = Report::default();
        judge_ssd(&mut report, &Ok(examined));
        assert_eq!(report.worst(), verdict);
    }
}
