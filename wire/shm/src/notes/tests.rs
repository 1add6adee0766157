//! The recency ring: what is heard, what is lost, what a hostile writer can do.

use super::*;
use crate::session::{ClientSession, ServerSession, SessionGeometry};
use crate::{Mapping, ServerRing};

struct Pair {
    client: ClientSession,
    server: ServerRing,
    hostile: MappedMemory,
}

fn pair() -> Pair {
    let geometry = SessionGeometry::new(1);
    let (daemon, descriptors) = ServerSession::create(geometry, 1).unwrap();
    let client = ClientSession::attach(descriptors.read_write(), descriptors.read_only()).unwrap();
    let mapping = Mapping::read_write(descriptors.read_write(), 0, geometry.rw_size()).unwrap();
    Pair {
        client,
        server: daemon.ring(0).unwrap(),
        hostile: MappedMemory::new(mapping),
    }
}

fn heard(server: &mut ServerRing) -> (Vec<Note>, u32) {
    let mut notes = Vec::new();
    let lost = server.drain_notes(|note| notes.push(note));
    (notes, lost)
}

#[test]
fn notes_arrive_once_and_in_order() {
    let Pair {
        client, mut server, ..
    } = pair();
    let writer = client.notes(0);
    for record in 1..=3 {
        writer.note(record, 0x1_0000_0000 + u64::from(record));
    }
    let (notes, lost) = heard(&mut server);
    let expected = [1, 2, 3].map(|record| Note {
        record,
        generation: record,
    });
    assert_eq!((notes.as_slice(), lost), (expected.as_slice(), 0));
    assert_eq!(heard(&mut server), (vec![], 0));
}

#[test]
fn unread_notes_are_lost_and_counted() {
    let Pair {
        client, mut server, ..
    } = pair();
    let writer = client.notes(0);
    for record in 0..NOTE_ENTRIES + 10 {
        writer.note(record + 1, 0);
    }
    let (notes, lost) = heard(&mut server);
    assert_eq!((notes.len(), lost), (NOTE_ENTRIES as usize, 10));
    assert_eq!(notes[0].record, 11);
}

#[test]
fn hostile_tail_costs_one_ring_of_reading() {
    let Pair {
        mut server,
        hostile,
        ..
    } = pair();
    for tail in [u32::MAX, 1, 1 << 31, 0] {
        hostile.store32(rw_area(0) + rw::NOTE_TAIL, tail);
        let (notes, _) = heard(&mut server);
        assert_eq!(notes.len(), 0, "words never written are skipped");
    }
}

#[test]
fn many_threads_note_without_waiting() {
    let Pair {
        client, mut server, ..
    } = pair();
    std::thread::scope(|scope| {
        for thread in 1..=4 {
            let writer = client.notes(0);
            scope.spawn(move || (0..100).for_each(|_| writer.note(thread, 9)));
        }
    });
    let (notes, lost) = heard(&mut server);
    assert_eq!((notes.len(), lost), (400, 0));
    assert!(
        notes
            .iter()
            .all(|note| (1..=4).contains(&note.record) && note.generation == 9)
    );
}
