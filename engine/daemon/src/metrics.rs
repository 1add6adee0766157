//! All metrics of a node in one table, which renders `/metrics` and `deploy/METRICS.md`.
//!
//! The text is the Prometheus exposition format 0.0.4, written by hand: the counters live in the
//! shards and arrive as snapshots, so a registry of atomics would only hold a second copy of them.
//! Units are base units (bytes, seconds). A shard that did not answer is missing from its series
//! and counts as 0 in `chariot_shard_up`.

use std::fmt::Write as _;

use crate::seam::{Latencies, NodeStats, ShardStats, SsdTierStats};

pub mod process;
mod table;

pub use process::ProcessFacts;
pub use table::METRICS;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises while the daemon lives.
    Counter,
    /// The value now.
    Gauge,
    /// Cumulative buckets, a sum and a count.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What users may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Name, labels and meaning stay through a major version.
    Stable,
    /// May change; for people who look into a node.
    Internal,
}

/// Everything one scrape is made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What the node says.
    pub node: NodeStats,
    /// What the kernel says of this process.
    pub process: ProcessFacts,
    /// Private bytes of the process when it began to serve.
    pub base_private_bytes: u64,
    /// Shards configured, answering or not.
    pub shard_count: usize,
    /// True when nothing stands against serving.
    pub ready: bool,
    /// True when etcd holds the node under a live lease.
    pub registered: bool,
    /// How often the node has registered.
    pub registrations: u64,
    /// Version and commit.
    pub build: crate::build::Build,
}

/// Takes one sample: label values without the shard's, then the value.
pub type EmitLabelled<'a> = &'a mut dyn FnMut(&[&str], f64);

/// Takes the distribution of one operation.
pub type EmitLatencies<'a> = &'a mut dyn FnMut(&str, &Latencies);

/// Where the values of a metric come from.
#[derive(Clone, Copy)]
pub enum Feed {
    /// One value for the node.
    Node(fn(&Snapshot) -> f64),
    /// One value a shard.
    Shard(fn(&ShardStats) -> f64),
    /// One value a shard that has an SSD tier, none of others.
    Ssd(fn(&SsdTierStats) -> f64),
    /// Several values a shard: labels in the order of the metric, then the value.
    Labelled(fn(&ShardStats, EmitLabelled<'_>)),
    /// One distribution for each operation of a shard.
    Latency(fn(&ShardStats, EmitLatencies<'_>)),
    /// One for every shard configured: 1 when it answered.
    ShardUp,
    /// Always 1; the labels tell the build.
    Build,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Feed::Node(_) => "Node",
            Feed::Shard(_) => "Shard",
            Feed::Ssd(_) => "Ssd",
            Feed::Labelled(_) => "Labelled",
            Feed::Latency(_) => "Latency",
            Feed::ShardUp => "ShardUp",
            Feed::Build => "Build",
        })
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Full name, with its unit, and `_total` for counters.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Unit, for the document.
    pub unit: &'static str,
    /// What it tells, one sentence.
    pub help: &'static str,
    /// Labels, in order.
    pub labels: &'static [&'static str],
    /// What users may rely on.
    pub stability: Stability,
    /// Where its values come from.
    pub feed: Feed,
}

/// Renders one scrape.
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    for metric in METRICS {
        page.metric(metric, snapshot);
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn put(&mut self, line: std::fmt::Arguments<'_>) {
        self.text
            .write_fmt(line)
            .expect("writing to a string does not fail");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.put(format_args!("{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            let opening = if index == 0 { '{' } else { ',' };
            self.put(format_args!("{opening}{label}=\"{}\"", escaped(text)));
        }
        let closing = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{closing} {value}\n"));
    }

    fn metric(&mut self, metric: &Metric, snapshot: &Snapshot) {
        let name = metric.name;
        self.put(format_args!("# HELP {name} {}\n", metric.help));
        self.put(format_args!("# TYPE {name} {}\n", metric.kind.name()));
        match metric.feed {
            Feed::Node(read) => self.sample(name, &[], read(snapshot)),
            Feed::Build => {
                let build = &snapshot.build;
                self.sample(
                    name,
                    &[("version", build.version), ("commit", build.commit)],
                    1.0,
                );
            },
            Feed::ShardUp => {
                for index in 0..snapshot.shard_count {
                    let up = matches!(snapshot.node.shards.get(index), Some(Some(_)));
                    self.sample(
                        name,
                        &[("shard", &index.to_string())],
                        f64::from(u8::from(up)),
                    );
                }
            },
            Feed::Shard(_) | Feed::Ssd(_) | Feed::Labelled(_) | Feed::Latency(_) => {
                for (index, stats) in snapshot.node.shards.iter().enumerate() {
                    if let Some(stats) = stats {
                        self.shard(metric, &index.to_string(), stats);
                    }
                }
            },
        }
    }

    fn shard(&mut self, metric: &Metric, shard: &str, stats: &ShardStats) {
        match metric.feed {
            Feed::Shard(read) => self.sample(metric.name, &[("shard", shard)], read(stats)),
            Feed::Ssd(read) => {
                if let Some(tier) = &stats.ssd {
                    self.sample(metric.name, &[("shard", shard)], read(tier));
                }
            },
            Feed::Labelled(read) => read(stats, &mut |texts, value| {
                assert_eq!(
                    texts.len() + 1,
                    metric.labels.len(),
                    "{}: labels",
                    metric.name
                );
                let mut labels = vec![("shard", shard)];
                labels.extend(
                    metric.labels[1..]
                        .iter()
                        .copied()
                        .zip(texts.iter().copied()),
                );
                self.sample(metric.name, &labels, value);
            }),
            Feed::Latency(read) => read(stats, &mut |operation, latencies| {
                self.histogram(metric.name, shard, operation, latencies);
            }),
            Feed::Node(_) | Feed::ShardUp | Feed::Build => {},
        }
    }

    fn histogram(&mut self, name: &str, shard: &str, operation: &str, latencies: &Latencies) {
        let labels = [("shard", shard), ("operation", operation)];
        let mut count = 0_u64;
        for (index, bucket) in latencies.buckets.iter().enumerate() {
            count += bucket;
            let bound = crate::seam::LATENCY_BOUNDS_NS
                .get(index)
                .map_or_else(|| "+Inf".to_owned(), |ns| (*ns as f64 / 1e9).to_string());
            let labels = [labels[0], labels[1], ("le", bound.as_str())];
            self.sample(&format!("{name}_bucket"), &labels, count as f64);
        }
        self.sample(
            &format!("{name}_sum"),
            &labels,
            latencies.sum_ns as f64 / 1e9,
        );
        self.sample(&format!("{name}_count"), &labels, count as f64);
    }
}

/// A label's value: backslash, quote and line end are escaped, as the format asks.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Renders `deploy/METRICS.md`.
pub fn metrics_page() -> String {
    let mut page = Page::default();
    page.put(format_args!(
        "# Metrics of chariotd\n\
         \n\
         Generated from the table in `engine/daemon/src/metrics/table.rs`; a test keeps it in step \
         (`CHARIOT_BLESS=1 cargo test -p chariotd --test daemon` rewrites it).\n\
         \n\
         `GET /metrics` on the `--admin` address answers in the Prometheus text format. Counters \
         start at zero with the daemon. `stable` metrics keep name, labels and meaning through a \
         major version; `internal` ones may change. Latency buckets run from 1 µs to 8.4 s, each \
         twice the one before.\n\
         \n\
         | metric | type | unit | labels | stability | meaning |\n\
         |---|---|---|---|---|---|\n",
    ));
    for metric in METRICS {
        let stability = match metric.stability {
            Stability::Stable => "stable",
            Stability::Internal => "internal",
        };
        page.put(format_args!(
            "| `{}` | {} | {} | {} | {stability} | {} |\n",
            metric.name,
            metric.kind.name(),
            metric.unit,
            metric.labels.join(", "),
            metric.help
        ));
    }
    page.text
}

#[cfg(test)]
mod tests;
