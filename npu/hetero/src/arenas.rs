//! A session's shared memory as device cores name it: registered with the driver, piece by piece.
//!
//! The arena is sparse and twice as long as the node's memory, so only those granules are
//! registered that a value of this session was seen in: they are wholly there (the daemon hands out
//! populated granules only), and locking them costs the node nothing. It happens in the background;
//! until then, and where the driver refuses, copies go through page-locked staging.
//!
//! A trusted session reads and writes through its writing region, so that one registration serves
//! both directions: the region's pages are opened for writing while they are being locked, and
//! closed again (a card writes to locked pages whatever their protection is afterwards). A strict
//! session cannot: its reads come from read-only pages where the driver can register such, and its
//! writes go to its own staging memory.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use chariot_client::{Placement, Region, View, WriteBuffer};
use chariot_device::{Device, HostAccess, HostMemory};
use chariot_proto::limits::GRANULE;
use chariot_transfer::{Arena, HostRange};

/// The regions that calls of one client have used. Lives on: any thread.
#[derive(Debug, Default)]
pub(crate) struct Arenas {
    /// At most three for each backend: two regions of the session, and those of one that ended a
    /// moment ago.
    known: Mutex<Vec<Known>>,
}

#[derive(Debug)]
struct Known {
    device: Device,
    region: Region,
    arena: Arc<Arena>,
}

impl Arenas {
    /// Where a view's bytes are for the card.
    pub(crate) fn of_view(&self, device: &Device, view: &View) -> HostRange {
        let len = view.len();
        match view.placement() {
            Some(placement) => {
                let placement = placement.through_writing().unwrap_or(placement);
                self.range(device, placement, len)
            },
            None => plain(view.as_ptr() as usize, len, HostAccess::ReadOnly),
        }
    }

    /// Where the bytes of a value that is being written are for the card.
    pub(crate) fn of_buffer(&self, device: &Device, buffer: &mut WriteBuffer) -> HostRange {
        let len = buffer.len();
        match buffer.placement() {
            Some(placement) => self.range(device, placement, len),
            None => plain(buffer.as_mut_ptr() as usize, len, HostAccess::ReadWrite),
        }
    }

    fn range(&self, device: &Device, placement: Placement, len: usize) -> HostRange {
        let Placement { region, offset: at } = placement;
        let arena = self.arena(device, region);
        arena.want(at, len);
        HostRange { arena, at, len }
    }

    fn arena(&self, device: &Device, region: Region) -> Arc<Arena> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all
            .iter()
            .find(|known| known.region.is(&region) && known.device.is_beside(device));
        if let Some(known) = found {
            return Arc::clone(&known.arena);
        }
        // A new session: those that are dead are of no more use.
        all.retain(|known| known.region.is_alive());
        let arena = register(device, &region);
        all.push(Known {
            device: device.clone(),
            region,
            arena: Arc::clone(&arena),
        });
        arena
    }
}

fn register(device: &Device, region: &Region) -> Arc<Arena> {
    let (access, can) = match (region.is_writing(), device.capabilities().register) {
        (true, form) => (HostAccess::ReadWrite, form.writable),
        (false, form) => (HostAccess::ReadOnly, form.readonly),
    };
    let (address, len) = (region.address(), region.len());
    let keep: Arc<dyn Any + Send + Sync> = Arc::new(region.clone());
    // SAFETY: the region is mapped while it is held, which `keep` does. Nobody forms references
    // over bytes that a card writes: those of a buffer are behind its owner, who has lent it.
    let memory = unsafe { HostMemory::foreign(address, len, access, keep) };
    if !can {
        return Arena::as_given(memory);
    }
    let region = region.clone();
    let prepare = move |range| {
        let open = region.open(range).ok()?;
        Some(Box::new(open) as Box<dyn Any>)
    };
    Arena::on_demand(device, memory, piece_bytes(len), Box::new(prepare))
}

/// Bytes of a piece: a granule, or as much of a shorter region as is a power of two.
fn piece_bytes(len: usize) -> usize {
    let most = usize::try_from(GRANULE).expect("64 MiB fit an address space");
    most.min(1 << len.ilog2())
}

/// Memory of this process alone.
fn plain(address: usize, len: usize, access: HostAccess) -> HostRange {
    // SAFETY: the heap block of a view or a buffer that the caller holds until the transfer has its
    // outcome, and for ever when the card may still touch it then (`flight`); the buffer's was just
    // borrowed exclusively.
    let memory = unsafe { HostMemory::foreign(address, len, access, Arc::new(())) };
    let arena = Arena::as_given(memory);
    HostRange { arena, at: 0, len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_granules_or_all_of_a_small_region() {
        assert_eq!(piece_bytes(512 << 20), 64 << 20);
        assert_eq!(piece_bytes(3 << 20), 2 << 20);
        assert_eq!(piece_bytes(4096), 4096);
    }
}
