//! The page of all settings and the printed configuration, both made from the table.

use std::fmt::Write as _;

use super::{Place, SETTINGS, Setting, Source};

/// A setting in force: its value as text the parser accepts, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value; `None` when it is unset.
    pub text: Option<String>,
    /// Its source.
    pub source: Source,
}

/// Renders `deploy/CONFIGURATION.md`.
pub fn configuration_page() -> String {
    let mut page = String::from(
        "# Configuration of chariotd\n\
         \n\
         Generated from the table in `engine/daemon/src/settings.rs`; a test keeps it in step \
         (`CHARIOT_BLESS=1 cargo test -p chariotd --test daemon` rewrites it).\n\
         \n\
         Order: flag over environment over file over default. An unknown flag or key, or a wrong \
         value, is refused with one line and exit status 2. `chariotd --print-config` prints what \
         is in force and where it came from, in the form of the file; `--check-config` only \
         checks. The file is named by `--config` or `CHARIOT_CONFIG`; there is no default place. \
         Every setting takes effect at the next start.\n\
         \n\
         Sizes are whole numbers with B, KiB, MiB, GiB or TiB. Lists are written `0,1` or, in the \
         file, `[0, 1]` too.\n",
    );
    section(&mut page, "Settings", |s| {
        !s.hidden && s.place == Place::Everywhere
    });
    section(&mut page, "Flags and environment only", |s| {
        s.place == Place::FlagAndEnvironment
    });
    section(&mut page, "Flags only", |s| s.place == Place::FlagOnly);
    section(&mut page, "For tests", |s| s.hidden);
    page
}

fn section(page: &mut String, title: &str, belongs: impl Fn(&Setting) -> bool) {
    let line = |page: &mut String, text: std::fmt::Arguments<'_>| {
        page.write_fmt(text)
            .expect("writing to a string does not fail");
    };
    line(page, format_args!("\n## {title}\n"));
    for setting in SETTINGS.iter().filter(|s| belongs(s)) {
        let value = setting
            .value
            .map_or_else(String::new, |name| format!(" {name}"));
        line(
            page,
            format_args!("\n### `--{}{value}`\n\n{}\n\n", setting.name, setting.text),
        );
        if setting.place != Place::FlagOnly {
            line(
                page,
                format_args!("- environment: `{}`\n", setting.environment_name()),
            );
            let default = if setting.default.is_empty() {
                "unset"
            } else {
                setting.default
            };
            line(
                page,
                format_args!("- default: `{default}`\n- accepted: {}\n", setting.range),
            );
        }
        if !setting.unit.is_empty() {
            line(
                page,
                format_args!("- unit of a bare number: {}\n", setting.unit),
            );
        }
        if setting.place != Place::FlagOnly && !setting.needs_restart {
            line(page, format_args!("- takes effect at once\n"));
        }
    }
}

/// Renders settings as a configuration file that `--check-config` accepts; settings that only a
/// flag may give, and unset ones, appear as comments.
pub fn printed_configuration(in_force: &[InForce]) -> String {
    let mut page = String::from("# chariotd settings in force; the source of each is behind it.\n");
    for InForce {
        setting,
        text,
        source,
    } in in_force
    {
        let line = match (setting.place, text) {
            (Place::FlagOnly, _) => continue,
            (Place::FlagAndEnvironment, Some(text)) => {
                format!("# {} = {}  # {source}\n", setting.name, quoted(text))
            },
            (Place::Everywhere, Some(text)) if setting.is_switch() => {
                format!("{} = {text}  # {source}\n", setting.name)
            },
            (Place::Everywhere, Some(text)) => {
                format!("{} = {}  # {source}\n", setting.name, quoted(text))
            },
            (_, None) => format!("# {} is unset\n", setting.name),
        };
        page.push_str(&line);
    }
    page
}

/// A TOML string; the library does the escaping.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
