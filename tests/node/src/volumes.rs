//! Devices and file systems of their own for a test, where root may make them: loop devices with
//! blocks of a chosen size, small file systems that fill up, and one that is frozen.
//!
//! Each maker answers `None` where the machine does not allow it, and says so: the test is then
//! skipped, visibly. What was made goes away on drop, in the order that the fields say.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

#[expect(
    clippy::print_stdout,
    reason = "a test that is skipped says so in its output"
)]
fn skipped(why: &str) {
    println!("SKIPPED: {why}");
}

/// Runs a program; answers what it printed, or `None` after saying why not.
fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) => {
            skipped(&format!("{program} does not start: {error}"));
            return None;
        },
    };
    if output.status.success() {
        return Some(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    skipped(&format!("{program} {}: {}", args.join(" "), said.trim()));
    None
}

fn is_root() -> bool {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        skipped("only root can make devices and mount file systems");
    }
    is_root
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// A block device over a sparse file.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Makes a device of `size_bytes` with logical blocks of `block_bytes`.
    pub fn make(size_bytes: u64, block_bytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        Self::make_in(directory.path(), size_bytes, block_bytes)
    }

    /// Makes one whose file lies in a directory that the caller keeps.
    pub fn make_in(directory: &Path, size_bytes: u64, block_bytes: u32) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let image = tempfile::Builder::new().tempfile_in(directory).unwrap();
        image.as_file().set_len(size_bytes).unwrap();
        let blocks = block_bytes.to_string();
        let args = [
            "--find",
            "--show",
            "--sector-size",
            &blocks,
            text(image.path()),
        ];
        let path = PathBuf::from(run("losetup", &args)?);
        // The device holds the file, whose name nobody needs.
        Some(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // One in use goes away when its last user does.
        run("losetup", &["--detach", text(&self.path)]);
    }
}

/// A mounted file system.
#[derive(Debug)]
pub struct Mounted {
    directory: TempDir,
    _device: Option<LoopDevice>,
}

impl Mounted {
    /// A file system in memory that is full after `size_bytes`.
    pub fn tmpfs(size_bytes: u64) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={size_bytes}");
        let at = text(directory.path());
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", at])?;
        Some(Self {
            directory,
            _device: None,
        })
    }

    /// An ext4 of `size_bytes` on a loop device.
    pub fn ext4(size_bytes: u64) -> Option<Self> {
        let device = LoopDevice::make(size_bytes, 4096)?;
        run("mkfs.ext4", &["-q", "-F", text(device.path())])?;
        Self::mount(device)
    }

    /// What is on a device.
    pub fn mount(device: LoopDevice) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &[text(device.path()), text(directory.path())])?;
        Some(Self {
            directory,
            _device: Some(device),
        })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Changes how much fits into one in memory.
    pub fn resize(&self, size_bytes: u64) {
        let how = format!("remount,size={size_bytes}");
        let done = run("mount", &["-o", &how, text(self.path())]);
        assert!(done.is_some(), "what root mounted root may change");
    }

    /// Lets every write to it hang until the answer is dropped.
    pub fn freeze(&self) -> Option<Frozen> {
        run("fsfreeze", &["--freeze", text(self.path())])?;
        Some(Frozen(self.path().to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a daemon that is just being killed may still hold a file of it.
        run("umount", &["--lazy", text(self.directory.path())]);
    }
}

/// A file system to which nothing is written; it thaws on drop.
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        run("fsfreeze", &["--unfreeze", text(&self.0)]);
    }
}
