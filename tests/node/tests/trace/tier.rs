//! A small arena over an SSD that holds everything hits as often as an arena that holds everything.
//!
//! The recorded trace that `CHARIOT_TRACE` names, else one that is made: conversations that come
//! back with all of their blocks and some new ones, recent ones more often.

use std::collections::HashSet;

use chariot_client::{Client, ConnectOptions};
use chariot_tests_node::daemon::{Daemon, DaemonOptions};
use chariot_tests_node::random::Random;

use crate::replay::{self, Seen};

/// How much of a trace, in blocks of which size.
#[derive(Clone, Copy)]
struct Scale {
    /// Requests are taken until they have named so many different blocks.
    blocks: usize,
    block_bytes: usize,
}

/// 512 MiB: four times the smallest arena.
const SHORT: Scale = Scale {
    blocks: 8 << 10,
    block_bytes: 64 << 10,
};
/// All of the recorded trace, some 180,000 blocks.
const WHOLE: Scale = Scale {
    blocks: usize::MAX,
    block_bytes: 4 << 10,
};
/// Different blocks of the trace that is made for [`WHOLE`].
const MADE_BLOCKS: usize = 160_000;
/// How far the two ratios may lie apart, of the one of memory alone.
const APART: f64 = 0.01;

/// Conversations, a third of whose blocks are known from earlier turns.
fn made(blocks: usize) -> Vec<Vec<u64>> {
    let mut random = Random::new(7);
    let mut conversations: Vec<Vec<u64>> = Vec::new();
    let mut requests = Vec::new();
    let mut next = 0;
    while next < blocks as u64 {
        let is_new = conversations.is_empty() || random.below(3) > 0;
        let at = if is_new {
            conversations.push(Vec::new());
            conversations.len() - 1
        } else {
            // The lower of two: recent ones come back more often, old ones too.
            let count = conversations.len() as u64;
            let ago = random.below(count).min(random.below(count));
            usize::try_from(count - 1 - ago).unwrap()
        };
        let grown = next + 4 + random.below(24);
        conversations[at].extend(next..grown);
        next = grown;
        requests.push(conversations[at].clone());
    }
    requests
}

/// The requests, and how many different blocks they name.
fn requests(scale: Scale) -> (Vec<Vec<u64>>, usize) {
    let all = replay::recorded(usize::MAX).unwrap_or_else(|| made(scale.blocks.min(MADE_BLOCKS)));
    let mut known = HashSet::new();
    let mut taken = Vec::new();
    for ids in all {
        let fresh = ids.iter().filter(|id| !known.contains(*id)).count();
        if known.len() + fresh > scale.blocks {
            break;
        }
        known.extend(ids.iter().copied());
        taken.push(ids);
    }
    (taken, known.len())
}

/// What is hit when nothing is ever forgotten: the longest known prefix of each request.
fn ideal(requests: &[Vec<u64>]) -> f64 {
    let mut known = HashSet::new();
    let (mut hits, mut lookups) = (0, 0);
    for ids in requests {
        hits += ids.iter().take_while(|id| known.contains(*id)).count();
        lookups += ids.len();
        known.extend(ids.iter().copied());
    }
    hits as f64 / lookups as f64
}

fn run(name: &str, memory_mib: u64, flags: &[String], requests: &[Vec<u64>], len: usize) -> Seen {
    let daemon = Daemon::start_with(&DaemonOptions {
        memory_mib,
        flags: flags.to_vec(),
        ..DaemonOptions::default()
    });
    let client = Client::connect(ConnectOptions {
        // What waits for room waits for the device, which others may keep busy.
        request_timeout: std::time::Duration::from_mins(1),
        ..daemon.local_options()
    })
    .unwrap();
    let seen = replay::replay(&client, requests, len);
    eprintln!(
        "{name}, {memory_mib} MiB: {:.4} {:?}",
        seen.ratio, seen.stats
    );
    seen
}

fn compare(scale: Scale) {
    let (requests, blocks) = requests(scale);
    let footprint_mib = (blocks * scale.block_bytes) as u64 >> 20;
    // Granules of 64 MiB on two shards.
    let quarter_mib = (footprint_mib / 4).next_multiple_of(64).max(128);
    let whole_mib = (footprint_mib * 3 / 2).next_multiple_of(64);
    assert!(
        footprint_mib >= 3 * quarter_mib,
        "{footprint_mib} of {quarter_mib} MiB"
    );
    let _alone = replay::alone();
    let len = scale.block_bytes;
    // Entries of small blocks take more than the sixteenth of a quarter.
    let records = ["--metadata-memory".to_owned(), "256MiB".to_owned()];
    let memory = run("memory", whole_mib, &records, &requests, len);
    let directory = tempfile::tempdir().unwrap();
    let ssd = [
        "--ssd".to_owned(),
        directory.path().display().to_string(),
        "--ssd-size".to_owned(),
        format!("{}MiB", footprint_mib * 2),
    ];
    let flags = [&records[..], &ssd[..]].concat();
    let tier = run("a quarter and SSD", quarter_mib, &flags, &requests, len);
    let less = run("a quarter alone", quarter_mib, &records, &requests, len);
    assert!(memory.ratio > 0.05, "the trace has something to hit");
    let all = ideal(&requests);
    assert!(
        (memory.ratio - all).abs() <= APART * all,
        "it holds all: {all:.4}"
    );
    let apart = |seen: &Seen| (seen.ratio - memory.ratio).abs() / memory.ratio;
    assert!(
        apart(&tier) <= APART,
        "{:.4} and {:.4}",
        tier.ratio,
        memory.ratio
    );
    assert!(tier.stats.hits_ssd > 0, "the SSD took part");
    assert!(
        apart(&less) > APART,
        "without it there is less: {:.4}",
        less.ratio
    );
}

#[test]
fn a_quarter_of_the_memory_over_ssd_hits_like_all_of_it() {
    compare(SHORT);
}

#[test]
#[ignore = "long: make test-long"]
fn a_quarter_of_the_memory_over_ssd_hits_like_all_of_it_on_the_whole_trace() {
    compare(WHOLE);
}
