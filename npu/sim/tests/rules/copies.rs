//! Rules 5 and 13: arguments that only a card would refuse, and what copies cost.

use std::ffi::c_void;

use chariot_ascend_rt_sys::sys;

use crate::support::{Address, Sim, peek};

const FRAGMENT: usize = 72 << 10;
const COUNT: usize = 62;

rule!(wrong_lengths_are_refused, [], |sim| {
    sim.begin(0);
    let (card, host, stream) = (sim.device_block(64), sim.pinned(&[1; 64]), sim.stream());
    let (to, from, kind) = (card, host.cast_const(), sys::ACL_MEMCPY_HOST_TO_DEVICE);
    assert_eq!(
        code!(sim.acl.aclrtMemcpyAsync, to, 64, from, 0, kind, stream),
        107_000
    );
    assert_eq!(
        code!(sim.acl.aclrtMemcpyAsync, to, 63, from, 64, kind, stream),
        107_000
    );
    assert_eq!(
        code!(sim.acl.aclrtMemcpyAsync, to, 64, from, 64, 9, stream),
        107_000
    );
    assert_eq!(code!(sim.acl.aclrtMemcpy, to, 64, from, 0, kind), 107_000);
    ok!(sim.acl.aclrtMemcpy, to, 64, to.cast_const(), 64, kind);
});

rule!(host_to_host_is_not_for_streams, [], |sim| {
    sim.begin(0);
    let (first, second, stream) = (sim.pinned(&[1; 8]), sim.pinned(&[2; 8]), sim.stream());
    assert_eq!(sim.copy(first, second, 8, stream), 207_000);
    ok!(
        sim.acl.aclrtMemcpy,
        first,
        8,
        second.cast_const(),
        8,
        sys::ACL_MEMCPY_HOST_TO_HOST
    );
    assert_eq!(peek(first, 8), [2; 8]);
});

rule!(
    a_wrong_direction_is_refused_under_strict,
    [STRICT = "1"],
    |sim| {
        sim.begin(0);
        let (card, host, stream) = (sim.device_block(64), sim.pinned(&[1; 64]), sim.stream());
        let wrong = sys::ACL_MEMCPY_DEVICE_TO_HOST;
        assert_eq!(
            code!(
                sim.acl.aclrtMemcpyAsync,
                card,
                64,
                host.cast_const(),
                64,
                wrong,
                stream
            ),
            107_000
        );
        assert_eq!(sim.count("kind_corrected"), 1);
    }
);

rule!(a_wrong_direction_is_corrected_and_counted, [], |sim| {
    sim.begin(0);
    let (card, host, stream) = (sim.device_block(64), sim.pinned(&[1; 64]), sim.stream());
    let wrong = sys::ACL_MEMCPY_DEVICE_TO_HOST;
    ok!(
        sim.acl.aclrtMemcpyAsync,
        card,
        64,
        host.cast_const(),
        64,
        wrong,
        stream
    );
    assert_eq!(sim.sync(stream), 0);
    assert_eq!(sim.read(card, 64), [1; 64]);
    assert_eq!(sim.count("kind_corrected"), 1);
});

rule!(rows_are_copied_with_their_pitch, [], |sim| {
    sim.begin(0);
    let (card, host) = (sim.device_block(32), sim.pinned(&[1, 2, 0, 3, 4, 0]));
    ok!(sim.acl.aclrtMemset, card, 32, 9, 32);
    ok!(
        sim.acl.aclrtMemcpy2d,
        card,
        4,
        host.cast_const(),
        3,
        2,
        2,
        1
    );
    assert_eq!(sim.read(card, 8), [1, 2, 9, 9, 3, 4, 9, 9]);
    assert_eq!(
        code!(
            sim.acl.aclrtMemcpy2d,
            card,
            1,
            host.cast_const(),
            3,
            2,
            2,
            1
        ),
        107_000
    );
});

/// The arguments of a batch, each of which a rule can spoil.
struct Batch {
    dsts: Vec<Address>,
    maxima: Vec<usize>,
    srcs: Vec<Address>,
    sizes: Vec<usize>,
    attributes: Vec<sys::aclrtMemcpyBatchAttr>,
    indexes: Vec<usize>,
}

impl Batch {
    /// From pinned host memory to card 0, piece by piece.
    fn new(card: Address, host: Address, size: usize, count: usize) -> Self {
        let at = |base: Address| {
            (0..count)
                .map(|i| base.wrapping_byte_add(i * size))
                .collect()
        };
        let location = |type_| sys::aclrtMemLocation { id: 0, type_ };
        let attribute = sys::aclrtMemcpyBatchAttr {
            dstLoc: location(sys::ACL_MEM_LOCATION_TYPE_DEVICE),
            srcLoc: location(sys::ACL_MEM_LOCATION_TYPE_HOST),
            rsv: [0; 16],
        };
        Self {
            dsts: at(card),
            maxima: vec![size; count],
            srcs: at(host),
            sizes: vec![size; count],
            attributes: vec![attribute],
            indexes: vec![0],
        }
    }

    /// The code and the failing entry.
    fn run(&mut self, sim: &Sim) -> (i32, usize) {
        let mut fail = 0;
        let code = code!(
            sim.acl.aclrtMemcpyBatch.unwrap(),
            self.dsts.as_mut_ptr(),
            self.maxima.as_mut_ptr(),
            self.srcs.as_mut_ptr(),
            self.sizes.as_mut_ptr(),
            self.dsts.len(),
            self.attributes.as_mut_ptr(),
            self.indexes.as_mut_ptr(),
            self.attributes.len(),
            &raw mut fail,
        );
        (code, fail)
    }

    fn submit(&mut self, sim: &Sim, stream: Address) -> i32 {
        let mut fail = 0;
        code!(
            sim.acl.aclrtMemcpyBatchAsync.unwrap(),
            self.dsts.as_mut_ptr(),
            self.maxima.as_mut_ptr(),
            self.srcs.as_mut_ptr(),
            self.sizes.as_mut_ptr(),
            self.dsts.len(),
            self.attributes.as_mut_ptr(),
            self.indexes.as_mut_ptr(),
            self.attributes.len(),
            &raw mut fail,
            stream,
        )
    }
}

rule!(a_batch_is_validated_entry_by_entry, [], |sim| {
    const ALL: usize = usize::MAX;
    sim.begin(0);
    let (card, host) = (sim.device_block(64), sim.pinned(&[7; 64]));
    let spoilt = |spoil: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new(card, host, 8, 8);
        spoil(&mut batch);
        batch.run(sim)
    };
    assert_eq!(spoilt(&|_| ()), (0, ALL));
    assert_eq!(sim.read(card, 64), [7; 64]);
    assert_eq!(
        spoilt(&|batch| batch.attributes[0].rsv[3] = 1),
        (100_000, ALL)
    );
    assert_eq!(spoilt(&|batch| batch.indexes[0] = 1), (107_000, ALL));
    assert_eq!(spoilt(&|batch| batch.maxima[5] = 7), (107_000, 5));
    assert_eq!(spoilt(&|batch| batch.sizes[4] = 0), (107_000, 4));
    assert_eq!(
        spoilt(&|batch| batch.attributes[0].dstLoc.id = 1),
        (107_000, 0)
    );
    assert_eq!(
        spoilt(&|batch| batch.attributes[0].srcLoc.type_ = 1),
        (107_000, 0)
    );
    assert_eq!(
        spoilt(&|batch| batch.srcs[3] = card),
        (107_000, 3),
        "both on the card"
    );
    let turned =
        |batch: &mut Batch| (batch.dsts[6], batch.srcs[6]) = (batch.srcs[6], batch.dsts[6]);
    assert_eq!(spoilt(&turned), (107_000, 6), "one direction a batch");
    let twice = |first: usize, second: usize| {
        move |batch: &mut Batch| {
            batch.attributes.push(batch.attributes[0]);
            batch.indexes = vec![first, second];
        }
    };
    assert_eq!(spoilt(&twice(0, 4)), (0, ALL));
    assert_eq!(spoilt(&twice(0, 0)), (107_000, ALL), "not increasing");
    assert_eq!(spoilt(&twice(0, 8)), (107_000, ALL), "beyond the entries");
});

rule!(
    a_batch_tells_its_failure_and_has_enough_attributes,
    [],
    |sim| {
        sim.begin(0);
        let (card, host) = (sim.device_block(64), sim.pinned(&[7; 64]));
        let mut batch = Batch::new(card, host, 8, 8);
        batch.attributes = vec![batch.attributes[0]; 9];
        batch.indexes = (0..9).collect();
        assert_eq!(batch.run(sim).0, 107_000, "more attributes than entries");
        let mut batch = Batch::new(card, host, 8, 8);
        let nowhere = std::ptr::null_mut();
        let code = code!(
            sim.acl.aclrtMemcpyBatch.unwrap(),
            batch.dsts.as_mut_ptr(),
            batch.maxima.as_mut_ptr(),
            batch.srcs.as_mut_ptr(),
            batch.sizes.as_mut_ptr(),
            8,
            batch.attributes.as_mut_ptr(),
            batch.indexes.as_mut_ptr(),
            1,
            nowhere,
        );
        assert_eq!(code, 107_000, "no place for the failing entry");
    }
);

rule!(a_batch_has_a_longest_length, [], |sim| {
    sim.begin(0);
    let (card, host) = (sim.device_block(4097), sim.pinned(&[7; 4097]));
    assert_eq!(Batch::new(card, host, 1, 4096).run(sim).0, 0);
    assert_eq!(Batch::new(card, host, 1, 4097).run(sim).0, 107_000);
    let mut batch = Batch::new(card, host, 1, 1);
    batch.dsts.clear();
    assert_eq!(batch.run(sim).0, 107_000, "nothing to copy");
});

/// Share of the host link's rate that `work` reaches for the fragments, in model time.
fn share(sim: &Sim, gb_per_s: f64, work: impl FnOnce(Address, Address, *mut c_void)) -> f64 {
    sim.begin(0);
    let bytes = FRAGMENT * COUNT;
    let (card, host, stream) = (
        sim.device_block(bytes),
        sim.pinned(&vec![1; bytes]),
        sim.stream(),
    );
    let begin = sim.now();
    work(card, host, stream);
    assert_eq!(sim.sync(stream), 0);
    let share = bytes as f64 / (sim.now() - begin) as f64 / gb_per_s;
    println!("simulated: {:.1} % of the link model", share * 100.0);
    share
}

fn loop_of_copies(sim: &Sim, card: Address, host: Address, stream: *mut c_void) {
    for index in 0..COUNT {
        let at = index * FRAGMENT;
        let (to, from) = (card.wrapping_byte_add(at), host.wrapping_byte_add(at));
        assert_eq!(sim.copy(to, from, FRAGMENT, stream), 0);
    }
}

rule!(
    a_loop_of_copies_reaches_a_fifth_on_a3,
    [PRESET = "a3"],
    |sim| {
        let share = share(sim, 39.0, |card, host, stream| {
            loop_of_copies(sim, card, host, stream)
        });
        assert!((0.15..0.30).contains(&share), "{share}");
    }
);

rule!(
    an_asynchronous_batch_is_only_a_loop_on_a3,
    [PRESET = "a3"],
    |sim| {
        let share = share(sim, 39.0, |card, host, stream| {
            assert_eq!(
                Batch::new(card, host, FRAGMENT, COUNT).submit(sim, stream),
                0
            );
        });
        assert!((0.15..0.30).contains(&share), "{share}");
    }
);

rule!(
    one_batch_reaches_most_of_the_link_on_a3,
    [PRESET = "a3"],
    |sim| {
        let share = share(sim, 39.0, |card, host, _| {
            assert_eq!(Batch::new(card, host, FRAGMENT, COUNT).run(sim).0, 0);
        });
        assert!((0.80..0.97).contains(&share), "{share}");
    }
);

rule!(one_large_copy_reaches_the_link, [PRESET = "a3"], |sim| {
    let share = share(sim, 39.0, |card, host, stream| {
        assert_eq!(sim.copy(card, host, FRAGMENT * COUNT, stream), 0);
    });
    assert!(share > 0.85, "{share}");
});

rule!(pageable_memory_is_slow, [PRESET = "a3"], |sim| {
    let share = share(sim, 39.0, |card, _, stream| {
        let mut pageable = vec![1_u8; FRAGMENT * COUNT];
        let from = pageable.as_mut_ptr().cast();
        assert_eq!(sim.copy(card, from, FRAGMENT * COUNT, stream), 0);
    });
    assert!(share < 0.30, "{share}");
});

rule!(two_streams_share_one_link, [PRESET = "a3"], |sim| {
    let share = share(sim, 39.0, |card, host, stream| {
        let other = sim.stream();
        let half = FRAGMENT * COUNT / 2;
        assert_eq!(sim.copy(card, host, half, stream), 0);
        let (to, from) = (card.wrapping_byte_add(half), host.wrapping_byte_add(half));
        assert_eq!(sim.copy(to, from, half, other), 0);
        assert_eq!(sim.sync(other), 0);
    });
    assert!(
        share < 1.0,
        "{share}: two halves at once are not faster than the link"
    );
});

rule!(the_two_directions_do_not_share, [PRESET = "a3"], |sim| {
    const LEN: usize = 16 << 20;
    sim.begin(0);
    let (card, other) = (sim.device_block(LEN), sim.device_block(LEN));
    let (host, back) = (sim.pinned(&vec![1; LEN]), sim.pinned(&vec![0; LEN]));
    let (into, out) = (sim.stream(), sim.stream());
    let begin = sim.now();
    assert_eq!(sim.copy(card, host, LEN, into), 0);
    assert_eq!(sim.copy(back, other, LEN, out), 0);
    assert_eq!((sim.sync(into), sim.sync(out)), (0, 0));
    let one = LEN as f64 / 39.0;
    let both = (sim.now() - begin) as f64;
    assert!(
        (1.0..1.2).contains(&(both / one)),
        "{both} against {one} ns"
    );
});

rule!(
    an_asynchronous_batch_is_one_task_on_h200pcie,
    [PRESET = "h200pcie"],
    |sim| {
        let share = share(sim, 55.0, |card, host, stream| {
            let submitted = Batch::new(card, host, FRAGMENT, COUNT).submit(sim, stream);
            assert_eq!(submitted, 0);
        });
        // 62 entries of 0.6 us before 80 us of bytes.
        assert!((0.55..0.75).contains(&share), "{share}");
    }
);

rule!(a_loop_of_copies_is_slow_on_a2_too, [PRESET = "a2"], |sim| {
    let share = share(sim, 25.0, |card, host, stream| {
        loop_of_copies(sim, card, host, stream)
    });
    assert!((0.15..0.30).contains(&share), "{share}");
});

rule!(
    real_time_is_kept,
    [PRESET = "a3", CLOCK = "real", SCALE = "4"],
    |sim| {
        let begun = std::time::Instant::now();
        let share = share(sim, 39.0, |card, host, stream| {
            loop_of_copies(sim, card, host, stream)
        });
        assert!(share < 0.30, "{share}");
        // 62 tasks of 9 us, four times slower: never quicker than the model.
        assert!(begun.elapsed().as_micros() > 62 * 9 * 4);
    }
);
