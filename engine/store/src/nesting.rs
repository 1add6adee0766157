//! Which keys a parent's version keeps alive, which are held for a version to come, and which
//! objects are sealed.
//!
//! ```text
//!   stage (session, parent, number) ─ bind ─▶ bound to the parent's version ─ its end ─▶ orphans
//!        └── discard, end of the session ─▶ orphans
//! ```
//! The number is the client's, so that two of its threads that publish one parent do not take each
//! other's keys. The holds themselves are counted on each child's shard ([`crate::References`]);
//! this table is on the parent's. Orphans are children whose shards have to be told that they are
//! held no more, a few at a time ([`Nesting::take_orphan`]). A seal ends with its version.
//!
//! Bound: [`NESTED_MAX`] children, orphans among them, and [`SEALED_MAX`] seals of one tenant on
//! one shard; of the children a session stages at most as many as are free. Lives on: owner shard.
//! Pure.

use std::collections::{BTreeMap, VecDeque};

use chariot_base::SessionId;
use chariot_proto::KeyHash;
use hashbrown::{HashMap, HashSet};

use crate::limits::{NESTED_MAX, NESTED_PER_PARENT_MAX, SEALED_MAX};
use crate::share::may_take_many;

/// A table is full; the request is answered `Busy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the nested keys or seals of this shard are used up, or this session's share of them")]
pub struct NestingFull;

/// What one session has staged.
#[derive(Debug, Default)]
struct Staged {
    /// In order, because the first one is taken out again and again when the session ends.
    groups: BTreeMap<(KeyHash, u64), Vec<KeyHash>>,
    count: usize,
}

/// The nested keys and seals of one tenant on one shard.
///
/// Lives on: owner shard.
#[derive(Debug, Default)]
pub struct Nesting {
    staged: HashMap<SessionId, Staged>,
    bound: HashMap<KeyHash, Vec<KeyHash>>,
    /// Children to let go of, and whether their parent's life is over.
    orphans: VecDeque<(Vec<KeyHash>, bool)>,
    sealed: HashSet<KeyHash>,
    count: u32,
}

impl Nesting {
    /// Notes children that are held for the next version of `parent`.
    ///
    /// # Errors
    /// [`NestingFull`]; nothing changed.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn stage(
        &mut self,
        session: SessionId,
        parent: KeyHash,
        number: u64,
        children: &[KeyHash],
    ) -> Result<(), NestingFull> {
        let before = self.staged.get(&session);
        let own = before.map_or(0, |staged| staged.count);
        let group = before.and_then(|staged| staged.groups.get(&(parent, number)));
        let of_group = group.map_or(0, Vec::len);
        if of_group + children.len() > NESTED_PER_PARENT_MAX
            || !may_take_many(
                own,
                children.len(),
                self.count as usize,
                NESTED_MAX as usize,
            )
        {
            return Err(NestingFull);
        }
        let staged = self.staged.entry(session).or_default();
        staged.count += children.len();
        let group = staged.groups.entry((parent, number)).or_default();
        group.extend_from_slice(children);
        self.count += u32::try_from(children.len()).expect("bounded by NESTED_PER_PARENT_MAX");
        Ok(())
    }

    fn unstage(&mut self, session: SessionId, group: (KeyHash, u64)) -> Option<Vec<KeyHash>> {
        let staged = self.staged.get_mut(&session)?;
        let children = staged.groups.remove(&group)?;
        staged.count -= children.len();
        if staged.groups.is_empty() {
            assert_eq!(staged.count, 0, "counted by group");
            self.staged.remove(&session);
        }
        Some(children)
    }

    /// Lets go of what a session staged for a parent under a number.
    pub fn discard(&mut self, session: SessionId, parent: KeyHash, number: u64) {
        if let Some(children) = self.unstage(session, (parent, number)) {
            self.orphans.push_back((children, false));
        }
    }

    /// Ties what a session staged to the parent's version of now, and lets go of the children of a
    /// version whose end was not noted.
    pub fn bind(&mut self, session: SessionId, parent: KeyHash, number: u64) {
        if let Some(children) = self.unstage(session, (parent, number))
            && let Some(before) = self.bound.insert(parent, children)
        {
            self.orphans.push_back((before, true));
        }
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

    /// Ends a version: its seal is gone, its children are let go of.
    pub fn end(&mut self, parent: KeyHash) {
        self.sealed.remove(&parent);
        if let Some(children) = self.bound.remove(&parent) {
            self.orphans.push_back((children, true));
        }
    }

    /// Lets go of one group that a session that ended had staged; false when it has no more.
    pub fn drop_next(&mut self, session: SessionId) -> bool {
        let groups = self.staged.get(&session).map(|staged| &staged.groups);
        let Some((&group, _)) = groups.and_then(BTreeMap::first_key_value) else {
            return false;
        };
        self.discard(session, group.0, group.1);
        true
    }

    /// Takes out a child whose shard is to be told, and whether its parent's life is over.
    ///
    /// # Panics
    /// When its tables disagree, which is a bug of this one.
    pub fn take_orphan(&mut self) -> Option<(KeyHash, bool)> {
        let (children, deletes) = self.orphans.front_mut()?;
        let child = children.pop().expect("groups are not empty");
        let deletes = *deletes;
        if children.is_empty() {
            self.orphans.pop_front();
        }
        self.count -= 1;
        Some((child, deletes))
    }

    /// Returns whether no version of any key matters to this table.
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.sealed.is_empty()
    }

    /// Returns how many children are staged, bound, or not told yet.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Checks that the counts are right; O(n). For tests.
    ///
    /// # Panics
    /// When they are not.
    pub fn check_invariants(&self) {
        let mut staged = 0;
        for one in self.staged.values() {
            let children: usize = one.groups.values().map(Vec::len).sum();
            assert_eq!(children, one.count);
            staged += children;
        }
        let bound: usize = self.bound.values().map(Vec::len).sum();
        let orphans: usize = self.orphans.iter().map(|one| one.0.len()).sum();
        assert_eq!(staged + bound + orphans, self.count as usize);
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

    fn orphans(nesting: &mut Nesting) -> Vec<(u64, bool)> {
        let taken = std::iter::from_fn(|| nesting.take_orphan());
        let mut taken: Vec<_> = taken.map(|(child, deletes)| (child.lo, deletes)).collect();
        taken.sort_unstable();
        nesting.check_invariants();
        taken
    }

    #[test]
    fn children_leave_with_the_version_that_they_are_bound_to() {
        let mut nesting = Nesting::default();
        nesting.stage(ONE, key(1), 0, &[key(2), key(3)]).unwrap();
        nesting.stage(TWO, key(1), 0, &[key(4)]).unwrap();
        nesting.bind(ONE, key(1), 0);
        assert_eq!(orphans(&mut nesting), []);
        nesting.seal(key(1)).unwrap();
        assert!(nesting.is_sealed(key(1)));
        nesting.end(key(1));
        assert_eq!(nesting.len(), 3, "counted until they are told");
        assert_eq!(orphans(&mut nesting), [(2, true), (3, true)]);
        assert!(!nesting.is_sealed(key(1)));
        assert!(nesting.drop_next(TWO));
        assert!(!nesting.drop_next(TWO));
        assert_eq!(orphans(&mut nesting), [(4, false)]);
        assert!(nesting.is_empty());
        assert_eq!(nesting.len(), 0);
    }

    #[test]
    fn two_publishes_of_one_session_keep_their_own_children() {
        let mut nesting = Nesting::default();
        nesting.stage(ONE, key(1), 7, &[key(2)]).unwrap();
        nesting.stage(ONE, key(1), 8, &[key(3)]).unwrap();
        nesting.bind(ONE, key(1), 7);
        nesting.discard(ONE, key(1), 7);
        nesting.discard(ONE, key(1), 8);
        assert_eq!(orphans(&mut nesting), [(3, false)]);
        nesting.end(key(1));
        assert_eq!(orphans(&mut nesting), [(2, true)]);
    }

    #[test]
    fn a_version_bound_twice_lets_go_of_its_first_children() {
        let mut nesting = Nesting::default();
        nesting.stage(ONE, key(1), 0, &[key(2)]).unwrap();
        nesting.bind(ONE, key(1), 0);
        nesting.stage(ONE, key(1), 0, &[key(3)]).unwrap();
        nesting.bind(ONE, key(1), 0);
        assert_eq!(orphans(&mut nesting), [(2, true)]);
        nesting.bind(ONE, key(1), 0);
        assert_eq!(orphans(&mut nesting), [], "nothing staged changes nothing");
        nesting.end(key(1));
        assert_eq!(orphans(&mut nesting), [(3, true)]);
    }

    #[test]
    fn too_many_children_are_refused_and_nothing_changes() {
        let mut nesting = Nesting::default();
        let many = vec![key(9); NESTED_PER_PARENT_MAX];
        nesting.stage(ONE, key(1), 0, &many).unwrap();
        assert_eq!(nesting.stage(ONE, key(1), 0, &[key(2)]), Err(NestingFull));
        nesting.check_invariants();
        let mut groups = 1;
        while nesting.stage(ONE, key(1), groups, &many).is_ok() {
            groups += 1;
        }
        let half = NESTED_MAX as usize / 2;
        assert_eq!(
            groups,
            (half / NESTED_PER_PARENT_MAX) as u64,
            "a session's share"
        );
        nesting.stage(TWO, key(1), 0, &many).unwrap();
        nesting.check_invariants();
        for number in 0..SEALED_MAX as u64 {
            nesting.seal(key(number)).unwrap();
        }
        assert_eq!(nesting.seal(key(u64::MAX)), Err(NestingFull));
        nesting.seal(key(0)).unwrap();
    }
}
