//! The schedule of faults that follows from a seed, round by round.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};

use crate::kind::Kind;

/// How many process faults of each kind are in a round.
const OF_EACH_KIND: usize = 2;
/// How many broker faults are in a round. They come one after the other: three copies survive the loss of one.
const BROKER_FAULTS: usize = 3;
/// From the first process fault of a round to the last.
const SPREAD_MS: u64 = 34_000;

/// One fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// When, since the round began, in milliseconds; a broker fault comes after the one before it.
    pub after_ms: u64,
    /// To whom: to be reduced to the number of those of its kind.
    pub target: usize,
    /// For how long, in milliseconds.
    pub lasts_ms: u64,
}

/// What is done between two checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// In the order of their times.
    pub processes: Vec<Fault>,
    /// In order.
    pub brokers: Vec<Fault>,
}

/// A generator of numbers that is the same everywhere.
#[derive(Debug, Clone)]
struct Random(SplitMix64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// From `low` to below `high`.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low).max(1)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = usize::try_from(self.within(0, index as u64 + 1)).unwrap_or(0);
            items.swap(index, other);
        }
    }
}

impl Round {
    /// The round of this number, from 0, of the schedule that follows from the seed.
    #[must_use]
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x1000_0000_01b3) ^ number.wrapping_mul(0x9e37_79b9));
        let mut kinds: Vec<Kind> = Kind::OF_PROCESSES.iter().flat_map(|kind| [*kind; OF_EACH_KIND]).collect();
        random.shuffle(&mut kinds);
        let step = SPREAD_MS / kinds.len() as u64;
        let processes = kinds.iter().zip(0_u64..).map(|(kind, place)| {
            let after_ms = place * step + random.within(0, step);
            // Each service in turn, so that one that ended lately is not ended again: its agent waits longer each time.
            let turn = (number as usize).wrapping_mul(OF_EACH_KIND) + usize::from(place % 2 == 0);
            let target = if *kind == Kind::ChildKilled { turn } else { random.0.next_u64() as usize >> 8 };
            Self::fault(&mut random, *kind, after_ms, target)
        });
        let processes = processes.collect();
        // One kind after the other, all as often; the targets at random.
        let first = number.wrapping_mul(BROKER_FAULTS as u64);
        let order = Self::broker_order(seed);
        let brokers = (0..BROKER_FAULTS as u64).map(|place| {
            let kind = order[usize::try_from((first + place) % order.len() as u64).unwrap_or(0)];
            let pause_ms = random.within(500, 2_500);
            let target = random.0.next_u64() as usize >> 8;
            Self::fault(&mut random, kind, pause_ms, target)
        });
        let brokers = brokers.collect();
        Self { processes, brokers }
    }

    fn broker_order(seed: u64) -> [Kind; 7] {
        let mut order = Kind::OF_BROKERS;
        Random::new(seed).shuffle(&mut order);
        order
    }

    fn fault(random: &mut Random, kind: Kind, after_ms: u64, target: usize) -> Fault {
        let (low, high) = kind.lasts_ms();
        // Half of them in the shorter third: what is short is what must not be taken for a death.
        let high = if random.0.next_u64().is_multiple_of(2) { low + (high - low) / 3 } else { high };
        Fault { kind, after_ms, target, lasts_ms: random.within(low, high) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_seed_gives_one_schedule_and_another_seed_another() {
        assert_eq!(Round::of(1, 0), Round::of(1, 0));
        assert_ne!(Round::of(1, 0), Round::of(2, 0));
        assert_ne!(Round::of(1, 0), Round::of(1, 1));
    }

    #[test]
    fn twelve_rounds_have_what_fifteen_minutes_must_have() {
        let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
        for number in 0..12 {
            let round = Round::of(1, number);
            for fault in round.processes.iter().chain(&round.brokers) {
                *counts.entry(fault.kind).or_default() += 1;
            }
        }
        for kind in Kind::OF_PROCESSES.into_iter().chain(Kind::OF_BROKERS) {
            assert!(counts[&kind] >= kind.wanted(15), "{kind:?}: {}", counts[&kind]);
        }
        assert!(counts.values().sum::<u64>() >= 300);
    }
}
