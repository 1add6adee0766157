use std::path::PathBuf;

use clap::Parser;

use super::daemon::{Between, look};
use super::load::Order;
use super::*;
use crate::args::{Cli, Command};
use crate::fake::FakeCache;

const METRICS: &str = "chariot_ssd_written_bytes_total{shard=\"0\"} 1000\n\
                       chariot_ssd_read_bytes_total{shard=\"0\"} 300\n\
                       chariot_ssd_hits_total{shard=\"0\"} 5\n\
                       chariot_ssd_objects{shard=\"0\"} 7\n\
                       chariot_ssd_spilling_bytes{shard=\"0\"} 0\n\
                       chariot_ssd_capacity_bytes{shard=\"0\"} 1000000\n\
                       chariot_ssd_live_bytes{shard=\"0\"} 10\n\
                       chariot_ssd_forgotten_total{shard=\"0\"} 0\n\
                       chariot_ssd_errors_total{shard=\"0\",kind=\"read\"} 0\n";

fn args(directory: PathBuf) -> SsdArgs {
    let words = ["chariot-bench", "ssd", "--directory"].map(std::ffi::OsString::from);
    let words = words.into_iter().chain([directory.into_os_string()]);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Ssd(args) => args,
        other => panic!("{other:?}"),
    }
}

fn spilled() -> Between {
    let before = look(METRICS, 100).unwrap();
    let after = METRICS.replace("_total{shard=\"0\"} 1000", "_total{shard=\"0\"} 3000");
    let mut between = look(&after, 700).unwrap().since(&before, "written");
    between.seconds = 2.0;
    between
}

const FIO: fio::Reached = fio::Reached {
    bytes_per_s: 1000.0,
    cpu_ns_per_byte: 0.3,
    p50_us: 80.0,
};

fn load_of(cache: FakeCache) -> Load<FakeCache> {
    let mut load = Load::new(SMALL, cache);
    load.write_keys(256).unwrap();
    load
}

#[test]
fn rows_compare_bytes_and_processor_time_with_fio() {
    let args = args(PathBuf::from("/"));
    let load = load_of(FakeCache::new(1000));
    let ours = spilled();
    assert_eq!((ours.bytes, ours.cpu_ns), (2000.0, 600.0));
    let row = Row::throughput("fill", &load, &args, &ours, &FIO, 0.0);
    assert_eq!((row.ratio, row.is_met), (Some(1.0), true));
    assert!((row.cpu_ratio.unwrap() - 1.0).abs() < 1e-9);
    assert!(row.line().ends_with("yes"), "{}", row.line());

    let faster = fio::Reached {
        bytes_per_s: 1200.0,
        ..FIO
    };
    let row = Row::throughput("fill", &load, &args, &ours, &faster, 0.0);
    assert!(!row.is_met, "0.83 of fio is not 0.9");
    let thriftier = fio::Reached {
        cpu_ns_per_byte: 0.2,
        ..FIO
    };
    let row = Row::throughput("spill", &load, &args, &ours, &thriftier, 0.1);
    assert!(!row.is_met, "a spill's checksum is the client's");
    let row = Row::throughput("fill", &load, &args, &ours, &thriftier, 0.1);
    assert!(row.is_met, "its checksum is counted apart");
}

#[test]
fn median_that_memory_made_meets_nothing() {
    let mut load = load_of(FakeCache::new(1000));
    let timed = load.time_gets(Duration::from_millis(5), None, 256);
    assert!(timed.gets > 0 && load.flaws() == 0);
    assert!(Row::latency("get awake", &load, &timed, 1.0, &FIO).is_met);
    let row = Row::latency("get awake", &load, &timed, 0.5, &FIO);
    assert!(!row.is_met && row.line().contains("50.0 %"));
    let row = serde_json::to_value(&row).unwrap();
    assert_eq!((&row["bench"], &row["ratio"]), (&"ssd".into(), &().into()));
}

#[test]
fn load_tells_wrong_bytes_misses_and_refused_writes() {
    let mut cache = FakeCache::new(1000);
    cache.damage = true;
    let mut load = load_of(cache);
    load.read_for(Duration::from_millis(5), 4, 256);
    assert!(load.flaws() > 0, "one bit of each value is wrong");

    let mut load = load_of(FakeCache::new(8));
    load.read_for(Duration::from_millis(5), 4, 256);
    assert!(load.missed() > 0 && load.flaws() == 0);

    let mut cache = FakeCache::new(8);
    cache.refuse = true;
    let refused = Load::new(SMALL, cache).write_keys(64).unwrap_err();
    assert!(refused.to_string().contains("writes of 4 KiB failed"));
}

#[test]
fn order_has_every_number_once_and_begins_again() {
    let mut order = Order::new(100, 7);
    let first: Vec<u64> = (0..100).map(|_| order.next()).collect();
    let mut sorted = first.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    assert_ne!(first, sorted);
    assert_eq!(order.next(), first[0]);
}

#[test]
fn figures_of_fio_are_read_from_its_report() {
    let json = br#"fio: a warning
        {"jobs":[{"usr_cpu":5.0,"sys_cpu":15.0,"job_runtime":1000,
        "write":{"io_bytes":200000000,"bw_bytes":200000000,
                 "lat_ns":{"percentile":{"50.000000":80000}}},
        "read":{"io_bytes":0,"bw_bytes":0}}]}"#;
    let reached = fio::reached(json, "write").unwrap();
    assert_eq!((reached.bytes_per_s, reached.p50_us), (2e8, 80.0));
    assert!((reached.cpu_ns_per_byte - 1.0).abs() < 1e-9);
    assert_eq!(fio::reached(json, "read"), None);
    assert_eq!(fio::reached(b"no report", "read"), None);
}

#[test]
fn what_is_missing_is_one_line_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let absent = args(directory.path().join("absent"));
    let shown = Fio::new(&absent, Duration::from_secs(1)).unwrap_err();
    let shown = shown.to_string();
    // Which of the two depends on the machine.
    assert!(
        shown.contains("--directory") || shown.contains("apt-get install"),
        "{shown}"
    );
}
