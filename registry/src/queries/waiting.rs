//! Queries that wait for their `min_revision`: bounded in number and time.

use std::collections::BTreeMap;

use muster_schemas::{EpochId, MinRevision};

/// Queries that wait at once; one more is told `behind` without waiting.
const WAITING_MAX: usize = 8_192;

/// Whether a replica at a position has reached what is wanted: one of an older epoch is met, of a newer one is not.
#[must_use]
pub fn is_met(wanted: MinRevision, epoch: Option<EpochId>, revision: u64) -> bool {
    match (wanted.epoch(), epoch) {
        (_, None) => false,
        (None, Some(_)) => revision >= wanted.sequence(),
        (Some(wanted_epoch), Some(epoch)) if wanted_epoch == epoch => revision >= wanted.sequence(),
        (Some(wanted_epoch), Some(epoch)) => wanted_epoch < epoch,
    }
}

/// What waits, by the sequence that it waits for, and by its deadline.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    by_sequence: BTreeMap<(u64, u64), (MinRevision, u64, T)>,
    by_deadline: BTreeMap<(u64, u64), u64>,
    counter: u64,
    /// Those of epochs that are not in force are looked at when the epoch changes.
    epoch: Option<EpochId>,
}

impl<T> Waiting<T> {
    pub(super) fn new() -> Self {
        Self { by_sequence: BTreeMap::new(), by_deadline: BTreeMap::new(), counter: 0, epoch: None }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// Adds one; gives it back if there are too many.
    pub(super) fn push(&mut self, wanted: MinRevision, deadline_ms: u64, item: T) -> Result<(), T> {
        if self.by_sequence.len() >= WAITING_MAX {
            return Err(item);
        }
        self.counter += 1;
        self.by_sequence.insert((wanted.sequence(), self.counter), (wanted, deadline_ms, item));
        self.by_deadline.insert((deadline_ms, self.counter), wanted.sequence());
        Ok(())
    }

    /// Takes out what a replica at this position can answer.
    pub(super) fn met(&mut self, epoch: Option<EpochId>, revision: u64) -> Vec<T> {
        let all = self.epoch != epoch;
        self.epoch = epoch;
        let end = if all { u64::MAX } else { revision };
        let keys: Vec<(u64, u64)> = self
            .by_sequence
            .range(..=(end, u64::MAX))
            .filter(|(_, (wanted, _, _))| is_met(*wanted, epoch, revision))
            .map(|(key, _)| *key)
            .collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    /// Takes out what has waited long enough.
    pub(super) fn expired(&mut self, now_ms: u64) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(((deadline_ms, counter), sequence)) = self.by_deadline.first_key_value() {
            if *deadline_ms > now_ms {
                break;
            }
            let key = (*sequence, *counter);
            expired.extend(self.remove(key));
        }
        expired
    }

    /// When the next one has waited long enough.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|((deadline_ms, _), _)| *deadline_ms)
    }

    fn remove(&mut self, key: (u64, u64)) -> Option<T> {
        let (_, deadline_ms, item) = self.by_sequence.remove(&key)?;
        self.by_deadline.remove(&(deadline_ms, key.1));
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(text: &str) -> EpochId {
        text.parse().unwrap()
    }

    const OLD: &str = "01J00000000000000000000000";
    const NEW: &str = "01J00000000000000000000001";

    #[test]
    fn a_revision_of_an_older_epoch_is_met_and_of_a_newer_one_is_not() {
        let in_force = Some(epoch(NEW));
        assert!(is_met(MinRevision(Some(epoch(OLD)), 1_000), in_force, 5));
        assert!(!is_met(MinRevision(Some(epoch(NEW)), 1), Some(epoch(OLD)), 5));
        assert!(is_met(MinRevision(None, 5), in_force, 5));
        assert!(!is_met(MinRevision(None, 6), in_force, 5));
        assert!(!is_met(MinRevision(None, 0), None, 5), "no log in force has reached anything");
    }

    #[test]
    fn one_query_too_many_is_given_back_until_there_is_room() {
        let mut waiting = Waiting::new();
        for number in 0..WAITING_MAX as u64 {
            waiting.push(MinRevision(None, number + 1), 500, number).unwrap();
        }
        assert_eq!(waiting.push(MinRevision(None, 1), 500, u64::MAX), Err(u64::MAX));
        assert_eq!(waiting.met(Some(epoch(OLD)), 1), [0]);
        assert_eq!(waiting.push(MinRevision(None, 1), 500, u64::MAX), Ok(()));
    }

    #[test]
    fn those_that_wait_come_out_when_met_or_when_their_time_is_over() {
        let mut waiting = Waiting::new();
        waiting.push(MinRevision(None, 10), 500, "ten").unwrap();
        waiting.push(MinRevision(None, 20), 400, "twenty").unwrap();
        waiting.push(MinRevision(Some(epoch(NEW)), 3), 600, "next epoch").unwrap();
        assert_eq!(waiting.met(Some(epoch(OLD)), 15), ["ten"]);
        assert_eq!(waiting.next_deadline_ms(), Some(400));
        assert_eq!(waiting.expired(400), ["twenty"]);
        assert_eq!(waiting.met(Some(epoch(OLD)), 30), Vec::<&str>::new());
        assert_eq!(waiting.met(Some(epoch(NEW)), 3), ["next epoch"]);
        assert_eq!((waiting.len(), waiting.next_deadline_ms()), (0, None));
    }
}
