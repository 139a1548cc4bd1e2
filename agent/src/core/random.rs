//! Jitter and the lower bits of ids, from a seed, so that a history can be replayed.

/// `SplitMix64` (Steele, Lea, Flood 2014): spreads and tells apart, and is no secret.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `max`, both included.
    pub(super) fn up_to(&mut self, max: u64) -> u64 {
        self.next() % max.saturating_add(1)
    }

    /// All 128 bits of it.
    pub(super) fn bits(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}
