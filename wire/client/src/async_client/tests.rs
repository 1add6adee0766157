//! Futures against a daemon in a thread, on an executor of a few lines.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use chariot_proto::Status;

use super::AsyncClient;
use crate::local::fake::{FakeDaemon, Manners};
use crate::{ConnectOptions, GetOptions, SetOptions, Target};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls all futures whenever any is woken; fails when nothing wakes them.
fn run_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    let limit = Instant::now() + Duration::from_secs(20);
    while futures.iter().any(|(_, value)| value.is_none()) {
        assert!(Instant::now() < limit, "the driver wakes what has finished");
        for (future, value) in &mut futures {
            if value.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(&mut context)
            {
                *value = Some(ready);
            }
        }
        if futures.iter().any(|(_, value)| value.is_none()) {
            std::thread::park_timeout(Duration::from_secs(5));
        }
    }
    futures
        .into_iter()
        .map(|(_, value)| value.unwrap())
        .collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    run_all(vec![future]).pop().unwrap()
}

fn connect(daemon: &FakeDaemon) -> AsyncClient {
    AsyncClient::connect(ConnectOptions::new(Target::Unix(daemon.path.clone()))).unwrap()
}

fn is_send<T: Send>(value: T) -> T {
    value
}

#[test]
fn futures_do_what_calls_do() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    let bytes = vec![5; 9000];
    let options = SetOptions::default();
    let set = is_send(client.set(b"v", &bytes, &options));
    assert!(run(set).unwrap().raw() > 0);
    assert!(
        run(client.get(b"v", &GetOptions::default()))
            .unwrap()
            .unwrap()
            == bytes
    );
    assert!(
        run(client.view(b"v", &GetOptions::default()))
            .unwrap()
            .unwrap()[..]
            == bytes[..]
    );
    assert!(run(client.exist(b"v")).unwrap());
    assert_eq!(run(client.size(b"v")).unwrap(), Some(9000));
    let mut buffer = run(client.create(b"made", 2000, &SetOptions::default())).unwrap();
    buffer.fill(3);
    run(client.publish(buffer)).unwrap();
    assert_eq!(run(client.prefix(&[b"v", b"made", b"absent"])).unwrap(), 2);
    assert!(run(client.delete(b"v")).unwrap());
    assert_eq!(run(client.get(b"v", &GetOptions::default())).unwrap(), None);
}

#[test]
fn many_futures_are_pending_at_once() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    let keys: Vec<String> = (0..400).map(|index| format!("k{index}")).collect();
    let options = SetOptions::default();
    let sets = keys
        .iter()
        .map(|key| client.set(key.as_bytes(), key.as_bytes(), &options))
        .collect();
    assert!(run_all(sets).into_iter().all(|result| result.is_ok()));
    let options = GetOptions::default();
    let gets = keys
        .iter()
        .map(|key| client.get(key.as_bytes(), &options))
        .collect();
    for (read, key) in run_all(gets).into_iter().zip(&keys) {
        assert_eq!(read.unwrap().unwrap(), key.as_bytes());
    }
}

#[test]
fn future_ends_at_its_deadline() {
    let daemon = FakeDaemon::start(Manners {
        silent: true,
        ..Manners::good(1)
    });
    daemon.hand().put_away(b"v");
    let client = connect(&daemon);
    let deadline = Some(Duration::from_millis(50));
    let options = GetOptions {
        deadline,
        ..GetOptions::default()
    };
    let error = run(client.get(b"v", &options)).unwrap_err();
    assert_eq!(error.status(), Status::Timeout);
}

#[test]
fn dropped_future_leaves_nothing_behind() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    let bytes = vec![1; 4096];
    let options = SetOptions::default();
    for _ in 0..1000 {
        let mut future = pin!(client.set(b"v", &bytes, &options));
        let mut context = Context::from_waker(Waker::noop());
        // Pending or not: it is dropped right here.
        let _ready = future.as_mut().poll(&mut context).is_ready();
    }
    run(client.set(b"v", &bytes, &options)).unwrap();
}

#[test]
fn dead_daemon_ends_pending_futures() {
    let mut daemon = FakeDaemon::start(Manners {
        silent: true,
        ..Manners::good(1)
    });
    let client = connect(&daemon);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| run(client.set(b"v", b"x", &SetOptions::default())));
        daemon.kill();
        assert_eq!(
            call.join().unwrap().unwrap_err().status(),
            Status::Restarting
        );
    });
}
