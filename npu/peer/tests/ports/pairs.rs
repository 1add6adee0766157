//! Two processes: what arrives, what is refused, and what becomes of either's end.

use std::time::{Duration, Instant};

use crate::objects::PATIENCE;
use crate::worker::{Backend, Stage};

fn both() -> [Stage; 2] {
    [
        Stage::new(Backend::Host, &[]),
        Stage::new(Backend::Simulated, &[("PRESET", "instant")]),
    ]
}

#[test]
fn an_object_reaches_another_process_whole() {
    for stage in both() {
        let (mut one, mut two) = (stage.start(0), stage.start(1));
        assert_eq!(one.ask("put a 73728x62 1"), "ok");
        assert_eq!(one.ask("put a 73728x62 1"), "exists");
        assert_eq!(two.ask("shape a"), "[(73728, 62)]");
        assert_eq!(two.ask("get a 73728x62 1 30000"), "ok");
        assert_eq!(two.ask("put a 73728x62 1"), "exists");
        // From its own copy now, without any link.
        let received = two.ask("stats");
        assert_eq!(two.ask("get a 73728x62 1 30000"), "ok");
        assert_eq!(two.ask("stats"), received);
        // The receiver provides it when the first has left.
        assert_eq!(one.ask("forget a"), "Ok(true)");
        assert_eq!(one.ask("get a 73728x62 1 30000"), "ok");
        assert_eq!(one.ask("delete a"), "Ok(true)");
        assert_eq!(one.ask("delete a"), "Ok(false)");
        assert_eq!(two.ask("shape a"), "none");
        one.finish();
        two.finish();
    }
}

#[test]
fn blobs_of_odd_sizes_keep_their_places() {
    for stage in both() {
        let (mut one, mut two) = (stage.start(0), stage.start(1));
        let shape = "1,70000,16384x3,5,200001,1x40";
        assert_eq!(one.ask(&format!("put odd {shape} 7")), "ok");
        assert_eq!(two.ask(&format!("get odd {shape} 7 30000")), "ok");
        let refused = two.ask("get odd 100,200 7 30000");
        // It has the key itself by now, with other blobs.
        assert_eq!(refused, "mismatch 47 2");
        let mut three = stage.start(2);
        assert_eq!(three.ask("get odd 100,200 7 30000"), "mismatch 47 2");
        for worker in [one, two, three] {
            worker.finish();
        }
    }
}

#[test]
fn a_transfer_may_take_longer_than_the_wait_for_its_provider() {
    for stage in both() {
        let (mut one, mut two) = (stage.start(0), stage.start(1));
        assert_eq!(one.ask("put a 200000x9 5"), "ok");
        // No time to wait, yet time to be asked and to come; a miss does not wait for that.
        let got = two.ask("within a,never 200000x9 5 0 60000");
        assert_eq!(got, "ok absent");
        two.order("within late 5000x9 3 60000 60000");
        assert_eq!(one.ask("put late 5000x9 3"), "ok");
        assert_eq!(two.answer(), "ok");
        one.finish();
        two.finish();
    }
}

#[test]
fn a_receiver_hears_of_each_object_at_once() {
    let stage = Stage::new(Backend::Host, &[]);
    let (mut one, mut two) = (stage.start(0), stage.start(1));
    two.order("each a,b 5000x9");
    assert_eq!(one.ask("publish b 5000x9 1"), "ok");
    assert_eq!(two.answer(), "here 1");
    // The other one is offered only now.
    assert_eq!(one.ask("publish a 5000x9 1"), "ok");
    assert_eq!(two.answer(), "here 0");
    assert_eq!(two.answer(), "ok ok");
    one.finish();
    two.finish();
}

#[test]
fn a_get_waits_for_the_put_and_ends_at_its_deadline() {
    for stage in both() {
        let (mut one, mut two) = (stage.start(0), stage.start(1));
        let begun = Instant::now();
        assert_eq!(two.ask("get none 100 1 200"), "absent");
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(begun.elapsed() < PATIENCE);
        two.order("get late 5000x9 3 50000");
        assert_eq!(one.ask("put late 5000x9 3"), "ok");
        assert_eq!(two.answer(), "ok");
        let both = two.ask("get late,never 5000x9 3 300");
        assert_eq!(both, "ok absent", "right answers for the right keys");
        one.finish();
        two.finish();
    }
}

#[test]
fn a_published_object_moves_to_one_receiver() {
    for stage in both() {
        let mut workers: Vec<_> = (0..3).map(|card| stage.start(card)).collect();
        assert_eq!(workers[0].ask("publish m 100000x3 5"), "ok");
        assert_eq!(workers[0].ask("moved m 10"), "absent");
        assert_eq!(
            workers[0].ask("get m 100000x3 5 1000"),
            "failed an object moves to another card than its own"
        );
        for worker in &mut workers[1..] {
            worker.order("subscribe m 100000x3 5 50000");
        }
        // One of the two has it; the other gets the next one.
        assert_eq!(workers[0].ask("moved m 50000"), "ok");
        assert_eq!(workers[0].ask("publish m 100000x3 5"), "ok");
        assert_eq!(workers[0].ask("moved m 50000"), "ok");
        for worker in &mut workers[1..] {
            assert_eq!(worker.answer(), "ok");
        }
        assert_eq!(workers[1].ask("shape m"), "none");
        for worker in workers {
            worker.finish();
        }
    }
}

#[test]
fn gets_in_opposite_orders_cross_without_a_deadlock() {
    for stage in both() {
        let (mut one, mut two) = (stage.start(0), stage.start(1));
        for round in 0..3 {
            for key in 0..6 {
                assert_eq!(one.ask(&format!("put one-{round}-{key} 60000x3 8")), "ok");
                assert_eq!(two.ask(&format!("put two-{round}-{key} 60000x3 8")), "ok");
            }
            let keys = |whose: &str, order: &[u32]| {
                let key = |key: &u32| format!("{whose}-{round}-{key}");
                order.iter().map(key).collect::<Vec<_>>().join(",")
            };
            one.order(&format!(
                "get {} 60000x3 8 40000",
                keys("two", &[0, 1, 2, 3, 4, 5])
            ));
            two.order(&format!(
                "get {} 60000x3 8 40000",
                keys("one", &[5, 4, 3, 2, 1, 0])
            ));
            assert_eq!(one.answer(), "ok ok ok ok ok ok");
            assert_eq!(two.answer(), "ok ok ok ok ok ok");
        }
        one.finish();
        two.finish();
    }
}

#[test]
fn what_a_killed_process_had_is_absent_in_time_and_its_links_are_gone() {
    for stage in both() {
        let (mut one, mut two) = (stage.start(0), stage.start(1));
        assert_eq!(one.ask("put k 50000x4 1"), "ok");
        assert_eq!(two.ask("get k 50000x4 1 30000"), "ok");
        assert_eq!(one.ask("put only 50000x4 2"), "ok");
        one.kill();
        assert_eq!(two.ask("get only 50000x4 2 500"), "absent");
        // What it passed on is still there.
        let mut three = stage.start(2);
        assert_eq!(three.ask("get k 50000x4 1 30000"), "ok");
        three.finish();
        two.finish();
    }
}
