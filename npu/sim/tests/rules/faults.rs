//! Rules 14 and 15: errors on order, and versions.

use std::os::unix::process::ExitStatusExt;
use std::ptr::null_mut;

use chariot_ascend_rt_sys::{AclApi, HcclApi, LoadError, Search};
use chariot_npu_sim::{Profile, install};

use crate::support::Sim;

rule!(
    the_nth_call_fails_as_ordered,
    [FAULTS = "fail:aclrtMalloc:2:207001"],
    |sim| {
        sim.begin(0);
        let mut block = null_mut();
        ok!(sim.acl.aclrtMalloc, &raw mut block, 64, 0);
        assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut block, 64, 0), 207_001);
        ok!(sim.acl.aclrtMalloc, &raw mut block, 64, 0);
    }
);

rule!(faults_come_from_a_file_while_the_process_runs, [], |sim| {
    let file = sim.dir.join("faults");
    if Sim::role().is_empty() {
        let settings = [("ASCEND_SIM_FAULTS_FILE", file.to_str().unwrap())];
        assert!(sim.start("obey", &settings).wait().unwrap().success());
        return;
    }
    sim.begin(0);
    let mut block = null_mut();
    ok!(sim.acl.aclrtMalloc, &raw mut block, 64, 0);
    let part = sim.dir.join("faults.part");
    std::fs::write(&part, "fail:aclrtMalloc:2:207001,oom:0:8192\n").unwrap();
    std::fs::rename(part, &file).unwrap();
    ok!(sim.acl.aclrtMalloc, &raw mut block, 64, 0);
    assert!(!file.exists(), "taken");
    assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut block, 64, 0), 207_001);
    assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut block, 4096, 0), 207_001);
});

rule!(a_process_is_killed_on_order, [], |sim| {
    let orders = [("call", "kill:aclrtMalloc:2"), ("task", "killtask:0:2")];
    if !Sim::role().is_empty() {
        sim.begin(0);
        let (card, stream) = (sim.device_block(64), sim.stream());
        ok!(sim.acl.aclrtMemsetAsync, card, 64, 1, 64, stream);
        assert_eq!(sim.sync(stream), 0);
        std::fs::write(sim.dir.join(Sim::role()), "").unwrap();
        if Sim::role() == "call" {
            sim.device_block(64);
        }
        ok!(sim.acl.aclrtMemsetAsync, card, 64, 1, 64, stream);
        sim.sync(stream);
        return;
    }
    for (role, order) in orders {
        let mut child = sim.start(role, &[("ASCEND_SIM_FAULTS", order)]);
        assert_eq!(
            child.wait().unwrap().signal(),
            Some(libc::SIGKILL),
            "{role}"
        );
        assert!(sim.dir.join(role).exists(), "{role}: not before its turn");
    }
});

rule!(a_lost_card_stays_lost, [], |sim| {
    sim.begin(0);
    sim.fault("lost:0:2");
    let (card, stream) = (sim.device_block(64), sim.stream());
    ok!(sim.acl.aclrtMemsetAsync, card, 64, 1, 64, stream);
    assert_eq!(sim.sync(stream), 0);
    ok!(sim.acl.aclrtMemsetAsync, card, 64, 1, 64, stream);
    assert_eq!(sim.sync(stream), 507_010);
    assert_eq!(sim.sync(stream), 507_010);
    let mut block = null_mut();
    assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut block, 64, 0), 507_010);
    let mut status = -1;
    ok!(sim.acl.aclrtQueryDeviceStatus.unwrap(), 0, &raw mut status);
    assert_eq!(status, 1);
    ok!(sim.acl.aclrtSetDevice, 1);
    assert!(!sim.device_block(64).is_null(), "other cards go on");
});

rule!(a_failed_task_is_told_by_the_wait, [], |sim| {
    sim.begin(0);
    sim.fault("task:0:1:507056");
    let (card, stream) = (sim.device_block(64), sim.stream());
    ok!(sim.acl.aclrtMemsetAsync, card, 64, 1, 64, stream);
    ok!(sim.acl.aclrtMemsetAsync, card, 64, 2, 64, stream);
    assert_eq!(sim.sync(stream), 507_056);
    assert_eq!(sim.read(card, 64), [2; 64], "the next one ran");
});

rule!(a_stream_can_stop_at_a_failure, [SCHEDULE = "late"], |sim| {
    sim.begin(0);
    sim.fault("task:0:1:507056");
    let (card, stream) = (sim.device_block(64), sim.stream());
    ok!(sim.acl.aclrtSetStreamFailureMode.unwrap(), stream, 1);
    ok!(sim.acl.aclrtMemsetAsync, card, 64, 1, 64, stream);
    ok!(sim.acl.aclrtMemsetAsync, card, 64, 2, 64, stream);
    assert_eq!(sim.sync(stream), 507_056);
    assert_eq!(sim.read(card, 64), [0xA5; 64], "the next one did not run");
});

rule!(a_bit_turns_on_order, [], |sim| {
    sim.begin(0);
    sim.fault("flip:0:1");
    let (card, host, stream) = (sim.device_block(64), sim.pinned(&[0; 64]), sim.stream());
    assert_eq!(sim.copy(card, host, 64, stream), 0);
    assert_eq!(sim.sync(stream), 0);
    let ones: u32 = sim
        .read(card, 64)
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    assert_eq!(ones, 1);
});

rule!(a_card_can_be_made_small, [FAULTS = "oom:0:8192"], |sim| {
    sim.begin(0);
    let mut block = null_mut();
    assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut block, 8192, 0), 207_001);
    ok!(sim.acl.aclrtMalloc, &raw mut block, 4096, 0);
});

rule!(a_stub_answers_one_code, [], |sim| {
    sim.fault("stub");
    assert_eq!(code!(sim.acl.aclInit, std::ptr::null()), 100_039);
    let error = AclApi::load(&Search::only(&sim.dir)).unwrap_err();
    assert!(matches!(error, LoadError::Stub { .. }), "{error}");
});

#[test]
fn profiles_hide_what_a_version_has_not() {
    let missing = |profile| {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), profile).unwrap();
        let search = Search::only(dir.path());
        let acl = AclApi::load(&search).unwrap().missing();
        (acl, HcclApi::load(&search).unwrap().missing())
    };
    let (acl, hccl) = missing(Profile::Cann81);
    assert!(acl.contains(&"aclrtMemcpyBatch"), "{acl:?}");
    assert!(acl.contains(&"aclrtIpcMemGetExportKey"), "{acl:?}");
    assert!(!acl.contains(&"aclrtHostRegister"), "{acl:?}");
    assert!(hccl.contains(&"HcclGroupStart"), "{hccl:?}");
    let (acl, hccl) = missing(Profile::Cann85);
    assert_eq!(acl, [""; 0]);
    assert_eq!(hccl, ["HcclGroupStart", "HcclGroupEnd"]);
    let (acl, hccl) = missing(Profile::Cann91);
    assert_eq!(
        (acl.len(), hccl.len()),
        (0, 0),
        "the whole header: {acl:?} {hccl:?}"
    );
}
