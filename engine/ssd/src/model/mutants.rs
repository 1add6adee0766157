//! Each planted fault is seen by the checker: a model test that passes everything proves nothing.

use super::schedule::{Flavour, run};
use crate::mutate::{Mutation, with};

/// Runs seeds until one fails; returns how many it took.
fn seeds_to_see(mutation: Mutation, flavour: Flavour, most: u64) -> Option<u64> {
    (0..most).find(|&seed| {
        let outcome = std::panic::catch_unwind(|| with(mutation, || run(flavour, seed)));
        !matches!(outcome, Ok(Ok(())))
    })
}

fn assert_seen(mutation: Mutation, flavour: Flavour, most: u64) {
    let seen = seeds_to_see(mutation, flavour, most);
    assert!(
        seen.is_some(),
        "{mutation:?} passes {most} schedules of {flavour:?}"
    );
}

#[test]
fn mutant_tombstone_dropped_early_is_seen() {
    assert_seen(Mutation::TombstoneDropped, Flavour::Full, 4000);
}

#[test]
fn mutant_torn_tail_accepted_is_seen() {
    assert_seen(Mutation::TornTailAccepted, Flavour::Calm, 4000);
}

#[test]
fn mutant_version_comparison_inverted_is_seen() {
    assert_seen(Mutation::VersionInverted, Flavour::Calm, 4000);
}

#[test]
fn mutant_erase_before_flush_is_seen() {
    assert_seen(Mutation::EraseBeforeFlush, Flavour::Calm, 4000);
}

#[test]
fn mutant_delete_not_awaited_is_seen() {
    assert_seen(Mutation::DeleteNotAwaited, Flavour::Calm, 4000);
}

#[test]
fn mutant_reuse_under_read_is_seen() {
    assert_seen(Mutation::ReuseUnderRead, Flavour::Calm, 4000);
}

#[test]
fn mutant_other_shards_ignored_is_seen() {
    assert_seen(Mutation::OtherShardsIgnored, Flavour::Shards, 4000);
}

#[test]
fn mutant_checksum_ignored_is_seen() {
    assert_seen(Mutation::ChecksumIgnored, Flavour::Faults, 4000);
}

#[test]
fn mutant_drop_unprotected_is_seen() {
    assert_seen(Mutation::DropUnprotected, Flavour::Full, 4000);
}
