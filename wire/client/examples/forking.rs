//! A program that forks in the middle of its work, and says what became of both sides.
//!
//! `forking SOCKET` opens a session, holds views and a write buffer, keeps a thread reading through
//! the rings and the index, and forks, several times. Each child looks at what it inherited (it
//! must read as empty, answer errors, and drop without harm), opens a session of its own, works
//! with it and ends without running destructors or after running all of them. The parent then
//! checks that its views, its buffer and its session are what they were. Exit status 0, or a line
//! that says what was wrong.
#![expect(
    clippy::unwrap_used,
    reason = "a program for people to read and tests to run: its panic is its report"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chariot_client::{Client, ConnectOptions, GetOptions, SetOptions, Status, Target};

/// Children, one after another.
const FORKS: u8 = 6;
const VIEWS: u8 = 32;
const LEN: usize = 72 << 10;

fn name(index: u8) -> String {
    format!("fork/{index}")
}

fn value(index: u8) -> Vec<u8> {
    vec![index.wrapping_mul(7).wrapping_add(1); LEN]
}

fn main() {
    let socket = std::env::args_os().nth(1).expect("usage: forking SOCKET");
    let options = ConnectOptions::new(Target::Unix(socket.into()));
    let client = Client::connect(options.clone()).unwrap();
    let once = SetOptions::default();
    for index in 0..VIEWS {
        client
            .set(name(index).as_bytes(), &value(index), &once)
            .unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let reader = read_in_a_thread(client.clone(), Arc::clone(&stop), Arc::clone(&reads));

    for round in 0..FORKS {
        let views: Vec<_> = (0..VIEWS)
            .map(|index| client.view(name(index).as_bytes()).unwrap().unwrap())
            .collect();
        let mut buffer = client.create(b"fork/new", LEN, &once).unwrap();
        buffer.copy_from_slice(&value(round));
        // Unlinked under the views: only their pins keep the bytes.
        client.delete(name(round).as_bytes()).unwrap();
        // SAFETY: the child uses its own sessions and ends by `exit` or `_exit` inside the block
        // below; the locks that the reading thread may hold at this moment belong to the parent's
        // session, which no call of the child enters.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let inherited = (client, views, buffer);
            child(round, &options, inherited);
        }
        assert!(pid > 0, "cannot fork");
        let mut status = 0;
        // SAFETY: waits for the child just made, into a live int.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!((waited, status), (pid, 0), "child {round} failed");

        for (index, view) in (0..VIEWS).zip(&views) {
            assert!(**view == value(index)[..], "view {index} of the parent");
        }
        assert!(buffer[..] == value(round)[..], "the parent's buffer");
        buffer.publish().unwrap();
        let read = client.get(b"fork/new", &GetOptions::default()).unwrap();
        assert!(read.is_some_and(|read| read == value(round)));
        client
            .set(name(round).as_bytes(), &value(round), &once)
            .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().unwrap();
    assert!(reads.load(Ordering::Relaxed) > 100, "the thread went on");
}

/// Reads and writes all the time, so that forks happen in the middle of it.
fn read_in_a_thread(
    client: Client,
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; LEN];
        while !stop.load(Ordering::Relaxed) {
            for index in 0..VIEWS {
                let key = name(index);
                // Deleted for a moment while its view is held.
                if let Some(len) = client.get_into(key.as_bytes(), &mut buffer).unwrap() {
                    assert!(buffer[..len] == value(index)[..]);
                }
                client
                    .set(b"fork/thread", &buffer[..100], &SetOptions::default())
                    .unwrap();
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

/// The child's whole life.
fn child(
    round: u8,
    options: &ConnectOptions,
    inherited: (
        Client,
        Vec<chariot_client::View>,
        chariot_client::WriteBuffer,
    ),
) -> ! {
    let (client, views, mut buffer) = inherited;
    assert!(views.iter().all(|view| view.is_empty()), "inherited views");
    assert!(buffer.is_empty() && buffer.iter_mut().next().is_none());
    let refused = |status: Status| assert_eq!(status, Status::InvalidArgument);
    let once = SetOptions::default();
    refused(client.view(b"fork/1").unwrap_err().status());
    refused(client.exist(b"fork/1").unwrap_err().status());
    refused(client.set(b"x", b"y", &once).unwrap_err().status());
    refused(buffer.publish().unwrap_err().status());

    let own = Client::connect(options.clone()).unwrap();
    let key = name((round + 1) % VIEWS);
    let view = own.view(key.as_bytes()).unwrap().unwrap();
    assert!(*view == value((round + 1) % VIEWS)[..], "the child's view");
    own.set(b"fork/child", &value(round), &once).unwrap();
    let read = own.get(b"fork/child", &GetOptions::default()).unwrap();
    assert!(read.is_some_and(|read| read == value(round)));
    if round.is_multiple_of(2) {
        // As a program ends that lets everything go.
        drop((views, client, view, own));
    }
    // SAFETY: ends this process at once. What was not dropped above is released by its death.
    unsafe { libc::_exit(0) }
}
