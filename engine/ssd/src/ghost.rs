//! Which objects were evicted before, for second-hit admission.
//!
//! A table of fingerprints, one place each: a newer object takes the place of an older one, so that
//! what was seen long ago is forgotten. 1 MiB for 262,144 objects; odds of a wrong "seen": 2^-32.
//!
//! Lives on: owner shard.

use chariot_proto::KeyHash;

const PLACES: usize = 1 << 18;

#[derive(Debug)]
pub(crate) struct Ghost {
    places: Vec<u32>,
}

impl Ghost {
    pub(crate) fn new() -> Self {
        Self {
            places: vec![0; PLACES],
        }
    }

    /// Returns whether the object was seen lately, and sees it.
    pub(crate) fn saw_before(&mut self, hash: KeyHash) -> bool {
        let place = usize::try_from(hash.hi % PLACES as u64).expect("below the number of places");
        let fingerprint = crate::format::low(hash.lo).max(1);
        let seen = self.places[place] == fingerprint;
        self.places[place] = fingerprint;
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_sight_is_known_until_another_takes_the_place() {
        let mut ghost = Ghost::new();
        let hash = KeyHash { hi: 5, lo: 9 };
        let rival = KeyHash {
            hi: 5 + PLACES as u64,
            lo: 10,
        };
        assert!(!ghost.saw_before(hash));
        assert!(ghost.saw_before(hash));
        assert!(!ghost.saw_before(rival));
        assert!(!ghost.saw_before(hash));
    }
}
