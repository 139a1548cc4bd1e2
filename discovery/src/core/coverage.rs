//! Through which revision a bucket is verified, by its pulses.

use muster_schemas::ServiceName;

use super::view::{HEAD_AGE_MS_MAX, PULSES_SPAN_MS};

/// Pulses of a bucket that wait for a change or for an earlier range. At the bound the one that ends first is dropped:
/// later pulses repeat its services, and if its range is missed then, the gap leads to a re-synchronisation.
const HELD_MAX: usize = 64;

/// A pulse, reduced to what the view's scope needs.
#[derive(Debug, Clone)]
pub(super) struct HeldPulse {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) services: Vec<(ServiceName, u64)>,
    pub(super) head_age_ms: u64,
    pub(super) received_ms: u64,
}

/// The last word that the bucket is complete.
#[derive(Debug, Clone, Copy)]
struct Confirmation {
    /// When it was received.
    at_ms: u64,
    /// The moment that it speaks of: older by the head's age.
    as_of_ms: u64,
}

/// What the pulses of one bucket prove.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Every change of the bucket through this sequence is in the lists.
    pub(super) through: u64,
    confirmed: Option<Confirmation>,
    held: Vec<HeldPulse>,
    /// Since when a pulse is held whose range begins above `through`.
    pub(super) gap_since_ms: Option<u64>,
}

impl Coverage {
    /// Takes a pulse in; [`Coverage::advance`] looks at it.
    pub(super) fn hold(&mut self, pulse: HeldPulse) {
        if pulse.to < self.through || pulse.from > pulse.to {
            return;
        }
        if self.held.len() >= HELD_MAX {
            let first = self.held.iter().enumerate().min_by_key(|(_, held)| held.to).map(|(index, _)| index);
            self.held.swap_remove(first.unwrap_or(0));
        }
        self.held.push(pulse);
    }

    /// Goes as far as the pulses and the lists allow. `complete_through` tells how far a service's list is right.
    /// Returns whether anything was confirmed.
    pub(super) fn advance(&mut self, now_ms: u64, complete_through: impl Fn(&ServiceName) -> u64) -> bool {
        let mut confirmed = false;
        loop {
            let through = self.through;
            self.held.retain(|pulse| pulse.to >= through);
            let holds = |pulse: &HeldPulse| {
                pulse
                    .services
                    .iter()
                    .all(|(name, revision)| *revision <= through || complete_through(name) >= *revision)
            };
            let Some(index) = self.held.iter().position(|pulse| pulse.from <= through && holds(pulse)) else {
                break;
            };
            let pulse = self.held.swap_remove(index);
            self.through = pulse.to;
            confirmed |= self.confirm(pulse.received_ms, pulse.received_ms, pulse.head_age_ms);
        }
        let has_gap = self.held.iter().any(|pulse| pulse.from > self.through);
        self.gap_since_ms = if has_gap { self.gap_since_ms.or(Some(now_ms)) } else { None };
        confirmed
    }

    /// The bucket is complete through `revision` by a snapshot.
    pub(super) fn cover(&mut self, revision: u64) {
        self.through = self.through.max(revision);
    }

    /// Somebody at the log's end, or near it, said at `at_ms` that the bucket is complete.
    pub(super) fn confirm(&mut self, at_ms: u64, said_ms: u64, head_age_ms: u64) -> bool {
        if head_age_ms > HEAD_AGE_MS_MAX {
            return false;
        }
        let as_of_ms = said_ms.saturating_sub(head_age_ms);
        let last = self.confirmed.unwrap_or(Confirmation { at_ms, as_of_ms });
        self.confirmed = Some(Confirmation { at_ms: at_ms.max(last.at_ms), as_of_ms: as_of_ms.max(last.as_of_ms) });
        true
    }

    /// As of when the bucket is known to be complete; none if the last word is too old.
    pub(super) fn as_of_ms(&self, now_ms: u64) -> Option<u64> {
        let fresh = |confirmation: &Confirmation| now_ms.saturating_sub(confirmation.at_ms) <= PULSES_SPAN_MS;
        self.confirmed.filter(fresh).map(|confirmation| confirmation.as_of_ms)
    }

    /// Forgets what confirmed it: only what is said from now on counts.
    pub(super) fn distrust(&mut self) {
        self.confirmed = None;
    }

    /// The services that held pulses wait for, with the revision that is needed.
    pub(super) fn awaited(&self) -> impl Iterator<Item = &(ServiceName, u64)> {
        let reached = self.held.iter().filter(|pulse| pulse.from <= self.through);
        reached.flat_map(|pulse| &pulse.services).filter(|(_, revision)| *revision > self.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(from: u64, to: u64) -> HeldPulse {
        HeldPulse { from, to, services: Vec::new(), head_age_ms: 0, received_ms: 100 }
    }

    #[test]
    fn one_pulse_too_many_ends_the_one_that_reaches_least_far_and_its_range_is_a_gap_then() {
        let mut coverage = Coverage::default();
        for number in 1..=HELD_MAX as u64 + 1 {
            coverage.hold(pulse(number * 10, number * 10 + 10));
        }
        assert_eq!(coverage.held.len(), HELD_MAX);
        coverage.cover(10);
        assert!(!coverage.advance(100, |_| 0), "nothing says what came from 10 to 20 any more");
        assert_eq!((coverage.through, coverage.gap_since_ms), (10, Some(100)));
        coverage.cover(20);
        assert!(coverage.advance(200, |_| 0));
        assert_eq!((coverage.through, coverage.gap_since_ms), (HELD_MAX as u64 * 10 + 20, None));
    }
}
