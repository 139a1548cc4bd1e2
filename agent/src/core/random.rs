//! Jitter and the lower bits of ids, from a seed, so that a history can be replayed.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

/// Numbers of `SplitMix64`: spreads and tells apart, and is no secret.
#[derive(Debug, Clone)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// From 0 to `max`, both included.
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        self.0.next_u64() % max.saturating_add(1)
    }

    /// All 128 bits of it.
    pub(super) fn bits(&mut self) -> u128 {
        (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Histories are named by their seeds, so a seed must mean the same numbers for ever.
    #[test]
    fn a_seed_gives_the_numbers_that_its_authors_published() {
        // The first outputs of Vigna's splitmix64.c for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let numbers = [random.up_to(u64::MAX - 1), random.up_to(u64::MAX - 1), random.up_to(u64::MAX - 1)];
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
