//! The daemon's metrics, read as an operator's scraper reads them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

/// Reads `path` of the admin HTTP server, body only.
pub fn http_get(admin: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

impl Metrics {
    /// Scrapes; `None` while the server does not answer.
    pub fn scrape(admin: SocketAddr) -> Option<Self> {
        http_get(admin, "/metrics").map(|text| Self { text })
    }

    /// The sum of a metric over all its labels that contain each of `labels` (such as
    /// `operation="set"`).
    ///
    /// # Panics
    ///
    /// When there is no such metric: a typing mistake in the test.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let mut found = false;
        let mut sum = 0.0;
        for line in self.text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            if series_name == name && labels.iter().all(|label| series_labels.contains(label)) {
                found = true;
                sum += value.parse::<f64>().unwrap();
            }
        }
        assert!(found, "no metric {name} with {labels:?} in\n{}", self.text);
        sum
    }

    /// How many series a metric has: a shard that is busy leaves its own out of a scrape.
    pub fn count(&self, name: &str) -> usize {
        let series = self.text.lines().map(|line| line.split(['{', ' ']).next());
        series.filter(|&found| found == Some(name)).count()
    }

    /// The sum of a metric over all its labels.
    pub fn total(&self, name: &str) -> f64 {
        self.sum(name, &[])
    }
}
