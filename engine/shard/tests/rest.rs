//! Timers, yields, control queues, and a shard at rest.
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module"
)]

mod support;

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use chariot_shard::{
    ControlOutbox, ControlReceiver, IoFd, Pass, Progress, ShardExecutor, control_to_shard,
    monotonic_ns, shard_to_control,
};
use support::{on_shard, seat};

/// CPU time of the calling thread in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime(2) asks for writable memory of one timespec.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(failed, 0);
    // SAFETY: clock_gettime returned 0, so it has written the whole timespec.
    let time = unsafe { time.assume_init() };
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

#[test]
fn an_idle_shard_parks_and_uses_less_than_one_percent_of_its_core() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // The default spin budget: what idles must not be what was configured not to spin.
    let (cpu_ns, sleeps) = on_shard(seat(50), move |context| async move {
        let (ring, listener) = (context.ring(), IoFd::new(listener));
        let _accept = context.spawn_local(async move { ring.accept(&listener).await });
        context.sleep(Duration::from_millis(10)).await;
        let (cpu_ns, sleeps) = (thread_cpu_ns(), context.driver_stats().sleeps);
        context.sleep(Duration::from_secs(1)).await;
        (
            thread_cpu_ns() - cpu_ns,
            context.driver_stats().sleeps - sleeps,
        )
    });
    assert!(cpu_ns < 10_000_000, "{cpu_ns} ns of CPU in one idle second");
    assert!(sleeps <= 3, "one sleep until its timer, not {sleeps}");
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_not_before() {
    let order = on_shard(seat(0), |context| async move {
        let order = Rc::new(std::cell::RefCell::new(Vec::new()));
        let start = monotonic_ns();
        let tasks: Vec<_> = [30, 10, 20]
            .map(|milliseconds| {
                let (context, order) = (context.clone(), Rc::clone(&order));
                context.clone().spawn_local(async move {
                    context.sleep(Duration::from_millis(milliseconds)).await;
                    assert!(monotonic_ns() - start >= milliseconds * 1_000_000);
                    order.borrow_mut().push(milliseconds);
                })
            })
            .into();
        for task in tasks {
            task.await;
        }
        order.take()
    });
    assert_eq!(order, [10, 20, 30]);
}

#[test]
fn a_yielding_task_keeps_the_shard_awake_and_the_driver_going() {
    on_shard(seat(0), |context| async move {
        let before = context.driver_stats();
        for _ in 0..1000 {
            context.yield_now().await;
        }
        let after = context.driver_stats();
        assert!(
            after.passes - before.passes >= 1000,
            "a round for each yield"
        );
        assert_eq!(after.sleeps, before.sleeps);
    });
}

#[test]
fn a_cancelled_task_does_not_go_on() {
    on_shard(seat(0), |context| async move {
        let ran = Rc::new(Cell::new(false));
        let task = context.spawn_local({
            let (context, ran) = (context.clone(), Rc::clone(&ran));
            async move {
                context.sleep(Duration::from_millis(1)).await;
                ran.set(true);
            }
        });
        assert!(task.cancel().await.is_none());
        context.sleep(Duration::from_millis(5)).await;
        assert!(!ran.get());
    });
}

#[test]
fn timeout_at_lets_a_quick_future_through() {
    on_shard(seat(0), |context| async move {
        let quick = context.sleep(Duration::from_millis(1));
        let late = monotonic_ns() + 10_000_000_000;
        assert_eq!(context.timeout_at(late, quick).await, Ok(()));
    });
}

struct ControlPass {
    orders: ControlReceiver<u64>,
    replies: ControlOutbox<u64>,
    stop: bool,
}

impl Pass for ControlPass {
    fn pass(&mut self, _now_ns: u64) -> Progress {
        let mut worked = false;
        while let Some(order) = self.orders.try_recv() {
            worked = true;
            self.stop |= order == 0;
            self.replies.try_send(order * 2).unwrap();
        }
        Progress {
            worked,
            stop: self.stop,
            ..Progress::default()
        }
    }

    fn pending(&mut self) -> bool {
        self.orders.pending()
    }
}

#[test]
fn control_messages_wake_the_shard_and_its_replies_wake_the_control_thread() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 500;
    let seat = seat(0);
    let (sender, orders) = control_to_shard::<u64>(seat.bell(), 16);
    let (replies, mut inbox) = shard_to_control::<u64>(4096).unwrap();
    let join = ShardExecutor::spawn(seat, move |context| async move {
        context
            .run(&mut ControlPass {
                orders,
                replies,
                stop: false,
            })
            .await
            .unwrap();
    })
    .unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for order in 1..=EACH {
                    while sender.try_send(order).is_err() {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let (mut count, mut sum) = (0, 0);
    while count < SENDERS * EACH {
        while let Some(reply) = inbox.try_recv() {
            count += 1;
            sum += reply;
        }
        if count < SENDERS * EACH && inbox.arm() {
            let mut poll = libc::pollfd {
                fd: std::os::fd::AsFd::as_fd(&inbox).as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: poll(2) reads and writes one pollfd at the pointer: `poll`, alive here.
            let ready = unsafe { libc::poll(&raw mut poll, 1, 30_000) };
            assert_eq!(ready, 1, "a reply signals the control thread");
        }
    }
    assert_eq!(sum, SENDERS * EACH * (EACH + 1));
    for sender in senders {
        sender.join().unwrap();
    }
    sender.try_send(0).unwrap();
    join.join().unwrap();
}

#[test]
fn a_shard_on_a_cpu_that_is_not_there_says_so() {
    let mut spec = support::spec(0);
    spec.cpu = Some(100_000);
    let seat = chariot_shard::ShardSeat::new(spec).unwrap();
    let refused = ShardExecutor::spawn(seat, |_| async {}).map(chariot_shard::ShardJoin::join);
    let error = match refused {
        Ok(joined) => joined.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        error
            .to_string()
            .starts_with("the executor of shard-0 cannot start"),
        "{error}"
    );
}
