//! Which keys a parent's version keeps alive, which are held for a version to come, and which
//! objects are sealed.
//!
//! ```text
//!   stage (session, parent) ─ bind ─▶ bound to the parent's version ─ its end ─▶ children
//!        └── discard, end of the session ─▶ children
//! ```
//! The holds themselves are counted on each child's shard ([`crate::References`]); this table is on
//! the parent's, and says whom to tell. A seal ends with its version.
//!
//! Bound: [`NESTED_MAX`] children and [`SEALED_MAX`] seals of one tenant on one shard. Lives on:
//! owner shard. Pure.

use chariot_base::SessionId;
use chariot_proto::KeyHash;
use hashbrown::{HashMap, HashSet};

use crate::limits::{NESTED_MAX, NESTED_PER_PARENT_MAX, SEALED_MAX};

/// A table is full; the request is answered `Busy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the nested keys or seals of this shard are used up")]
pub struct NestingFull;

/// The nested keys and seals of one tenant on one shard.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct Nesting {
    staged: HashMap<(SessionId, KeyHash), Vec<KeyHash>>,
    bound: HashMap<KeyHash, Vec<KeyHash>>,
    sealed: HashSet<KeyHash>,
    count: u32,
}

impl Nesting {
    /// Notes children that are held for the next version of `parent`.
    ///
    /// # Errors
    /// [`NestingFull`]; nothing changed.
    pub fn stage(
        &mut self,
        session: SessionId,
        parent: KeyHash,
        children: &[KeyHash],
    ) -> Result<(), NestingFull> {
        let added = u32::try_from(children.len()).unwrap_or(u32::MAX);
        if self.count.saturating_add(added) > NESTED_MAX {
            return Err(NestingFull);
        }
        let staged = self.staged.entry((session, parent)).or_default();
        if staged.len() + children.len() > NESTED_PER_PARENT_MAX {
            if staged.is_empty() {
                self.staged.remove(&(session, parent));
            }
            return Err(NestingFull);
        }
        staged.extend_from_slice(children);
        self.count += added;
        Ok(())
    }

    /// Takes out what a session staged for a parent.
    pub fn discard(&mut self, session: SessionId, parent: KeyHash) -> Vec<KeyHash> {
        let children = self.staged.remove(&(session, parent)).unwrap_or_default();
        self.lower(children.len());
        children
    }

    /// Ties what a session staged to the parent's version of now; returns the children of a version
    /// whose end was not noted, if any.
    pub fn bind(&mut self, session: SessionId, parent: KeyHash) -> Vec<KeyHash> {
        let Some(children) = self.staged.remove(&(session, parent)) else {
            return Vec::new();
        };
        let before = self.bound.insert(parent, children).unwrap_or_default();
        self.lower(before.len());
        before
    }

    /// Seals the parent's version of now.
    ///
    /// # Errors
    /// [`NestingFull`]; nothing changed.
    pub fn seal(&mut self, parent: KeyHash) -> Result<(), NestingFull> {
        if self.sealed.len() >= SEALED_MAX && !self.sealed.contains(&parent) {
            return Err(NestingFull);
        }
        self.sealed.insert(parent);
        Ok(())
    }

    /// Returns whether a key's version is sealed.
    pub fn is_sealed(&self, parent: KeyHash) -> bool {
        self.sealed.contains(&parent)
    }

    /// Ends a version: its seal is gone, its children are handed out.
    pub fn end(&mut self, parent: KeyHash) -> Vec<KeyHash> {
        self.sealed.remove(&parent);
        let children = self.bound.remove(&parent).unwrap_or_default();
        self.lower(children.len());
        children
    }

    /// Takes out what a session that ended had staged.
    pub fn drop_session(&mut self, session: SessionId) -> Vec<KeyHash> {
        let mut dropped = Vec::new();
        self.staged.retain(|(owner, _), children| {
            if *owner == session {
                dropped.append(children);
            }
            *owner != session
        });
        self.lower(dropped.len());
        dropped
    }

    /// Returns whether no version of any key matters to this table.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.sealed.is_empty()
    }

    fn lower(&mut self, gone: usize) {
        self.count -= u32::try_from(gone).expect("bounded by NESTED_MAX");
    }

    /// Checks that the count is right; O(n). For tests.
    ///
    /// # Panics
    /// When it is not.
    pub fn check_invariants(&self) {
        let staged: usize = self.staged.values().map(Vec::len).sum();
        let bound: usize = self.bound.values().map(Vec::len).sum();
        assert_eq!(staged + bound, self.count as usize);
        assert!(self.sealed.len() <= SEALED_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);

    fn key(lo: u64) -> KeyHash {
        KeyHash { hi: 0, lo }
    }

    #[test]
    fn children_leave_with_the_version_that_they_are_bound_to() {
        let mut nesting = Nesting::default();
        nesting.stage(ONE, key(1), &[key(2), key(3)]).unwrap();
        nesting.stage(TWO, key(1), &[key(4)]).unwrap();
        assert_eq!(nesting.bind(ONE, key(1)), []);
        nesting.seal(key(1)).unwrap();
        nesting.check_invariants();
        assert!(nesting.is_sealed(key(1)));
        assert_eq!(nesting.end(key(1)), [key(2), key(3)]);
        assert!(!nesting.is_sealed(key(1)));
        assert_eq!(nesting.drop_session(TWO), [key(4)]);
        assert_eq!(nesting.discard(TWO, key(1)), []);
        assert!(nesting.is_empty());
        nesting.check_invariants();
    }

    #[test]
    fn a_version_bound_twice_hands_out_its_first_children() {
        let mut nesting = Nesting::default();
        nesting.stage(ONE, key(1), &[key(2)]).unwrap();
        nesting.bind(ONE, key(1));
        nesting.stage(ONE, key(1), &[key(3)]).unwrap();
        assert_eq!(nesting.bind(ONE, key(1)), [key(2)]);
        assert_eq!(
            nesting.bind(ONE, key(1)),
            [],
            "nothing staged changes nothing"
        );
        assert_eq!(nesting.end(key(1)), [key(3)]);
        nesting.check_invariants();
    }

    #[test]
    fn too_many_children_are_refused_and_nothing_changes() {
        let mut nesting = Nesting::default();
        let many = vec![key(9); NESTED_PER_PARENT_MAX];
        nesting.stage(ONE, key(1), &many).unwrap();
        assert_eq!(nesting.stage(ONE, key(1), &[key(2)]), Err(NestingFull));
        assert_eq!(nesting.discard(ONE, key(1)).len(), NESTED_PER_PARENT_MAX);
        nesting.check_invariants();
        for number in 0..SEALED_MAX as u64 {
            nesting.seal(key(number)).unwrap();
        }
        assert_eq!(nesting.seal(key(u64::MAX)), Err(NestingFull));
        nesting.seal(key(0)).unwrap();
    }
}
