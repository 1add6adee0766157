//! `generate_config`: the configuration of a worker with the names and defaults of chariot-ds
//! 0.1.6.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::CliError;
use crate::flags::{Effect, FLAGS_0_1_6};
use crate::say_info;

/// Name of the file.
pub(crate) const WORKER_CONFIG: &str = "worker_config.json";

/// Writes the file into `directory`, which is made if it is missing.
///
/// # Errors
/// The kernel's word.
pub(crate) fn run(directory: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(directory).map_err(CliError::file(directory))?;
    let path = directory.join(WORKER_CONFIG);
    let text = serde_json::to_string_pretty(&Value::Object(defaults())).expect("plain text");
    std::fs::write(&path, text + "\n").map_err(CliError::file(&path))?;
    say_info(&format!("{} written", path.display()));
    Ok(())
}

fn defaults() -> Map<String, Value> {
    FLAGS_0_1_6
        .iter()
        .map(|flag| {
            let what = match flag.effect {
                Effect::Setting(_) => "mapped",
                Effect::OnlyDefault { why, .. } => why,
                Effect::None => "without effect",
            };
            let entry = json!({ "value": flag.default.unwrap_or_default(), "description": what });
            (flag.name.to_owned(), entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping;

    #[test]
    fn what_is_written_can_be_started_from_once_a_backend_is_named() {
        let directory = tempfile::tempdir().unwrap();
        run(&directory.path().join("new")).unwrap();
        let mut flags =
            mapping::read_file(&directory.path().join("new").join(WORKER_CONFIG)).unwrap();
        assert_eq!(flags.len(), 83);
        let plan = mapping::plan(&flags, Path::new("/base"), false);
        assert!(plan.unwrap_err().to_string().contains("must be specified"));
        let etcd = flags
            .iter_mut()
            .find(|(name, _)| name == "etcd_address")
            .unwrap();
        etcd.1 = "127.0.0.1:2379".to_owned();
        let plan = mapping::plan(&flags, Path::new("/base"), false).unwrap();
        assert_eq!(plan.address, "127.0.0.1:31501");
        assert!(
            plan.idle.is_empty(),
            "a default asks for nothing: {:?}",
            plan.idle
        );
    }
}
