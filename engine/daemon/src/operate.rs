//! What an operator does to a running node, from the command line: expel a session.
//!
//! ```text
//! chariotd --expel 7 [--kill] --admin ADDR --socket PATH
//!      └─ reads PATH.admin (mode 0600, new at each start) ─▶ POST /sessions/7/expel on ADDR
//! ```
//! Everybody on a host reaches its loopback address, and so does a page in somebody's browser; who
//! may turn on sessions is therefore who can read the token: the daemon's own user, and root.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::seam::StartError;

/// Bytes of a token before it is written in hexadecimal.
const TOKEN_BYTES: usize = 32;
/// Most bytes of an answer that are read.
const ANSWER_MAX: u64 = 64 << 10;
/// How long the daemon may take to answer: longer than it waits for its shards.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The secret that orders over HTTP carry. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// Draws a new one and writes it beside the socket, readable for this user alone.
    ///
    /// # Errors
    /// No random bytes, or no file: the message says which and what to do.
    pub fn issue(socket: &Path) -> Result<Self, StartError> {
        let mut bytes = [0_u8; TOKEN_BYTES];
        let drawn = std::fs::File::open("/dev/urandom").and_then(|mut source| {
            source.read_exact(&mut bytes)?;
            Ok(())
        });
        drawn.map_err(|error| StartError {
            cause: format!("cannot draw a token: {error}"),
            remedy: "provide /dev/urandom".to_owned(),
        })?;
        let mut text = String::with_capacity(2 * TOKEN_BYTES);
        for byte in bytes {
            for digit in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        let token = Self(text);
        let path = token_path(socket);
        token.write(&path).map_err(|error| StartError {
            cause: format!("cannot write {}: {error}", path.display()),
            remedy: "make its directory writable for the daemon's user, or give another --socket"
                .to_owned(),
        })?;
        Ok(token)
    }

    /// Takes a token as it is: for tests, and for what was read from a file.
    pub fn known(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        // An earlier start's file, or one that somebody else has put there: never written through.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {},
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        writeln!(file, "{}", self.0)
    }

    /// Whether the value of an `Authorization` header carries it. Takes as long for any header of
    /// the right length.
    pub fn admits(&self, header: &str) -> bool {
        let Some(shown) = header.strip_prefix("Bearer ") else {
            return false;
        };
        let pairs = shown.bytes().zip(self.0.bytes());
        let differing = pairs.fold(0, |sum, (left, right)| sum | (left ^ right));
        shown.len() == self.0.len() && differing == 0
    }
}

/// Where the token of a daemon lies: beside its socket.
pub fn token_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".admin");
    PathBuf::from(path)
}

/// Orders a running daemon to expel a session; returns what it said.
///
/// # Errors
/// The daemon is not there, its token cannot be read, or it refused: one line that says which.
pub fn expel(
    session: u64,
    kill: bool,
    admin: SocketAddr,
    socket: &Path,
) -> Result<String, StartError> {
    let path = token_path(socket);
    let token = std::fs::read_to_string(&path).map_err(|error| StartError {
        cause: format!("cannot read {}: {error}", path.display()),
        remedy: "give the --socket of the running daemon, and be its user or root".to_owned(),
    })?;
    let query = if kill { "?kill=true" } else { "" };
    let request = format!(
        "POST /sessions/{session}/expel{query} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer \
         {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        token.trim_end()
    );
    let answer = exchange(admin, &request).map_err(|error| StartError {
        cause: format!("no answer from {admin}: {error}"),
        remedy: "give the --admin address of the running daemon".to_owned(),
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("no status");
    if status == "200" {
        return Ok(format!("{}\n", body.trim_end()));
    }
    Err(StartError {
        cause: format!("refused with {status}: {}", body.trim_end()),
        remedy: "look at /sessions".to_owned(),
    })
}

fn exchange(admin: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_lies_beside_the_socket_for_its_user_alone_and_is_new_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s.sock");
        let first = Token::issue(&socket).unwrap();
        let second = Token::issue(&socket).unwrap();
        assert_ne!(first, second);
        let path = token_path(&socket);
        assert_eq!(first.0.len(), 2 * TOKEN_BYTES);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(second.admits(&format!("Bearer {}", text.trim_end())));
        assert!(!first.admits(&format!("Bearer {}", text.trim_end())));
        assert_eq!(format!("{second:?}"), "Token(***)");
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = Token::known("abcd");
        assert!(token.admits("Bearer abcd"));
        for wrong in [
            "",
            "abcd",
            "Bearer ",
            "Bearer abc",
            "Bearer abcde",
            "Bearer abce",
        ] {
            assert!(!token.admits(wrong), "{wrong:?}");
        }
    }
}
