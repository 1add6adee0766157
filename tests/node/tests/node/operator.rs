//! The operator's side: `dscli` starts and stops a real node, and etcd knows it meanwhile.
//!
//! A real etcd runs for each test that needs one, on ports that the kernel chose, with its files in
//! a directory that is removed at the end.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use chariot_client::{Client, ConnectOptions, SetOptions, Target};
use chariot_tests_node::metrics::Metrics;
use chariot_tests_node::{daemon, wait};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// An address whose admin port, 79 above, is free too.
fn free_address() -> SocketAddr {
    let found = (0..100).find_map(|_try| {
        let port = free_port();
        let admin = TcpListener::bind(("127.0.0.1", port.checked_add(79)?));
        admin.is_ok().then_some(port)
    });
    SocketAddr::from(([127, 0, 0, 1], found.unwrap()))
}

/// A child that does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn etcd(directory: &Path, client_port: u16) -> Process {
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(directory.join("etcd"))
        .args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed: scripts/setup.sh does it");
    Process(child)
}

/// `dscli`, with the daemon beside it.
fn dscli(arguments: &[&str], directory: &Path) -> Output {
    daemon::binary();
    let program = daemon::program(&["-p", "dscli"], "dscli");
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let both = [output.stdout.clone(), output.stderr.clone()].concat();
    String::from_utf8(both).unwrap()
}

/// A node that `dscli` started; stopped at the end, whatever happened.
struct Started<'a> {
    address: String,
    directory: &'a Path,
}

impl Started<'_> {
    fn stop(&self) -> Output {
        dscli(&["stop", "-t", "20", "-w", &self.address], self.directory)
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

#[test]
fn the_quick_start_of_old_starts_serves_and_stops() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let text = address.to_string();
    let line = [
        "start",
        "-t",
        "30",
        "-d",
        ".",
        "-w",
        "--worker_address",
        &text,
        "--start_metastore_service",
        "true",
        "--shared_memory_size_mb",
        "128",
        "--rpc_thread_num",
        "64",
    ];
    let output = dscli(&line, directory.path());
    let started = Started {
        address: text.clone(),
        directory: directory.path(),
    };
    let words = said(&output);
    assert!(output.status.success(), "{words}");
    let ok = format!("[INFO] [  OK  ] Start worker service @ {text} success, PID: ");
    assert!(words.contains(&ok), "{words}");
    assert!(
        words.contains("without effect here: rpc_thread_num"),
        "{words}"
    );
    assert!(directory.path().join("chariotds/probe/ready").exists());

    let client = Client::connect(ConnectOptions::new(Target::Tcp(text.clone()))).unwrap();
    client
        .set(b"key", b"value", &SetOptions::default())
        .unwrap();

    let again = dscli(&line, directory.path());
    assert!(!again.status.success() && said(&again).contains("serves there already"));
    let status = dscli(&["status", "-w", &text], directory.path());
    assert!(
        status.status.success() && said(&status).contains("is ready"),
        "{}",
        said(&status)
    );

    let stopped = started.stop();
    let words = said(&stopped);
    assert!(
        stopped.status.success() && words.contains("normally, PID: "),
        "{words}"
    );
    assert!(!directory.path().join("chariotds/probe/ready").exists());
    let gone = dscli(&["stop", "-w", &text], directory.path());
    assert!(!gone.status.success());
    assert!(
        said(&gone).contains("[ERROR] No matching process found for"),
        "{}",
        said(&gone)
    );
}

#[test]
fn a_start_that_fails_shows_what_the_daemon_said() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = taken.local_addr().unwrap().to_string();
    let line = [
        "start",
        "-d",
        ".",
        "-w",
        "--worker_address",
        &text,
        "--start_metastore_service",
        "true",
    ];
    let output = dscli(&line, directory.path());
    let words = said(&output);
    assert!(!output.status.success());
    assert!(
        words.contains("[ERROR] [  FAILED  ] Worker exited with code 1"),
        "{words}"
    );
    assert!(words.contains(&text), "names the address: {words}");
}

#[test]
fn etcd_knows_the_node_while_it_lives_and_again_after_its_own_absence() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let endpoint = format!("127.0.0.1:{port}");
    let address = free_address();
    let text = address.to_string();
    let admin = SocketAddr::from(([127, 0, 0, 1], address.port() + 79));
    // No etcd yet: the node serves all the same.
    let line = [
        "start",
        "-t",
        "30",
        "-d",
        ".",
        "-w",
        "--worker_address",
        &text,
        "--etcd_address",
        &endpoint,
        "--shared_memory_size_mb",
        "128",
        "--cluster_name",
        "test",
    ];
    let output = dscli(&line, directory.path());
    let started = Started {
        address: text.clone(),
        directory: directory.path(),
    };
    assert!(output.status.success(), "{}", said(&output));
    let registered = |count: f64| {
        Metrics::scrape(admin).is_some_and(|metrics| {
            let registrations = metrics.total("chariot_cluster_registrations_total");
            registrations >= count && metrics.total("chariot_cluster_registered") > 0.5
        })
    };
    let members = || {
        let line = [
            "status",
            "--etcd_address",
            &endpoint,
            "--cluster_name",
            "test",
        ];
        said(&dscli(&line, directory.path()))
    };
    let mut server = Some(etcd(directory.path(), port));
    wait::until("the node registers", || registered(1.0));
    assert!(members().contains(&text), "{}", members());

    // etcd goes away and comes back with its data: the node registers again, and serves meanwhile.
    drop(server.take());
    let client = Client::connect(ConnectOptions::new(Target::Tcp(text.clone()))).unwrap();
    wait::until("the loss is noticed", || {
        client
            .set(b"key", b"value", &SetOptions::default())
            .unwrap();
        Metrics::scrape(admin)
            .is_some_and(|metrics| metrics.total("chariot_cluster_registered") < 0.5)
    });
    server = Some(etcd(directory.path(), port));
    wait::until("the node registers again", || registered(2.0));
    assert!(members().contains(&text), "{}", members());

    // A clean stop takes the record away at once, not when the lease lapses.
    assert!(started.stop().status.success());
    let words = members();
    assert!(words.contains("0 members in cluster test"), "{words}");
    drop(server);
}
