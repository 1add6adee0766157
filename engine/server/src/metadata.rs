//! One shard's share of `--metadata-memory`, divided among the tenants on it.
//!
//! Lives on: owner shard. The share is counted in records ([`chariot_store::entries_for`]). Half
//! of it is promised: every tenant that can ever come has an equal part, which nobody else can
//! take. The other half is lent in steps to whoever fills its part, for good: the record slab of
//! an index never shrinks, so memory once given to a tenant stays with it. With one tenant all of
//! it is that tenant's from the start. A tenant whose records are used up evicts among its own.
//!
//! The sum over all tenants of a shard is the share and never more, whatever they do.

use std::cell::Cell;
use std::rc::Rc;

/// Steps in which the common half is lent: a sixty-fourth of the share, so that two tenants that
/// grow side by side end near each other.
const STEPS: u32 = 64;

/// What no tenant of a shard has yet.
#[derive(Debug, Clone)]
pub(crate) struct MetadataPool {
    left: Rc<Cell<u32>>,
    /// Records that each tenant has without asking.
    promised: u32,
    step: u32,
}

impl MetadataPool {
    /// Divides `records` among at most `tenants` tenants.
    ///
    /// # Panics
    /// When there is no tenant.
    pub(crate) fn new(records: u32, tenants: u32) -> Self {
        assert!(tenants > 0);
        let promised = if tenants == 1 {
            records
        } else {
            records / 2 / tenants
        };
        Self {
            left: Rc::new(Cell::new(records - promised * tenants)),
            promised,
            step: (records / STEPS).max(1),
        }
    }

    /// Records that a tenant has from its opening on; at least 1, so that it can be served at all.
    pub(crate) fn promised(&self) -> u32 {
        self.promised.max(1)
    }

    /// Lends a step; 0 when the share is used up.
    pub(crate) fn take(&self) -> u32 {
        let taken = self.left.get().min(self.step);
        self.left.set(self.left.get() - taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_has_all_of_it_at_once() {
        let pool = MetadataPool::new(1000, 1);
        assert_eq!((pool.promised(), pool.take()), (1000, 0));
    }

    #[test]
    fn what_is_lent_and_promised_is_the_share_and_no_more() {
        let pool = MetadataPool::new(1003, 3);
        let other = pool.clone();
        let mut lent = 0;
        loop {
            let step = if lent % 2 == 0 {
                pool.take()
            } else {
                other.take()
            };
            if step == 0 {
                break;
            }
            lent += step;
        }
        assert_eq!(lent + 3 * pool.promised(), 1003);
    }
}
