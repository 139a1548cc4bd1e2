//! Holds what consumers' views say against the fold of the log.

use std::collections::{BTreeMap, VecDeque};

use crate::lines::{ChangeLine, ServiceLine, ViewLine};
use crate::log::{Entry, History, LogWatch};

/// Views that wait for the log to be read; the log is never read so far behind.
const WAITING_MAX: usize = 20_000;

/// By then everything that was stored before a view was seen has been read.
const JUDGED_AFTER_MS: u64 = 2_000;
/// A view is judged by pulses of the last six seconds, and those are of registries that were at the log's end five seconds
/// earlier; the rest is for what the machine takes.
const BEHIND_MS_MAX: u64 = 15_000;

/// Views that have to be judged, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Views {
    waiting: VecDeque<(String, u64, ViewLine)>,
    pub(crate) judged: u64,
    /// By consumer process: the last revision of each instance.
    last: BTreeMap<String, BTreeMap<String, (String, u64)>>,
}

impl Views {
    /// Takes note of a view; one that does not call itself verified promises nothing.
    pub(crate) fn push(&mut self, consumer: &str, at_ms: u64, view: &ViewLine) {
        if view.verified && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((consumer.to_owned(), at_ms, view.clone()));
        }
    }

    /// A consumer began anew.
    pub(crate) fn restarted(&mut self, consumer: &str) {
        self.last.remove(consumer);
    }

    /// What is wrong with a change: its revision went back within an epoch, or it came twice.
    pub(crate) fn changed(&mut self, consumer: &str, change: &ChangeLine) -> Option<String> {
        let epoch = change.epoch.clone().filter(|_| change.cause != "resync")?;
        let place = (epoch, change.sequence);
        let seen = self.last.entry(consumer.to_owned()).or_default();
        let before = seen.insert(change.key.clone(), place.clone())?;
        (before >= place).then(|| format!("{consumer}: {} at {place:?} came after {before:?}", change.key))
    }

    /// What is wrong with the views that can be judged by now.
    pub(crate) fn judge(&mut self, log: &LogWatch, now_ms: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        while let Some((consumer, at_ms, view)) = self.waiting.front() {
            if at_ms + JUDGED_AFTER_MS > now_ms {
                break;
            }
            let lists = view.services.values().map(|list| list.revision);
            if lists.chain([view.sequence]).max().unwrap_or(0) > log.position() {
                break;
            }
            self.judged += 1;
            let next_ms = log.next_stored_ms(view.sequence);
            if let Some(behind_ms) = next_ms.map(|ms| at_ms.saturating_sub(ms)).filter(|ms| *ms > BEHIND_MS_MAX) {
                wrong.push(format!("{consumer}, verified through {}: {behind_ms} ms behind the log", view.sequence));
            }
            if let Some(what) = divergence(view, log) {
                wrong.push(format!("{consumer}, verified through {}: {what}", view.sequence));
            }
            self.waiting.pop_front();
        }
        wrong
    }

    /// How many wait for a log that was not read so far.
    pub(crate) fn unjudged(&self) -> usize {
        self.waiting.len()
    }
}

fn divergence(view: &ViewLine, log: &LogWatch) -> Option<String> {
    let epoch = view.epoch.as_ref()?;
    let Some(history) = log.epochs.get(epoch) else {
        return Some(format!("epoch {epoch} is not in the log"));
    };
    let names = history.keys().chain(view.services.keys());
    names.filter_map(|name| wrong_list(name, view, history)).next()
}

fn wrong_list(name: &str, view: &ViewLine, history: &History) -> Option<String> {
    let none = Vec::new();
    let entries = history.get(name).unwrap_or(&none);
    let due = entries.iter().rev().find(|entry| entry.sequence <= view.sequence);
    let absent = ServiceLine::default();
    let list = view.services.get(name).unwrap_or(&absent);
    if list.instances.is_empty() {
        // Right if it was empty at the view's revision or at any later one.
        let from = due.map_or(0, |entry| entry.sequence);
        let empty = |entry: &Entry| entry.sequence >= from && entry.instances.is_empty();
        let right = due.is_none() || entries.iter().any(empty);
        return (!right).then(|| format!("{name} is empty, and should not be"));
    }
    let Some(same) = entries.iter().rev().find(|entry| entry.sequence == list.revision) else {
        return Some(format!("{name} is of revision {}, at which it did not change", list.revision));
    };
    if due.is_some_and(|due| due.sequence > same.sequence) {
        return Some(format!("{name} is of revision {}, and changed since", list.revision));
    }
    let equal = same.digest == list.digest && same.instances == list.instances;
    (!equal).then(|| format!("{name} at revision {}: {:?}, not {:?}", list.revision, list.instances, same.instances))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64, instances: &[&str]) -> Entry {
        let instances = instances.iter().map(|name| (*name).to_owned()).collect();
        Entry { sequence, digest: sequence.to_string(), instances }
    }

    /// `a` registers at 2, `b` at 4, both are gone at 6 and 7, `c` comes at 9.
    fn history() -> History {
        let entries = vec![entry(2, &["a"]), entry(4, &["a", "b"]), entry(6, &["b"]), entry(7, &[]), entry(9, &["c"])];
        BTreeMap::from([("orders".to_owned(), entries)])
    }

    fn is_wrong(through: u64, revision: u64, instances: &[&str]) -> bool {
        let entry = entry(revision, instances);
        let list = ServiceLine { revision, digest: entry.digest, instances: entry.instances };
        let services = BTreeMap::from([("orders".to_owned(), list)]);
        let view = ViewLine { verified: true, epoch: None, sequence: through, services };
        wrong_list("orders", &view, &history()).is_some()
    }

    #[test]
    fn a_view_is_right_if_it_is_the_fold_at_its_revision_or_later() {
        for (through, revision, instances) in
            [(3, 2, &["a"][..]), (4, 4, &["a", "b"]), (5, 4, &["a", "b"]), (3, 4, &["a", "b"]), (8, 9, &["c"])]
        {
            assert!(!is_wrong(through, revision, instances), "through {through}: {revision}");
        }
        assert!(!is_wrong(1, 0, &[]) && !is_wrong(8, 7, &[]) && !is_wrong(5, 7, &[]));
    }

    #[test]
    fn a_view_that_lags_behind_what_it_calls_verified_or_holds_others_is_wrong() {
        assert!(is_wrong(4, 2, &["a"]), "it changed since");
        assert!(is_wrong(4, 4, &["a"]), "b is missing");
        assert!(is_wrong(4, 4, &["a", "b", "x"]), "x was never there");
        assert!(is_wrong(4, 5, &["a", "b"]), "nothing happened at 5");
        assert!(is_wrong(9, 0, &[]), "c is there");
    }
}
