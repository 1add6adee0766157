//! The daemon's own count of evictions, from its admin address.
//!
//! A dozen lines of HTTP/1.0 (no chunks): one GET, one connection, bounded in time and size. The
//! sum over all series of `chariot_evictions_total` before and after a run, subtracted, is exact
//! where nobody else uses the daemon.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::failure::Failure;

const METRIC: &str = "chariot_evictions_total";
/// Time allowed for connecting and for each read.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer.
const ANSWER_MAX: u64 = 64 << 20;

/// Reads the number of evictions since the daemon's start.
pub(crate) fn read(admin: &str) -> Result<u64, Failure> {
    let remedy = "give the daemon's --admin address as host:port, or leave --admin out";
    let text = metrics(admin, remedy)?;
    sum(&text).ok_or_else(|| {
        let cause = format!("the answer of {admin} has no {METRIC}");
        Failure::new(cause, "give the --admin address of a chariotd")
    })
}

/// Reads all metrics as text; `remedy` is what to do when nobody answers.
pub(crate) fn metrics(admin: &str, remedy: &str) -> Result<String, Failure> {
    fetch(admin).map_err(|error| Failure::new(format!("no metrics at {admin} ({error})"), remedy))
}

fn fetch(admin: &str) -> std::io::Result<String> {
    let address = admin
        .to_socket_addrs()?
        .next()
        .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {admin}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Adds up all series of the metric; `None` when there is none.
fn sum(text: &str) -> Option<u64> {
    let mut total = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(METRIC) else {
            continue;
        };
        if !rest.starts_with(['{', ' ']) {
            continue;
        }
        let value: u64 = rest.rsplit(' ').next()?.trim().parse().ok()?;
        total = Some(total.unwrap_or(0) + value);
    }
    total
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn series_of_all_shards_are_added() {
        let text = "# TYPE chariot_evictions_total counter\n\
                    chariot_evictions_total{shard=\"0\"} 3\n\
                    chariot_evictions_total{shard=\"1\"} 4\n\
                    chariot_evictions_total_other 9\n";
        assert_eq!(sum(text), Some(7));
        assert_eq!(sum("chariot_entries 1\n"), None);
    }

    #[test]
    fn metrics_are_read_over_http() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nchariot_evictions_total 42\n")
                .unwrap();
            first
        });
        assert_eq!(read(&address).unwrap(), 42);
        assert_eq!(server.join().unwrap().trim(), "GET /metrics HTTP/1.0");
    }

    #[test]
    fn nobody_there_is_one_line_with_a_remedy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let shown = read(&address).unwrap_err().to_string();
        assert!(
            shown.contains(&address) && shown.contains("--admin"),
            "{shown}"
        );
    }
}
