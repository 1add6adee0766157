//! The SSD tier on devices and file systems of its own, made by root for the test: one that hangs,
//! one that is full, one that fails, and bare block devices. Skipped, visibly, where the machine
//! does not allow them.

use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chariot_client::Client;
use chariot_tests_node::daemon::{Daemon, binary, with_timeout};
use chariot_tests_node::volumes::{LoopDevice, Mounted};
use chariot_tests_node::wait;

use crate::ssd_faults::{LONG, errors, found, local, push_out, ready, serves, start_over, write};

/// Room for both partitions of 256 MiB and what a file system needs itself.
const VOLUME_BYTES: u64 = 768 << 20;
/// Less than what is pushed out: a partition fails in the midst of its segments.
const SMALL_BYTES: u64 = 48 << 20;
const DEVICE_BYTES: u64 = 256 << 20;
/// A shard that stands still answers nobody: far less than the ten seconds of an I/O that hangs.
const PROMPT: Duration = Duration::from_secs(5);

/// Asks each shard again and again, over TCP, until `stop`; every answer comes in time.
fn keep_asking(daemon: &Daemon, stop: &AtomicBool) -> u64 {
    let client = Client::connect(with_timeout(daemon.remote_options(), PROMPT)).unwrap();
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("asked-{}", answers % 64);
        client.exist(name.as_bytes()).expect("a shard stands still");
        answers += 1;
    }
    answers
}

#[test]
fn a_device_that_hangs_is_given_up_and_holds_up_nobody() {
    let Some(volume) = Mounted::ext4(VOLUME_BYTES) else {
        return;
    };
    let mut daemon = start_over(&volume.path().display().to_string());
    let client = local(&daemon);
    write(&client, 1);
    push_out(&daemon, &client);
    assert!(!found(&client, 1).is_empty());
    assert!(!ready(&daemon).contains("degraded"));
    let Some(frozen) = volume.freeze() else {
        return;
    };
    let stop = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| keep_asking(&daemon, &stop));
        // What is evicted now is never written; who waits for room gets it all the same.
        push_out(&daemon, &client);
        wait::within(LONG, "both partitions are given up", || {
            ready(&daemon).contains("degraded: 2 SSD partitions are given up")
        });
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    println!("{answers} answers while the device hung");
    assert!(errors(&daemon, "hung") >= 2.0, "each one is counted");
    serves(&client);
    assert!(found(&client, 1).is_empty(), "what lies there is missing");
    daemon.assert_alive();
    drop(frozen);
    daemon.kill();
}

#[test]
fn a_file_system_that_is_full_costs_what_did_not_fit_and_nothing_else() {
    let Some(volume) = Mounted::tmpfs(VOLUME_BYTES) else {
        return;
    };
    let mut daemon = start_over(&volume.path().display().to_string());
    // The start asks for room; somebody else takes it afterwards.
    volume.resize(SMALL_BYTES);
    fails_while_pushed_out(&mut daemon);
}

#[test]
fn a_block_device_that_fails_is_given_up_and_holds_up_nobody() {
    let Some(volume) = Mounted::tmpfs(SMALL_BYTES) else {
        return;
    };
    // Sparse, and larger than what the file system under them can hold: writes fail.
    let device = || LoopDevice::make_in(volume.path(), DEVICE_BYTES, 512);
    let (Some(first), Some(second)) = (device(), device()) else {
        return;
    };
    let mut daemon = start_over(&list(&first, &second));
    fails_while_pushed_out(&mut daemon);
}

/// Pushes out more than the device takes, and finds the node well.
fn fails_while_pushed_out(daemon: &mut Daemon) {
    let client = local(daemon);
    write(&client, 1);
    push_out(daemon, &client);
    wait::within(LONG, "writes fail", || {
        push_out(daemon, &client);
        ready(daemon).contains("SSD partitions are given up")
    });
    assert!(errors(daemon, "write") >= 16.0, "each one is counted");
    serves(&client);
    // What is found has the right bytes.
    found(&client, 1);
    write(&client, 2);
    found(&client, 2);
    daemon.assert_alive();
    daemon.kill();
}

fn list(first: &LoopDevice, second: &LoopDevice) -> String {
    format!("{},{}", first.path().display(), second.path().display())
}

/// Runs the daemon with more flags over a device; what it says, and whether it exited with 0.
fn run(ssd: &str, more: &[&str]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    // Free a moment ago: a daemon that is refused never listens, and one that is not is ended.
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [listen, admin] = free.map(|one| one.local_addr().unwrap().to_string());
    let output = Command::new("timeout")
        .arg("30")
        .arg(binary())
        .args([
            "--memory",
            "128MiB",
            "--cores",
            "0",
            "--shards-per-core",
            "2",
        ])
        .args([
            "--ssd",
            ssd,
            "--ssd-size",
            "512MiB",
            "--ssd-segment",
            "4MiB",
        ])
        .args(["--listen", &listen, "--admin", &admin])
        .arg("--socket")
        .arg(directory.path().join("s.sock"))
        .args(more)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn block_devices_with_blocks_of_4_kib_and_of_512_bytes_survive_a_kill() {
    for block_bytes in [4096, 512] {
        let device = || LoopDevice::make(DEVICE_BYTES, block_bytes);
        let (Some(first), Some(second)) = (device(), device()) else {
            return;
        };
        let paths = list(&first, &second);
        let (_, said) = run(&paths, &["--doctor"]);
        let blocks = format!("256MiB, logical blocks of {block_bytes} bytes, blank");
        assert!(said.contains(&blocks), "{said}");
        let mut daemon = start_over(&paths);
        write(&local(&daemon), 1);
        push_out(&daemon, &local(&daemon));
        let before = found(&local(&daemon), 1).len();
        assert!(before > 0);
        let (is_started, said) = run(&paths, &[]);
        assert!(
            !is_started && said.contains("used by another daemon"),
            "{said}"
        );
        let (_, said) = run(&paths, &["--doctor"]);
        assert!(said.contains("a partition of chariotd, in use"), "{said}");
        daemon.kill();
        daemon.restart();
        let after = found(&local(&daemon), 1).len();
        println!("blocks of {block_bytes}: {after} of {before} are there after the kill");
        assert!(after > 0, "what was written came back");
        daemon.kill();
    }
}

#[test]
fn a_block_device_that_is_somebody_elses_is_refused_and_left_alone() {
    let device = || LoopDevice::make(DEVICE_BYTES, 512);
    let (Some(first), Some(second)) = (device(), device()) else {
        return;
    };
    let paths = list(&first, &second);
    let made = Command::new("mkfs.ext4")
        .arg("-q")
        .arg("-F")
        .arg(second.path())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no mkfs.ext4");
        return;
    }
    let (is_started, said) = run(&paths, &[]);
    assert!(
        !is_started && said.contains("holds something else"),
        "{said}"
    );
    let second_path = second.path().to_owned();
    let Some(volume) = Mounted::mount(second) else {
        return;
    };
    let kept = volume.path().join("kept");
    std::fs::write(&kept, b"somebody's diary").unwrap();
    for more in [&[][..], &["--doctor"]] {
        let (is_started, said) = run(&paths, more);
        assert!(!is_started && said.contains("is mounted"), "{said}");
        assert!(said.contains(&second_path.display().to_string()), "{said}");
    }
    assert_eq!(std::fs::read(&kept).unwrap(), b"somebody's diary");
}
