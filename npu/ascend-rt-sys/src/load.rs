//! Opening libraries and finding symbols in them.
//!
//! One interface may be spread over several libraries, differently by version: every candidate that
//! opens is kept, and a symbol is looked for in each, in order.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// Why an interface cannot be used on this machine.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoadError {
    /// No candidate opened: the administrator installs CANN or names its place.
    #[error(
        "{library} cannot be opened ({reason}); install CANN and source its set_env.sh, or name \
         the \
         directory that holds {library} in ASCEND_RT_LIB_DIR"
    )]
    Library {
        /// The first candidate.
        library: String,
        /// What each attempt answered.
        reason: String,
    },
    /// A function that every supported version has is missing: the installation is too old or
    /// broken.
    #[error(
        "{library} has no symbol {symbol}; Chariot needs CANN 7.0 or newer: update it, or let \
         ASCEND_RT_LIB_DIR name the newer installation"
    )]
    Symbol {
        /// The libraries that were searched.
        library: String,
        /// The missing function.
        symbol: &'static str,
    },
    /// A library that only serves linking answers in place of the real one.
    #[error(
        "{library} is the link stub of the toolkit, every call of it fails with 100039; take the \
         devlib/stub directories out of LD_LIBRARY_PATH, so that the driver's library is found"
    )]
    Stub {
        /// Path of the stub.
        library: String,
    },
}

/// Where libraries are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Directories, in order.
    pub dirs: Vec<PathBuf>,
    /// Whether the dynamic linker's own search (`LD_LIBRARY_PATH`, cache) follows the directories.
    pub linker: bool,
}

impl Search {
    /// Looks in `dir` alone.
    #[must_use]
    pub fn only(dir: &Path) -> Self {
        let dirs = vec![dir.to_owned()];
        Self {
            dirs,
            linker: false,
        }
    }

    /// The standard places, as the variables that `variable` reads say: `ASCEND_RT_LIB_DIR` alone
    /// when it is set, else `ASCEND_HOME_PATH` and `ASCEND_TOOLKIT_HOME` (their `lib64`), the
    /// default installation, then the linker's search.
    #[must_use]
    pub fn standard(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        if let Some(dir) = variable("ASCEND_RT_LIB_DIR").filter(|dir| !dir.as_os_str().is_empty()) {
            return Self::only(&dir);
        }
        let homes = ["ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"];
        let mut dirs: Vec<PathBuf> = homes
            .iter()
            .filter_map(|name| variable(name))
            .map(|home| home.join("lib64"))
            .collect();
        for product in ["cann", "ascend-toolkit"] {
            dirs.push(
                Path::new("/usr/local/Ascend")
                    .join(product)
                    .join("latest/lib64"),
            );
        }
        Self { dirs, linker: true }
    }

    /// Files to try for `library`, in order.
    fn candidates(&self, library: &str) -> Vec<PathBuf> {
        let inside = self.dirs.iter().map(|dir| dir.join(library));
        // A path that names no file costs one failed system call; asking first keeps errors short.
        let mut found: Vec<PathBuf> = inside.filter(|path| path.exists()).collect();
        if self.linker {
            found.push(PathBuf::from(library));
        }
        found
    }
}

/// Handles of the libraries that together hold one interface. Never closed.
#[derive(Debug)]
pub struct Libraries {
    names: Vec<String>,
    handles: Vec<NonNull<c_void>>,
}

// SAFETY: a handle is a token that dlsym takes on any thread, and it is never closed.
unsafe impl Send for Libraries {}
// SAFETY: dlsym may be called by many threads at once, and nothing here is changed after opening.
unsafe impl Sync for Libraries {}

impl Libraries {
    /// Opens every candidate of `names` that is there: a symbol may be in any of them.
    ///
    /// # Errors
    /// [`LoadError::Library`] when none opens: go on without the interface.
    ///
    /// # Panics
    /// When `names` is empty.
    pub fn open(search: &Search, names: &[&str]) -> Result<Self, LoadError> {
        assert!(!names.is_empty(), "an interface has a first candidate");
        let mut opened = Self {
            names: Vec::new(),
            handles: Vec::new(),
        };
        let mut reasons: Vec<String> = Vec::new();
        for name in names {
            for path in search.candidates(name) {
                match open_library(&path) {
                    Ok(handle) => {
                        opened.names.push(path.display().to_string());
                        opened.handles.push(handle);
                        break;
                    },
                    Err(reason) => reasons.push(reason),
                }
            }
        }
        if opened.handles.is_empty() {
            if reasons.is_empty() {
                reasons.push(format!("not in {:?}", search.dirs));
            }
            return Err(LoadError::Library {
                library: names[0].to_owned(),
                reason: reasons.join("; "),
            });
        }
        Ok(opened)
    }

    /// Paths of the opened libraries, in the order of search.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the address of `symbol`, if a library has it.
    #[must_use]
    pub fn find(&self, symbol: &str) -> Option<NonNull<c_void>> {
        let symbol = CString::new(symbol).ok()?;
        self.handles.iter().find_map(|handle| {
            // SAFETY: the handle came from dlopen and is never closed, the name ends with a zero.
            NonNull::new(unsafe { libc::dlsym(handle.as_ptr(), symbol.as_ptr()) })
        })
    }

    /// Returns the address of `symbol`.
    ///
    /// # Errors
    /// [`LoadError::Symbol`] when no library has it: the installation does not serve.
    pub fn require(&self, symbol: &'static str) -> Result<NonNull<c_void>, LoadError> {
        self.find(symbol).ok_or_else(|| LoadError::Symbol {
            library: self.names.join(", "),
            symbol,
        })
    }
}

/// Opens one library, or says why not in the linker's words.
fn open_library(path: &Path) -> Result<NonNull<c_void>, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the name ends with a zero; the library's initialisers are those of an installation
    // that the administrator chose, as with any shared library.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    NonNull::new(handle).ok_or_else(|| {
        // SAFETY: dlerror has no conditions; the failed call on this thread set its text.
        let text = unsafe { libc::dlerror() };
        if text.is_null() {
            return format!("{} cannot be opened", path.display());
        }
        // SAFETY: dlerror's text ends with a zero and lives until this thread's next dl call.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_places_follow_the_environment() {
        let set = |names: &'static [(&str, &str)]| {
            move |wanted: &str| {
                let found = names.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| PathBuf::from(value))
            }
        };
        let alone = Search::standard(set(&[
            ("ASCEND_RT_LIB_DIR", "/a"),
            ("ASCEND_HOME_PATH", "/b"),
        ]));
        assert_eq!(alone, Search::only(Path::new("/a")));
        let home = Search::standard(set(&[("ASCEND_HOME_PATH", "/b")]));
        assert_eq!(home.dirs[0], Path::new("/b/lib64"));
        assert_eq!(home.dirs.len(), 3);
        assert!(home.linker);
        assert_eq!(
            Search::standard(set(&[("ASCEND_RT_LIB_DIR", "")]))
                .dirs
                .len(),
            2
        );
    }

    #[test]
    fn a_missing_library_is_named_with_the_remedy() {
        let search = Search::only(Path::new("/nowhere"));
        let error = Libraries::open(&search, &["libascendcl.so"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("libascendcl.so"), "{text}");
        assert!(text.contains("/nowhere"), "{text}");
        assert!(text.contains("ASCEND_RT_LIB_DIR"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_in_the_linkers_words() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("libascendcl.so"), "no library").unwrap();
        let search = Search::only(dir.path());
        let text = Libraries::open(&search, &["libascendcl.so"])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("file too short") || text.contains("invalid ELF"),
            "{text}"
        );
    }
}
