//! Objects of accelerators on one shard: the directory of its keys, on shard 0 also the links and
//! orders of every port, and what a round of the shard does for them.
//!
//! ```text
//!   DeviceOp ──▶ shard of the key: DeviceObjects ── orders, as messages ──▶ shard 0: DeviceLinks
//!   DeviceLink ─────────────────────────────────────────────────────────────▶     │
//!   completion of the port's question  ◀──────────────────────────────────────────┘
//! ```
//! Lives on: owner shard. Bytes of an object never pass here; both state machines are in
//! `chariot_store`. Their answers do not fit a bare status, so that they are posted as words of
//! their own ([`post`]); `wire/SHARED-MEMORY.md` draws them.
//!
//! Neighbours: `handlers/device_op.rs` and `handlers/device_link.rs` change it, `objects.rs` calls
//! [`round`], a session's end comes through `tenant.rs`.

use chariot_base::{SessionId, ShardId, TenantId};
use chariot_proto::Status;
use chariot_proto::device::{DeviceOrder, DevicePort};
use chariot_shm::CompletionWords;
use chariot_store::{DeviceEffect, DeviceLinks, DeviceObjects, DeviceTaken};

use crate::message::ShardMessage;
use crate::shard::Shard;

/// The shard that keeps links and orders.
pub(crate) const LINK_SHARD: ShardId = ShardId(0);

/// The device objects of one tenant on one shard.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// Objects whose keys live here.
    pub(crate) objects: DeviceObjects,
    /// Links and orders of all ports: used on [`LINK_SHARD`].
    pub(crate) links: DeviceLinks,
}

/// To [`LINK_SHARD`]: an order for a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeviceMessage {
    /// Key space.
    pub(crate) tenant: TenantId,
    /// To whom.
    pub(crate) to: DevicePort,
    /// What.
    pub(crate) order: DeviceOrder,
}

impl Devices {
    /// Releases what a session held.
    pub(crate) fn drop_session(&mut self, session: SessionId) {
        self.objects.drop_session(session);
        self.links.drop_session(session);
    }

    /// When a wait ends by time.
    pub(crate) fn next_deadline_ns(&self) -> Option<u64> {
        let objects = self.objects.next_deadline_ns();
        let links = self.links.next_deadline_ns();
        objects.into_iter().chain(links).min()
    }
}

/// Posts an answer to a request of a session that may have ended meanwhile.
pub(crate) fn post(shard: &mut Shard, session: SessionId, words: &CompletionWords) {
    if let Some(place) = shard.sessions.find(session) {
        shard.sessions.post(place, words);
    }
}

/// The words of a bare answer.
pub(crate) fn status_words(token: u32, status: Status) -> CompletionWords {
    CompletionWords {
        token,
        status: status.as_u16(),
        ..CompletionWords::default()
    }
}

/// The words of an order.
pub(crate) fn order_words(token: u32, order: &DeviceOrder) -> CompletionWords {
    let (kind, [w1, w2, w3, w4, w5]) = order.words();
    CompletionWords {
        extent: w1,
        len: w2,
        version: w3,
        lease_extent: w4,
        lease_len: w5,
        lease_count: kind,
        ..status_words(token, Status::Ok)
    }
}

/// The words of what became of a take; `None` while it waits.
pub(crate) fn taken_words(token: u32, taken: &DeviceTaken) -> Option<CompletionWords> {
    Some(match *taken {
        DeviceTaken::Granted(grant) => CompletionWords {
            extent: grant.provider.word(),
            len: grant.chunk_log2.into(),
            ..status_words(token, Status::Ok)
        },
        DeviceTaken::Mismatch { blobs } => CompletionWords {
            len: blobs,
            ..status_words(token, Status::RangeInvalid)
        },
        DeviceTaken::Refused(status) => status_words(token, status),
        DeviceTaken::Waiting => return None,
    })
}

/// Acts on what another shard says.
pub(crate) fn on_message(shard: &mut Shard, message: &DeviceMessage) {
    // Of a session that ended meanwhile: nobody would ever ask for it.
    let session = SessionId(message.to.session());
    if shard.sessions.find(session).is_some() {
        let links = &mut shard.tenant_mut(message.tenant).devices.links;
        links.tell(message.to, message.order);
    }
}

/// What a round of the shard does for one tenant's devices.
pub(crate) fn round(shard: &mut Shard, tenant: TenantId) -> bool {
    let mut worked = false;
    let now_ns = shard.now_ns;
    loop {
        let devices = &mut shard.tenant_mut(tenant).devices;
        if let Some(effect) = devices.objects.take_effect() {
            act(shard, tenant, effect);
        } else if let Some(answer) = devices.links.take_answer() {
            post(
                shard,
                answer.session,
                &order_words(answer.token, &answer.order),
            );
        } else if let Some((session, token)) = devices.objects.take_expired(now_ns) {
            post(shard, session, &status_words(token, Status::Timeout));
        } else if let Some((session, token)) = devices.links.take_expired(now_ns) {
            post(shard, session, &status_words(token, Status::Timeout));
        } else {
            return worked;
        }
        worked = true;
    }
}

fn act(shard: &mut Shard, tenant: TenantId, effect: DeviceEffect) {
    match effect {
        DeviceEffect::Answer {
            session,
            token,
            taken,
        } => {
            let words = taken_words(token, &taken).expect("an answer waits no longer");
            post(shard, session, &words);
        },
        DeviceEffect::Order { to, order } => {
            let message = DeviceMessage { tenant, to, order };
            shard.mail.send(LINK_SHARD, ShardMessage::Device(message));
        },
    }
}
