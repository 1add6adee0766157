//! Collects what was given: command line, environment, configuration file.
//!
//! The command line is parsed by clap, built from the table; its errors are put into one line here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::error::nearest;
use super::{Place, RawSettings, Refusal, SETTINGS, Setting, SettingsError, Source, find};

/// Largest configuration or credentials file that is read, in bytes.
pub const FILE_SIZE_MAX: u64 = 1 << 20;

/// What the command line asks for.
#[derive(Debug)]
pub enum CommandLine {
    /// Settings, to be merged with the other sources.
    Settings(RawSettings),
    /// `--help` or `--version`: print this and exit with 0.
    Text(String),
}

/// The clap command made from the table.
pub fn command(version: &'static str) -> Command {
    let mut command = Command::new("chariotd")
        .version(version)
        .about("Chariot node: a cache of values in shared memory, one shard per core.")
        .after_help(
            "Sizes take B, KiB, MiB, GiB or TiB. Every setting is also an environment variable \
             (CHARIOT_MEMORY) and a key of the configuration file; a flag overrides the \
             environment, which overrides the file.",
        )
        .disable_help_subcommand(true);
    for setting in SETTINGS {
        let mut help = String::from(setting.text);
        if !setting.default.is_empty() && !setting.is_switch() {
            help = format!("{help} [default: {}]", setting.default);
        }
        let arg = Arg::new(setting.name)
            .long(setting.name)
            .help(help)
            .hide(setting.hidden);
        command = command.arg(match setting.value {
            None => arg.action(ArgAction::SetTrue),
            Some(name) => arg
                .action(ArgAction::Set)
                .value_name(name)
                .value_parser(ValueParser::string())
                .allow_hyphen_values(true),
        });
    }
    command
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// Unknown flags, missing values, repeated flags.
pub fn from_command_line(
    arguments: impl IntoIterator<Item = OsString>,
    version: &'static str,
) -> Result<CommandLine, SettingsError> {
    let arguments = std::iter::once(OsString::from("chariotd")).chain(arguments);
    let matches = match command(version).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let mut raw = RawSettings::default();
    for setting in SETTINGS {
        if setting.is_switch() {
            if matches.get_flag(setting.name) {
                raw.offer(setting, "true".to_owned(), Source::Flag);
            }
        } else if let Some(text) = matches.get_one::<String>(setting.name) {
            raw.offer(setting, text.clone(), Source::Flag);
        }
    }
    Ok(CommandLine::Settings(raw))
}

/// Puts clap's answer into one line; help and version are no errors.
fn refuse(error: &clap::Error) -> Result<CommandLine, SettingsError> {
    let named = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    // clap names an argument with its value's name: "--memory <SIZE>".
    let flag = named
        .split([' ', '='])
        .next()
        .unwrap_or_default()
        .to_owned();
    let refusal = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return Ok(CommandLine::Text(error.render().to_string()));
        },
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let typed = flag.trim_start_matches('-');
            let names = SETTINGS.iter().filter(|s| !s.hidden).map(|s| s.name);
            let nearest = nearest(typed, names).map(|name| format!("--{name}"));
            Refusal::UnknownFlag { flag, nearest }
        },
        ErrorKind::ArgumentConflict => Refusal::FlagForm {
            remedy: "give it once".to_owned(),
            cause: "given twice",
            flag,
        },
        ErrorKind::TooManyValues => Refusal::FlagForm {
            remedy: format!("write {flag} alone"),
            cause: "takes no value",
            flag,
        },
        ErrorKind::InvalidValue | ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            let range = find(flag.trim_start_matches('-')).map_or("a value", |s| s.range);
            Refusal::FlagForm {
                remedy: format!("give {range}"),
                cause: "has no value",
                flag,
            }
        },
        _ => Refusal::UnexpectedArgument { argument: named },
    };
    Err(refusal.into())
}

/// Adds what the environment gives. `lookup` answers for one variable.
pub fn from_environment(raw: &mut RawSettings, lookup: impl Fn(&str) -> Option<String>) {
    for setting in SETTINGS.iter().filter(|s| s.place != Place::FlagOnly) {
        if let Some(text) = lookup(&setting.environment_name()) {
            raw.offer(setting, text, Source::Environment);
        }
    }
}

/// Adds what the configuration file gives.
///
/// # Errors
/// The file cannot be read, is no TOML, or has a key or a kind of value that no setting takes.
pub fn from_file(raw: &mut RawSettings, file: &Path) -> Result<(), SettingsError> {
    let text = read_bounded(file)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let message = error.message().replace('\n', ", ");
        file_error(file, format!("line {line}: {message}"), "correct that line")
    })?;
    for (key, value) in &table {
        let Some(setting) = find(key) else {
            let names = SETTINGS
                .iter()
                .filter(|s| s.place == Place::Everywhere)
                .map(|s| s.name);
            return Err(Refusal::UnknownKey {
                key: key.clone(),
                file: file.to_owned(),
                nearest: nearest(key, names).map(str::to_owned),
            }
            .into());
        };
        if setting.place != Place::Everywhere {
            return Err(Refusal::FlagOnlyKey {
                key: key.clone(),
                file: file.to_owned(),
            }
            .into());
        }
        raw.offer(setting, scalar_text(setting, value, file)?, Source::File);
    }
    Ok(())
}

/// The text of a TOML value: strings, whole numbers, booleans, and lists of the first two.
fn scalar_text(
    setting: &Setting,
    value: &toml::Value,
    file: &Path,
) -> Result<String, SettingsError> {
    let element = |value: &toml::Value| match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let text = match value {
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(element)
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        other => element(other),
    };
    text.ok_or_else(|| {
        let cause = format!("key {} holds a {}", setting.name, value.type_str());
        file_error(
            file,
            cause,
            "give a string, a whole number, true, false or a list",
        )
    })
}

/// Reads a small text file.
///
/// # Errors
/// Not readable, larger than 1 MiB, or not UTF-8.
pub fn read_bounded(file: &Path) -> Result<String, SettingsError> {
    let unreadable = |error: std::io::Error| {
        file_error(
            file,
            format!("cannot be read: {error}"),
            "check the path and its permissions",
        )
    };
    let length = std::fs::metadata(file).map_err(unreadable)?.len();
    if length > FILE_SIZE_MAX {
        let cause = format!("has {length} bytes, more than {FILE_SIZE_MAX}");
        return Err(file_error(file, cause, "is it the right file?"));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

pub(crate) fn file_error(file: &Path, cause: String, remedy: &'static str) -> SettingsError {
    Refusal::File {
        file: PathBuf::from(file),
        cause,
        remedy,
    }
    .into()
}
