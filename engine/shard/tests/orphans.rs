//! What becomes of operations whose futures are dropped: memory stays until the kernel is done.
#![expect(
    clippy::tests_outside_test_module,
    reason = "an integration test is a test module"
)]

mod support;

use std::any::Any;
use std::cell::Cell;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use chariot_shard::{DataRing, Elapsed, IoFd, Progress, RingError, ShardContext, monotonic_ns};
use support::{Mapped, bytes_of, on_shard, pattern, seat};

/// Notes how many completions the ring had seen when it was dropped.
struct Owner {
    ring: DataRing,
    dropped_at: Rc<Cell<Option<u64>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped_at.set(Some(self.ring.stats().completions));
    }
}

fn owner(ring: &DataRing) -> (Rc<dyn Any>, Rc<Cell<Option<u64>>>) {
    let dropped_at = Rc::new(Cell::new(None));
    (
        Rc::new(Owner {
            ring: ring.clone(),
            dropped_at: Rc::clone(&dropped_at),
        }),
        dropped_at,
    )
}

fn in_ms(milliseconds: u64) -> u64 {
    monotonic_ns() + milliseconds * 1_000_000
}

async fn until_idle(context: &ShardContext) {
    while context.ring().in_flight() > 0 {
        context.yield_now().await;
    }
}

#[test]
fn a_peer_that_never_answers_costs_a_deadline_and_the_owner_outlives_the_operation() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(1 << 20);
        let socket = ring.connect(address).await.unwrap();
        let _silent = listener.accept().unwrap();
        let (owner, dropped_at) = owner(&ring);
        let span = memory.span(0, 1 << 20).with_owner(owner);

        let receive = ring.recv_exact(&socket, span);
        let outcome = context.timeout_at(in_ms(20), receive).await;
        assert_eq!(outcome, Err(Elapsed));
        // The future is gone and nothing has run since: only the ring's slot holds the owner now.
        assert_eq!(ring.in_flight(), 1, "the kernel still holds the receive");
        assert_eq!(dropped_at.get(), None, "its memory is still owned");
        let before = ring.stats().completions;

        until_idle(&context).await;
        let at = dropped_at
            .get()
            .expect("the completion has released the owner");
        assert!(at > before, "not before the kernel's completion");
        assert_eq!(ring.stats().orphaned, 1);
    });
}

#[test]
fn an_operation_dropped_before_it_was_submitted_never_reaches_the_kernel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(4096);
        let socket = ring.connect(address).await.unwrap();
        let submitted = ring.stats().submitted;
        let (owner, dropped_at) = owner(&ring);
        let mut receive = Box::pin(ring.recv_exact(&socket, memory.span(0, 16).with_owner(owner)));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(receive.as_mut().poll(cx)));
        assert!(first.await.is_pending());
        drop(receive);
        assert!(dropped_at.get().is_some(), "nobody but the future had it");
        context.yield_now().await;
        assert_eq!(ring.stats().submitted, submitted);
        assert_eq!(ring.in_flight(), 0);
    });
}

#[test]
fn an_orphaned_accept_closes_what_it_accepts_and_the_listener_goes_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let listener = IoFd::new(listener);
        for _ in 0..3 {
            let accept = ring.accept(&listener);
            context.timeout_at(in_ms(2), accept).await.unwrap_err();
            until_idle(&context).await;
        }
        let mut client = TcpStream::connect(address).unwrap();
        let socket = ring.accept(&listener).await.unwrap();
        client.write_all(b"x").unwrap();
        let (count, buffer) = ring.recv_some_bytes(&socket, vec![0; 4], 0).await;
        assert_eq!((count, buffer[0]), (Ok(1), b'x'));
    });
}

#[test]
fn more_operations_than_the_kernel_may_hold_wait_their_turn() {
    const OPERATIONS: usize = 4_500;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let socket = IoFd::new(ours);
        let read = Rc::new(Cell::new(0));
        for _ in 0..OPERATIONS {
            let (ring, socket, read) = (ring.clone(), socket.clone(), Rc::clone(&read));
            let receive = async move {
                let (count, _) = ring.recv_some_bytes(&socket, vec![0; 1], 0).await;
                read.set(read.get() + count.unwrap());
            };
            context.spawn_local(receive).detach();
        }
        while ring.in_flight() < OPERATIONS {
            context.yield_now().await;
        }
        context.yield_now().await;
        assert!(
            ring.stats().submitted < OPERATIONS as u64,
            "the rest waits in the backlog"
        );
        let mut writer = theirs;
        for _ in 0..OPERATIONS {
            writer.write_all(b"x").unwrap();
            context.yield_now().await;
        }
        while read.get() < OPERATIONS {
            context.yield_now().await;
        }
        assert_eq!(ring.in_flight(), 0);
    });
}

#[test]
fn a_shard_that_ends_with_operations_in_flight_takes_them_back() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    on_shard(seat(0), move |context| async move {
        let (ring, socket) = (context.ring(), IoFd::new(ours));
        context
            .spawn_local(async move {
                let memory = Mapped::new(4096);
                let ended = ring.recv_exact(&socket, memory.span(0, 4096)).await;
                let errno = libc::ECANCELED;
                assert_eq!(
                    ended,
                    Err(RingError::Failed {
                        operation: "recv",
                        errno
                    })
                );
            })
            .detach();
        context.sleep(Duration::from_millis(1)).await;
        assert_eq!(context.ring().in_flight(), 1);
    });
    drop(theirs);
}

#[test]
fn files_are_read_where_they_were_written() {
    let file = tempfile::tempfile().unwrap();
    on_shard(seat(0), move |context| async move {
        let ring = context.ring();
        let memory = Mapped::new(1 << 20);
        let file = IoFd::new(file);
        let (out, back) = (memory.span(0, 300_000), memory.span(500_000, 300_000));
        support::fill(&out, &pattern(17, 300_000));
        ring.write_at(&file, 12_345, out.clone()).await.unwrap();
        ring.read_at(&file, 12_345, back.clone()).await.unwrap();
        assert!(bytes_of(&out) == bytes_of(&back));
        let beyond = ring.read_at(&file, 312_000, back).await.unwrap_err();
        assert!(beyond.to_string().contains("345 of 300000"), "{beyond}");
    });
}

#[test]
fn progress_is_idle_by_default() {
    assert_eq!(
        Progress::default(),
        Progress {
            worked: false,
            in_flight: false,
            next_timer_ns: None,
            stop: false
        }
    );
}
