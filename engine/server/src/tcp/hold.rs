//! What a connection holds on other shards, released when dropped: nothing is leaked by a peer that
//! goes away.

use std::cell::RefCell;
use std::rc::Rc;

use chariot_base::{Extent, ShardId, TenantId};

use crate::call::Call;
use crate::message::ShardMessage;
use crate::shard::Shard;

/// An entry's extent under an I/O pin, or a reservation not committed yet. The data ring keeps it
/// (as the owner of a span) until the last operation on its bytes has completed, so that memory is
/// never reused under the kernel's hands.
pub(super) struct Hold {
    shard: Rc<RefCell<Shard>>,
    owner: ShardId,
    tenant: TenantId,
    extent: Extent,
    is_reservation: bool,
    /// Committed: the store owns it now.
    is_over: std::cell::Cell<bool>,
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold")
            .field("extent", &self.extent)
            .finish_non_exhaustive()
    }
}

impl Hold {
    /// Takes over what `owner` granted.
    pub(super) fn new(
        shard: &Rc<RefCell<Shard>>,
        owner: ShardId,
        tenant: TenantId,
        extent: Extent,
        is_reservation: bool,
    ) -> Rc<Self> {
        let shard = Rc::clone(shard);
        Rc::new(Self {
            shard,
            owner,
            tenant,
            extent,
            is_reservation,
            is_over: std::cell::Cell::new(false),
        })
    }

    /// What is held.
    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// A commit is on its way: whatever becomes of it, the owner has taken the extent.
    pub(super) fn commit(&self) {
        assert!(self.is_reservation);
        self.is_over.set(true);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_over.get() {
            return;
        }
        let (tenant, extent) = (self.tenant, self.extent);
        let call = if self.is_reservation {
            Call::Abort { tenant, extent }
        } else {
            Call::Release { tenant, extent }
        };
        // Dropped by a task or by the data ring, neither of which runs inside a borrow of the
        // shard.
        let mut shard = self.shard.borrow_mut();
        let from = shard.id;
        shard.mail.send(
            self.owner,
            ShardMessage::Call {
                from,
                ticket: None,
                call,
            },
        );
    }
}
