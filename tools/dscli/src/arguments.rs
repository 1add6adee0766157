//! The command line, as the releases before this one took it: options, then `-w` and everything
//! behind it for the worker.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::CliError;

/// How long a start may take unless `-t` says otherwise.
const START_WITHIN: Duration = Duration::from_secs(90);
/// How long a stop may take before the node is killed.
const STOP_WITHIN: Duration = Duration::from_mins(30);

pub(crate) const HELP: &str = "\
usage: dscli [--version] [-h] COMMAND ...

  start  [-t S] [-d DIR] [--strict] [-C CPUS] (-w --FLAG VALUE ... | -f FILE)
         start a node; -d takes the place of the leading ./ of default paths;
         -C (--physcpubind) names its cores; --strict refuses unknown flags
  stop   [-t S] (-w ADDRESS | -f FILE)       stop a node: drain, then SIGKILL after S
  status [-w ADDRESS] [--etcd_address LIST [--cluster_name NAME]]
         say whether a node runs and is ready; list the members of a cluster
  generate_config [-o DIR]                   write worker_config.json

flags of the worker: those of chariot-ds 0.1.6 and later; what each one does here is in
the migration page of the Python room. Exit status: 0 done, 1 failed.";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Text(String),
    Start(StartOrder),
    Stop(StopOrder),
    Status(StatusOrder),
    GenerateConfig { directory: PathBuf },
    NotYet { name: String, why: &'static str },
}

/// Where the flags of a worker come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// `-w --name value ...`.
    Flags(Vec<(String, String)>),
    /// `-f FILE`.
    File(PathBuf),
}

/// `start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartOrder {
    pub worker: Worker,
    pub within: Duration,
    pub home: Option<PathBuf>,
    pub strict: bool,
    pub cores: Option<String>,
}

/// `stop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StopOrder {
    pub address: Result<String, PathBuf>,
    pub within: Duration,
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StatusOrder {
    pub address: Option<String>,
    pub etcd: Option<String>,
    pub cluster: Option<String>,
}

/// Understands the arguments behind the program's name.
///
/// # Errors
/// [`CliError::Usage`] with what is wrong.
pub(crate) fn parse(arguments: Vec<String>) -> Result<Command, CliError> {
    let mut rest = arguments.into_iter();
    let Some(name) = rest.next() else {
        return Ok(Command::Text(HELP.to_owned()));
    };
    match name.as_str() {
        "-h" | "--help" => Ok(Command::Text(HELP.to_owned())),
        "--version" => Ok(Command::Text(format!(
            "dscli {}",
            env!("CARGO_PKG_VERSION")
        ))),
        "start" => parse_start(rest),
        "stop" => parse_stop(rest),
        "status" => parse_status(rest),
        "generate_config" => parse_generate(rest),
        "up" | "down" | "runscript" | "collect_log" | "query" => Ok(Command::NotYet {
            name,
            why: "commands over several hosts come with the cluster",
        }),
        "generate_helm_chart" | "generate_cpp_template" | "generate_docker_entryfile" => {
            Ok(Command::NotYet {
                name,
                why: "charts and templates come with a later release",
            })
        },
        _ => Err(CliError::Usage(format!("unknown command {name}"))),
    }
}

fn value(option: &str, rest: &mut impl Iterator<Item = String>) -> Result<String, CliError> {
    rest.next()
        .ok_or_else(|| CliError::Usage(format!("{option} is missing a value")))
}

fn seconds(option: &str, rest: &mut impl Iterator<Item = String>) -> Result<Duration, CliError> {
    let text = value(option, rest)?;
    let number = text.parse::<u32>().ok().filter(|&number| number > 0);
    number
        .map(|number| Duration::from_secs(number.into()))
        .ok_or_else(|| CliError::Usage(format!("{option} takes whole seconds, not {text}")))
}

fn parse_start(mut rest: impl Iterator<Item = String>) -> Result<Command, CliError> {
    let mut order = StartOrder {
        worker: Worker::Flags(Vec::new()),
        within: START_WITHIN,
        home: None,
        strict: false,
        cores: None,
    };
    while let Some(option) = rest.next() {
        match option.as_str() {
            "-w" | "--worker_args" => {
                order.worker = Worker::Flags(parse_flags(rest)?);
                return Ok(Command::Start(order));
            },
            "-f" | "-W" | "--worker_config_path" | "--config_path" => {
                let file = PathBuf::from(value(&option, &mut rest)?);
                order.worker = Worker::File(file);
            },
            "-d" | "--chariotds_home_dir" | "--datasystem_home_dir" => {
                order.home = Some(PathBuf::from(value(&option, &mut rest)?));
            },
            "-t" | "--timeout" => order.within = seconds(&option, &mut rest)?,
            "-C" | "--physcpubind" => order.cores = Some(value(&option, &mut rest)?),
            "--strict" => order.strict = true,
            "-N" | "--cpunodebind" | "-i" | "--interleave" | "-p" | "--preferred" | "-m"
            | "--membind" | "-l" | "--localalloc" => {
                return Err(CliError::Usage(format!(
                    "{option} is not taken: memory lies on the node of its core, name cores with \
                     --physcpubind"
                )));
            },
            _ => return Err(CliError::Usage(format!("start does not know {option}"))),
        }
    }
    match &order.worker {
        Worker::Flags(_) => Err(CliError::Usage("start needs -w or -f".to_owned())),
        Worker::File(_) => Ok(Command::Start(order)),
    }
}

/// `--name value` or `--name=value`, to the end.
fn parse_flags(mut rest: impl Iterator<Item = String>) -> Result<Vec<(String, String)>, CliError> {
    let mut flags = Vec::new();
    while let Some(word) = rest.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(CliError::Usage(format!(
                "No parameter name specified: {word}"
            )));
        };
        let pair = match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => match rest.next() {
                Some(value) => (name.to_owned(), value),
                None => return Err(CliError::Usage(format!("Param {name} is missing a value"))),
            },
        };
        flags.push(pair);
    }
    Ok(flags)
}

fn parse_stop(mut rest: impl Iterator<Item = String>) -> Result<Command, CliError> {
    let mut within = STOP_WITHIN;
    let mut address = None;
    while let Some(option) = rest.next() {
        match option.as_str() {
            "-w" | "--worker_address" => address = Some(Ok(value(&option, &mut rest)?)),
            "-f" | "-W" | "--worker_config_path" | "--config_path" => {
                address = Some(Err(PathBuf::from(value(&option, &mut rest)?)));
            },
            "-t" | "--timeout" => within = seconds(&option, &mut rest)?,
            _ => return Err(CliError::Usage(format!("stop does not know {option}"))),
        }
    }
    match address {
        Some(address) => Ok(Command::Stop(StopOrder { address, within })),
        None => Err(CliError::Usage("stop needs -w or -f".to_owned())),
    }
}

fn parse_status(mut rest: impl Iterator<Item = String>) -> Result<Command, CliError> {
    let mut order = StatusOrder::default();
    while let Some(option) = rest.next() {
        let place = match option.as_str() {
            "-w" | "--worker_address" => &mut order.address,
            "--etcd_address" => &mut order.etcd,
            "--cluster_name" => &mut order.cluster,
            _ => return Err(CliError::Usage(format!("status does not know {option}"))),
        };
        *place = Some(value(&option, &mut rest)?);
    }
    if order.cluster.is_some() && order.etcd.is_none() {
        let text = "--cluster_name needs --etcd_address".to_owned();
        return Err(CliError::Usage(text));
    }
    Ok(Command::Status(order))
}

fn parse_generate(mut rest: impl Iterator<Item = String>) -> Result<Command, CliError> {
    let mut directory = PathBuf::from(".");
    while let Some(option) = rest.next() {
        match option.as_str() {
            "-o" | "--output_path" => directory = PathBuf::from(value(&option, &mut rest)?),
            _ => {
                let text = format!("generate_config does not know {option}");
                return Err(CliError::Usage(text));
            },
        }
    }
    Ok(Command::GenerateConfig { directory })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words = line.split_whitespace().map(str::to_owned).collect();
        parse(words).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_behind_w_goes_to_the_worker() {
        let Ok(Command::Start(order)) =
            parsed("start -t 5 -w --worker_address 127.0.0.1:1 --etcd_address=a:2 --t -w")
        else {
            panic!("a start");
        };
        assert_eq!(order.within, Duration::from_secs(5));
        let Worker::Flags(flags) = order.worker else {
            panic!("flags");
        };
        let pairs: Vec<_> = flags
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let expected = [
            ("worker_address", "127.0.0.1:1"),
            ("etcd_address", "a:2"),
            ("t", "-w"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn malformed_lines_say_what_is_wrong() {
        for (line, word) in [
            ("begin", "unknown command begin"),
            ("start", "needs -w or -f"),
            ("start -w --a", "Param a is missing a value"),
            ("start -w a b", "No parameter name specified: a"),
            ("start -t 0 -w", "whole seconds"),
            ("start -m 0 -w", "--physcpubind"),
            ("stop", "needs -w or -f"),
            ("stop -w", "-w is missing a value"),
            ("status --cluster_name a", "needs --etcd_address"),
            ("generate_config -x", "does not know -x"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(word), "{line}: {said}");
        }
    }

    #[test]
    fn commands_of_a_later_release_say_so() {
        for name in [
            "up",
            "down",
            "runscript",
            "collect_log",
            "generate_helm_chart",
        ] {
            assert!(matches!(parsed(name), Ok(Command::NotYet { .. })), "{name}");
        }
    }
}
