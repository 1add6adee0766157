//! Objects under way: groups that were submitted together, oldest first, with what they hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chariot_client::Error;
use chariot_device::{Device, Direction};
use chariot_transfer::{
    DeviceCore, Fragment, Handle, HostRange, ObjectCopy, Submit, Transfer, TransferError,
};

use crate::blobs::BlobList;
use crate::fault;

/// Bytes that make a group worth submitting: half of what the core moves at once, so that a group
/// is moved while the next one is prepared.
const GROUP_BYTES: usize = 8 << 20;
/// Most objects of a group, so that those behind small ones do not wait long for their outcome.
const GROUP_OBJECTS: usize = 256;

/// How often a core that others fill is asked again.
const FULL_LOOK: Duration = Duration::from_micros(200);

/// One object of a call: its number there, and what has to stand until its outcome is there.
struct Member<H> {
    number: usize,
    hold: H,
    bytes: usize,
}

struct Group<H> {
    handle: Handle,
    members: Vec<Member<H>>,
}

/// What became of an object.
pub(crate) struct Landed<H> {
    pub(crate) number: usize,
    /// What was held; `None` when the card may still touch it: then it is held for ever.
    pub(crate) hold: Result<H, Error>,
}

/// The objects of one call that are under way.
pub(crate) struct Flight<'a, H> {
    core: &'a Arc<DeviceCore>,
    direction: Direction,
    deadline: Instant,
    gathering: (Vec<Member<H>>, Vec<ObjectCopy>),
    groups: VecDeque<Group<H>>,
    /// Bytes that are held, gathering and under way.
    bytes: usize,
}

impl<'a, H> Flight<'a, H> {
    pub(crate) fn new(core: &'a Arc<DeviceCore>, direction: Direction, deadline: Instant) -> Self {
        Self {
            core,
            direction,
            deadline,
            gathering: (Vec::new(), Vec::new()),
            groups: VecDeque::new(),
            bytes: 0,
        }
    }

    pub(crate) fn device(&self) -> &Device {
        self.core.device()
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes an object in; what lands meanwhile, because the core is full, is answered.
    pub(crate) fn add(
        &mut self,
        number: usize,
        (host, offsets, list): (HostRange, &[(usize, usize)], &BlobList),
        hold: H,
    ) -> Vec<Landed<H>> {
        let bytes = host.len;
        let copy = object(host, offsets, list);
        let (members, copies) = &mut self.gathering;
        members.push(Member {
            number,
            hold,
            bytes,
        });
        copies.push(copy);
        self.bytes += bytes;
        let gathered: usize = members.iter().map(|member| member.bytes).sum();
        if gathered >= GROUP_BYTES || members.len() >= GROUP_OBJECTS {
            return self.depart();
        }
        Vec::new()
    }

    /// Submits what is gathered; answers what landed while the core was full.
    pub(crate) fn depart(&mut self) -> Vec<Landed<H>> {
        let (members, objects) = std::mem::take(&mut self.gathering);
        let mut landed = Vec::new();
        if members.is_empty() {
            return landed;
        }
        let mut transfer = Transfer {
            direction: self.direction,
            objects,
            deadline: self.deadline,
        };
        loop {
            match self.core.try_submit(transfer) {
                Submit::Accepted(handle) => {
                    self.groups.push_back(Group { handle, members });
                    return landed;
                },
                Submit::Full(back) if Instant::now() < self.deadline => {
                    transfer = back;
                    if self.groups.is_empty() {
                        // Others fill the core: theirs end soon, or at their deadlines.
                        std::thread::park_timeout(FULL_LOOK);
                    }
                    landed.append(&mut self.land_oldest());
                },
                Submit::Full(_) => {
                    self.bytes -= members.iter().map(|member| member.bytes).sum::<usize>();
                    let late = |member: Member<H>| Landed {
                        number: member.number,
                        hold: Err(fault::late()),
                    };
                    landed.extend(members.into_iter().map(late));
                    return landed;
                },
            }
        }
    }

    /// Waits for the oldest group; nothing when none is under way.
    pub(crate) fn land_oldest(&mut self) -> Vec<Landed<H>> {
        let Some(Group { handle, members }) = self.groups.pop_front() else {
            return Vec::new();
        };
        let outcomes = handle.wait();
        assert_eq!(outcomes.len(), members.len(), "one outcome for each object");
        let pairs = members.into_iter().zip(outcomes);
        let mut landed = Vec::with_capacity(pairs.len());
        for (member, outcome) in pairs {
            self.bytes -= member.bytes;
            let hold = match outcome {
                Ok(()) => Ok(member.hold),
                Err(error) => {
                    if error == TransferError::Stuck {
                        keep_for_ever(member.hold);
                    }
                    Err(fault::of_transfer(&error))
                },
            };
            landed.push(Landed {
                number: member.number,
                hold,
            });
        }
        landed
    }

    /// Whether groups are under way.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.groups.is_empty()
    }
}

impl<H> Drop for Flight<'_, H> {
    /// A call that ends early (a panic) must not give memory back that the card still writes.
    fn drop(&mut self) {
        while self.is_waiting() {
            drop(self.land_oldest());
        }
    }
}

/// Gives nothing of it back before the end of the process, of which the daemon learns. For what a
/// card that cannot be made to stop may still write (bounded by what two lanes move at once), and
/// for what is a parent process's.
#[expect(
    clippy::mem_forget,
    reason = "the memory must outlive everything that could give it back"
)]
pub(crate) fn keep_for_ever<H>(hold: H) {
    std::mem::forget(hold);
}

fn object(host: HostRange, offsets: &[(usize, usize)], list: &BlobList) -> ObjectCopy {
    assert_eq!(offsets.len(), list.blobs().len(), "shapes were compared");
    let pairs = offsets.iter().zip(list.blobs());
    let fragments = pairs.map(|((offset, len), blob)| {
        assert_eq!(*len, blob.len, "shapes were compared");
        Fragment {
            device: blob.memory.clone(),
            device_at: blob.at,
            offset: *offset,
            len: blob.len,
        }
    });
    ObjectCopy {
        host,
        fragments: fragments.collect(),
    }
}
