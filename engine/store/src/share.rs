//! How much of a bounded table one session may have: less than what is still free.
//!
//! With `n` sessions that take all they can, each ends with `max / (n + 1)` and as much is free:
//! one alone has half of the table, and 1,023 of them leave 64 of 65,536 latches to the next one.
//! A fixed share would refuse the only user of an idle table, or leave nothing to a late one.

/// Returns whether a session that has `own` of the `used` entries may have one more of `max`.
pub(crate) const fn may_take(own: usize, used: usize, max: usize) -> bool {
    may_take_many(own, 1, used, max)
}

/// Returns whether a session that has `own` of the `used` entries may have `more` of `max`.
pub(crate) const fn may_take_many(own: usize, more: usize, used: usize, max: usize) -> bool {
    own.saturating_add(more) <= max.saturating_sub(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_sessions_leave_as_much_as_each_has() {
        for sessions in [1_usize, 2, 7, 1023] {
            let max = 65_536;
            let mut own = vec![0_usize; sessions];
            let mut used = 0;
            let mut refused = 0;
            while refused < sessions {
                refused = 0;
                for one in &mut own {
                    let more = usize::from(may_take(*one, used, max));
                    *one += more;
                    used += more;
                    refused += 1 - more;
                }
            }
            assert!(max - used >= max / (sessions + 1), "{sessions}: {used}");
            assert!(may_take(0, used, max), "a newcomer gets some");
        }
        assert!(!may_take(0, 10, 10));
        assert!(!may_take_many(0, 6, 5, 10));
        assert!(may_take_many(0, 5, 5, 10));
    }
}
