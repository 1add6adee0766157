//! Rules 1 and 8: order, waiting, and numbers that mean the reverse of each other.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::sys;

use crate::support::{peek, write};

const KIB: usize = 1024;

rule!(
    a_source_reused_before_the_wait_is_seen_on_the_card,
    [SCHEDULE = "late"],
    |sim| {
        sim.begin(0);
        let (card, host, stream) = (sim.device_block(KIB), sim.pinned(&[1; KIB]), sim.stream());
        assert_eq!(sim.copy(card, host, KIB, stream), 0);
        write(host, &[2; KIB]); // The planted bug: no wait before this.
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(
            sim.read(card, KIB),
            [2; KIB],
            "the copy ran after the reuse"
        );
        assert_eq!(sim.copy(card, host, KIB, stream), 0);
        assert_eq!(sim.sync(stream), 0);
        write(host, &[3; KIB]);
        assert_eq!(sim.read(card, KIB), [2; KIB], "a wait protects");
    }
);

rule!(
    a_result_read_before_the_wait_is_old,
    [SCHEDULE = "late"],
    |sim| {
        sim.begin(0);
        let (card, host, stream) = (sim.device_block(KIB), sim.pinned(&[7; KIB]), sim.stream());
        ok!(sim.acl.aclrtMemset, card, KIB, 9, KIB);
        assert_eq!(sim.copy(host, card, KIB, stream), 0);
        assert_eq!(peek(host, KIB), [7; KIB], "nothing has come yet");
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(peek(host, KIB), [9; KIB]);
    }
);

rule!(tasks_of_a_stream_run_in_order, [], |sim| {
    sim.begin(0);
    let (card, stream) = (sim.device_block(KIB), sim.stream());
    for value in 0..200 {
        ok!(sim.acl.aclrtMemsetAsync, card, KIB, value, KIB, stream);
    }
    assert_eq!(sim.sync(stream), 0);
    assert_eq!(sim.read(card, KIB), [199; KIB]);
});

rule!(an_event_orders_two_streams, [SCHEDULE = "late"], |sim| {
    sim.begin(0);
    let (card, first, second) = (sim.device_block(KIB), sim.stream(), sim.stream());
    let (host, event) = (sim.pinned(&[0; KIB]), sim.event());
    ok!(sim.acl.aclrtMemsetAsync, card, KIB, 5, KIB, first);
    ok!(sim.acl.aclrtRecordEvent, event, first);
    ok!(sim.acl.aclrtStreamWaitEvent, second, event);
    assert_eq!(sim.copy(host, card, KIB, second), 0);
    assert_eq!(sim.sync(second), 0);
    assert_eq!(
        peek(host, KIB),
        [5; KIB],
        "the second stream waited for the first"
    );
});

rule!(
    the_two_event_queries_mean_the_reverse,
    [SCHEDULE = "late"],
    |sim| {
        sim.begin(0);
        sim.fault("hang:0:1");
        let (card, stream, event) = (sim.device_block(KIB), sim.stream(), sim.event());
        ok!(sim.acl.aclrtMemsetAsync, card, KIB, 5, KIB, stream);
        ok!(sim.acl.aclrtRecordEvent, event, stream);
        let (mut old, mut new) = (-1, -1);
        ok!(sim.acl.aclrtQueryEvent.unwrap(), event, &raw mut old);
        ok!(sim.acl.aclrtQueryEventStatus, event, &raw mut new);
        assert_eq!((old, new), (1, 0), "not ready: 1 and 0");
        ok!(sim.acl.aclrtStreamAbort.unwrap(), stream);
        ok!(sim.acl.aclrtRecordEvent, event, stream);
        assert_eq!(sim.sync(stream), 0);
        ok!(sim.acl.aclrtQueryEvent.unwrap(), event, &raw mut old);
        ok!(sim.acl.aclrtQueryEventStatus, event, &raw mut new);
        assert_eq!((old, new), (0, 1), "complete: 0 and 1");
    }
);

rule!(kinds_of_events_keep_to_their_calls, [], |sim| {
    sim.begin(0);
    let stream = sim.stream();
    let (mut plain, mut again, mut status) = (null_mut(), null_mut(), -1);
    ok!(
        sim.acl.aclrtCreateEventWithFlag,
        &raw mut plain,
        sys::ACL_EVENT_TIME_LINE
    );
    ok!(
        sim.acl.aclrtCreateEventExWithFlag.unwrap(),
        &raw mut again,
        sys::ACL_EVENT_SYNC
    );
    assert_eq!(code!(sim.acl.aclrtStreamWaitEvent, stream, plain), 107_000);
    assert_eq!(code!(sim.acl.aclrtResetEvent, again, stream), 107_000);
    assert_eq!(
        code!(sim.acl.aclrtQueryEvent.unwrap(), again, &raw mut status),
        107_000
    );
    ok!(sim.acl.aclrtQueryEventStatus, again, &raw mut status);
    assert_eq!(status, 1, "never recorded, the newer kind is complete");
});

rule!(a_stream_that_hangs_ends_by_abort_alone, [], |sim| {
    sim.begin(0);
    sim.fault("hang:0:1");
    let (card, stream) = (sim.device_block(KIB), sim.stream());
    ok!(sim.acl.aclrtMemsetAsync, card, KIB, 1, KIB, stream);
    assert_eq!(
        code!(sim.acl.aclrtSynchronizeStreamWithTimeout, stream, 20),
        507_046
    );
    ok!(sim.acl.aclrtStreamAbort.unwrap(), stream);
    ok!(sim.acl.aclrtMemsetAsync, card, KIB, 2, KIB, stream);
    assert_eq!(sim.sync(stream), 0, "usable after the abort");
    assert_eq!(sim.read(card, KIB), [2; KIB]);
});

rule!(who_waits_across_an_abort_is_told, [], |sim| {
    sim.begin(0);
    sim.fault("hang:0:1");
    let (card, stream) = (sim.device_block(KIB), sim.stream());
    ok!(sim.acl.aclrtMemsetAsync, card, KIB, 1, KIB, stream);
    let mut context = null_mut();
    ok!(sim.acl.aclrtGetCurrentContext, &raw mut context);
    let (context, handle) = (context as usize, stream as usize);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            ok!(sim.acl.aclrtSetCurrentContext, context as *mut c_void);
            sim.sync(handle as *mut c_void)
        });
        // Whoever waits is counted: the abort comes after the wait has begun.
        let begun = Instant::now();
        while sim.count("waiters") == 0 && begun.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        ok!(sim.acl.aclrtStreamAbort.unwrap(), stream);
        assert_eq!(waiter.join().unwrap(), 107_023);
    });
});

rule!(
    a_function_on_the_host_runs_in_its_turn,
    [SCHEDULE = "late"],
    |sim| {
        unsafe extern "C" fn look(argument: *mut c_void) {
            let host = argument.cast::<u8>();
            // SAFETY: the test passes two pinned bytes, and waits before it frees them.
            let seen = unsafe { host.read() };
            // SAFETY: the second of the two.
            unsafe { host.wrapping_add(1).write(seen) };
        }
        sim.begin(0);
        let (card, host, stream) = (sim.device_block(1), sim.pinned(&[0, 0]), sim.stream());
        ok!(sim.acl.aclrtMemsetAsync, card, 1, 8, 1, stream);
        assert_eq!(sim.copy(host, card, 1, stream), 0);
        ok!(
            sim.acl.aclrtLaunchHostFunc.unwrap(),
            stream,
            Some(look),
            host
        );
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(peek(host, 2), [8, 8]);
    }
);
