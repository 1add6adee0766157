//! A directory that kills its process at one step of a link's life.
//!
//! Steps are the calls of [`Directory`], before (`<`) and after (`>`) each, and the orders that
//! come from it: `take<`, `joined>`, `announce>3` (the third one), `connect>`. What happens between
//! two of them, on the card, the simulator's faults can reach.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chariot_client::{Devices, KeyHash};
use chariot_peer::{
    DeviceOrder, DevicePort, DeviceShape, Directory, Opened, PeerError, Taken, Wish,
};

/// The daemon's directory, and when to die.
#[derive(Debug)]
pub(crate) struct Doomed {
    inner: Devices,
    step: String,
    left: AtomicU64,
}

impl Doomed {
    /// Dies at `step`: a name with `<` or `>`, and how often it comes, 1 unless said.
    pub(crate) fn new(inner: Devices, step: &str) -> Self {
        let end = step.find(['<', '>']).unwrap() + 1;
        let left = step[end..].parse().unwrap_or(1);
        Self {
            inner,
            step: step[..end].to_owned(),
            left: AtomicU64::new(left),
        }
    }

    fn at(&self, name: &str, edge: char) {
        let is_here = self.step.strip_suffix(edge) == Some(name);
        if is_here && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SAFETY: no handler can see this signal, and nothing is returned to.
            unsafe { libc::raise(libc::SIGKILL) };
        }
    }

    fn around<T>(&self, name: &str, call: impl FnOnce(&dyn Directory) -> T) -> T {
        self.at(name, '<');
        let answer = call(&self.inner);
        self.at(name, '>');
        answer
    }
}

fn name_of(order: &DeviceOrder) -> &'static str {
    match order {
        DeviceOrder::Serve { .. } => "serve",
        DeviceOrder::Stop { .. } => "stop",
        DeviceOrder::Moved { .. } => "moved",
        DeviceOrder::Dropped { .. } => "dropped",
        DeviceOrder::Connect { .. } => "connect",
        DeviceOrder::Broken { .. } => "broken",
        DeviceOrder::Receive { .. } => "receive",
        DeviceOrder::Reset => "reset",
    }
}

impl Directory for Doomed {
    fn hash(&self, key: &[u8]) -> Result<KeyHash, PeerError> {
        Directory::hash(&self.inner, key)
    }

    fn put(&self, card: u32, wishes: &[Wish]) -> Vec<Result<(), PeerError>> {
        self.around("put", |inner| inner.put(card, wishes))
    }

    fn take(&self, card: u32, wishes: &[Wish], wait: Duration) -> Vec<Result<Taken, PeerError>> {
        self.around("take", |inner| inner.take(card, wishes, wait))
    }

    fn done(&self, card: u32, hash: KeyHash, number: u64) -> Result<(), PeerError> {
        self.around("done", |inner| inner.done(card, hash, number))
    }

    fn fail(&self, card: u32, hash: KeyHash, number: u64, blames: bool) -> Result<(), PeerError> {
        self.around("fail", |inner| inner.fail(card, hash, number, blames))
    }

    fn delete(&self, hashes: &[KeyHash]) -> Vec<Result<bool, PeerError>> {
        self.around("delete", |inner| inner.delete(hashes))
    }

    fn leave(&self, card: u32, hashes: &[KeyHash]) -> Vec<Result<bool, PeerError>> {
        self.around("leave", |inner| inner.leave(card, hashes))
    }

    fn shape(&self, hash: KeyHash) -> Result<Option<DeviceShape>, PeerError> {
        self.around("shape", |inner| inner.shape(hash))
    }

    fn next_order(&self, card: u32, wait: Duration) -> Result<Option<DeviceOrder>, PeerError> {
        let order = Directory::next_order(&self.inner, card, wait);
        if let Ok(Some(order)) = &order {
            self.at(name_of(order), '>');
        }
        order
    }

    fn open_link(&self, card: u32, to: DevicePort) -> Result<Opened, PeerError> {
        self.around("open_link", |inner| inner.open_link(card, to))
    }

    fn joined(&self, card: u32, link: u64) -> Result<(), PeerError> {
        self.around("joined", |inner| inner.joined(card, link))
    }

    fn break_link(&self, card: u32, link: u64) -> Result<(), PeerError> {
        self.around("break_link", |inner| inner.break_link(card, link))
    }

    fn refuse(&self, card: u32, to: DevicePort, number: u64) -> Result<(), PeerError> {
        self.around("refuse", |inner| inner.refuse(card, to, number))
    }

    fn announce(
        &self,
        card: u32,
        of: (u64, u64),
        chunks: (u32, u16),
        tickets: u32,
    ) -> Result<u64, PeerError> {
        self.around("announce", |inner| {
            inner.announce(card, of, chunks, tickets)
        })
    }

    fn invite(&self, link: u64, invitation: &[u8], life: Duration) -> Result<(), PeerError> {
        self.around("invite", |inner| inner.invite(link, invitation, life))
    }

    fn invitation(&self, link: u64, wait: Duration) -> Result<Vec<u8>, PeerError> {
        self.around("invitation", |inner| inner.invitation(link, wait))
    }

    fn accept(&self, link: u64, life: Duration) -> Result<(), PeerError> {
        self.around("accept", |inner| inner.accept(link, life))
    }

    fn accepted(&self, link: u64, wait: Duration) -> Result<(), PeerError> {
        self.around("accepted", |inner| inner.accepted(link, wait))
    }
}
