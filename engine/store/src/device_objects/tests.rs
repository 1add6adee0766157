//! Tests of the directory of device objects: each rule by itself, and all of them under random
//! events.

use super::*;

const KEY: KeyHash = KeyHash { hi: 1, lo: 2 };

fn port(session: u64) -> DevicePort {
    DevicePort::new(session, 0).unwrap()
}

fn offer(session: u64, lifetime: Lifetime) -> DeviceOffer {
    DeviceOffer {
        hash: KEY,
        port: port(session),
        shape: DeviceShape::of([100, 100, 7]).unwrap(),
        lifetime,
        chunk_log2: 20,
    }
}

fn take_of(session: u64, number: u64, lifetime: Lifetime) -> DeviceTake {
    DeviceTake {
        offer: offer(session, lifetime),
        number,
        first: 0,
        token: 9,
        deadline_ns: 1000,
    }
}

fn take(session: u64) -> DeviceTake {
    take_of(session, 0, Lifetime::Reference)
}

fn granted(objects: &mut DeviceObjects, take: DeviceTake) -> DevicePort {
    match objects.take(take).unwrap() {
        DeviceTaken::Granted(grant) => grant.provider,
        other => panic!("{other:?}"),
    }
}

fn effects(objects: &mut DeviceObjects) -> Vec<DeviceEffect> {
    std::iter::from_fn(|| objects.take_effect()).collect()
}

fn orders_to(objects: &mut DeviceObjects, of: DevicePort) -> Vec<DeviceOrder> {
    let order = |effect| match effect {
        DeviceEffect::Order { to, order } if to == of => Some(order),
        _ => None,
    };
    effects(objects).into_iter().filter_map(order).collect()
}

fn with_source(lifetime: Lifetime) -> DeviceObjects {
    let mut objects = DeviceObjects::default();
    objects.put(offer(1, lifetime)).unwrap();
    objects
}

#[test]
fn receivers_become_providers_and_make_a_chain() {
    let mut objects = with_source(Lifetime::Reference);
    for session in 2..66 {
        let provider = granted(&mut objects, take(session));
        assert_eq!(provider, port(session - 1), "the one that serves nobody");
        objects.check_invariants();
    }
    for session in 2..66 {
        objects.done(KEY, port(session), 0).unwrap();
    }
    assert_eq!(
        granted(&mut objects, take(99)),
        port(1),
        "the oldest whole one"
    );
    objects.check_invariants();
}

#[test]
fn whoever_asks_first_waits_and_is_answered_by_the_offer() {
    let mut objects = DeviceObjects::default();
    assert_eq!(objects.take(take(2)), Ok(DeviceTaken::Waiting));
    assert_eq!(objects.next_deadline_ns(), Some(1000));
    objects.put(offer(1, Lifetime::Reference)).unwrap();
    let told = effects(&mut objects);
    assert!(told.iter().any(|one| matches!(
        one,
        DeviceEffect::Answer { session: SessionId(2), token: 9, taken: DeviceTaken::Granted(grant) }
            if grant.provider == port(1)
    )));
    assert_eq!(objects.next_deadline_ns(), None);
    assert_eq!(
        objects.take(take(3)).map(|one| one != DeviceTaken::Waiting),
        Ok(true)
    );
    objects.check_invariants();
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let mut objects = DeviceObjects::default();
    objects.take(take(2)).unwrap();
    assert_eq!(objects.take_expired(999), None);
    assert_eq!(objects.take_expired(1000), Some((SessionId(2), 9)));
    assert_eq!(objects.counts(), (0, 0, 0));
    objects.check_invariants();
}

#[test]
fn an_object_is_offered_once_and_taken_as_it_is() {
    let mut objects = with_source(Lifetime::Reference);
    let again = objects.put(offer(2, Lifetime::Reference));
    assert_eq!(again, Err(Status::Exists));
    let mut other = take(2);
    other.offer.shape = DeviceShape::of([207]).unwrap();
    assert_eq!(objects.take(other), Ok(DeviceTaken::Mismatch { blobs: 3 }));
    let moved = objects.take(take_of(2, 0, Lifetime::Move));
    assert_eq!(moved, Ok(DeviceTaken::Refused(Status::InvalidArgument)));
    let own = objects.take(take(1));
    assert_eq!(own, Ok(DeviceTaken::Refused(Status::Exists)));
    granted(&mut objects, take(2));
    assert_eq!(objects.take(take(2)), Err(Status::InvalidArgument));
    let twice = objects.take(take_of(2, 1, Lifetime::Reference));
    assert_eq!(twice, Ok(DeviceTaken::Refused(Status::Exists)));
}

#[test]
fn a_moved_object_goes_to_one_receiver_and_is_gone() {
    let mut objects = with_source(Lifetime::Move);
    assert_eq!(
        granted(&mut objects, take_of(2, 0, Lifetime::Move)),
        port(1)
    );
    let second = objects.take(take_of(3, 0, Lifetime::Move));
    assert_eq!(
        second,
        Ok(DeviceTaken::Waiting),
        "it is on its way to another"
    );
    objects.done(KEY, port(2), 0).unwrap();
    let moved = DeviceOrder::Moved { hash: (1, 2) };
    assert!(orders_to(&mut objects, port(1)).contains(&moved));
    assert_eq!(
        objects.counts(),
        (0, 0, 1),
        "the second waits for another one"
    );
    objects.check_invariants();
}

#[test]
fn a_moved_object_whose_receiver_dies_goes_to_the_next() {
    let mut objects = with_source(Lifetime::Move);
    granted(&mut objects, take_of(2, 0, Lifetime::Move));
    objects.take(take_of(3, 0, Lifetime::Move)).unwrap();
    effects(&mut objects);
    objects.drop_session(SessionId(2));
    let told = orders_to(&mut objects, port(1));
    assert!(
        matches!(told[0], DeviceOrder::Stop { sends: true, .. }),
        "{told:?}"
    );
    assert!(
        matches!(told[1], DeviceOrder::Serve { to, .. } if to == port(3)),
        "{told:?}"
    );
    objects.check_invariants();
}

#[test]
fn a_dead_source_in_the_middle_is_replaced_without_a_circle() {
    let mut objects = with_source(Lifetime::Reference);
    for session in 2..6 {
        granted(&mut objects, take(session));
    }
    effects(&mut objects);
    // 1 -> 2 -> 3 -> 4 -> 5, and 3 dies.
    objects.drop_session(SessionId(3));
    let told = effects(&mut objects);
    let stopped = DeviceEffect::Order {
        to: port(4),
        order: DeviceOrder::Stop {
            peer: port(3),
            sends: false,
            number: 0,
        },
    };
    assert!(told.contains(&stopped), "{told:?}");
    objects.check_invariants();
    // 5 gets from 4, so that 4 may get from 2, never from 5.
    let mut again = take_of(4, 1, Lifetime::Reference);
    again.first = 7;
    assert_eq!(granted(&mut objects, again), port(2));
    let order = orders_to(&mut objects, port(2));
    assert!(
        matches!(order[0], DeviceOrder::Serve { first: 7, .. }),
        "{order:?}"
    );
    objects.check_invariants();
}

#[test]
fn parts_without_a_source_wait_for_one_and_a_new_offer_serves_them() {
    let mut objects = with_source(Lifetime::Reference);
    granted(&mut objects, take(2));
    granted(&mut objects, take(3));
    objects.drop_session(SessionId(1));
    let again = objects.take(take_of(2, 1, Lifetime::Reference));
    assert_eq!(again, Ok(DeviceTaken::Waiting), "3 gets from 2 itself");
    let mut other = offer(7, Lifetime::Reference);
    other.shape = DeviceShape::of([1]).unwrap();
    assert_eq!(objects.put(other), Err(Status::Exists));
    objects.put(offer(7, Lifetime::Reference)).unwrap();
    assert!(!orders_to(&mut objects, port(7)).is_empty());
    objects.check_invariants();
}

#[test]
fn a_provider_that_failed_is_asked_again_only_when_nobody_else_is_left() {
    let mut objects = with_source(Lifetime::Reference);
    granted(&mut objects, take(2));
    objects.done(KEY, port(2), 0).unwrap();
    assert_eq!(granted(&mut objects, take(3)), port(1));
    objects.fail(KEY, (port(3), 0), true).unwrap();
    let next = granted(&mut objects, take_of(3, 1, Lifetime::Reference));
    assert_eq!(next, port(2));
    objects.fail(KEY, (port(3), 1), true).unwrap();
    objects.leave(KEY, port(2));
    let next = granted(&mut objects, take_of(3, 2, Lifetime::Reference));
    assert_eq!(next, port(1));
    let unknown = objects.fail(KEY, (port(3), 9), true);
    assert_eq!(unknown, Err(Status::NotFound));
    objects.check_invariants();
}

#[test]
fn whoever_leaves_serves_to_the_end_those_it_serves() {
    let mut objects = with_source(Lifetime::Reference);
    granted(&mut objects, take(2));
    effects(&mut objects);
    assert!(objects.leave(KEY, port(1)));
    assert!(!objects.leave(KEY, port(1)), "once");
    assert!(effects(&mut objects).is_empty(), "nobody is stopped");
    assert_eq!(granted(&mut objects, take(3)), port(2));
    objects.done(KEY, port(2), 0).unwrap();
    objects.done(KEY, port(3), 0).unwrap();
    assert!(!objects.leave(KEY, port(1)), "it is gone");
    objects.check_invariants();
}

#[test]
fn a_part_that_leaves_stops_those_it_serves() {
    let mut objects = with_source(Lifetime::Reference);
    granted(&mut objects, take(2));
    granted(&mut objects, take(3));
    effects(&mut objects);
    objects.fail(KEY, (port(2), 0), false).unwrap();
    assert!(objects.leave(KEY, port(2)));
    let told = orders_to(&mut objects, port(3));
    assert!(
        matches!(told[0], DeviceOrder::Stop { sends: false, .. }),
        "{told:?}"
    );
    assert_eq!(
        granted(&mut objects, take_of(3, 1, Lifetime::Reference)),
        port(1)
    );
    objects.check_invariants();
}

#[test]
fn delete_tells_every_provider_and_lets_transfers_end() {
    let mut objects = with_source(Lifetime::Reference);
    granted(&mut objects, take(2));
    effects(&mut objects);
    assert!(objects.delete(KEY));
    assert!(!objects.delete(KEY));
    let told = effects(&mut objects);
    assert_eq!(told.len(), 2, "{told:?}");
    let ended = objects.done(KEY, port(2), 0);
    assert_eq!(ended, Err(Status::NotFound), "it provides nothing");
    assert_eq!(objects.counts(), (0, 0, 0));
    objects.check_invariants();
}

#[test]
fn a_card_serves_a_bounded_number_at_a_time() {
    let mut objects = DeviceObjects::default();
    for hi in 0..=u64::from(SERVED_MAX) {
        let mut one = offer(1, Lifetime::Reference);
        one.hash.hi = hi;
        objects.put(one).unwrap();
        let mut take = take_of(2, hi, Lifetime::Reference);
        take.offer.hash.hi = hi;
        let taken = objects.take(take).unwrap();
        assert_eq!(taken == DeviceTaken::Waiting, hi == u64::from(SERVED_MAX));
    }
    objects.check_invariants();
}

#[test]
fn full_tables_are_busy_and_nothing_leaks() {
    let mut objects = DeviceObjects::default();
    for hi in 0..=DEVICE_OBJECTS_MAX as u64 {
        let mut one = offer(1, Lifetime::Reference);
        one.hash.hi = hi;
        let put = objects.put(one);
        assert_eq!(put.is_ok(), hi < DEVICE_OBJECTS_MAX as u64, "{hi}");
    }
    assert_eq!(
        objects.put(offer(9, Lifetime::Reference)),
        Err(Status::Exists)
    );
    objects.drop_session(SessionId(1));
    assert_eq!(objects.counts(), (0, 0, 0));
    objects.check_invariants();
}

/// A small generator of its own: the seed is all there is to a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Whatever happens in whatever order: the tables agree, every source leads to a whole provider
/// when it is given, every request is answered once, and in the end nothing is left.
#[expect(
    clippy::too_many_lines,
    reason = "one match over all events, and what is checked after each"
)]
#[test]
fn random_events_keep_the_tables_in_agreement() {
    let mut refused = 0;
    for seed in 1..200 {
        let mut random = Random(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut objects = DeviceObjects::default();
        let mut waiting = 0_i64;
        let mut live = Vec::new();
        for step in 0..200_u64 {
            let session = 1 + random.below(8);
            let hash = KeyHash {
                hi: random.below(2),
                lo: 2,
            };
            let lifetime = if hash.hi == 0 {
                Lifetime::Reference
            } else {
                Lifetime::Move
            };
            match random.below(10) {
                0 | 1 => {
                    let mut one = offer(session, lifetime);
                    one.hash = hash;
                    refused += u32::from(objects.put(one).is_err());
                },
                2..=5 => {
                    let mut one = take_of(session, step, lifetime);
                    one.offer.hash = hash;
                    one.deadline_ns = step + random.below(30);
                    live.push((hash, port(session), step));
                    if objects.take(one) == Ok(DeviceTaken::Waiting) {
                        waiting += 1;
                    }
                },
                6 if !live.is_empty() => {
                    let at = random.below(live.len() as u64);
                    let (hash, port, number) = live.swap_remove(usize::try_from(at).unwrap());
                    let failed = objects.fail(hash, (port, number), random.below(2) == 0);
                    refused += u32::from(failed.is_err());
                },
                7 if !live.is_empty() => {
                    let at = random.below(live.len() as u64);
                    let (hash, port, number) = live.swap_remove(usize::try_from(at).unwrap());
                    refused += u32::from(objects.done(hash, port, number).is_err());
                },
                8 => refused += u32::from(!objects.leave(hash, port(session))),
                9 if random.below(3) == 0 => {
                    let before = objects.counts().2;
                    objects.drop_session(SessionId(session));
                    let mut answered = 0;
                    for effect in effects(&mut objects) {
                        match effect {
                            DeviceEffect::Order { to, .. } => assert_ne!(to.session(), session),
                            DeviceEffect::Answer { .. } => answered += 1,
                        }
                    }
                    let dropped = before - objects.counts().2 - answered;
                    waiting -= i64::try_from(dropped + answered).unwrap();
                },
                _ if random.below(20) == 0 => refused += u32::from(!objects.delete(hash)),
                _ => {},
            }
            objects.check_invariants();
            for effect in effects(&mut objects) {
                if let DeviceEffect::Answer { taken, .. } = effect {
                    assert_ne!(taken, DeviceTaken::Waiting);
                    waiting -= 1;
                }
            }
            while objects.take_expired(step).is_some() {
                waiting -= 1;
            }
            assert_eq!(
                usize::try_from(waiting),
                Ok(objects.counts().2),
                "seed {seed}"
            );
        }
        for session in 1..9 {
            objects.drop_session(SessionId(session));
            objects.check_invariants();
        }
        assert_eq!(objects.counts(), (0, 0, 0), "seed {seed}");
    }
    assert!(refused > 0, "the run has met refusals, too");
}

#[test]
fn a_wait_whose_caller_gave_up_is_granted_nothing() {
    let mut objects = DeviceObjects::default();
    objects.take(take(2)).unwrap();
    assert_eq!(objects.fail(KEY, (port(2), 0), false), Ok(()));
    assert_eq!(objects.counts(), (0, 0, 0));
    let told = effects(&mut objects);
    assert!(
        matches!(told[..], [DeviceEffect::Answer { token: 9, .. }]),
        "{told:?}"
    );
    objects.put(offer(1, Lifetime::Reference)).unwrap();
    assert!(effects(&mut objects).is_empty());
    objects.check_invariants();
}
