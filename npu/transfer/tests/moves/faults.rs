//! Faults on the simulated card: the right outcome for the right object in time, everything given
//! back, and the core goes on.

use std::time::{Duration, Instant};

use chariot_device::{DeviceError, DeviceStatus, Direction, Stream};
use chariot_npu_sim::Profile;
use chariot_transfer::{Calibration, CoreOptions, DeviceCore, OBJECT_GRACE, Path, TransferError};

use crate::process::{ascend, is_alone};
use crate::{core, in_time, object, options, pinned, submit};

/// A test whose body runs in a process of its own, on a simulator with these settings.
macro_rules! fault {
    (
        $(#[$meta:meta])* $name:ident, $profile:ident, [$($variable:literal = $value:expr),*],
        $body:block
    ) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            let test = concat!("faults::", stringify!($name));
            if is_alone(test, Profile::$profile, &[$(($variable, $value)),*]) {
                $body
                assert_eq!(Stream::forgotten(), 0);
            }
        }
    };
}

fault!(
    a_lost_card_fails_what_is_on_it_and_nothing_else,
    Cann91,
    ["FAULTS" = "lost:0:20"],
    {
        let runtime = ascend();
        let core = core(&runtime, Some(Path::Each));
        let arena = pinned(core.device(), 64 << 10);
        let objects = vec![object(core.device(), &arena, 4, 16 << 10); 50];
        let begun = Instant::now();
        let outcomes = submit(&core, Direction::HostToDevice, objects, in_time()).wait();
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(outcomes.iter().any(Result::is_err));
        for outcome in outcomes {
            match outcome {
                Ok(()) | Err(TransferError::Device(DeviceError::Lost { .. })) => {},
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(core.device().status(), Ok(DeviceStatus::Lost));
        let other = DeviceCore::start(runtime.open(1).unwrap(), options(None)).unwrap();
        let arena = pinned(other.device(), 64 << 10);
        let objects = vec![object(other.device(), &arena, 4, 16 << 10)];
        assert_eq!(
            submit(&other, Direction::HostToDevice, objects, in_time()).wait(),
            [Ok(())]
        );
    }
);

fault!(
    a_task_that_fails_once_costs_nobody_an_object,
    Cann91,
    ["FAULTS" = "task:0:1:507899"],
    {
        let core = core(&ascend(), Some(Path::Queued));
        let arena = pinned(core.device(), 64 << 10);
        let objects = vec![object(core.device(), &arena, 4, 16 << 10); 6];
        let outcomes = submit(&core, Direction::HostToDevice, objects, in_time()).wait();
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert!(core.probe().isolated() > 0, "moved again, each alone");
    }
);

fault!(
    an_object_that_fails_fails_alone,
    Cann91,
    ["FAULTS" = "task:0:1:507899,task:0:2:507899"],
    {
        let core = core(&ascend(), Some(Path::Queued));
        let arena = pinned(core.device(), 64 << 10);
        let objects = vec![object(core.device(), &arena, 1, 16 << 10)];
        let outcomes = submit(&core, Direction::HostToDevice, objects.clone(), in_time()).wait();
        let failed = &outcomes[0];
        let is_failed = matches!(
            failed,
            Err(TransferError::Device(DeviceError::Failed {
                code: 507_899,
                ..
            }))
        );
        assert!(is_failed, "{failed:?}");
        let second = submit(&core, Direction::HostToDevice, objects.clone(), in_time()).wait();
        assert!(second[0].is_err(), "the second order");
        let third = submit(&core, Direction::HostToDevice, objects, in_time()).wait();
        assert_eq!(third, [Ok(())]);
    }
);

fault!(
    a_copy_that_hangs_is_over_at_the_deadline,
    Cann91,
    ["FAULTS" = "hang:0:1"],
    {
        let core = core(&ascend(), Some(Path::Each));
        let arena = pinned(core.device(), 64 << 10);
        let objects = vec![object(core.device(), &arena, 1, 16 << 10)];
        let (begun, most) = (Instant::now(), Duration::from_millis(200));
        let hung = submit(
            &core,
            Direction::HostToDevice,
            objects.clone(),
            begun + most,
        );
        assert_eq!(hung.wait(), [Err(TransferError::Deadline)]);
        let took = begun.elapsed();
        assert!(
            took < most + OBJECT_GRACE + Duration::from_secs(5),
            "{took:?}"
        );
        assert_eq!(core.probe().aborts(), 1);
        for _ in 0..4 {
            let again = submit(&core, Direction::HostToDevice, objects.clone(), in_time());
            assert_eq!(again.wait(), [Ok(())]);
        }
    }
);

fault!(
    a_full_card_is_served_without_gathering,
    Cann91,
    ["FAULTS" = "oom:0:8388608"],
    {
        let core = core(&ascend(), Some(Path::Gathered));
        let arena = pinned(core.device(), 64 << 10);
        let objects = vec![object(core.device(), &arena, 4, 16 << 10)];
        let outcomes = submit(&core, Direction::DeviceToHost, objects, in_time()).wait();
        assert_eq!(outcomes, [Ok(())]);
        assert!(
            core.probe().path(Path::Each).bytes() > 0,
            "no room for staging"
        );
    }
);

fault!(without_batch_calls_there_is_a_way, Cann81, [], {
    let device = ascend().open(0).unwrap();
    assert!(!device.capabilities().batch.queued);
    let calibration = Calibration::Measured;
    let options = CoreOptions {
        calibration,
        ..CoreOptions::default()
    };
    let core = DeviceCore::start(device, options).unwrap();
    assert_eq!((core.model().queued, core.model().direct), (None, None));
    let arena = pinned(core.device(), 62 * 1024);
    let objects = vec![object(core.device(), &arena, 62, 1024); 8];
    let outcomes = submit(&core, Direction::HostToDevice, objects, in_time()).wait();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
});

fault!(
    no_locked_memory_at_all_is_told,
    Cann91,
    ["PINNED_BYTES" = "65536"],
    {
        let core = core(&ascend(), None);
        let arena = crate::pageable(64 << 10);
        let objects = vec![object(core.device(), &arena, 1, 64 << 10)];
        let outcomes = submit(&core, Direction::HostToDevice, objects, in_time()).wait();
        let told = matches!(
            outcomes[0],
            Err(TransferError::Device(DeviceError::PinnedMemory { .. }))
        );
        assert!(told, "{outcomes:?}");
    }
);

fault!(
    #[ignore = "long: make test-long; it measures, and a busy machine disturbs that"]
    the_measured_model_knows_what_pays,
    Cann91,
    ["PRESET" = "a3", "SCALE" = "64", "JITTER_US" = "0"],
    {
        let device = ascend().open(0).unwrap();
        let core = DeviceCore::start(device, CoreOptions::default()).unwrap();
        println!(
            "simulated a3, 64 times slowed, measured: {:?}",
            core.model()
        );
        let arena = pinned(core.device(), 62 * (72 << 10));
        let objects = vec![object(core.device(), &arena, 62, 72 << 10)];
        let outcomes = submit(&core, Direction::HostToDevice, objects, in_time()).wait();
        assert_eq!(outcomes, [Ok(())]);
        assert!(
            core.probe().path(Path::Direct).bytes() > 0,
            "one call for all fragments"
        );
    }
);
