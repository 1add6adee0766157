//! Tenants, secrets and users: nobody reads or writes what is not theirs, descriptors in hand.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use chariot_client::{Client, ConnectOptions, GetOptions, SetOptions, Status};
use chariot_tests_node::daemon::{Daemon, DaemonOptions, auth_file, status_of, with_credentials};
use chariot_tests_node::pattern;
use chariot_tests_node::probe::Probe;

const PROBE: &str = env!("CARGO_BIN_EXE_chariot-probe");
const RED: (&str, &str) = ("red-key", "the secret of the red ones");
const BLUE: (&str, &str) = ("blue-key", "the secret of the blue ones");

fn two_tenants() -> Daemon {
    Daemon::start_with(&DaemonOptions {
        auth: Some(auth_file(&[
            (RED.0, RED.1, "red"),
            (BLUE.0, BLUE.1, "blue"),
        ])),
        ..DaemonOptions::default()
    })
}

#[test]
fn no_tenant_sees_anothers_keys() {
    let daemon = two_tenants();
    for options in [daemon.local_options(), daemon.remote_options()] {
        let red = Client::connect(with_credentials(options.clone(), RED.0, RED.1)).unwrap();
        let blue = Client::connect(with_credentials(options, BLUE.0, BLUE.1)).unwrap();
        for len in [10, 5_000, 3 << 20] {
            red.set(b"key", &pattern::value(len, 1), &SetOptions::default())
                .unwrap();
            assert!(!blue.exist(b"key").unwrap());
            assert_eq!(blue.get(b"key", &GetOptions::default()).unwrap(), None);
            assert!(!blue.delete(b"key").unwrap());
            blue.set(b"key", &pattern::value(len, 2), &SetOptions::default())
                .unwrap();
            for (client, seed) in [(&red, 1), (&blue, 2)] {
                let read = client.get(b"key", &GetOptions::default()).unwrap();
                assert!(pattern::matches(&read.unwrap(), seed));
            }
            assert!(blue.delete(b"key").unwrap());
            assert!(red.exist(b"key").unwrap());
        }
    }
}

#[test]
fn wrong_or_missing_credentials_are_refused() {
    let daemon = two_tenants();
    for options in [daemon.local_options(), daemon.remote_options()] {
        let foreign = ConnectOptions {
            tenant: "blue".to_owned(),
            ..with_credentials(options.clone(), RED.0, RED.1)
        };
        for wrong in [
            options.clone(),
            with_credentials(options.clone(), RED.0, BLUE.1),
            with_credentials(options.clone(), "nobody", RED.1),
            with_credentials(options.clone(), RED.0, ""),
            foreign,
        ] {
            let refused = Client::connect(wrong).map(drop);
            assert_eq!(status_of(refused), Status::NotAuthorized);
        }
        Client::connect(with_credentials(options, RED.0, RED.1)).unwrap();
    }
    assert!(daemon.metrics().total("chariot_sessions_refused_total") >= 8.0);
}

/// Memory files (device, inode) of all descriptors of a process, by name of the file.
fn memory_files(process: u32) -> Vec<(String, (u64, u64))> {
    let directory = format!("/proc/{process}/fd");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let Ok(name) = std::fs::read_link(&path) else {
            continue;
        };
        let name = name.display().to_string();
        if name.contains("memfd:")
            && let Ok(metadata) = std::fs::metadata(&path)
        {
            files.push((name, (metadata.dev(), metadata.ino())));
        }
    }
    files
}

/// Memory files mapped by a process: (inode, writable).
fn mapped_files(process: u32) -> Vec<(u64, bool, String)> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    maps.lines()
        .filter(|line| line.contains("memfd:"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (
                words[4].parse().unwrap(),
                words[1].contains('w'),
                words[5].to_owned(),
            )
        })
        .collect()
}

#[test]
fn tenants_share_no_memory_with_descriptors_in_hand() {
    let daemon = two_tenants();
    let start = |(access, secret): (&str, &str)| {
        let (mut probe, said) =
            Probe::try_start(PROBE.as_ref(), &daemon.socket(), &[access, secret], None);
        assert_eq!(said, "ok");
        assert_eq!(probe.ask("set key 100000 1"), "ok");
        assert_eq!(probe.ask("hold key 1"), "ok");
        probe
    };
    let (red, blue) = (start(RED), start(BLUE));
    let reachable = |process: u32| {
        let mut inodes: Vec<u64> = memory_files(process)
            .into_iter()
            .map(|(_, (_, inode))| inode)
            .chain(mapped_files(process).into_iter().map(|(inode, ..)| inode))
            .collect();
        inodes.sort_unstable();
        inodes.dedup();
        inodes
    };
    let (reds, blues) = (reachable(red.pid()), reachable(blue.pid()));
    assert!(reds.len() >= 3 && blues.len() >= 3, "{reds:?} {blues:?}");
    let common: Vec<&u64> = reds.iter().filter(|inode| blues.contains(inode)).collect();
    // The life page says only that the daemon lives.
    let names: Vec<String> = mapped_files(red.pid())
        .into_iter()
        .filter(|(inode, ..)| common.contains(&inode))
        .map(|(.., name)| name)
        .collect();
    assert!(common.len() <= 1, "{common:?}: {names:?}");
    assert!(names.iter().all(|name| name.contains("life")), "{names:?}");
}

#[test]
fn another_user_writes_through_staging_and_never_maps_the_arena_writable() {
    let daemon = Daemon::start();
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("SKIPPED: only root can start a client as another user");
        return;
    }
    // Where every user may run it.
    let program: PathBuf = daemon.directory().join("probe");
    std::fs::copy(PROBE, &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(daemon.socket(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (mut probe, said) = Probe::try_start(&program, &daemon.socket(), &[], Some(65_534));
    assert_eq!(said, "ok");
    assert_eq!(probe.ask("place"), "shared");
    for (index, len) in [10, 5_000, 3 << 20].into_iter().enumerate() {
        assert_eq!(
            probe.ask(&format!("set strict/{index} {len} {index}")),
            "ok"
        );
        assert_eq!(probe.ask(&format!("hold strict/{index} {index}")), "ok");
        let read = daemon
            .local()
            .get(format!("strict/{index}").as_bytes(), &GetOptions::default());
        assert!(pattern::matches(&read.unwrap().unwrap(), index as u64));
    }
    assert_eq!(probe.ask("check"), "ok");
    // What it stages in is the sessions' memory: what it touched, and all that it may touch.
    let metrics = daemon.metrics();
    assert!(metrics.total("chariot_session_memory_bytes") >= f64::from(3 << 20));
    assert!(metrics.total("chariot_session_committed_bytes") >= f64::from(256 << 20));
    let mapped = mapped_files(probe.pid());
    let arenas: Vec<_> = mapped
        .iter()
        .filter(|(.., name)| name.contains("arena"))
        .collect();
    assert!(!arenas.is_empty(), "{mapped:?}");
    assert!(
        arenas.iter().all(|(_, writable, _)| !writable),
        "{arenas:?}"
    );
    let indexes = mapped.iter().filter(|(.., name)| name.contains("index"));
    assert!(
        indexes.clone().all(|(_, writable, _)| !writable),
        "{mapped:?}"
    );
    // A descriptor, where it still has one, is read-only, and cannot be opened again for writing.
    for entry in std::fs::read_dir(format!("/proc/{}/fd", probe.pid())).unwrap() {
        let path = entry.unwrap().path();
        let Ok(name) = std::fs::read_link(&path) else {
            continue;
        };
        if name.display().to_string().contains("arena") {
            let mode = std::fs::symlink_metadata(&path)
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o200, 0, "{name:?} is open for writing");
        }
    }
}
