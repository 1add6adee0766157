//! Rules 6 and 7: threads and their cards, handles that end, limits.

use std::ptr::null_mut;

rule!(nothing_works_before_initialisation, [], |sim| {
    assert_eq!(code!(sim.acl.aclrtSetDevice, 0), 100_001);
    ok!(sim.acl.aclInit, std::ptr::null());
    assert_eq!(code!(sim.acl.aclInit, std::ptr::null()), 100_002);
    ok!(sim.acl.aclFinalize);
    assert_eq!(code!(sim.acl.aclFinalize), 100_037);
    assert_eq!(code!(sim.acl.aclrtSetDevice, 0), 100_001);
});

rule!(each_thread_chooses_its_card, [], |sim| {
    sim.begin(3);
    let mut device = -1;
    ok!(sim.acl.aclrtGetDevice, &raw mut device);
    assert_eq!(device, 3);
    std::thread::scope(|scope| {
        // The planted bug: a worker that relies on its parent's choice.
        let worker = scope.spawn(|| {
            let mut block = null_mut();
            code!(sim.acl.aclrtMalloc, &raw mut block, 64, 0)
        });
        assert_eq!(worker.join().unwrap(), 107_002);
        let worker = scope.spawn(|| {
            ok!(sim.acl.aclrtSetDevice, 4);
            let mut device = -1;
            ok!(sim.acl.aclrtGetDevice, &raw mut device);
            device
        });
        assert_eq!(worker.join().unwrap(), 4);
    });
    assert_eq!(code!(sim.acl.aclrtSetDevice, 8), 107_001);
});

rule!(a_stream_belongs_to_its_context, [], |sim| {
    sim.begin(0);
    let stream = sim.stream();
    ok!(sim.acl.aclrtSetDevice, 1);
    assert_eq!(sim.sync(stream), 107_003);
    ok!(sim.acl.aclrtSetDevice, 0);
    assert_eq!(sim.sync(stream), 0);
    assert_eq!(sim.sync(sim.event()), 107_017, "an event is no stream");
});

rule!(a_forced_reset_ends_handles, [], |sim| {
    sim.begin(0);
    let (stream, event) = (sim.stream(), sim.event());
    ok!(sim.acl.aclrtResetDeviceForce.unwrap(), 0);
    assert_eq!(sim.sync(stream), 107_002, "the context went with the card");
    ok!(sim.acl.aclrtSetDevice, 0);
    assert_eq!(sim.sync(stream), 107_003);
    assert_eq!(code!(sim.acl.aclrtSynchronizeEvent, event), 107_017);
});

rule!(finalising_ends_handles_and_memory, [], |sim| {
    sim.begin(0);
    let (stream, event, block) = (sim.stream(), sim.event(), sim.device_block(64));
    ok!(sim.acl.aclFinalize);
    assert_eq!(sim.sync(stream), 100_001);
    sim.begin(0);
    // The planted bug: what was made before is used after.
    assert_eq!(sim.sync(stream), 107_003);
    assert_eq!(code!(sim.acl.aclrtDestroyEvent, event), 107_017);
    assert_eq!(code!(sim.acl.aclrtFree, block), 107_000);
    assert_eq!(sim.leaks(), 0);
});

rule!(a_reset_waits_for_the_last_user, [], |sim| {
    sim.begin(0);
    ok!(sim.acl.aclrtSetDevice, 0);
    let stream = sim.stream();
    ok!(sim.acl.aclrtResetDevice, 0);
    assert_eq!(sim.sync(stream), 0);
    ok!(sim.acl.aclrtResetDevice, 0);
    assert_eq!(sim.sync(stream), 107_002);
});

rule!(streams_and_events_have_limits, [], |sim| {
    sim.begin(0);
    let mut stream = null_mut();
    for _ in 0..1984 {
        ok!(sim.acl.aclrtCreateStream, &raw mut stream);
    }
    assert_eq!(code!(sim.acl.aclrtCreateStream, &raw mut stream), 207_008);
    ok!(sim.acl.aclrtDestroyStream, stream);
    ok!(sim.acl.aclrtCreateStream, &raw mut stream);
    let mut event = null_mut();
    for _ in 0..65_536 {
        ok!(sim.acl.aclrtCreateEvent, &raw mut event);
    }
    assert_eq!(code!(sim.acl.aclrtCreateEvent, &raw mut event), 207_007);
});

rule!(peers_need_a_permit, [], |sim| {
    sim.begin(0);
    let first = sim.device_block(64);
    ok!(sim.acl.aclrtSetDevice, 1);
    let (second, stream) = (sim.device_block(64), sim.stream());
    assert_eq!(sim.copy(second, first, 64, stream), 107_000);
    ok!(sim.acl.aclrtDeviceEnablePeerAccess, 0, 0);
    assert_eq!(sim.copy(second, first, 64, stream), 0);
    assert_eq!(sim.sync(stream), 0);
    let mut can = -1;
    ok!(sim.acl.aclrtDeviceCanAccessPeer, &raw mut can, 0, 1);
    assert_eq!(can, 1);
});

rule!(the_last_error_is_told_once_and_to_its_thread, [], |sim| {
    sim.begin(0);
    assert_eq!(code!(sim.acl.aclrtFree, null_mut()), 107_000);
    let text = code!(sim.acl.aclGetRecentErrMsg);
    assert!(!text.is_null());
    assert!(code!(sim.acl.aclGetRecentErrMsg).is_null());
});
