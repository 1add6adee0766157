//! Rules 2, 3, 4, 7 and 16: what an address is good for, and what is left over.

use std::os::unix::process::ExitStatusExt;
use std::ptr::null_mut;

use chariot_ascend_rt_sys::sys;

use crate::support::{Sim, peek, write};

const KIB: usize = 1024;
const MIB: usize = 1 << 20;

rule!(the_host_cannot_touch_device_memory, [], |sim| {
    if Sim::role() == "touch" {
        sim.begin(0);
        // The planted bug: reading through a device pointer.
        std::hint::black_box(peek(sim.device_block(64), 1));
        return;
    }
    let status = sim.start("touch", &[]).wait().unwrap();
    assert_eq!(status.signal(), Some(libc_sigsegv()), "{status}");
});

/// The number of the signal for a bad address, on every Linux.
const fn libc_sigsegv() -> i32 {
    11
}

rule!(fresh_memory_is_poisoned, [], |sim| {
    sim.begin(0);
    assert_eq!(sim.read(sim.device_block(KIB), KIB), [0xA5; KIB]);
});

rule!(a_copy_to_freed_memory_fails_as_a_task, [], |sim| {
    sim.begin(0);
    let (card, host, stream) = (sim.device_block(KIB), sim.pinned(&[1; KIB]), sim.stream());
    ok!(sim.acl.aclrtFree, card);
    assert_eq!(sim.copy(card, host, KIB, stream), 0, "the call cannot know");
    assert_eq!(sim.sync(stream), 507_053);
    assert_eq!(sim.count("freed_touched"), 1);
    assert_eq!(code!(sim.acl.aclrtFree, card), 107_000, "freed twice");
    let next = sim.device_block(KIB);
    assert_ne!(next, card, "addresses rest before they are given again");
});

rule!(a_copy_beyond_a_block_fails, [], |sim| {
    sim.begin(0);
    let (card, host, stream) = (sim.device_block(100), sim.pinned(&[1; 200]), sim.stream());
    assert_eq!(sim.copy(card, host, 101, stream), 0);
    assert_eq!(sim.sync(stream), 507_053);
    assert_eq!(sim.sync(stream), 0, "told once");
});

rule!(memory_of_another_card_is_told_by_its_address, [], |sim| {
    sim.begin(1);
    let theirs = sim.device_block(KIB);
    ok!(sim.acl.aclrtSetDevice, 0);
    let (host, stream) = (sim.pinned(&[1; KIB]), sim.stream());
    // The planted bug: card 1's memory on a stream of card 0.
    assert_eq!(sim.copy(theirs, host, KIB, stream), 107_000);
    assert_eq!(sim.copy(host, theirs, KIB, stream), 107_000);
    assert_eq!(
        code!(sim.acl.aclrtMemsetAsync, theirs, KIB, 1, KIB, stream),
        107_000
    );
    assert_eq!(code!(sim.acl.aclrtMemset, theirs, KIB, 1, KIB), 107_000);
    assert_eq!(sim.count("wrong_card"), 4);
    ok!(sim.acl.aclrtSetDevice, 1);
    assert_eq!(sim.read(theirs, KIB), [0xA5; KIB]);
});

rule!(
    a_full_card_says_so_and_huge_pages_waste,
    [HBM_BYTES = "16777216"],
    |sim| {
        sim.begin(0);
        // Eight blocks just above 1 MiB take 2 MiB each: the card is full.
        let blocks: Vec<_> = (0..8).map(|_| sim.device_block(MIB + 1)).collect();
        let mut more = null_mut();
        assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut more, 1, 0), 207_001);
        let (mut free, mut total) = (0, 0);
        ok!(
            sim.acl.aclrtGetMemInfo,
            sys::ACL_HBM_MEM,
            &raw mut free,
            &raw mut total
        );
        assert_eq!((free, total), (0, 16 * MIB));
        for block in blocks {
            ok!(sim.acl.aclrtFree, block);
        }
        assert!(!sim.device_block(MIB).is_null());
        assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut more, 0, 0), 107_000);
        assert_eq!(code!(sim.acl.aclrtMalloc, &raw mut more, 1, 9), 107_018);
    }
);

rule!(
    pageable_memory_makes_a_modern_driver_wait,
    [SCHEDULE = "late"],
    |sim| {
        sim.begin(0);
        let (card, stream) = (sim.device_block(KIB), sim.stream());
        let mut pageable = vec![1_u8; KIB];
        assert_eq!(sim.copy(card, pageable.as_mut_ptr().cast(), KIB, stream), 0);
        pageable.fill(2);
        assert_eq!(
            sim.read(card, KIB),
            [1; KIB],
            "copied before the call returned"
        );
        assert_eq!(sim.count("pageable_async"), 1);
    }
);

rule!(
    pageable_memory_is_not_noticed_by_an_old_driver,
    [SCHEDULE = "late", PAGEABLE = "legacy"],
    |sim| {
        sim.begin(0);
        let (card, stream) = (sim.device_block(KIB), sim.stream());
        let mut pageable = vec![1_u8; KIB];
        assert_eq!(sim.copy(card, pageable.as_mut_ptr().cast(), KIB, stream), 0);
        pageable.fill(2);
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(sim.read(card, KIB), [2; KIB], "copied late, and wrong");
    }
);

/// A page-aligned host range that nobody registered.
fn pages(len: usize) -> (*mut std::ffi::c_void, Vec<u8>) {
    let mut memory = vec![0_u8; len + 65_536];
    let at = memory.as_mut_ptr();
    let to_page = at.align_offset(65_536);
    (at.wrapping_add(to_page).cast(), memory)
}

rule!(registered_memory_is_pinned_until_it_is_not, [], |sim| {
    sim.begin(0);
    let (at, _memory) = pages(4096);
    let register = sim.acl.aclrtHostRegisterV2.unwrap();
    let pinned = sys::ACL_HOST_REG_PINNED;
    assert_eq!(
        code!(register, at.wrapping_byte_add(1), 4096, pinned),
        107_000,
        "not aligned"
    );
    ok!(register, at, 4096, pinned);
    assert_eq!(code!(register, at, 4096, pinned), 507_910);
    let (card, stream) = (sim.device_block(KIB), sim.stream());
    assert_eq!(sim.copy(card, at, KIB, stream), 0);
    assert_eq!(sim.sync(stream), 0);
    assert_eq!(sim.count("pageable_async"), 0);
    ok!(sim.acl.aclrtHostUnregister.unwrap(), at);
    assert_eq!(code!(sim.acl.aclrtHostUnregister.unwrap(), at), 507_911);
    assert_eq!(sim.copy(card, at, KIB, stream), 0);
    assert_eq!(sim.count("pageable_async"), 1);
});

rule!(
    the_pointer_of_a_registration_is_for_kernels_alone,
    [],
    |sim| {
        sim.begin(0);
        let (at, _memory) = pages(4096);
        let mut kernel = null_mut();
        ok!(
            sim.acl.aclrtHostRegister.unwrap(),
            at,
            4096,
            sys::ACL_HOST_REGISTER_MAPPED,
            &raw mut kernel
        );
        let (card, stream) = (sim.device_block(KIB), sim.stream());
        assert_eq!(sim.copy(card, kernel, KIB, stream), 107_000);
    }
);

rule!(
    a_driver_may_record_a_registration_without_effect,
    [REGISTER = "record"],
    |sim| {
        sim.begin(0);
        let (at, _memory) = pages(4096);
        ok!(
            sim.acl.aclrtHostRegisterV2.unwrap(),
            at,
            4096,
            sys::ACL_HOST_REG_PINNED
        );
        let (card, stream) = (sim.device_block(KIB), sim.stream());
        assert_eq!(sim.copy(card, at, KIB, stream), 0);
        assert_eq!(sim.count("pageable_async"), 1);
    }
);

rule!(
    a_driver_may_refuse_registration,
    [REGISTER = "refuse"],
    |sim| {
        sim.begin(0);
        let (at, _memory) = pages(4096);
        let pinned = sys::ACL_HOST_REG_PINNED;
        assert_eq!(
            code!(sim.acl.aclrtHostRegisterV2.unwrap(), at, 4096, pinned),
            207_000
        );
    }
);

/// The program's own constants: pages that cannot be written.
#[repr(C, align(65536))]
struct Constants([u8; 65_536]);
static CONSTANTS: Constants = Constants([3; 65_536]);

rule!(read_only_pages_are_taken_where_the_driver_can, [], |sim| {
    sim.begin(0);
    let at = (&raw const CONSTANTS.0).cast_mut().cast();
    let register = sim.acl.aclrtHostRegisterV2.unwrap();
    assert_eq!(
        code!(register, at, 4096, sys::ACL_HOST_REG_PINNED),
        107_000,
        "not said to be so"
    );
    ok!(
        register,
        at,
        4096,
        sys::ACL_HOST_REG_PINNED | sys::ACL_HOST_REG_READONLY
    );
    let (card, stream) = (sim.device_block(KIB), sim.stream());
    assert_eq!(sim.copy(card, at, KIB, stream), 0);
    assert_eq!(sim.sync(stream), 0);
    assert_eq!(sim.read(card, KIB), [3; KIB]);
    assert_eq!(sim.count("pageable_async"), 0);
    assert_eq!(sim.copy(at, card, KIB, stream), 107_000, "never written");
});

rule!(
    read_only_pages_are_refused_where_it_cannot,
    [REGISTER = "writable"],
    |sim| {
        sim.begin(0);
        let at = (&raw const CONSTANTS.0).cast_mut().cast();
        let flags = sys::ACL_HOST_REG_PINNED | sys::ACL_HOST_REG_READONLY;
        assert_eq!(
            code!(sim.acl.aclrtHostRegisterV2.unwrap(), at, 4096, flags),
            107_000
        );
    }
);

rule!(pinned_memory_has_a_limit, [PINNED_BYTES = "8192"], |sim| {
    sim.begin(0);
    let first = sim.pinned(&[0; 8192]);
    let mut more = null_mut();
    assert_eq!(code!(sim.acl.aclrtMallocHost, &raw mut more, 1), 207_001);
    let (at, _memory) = pages(4096);
    let pinned = sys::ACL_HOST_REG_PINNED;
    assert_eq!(
        code!(sim.acl.aclrtHostRegisterV2.unwrap(), at, 4096, pinned),
        207_001
    );
    ok!(sim.acl.aclrtFreeHost, first);
    ok!(sim.acl.aclrtHostRegisterV2.unwrap(), at, 4096, pinned);
});

rule!(attributes_tell_what_the_runtime_knows, [], |sim| {
    sim.begin(2);
    let kind = |at: *mut std::ffi::c_void| {
        let location = sys::aclrtMemLocation { id: 99, type_: 99 };
        let mut found = sys::aclrtPtrAttributes {
            location,
            pageSize: 0,
            rsv: [0; 4],
        };
        ok!(
            sim.acl.aclrtPointerGetAttributes.unwrap(),
            at.cast_const(),
            &raw mut found
        );
        (found.location.type_, found.location.id)
    };
    assert_eq!(kind(sim.device_block(1)), (1, 2));
    assert_eq!(kind(sim.pinned(&[1])).0, 0);
    assert_eq!(kind(pages(1).0).0, 2);
});

rule!(
    unfinished_work_and_communicators_are_reported,
    [SCHEDULE = "late"],
    |sim| {
        let report = sim.dir.join("report");
        if Sim::role() != "leak" {
            let settings = [("ASCEND_SIM_REPORT", report.to_str().unwrap())];
            assert!(sim.start("leak", &settings).wait().unwrap().success());
            let told = std::fs::read_to_string(&report).unwrap();
            let kinds = [
                "1 allocations",
                "1 imports",
                "1 streams",
                "1 streams with work that nobody waited for",
                "1 communicators",
                "1 contexts",
            ];
            assert_eq!(told.lines().collect::<Vec<_>>(), kinds);
            return;
        }
        sim.begin(0);
        let mut root = sys::HcclRootInfo {
            internal: [0; 4108],
        };
        let mut comm = null_mut();
        ok!(sim.hccl.HcclGetRootInfo, &raw mut root);
        ok!(
            sim.hccl.HcclCommInitRootInfo,
            1,
            &raw const root,
            0,
            &raw mut comm
        );
        let (card, mut key, mut import) = (sim.device_block(KIB), [0; 65], null_mut());
        let export = sim.acl.aclrtIpcMemGetExportKey.unwrap();
        ok!(export, card, KIB, key.as_mut_ptr(), key.len(), 1);
        let take = sim.acl.aclrtIpcMemImportByKey.unwrap();
        ok!(take, &raw mut import, key.as_ptr(), 1);
        let mut context = null_mut();
        ok!(sim.acl.aclrtCreateContext, &raw mut context, 0);
        let stream = sim.stream();
        sim.fault("hang:0:1");
        ok!(sim.acl.aclrtMemsetAsync, card, KIB, 1, KIB, stream);
        // The planted bugs: it ends like this.
    }
);

rule!(what_is_left_over_is_reported, [], |sim| {
    let report = sim.dir.join("report");
    if Sim::role() != "leak" && Sim::role() != "clean" {
        let path = report.to_str().unwrap();
        for (role, words) in [
            ("clean", ""),
            (
                "leak",
                "1 allocations\n1 streams\n1 events\n1 host ranges\n",
            ),
        ] {
            let settings = [("ASCEND_SIM_REPORT", path)];
            assert!(sim.start(role, &settings).wait().unwrap().success());
            assert_eq!(std::fs::read_to_string(&report).unwrap(), words, "{role}");
        }
        return;
    }
    sim.begin(0);
    let (card, host) = (sim.device_block(KIB), sim.pinned(&[1; KIB]));
    let (stream, event) = (sim.stream(), sim.event());
    write(host, &[2; KIB]);
    assert_eq!(sim.leaks(), 4);
    if Sim::role() == "clean" {
        ok!(sim.acl.aclrtFree, card);
        ok!(sim.acl.aclrtFreeHost, host);
        ok!(sim.acl.aclrtDestroyStream, stream);
        ok!(sim.acl.aclrtDestroyEvent, event);
    }
    // The planted bug of the other role: it ends without giving back, and without finalising.
});
