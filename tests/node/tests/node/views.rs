//! A view keeps its bytes whatever becomes of its key, and gives its memory back.

use std::time::Duration;

use chariot_client::{SetOptions, View};
use chariot_tests_node::daemon::Daemon;
use chariot_tests_node::{pattern, wait};

const MIB: usize = 1 << 20;
const LENGTHS: [usize; 4] = [100, 5_000, 300_000, 2 * MIB];

#[test]
fn views_keep_their_bytes_while_their_keys_are_overwritten_deleted_expired_and_evicted() {
    let daemon = Daemon::start();
    let holder = daemon.local();
    let other = daemon.remote();
    let mut views: Vec<(View, u64)> = Vec::new();
    let short = SetOptions {
        ttl: Some(Duration::from_mins(10)),
        ..SetOptions::default()
    };
    for (index, len) in LENGTHS.into_iter().cycle().take(16).enumerate() {
        let seed = index as u64;
        let key = format!("view/{index}");
        holder
            .set(key.as_bytes(), &pattern::value(len, seed), &short)
            .unwrap();
        views.push((holder.view(key.as_bytes()).unwrap().unwrap(), seed));
        let whole = &views.last().unwrap().0;
        assert!(whole.is_pinned() && whole.len() == len);
    }
    let all_right = |views: &[(View, u64)]| {
        views
            .iter()
            .all(|(view, seed)| pattern::matches(view, *seed))
    };
    for (index, len) in LENGTHS.into_iter().cycle().take(16).enumerate() {
        let key = format!("view/{index}");
        match index / 4 {
            0 => drop(
                other
                    .set(key.as_bytes(), &pattern::value(len, 999), &short)
                    .unwrap(),
            ),
            1 => assert!(other.delete(key.as_bytes()).unwrap()),
            2 => assert!(
                other
                    .expire(key.as_bytes(), Duration::from_millis(1))
                    .unwrap()
            ),
            _ => {},
        }
    }
    wait::until("the expired are gone", || !other.exist(b"view/9").unwrap());
    assert!(
        all_right(&views),
        "overwritten, deleted or expired under a view"
    );
    // Everything else of the arena is used twice over.
    for index in 0..512_u64 {
        let key = format!("pressure/{index}");
        let options = SetOptions {
            deadline: Some(wait::PATIENCE),
            ..SetOptions::default()
        };
        holder
            .set(key.as_bytes(), &pattern::value(MIB, index), &options)
            .unwrap();
    }
    assert!(all_right(&views), "evicted under a view");
    // An overwritten key reads new while its old view stands.
    let new = other
        .get(b"view/0", &chariot_client::GetOptions::default())
        .unwrap();
    assert!(new.is_none_or(|new| pattern::matches(&new, 999)));
}

#[test]
fn dropped_views_free_the_memory_of_deleted_values() {
    let daemon = Daemon::start();
    let client = daemon.local();
    let mut views = Vec::new();
    for index in 0..20_u64 {
        let key = format!("held/{index}");
        client
            .set(
                key.as_bytes(),
                &pattern::value(4 * MIB, index),
                &SetOptions::default(),
            )
            .unwrap();
        views.push(client.view(key.as_bytes()).unwrap().unwrap());
        client.delete(key.as_bytes()).unwrap();
    }
    // Pins end silently: the shard looks again when it has something to do.
    let quarantined = || {
        for key in ["stir/1", "stir/2", "stir/3", "stir/4", "stir/5", "stir/6"] {
            client
                .set(key.as_bytes(), b"x", &SetOptions::default())
                .unwrap();
            client.delete(key.as_bytes()).unwrap();
        }
        daemon.metrics().sum("chariot_quarantine_bytes", &["pin"])
    };
    wait::until("deleted values wait for their views", || {
        quarantined() >= 80.0 * MIB as f64
    });
    let last = views.pop().unwrap();
    drop(views);
    wait::until("the memory comes back", || quarantined() < 5.0 * MIB as f64);
    assert!(pattern::matches(&last, 19), "the one still held");
    drop(last);
    wait::until("the last one as well", || quarantined() < 1.0);
}

#[test]
fn a_view_outlives_its_client() {
    let daemon = Daemon::start();
    let client = daemon.local();
    client
        .set(b"key", &pattern::value(MIB, 1), &SetOptions::default())
        .unwrap();
    let view = client.view(b"key").unwrap().unwrap();
    drop(client);
    let other = daemon.local();
    other.delete(b"key").unwrap();
    for index in 0..300_u64 {
        let key = format!("pressure/{index}");
        other
            .set(
                key.as_bytes(),
                &pattern::value(MIB, index),
                &SetOptions::default(),
            )
            .unwrap();
    }
    assert!(pattern::matches(&view, 1));
    let reader = std::thread::spawn(move || pattern::matches(&view, 1));
    assert!(reader.join().unwrap(), "a view may move to another thread");
}
