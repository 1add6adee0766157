//! The `--auth` file: access key, secret and tenant triples.
//!
//! ```toml
//! [[credential]]
//! access-key = "serving"
//! secret-key = "at least sixteen bytes of secret"
//! tenant = "default"
//! ```
//!
//! The file is the whole secret of the node, so it is refused unless it belongs to the daemon's
//! user and nobody else may read it. No error message repeats a secret.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::seam::Credential;
use crate::settings::SettingsError;
use crate::settings::sources::{file_error, read_bounded};

/// Most credentials in one file.
pub const CREDENTIALS_MAX: usize = 1_024;

/// Bounds of the three fields in bytes. A secret below 16 bytes would be guessed.
const ACCESS_KEY_LEN: std::ops::RangeInclusive<usize> = 1..=128;
const SECRET_KEY_LEN: std::ops::RangeInclusive<usize> = 16..=1_024;
const TENANT_LEN: std::ops::RangeInclusive<usize> = 1..=64;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    credential: Vec<Line>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Line {
    access_key: String,
    secret_key: String,
    tenant: String,
}

/// Reads and checks the file for a daemon that runs as `uid`.
///
/// # Errors
/// Not readable, foreign or open to others, malformed, empty, a field out of bounds, an access key
/// twice: the operator corrects the file.
pub fn load(file: &Path, uid: u32) -> Result<Vec<Credential>, SettingsError> {
    let refuse = |cause: String, remedy| Err(file_error(file, cause, remedy));
    let text = read_bounded(file)?;
    let metadata = std::fs::metadata(file).map_err(|error| {
        file_error(
            file,
            format!("cannot be read: {error}"),
            "check the path and its permissions",
        )
    })?;
    if metadata.uid() != uid {
        let cause = format!(
            "belongs to uid {}, the daemon runs as {uid}",
            metadata.uid()
        );
        return refuse(cause, "chown it to the daemon's user");
    }
    if metadata.mode() & 0o077 != 0 {
        let cause = format!(
            "has mode {:04o}, others may open it",
            metadata.mode() & 0o7777
        );
        return refuse(cause, "chmod it to 0600");
    }
    // The parser's own message could quote a line with a secret; its position is enough.
    let parsed: File = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        file_error(
            file,
            format!("line {line} is not understood"),
            "write [[credential]] tables with access-key, secret-key and tenant",
        )
    })?;
    check(parsed.credential).map_err(|(cause, remedy)| file_error(file, cause, remedy))
}

/// Checks the lines of a well-formed file; a refusal is its cause and its remedy.
fn check(lines: Vec<Line>) -> Result<Vec<Credential>, (String, &'static str)> {
    if lines.is_empty() {
        return Err((
            "holds no credential".to_owned(),
            "add a [[credential]] table",
        ));
    }
    if lines.len() > CREDENTIALS_MAX {
        return Err((
            format!("holds {} credentials", lines.len()),
            "keep at most 1024",
        ));
    }
    let mut credentials: Vec<Credential> = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        let bounds = [
            ("access-key", line.access_key.len(), ACCESS_KEY_LEN),
            ("secret-key", line.secret_key.len(), SECRET_KEY_LEN),
            ("tenant", line.tenant.len(), TENANT_LEN),
        ];
        if let Some((name, len, _)) = bounds.iter().find(|(_, len, range)| !range.contains(len)) {
            let cause = format!("credential {}: {name} has {len} bytes", index + 1);
            let remedy = "access-key takes 1 to 128, secret-key 16 to 1024, tenant 1 to 64";
            return Err((cause, remedy));
        }
        if credentials
            .iter()
            .any(|held| held.access_key == line.access_key)
        {
            let cause = format!(
                "credential {}: its access-key stands above already",
                index + 1
            );
            return Err((cause, "give every credential its own access-key"));
        }
        credentials.push(Credential {
            access_key: line.access_key,
            secret_key: line.secret_key,
            tenant: line.tenant,
        });
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &str = "[[credential]]\naccess-key = \"a\"\nsecret-key = \"0123456789abcdef\"\n\
                        tenant = \"default\"\n";

    fn attempt(text: &str, mode: u32) -> Result<Vec<Credential>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let uid = std::fs::metadata(&file).unwrap().uid();
        load(&file, uid).map_err(|error| error.to_string())
    }

    #[test]
    fn a_private_well_formed_file_loads() {
        let credentials = attempt(GOOD, 0o600).unwrap();
        assert_eq!(credentials.len(), 1);
        assert_eq!(credentials[0].tenant, "default");
    }

    #[test]
    fn a_file_open_to_others_is_refused() {
        for mode in [0o644, 0o640, 0o606] {
            let error = attempt(GOOD, mode).unwrap_err();
            assert!(
                error.contains("others may open it; chmod it to 0600"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("auth.toml");
        std::fs::write(&file, GOOD).unwrap();
        let other = std::fs::metadata(&file).unwrap().uid() + 1;
        assert!(
            load(&file, other)
                .unwrap_err()
                .to_string()
                .contains("chown")
        );
    }

    #[test]
    fn malformed_files_are_refused_without_quoting_a_secret() {
        let twice = format!("{GOOD}{GOOD}");
        let short = GOOD.replace("0123456789abcdef", "s3cret");
        let broken = GOOD.replace("tenant =", "tenannt =");
        let unclosed = GOOD.replace("cdef\"", "cdef");
        for (text, cause) in [
            ("", "holds no credential"),
            (&twice, "stands above already"),
            (&short, "secret-key has 6 bytes"),
            (&broken, "is not understood"),
            (&unclosed, "line 3 is not understood"),
        ] {
            let error = attempt(text, 0o600).unwrap_err();
            assert!(error.contains(cause), "{error}");
            assert!(
                !error.contains("0123456789") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }
}
