//! Probe files: a container's probes look whether they exist.
//!
//! The health file is there from the start to the end of the process, the ready file while the node
//! takes work: from the moment it serves to the beginning of its drain. Files that a killed daemon
//! left behind are removed before the start. Runs on: control thread, outside of any request.

use std::io;
use std::path::{Path, PathBuf};

use crate::seam::StartError;

/// The files of this process; removed when dropped.
#[derive(Debug)]
pub struct Probes {
    health: Option<PathBuf>,
    ready: Option<PathBuf>,
}

impl Probes {
    /// Removes what an earlier process left, and makes the health file.
    ///
    /// # Errors
    /// The kernel's word and the setting to change.
    pub fn start(health: Option<PathBuf>, ready: Option<PathBuf>) -> Result<Self, StartError> {
        for path in [&health, &ready].into_iter().flatten() {
            remove(path).map_err(|error| refuse(path, "remove", &error))?;
        }
        let probes = Self { health, ready };
        if let Some(path) = &probes.health {
            make(path).map_err(|error| refuse(path, "make", &error))?;
        }
        Ok(probes)
    }

    /// The node takes work from now on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn set_ready(&self) -> Result<(), StartError> {
        match &self.ready {
            Some(path) => make(path).map_err(|error| refuse(path, "make", &error)),
            None => Ok(()),
        }
    }

    /// The node takes no more work.
    pub fn set_draining(&self) {
        if let Some(Err(error)) = self.ready.as_deref().map(remove) {
            tracing::warn!(%error, "the ready file stays");
        }
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for path in [&self.health, &self.ready].into_iter().flatten() {
            drop(remove(path));
        }
    }
}

/// An empty file, and the directories above it where they are missing.
fn make(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, [])
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn refuse(path: &Path, what: &str, error: &io::Error) -> StartError {
    StartError {
        cause: format!("cannot {what} the probe file {}: {error}", path.display()),
        remedy: "give another --health-file or --ready-file".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_the_life_of_the_node() {
        let directory = tempfile::tempdir().unwrap();
        let health = directory.path().join("probe/healthy");
        let ready = directory.path().join("probe/ready");
        std::fs::create_dir_all(health.parent().unwrap()).unwrap();
        std::fs::write(&ready, "left by a killed daemon").unwrap();
        let probes = Probes::start(Some(health.clone()), Some(ready.clone())).unwrap();
        assert!(health.exists() && !ready.exists());
        probes.set_ready().unwrap();
        assert!(ready.exists());
        probes.set_draining();
        assert!(health.exists() && !ready.exists());
        drop(probes);
        assert!(!health.exists());
    }

    #[test]
    fn place_that_cannot_be_written_refuses_the_start() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), []).unwrap();
        let error = Probes::start(Some(directory.path().join("file/health")), None).unwrap_err();
        assert!(error.to_string().contains("--health-file"), "{error}");
    }
}
