//! Rule 12: device memory between two processes.

use std::ffi::{CString, c_char};
use std::ptr::null_mut;

use crate::support::{Address, Sim};

const KIB: usize = 1024;

fn export(sim: &Sim, block: Address, flags: u64) -> CString {
    let mut key = [0_u8; 65];
    let at = key.as_mut_ptr().cast::<c_char>();
    ok!(
        sim.acl.aclrtIpcMemGetExportKey.unwrap(),
        block,
        KIB,
        at,
        key.len(),
        flags
    );
    CString::from_vec_with_nul(key[..=key.iter().position(|byte| *byte == 0).unwrap()].to_vec())
        .unwrap()
}

fn import(sim: &Sim, key: &str, flags: u64) -> (i32, Address) {
    let key = CString::new(key).unwrap();
    let mut at = null_mut();
    let code = code!(
        sim.acl.aclrtIpcMemImportByKey.unwrap(),
        &raw mut at,
        key.as_ptr(),
        flags
    );
    (code, at)
}

rule!(a_key_gives_the_bytes_to_another_process, [], |sim| {
    sim.begin(i32::from(!Sim::role().is_empty()));
    if let Some(key) = Sim::role().strip_prefix("import ") {
        assert_eq!(
            import(sim, key, 0).0,
            107_000,
            "another card's, without the access flag"
        );
        let (code, theirs) = import(sim, key, 1);
        assert_eq!(code, 0);
        let (own, host, stream) = (sim.device_block(KIB), sim.pinned(&[0; KIB]), sim.stream());
        assert_eq!(
            sim.copy(host, theirs, KIB, stream),
            107_000,
            "never to the host directly"
        );
        assert_eq!(sim.copy(own, theirs, KIB, stream), 0);
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(sim.read(own, KIB), [6; KIB]);
        ok!(sim.acl.aclrtMemset, own, KIB, 7, KIB);
        assert_eq!(sim.copy(theirs, own, KIB, stream), 0);
        assert_eq!(sim.sync(stream), 0);
        let key = CString::new(key).unwrap();
        ok!(sim.acl.aclrtIpcMemClose.unwrap(), key.as_ptr());
        return;
    }
    let block = sim.device_block(KIB);
    ok!(sim.acl.aclrtMemset, block, KIB, 6, KIB);
    let key = export(sim, block, 1);
    let role = format!("import {}", key.to_str().unwrap());
    assert!(sim.start(&role, &[]).wait().unwrap().success());
    assert_eq!(sim.read(block, KIB), [7; KIB]);
    ok!(sim.acl.aclrtIpcMemClose.unwrap(), key.as_ptr());
    assert_eq!(sim.count("closed_before_importer"), 0);
});

rule!(a_key_is_for_the_named_processes, [], |sim| {
    sim.begin(0);
    if let Some(key) = Sim::role().strip_prefix("import ") {
        assert_eq!(import(sim, key, 1).0, 507_022, "nobody named this process");
        return;
    }
    let key = export(sim, sim.device_block(KIB), 0);
    let role = format!("import {}", key.to_str().unwrap());
    assert!(sim.start(&role, &[]).wait().unwrap().success());
    let mut own = std::process::id() as i32;
    ok!(
        sim.acl.aclrtIpcMemSetImportPid.unwrap(),
        key.as_ptr(),
        &raw mut own,
        1
    );
    assert_eq!(import(sim, key.to_str().unwrap(), 1).0, 0, "named now");
    let mut short = [0; 64];
    let export = sim.acl.aclrtIpcMemGetExportKey.unwrap();
    let block = sim.device_block(KIB);
    assert_eq!(
        code!(export, block, KIB, short.as_mut_ptr(), short.len(), 0),
        107_000
    );
});

/// Waits for a file that another process of the rule makes.
fn wait_for(path: &std::path::Path, other: &mut std::process::Child) {
    while !path.exists() {
        assert!(other.try_wait().unwrap().is_none(), "the other one runs");
        std::thread::yield_now();
    }
}

rule!(
    what_the_exporter_frees_is_poison_to_the_importer,
    [],
    |sim| {
        sim.begin(0);
        let [imported, freed] = ["imported", "freed"].map(|name| sim.dir.join(name));
        if let Some(key) = Sim::role().strip_prefix("import ") {
            let (code, theirs) = import(sim, key, 1);
            assert_eq!(code, 0);
            std::fs::write(imported, "").unwrap();
            while !freed.exists() {
                std::thread::yield_now();
            }
            // The planted bug: memory that its owner has freed.
            let (own, stream) = (sim.device_block(KIB), sim.stream());
            assert_eq!(sim.copy(own, theirs, KIB, stream), 0);
            assert_eq!(sim.sync(stream), 0);
            assert_eq!(sim.read(own, KIB), [0x5A; KIB]);
            return;
        }
        let block = sim.device_block(KIB);
        let key = export(sim, block, 1);
        let mut other = sim.start(&format!("import {}", key.to_str().unwrap()), &[]);
        wait_for(&imported, &mut other);
        ok!(sim.acl.aclrtIpcMemClose.unwrap(), key.as_ptr());
        assert_eq!(sim.count("closed_before_importer"), 1, "told");
        ok!(sim.acl.aclrtFree, block);
        std::fs::write(freed, "").unwrap();
        assert!(other.wait().unwrap().success());
    }
);

rule!(memory_of_a_killed_process_is_known_as_such, [], |sim| {
    sim.begin(0);
    let path = sim.dir.join("key");
    if Sim::role() == "export" {
        let key = export(sim, sim.device_block(KIB), 1);
        std::fs::write(sim.dir.join("key.part"), key.to_bytes()).unwrap();
        std::fs::rename(sim.dir.join("key.part"), path).unwrap();
        loop {
            std::thread::park(); // Until it is killed.
        }
    }
    let mut other = sim.start("export", &[]);
    while !path.exists() {
        assert!(
            other.try_wait().unwrap().is_none(),
            "the exporter runs until it is killed"
        );
        std::thread::yield_now();
    }
    let key = std::fs::read_to_string(&path).unwrap();
    let (code, theirs) = import(sim, &key, 1);
    assert_eq!(code, 0);
    let (own, stream) = (sim.device_block(KIB), sim.stream());
    assert_eq!(sim.copy(own, theirs, KIB, stream), 0);
    assert_eq!(sim.sync(stream), 0);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(sim.copy(own, theirs, KIB, stream), 0);
    assert_eq!(sim.sync(stream), 507_057);
    assert_eq!(import(sim, &key, 1).0, 507_057);
});

rule!(
    a_killed_process_gives_its_memory_back,
    [HBM_BYTES = "4194304"],
    |sim| {
        sim.begin(0);
        let ready = sim.dir.join("ready");
        if Sim::role() == "hold" {
            sim.device_block(4 << 20);
            std::fs::write(ready, "").unwrap();
            loop {
                std::thread::park();
            }
        }
        let mut other = sim.start("hold", &[]);
        while !ready.exists() {
            assert!(other.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        let mut block = null_mut();
        assert_eq!(
            code!(sim.acl.aclrtMalloc, &raw mut block, KIB, 0),
            207_001,
            "one card for both"
        );
        other.kill().unwrap();
        other.wait().unwrap();
        ok!(sim.acl.aclrtMalloc, &raw mut block, KIB, 0);
    }
);
