//! Loopback TCP, one stream: bytes in one direction.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::Measured;
use crate::failure::Failure;

/// Writes of `size` bytes until the time is over; counted where they arrive.
pub(crate) fn one_way(size: usize, duration: Duration) -> Result<Measured, Failure> {
    assert!(size > 0, "a write has bytes");
    measure(size, duration).map_err(|error| {
        let cause = format!("loopback TCP failed ({error})");
        Failure::new(cause, "bring the loopback interface up (ip link set lo up)")
    })
}

fn measure(size: usize, duration: Duration) -> std::io::Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    sender.set_nodelay(true)?;
    let (bytes, elapsed) = std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> std::io::Result<()> {
            let payload = vec![3; size];
            let start = Instant::now();
            while start.elapsed() < duration {
                sender.write_all(&payload)?;
            }
            Ok(())
        });
        let start = Instant::now();
        let mut buffer = vec![0; size.max(64 << 10)];
        let mut bytes = 0_u64;
        loop {
            match receiver.read(&mut buffer)? {
                0 => break,
                count => bytes += count as u64,
            }
        }
        let elapsed = start.elapsed();
        sending.join().expect("the sender does not panic")?;
        std::io::Result::Ok((bytes, elapsed))
    })?;
    let seconds = elapsed.as_secs_f64();
    Ok(Measured {
        name: "loopback_tcp",
        size_bytes: size,
        threads: 2,
        seconds,
        ops_per_s: Some(bytes as f64 / size as f64 / seconds),
        bytes_per_s: Some(bytes as f64 / seconds),
        lat_us: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_and_are_counted() {
        let measured = one_way(4096, Duration::from_millis(5)).unwrap();
        assert!(measured.bytes_per_s.unwrap() > 0.0);
    }
}
