//! Holds what consumers' views say against the fold of the log.

use std::collections::{BTreeMap, VecDeque};

use crate::lines::{ChangeLine, ServiceLine, ViewLine};
use crate::log::{Entry, History, LogWatch};

/// Views that wait for the log to be read; the log is never read so far behind.
const WAITING_MAX: usize = 20_000;

/// Views that have to be judged, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Views {
    waiting: VecDeque<(String, ViewLine)>,
    pub(crate) judged: u64,
    /// By consumer process: the last revision of each instance.
    last: BTreeMap<String, BTreeMap<String, (String, u64)>>,
}

impl Views {
    /// Takes note of a view; one that does not call itself verified promises nothing.
    pub(crate) fn push(&mut self, consumer: &str, view: &ViewLine) {
        if view.verified && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((consumer.to_owned(), view.clone()));
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
    pub(crate) fn judge(&mut self, log: &LogWatch) -> Vec<String> {
        let mut wrong = Vec::new();
        while let Some((consumer, view)) = self.waiting.front() {
            let lists = view.services.values().map(|list| list.revision);
            if lists.chain([view.sequence]).max().unwrap_or(0) > log.position() {
                break;
            }
            self.judged += 1;
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
