//! Sleeping shards and waiting clients: no wake is lost.

use loom::thread;

use super::memory::ModelMemory;
use super::{every_mutation_fails, explore};
use crate::doorbell::Waiter;
use crate::ring::{ClientRing, CompletionWords, ServerRing, SubmissionWords};
use crate::sync::{Memory, Step};

/// A client submits while the shard stops polling: either the shard sees the submission, or the
/// client rings.
pub(super) fn shard_sleeps(removed: Option<Step>) {
    explore(None, move || {
        let (rw, ro) = (
            ModelMemory::read_write(removed),
            ModelMemory::read_only(removed),
        );
        let mut client = ClientRing::new(rw.clone(), ro.clone(), 0);
        let server = ServerRing::new(rw, ro, 0);
        let shard = thread::spawn(move || server.try_sleep());
        client.try_submit(&SubmissionWords::default(), &[]).unwrap();
        client.publish();
        let rung = client.must_ring_bell();
        let asleep = shard.join().unwrap();
        assert!(
            rung || !asleep,
            "lost wake: the shard sleeps over a submission"
        );
    });
}

/// A shard posts while the client is about to wait: either the client sees the completion, or it is
/// woken.
pub(super) fn client_waits(removed: Option<Step>) {
    explore(None, move || {
        let (rw, ro) = (
            ModelMemory::read_write(removed),
            ModelMemory::read_only(removed),
        );
        let mut client = ClientRing::new(rw.clone(), ro.clone(), 0);
        let mut server = ServerRing::new(rw.clone(), ro.clone(), 0);
        client.try_submit(&SubmissionWords::default(), &[]).unwrap();
        client.publish();
        assert!(server.take().unwrap().is_some());
        server.post(&CompletionWords::default());
        let shard = thread::spawn(move || {
            assert!(server.flush());
            server.wake_if_waiting();
        });
        // Kept until the shard is done: a thread that sleeps has not stopped waiting.
        let mut waiter = None;
        if client.pop().unwrap().is_none() {
            let waiter = waiter.insert(Waiter::start(&rw, &ro));
            let found = rw.keeps(Step::WaitRecheck) && client.pop().unwrap().is_some();
            if !found {
                waiter.wait(None);
            }
        }
        shard.join().unwrap();
        assert_eq!(
            ro.still_asleep(),
            0,
            "lost wake: the client sleeps over a completion"
        );
    });
}

#[test]
fn sleeping_shard_is_rung_or_sees_the_submission() {
    shard_sleeps(None);
}

#[test]
fn sleeping_shard_needs_every_step() {
    every_mutation_fails(shard_sleeps);
}

#[test]
fn waiting_client_is_woken_or_sees_the_completion() {
    client_waits(None);
}

#[test]
fn waiting_client_needs_every_step() {
    every_mutation_fails(client_waits);
}
