//! Reads through the shared index, against a daemon in a thread that keeps a real one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use chariot_proto::Status;

use super::fake::{FakeDaemon, Hand, IndexOf, Manners};
use super::switches::{self, Switch};
use crate::{Client, ConnectOptions, GetOptions, SetOptions, Target};

fn connect(daemon: &FakeDaemon) -> Client {
    Client::connect(ConnectOptions::new(Target::Unix(daemon.path.clone()))).unwrap()
}

fn get(client: &Client, key: &[u8]) -> Option<Vec<u8>> {
    client.get(key, &GetOptions::default()).unwrap()
}

fn set(client: &Client, key: &[u8], value: &[u8]) {
    client.set(key, value, &SetOptions::default()).unwrap();
}

/// What has reached the daemon so far: submissions, bells.
fn heard(daemon: &FakeDaemon, hand: &Hand) -> (u64, u64) {
    (daemon.submissions(), hand.bells())
}

/// A client with one key, `v` = `old`, and an open ring.
fn one_key(manners: Manners) -> (FakeDaemon, Hand, Client) {
    let daemon = FakeDaemon::start(manners);
    let client = connect(&daemon);
    set(&client, b"v", b"old");
    let hand = daemon.hand();
    (daemon, hand, client)
}

#[test]
fn hit_submits_nothing_and_rings_nothing() {
    let (daemon, hand, client) = one_key(Manners {
        sleepy: true,
        ..Manners::good(1)
    });
    set(&client, b"w", b"other");
    let before = heard(&daemon, &hand);
    let mut buffer = [0; 8];
    for _ in 0..100 {
        assert_eq!(get(&client, b"v").unwrap(), b"old");
        assert_eq!(client.get_into(b"v", &mut buffer).unwrap(), Some(3));
        assert_eq!(client.view(b"v").unwrap().unwrap()[..], *b"old");
        assert!(client.exist(b"v").unwrap());
        assert_eq!(client.size(b"w").unwrap(), Some(5));
    }
    assert_eq!(heard(&daemon, &hand), before);
}

#[test]
fn batches_and_prefixes_of_hits_submit_nothing() {
    let daemon = FakeDaemon::start(Manners::good(3));
    let client = connect(&daemon);
    let names: Vec<String> = (0..300).map(|index| format!("k{index}")).collect();
    let keys: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    for key in &keys {
        set(&client, key, key);
    }
    let hand = daemon.hand();
    let before = heard(&daemon, &hand);
    for (key, value) in keys.iter().zip(client.mget(&keys)) {
        assert_eq!(value.unwrap().unwrap(), *key);
    }
    for (key, view) in keys.iter().zip(client.mview(&keys)) {
        assert_eq!(&view.unwrap().unwrap()[..], *key);
    }
    assert!(client.mexist(&keys).into_iter().all(Result::unwrap));
    assert_eq!(client.prefix(&keys).unwrap(), 300);
    // Duplicates each have their pin.
    let twice = client.mview(&[b"k7", b"k7", b"k8"]);
    assert_eq!(
        twice[0].as_ref().unwrap().as_ref().unwrap()[..],
        twice[1].as_ref().unwrap().as_ref().unwrap()[..]
    );
    assert_eq!(heard(&daemon, &hand), before);
}

#[test]
fn of_a_batch_only_what_the_index_cannot_tell_is_submitted() {
    let daemon = FakeDaemon::start(Manners::good(1));
    let client = connect(&daemon);
    let names: Vec<String> = (0..100).map(|index| format!("k{index}")).collect();
    let mut keys: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    for key in &keys {
        set(&client, key, key);
    }
    daemon.hand().put_away(b"away");
    keys[40] = b"bad key";
    keys[50] = b"absent";
    keys[60] = b"away";
    let before = daemon.submissions();
    let read = client.mget(&keys);
    assert_eq!(daemon.submissions() - before, 1);
    for (index, (key, value)) in keys.iter().zip(read).enumerate() {
        match index {
            40 => assert_eq!(value.unwrap_err().status(), Status::KeyInvalid),
            50 | 60 => assert_eq!(value.unwrap(), None),
            _ => assert_eq!(value.unwrap().unwrap(), *key),
        }
    }
}

#[test]
fn absent_is_answered_without_a_message_and_without_a_ring() {
    let daemon = FakeDaemon::start(Manners::good(2));
    let client = connect(&daemon);
    let hand = daemon.hand();
    assert_eq!(get(&client, b"absent"), None);
    assert!(client.view(b"absent").unwrap().is_none());
    assert!(!client.exist(b"absent").unwrap());
    assert_eq!(client.prefix(&[b"absent"]).unwrap(), 0);
    assert_eq!(heard(&daemon, &hand), (0, 0));
}

#[test]
fn wait_for_an_absent_key_asks_the_shard() {
    let (daemon, _, client) = one_key(Manners::good(1));
    let before = daemon.submissions();
    let options = GetOptions {
        wait: Some(Duration::from_millis(5)),
        ..GetOptions::default()
    };
    assert_eq!(client.get(b"absent", &options).unwrap(), None);
    assert!(client.view_with(b"absent", &options).unwrap().is_none());
    assert!(daemon.submissions() - before >= 2);
    let before = daemon.submissions();
    assert_eq!(client.get(b"v", &options).unwrap().unwrap(), b"old");
    assert_eq!(daemon.submissions(), before);
}

#[test]
fn before_its_ring_is_open_a_hit_is_asked_for_which_opens_it() {
    let (daemon, _, _client) = one_key(Manners::good(1));
    let second = connect(&daemon);
    let before = daemon.submissions();
    assert!(second.exist(b"v").unwrap());
    assert_eq!(daemon.submissions(), before, "a question pins nothing");
    assert_eq!(get(&second, b"v").unwrap(), b"old");
    assert_eq!(daemon.submissions() - before, 1, "the shard scans no pins");
    assert_eq!(get(&second, b"v").unwrap(), b"old");
    assert_eq!(daemon.submissions() - before, 1);
}

/// Reads `v` while another client overwrites it between look-up and pin, and its old bytes are
/// reused: what was read, and what it cost.
fn overwritten_while_read(read: impl Fn(&Client) -> Vec<u8>) -> (Vec<u8>, u64) {
    let (daemon, hand, client) = one_key(Manners::good(1));
    let before = daemon.submissions();
    switches::after_find(move || hand.overwrite(b"v", b"new", true));
    (read(&client), daemon.submissions() - before)
}

fn read_copy(client: &Client) -> Vec<u8> {
    get(client, b"v").unwrap()
}

fn read_view(client: &Client) -> Vec<u8> {
    client.view(b"v").unwrap().unwrap().to_vec()
}

fn read_batch(client: &Client) -> Vec<u8> {
    let mut values = client.mget(&[b"absent", b"v", b"v"]);
    let last = values.pop().unwrap().unwrap().unwrap();
    assert_eq!(values.pop().unwrap().unwrap().unwrap(), last);
    last
}

#[test]
fn overwrite_between_look_up_and_re_check_is_seen() {
    assert_eq!(
        overwritten_while_read(read_copy),
        (b"new".to_vec(), 0),
        "the first look does not hold, the second one finds the new value"
    );
    assert_eq!(overwritten_while_read(read_view), (b"new".to_vec(), 0));
    assert_eq!(
        overwritten_while_read(read_batch),
        (b"new".to_vec(), 1),
        "the second of two was looked up after it"
    );
}

#[test]
fn without_the_re_check_reused_bytes_are_read() {
    switches::leave_out(Some(Switch::Recheck));
    let read = overwritten_while_read(read_copy);
    switches::leave_out(None);
    assert_eq!(read, (vec![0xee; 3], 0), "the test above can fail");
}

/// Reads and answers how many fences there were between the first key found, not yet pinned, and
/// the end of the re-checks.
fn fences_of(read: impl Fn(&Client) -> Vec<u8>) -> u64 {
    let (_daemon, _hand, client) = one_key(Manners::good(1));
    let (found, checked) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (at_find, at_re_check) = (Rc::clone(&found), Rc::clone(&checked));
    switches::after_find(move || at_find.set(switches::fences()));
    switches::after_recheck(move || at_re_check.set(switches::fences()));
    assert_eq!(read(&client), b"old");
    checked.get() - found.get()
}

#[test]
fn every_look_up_fences_once_between_its_pins_and_its_re_checks() {
    for read in [read_copy, read_view, read_batch] {
        assert_eq!(fences_of(read), 1);
        switches::leave_out(Some(Switch::Fence));
        let without = fences_of(read);
        switches::leave_out(None);
        assert_eq!(without, 0, "the line above can fail");
    }
}

#[test]
fn failed_re_check_leaves_no_pin() {
    let (_daemon, hand, client) = one_key(Manners::good(1));
    let hand = Rc::new(hand);
    // More often than there are slots for copies.
    for _ in 0..300 {
        let other = Rc::clone(&hand);
        switches::after_find(move || other.overwrite(b"v", b"new", true));
        assert_eq!(get(&client, b"v").unwrap(), b"new");
    }
    assert_eq!(pins_held(&client), 0);
}

fn pins_held(client: &Client) -> u32 {
    let crate::transport::Link::Local(session) = client.core().link().unwrap() else {
        panic!("the session is local");
    };
    session.ports.iter().map(|port| port.pins().held()).sum()
}

#[test]
fn errors_panics_and_range_failures_leave_no_pin() {
    let (_daemon, _, client) = one_key(Manners::good(1));
    let range = GetOptions {
        offset: 9,
        ..GetOptions::default()
    };
    let refused = client.get(b"v", &range).unwrap_err();
    assert_eq!(refused.status(), Status::RangeInvalid);
    let refused = client.view_with(b"v", &range).unwrap_err();
    assert_eq!(refused.status(), Status::RangeInvalid);
    client.get_into(b"v", &mut [0; 1]).unwrap_err();
    assert_eq!(pins_held(&client), 0);
    switches::after_recheck(|| panic!("in the middle of a look-up"));
    let call = std::panic::AssertUnwindSafe(|| get(&client, b"v"));
    std::panic::catch_unwind(call).unwrap_err();
    assert_eq!(pins_held(&client), 0);
    let view = client.view(b"v").unwrap().unwrap();
    assert_eq!(pins_held(&client), 1);
    drop(view);
    assert_eq!(pins_held(&client), 0);
}

#[test]
fn deletion_between_look_up_and_re_check_is_a_miss() {
    let (_daemon, hand, client) = one_key(Manners::good(1));
    switches::after_find(move || hand.delete(b"v"));
    assert_eq!(get(&client, b"v"), None);
}

#[test]
fn expired_entry_is_a_miss() {
    let (_daemon, hand, client) = one_key(Manners::good(1));
    assert_eq!(get(&client, b"v").unwrap(), b"old");
    hand.expire(b"v");
    assert_eq!(get(&client, b"v"), None);
    set(&client, b"v", b"again");
    hand.expire(b"v");
    assert!(!client.exist(b"v").unwrap());
    set(&client, b"v", b"again");
    switches::after_find(move || hand.expire(b"v"));
    assert_eq!(get(&client, b"v"), None, "between look-up and re-check");
}

/// Reads `v` while the daemon dies after the re-check.
fn read_while_the_daemon_dies() -> Option<Vec<u8>> {
    let (mut daemon, _, client) = one_key(Manners::good(1));
    let life = daemon.take_life();
    switches::after_recheck(move || drop(life));
    get(&client, b"v")
}

#[test]
fn dead_daemon_is_believed_about_nothing() {
    assert_eq!(read_while_the_daemon_dies(), None);
    let (mut daemon, _, client) = one_key(Manners::good(1));
    let view = client.view(b"v").unwrap().unwrap();
    drop(daemon.take_life());
    assert_eq!(get(&client, b"v"), None);
    assert!(!client.exist(b"v").unwrap());
    assert_eq!(view[..], *b"old", "what is pinned stays readable");
}

#[test]
fn without_the_life_word_a_dead_daemon_is_believed() {
    switches::leave_out(Some(Switch::Life));
    let read = read_while_the_daemon_dies();
    switches::leave_out(None);
    assert_eq!(read.unwrap(), b"old", "the test above can fail");
}

#[test]
fn view_through_the_index_survives_overwrite_and_deletion() {
    let (daemon, hand, client) = one_key(Manners::good(1));
    let before = daemon.submissions();
    let view = client.view(b"v").unwrap().unwrap();
    assert_eq!(daemon.submissions(), before);
    assert!(view.is_pinned());
    hand.overwrite(b"v", b"new", false);
    assert_eq!(get(&client, b"v").unwrap(), b"new");
    hand.delete(b"v");
    assert_eq!(get(&client, b"v"), None);
    assert_eq!(view[..], *b"old");
}

#[test]
fn hits_leave_notes_for_the_shard() {
    let (_daemon, hand, client) = one_key(Manners::good(1));
    set(&client, b"w", b"other");
    let expected = [hand.note_of(b"v"), hand.note_of(b"w")];
    for _ in 0..10 {
        get(&client, b"v").unwrap();
        client.view(b"w").unwrap().unwrap();
    }
    assert_eq!(get(&client, b"absent"), None);
    // The shard drains its notes between requests: after this answer it has heard them all.
    hand.put_away(b"away");
    assert_eq!(get(&client, b"away"), None);
    assert_eq!(get(&client, b"away"), None);
    let notes = hand.take_notes();
    // The fake hears all the time: what it reads between a note's place and its word is lost, as
    // notes may be.
    assert!(
        (16..=20).contains(&notes.len()),
        "{}: a note each",
        notes.len()
    );
    assert!(notes.iter().all(|note| expected.contains(note)));
    let of_v = notes.iter().filter(|note| **note == expected[0]).count();
    assert!((6..=10).contains(&of_v), "{of_v}: half of them");
}

#[test]
fn when_all_view_slots_are_held_views_are_copies_and_gets_go_on() {
    let (daemon, _, client) = one_key(Manners::good(1));
    let slots = chariot_proto::limits::PIN_SLOTS_VIEW as usize;
    let before = daemon.submissions();
    let keys = vec![&b"v"[..]; slots];
    let views = client.mview(&keys);
    assert!(
        views
            .iter()
            .all(|view| view.as_ref().unwrap().as_ref().unwrap().is_pinned())
    );
    assert_eq!(daemon.submissions(), before);
    let copy = client.view(b"v").unwrap().unwrap();
    assert!(!copy.is_pinned());
    assert_eq!(copy[..], *b"old");
    assert_eq!(daemon.submissions() - before, 1);
    assert_eq!(get(&client, b"v").unwrap(), b"old");
    assert_eq!(daemon.submissions() - before, 1);
    drop(views);
    assert!(client.view(b"v").unwrap().unwrap().is_pinned());
}

#[test]
fn index_of_another_shard_tenant_or_start_is_refused() {
    for index_of in [
        IndexOf::OtherShard,
        IndexOf::OtherTenant,
        IndexOf::OtherBoot,
        IndexOf::Missing,
    ] {
        let daemon = FakeDaemon::start(Manners {
            index_of,
            ..Manners::good(2)
        });
        let target = Target::Unix(daemon.path.clone());
        let refused = Client::connect(ConnectOptions::new(target)).unwrap_err();
        assert_eq!(refused.status(), Status::Malformed, "{index_of:?}");
    }
}

#[test]
fn readers_never_see_a_mixture_while_a_key_is_overwritten() {
    let (_daemon, hand, client) = one_key(Manners::good(2));
    let rounds = 2000_u32;
    let value = |round: u32| round.to_le_bytes().repeat(64);
    hand.overwrite(b"v", &value(0), true);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < rounds {
                    let bytes = get(&client, b"v").unwrap();
                    let round = u32::from_le_bytes(bytes[..4].try_into().unwrap());
                    assert!(bytes == value(round), "one value, whole");
                    assert!(round >= last, "versions only rise");
                    last = round;
                }
            });
        }
        for round in 1..=rounds {
            hand.overwrite(b"v", &value(round), false);
        }
    });
}
