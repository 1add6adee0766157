//! The command line: what may be asked for, and the checks that need no daemon.
//!
//! Raw arguments are clap's; each command turns them into a plan of its own, and that is the only
//! validation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chariot_client::{Secret, SharedMemory};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cache::{Address, Daemon};
use crate::failure::Failure;
use crate::text::parse_size;

/// Where a daemon listens unless it is told otherwise.
const DEFAULT_TARGET: &str = "127.0.0.1:31501";

/// Load for a Chariot daemon, and the limits of the machine below it.
#[derive(Debug, Parser)]
#[command(name = "chariot-bench", max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One operation on random keys, as often as it goes or at a rate.
    Kv(KvArgs),
    /// Requests of an inference service: longest prefix, get it, set the rest, check every byte.
    Replay(ReplayArgs),
    /// What this machine can do without a cache: copies, checksums, round trips, loopback TCP.
    Limits(LimitsArgs),
    /// Objects of fragments between host memory and an accelerator, as shares of its copy engine.
    Device(DeviceArgs),
    /// The SSD tier of a daemon, beside fio on the same directory: spill, fill, latency of a get.
    Ssd(SsdArgs),
}

/// Which daemon, and which way to it.
#[derive(Args, Debug)]
pub(crate) struct TargetArgs {
    /// Host and port of the daemon [default: 127.0.0.1:31501].
    #[arg(long, value_name = "ADDR", conflicts_with = "socket")]
    pub target: Option<String>,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Way of the bytes: shared memory when the daemon is on this host, or a fixed one.
    #[arg(long, value_enum, default_value_t = Transport::Auto)]
    pub transport: Transport,
    /// Time that a client polls for an answer before it sleeps [default: the SDK's].
    #[arg(long, value_name = "N")]
    pub spin_us: Option<u64>,
    /// Write and read without checksums.
    #[arg(long)]
    pub no_checksum: bool,
    /// Access key, for a daemon with --auth.
    #[arg(long, value_name = "NAME", requires = "secret_key_file")]
    pub access_key: Option<String>,
    /// File whose first line is the secret that belongs to the access key.
    #[arg(long, value_name = "FILE", requires = "access_key")]
    pub secret_key_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Auto,
    Shm,
    Tcp,
}

impl TargetArgs {
    /// What the flags say; reads the secret.
    pub(crate) fn daemon(&self) -> Result<Daemon, Failure> {
        let address = match (&self.socket, &self.target) {
            (Some(path), _) => Address::Unix(path.clone()),
            (None, target) => Address::Tcp(target.as_deref().unwrap_or(DEFAULT_TARGET).to_owned()),
        };
        let shared_memory = match self.transport {
            Transport::Auto => SharedMemory::Auto,
            Transport::Shm => SharedMemory::Require,
            Transport::Tcp => SharedMemory::Never,
        };
        let spin = self.spin_us.map(Duration::from_micros);
        let credentials = match (&self.access_key, &self.secret_key_file) {
            (Some(name), Some(file)) => Some((name.clone(), read_secret(file)?)),
            _ => None,
        };
        Ok(Daemon {
            address,
            shared_memory,
            spin,
            checksum: !self.no_checksum,
            credentials,
        })
    }
}

/// A secret is a file's, not an argument's: everybody can read a command line.
fn read_secret(file: &Path) -> Result<Secret, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let cause = format!("cannot read the secret in {}: {error}", file.display());
        Failure::new(cause, "name a file whose first line is the secret")
    })?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Secret::new(line.as_bytes().to_vec()))
}

#[derive(Args, Debug)]
pub(crate) struct KvArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// The operation; mixed is four reads to one write.
    #[arg(long, value_enum)]
    pub op: Op,
    /// Bytes of a value.
    #[arg(long, value_parser = parse_size, default_value = "4KiB")]
    pub size: usize,
    /// Number of keys, chosen at random.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u64,
    /// Client threads, each with a session of its own.
    #[arg(long, value_name = "C", default_value_t = 1)]
    pub clients: u32,
    /// Keys of one call [default: 100 for mset, mget and mview, otherwise 1].
    #[arg(long, value_name = "B")]
    pub batch: Option<u32>,
    /// Of the keys that are read, so many in a hundred were never written: misses, as many as the
    /// report then says. For get, view, exist and their batches.
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    pub absent: u8,
    /// Duration of the measurement.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,
    /// Keys per second of all clients together; latencies are then corrected for coordinated
    /// omission [default: as fast as it goes].
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// CPUs of the client threads, such as 1 or 2,4-6.
    #[arg(long, value_name = "LIST")]
    pub client_cpus: Option<String>,
    /// Seed of the choice of keys.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    Set,
    Get,
    View,
    Exist,
    Mset,
    Mget,
    Mview,
    Del,
    Mixed,
}

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// A file of JSON lines, or `synthetic` for seeded multi-turn conversations.
    #[arg(long, value_name = "FILE|synthetic")]
    pub trace: String,
    /// Most requests replayed [default: all of a file, 2000 synthetic ones].
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Bytes of a block of 512 tokens.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64KiB")]
    pub block_bytes: usize,
    /// Keep the times of the trace, X times as fast.
    #[arg(long, value_name = "X", conflicts_with = "as_fast_as_possible")]
    pub time_scale: Option<f64>,
    /// Send each request when the one before is done (the default).
    #[arg(long)]
    pub as_fast_as_possible: bool,
    /// Admin address of the daemon: evictions are then counted by the daemon itself.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// CPU of the client thread.
    #[arg(long, value_name = "LIST")]
    pub client_cpus: Option<String>,
    /// Seed of the synthetic trace.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object instead of a table and a plot.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LimitsArgs {
    /// Duration of each measurement.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    pub seconds: f64,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DeviceArgs {
    /// The accelerator.
    #[arg(long, value_enum)]
    pub backend: BackendArg,
    /// Run on the simulated CANN, whose times are a link model's: never a device's performance.
    #[arg(long)]
    pub simulated: bool,
    /// The simulated machine [default: a3].
    #[arg(long, value_enum, requires = "simulated")]
    pub preset: Option<PresetArg>,
    /// How many times slower than its machine the simulation runs, so that this host's memory keeps
    /// up; figures are given at the machine's speed.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "simulated",
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slower: u32,
    /// The card.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub card: u32,
    /// Threads that submit, one measurement each.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: Vec<u32>,
    /// Keys of one submission, one measurement each.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,32",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub keys: Vec<u32>,
    /// Least duration of each measurement.
    #[arg(long, value_name = "S", default_value_t = 0.3)]
    pub seconds: f64,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendArg {
    Ascend,
    Cuda,
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PresetArg {
    A3,
    A2,
    H200pcie,
}

#[derive(Args, Debug)]
pub(crate) struct SsdArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Admin address of the daemon: bytes and hits are counted by the daemon itself.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:31580")]
    pub admin: String,
    /// Process of the daemon, whose processor time is read [default: the only chariotd here].
    #[arg(long, value_name = "N")]
    pub pid: Option<u32>,
    /// Where fio makes its file: the daemon's --ssd directory, or one on the same file system.
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// What to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "large,blobs,small,dram"
    )]
    pub work: Vec<SsdWork>,
    /// Operations under way at once, ours (keys of one read) and fio's.
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub depth: u32,
    /// Duration of each measurement.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub seconds: f64,
    /// CPU of fio: that of the daemon's shard [default: any].
    #[arg(long, value_name = "CPU")]
    pub fio_cpu: Option<u32>,
    /// CPU of the client threads.
    #[arg(long, value_name = "LIST")]
    pub client_cpus: Option<String>,
    /// Bytes of fio's file.
    #[arg(long, value_parser = parse_size, default_value = "2GiB")]
    pub fio_bytes: usize,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// What `ssd` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SsdWork {
    /// Spill and fill of objects of 1 MiB.
    Large,
    /// Spill and fill of 62 objects of 72 KiB a call.
    Blobs,
    /// Latency of a get of 4 KiB, awake and parked.
    Small,
    /// Latency of hits in memory, idle and while spilling.
    Dram,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("chariot-bench").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|error| error.to_string())
    }

    fn kv(line: &str) -> KvArgs {
        match parse(line).unwrap().command {
            Command::Kv(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn declaration_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn kv_takes_every_flag_of_its_contract() {
        let args = kv(
            "kv --target h:1 --op mget --size 4KiB --keys 10 --clients 2 --batch 100 \
                       --seconds 1.5 --spin-us 7 --no-checksum --json",
        );
        assert_eq!(
            (args.op, args.size, args.keys, args.clients),
            (Op::Mget, 4096, 10, 2)
        );
        assert_eq!(
            (args.batch, args.seconds, args.json),
            (Some(100), 1.5, true)
        );
        let daemon = args.target.daemon().unwrap();
        assert_eq!(daemon.address, Address::Tcp("h:1".into()));
        assert_eq!(
            (daemon.spin, daemon.checksum),
            (Some(Duration::from_micros(7)), false)
        );
    }

    #[test]
    fn credentials_come_together_and_the_secret_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, "sixteen bytes of it\nnot this").unwrap();
        let line = format!(
            "kv --op get --access-key me --secret-key-file {}",
            file.display()
        );
        let credentials = kv(&line).target.daemon().unwrap().credentials;
        let (name, secret) = credentials.unwrap();
        assert_eq!(name, "me");
        assert_eq!(secret.expose(), b"sixteen bytes of it");
        let alone = parse("kv --op get --access-key me").unwrap_err();
        assert!(alone.contains("--secret-key-file"), "{alone}");
        std::fs::remove_file(&file).unwrap();
        let missing = kv(&line).target.daemon().unwrap_err();
        assert!(missing.to_string().contains("cannot read the secret"));
    }

    #[test]
    fn kv_knows_nine_operations() {
        for op in [
            "set", "get", "view", "exist", "mset", "mget", "mview", "del", "mixed",
        ] {
            let args = kv(&format!("kv --op {op}"));
            assert_eq!(serde_json::to_value(args.op).unwrap(), op);
        }
        let refused = parse("kv --op fetch").unwrap_err();
        assert!(refused.contains("set, get, view"), "{refused}");
    }

    #[test]
    fn target_has_a_default_and_excludes_the_socket() {
        assert_eq!(
            kv("kv --op get").target.daemon().unwrap().address,
            Address::Tcp(DEFAULT_TARGET.into())
        );
        let unix = kv("kv --op get --socket /a/b")
            .target
            .daemon()
            .unwrap()
            .address;
        assert_eq!(unix, Address::Unix("/a/b".into()));
        assert!(
            parse("kv --op get --target h:1 --socket /a")
                .unwrap_err()
                .contains("cannot be used")
        );
    }

    #[test]
    fn replay_takes_every_flag_of_its_contract() {
        let line = "replay --socket /s --trace t.jsonl --requests 5 --block-bytes 64KiB \
                    --time-scale 10 --json";
        let Command::Replay(args) = parse(line).unwrap().command else {
            panic!("{line}")
        };
        assert_eq!(
            (args.requests, args.block_bytes, args.time_scale),
            (Some(5), 65_536, Some(10.0))
        );
        parse("replay --trace synthetic --as-fast-as-possible").unwrap();
        let both = "replay --trace synthetic --as-fast-as-possible --time-scale 2";
        assert!(parse(both).unwrap_err().contains("cannot be used"));
        assert!(parse("replay").unwrap_err().contains("--trace"));
    }

    #[test]
    fn limits_takes_json() {
        assert!(
            matches!(parse("limits --json").unwrap().command, Command::Limits(args) if args.json)
        );
    }

    #[test]
    fn device_takes_every_flag_of_its_contract() {
        let line = "device --backend ascend --simulated --preset h200pcie --json";
        let Command::Device(args) = parse(line).unwrap().command else {
            panic!("{line}")
        };
        assert_eq!(
            (args.backend, args.preset),
            (BackendArg::Ascend, Some(PresetArg::H200pcie))
        );
        assert_eq!((args.threads, args.keys), (vec![1, 2, 4, 8], vec![1, 32]));
        assert!(
            parse("device --backend host --preset a3")
                .unwrap_err()
                .contains("--simulated")
        );
        assert!(parse("device").unwrap_err().contains("--backend"));
    }

    #[test]
    fn ssd_takes_a_list_of_work_and_needs_a_directory() {
        let line = "ssd --directory /ssd --work large,small --depth 4 --json";
        let Command::Ssd(args) = parse(line).unwrap().command else {
            panic!("{line}")
        };
        assert_eq!(args.work, [SsdWork::Large, SsdWork::Small]);
        assert_eq!((args.depth, args.fio_bytes), (4, 2 << 30));
        assert!(parse("ssd").unwrap_err().contains("--directory"));
        parse("ssd --directory / --depth 0").unwrap_err();
    }

    #[test]
    fn wrong_size_is_refused_with_the_remedy() {
        let refused = parse("kv --op get --size 4kb").unwrap_err();
        assert!(refused.contains("write bytes or 4KiB"), "{refused}");
    }
}
