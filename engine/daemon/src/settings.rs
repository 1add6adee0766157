//! One declaration per setting: the table that everything else is made from.
//!
//! A line of [`SETTINGS`] generates the command line and its `--help`, the environment variable,
//! the key of the configuration file, `--print-config` and `deploy/CONFIGURATION.md`. Order of
//! precedence: flag, then environment, then file, then default. This room only collects text and
//! remembers where it came from ([`RawSettings`]); what the text means is decided in `resolve.rs`.

use std::collections::BTreeMap;
use std::fmt;

pub mod document;
pub mod error;
pub mod sources;
pub mod value;

pub use error::{Refusal, SettingsError};

/// Where a setting may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Flag, environment and file.
    Everywhere,
    /// Flag and environment; naming the file inside the file makes no sense.
    FlagAndEnvironment,
    /// Flag only: it says what to do, not how to run.
    FlagOnly,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the flag (without dashes in front) and of the key in the file.
    pub name: &'static str,
    /// Where it may be given.
    pub place: Place,
    /// Name of the value in `--help`; `None` for a switch.
    pub value: Option<&'static str>,
    /// Unit of a bare number; empty when none.
    pub unit: &'static str,
    /// Default, as text that the parser accepts, or empty: unset, or derived as `text` says.
    pub default: &'static str,
    /// What is accepted, for people.
    pub range: &'static str,
    /// True when a change takes effect at the next start only.
    pub needs_restart: bool,
    /// True for settings that serve tests and are left out of `--help`.
    pub hidden: bool,
    /// What it does: one or two sentences.
    pub text: &'static str,
}

impl Setting {
    /// Name of the environment variable: `CHARIOT_` and the name in capitals.
    pub fn environment_name(&self) -> String {
        let mut name = String::from("CHARIOT_");
        name.extend(self.name.chars().map(|c| match c {
            '-' => '_',
            other => other.to_ascii_uppercase(),
        }));
        name
    }

    /// Says whether the setting is a switch (true or false, no value on the command line).
    pub fn is_switch(&self) -> bool {
        self.value.is_none()
    }
}

/// Where the value of a setting came from, strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody gave it.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Default => "default",
            Source::File => "file",
            Source::Environment => "environment",
            Source::Flag => "flag",
        })
    }
}

/// A setting's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The text, not yet understood.
    pub text: String,
    /// Its source.
    pub source: Source,
}

/// What was given, by name of the setting: text only. A setting that nobody gave is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSettings {
    given: BTreeMap<&'static str, Given>,
}

impl RawSettings {
    /// Takes `text` for `setting` unless a stronger source has already spoken.
    pub fn offer(&mut self, setting: &'static Setting, text: String, source: Source) {
        let stronger = self
            .given
            .get(setting.name)
            .is_some_and(|held| held.source > source);
        if !stronger {
            self.given.insert(setting.name, Given { text, source });
        }
    }

    /// What was given for `name`.
    ///
    /// # Panics
    /// When no setting has that name: a typing mistake in this program.
    pub fn get(&self, name: &str) -> Option<&Given> {
        assert!(find(name).is_some(), "no setting is called {name}");
        self.given.get(name)
    }

    /// Everything given, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        self.given.iter().map(|(name, given)| (*name, given))
    }
}

/// Finds a setting by its name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The common shape: everywhere, a value, needs a restart.
const fn value(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    range: &'static str,
    text: &'static str,
) -> Setting {
    Setting {
        name,
        place: Place::Everywhere,
        value: Some(value),
        unit: "",
        default,
        range,
        needs_restart: true,
        hidden: false,
        text,
    }
}

/// A switch: off unless given.
const fn switch(name: &'static str, place: Place, text: &'static str) -> Setting {
    Setting {
        name,
        place,
        value: None,
        unit: "",
        default: "false",
        range: "true or false",
        needs_restart: true,
        hidden: false,
        text,
    }
}

/// All settings, in the order of `--help` and of the document.
pub static SETTINGS: &[Setting] = &[
    value(
        "cores",
        "LIST",
        "auto",
        "auto, or core numbers and ranges such as 0,1 or 0-3; at most 64",
        "Cores to run on, one shard each. auto is the first core this process may use.",
    ),
    Setting {
        unit: "bytes",
        ..value(
            "memory",
            "SIZE",
            "1GiB",
            "128MiB to 16TiB, and 64MiB a shard; rounded down to whole 64MiB",
            "Memory for values: payload, memory lent to writers, quarantine and slack.",
        )
    },
    Setting {
        unit: "bytes",
        ..value(
            "metadata-memory",
            "SIZE",
            "",
            "1MiB to 1TiB",
            "Memory for entries and the index. Unset: a sixteenth of --memory.",
        )
    },
    switch(
        "hugepages",
        Place::Everywhere,
        "Back the arena with reserved huge pages (vm.nr_hugepages) instead of transparent ones.",
    ),
    Setting {
        unit: "microseconds",
        ..value(
            "spin-us",
            "auto|N",
            "auto",
            "auto, or 0 to 1000",
            "How long a shard polls after work before it parks. auto is what a sleep and its wake \
             cost on this machine (measured at the start, 50 to 400), longer where that spares \
             sleeps (to 400), while its core is its own, and 0 when cores are oversubscribed.",
        )
    },
    value(
        "listen",
        "ADDR",
        "127.0.0.1:31501",
        "address:port, port not 0",
        "TCP address for clients.",
    ),
    value(
        "socket",
        "PATH",
        "",
        "absolute path of at most 100 bytes",
        "Unix socket for clients on this host. Unset: chariot-PORT.sock, with the port of \
         --listen, in $XDG_RUNTIME_DIR, else /run/chariot for root, else /tmp/chariot-UID.",
    ),
    value(
        "admin",
        "ADDR",
        "127.0.0.1:31580",
        "address:port; port 0 takes a free one, which is logged",
        "HTTP address for /metrics, /healthz, /readyz, /config and /sessions, and for orders.",
    ),
    value(
        "eviction",
        "POLICY",
        "lru",
        "lru or s3fifo",
        "Which entries leave first when memory is short.",
    ),
    value(
        "ssd",
        "PATH[,PATH...]",
        "",
        "directories, or one block device for each shard",
        "Where the SSD tier lies. What is evicted from memory is written there, survives a \
         restart, and is read back when it is asked for. Without it eviction forgets.",
    ),
    Setting {
        unit: "bytes",
        ..value(
            "ssd-size",
            "SIZE",
            "",
            "64MiB to 256TiB, and 9 segments a shard",
            "Size of the SSD tier, all shards together. Each shard takes its part for a new \
             partition; one that is there keeps its size.",
        )
    },
    Setting {
        unit: "bytes",
        ..value(
            "ssd-segment",
            "SIZE",
            "",
            "1MiB to 1GiB, a power of two",
            "Size of a log segment, and thereby of the largest object on SSD. Default: a \
             sixty-fourth of a partition, 1MiB to 64MiB.",
        )
    },
    Setting {
        unit: "milliseconds",
        ..value(
            "ssd-flush-ms",
            "N",
            "100",
            "1 to 60000",
            "Time between flushes of the SSD: the most that a power cut may cost. A killed daemon \
             loses nothing that was written.",
        )
    },
    value(
        "ssd-admission",
        "POLICY",
        "always",
        "always or second-hit",
        "What is written to SSD: everything that is evicted, or what was evicted before, not too \
         long ago.",
    ),
    Setting {
        unit: "bytes",
        ..value(
            "ssd-bytes-per-day",
            "SIZE",
            "0",
            "0 (no limit) to 1EiB",
            "Most bytes written to SSD in a day of wall clock; when they are spent, eviction \
             forgets what it may.",
        )
    },
    Setting {
        unit: "bytes",
        ..value(
            "ssd-clean-bytes-per-s",
            "SIZE",
            "256MiB",
            "1MiB and more",
            "Most bytes that cleaning of the SSD reads and writes in a second.",
        )
    },
    value(
        "ssd-promote-hits",
        "N",
        "1",
        "1 to 3",
        "From which hit on an object on SSD comes into memory again; those before are answered \
         from the read alone.",
    ),
    Setting {
        unit: "seconds",
        ..value(
            "drain-to-ssd",
            "SECONDS",
            "0",
            "0 to 3600",
            "How long a stop may take to write what is in memory to SSD, so that the next start \
             has it. 0 writes nothing.",
        )
    },
    value(
        "max-sessions",
        "N",
        "1024",
        "1 to 1024",
        "Sessions open at once; more are answered Busy.",
    ),
    Setting {
        unit: "bytes",
        ..value(
            "session-memory",
            "SIZE",
            "",
            "64MiB to 1TiB",
            "Most memory that sessions may take beside --memory, counted in full when a session \
             opens; more are answered Busy. A trusted one needs 704KiB on one shard and about \
             528KiB for each further one; others also a staging copy of 1MiB to 256MiB, a \
             quarter of what is left. A remote one needs 832KiB, and twice the body of each \
             request beyond 256KiB while it is served. Unset: room for --max-sessions trusted \
             ones, and 2GiB.",
        )
    },
    value(
        "allow-uid",
        "LIST",
        "",
        "user ids with commas between; at most 64",
        "Users beside the daemon's own whose sessions are trusted with writable memory. Others \
         write through a staging copy.",
    ),
    value(
        "allow-gid",
        "LIST",
        "",
        "group ids with commas between; at most 64",
        "Groups whose sessions are trusted with writable memory.",
    ),
    value(
        "auth",
        "FILE",
        "",
        "a TOML file of mode 0600 that belongs to the daemon's user",
        "Credentials: [[credential]] tables with access-key, secret-key and tenant. With it, every \
         session proves a secret.",
    ),
    switch(
        "insecure-listen",
        Place::Everywhere,
        "Allow --listen beyond loopback without --auth: anyone who reaches the port may read and \
         write.",
    ),
    value(
        "etcd",
        "LIST",
        "",
        "URLs http://host:port with commas between; at most 16",
        "Register this node with etcd under a lease, while it lives. The node serves whether or \
         not etcd is there. Unset: a cluster of one.",
    ),
    value(
        "cluster",
        "NAME",
        "chariot",
        "1 to 64 of letters, digits, dot, dash and underscore",
        "The cluster to register in.",
    ),
    value(
        "advertise",
        "ADDR",
        "",
        "IP:port",
        "The address that --etcd shows to others. Unset: that of --listen, which others must then \
         be able to reach: not 0.0.0.0, and 127.0.0.1 only when etcd is there too.",
    ),
    value(
        "health-file",
        "PATH",
        "",
        "a path that the daemon can write",
        "A file that is there while the process lives, for probes that look for one.",
    ),
    value(
        "ready-file",
        "PATH",
        "",
        "a path that the daemon can write",
        "A file that is there while the node takes work: from its start to its drain.",
    ),
    value(
        "log",
        "LEVEL",
        "info",
        "off, error, warn, info, debug or trace",
        "How much is logged, to stderr.",
    ),
    Setting {
        hidden: true,
        ..value(
            "shards-per-core",
            "N",
            "1",
            "1 to 64",
            "Logical shards on each core: for tests of many shards on few cores.",
        )
    },
    Setting {
        place: Place::FlagAndEnvironment,
        ..value(
            "config",
            "FILE",
            "",
            "a TOML file",
            "Configuration file: the names on this page as keys. An unknown key is an error.",
        )
    },
    switch(
        "print-config",
        Place::FlagOnly,
        "Print the settings in force, as a configuration file, with the source of each; then exit.",
    ),
    switch(
        "check-config",
        Place::FlagOnly,
        "Check the settings, say what is wrong, and exit: 0 when they are good, 2 when not.",
    ),
    switch(
        "doctor",
        Place::FlagOnly,
        "Check kernel, io_uring, limits, memory, cores and container for these settings, print a \
         table with remedies, and exit: 0 when a start would succeed, 1 when not.",
    ),
    Setting {
        place: Place::FlagOnly,
        ..value(
            "expel",
            "ID",
            "",
            "a session's id from /sessions",
            "Tell the daemon at --admin and --socket to refuse a local session from now on, and \
             exit. What it pins or leases stays in quarantine until its farewell or death.",
        )
    },
    switch(
        "kill",
        Place::FlagOnly,
        "With --expel: end the session's process (SIGKILL) as well, which frees what it holds.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_declared_once_and_completely() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(
                !SETTINGS[..index].iter().any(|s| s.name == setting.name),
                "{}",
                setting.name
            );
            assert!(
                setting
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
            assert!(setting.text.ends_with('.'), "{}: a sentence", setting.name);
            assert!(!setting.range.is_empty(), "{}", setting.name);
            assert!(
                !setting.text.contains('|'),
                "{}: breaks the table",
                setting.name
            );
        }
    }

    #[test]
    fn a_stronger_source_wins_in_any_order() {
        let memory = find("memory").unwrap();
        for order in [[Source::File, Source::Flag], [Source::Flag, Source::File]] {
            let mut raw = RawSettings::default();
            for source in order {
                raw.offer(memory, source.to_string(), source);
            }
            assert_eq!(raw.get("memory").unwrap().text, "flag");
        }
    }

    #[test]
    #[should_panic(expected = "no setting is called memroy")]
    fn asking_for_an_unknown_setting_is_a_bug() {
        let _ = RawSettings::default().get("memroy");
    }
}
