use std::path::Path;

use super::*;

fn surroundings() -> Surroundings {
    Surroundings {
        uid: 1_000,
        affinity: vec![2, 3],
        runtime_dir: Some("/run/user/1000".into()),
    }
}

fn raw(settings: &[(&str, &str)]) -> RawSettings {
    let mut raw = RawSettings::default();
    for (name, text) in settings {
        raw.offer(find(name).unwrap(), (*text).to_owned(), Source::Flag);
    }
    raw
}

fn outcome(settings: &[(&str, &str)]) -> Result<Resolved, String> {
    resolve(&raw(settings), &surroundings()).map_err(|error| error.to_string())
}

#[test]
fn defaults_resolve() {
    let resolved = outcome(&[]).unwrap();
    assert_eq!(resolved.action, Action::Serve);
    assert_eq!(resolved.node.shards, [ShardPlacement { cpu: 2 }]);
    assert_eq!(resolved.node.memory_bytes, 1 << 30);
    assert_eq!(resolved.node.metadata_bytes, 64 << 20);
    assert_eq!(
        resolved.node.socket,
        Path::new("/run/user/1000/chariot-31501.sock")
    );
    assert_eq!(resolved.node.sessions_max, 1_024);
    assert!(resolved.open_on_loopback);
    assert!(!resolved.open_to_network);
    assert!(
        resolved
            .in_force
            .iter()
            .all(|held| held.source == Source::Default)
    );
}

#[test]
fn the_socket_follows_port_user_and_runtime_directory() {
    let settings = raw(&[("listen", "127.0.0.1:7000")]);
    let path = |uid, runtime_dir: Option<&str>| {
        let around = Surroundings {
            uid,
            affinity: vec![0],
            runtime_dir: runtime_dir.map(Into::into),
        };
        resolve(&settings, &around).unwrap().node.socket
    };
    assert_eq!(path(7, Some("/x")), Path::new("/x/chariot-7000.sock"));
    assert_eq!(path(0, None), Path::new("/run/chariot/chariot-7000.sock"));
    assert_eq!(path(7, None), Path::new("/tmp/chariot-7/chariot-7000.sock"));
}

#[test]
fn memory_is_whole_granules_and_metadata_a_sixteenth() {
    let resolved = outcome(&[("memory", "200MiB")]).unwrap();
    assert_eq!(resolved.node.memory_bytes, 192 << 20);
    assert_eq!(resolved.node.metadata_bytes, 12 << 20);
    let resolved = outcome(&[("metadata-memory", "2MiB")]).unwrap();
    assert_eq!(resolved.node.metadata_bytes, 2 << 20);
}

#[test]
fn shards_alternate_between_cores() {
    let resolved = outcome(&[("cores", "4,6"), ("shards-per-core", "8")]).unwrap();
    assert_eq!(resolved.node.shards.len(), 16);
    assert_eq!(resolved.node.shards[0].cpu, 4);
    assert_eq!(resolved.node.shards[1].cpu, 6);
    assert_eq!(resolved.node.shards[2].cpu, 4);
}

#[test]
fn every_refusal_names_setting_cause_and_remedy() {
    let long = format!("/{}", "x".repeat(120));
    let table: &[(&[(&str, &str)], &str)] = &[
        (
            &[("cores", "a")],
            "--cores a: 'a' is neither a core number nor a range; give auto",
        ),
        (
            &[("cores", "0-63"), ("shards-per-core", "2")],
            "are 128 shards; keep the product",
        ),
        (&[("memory", "5XB")], "--memory 5XB: unknown unit, use B"),
        (
            &[("memory", "64MiB")],
            "--memory 64MiB: less than 128MiB; give 128MiB to 16TiB",
        ),
        (&[("memory", "17TiB")], "more than 16TiB"),
        (
            &[("cores", "0-2"), ("memory", "128MiB")],
            "too little for 3 shards",
        ),
        (
            &[("cores", "0-2"), ("memory", "128MiB")],
            "give at least 192MiB",
        ),
        (&[("metadata-memory", "1KiB")], "less than 1MiB"),
        (
            &[("hugepages", "maybe")],
            "neither true nor false; give true or false",
        ),
        (
            &[("spin-us", "fast")],
            "neither auto nor a number; give auto, or 0 to 1000",
        ),
        (&[("listen", "nowhere")], "not an address with a port"),
        (
            &[("listen", "127.0.0.1:0")],
            "port 0 gives clients no address",
        ),
        (
            &[("listen", "0.0.0.0:31501")],
            "give --auth FILE, or --insecure-listen",
        ),
        (&[("socket", &long)], "at most 100 bytes"),
        (&[("admin", "127.0.0.1")], "not an address with a port"),
        (
            &[("admin", "127.0.0.1:31501")],
            "is the address of --listen too",
        ),
        (
            &[("eviction", "fifo")],
            "no such policy; give lru or s3fifo",
        ),
        (&[("max-sessions", "0")], "not between 1 and 1024"),
        (&[("max-sessions", "x")], "not a whole number"),
        (&[("allow-uid", "root")], "'root' is no id; give user ids"),
        (&[("allow-gid", "-1")], "'-1' is no id; give group ids"),
        (&[("auth", "/nonexistent/auth.toml")], "cannot be read"),
        (&[("log", "loud")], "no such level; give off, error"),
        (&[("shards-per-core", "65")], "not between 1 and 64"),
        (
            &[("doctor", "true"), ("check-config", "true")],
            "more than one of them",
        ),
    ];
    for (settings, expected) in table {
        let error = outcome(settings).unwrap_err();
        assert!(error.contains(expected), "{settings:?}: {error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
}

#[test]
fn an_open_port_beyond_loopback_has_to_be_meant() {
    let resolved = outcome(&[("listen", "0.0.0.0:31501"), ("insecure-listen", "true")]).unwrap();
    assert!(resolved.open_to_network);
    assert!(!resolved.open_on_loopback);
}

#[test]
fn the_registered_address_is_one_that_others_reach() {
    let registered = |settings: &[(&str, &str)]| {
        let resolved = outcome(settings).unwrap();
        resolved.membership.map(|etcd| etcd.advertise.to_string())
    };
    assert_eq!(registered(&[]), None);
    assert_eq!(registered(&[("advertise", "10.0.0.1:4")]), None);
    for etcd in ["127.0.0.1:2379", "localhost:2379", "http://[::1]:2379"] {
        let shown = registered(&[("etcd", etcd)]);
        assert_eq!(shown.as_deref(), Some("127.0.0.1:31501"), "{etcd}");
    }
    let beyond = [
        ("etcd", "http://10.0.0.5:2379,http://127.0.0.1:2379"),
        ("advertise", "10.0.0.1:31501"),
    ];
    assert_eq!(registered(&beyond).as_deref(), Some("10.0.0.1:31501"));

    let refused = |settings: &[(&str, &str)]| outcome(settings).unwrap_err();
    let loopback = refused(&[("etcd", "http://10.0.0.5:2379")]);
    let expected = "means another node on every host, and etcd is beyond; give --advertise IP:port";
    assert!(loopback.contains(expected), "{loopback}");
    let anywhere = refused(&[("etcd", "localhost:2379"), ("advertise", "0.0.0.0:31501")]);
    let expected = "--advertise 0.0.0.0:31501: is no address that others could call";
    assert!(anywhere.contains(expected), "{anywhere}");
    let name = refused(&[("advertise", "node-7:31501")]);
    assert!(name.contains("not an address with a port"), "{name}");
}

#[test]
fn the_error_spells_the_setting_as_its_source_does() {
    let setting = find("memory").unwrap();
    for (source, expected) in [
        (Source::Flag, "--memory 1: less"),
        (Source::Environment, "CHARIOT_MEMORY=1: less"),
        (Source::File, "memory = 1 (configuration file): less"),
    ] {
        let mut raw = RawSettings::default();
        raw.offer(setting, "1".to_owned(), source);
        let error = resolve(&raw, &surroundings()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
