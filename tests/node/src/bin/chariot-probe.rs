//! A client in a process of its own, which a test may kill, stop, or run as another user.
//!
//! It connects to the unix socket given first (and with the access key and secret given next), then
//! obeys one command a line and answers each with one line: `ok`, `miss` or the name of a status.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a tool of tests: its panic fails the test that started it"
)]

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use chariot_client::{Client, ConnectOptions, Error, GetOptions, SetOptions, Target, View};
use chariot_client::{LatchKind, Place, WriteBuffer};
use chariot_tests_node::daemon::with_credentials;
use chariot_tests_node::pattern;

struct Probe {
    client: Client,
    views: Vec<(View, u64)>,
    buffers: Vec<WriteBuffer>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut options = ConnectOptions::new(Target::Unix(arguments[0].clone().into()));
    if let [_, access, secret] = &arguments[..] {
        options = with_credentials(options, access, secret);
    }
    let client = match Client::connect(options) {
        Ok(client) => client,
        Err(error) => {
            say(&named(&error));
            return;
        },
    };
    say("ok");
    let mut probe = Probe {
        client,
        views: Vec::new(),
        buffers: Vec::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        say(&probe.obey(&words).unwrap_or_else(|error| named(&error)));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn named(error: &Error) -> String {
    error.status().name().to_owned()
}

fn number(word: &str) -> usize {
    word.parse().unwrap()
}

impl Probe {
    fn obey(&mut self, words: &[&str]) -> Result<String, Error> {
        let ok = || Ok("ok".to_owned());
        match words {
            ["set", key, len, seed] => {
                let value = pattern::value(number(len), number(seed) as u64);
                self.client
                    .set(key.as_bytes(), &value, &SetOptions::default())?;
                ok()
            },
            ["get", key, seed] => {
                let read = self.client.get(key.as_bytes(), &GetOptions::default())?;
                Ok(judged(read.as_deref(), number(seed) as u64))
            },
            ["hold", key, seed] => {
                let seed = number(seed) as u64;
                let Some(view) = self.client.view(key.as_bytes())? else {
                    return Ok("miss".to_owned());
                };
                let said = judged(Some(&view), seed);
                self.views.push((view, seed));
                Ok(said)
            },
            ["check"] => {
                let right = |(view, seed): &(View, u64)| pattern::matches(view, *seed);
                let all = self.views.iter().all(right);
                Ok(if all { "ok" } else { "wrong" }.to_owned())
            },
            ["create", key, len] => {
                let options = SetOptions::default();
                let mut buffer = self.client.create(key.as_bytes(), number(len), &options)?;
                pattern::fill(&mut buffer, 1);
                self.buffers.push(buffer);
                ok()
            },
            ["place"] => Ok(match self.client.place() {
                Place::SharedMemory => "shared",
                Place::Tcp => "tcp",
                Place::Away => "away",
            }
            .to_owned()),
            ["latch", key, kind, wait_ms] => {
                let kind = match *kind {
                    "shared" => LatchKind::Shared,
                    _ => LatchKind::Exclusive,
                };
                let wait = Duration::from_millis(number(wait_ms) as u64);
                self.client.objects().latch(key.as_bytes(), kind, wait)?;
                ok()
            },
            ["refer", key] => {
                let mut done = self.client.objects().increase_refs(&[key.as_bytes()]);
                done.remove(0)?;
                ok()
            },
            ["transactions", tag, len] => self.transactions(tag, number(len)),
            ["storm"] => self.storm(),
            other => unreachable!("no such command: {other:?}"),
        }
    }

    /// Stores eight keys at a time until it is killed; answers once, in the middle of it.
    fn transactions(&self, tag: &str, len: usize) -> ! {
        let mut round = 0;
        loop {
            let keys: Vec<String> = (0..8)
                .map(|key| format!("tx/{tag}/{round}/{key}"))
                .collect();
            let value = pattern::value(len, round);
            let items: Vec<(&[u8], &[u8])> = keys
                .iter()
                .map(|key| (key.as_bytes(), &value[..]))
                .collect();
            self.client
                .multi_set_tx(&items, &SetOptions::default())
                .unwrap();
            round += 1;
            if round == 20 {
                say("ok");
            }
        }
    }

    /// Sets, gets, views and deletes until it is killed; answers once, in the middle of it.
    fn storm(&self) -> ! {
        let mut round = 0;
        loop {
            for (index, len) in [100, 5_000, 300_000, 3_000_000].into_iter().enumerate() {
                let key = format!("storm/{}", (round + index) % 7);
                let value = pattern::value(len, round as u64);
                // Under pressure any of them may fail; that is not what is tested here.
                drop(
                    self.client
                        .set(key.as_bytes(), &value, &SetOptions::default()),
                );
                drop(self.client.view(key.as_bytes()));
                drop(self.client.get(key.as_bytes(), &GetOptions::default()));
            }
            drop(self.client.delete(b"storm/3"));
            round += 1;
            if round == 3 {
                say("ok");
            }
        }
    }
}

fn judged(bytes: Option<&[u8]>, seed: u64) -> String {
    match bytes {
        None => "miss",
        Some(bytes) if pattern::matches(bytes, seed) => "ok",
        Some(_) => "wrong",
    }
    .to_owned()
}
