//! iperf3's own figure for loopback TCP, where the tool is installed: the yardstick of the remote
//! rows. Absent or failing, it is left out with a note.

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::Measured;
use crate::command::note;
use crate::pace::wait_until;

/// Seconds that the client sends.
const SECONDS: u32 = 2;
/// Tries to reach a server that is still starting, one every [`PAUSE`].
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Ends the server with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after its one client: then both calls have nothing to do.
        let (killed, waited) = (self.0.kill(), self.0.wait());
        drop((killed, waited));
    }
}

/// Runs one server and one client on a free port.
pub(crate) fn measure() -> Option<Measured> {
    if !installed() {
        note("limits: iperf3 is not installed, its figure is left out (apt-get install iperf3)");
        return None;
    }
    let port = free_port()?.to_string();
    let server = Command::new("iperf3")
        .args(["-s", "-1", "-B", "127.0.0.1", "-p", &port])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let _server = Server(server);
    for _ in 0..ATTEMPTS {
        if let Some(output) = client(&port).filter(|output| output.status.success()) {
            let rate = received_bytes_per_s(&output.stdout)?;
            return Some(Measured {
                name: "iperf3",
                size_bytes: 128 << 10,
                threads: 2,
                seconds: f64::from(SECONDS),
                ops_per_s: None,
                bytes_per_s: Some(rate),
                lat_us: None,
            });
        }
        wait_until(Instant::now() + PAUSE);
    }
    note("limits: iperf3 did not answer on loopback, its figure is left out");
    None
}

fn installed() -> bool {
    let version = Command::new("iperf3").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

fn client(port: &str) -> Option<Output> {
    let seconds = SECONDS.to_string();
    let arguments = ["-c", "127.0.0.1", "-p", port, "-t", &seconds, "-J"];
    Command::new("iperf3")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()
}

fn free_port() -> Option<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    listener.local_addr().ok().map(|address| address.port())
}

/// Reads the receiver's rate out of iperf3's JSON.
fn received_bytes_per_s(json: &[u8]) -> Option<f64> {
    let report: serde_json::Value = serde_json::from_slice(json).ok()?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .map(|bits| bits / 8.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_read_from_the_report() {
        let json = br#"{"end":{"sum_received":{"bits_per_second":8e9}}}"#;
        assert_eq!(received_bytes_per_s(json), Some(1e9));
        assert_eq!(received_bytes_per_s(b"{}"), None);
        assert_eq!(received_bytes_per_s(b"error"), None);
    }
}
