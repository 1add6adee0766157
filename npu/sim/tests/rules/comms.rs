//! Rules 9, 10 and 11: communicators between processes, pairs, and who waits for whom.

use std::ffi::c_void;
use std::ptr::null_mut;

use chariot_ascend_rt_sys::{comm_config, sys};

use crate::support::{Address, Sim};

const KIB: usize = 1024;
const INT8: i32 = sys::HCCL_DATA_TYPE_INT8;

fn root(sim: &Sim) -> sys::HcclRootInfo {
    let mut root = sys::HcclRootInfo {
        internal: [0; 4108],
    };
    assert_eq!(code!(sim.hccl.HcclGetRootInfo, &raw mut root), 0);
    root
}

fn bytes_of(root: &sys::HcclRootInfo) -> Vec<u8> {
    root.internal.iter().map(|byte| *byte as u8).collect()
}

fn join(sim: &Sim, root: &sys::HcclRootInfo, ranks: u32, rank: u32) -> (i32, Address) {
    let config = comm_config(10, 1);
    let mut comm = null_mut();
    let init = sim.hccl.HcclCommInitRootInfoConfig.unwrap();
    (
        code!(init, ranks, root, rank, &raw const config, &raw mut comm),
        comm,
    )
}

/// Both ends of a communicator of two: this process is rank 0 on card 0, a second one rank 1 on
/// card 1.
fn two(sim: &Sim, body: impl FnOnce(u32, Address, *mut c_void)) {
    let path = sim.dir.join("root");
    if Sim::role() == "other" {
        sim.begin(1);
        let bytes = std::fs::read(&path).unwrap();
        let mut root = sys::HcclRootInfo {
            internal: [0; 4108],
        };
        for (to, from) in root.internal.iter_mut().zip(bytes) {
            *to = from as std::ffi::c_char;
        }
        let (code, comm) = join(sim, &root, 2, 1);
        assert_eq!(code, 0);
        body(1, comm, sim.stream());
        return;
    }
    sim.begin(0);
    let root = root(sim);
    std::fs::write(&path, bytes_of(&root)).unwrap();
    let mut other = sim.start("other", &[]);
    let (code, comm) = join(sim, &root, 2, 0);
    assert_eq!(code, 0);
    body(0, comm, sim.stream());
    assert!(other.wait().unwrap().success());
}

fn send(sim: &Sim, block: Address, len: usize, peer: u32, comm: Address, stream: Address) {
    assert_eq!(
        code!(
            sim.hccl.HcclSend,
            block,
            len as u64,
            INT8,
            peer,
            comm,
            stream
        ),
        0
    );
}

fn receive(sim: &Sim, block: Address, len: usize, peer: u32, comm: Address, stream: Address) {
    assert_eq!(
        code!(
            sim.hccl.HcclRecv,
            block,
            len as u64,
            INT8,
            peer,
            comm,
            stream
        ),
        0
    );
}

fn filled(sim: &Sim, len: usize, value: i32) -> Address {
    let block = sim.device_block(len);
    ok!(sim.acl.aclrtMemset, block, len, value, len);
    block
}

fn comm_error(sim: &Sim, comm: Address) -> i32 {
    let mut error = -1;
    assert_eq!(
        code!(
            sim.hccl.HcclGetCommAsyncError.unwrap(),
            comm,
            &raw mut error
        ),
        0
    );
    error
}

rule!(sends_and_receives_pair_in_order, [], |sim| {
    two(sim, |rank, comm, stream| {
        if rank == 0 {
            for value in 1..=20 {
                send(sim, filled(sim, KIB, value), KIB, 1, comm, stream);
            }
            assert_eq!(sim.sync(stream), 0);
        } else {
            let blocks: Vec<Address> = (0..20).map(|_| sim.device_block(KIB)).collect();
            for block in &blocks {
                receive(sim, *block, KIB, 0, comm, stream);
            }
            assert_eq!(sim.sync(stream), 0);
            for (index, block) in blocks.iter().enumerate() {
                assert_eq!(sim.read(*block, KIB), [index as u8 + 1; KIB]);
            }
        }
        assert_eq!(code!(sim.hccl.HcclCommDestroy, comm), 0);
        assert_eq!(code!(sim.hccl.HcclCommDestroy, comm), 1, "destroyed twice");
    });
});

rule!(sends_that_cross_are_a_deadlock_and_told, [], |sim| {
    two(sim, |rank, comm, stream| {
        // The planted bug: both send first, on one stream.
        send(sim, filled(sim, KIB, 1), KIB, 1 - rank, comm, stream);
        receive(sim, sim.device_block(KIB), KIB, 1 - rank, comm, stream);
        assert_eq!(sim.sync(stream), 107_020);
        assert_eq!(comm_error(sim, comm), 9);
    });
});

rule!(a_batch_of_both_directions_does_not_cross, [], |sim| {
    two(sim, |rank, comm, stream| {
        let (out, into) = (filled(sim, KIB, rank as i32 + 1), sim.device_block(KIB));
        let item = |kind, buf| sys::HcclSendRecvItem {
            sendRecvType: kind,
            buf,
            count: KIB as u64,
            dataType: INT8,
            remoteRank: 1 - rank,
        };
        let mut items = [
            item(sys::HCCL_SEND_RECV_SEND, out),
            item(sys::HCCL_SEND_RECV_RECV, into),
        ];
        let batch = sim.hccl.HcclBatchSendRecv.unwrap();
        assert_eq!(code!(batch, items.as_mut_ptr(), 2, comm, stream), 0);
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(sim.read(into, KIB), [2 - rank as u8; KIB]);
        assert_eq!(sim.count("deadlocks"), 0);
    });
});

rule!(a_group_makes_one_step_of_both_directions, [], |sim| {
    two(sim, |rank, comm, stream| {
        let into = sim.device_block(KIB);
        assert_eq!(code!(sim.hccl.HcclGroupEnd.unwrap()), 1, "no group is open");
        assert_eq!(code!(sim.hccl.HcclGroupStart.unwrap()), 0);
        send(
            sim,
            filled(sim, KIB, rank as i32 + 1),
            KIB,
            1 - rank,
            comm,
            stream,
        );
        receive(sim, into, KIB, 1 - rank, comm, stream);
        assert_eq!(code!(sim.hccl.HcclGroupEnd.unwrap()), 0);
        assert_eq!(sim.sync(stream), 0);
        assert_eq!(sim.read(into, KIB), [2 - rank as u8; KIB]);
    });
});

rule!(sizes_that_differ_fail_on_both_ends, [], |sim| {
    two(sim, |rank, comm, stream| {
        let block = filled(sim, KIB, 1);
        if rank == 0 {
            send(sim, block, KIB, 1, comm, stream);
        } else {
            receive(sim, block, KIB - 1, 0, comm, stream);
        }
        assert_eq!(sim.sync(stream), 507_000);
        assert_eq!(comm_error(sim, comm), 1);
    });
});

rule!(types_that_differ_fail_on_both_ends, [], |sim| {
    two(sim, |rank, comm, stream| {
        let block = filled(sim, KIB, 1);
        if rank == 0 {
            let send = code!(
                sim.hccl.HcclSend,
                block,
                KIB as u64 / 4,
                sys::HCCL_DATA_TYPE_INT8 + 2,
                1,
                comm,
                stream
            );
            assert_eq!(send, 0);
        } else {
            receive(sim, block, KIB, 0, comm, stream);
        }
        assert_eq!(sim.sync(stream), 507_000);
        assert_eq!(comm_error(sim, comm), 1);
    });
});

rule!(
    buffers_of_another_card_and_ranks_that_are_none_are_refused,
    [],
    |sim| {
        sim.begin(1);
        let theirs = sim.device_block(KIB);
        ok!(sim.acl.aclrtSetDevice, 0);
        let (code, comm) = join(sim, &root(sim), 1, 0);
        assert_eq!(code, 0);
        let (stream, own) = (sim.stream(), sim.device_block(KIB));
        let post =
            |block, count, peer| code!(sim.hccl.HcclSend, block, count, INT8, peer, comm, stream);
        assert_eq!(post(theirs, KIB as u64, 0), 1, "another card's memory");
        assert_eq!(post(own, KIB as u64, 1), 1, "no such rank");
        assert_eq!(post(own, KIB as u64, 0), 1, "to itself");
        assert_eq!(post(own, 0, 0), 1, "nothing");
        let (mut rank, mut ranks) = (9, 9);
        ok!(sim.hccl.HcclGetRankId, comm, &raw mut rank);
        ok!(sim.hccl.HcclGetRankSize, comm, &raw mut ranks);
        assert_eq!((rank, ranks), (0, 1));
    }
);

rule!(
    a_circle_through_an_event_is_a_deadlock_and_told,
    [],
    |sim| {
        two(sim, |rank, comm, stream| {
            let (out, into) = (filled(sim, KIB, 1), sim.device_block(KIB));
            if rank == 1 {
                receive(sim, into, KIB, 0, comm, stream);
                send(sim, out, KIB, 0, comm, stream);
                assert_eq!(sim.sync(stream), 107_020);
                return;
            }
            // The planted bug: what the other end waits for stands behind what waits for that end.
            let (behind, event) = (sim.stream(), sim.event());
            receive(sim, into, KIB, 1, comm, stream);
            ok!(sim.acl.aclrtRecordEvent, event, stream);
            ok!(sim.acl.aclrtStreamWaitEvent, behind, event);
            send(sim, out, KIB, 1, comm, behind);
            assert_eq!(sim.sync(stream), 107_020);
        });
    }
);

rule!(a_killed_peer_fails_the_other_end, [], |sim| {
    two(sim, |rank, comm, stream| {
        if rank == 1 {
            std::process::exit(0); // The planted fault: gone without a word.
        }
        receive(sim, sim.device_block(KIB), KIB, 1, comm, stream);
        assert_eq!(sim.sync(stream), 507_057);
        assert_eq!(comm_error(sim, comm), 21);
    });
});

rule!(a_remote_error_comes_on_order, [], |sim| {
    two(sim, |rank, comm, stream| {
        let block = filled(sim, KIB, 1);
        if rank == 0 {
            sim.fault("remote:0:1");
            send(sim, block, KIB, 1, comm, stream);
        } else {
            receive(sim, block, KIB, 0, comm, stream);
        }
        assert_eq!(sim.sync(stream), 507_057);
        assert_eq!(comm_error(sim, comm), 21);
    });
});

rule!(a_pair_that_nobody_completes_ends_by_abort, [], |sim| {
    two(sim, |rank, comm, stream| {
        let path = sim.dir.join("aborted");
        if rank == 1 {
            while !path.exists() {
                std::thread::yield_now();
            }
            return;
        }
        receive(sim, sim.device_block(KIB), KIB, 1, comm, stream);
        assert_eq!(
            code!(sim.acl.aclrtSynchronizeStreamWithTimeout, stream, 20),
            507_046
        );
        assert_eq!(code!(sim.hccl.HcclCommDestroy, comm), 20, "busy");
        ok!(sim.acl.aclrtStreamAbort.unwrap(), stream);
        assert_eq!(code!(sim.hccl.HcclCommDestroy, comm), 0);
        std::fs::write(path, "").unwrap();
    });
});

rule!(
    an_operation_has_a_longest_wait,
    [EXEC_TIMEOUT_MS = "30"],
    |sim| {
        two(sim, |rank, comm, stream| {
            let path = sim.dir.join("over");
            if rank == 1 {
                while !path.exists() {
                    std::thread::yield_now();
                }
                return;
            }
            receive(sim, sim.device_block(KIB), KIB, 1, comm, stream);
            assert_eq!(sim.sync(stream), 107_020);
            std::fs::write(path, "").unwrap();
        });
    }
);

rule!(a_root_info_is_no_string, [], |sim| {
    sim.begin(0);
    let whole = root(sim);
    let bytes = bytes_of(&whole);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    assert!(bytes[end..].contains(&0xFF));
    // The planted bug: copied up to the first zero.
    let mut cut = sys::HcclRootInfo {
        internal: [0; 4108],
    };
    cut.internal[..end].copy_from_slice(&whole.internal[..end]);
    assert_eq!(join(sim, &cut, 1, 0).0, 1);
    assert_eq!(join(sim, &whole, 1, 0).0, 0);
});

rule!(
    ranks_are_taken_once_and_agree,
    [CONNECT_TIMEOUT_MS = "30"],
    |sim| {
        sim.begin(0);
        let root = root(sim);
        assert_eq!(join(sim, &root, 2, 2).0, 1, "no such rank");
        assert_eq!(join(sim, &root, 2, 0).0, 9, "the other never comes");
        assert_eq!(join(sim, &root, 3, 0).0, 1, "another number of ranks");
        let mut comm = null_mut();
        let none = std::ptr::null();
        assert_eq!(
            code!(sim.hccl.HcclCommInitRootInfo, 1, none, 0, &raw mut comm),
            2
        );
    }
);

rule!(a_newer_configuration_is_refused, [], |sim| {
    sim.begin(0);
    let root = root(sim);
    let mut config = comm_config(10, 1);
    config.version = 11;
    let mut comm = null_mut();
    let init = sim.hccl.HcclCommInitRootInfoConfig.unwrap();
    assert_eq!(
        code!(
            init,
            1,
            &raw const root,
            0,
            &raw const config,
            &raw mut comm
        ),
        1
    );
    config.version = 4;
    config.magic = 0;
    assert_eq!(
        code!(
            init,
            1,
            &raw const root,
            0,
            &raw const config,
            &raw mut comm
        ),
        1
    );
});

rule!(on Cann81, an_older_library_takes_older_configurations, |sim| {
    sim.begin(0);
    let root = root(sim);
    let init = sim.hccl.HcclCommInitRootInfoConfig.unwrap();
    let mut comm = null_mut();
    for (version, answer) in [(6, 1), (5, 0)] {
        let mut config = comm_config(10, 1);
        config.version = version;
        let code = code!(init, 1, &raw const root, 0, &raw const config, &raw mut comm);
        assert_eq!(code, answer, "version {version}");
    }
    // The planted bug: a function that came later.
    assert!(sim.acl.aclrtMemcpyBatch.is_none());
});

rule!(on Cann85, the_newest_configuration_is_of_the_next_version, |sim| {
    sim.begin(0);
    let root = root(sim);
    let init = sim.hccl.HcclCommInitRootInfoConfig.unwrap();
    let mut comm = null_mut();
    for (version, answer) in [(10, 1), (6, 0)] {
        let mut config = comm_config(10, 1);
        config.version = version;
        let code = code!(init, 1, &raw const root, 0, &raw const config, &raw mut comm);
        assert_eq!(code, answer, "version {version}");
    }
    assert!(sim.acl.aclrtMemcpyBatch.is_some());
});

rule!(a_card_makes_one_communicator_at_a_time, [], |sim| {
    sim.begin(0);
    let first = root(sim);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            ok!(sim.acl.aclrtSetDevice, 0);
            // The other thread's turn may be the one that keeps this one out.
            loop {
                let (code, _) = join(sim, &first, 2, 0);
                if code != 7 {
                    return code;
                }
            }
        });
        // The planted bug: a second thread of the same card. Until the first is inside, it makes
        // and destroys communicators of its own; a root serves one of them, so each has a new one.
        let mut code = 0;
        while code == 0 {
            let (answer, comm) = join(sim, &root(sim), 1, 0);
            code = answer;
            if answer == 0 {
                ok!(sim.hccl.HcclCommDestroy, comm);
            }
        }
        assert_eq!(code, 7);
        ok!(sim.acl.aclrtSetDevice, 1);
        assert_eq!(join(sim, &first, 2, 1).0, 0);
        assert_eq!(waiting.join().unwrap(), 0);
    });
});

rule!(a_root_serves_one_communicator, [], |sim| {
    sim.begin(0);
    let root = root(sim);
    let (code, comm) = join(sim, &root, 1, 0);
    assert_eq!(code, 0);
    ok!(sim.hccl.HcclCommDestroy, comm);
    assert_eq!(join(sim, &root, 1, 0).0, 1);
});

rule!(
    a_communicator_costs_device_memory,
    [HBM_BYTES = "33554432"],
    |sim| {
        sim.begin(0);
        let (code, comm) = join(sim, &root(sim), 1, 0);
        assert_eq!(code, 0, "two buffers of 10 MiB");
        assert_eq!(join(sim, &root(sim), 1, 0).0, 24, "no room for two more");
        assert_eq!(code!(sim.hccl.HcclCommDestroy, comm), 0);
        assert_eq!(join(sim, &root(sim), 1, 0).0, 0);
        assert_eq!(sim.leaks(), 1);
    }
);

rule!(
    a_new_communicator_is_warmed_up_under_strict,
    [STRICT = "1"],
    |sim| {
        sim.begin(0);
        assert_eq!(join(sim, &root(sim), 1, 0).0, 0);
        assert_eq!(
            join(sim, &root(sim), 1, 0).0,
            7,
            "no operation has completed on the first"
        );
    }
);

/// Ends of a new communicator of two cards of this process; the calling thread has the first card
/// afterwards.
fn within(sim: &Sim, cards: [i32; 2]) -> [Address; 2] {
    let root = root(sim);
    let end = |rank: u32| {
        ok!(sim.acl.aclrtSetDevice, cards[rank as usize]);
        let (code, comm) = join(sim, &root, 2, rank);
        assert_eq!(code, 0);
        comm as usize
    };
    std::thread::scope(|scope| {
        let second = scope.spawn(|| end(1));
        let first = end(0);
        [first, second.join().unwrap()].map(|comm| comm as Address)
    })
}

rule!(
    a_card_that_sends_to_two_takes_twice_as_long,
    [PRESET = "a3"],
    |sim| {
        const LEN: usize = 16 << 20;
        sim.begin(0);
        let comms = [within(sim, [0, 1]), within(sim, [0, 2])];
        let begin = sim.now();
        let block = filled(sim, LEN, 1);
        let mut streams = Vec::new();
        for [comm, _] in comms {
            let stream = sim.stream();
            send(sim, block, LEN, 1, comm, stream);
            streams.push((0, stream));
        }
        for (card, [_, comm]) in (1..).zip(comms) {
            ok!(sim.acl.aclrtSetDevice, card);
            let (into, stream) = (sim.device_block(LEN), sim.stream());
            receive(sim, into, LEN, 0, comm, stream);
            streams.push((card, stream));
        }
        for (card, stream) in streams {
            ok!(sim.acl.aclrtSetDevice, card);
            assert_eq!(sim.sync(stream), 0);
        }
        let least = 2 * LEN as u64 * 1000 / 165_000;
        let took = sim.now() - begin;
        assert!(took >= least, "{took} ns, not quicker than {least}");
    }
);

rule!(
    the_link_between_cards_has_its_rate,
    [PRESET = "a3"],
    |sim| {
        const LEN: usize = 16 << 20;
        two(sim, |rank, comm, stream| {
            let block = filled(sim, LEN, 1);
            let begin = sim.now();
            if rank == 0 {
                send(sim, block, LEN, 1, comm, stream);
            } else {
                receive(sim, block, LEN, 0, comm, stream);
            }
            assert_eq!(sim.sync(stream), 0);
            let least = LEN as u64 * 1000 / 165_000;
            assert!(sim.now() - begin >= least, "not quicker than 165 GB/s");
            assert!(begin >= 236_000_000, "the set-up was paid");
        });
    }
);
