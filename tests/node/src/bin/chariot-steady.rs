//! Reads what is there, many times, between two marks on its standard output: for tests that count
//! what the kernel hears of it.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a tool of tests: its panic fails the test that started it"
)]

use std::io::Write as _;

use chariot_client::{Client, ConnectOptions, SetOptions, Target};
use chariot_tests_node::pattern;

const KEYS: usize = 100;
const LEN: usize = 72 << 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, what, rounds] = &arguments[..] else {
        unreachable!("socket, what to do, how often");
    };
    let client = Client::connect(ConnectOptions::new(Target::Unix(socket.into()))).unwrap();
    let names: Vec<String> = (0..KEYS).map(|index| format!("steady/{index}")).collect();
    let keys: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    for (index, key) in keys.iter().enumerate() {
        let value = pattern::value(LEN, index as u64);
        client.set(key, &value, &SetOptions::default()).unwrap();
    }
    let mut steady = Steady {
        client,
        keys,
        buffers: vec![vec![0; LEN]; 8],
    };
    // Every page, every ring and every allocation that is ever needed.
    for round in 0..KEYS * 2 {
        steady.round(what, round);
    }
    mark("begin");
    for round in 0..rounds.parse().unwrap() {
        steady.round(what, round);
    }
    mark("end");
    steady.read_first();
    for (index, buffer) in steady.buffers.iter().enumerate() {
        assert!(pattern::matches(buffer, index as u64), "what was read");
    }
}

fn mark(line: &str) {
    let mut out = std::io::stdout();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

struct Steady<'a> {
    client: Client,
    keys: Vec<&'a [u8]>,
    buffers: Vec<Vec<u8>>,
}

impl Steady<'_> {
    fn round(&mut self, what: &str, round: usize) {
        let key = self.keys[round % KEYS];
        let first = &self.keys[..8];
        match what {
            "get" => {
                let read = self.client.get_into(key, &mut self.buffers[0]).unwrap();
                assert_eq!(read, Some(LEN));
                self.read_first();
            },
            "view" => {
                let view = self.client.view(key).unwrap().unwrap();
                assert_eq!(view.len(), LEN);
                let views = self.client.mview(first);
                assert!(views.into_iter().all(|view| view.unwrap().is_some()));
            },
            "exist" => {
                assert!(self.client.exist(key).unwrap());
                assert_eq!(self.client.size(key).unwrap(), Some(LEN as u64));
                assert!(!self.client.exist(b"absent").unwrap());
                assert!(self.client.view(b"absent").unwrap().is_none());
                assert_eq!(self.client.prefix(&self.keys).unwrap(), KEYS);
                let found = self.client.mexist(first);
                assert!(found.into_iter().all(|found| found.unwrap()));
                let sizes = self.client.msize(first);
                assert!(
                    sizes
                        .into_iter()
                        .all(|size| size.unwrap() == Some(LEN as u64))
                );
                let absent = self.client.mexist(&[b"absent", b"absent/2"]);
                assert!(absent.into_iter().all(|found| !found.unwrap()));
                let absent = self.client.msize(&[b"absent", b"absent/2"]);
                assert!(absent.into_iter().all(|size| size.unwrap().is_none()));
            },
            // What the checker must find.
            "yield" => std::thread::yield_now(),
            other => unreachable!("no such thing: {other}"),
        }
    }

    fn read_first(&mut self) {
        let mut buffers: Vec<&mut [u8]> = self.buffers.iter_mut().map(Vec::as_mut_slice).collect();
        let read = self.client.mget_into(&self.keys[..8], &mut buffers);
        assert!(read.into_iter().all(|len| len.unwrap() == Some(LEN)));
    }
}
