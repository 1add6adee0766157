use std::sync::mpsc::{Receiver, channel};

use chariot_memory::ArenaOptions;

use super::*;

const FIRST: TenantId = TenantId(0);
const SECOND: TenantId = TenantId(1);
const SHARD: ShardId = ShardId(0);

/// A home of two granules and one shard; what its threads did is heard when the test wants it.
fn home() -> (GranuleHome, Receiver<PopulateDone>) {
    let (done, seen) = channel();
    let options = LedgerOptions {
        granule_count: 2,
        shard_count: 1,
    };
    let home = GranuleHome::new(options, move |event| {
        // The test may be over.
        let _gone = done.send(event);
    });
    (home.unwrap(), seen)
}

fn arena() -> Arc<ArenaMemory> {
    let options = ArenaOptions {
        virtual_granules: 4,
        hugetlb: false,
    };
    Arc::new(ArenaMemory::create("test-home", options).unwrap())
}

/// What the home says to its shard, which answers questions for empty granules with none.
fn heard(home: &mut GranuleHome) -> Vec<GranuleMessage> {
    let mut heard = Vec::new();
    while let Some((_, message)) = home.take_outgoing() {
        if matches!(message, GranuleMessage::Spare { .. }) {
            home.on_spared();
        } else {
            heard.push(message);
        }
    }
    heard
}

fn is_granted(messages: &[GranuleMessage]) -> bool {
    matches!(messages, [GranuleMessage::Granted { count: 1, .. }])
}

#[test]
fn nobody_evicts_while_a_granted_granule_is_still_populated() {
    let (mut home, done) = home();
    home.add_tenant(FIRST, arena());
    home.on_want(SHARD, FIRST, 1, false);
    home.on_want(SHARD, FIRST, 1, true);
    // Both are handed out, and neither is there yet.
    home.on_want(SHARD, FIRST, 1, false);
    assert!(heard(&mut home).is_empty());
    for _ in 0..2 {
        home.on_done(&done.recv().unwrap(), 0);
        assert!(is_granted(&heard(&mut home)));
    }
    home.on_want(SHARD, FIRST, 1, false);
    let messages = heard(&mut home);
    assert!(
        matches!(messages[..], [GranuleMessage::Exhausted { .. }]),
        "{messages:?}"
    );
}

#[test]
fn nobody_evicts_while_the_kernel_takes_back_what_another_tenant_does_not_use() {
    let (mut home, done) = home();
    home.add_tenant(FIRST, arena());
    for _ in 0..2 {
        home.on_done(&done.recv().unwrap(), 0);
    }
    home.add_tenant(SECOND, arena());
    home.on_want(SHARD, SECOND, 1, false);
    assert!(heard(&mut home).is_empty(), "a hole is on its way");
    let punched = done.recv().unwrap();
    assert!(matches!(punched.work, GranuleWork::Punch { .. }));
    home.on_done(&punched, 0);
    assert!(heard(&mut home).is_empty(), "pages are on their way");
    home.on_done(&done.recv().unwrap(), 0);
    assert!(is_granted(&heard(&mut home)));
}

#[test]
fn a_punch_that_fails_does_not_keep_shards_from_evicting() {
    let (mut home, done) = home();
    home.add_tenant(FIRST, arena());
    for _ in 0..2 {
        home.on_done(&done.recv().unwrap(), 0);
    }
    home.add_tenant(SECOND, arena());
    home.on_want(SHARD, SECOND, 1, false);
    assert!(heard(&mut home).is_empty());
    let failed = PopulateDone {
        result: Err(std::io::ErrorKind::OutOfMemory.into()),
        ..done.recv().unwrap()
    };
    home.on_done(&failed, 0);
    let messages = heard(&mut home);
    assert!(
        matches!(messages[..], [GranuleMessage::Exhausted { .. }]),
        "{messages:?}"
    );
}

#[test]
fn only_a_stale_request_for_several_granules_is_withdrawn() {
    let mut state = GranuleState::default();
    state.want(1);
    assert_eq!(state.take_request(), Some((1, false)));
    assert!(!state.take_withdrawal(), "one granule is always of use");
    state.want(3 * GRANULE_BYTES);
    assert!(!state.take_withdrawal(), "not asked for yet");
    assert_eq!(state.take_request(), Some((3, false)));
    state.on_exhausted();
    assert!(state.take_withdrawal());
    assert!(!state.is_exhausted());
    assert_eq!(state.take_request(), None);
}
