//! Checks of links and of memory of another process.

use std::time::{Duration, Instant};

use chariot_device::{
    CopyBatch, DeviceError, Direction, ExportKey, Invitation, LinkEnd, LinkPart, LinkTurn,
    PairForm, PeerLink, Runtime, Submission,
};

use crate::order::{copy_in, copy_out};
use crate::process::{Role, finish};
use crate::{Check, Kit, Outcome, bytes_of, pattern};

const LEN: usize = 300_000;
const MOST: Duration = Duration::from_mins(1);

pub(crate) const CHECKS: &[Check] = &[
    (
        "a_link_carries_bytes_in_ticket_order",
        a_link_carries_bytes_in_ticket_order,
    ),
    (
        "a_link_without_its_other_end_gives_up",
        a_link_without_its_other_end_gives_up,
    ),
    (
        "a_link_reaches_another_process",
        a_link_reaches_another_process,
    ),
    (
        "memory_of_another_process_is_copied",
        memory_of_another_process_is_copied,
    ),
];

/// The card of the other end: another one, or the same where that works.
fn other_card(runtime: &Runtime, form: PairForm) -> Option<u32> {
    match (form, runtime.device_count().unwrap()) {
        (PairForm::Absent, _) | (PairForm::OtherCard, 0 | 1) => None,
        (PairForm::AnyCard, 1) => Some(0),
        _ => Some(1),
    }
}

fn receive(kit: &Kit, link: &PeerLink, ticket: u64, seed: u64) {
    let memory = kit.device.alloc(LEN).unwrap();
    let part = LinkPart::Receive {
        memory: memory.clone(),
        at: 0,
        len: LEN,
    };
    link.post(ticket, part).unwrap();
    link.wait(ticket, Instant::now() + MOST).unwrap();
    let (stream, back) = (kit.stream(), kit.pinned(LEN, 0));
    stream
        .submit(copy_out(&memory, &back), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(LEN, seed), "ticket {ticket}");
}

fn sendable(kit: &Kit, seed: u64) -> LinkPart {
    let (stream, memory) = (kit.stream(), kit.device.alloc(LEN).unwrap());
    stream
        .submit(copy_in(&memory, &kit.pinned(LEN, seed)), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    LinkPart::Send {
        memory,
        at: 0,
        len: LEN,
    }
}

fn a_link_carries_bytes_in_ticket_order(kit: &Kit) -> Outcome {
    let Some(card) = other_card(&kit.runtime, kit.device.capabilities().link.pairs) else {
        return Outcome::Skipped("no links between cards of this process");
    };
    let invitation = kit.device.invite().unwrap();
    let invited = Invitation::from_bytes(invitation.as_bytes().to_vec());
    let runtime = kit.runtime.clone();
    let second = std::thread::spawn(move || {
        let device = runtime.open(card).unwrap();
        let kit = Kit { runtime, device };
        let link = kit.device.link(&invited, LinkEnd::Second, MOST).unwrap();
        receive(&kit, &link, 0, 100);
        link.post(1, sendable(&kit, 101)).unwrap();
        link.wait(1, Instant::now() + MOST).unwrap();
        receive(&kit, &link, 2, 102);
    });
    let link = kit.device.link(&invitation, LinkEnd::First, MOST).unwrap();
    // The last ticket first: it waits for its turn.
    let early = link.post(2, sendable(kit, 102)).unwrap();
    assert!(matches!(early, LinkTurn::Early), "{early:?}");
    link.post(0, sendable(kit, 100)).unwrap();
    let twice = link.post(0, sendable(kit, 100));
    assert!(
        matches!(twice, Err(DeviceError::Misuse { .. })),
        "{twice:?}"
    );
    receive(kit, &link, 1, 101);
    link.wait(2, Instant::now() + MOST).unwrap();
    assert_eq!(link.next_ticket(), 3);
    let late = link.wait(3, Instant::now() + Duration::from_millis(5));
    assert!(matches!(late, Err(DeviceError::Timeout { .. })), "{late:?}");
    for ticket in 4..68 {
        let part = LinkPart::Receive {
            memory: kit.device.alloc(8).unwrap(),
            at: 0,
            len: 8,
        };
        assert!(
            matches!(link.post(ticket, part), Ok(LinkTurn::Early)),
            "{ticket}"
        );
    }
    let part = LinkPart::Receive {
        memory: kit.device.alloc(8).unwrap(),
        at: 0,
        len: 8,
    };
    assert!(matches!(link.post(68, part), Ok(LinkTurn::Full(_))));
    second.join().unwrap();
    Outcome::Ran
}

fn a_link_without_its_other_end_gives_up(kit: &Kit) -> Outcome {
    if kit.device.capabilities().link.pairs == PairForm::Absent {
        return Outcome::Skipped("no links");
    }
    let invitation = kit.device.invite().unwrap();
    let begun = Instant::now();
    let alone = kit
        .device
        .link(&invitation, LinkEnd::First, Duration::from_millis(100));
    assert!(
        matches!(alone, Err(DeviceError::Timeout { .. })),
        "{alone:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    // The library may still have the card's turn; it meets the end that comes late.
    let Some(card) = other_card(&kit.runtime, kit.device.capabilities().link.pairs) else {
        return Outcome::Ran;
    };
    let late = kit.runtime.open(card).unwrap();
    drop(late.link(&invitation, LinkEnd::Second, Duration::from_millis(300)));
    Outcome::Ran
}

fn a_link_reaches_another_process(kit: &Kit) -> Outcome {
    if other_card(&kit.runtime, kit.device.capabilities().link.pairs).is_none() {
        return Outcome::Skipped("no links between these cards");
    }
    let invitation = kit.device.invite().unwrap();
    let child = Role::start("link", invitation.as_bytes());
    // The card may still be busy with the link before.
    let until = Instant::now() + MOST;
    let link = loop {
        match kit.device.link(&invitation, LinkEnd::First, MOST) {
            Err(DeviceError::LinkBusy) if Instant::now() < until => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    link.post(0, sendable(kit, 200)).unwrap();
    receive(kit, &link, 1, 201);
    link.wait(0, Instant::now() + MOST).unwrap();
    drop(link);
    finish(child);
    Outcome::Ran
}

fn memory_of_another_process_is_copied(kit: &Kit) -> Outcome {
    if !kit.device.capabilities().link.export {
        return Outcome::Skipped("no keys");
    }
    let len = 2 << 20;
    let (stream, memory) = (kit.stream(), kit.device.alloc(len).unwrap());
    stream
        .submit(copy_in(&memory, &kit.pinned(len, 300)), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    let key = memory.export(None).unwrap();
    assert_eq!(key.len, len);
    finish(Role::start("import", &key.key));
    // The importer wrote into it.
    let back = kit.pinned(len, 0);
    stream
        .submit(copy_out(&memory, &back), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(len, 301));
    let refused = kit.device.import(&ExportKey {
        len: 64,
        key: vec![0xFF; 65],
    });
    assert!(refused.is_err(), "{refused:?}");
    Outcome::Ran
}

/// The second process of a check.
pub(crate) fn other_process(role: &Role, runtime: Runtime) {
    let card = runtime.device_count().unwrap().min(2) - 1;
    let device = runtime.open(card).unwrap();
    let kit = Kit { runtime, device };
    if role.name == "link" {
        let invitation = Invitation::from_bytes(role.bytes.clone());
        let link = kit.device.link(&invitation, LinkEnd::Second, MOST).unwrap();
        receive(&kit, &link, 0, 200);
        link.post(1, sendable(&kit, 201)).unwrap();
        link.wait(1, Instant::now() + MOST).unwrap();
        return;
    }
    assert_eq!(role.name, "import");
    let len = 2 << 20;
    let key = ExportKey {
        len,
        key: role.bytes.clone(),
    };
    let (far, near) = (
        kit.device.import(&key).unwrap(),
        kit.device.alloc(len).unwrap(),
    );
    let (stream, back) = (kit.stream(), kit.pinned(len, 0));
    let copy = |to, from| {
        let mut batch = CopyBatch::new(Direction::DeviceToDevice);
        batch.push_local((to, 0), (from, 0), len).unwrap();
        stream.submit(batch, Submission::Each).unwrap();
    };
    copy(&near, &far);
    stream
        .submit(copy_out(&near, &back), Submission::Each)
        .unwrap();
    stream.wait(None).unwrap();
    assert!(bytes_of(&back) == pattern(len, 300));
    stream
        .submit(copy_in(&near, &kit.pinned(len, 301)), Submission::Each)
        .unwrap();
    copy(&far, &near);
    stream.wait(None).unwrap();
}
