//! The local sessions that one shard knows: their rings, what they lease, whether they are polled.
//!
//! Lives on: owner shard. A session is known from its birth on (so that the control thread may
//! welcome it), but its ring is polled only once it was opened, and only within a millisecond of
//! its last submission: after that its `sleeping` word is set and its bell (an eventfd that this
//! shard polls and never reads) wakes it. A session whose words are nonsense is expelled: its
//! requests are refused, what it pins and leases stays until it ends.
//!
//! Neighbours: `control/unix.rs` orders sessions in and out, `pass.rs` polls the rings, `handlers/`
//! answer.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use chariot_base::{SessionId, TenantId};
use chariot_shard::{IoFd, PollHandle};
use chariot_shm::{
    CompletionWords, Mapping, Note, PinScan, PinSet, RingError, ServerRing, ServerSession,
    Submission,
};
use hashbrown::HashMap;

use crate::message::SessionParts;

/// One session on this shard.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts: what it may do, on which lists it stands, and that it was refused"
)]
pub(crate) struct LocalSession {
    /// Its number.
    pub(crate) id: SessionId,
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// Whether it may publish leases; otherwise it stages.
    pub(crate) trusted: bool,
    /// What a strict session writes into.
    pub(crate) staging: Option<Arc<Mapping>>,
    memory: ServerSession,
    ring: Option<ServerRing>,
    /// The poll on its bell; dropped, the kernel forgets it.
    poll: Option<PollHandle>,
    /// Whether the shard polls its ring now.
    active: bool,
    /// Until when it is polled without a submission.
    active_until_ns: u64,
    /// Completions were posted since the last flush.
    dirty: bool,
    expelled: bool,
}

/// Names a session's place in the table; valid until the session is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u32);

/// All sessions of a shard. Bound: the node's `sessions_max`.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    places: Vec<Option<LocalSession>>,
    free: Vec<u32>,
    by_id: HashMap<SessionId, u32>,
    /// Places whose rings are polled.
    active: Vec<u32>,
    /// Places with posted, unflushed completions.
    dirty: Vec<u32>,
    pins: PinSet,
    expulsions: u64,
    /// Expelled, and what their objects hold not yet released.
    newly_expelled: Vec<SessionId>,
    /// Requests taken and not yet completed, over all rings: asked in every round.
    unanswered: u64,
}

impl Sessions {
    /// Takes a session in.
    pub(crate) fn open(&mut self, parts: SessionParts) {
        let session = LocalSession {
            id: parts.session,
            tenant: parts.tenant,
            trusted: parts.trusted,
            staging: parts.staging,
            memory: parts.memory,
            ring: None,
            poll: None,
            active: false,
            active_until_ns: 0,
            dirty: false,
            expelled: false,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("bounded by sessions_max")
        });
        let before = self.by_id.insert(session.id, place);
        assert!(before.is_none(), "a session is opened once");
        self.places[place as usize] = Some(session);
    }

    /// Opens a session's ring; `false` when it is open already or the session is gone.
    pub(crate) fn open_ring(
        &mut self,
        id: SessionId,
        shard: u16,
        bell: OwnedFd,
        poll: impl FnOnce(&IoFd, u64) -> Result<PollHandle, chariot_shard::RingError>,
    ) -> bool {
        let Some(&place) = self.by_id.get(&id) else {
            return false;
        };
        let session = self.places[place as usize].as_mut().expect("named by id");
        if session.expelled {
            return false;
        }
        let Some(ring) = session.memory.ring(shard) else {
            return false;
        };
        session.ring = Some(ring);
        match poll(&IoFd::new(bell), u64::from(place)) {
            Ok(handle) => session.poll = Some(handle),
            Err(error) => {
                tracing::warn!(%error, "a session's bell cannot be polled: its ring is refused");
                session.ring = None;
                return false;
            },
        }
        true
    }

    /// Forgets a session and returns its tenant; `None` when it is not known.
    pub(crate) fn close(&mut self, id: SessionId) -> Option<(Place, LocalSession)> {
        let place = self.by_id.remove(&id)?;
        let session = self.places[place as usize].take().expect("named by id");
        self.active.retain(|&other| other != place);
        self.dirty.retain(|&other| other != place);
        self.free.push(place);
        self.unanswered -= Self::unanswered_of(&session);
        Some((Place(place), session))
    }

    /// The session at a place.
    pub(crate) fn at(&self, place: Place) -> &LocalSession {
        self.places[place.0 as usize]
            .as_ref()
            .expect("the place belongs to an open session")
    }

    /// The place of a session that may have ended meanwhile.
    pub(crate) fn find(&self, id: SessionId) -> Option<Place> {
        self.by_id.get(&id).copied().map(Place)
    }

    /// Sessions known.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Sessions with an open ring.
    pub(crate) fn ring_count(&self) -> u64 {
        self.iter().filter(|session| session.ring.is_some()).count() as u64
    }

    /// Sessions expelled since the start.
    pub(crate) fn expulsions(&self) -> u64 {
        self.expulsions
    }

    /// All sessions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &LocalSession> {
        self.places.iter().flatten()
    }

    /// Polls a ring from now on: its bell rang, or it was just opened.
    pub(crate) fn activate(&mut self, place: Place, until_ns: u64) {
        let Some(Some(session)) = self.places.get_mut(place.0 as usize) else {
            return;
        };
        let Some(ring) = &session.ring else { return };
        if session.expelled {
            return;
        }
        session.active_until_ns = until_ns;
        if !session.active {
            session.active = true;
            ring.set_sleeping(false);
            self.active.push(place.0);
        }
    }

    /// Rings polled now.
    pub(crate) fn active_count(&self) -> usize {
        self.active.len()
    }

    /// The `index`-th polled ring's place.
    pub(crate) fn active_at(&self, index: usize) -> Place {
        Place(self.active[index])
    }

    /// Takes the next submission of a ring with its payload copied out; an impossible word expels
    /// the session.
    pub(crate) fn take(&mut self, place: Place, payload: &mut Vec<u8>) -> Option<Submission> {
        let session = self.places[place.0 as usize].as_mut()?;
        if session.expelled {
            return None;
        }
        let ring = session.ring.as_mut()?;
        match ring.take() {
            Ok(Some(submission)) => {
                ring.payload(&submission, payload);
                self.unanswered += 1;
                Some(submission)
            },
            Ok(None) => None,
            Err(error) => {
                self.expel(place, &error);
                None
            },
        }
    }

    /// Refuses a session by its number, if it is known here.
    pub(crate) fn expel_by_order(&mut self, id: SessionId) {
        if let Some(place) = self.find(id) {
            self.refuse(place, &"by order");
        }
    }

    /// Refuses a session whose words are nonsense.
    fn expel(&mut self, place: Place, error: &RingError) {
        self.refuse(place, error);
    }

    /// Refuses a session from now on; what it holds stays until it ends.
    fn refuse(&mut self, place: Place, cause: &dyn std::fmt::Display) {
        let session = self.places[place.0 as usize]
            .as_mut()
            .expect("an open session");
        if session.expelled {
            return;
        }
        tracing::warn!(session = session.id.0, %cause, "session expelled");
        session.expelled = true;
        session.active = false;
        session.memory.expel();
        let id = session.id;
        self.active.retain(|&other| other != place.0);
        self.expulsions += 1;
        self.newly_expelled.push(id);
    }

    /// Takes those expelled since the last call: what they hold of objects is released.
    pub(crate) fn take_newly_expelled(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.newly_expelled)
    }

    /// Sessions that were expelled and are still open.
    pub(crate) fn expelled_ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.iter()
            .filter(|session| session.expelled)
            .map(|session| session.id)
    }

    /// Posts a completion; it becomes visible with the next flush.
    pub(crate) fn post(&mut self, place: Place, words: &CompletionWords) {
        let session = self.places[place.0 as usize]
            .as_mut()
            .expect("an open session");
        let ring = session.ring.as_mut().expect("a submission came through it");
        ring.post(words);
        self.unanswered -= 1;
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(place.0);
        }
    }

    /// Makes one ring's completions visible and wakes its waiting threads.
    pub(crate) fn flush(&mut self, place: Place) {
        let Some(session) = self.places[place.0 as usize].as_mut() else {
            return;
        };
        let Some(ring) = session.ring.as_mut() else {
            return;
        };
        if ring.flush() {
            ring.wake_if_waiting();
        }
    }

    /// Flushes every ring with posted completions.
    pub(crate) fn flush_dirty(&mut self) {
        while let Some(place) = self.dirty.pop() {
            if let Some(session) = self.places[place as usize].as_mut() {
                session.dirty = false;
            }
            self.flush(Place(place));
        }
    }

    /// Whether completions wait to be made visible: a connection's task may have posted some after
    /// the last round.
    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Notes a submission, which keeps the ring polled.
    pub(crate) fn touch(&mut self, place: Place, until_ns: u64) {
        if let Some(session) = self.places[place.0 as usize].as_mut() {
            session.active_until_ns = until_ns;
        }
    }

    /// Stops polling rings whose time is over and that have nothing pending.
    pub(crate) fn retire_idle(&mut self, now_ns: u64) {
        let mut index = 0;
        while index < self.active.len() {
            let place = self.active[index] as usize;
            let session = self.places[place]
                .as_mut()
                .expect("active sessions are open");
            let ring = session.ring.as_ref().expect("active sessions have a ring");
            if session.active_until_ns <= now_ns && ring.try_sleep() {
                session.active = false;
                self.active.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Tells all polled sessions that the shard is about to sleep; the caller fences before
    /// [`Self::any_pending`].
    pub(crate) fn set_sleeping(&self, sleeping: bool) {
        for &place in &self.active {
            let session = self.places[place as usize]
                .as_ref()
                .expect("active sessions are open");
            session
                .ring
                .as_ref()
                .expect("active sessions have a ring")
                .set_sleeping(sleeping);
        }
    }

    /// Whether a polled ring has a submission that was not taken.
    pub(crate) fn any_pending(&self) -> bool {
        self.active.iter().any(|&place| {
            let session = self.places[place as usize]
                .as_ref()
                .expect("active sessions are open");
            session.ring.as_ref().is_some_and(ServerRing::pending)
        })
    }

    /// Requests taken and not yet completed, over all rings.
    pub(crate) const fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// Requests of one session taken and not yet completed.
    pub(crate) fn unanswered_of(session: &LocalSession) -> u64 {
        session
            .ring
            .as_ref()
            .map_or(0, |ring| u64::from(ring.unanswered()))
    }

    /// Collects what a tenant's sessions pin now, and counts the slots read. Everything unlinked
    /// before this call and not in the set may be reused (no I/O asked). A session with impossible
    /// words is expelled and what it pins counts.
    pub(crate) fn scan_pins(&mut self, tenant: TenantId) -> (&PinSet, u64) {
        let mut wrong = Vec::new();
        let mut slots = 0;
        let mut rings = self
            .places
            .iter_mut()
            .enumerate()
            .filter_map(|(place, session)| {
                let session = session.as_mut()?;
                let is_tenants = session.tenant == tenant;
                Some((place, session.ring.as_mut().filter(|_| is_tenants)?))
            })
            .peekable();
        if let Some((_, first)) = rings.peek() {
            let mut scan = PinScan::start(&mut self.pins, first);
            for (place, ring) in rings {
                match scan.add(ring) {
                    Ok(read) => slots += u64::from(read),
                    Err(error) => wrong.push((place, error)),
                }
            }
            scan.finish();
        } else {
            drop(rings);
            self.pins = PinSet::new();
        }
        for (place, error) in wrong {
            self.expel(
                Place(u32::try_from(place).expect("bounded by sessions_max")),
                &error,
            );
        }
        (&self.pins, slots)
    }

    /// Collects what one session pins now; what it has written wrongly expels it.
    pub(crate) fn pins_of(&mut self, id: SessionId) -> PinSet {
        let mut set = PinSet::new();
        let Some(place) = self.find(id) else {
            return set;
        };
        let session = self.places[place.0 as usize].as_mut().expect("named by id");
        let Some(ring) = session.ring.as_mut() else {
            return set;
        };
        let mut scan = PinScan::start(&mut set, ring);
        let added = scan.add(ring);
        scan.finish();
        if let Err(error) = added {
            self.expel(place, &error);
        }
        set
    }

    /// Hands over what a tenant's sessions noted about their reads through the index, at most a
    /// ring of notes from each; any client may forge them. Returns how many were lost.
    pub(crate) fn drain_notes(
        &mut self,
        tenant: TenantId,
        only: Option<Place>,
        mut hear: impl FnMut(Note),
    ) -> u64 {
        let mut lost = 0;
        let places = match only {
            Some(place) => &mut self.places[place.0 as usize..=place.0 as usize],
            None => &mut self.places[..],
        };
        for session in places.iter_mut().flatten() {
            if session.tenant == tenant
                && let Some(ring) = session.ring.as_mut()
            {
                lost += u64::from(ring.drain_notes(&mut hear));
            }
        }
        lost
    }

    /// The set of the last scan: a hint about what is pinned.
    pub(crate) fn last_pins(&self) -> &PinSet {
        &self.pins
    }
}
