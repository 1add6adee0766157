//! Faults of the simulator, as the product sees them through the safe interface.

use std::time::{Duration, Instant};

use chariot_ascend_rt_sys::Search;
use chariot_device::{Ascend, DeviceError, DeviceStatus, HostMemory, Stream, Submission};
use chariot_npu_sim::{Profile, install};

use crate::order::{copy_in, copy_out};
use crate::process::{again, ascend, is_again};
use crate::{Kit, bytes_of, pattern};

const LEN: usize = 1 << 20;

/// A test whose body runs in a process of its own, on a simulator with these settings.
macro_rules! fault {
    (
        $name:ident, $profile:expr, [$($variable:literal = $value:expr),*],
        |$kit:ident| $body:block
    ) => {
        #[test]
        fn $name() {
            if is_again().is_none() {
                let test = concat!("faults::", stringify!($name));
                return again(test, $profile, &[$(($variable, $value)),*]);
            }
            let $kit = &Kit::new(ascend());
            $body
            assert_eq!(Stream::forgotten(), 0);
        }
    };
}

fault!(
    a_lost_card_is_told_and_others_go_on,
    Profile::Cann91,
    ["PRESET" = "instant", "FAULTS" = "lost:0:2"],
    |kit| {
        let (stream, device) = (kit.stream(), kit.device.alloc(LEN).unwrap());
        let host = kit.pinned(LEN, 1);
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
        stream.wait(None).unwrap();
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
        assert!(stream.wait(None).unwrap_err().is_lost());
        assert!(
            stream
                .submit(copy_in(&device, &host), Submission::Each)
                .unwrap_err()
                .is_lost()
        );
        assert!(kit.device.alloc(64).unwrap_err().is_lost());
        assert_eq!(kit.device.status(), Ok(DeviceStatus::Lost));
        let other = Kit {
            runtime: kit.runtime.clone(),
            device: kit.runtime.open(1).unwrap(),
        };
        let (stream, device) = (other.stream(), other.device.alloc(LEN).unwrap());
        stream
            .submit(copy_in(&device, &other.pinned(LEN, 2)), Submission::Each)
            .unwrap();
        stream.wait(None).unwrap();
    }
);

fault!(
    a_stream_that_hangs_is_aborted_and_its_memory_comes_back,
    Profile::Cann91,
    ["PRESET" = "instant", "FAULTS" = "hang:0:1"],
    |kit| {
        let (stream, device, host) = (
            kit.stream(),
            kit.device.alloc(LEN).unwrap(),
            kit.pinned(LEN, 1),
        );
        let free = kit.device.memory_use().unwrap().free_bytes;
        let held = kit.device.alloc(LEN).unwrap();
        stream
            .submit(copy_in(&held, &host), Submission::Each)
            .unwrap();
        drop(held);
        let begun = Instant::now();
        let late = stream.wait(Some(Duration::from_millis(50)));
        assert!(matches!(late, Err(DeviceError::Timeout { .. })), "{late:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let during = kit.device.memory_use().unwrap().free_bytes;
        assert!(during < free, "the hanging copy holds its memory");
        stream.abort().unwrap();
        assert_eq!(kit.device.memory_use().unwrap().free_bytes, free);
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
        stream
            .submit(copy_out(&device, &host), Submission::Each)
            .unwrap();
        stream.wait(None).unwrap();
        assert!(bytes_of(&host) == pattern(LEN, 1));
    }
);

fault!(
    a_failed_task_is_told_by_the_wait_and_holds_nothing,
    Profile::Cann91,
    ["PRESET" = "instant", "FAULTS" = "task:0:1:507899"],
    |kit| {
        let (stream, device, host) = (
            kit.stream(),
            kit.device.alloc(LEN).unwrap(),
            kit.pinned(LEN, 1),
        );
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
        let failed = stream.wait(None).unwrap_err();
        assert!(
            matches!(failed, DeviceError::Failed { code: 507_899, .. }),
            "{failed}"
        );
        stream
            .submit(copy_in(&device, &host), Submission::Each)
            .unwrap();
        stream.wait(None).unwrap();
    }
);

fault!(
    a_full_card_is_told_and_goes_on,
    Profile::Cann91,
    ["PRESET" = "instant", "FAULTS" = "oom:0:4194304"],
    |kit| {
        let first = kit.device.alloc(2 << 20).unwrap();
        let refused = kit.device.alloc(4 << 20).unwrap_err();
        assert_eq!(refused, DeviceError::DeviceMemory { bytes: 4 << 20 });
        drop(first);
        drop(kit.device.alloc(2 << 20).unwrap());
    }
);

fault!(
    a_limit_of_locked_memory_is_told,
    Profile::Cann91,
    ["PRESET" = "instant", "PINNED_BYTES" = "2097152"],
    |kit| {
        let first = kit.device.alloc_host(LEN).unwrap();
        let refused = kit.device.alloc_host(2 * LEN).unwrap_err();
        assert_eq!(refused, DeviceError::PinnedMemory { bytes: 2 << 20 });
        drop(first);
        drop(kit.device.alloc_host(2 * LEN).unwrap());
    }
);

fault!(
    registering_without_effect_is_noticed,
    Profile::Cann91,
    ["PRESET" = "instant", "REGISTER" = "record"],
    |kit| {
        let bytes = HostMemory::pageable(vec![0; 4 << 20]);
        let first = bytes.address().next_multiple_of(64 << 10) - bytes.address();
        let refused = kit.device.register(&bytes, first..first + LEN).unwrap_err();
        assert!(
            matches!(refused, DeviceError::Unsupported { .. }),
            "{refused}"
        );
    }
);

fault!(
    a_batch_that_the_driver_refuses_is_a_loop,
    Profile::Cann91,
    [
        "PRESET" = "instant",
        "FAULTS" = "fail:aclrtMemcpyBatchAsync:1:207000"
    ],
    |kit| {
        assert!(kit.device.capabilities().batch.queued);
        let (stream, device, host) = (
            kit.stream(),
            kit.device.alloc(LEN).unwrap(),
            kit.pinned(LEN, 4),
        );
        let back = kit.pinned(LEN, 5);
        stream
            .submit(copy_in(&device, &host), Submission::Batch)
            .unwrap();
        stream
            .submit(copy_out(&device, &back), Submission::Batch)
            .unwrap();
        stream.wait(None).unwrap();
        assert!(bytes_of(&back) == pattern(LEN, 4));
        assert!(!kit.device.capabilities().batch.queued, "not asked again");
    }
);

#[test]
fn a_stub_library_is_told_from_a_driver() {
    let test = "faults::a_stub_library_is_told_from_a_driver";
    let Some(dir) = is_again() else {
        // A process that only meets stubs never gets to an audit.
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), Profile::Cann91).unwrap();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command
            .args([test, "--exact", "--test-threads=1", "-q"])
            .env("CONFORMANCE_AGAIN", test);
        command
            .env("ASCEND_RT_LIB_DIR", dir.path())
            .env("ASCEND_SIM_FAULTS", "stub");
        let output = command.output().unwrap();
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{words}");
        return;
    };
    let absent = Ascend::load(&Search::only(&dir)).unwrap_err().to_string();
    assert!(absent.contains("stub"), "{absent}");
}
