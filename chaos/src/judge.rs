//! Everything that the observer knows, and what it makes of it.

use std::collections::{BTreeMap, BTreeSet};

use muster_schemas::{Cause, Subjects};

use crate::deaths::Deaths;
use crate::kind::Kind;
use crate::lines::{Line, ViewLine};
use crate::load::{Flowed, Ledger};
use crate::log::{LogWatch, Removal};
use crate::takeovers::Takeovers;
use crate::time::{Clock, Starved};
use crate::truth::{Truth, Verdict};
use crate::views::Views;

/// A removal is judged when every fault of its time is known.
const JUDGED_AFTER_MS: u64 = 1_000;

/// What the observer knows.
pub(crate) struct Judge {
    pub(crate) clock: Clock,
    pub(crate) starved: Starved,
    pub(crate) truth: Truth,
    pub(crate) log: LogWatch,
    pub(crate) ledger: Ledger,
    pub(crate) views: Views,
    pub(crate) deaths: Deaths,
    pub(crate) takeovers: Takeovers,
    /// By consumer: what it said last, and when.
    pub(crate) latest: BTreeMap<String, (u64, ViewLine)>,
    pub(crate) faults: BTreeMap<Kind, u64>,
    pub(crate) alarms: BTreeMap<String, u64>,
    pub(crate) resyncs: u64,
    pub(crate) converged_ms: Vec<u64>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) not_judged: u64,
    judged_removals: usize,
    seen_alarms: BTreeSet<Vec<u8>>,
}

/// Something that must not be.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// When, in milliseconds since the run began.
    pub at_ms: u64,
    /// What was seen.
    pub what: String,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// No living instance is removed.
    FalseRemovals,
    /// Nor one that only cannot be reached.
    UnreachableRemoved,
    /// What was acknowledged stays in the log.
    LostAcknowledged,
    /// A view that calls itself verified equals the fold of the log.
    SilentDivergence,
    /// Every removal says why.
    Unexplained,
    /// Revisions do not go back, and no change comes twice.
    RevisionsBack,
    /// Once nothing is harmed, all views hold who is alive, and nobody else.
    NotConverged,
    /// Programs end only when they are told to.
    EndedByThemselves,
    /// No log is given up that was not lost.
    NewLogs,
    /// The run itself.
    NotPerformed,
}

impl Promise {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 10] = [
        Self::FalseRemovals,
        Self::UnreachableRemoved,
        Self::LostAcknowledged,
        Self::SilentDivergence,
        Self::Unexplained,
        Self::RevisionsBack,
        Self::NotConverged,
        Self::EndedByThemselves,
        Self::NewLogs,
        Self::NotPerformed,
    ];

    /// What is counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FalseRemovals => "false removals",
            Self::UnreachableRemoved => "unreachable, and removed",
            Self::LostAcknowledged => "lost acknowledged events",
            Self::SilentDivergence => "silent divergence",
            Self::Unexplained => "removals without a reason",
            Self::RevisionsBack => "revisions that went back",
            Self::NotConverged => "checkpoints not reached",
            Self::EndedByThemselves => "programs that ended by themselves",
            Self::NewLogs => "logs given up without need",
            Self::NotPerformed => "faults that could not be done",
        }
    }
}

impl Judge {
    pub(crate) fn new(subjects: Subjects, clock: Clock, starved: Starved) -> Self {
        Self {
            clock,
            starved,
            truth: Truth::default(),
            log: LogWatch::new(subjects, clock),
            ledger: Ledger::default(),
            views: Views::default(),
            deaths: Deaths::default(),
            takeovers: Takeovers::default(),
            latest: BTreeMap::new(),
            faults: BTreeMap::new(),
            alarms: BTreeMap::new(),
            resyncs: 0,
            converged_ms: Vec::new(),
            violations: Vec::new(),
            not_judged: 0,
            judged_removals: 0,
            seen_alarms: BTreeSet::new(),
        }
    }

    /// Says what is wrong, at once.
    pub(crate) fn violated(&mut self, promise: Promise, what: String) {
        let at_ms = self.clock.now_ms();
        println!("{:>8.1} s  VIOLATION, {}: {what}", at_ms as f64 / 1_000.0, promise.as_str());
        self.violations.push(Violation { promise, at_ms, what });
    }

    /// A fault was injected.
    pub(crate) fn injected(&mut self, kind: Kind, whom: &str, lasts_ms: u64) {
        *self.faults.entry(kind).or_default() += 1;
        let number: u64 = self.faults.values().sum();
        let at = self.clock.now_ms() as f64 / 1_000.0;
        let lasting = if lasts_ms > 1 { format!(", for {:.1} s", lasts_ms as f64 / 1_000.0) } else { String::new() };
        println!("{at:>8.1} s  #{number} {}: {whom}{lasting}", kind.as_str());
    }

    /// A consumer printed something.
    pub(crate) fn heard(&mut self, consumer: &str, at_ms: u64, text: &str) {
        match serde_json::from_str(text) {
            Ok(Line::View(view)) => {
                self.views.push(consumer, at_ms, &view);
                self.latest.insert(consumer.to_owned(), (at_ms, view));
            }
            Ok(Line::Change(change)) => {
                if change.cause == "resync" {
                    self.resyncs += 1;
                }
                if change.change == "removed" {
                    self.deaths.told(&change.key, at_ms, &self.truth);
                }
                if let Some(wrong) = self.views.changed(consumer, &change) {
                    self.violated(Promise::RevisionsBack, wrong);
                }
            }
            Err(error) => self.violated(Promise::NotPerformed, format!("{consumer} printed {text:?}: {error}")),
        }
    }

    /// An event of the load was acknowledged.
    pub(crate) fn acknowledged(&mut self, sequence: u64, hash: u64, took_ms: u64, now_ms: u64) {
        let flowed = self.ledger.acknowledged(sequence, hash, took_ms, now_ms);
        self.flowed(flowed);
    }

    /// A change was seen on the wire.
    pub(crate) fn published(&mut self, sequence: u64, now_ms: u64) {
        let flowed = self.ledger.published(sequence, now_ms);
        self.flowed(flowed);
    }

    fn flowed(&mut self, flowed: Option<Flowed>) {
        if let Some(Flowed { sent_ms, published_ms }) = flowed {
            self.takeovers.flowed(sent_ms, published_ms, &self.truth, &self.starved.windows());
        }
    }

    /// A consumer was ended or started.
    pub(crate) fn consumer_restarted(&mut self, consumer: &str) {
        self.views.restarted(consumer);
        self.latest.remove(consumer);
    }

    /// An alarm was raised; the same one comes over every broker.
    pub(crate) fn alarmed(&mut self, kind: &str, payload: &[u8]) {
        // A registry tries at its start whether it may raise alarms at all.
        if payload.is_empty() {
            return;
        }
        if self.seen_alarms.insert(payload.to_vec()) {
            *self.alarms.entry(kind.to_owned()).or_default() += 1;
            println!(
                "{:>8.1} s  alarm {kind}: {}",
                self.clock.now_ms() as f64 / 1_000.0,
                String::from_utf8_lossy(payload)
            );
            if kind == "digest_mismatch" {
                self.violated(Promise::SilentDivergence, String::from_utf8_lossy(payload).into_owned());
            }
        }
    }

    /// Judges what can be judged by now.
    pub(crate) fn judge(&mut self) {
        let now_ms = self.clock.now_ms();
        for wrong in self.views.judge(&self.log, now_ms) {
            self.violated(Promise::SilentDivergence, wrong);
        }
        let ripe = |removal: &&Removal| removal.at_ms + JUDGED_AFTER_MS <= now_ms;
        let removals: Vec<Removal> =
            self.log.removals[self.judged_removals..].iter().take_while(ripe).cloned().collect();
        self.judged_removals += removals.len();
        let starved = self.starved.windows();
        for removal in removals {
            let verdict = match removal.cause {
                Cause::Expired => self.truth.expired(&removal.key, removal.registered_ms, removal.at_ms, &starved),
                _ => self.truth.deregistered(&removal.key, removal.at_ms),
            };
            let promise = match verdict {
                Some(Verdict::Justified) | None => continue,
                Some(Verdict::NotJudged) => {
                    self.not_judged += 1;
                    continue;
                }
                Some(Verdict::Unreachable) => Promise::UnreachableRemoved,
                Some(Verdict::False) => Promise::FalseRemovals,
            };
            let Removal { key, cause, actor, evidence, sequence, at_ms, registered_ms } = removal;
            let evidence = evidence.unwrap_or_default();
            self.violated(
                promise,
                format!(
                    "{key} at {:.1} s ({cause:?} by {actor}, revision {sequence}, registered at {:.1} s): {evidence}",
                    at_ms as f64 / 1_000.0,
                    registered_ms as f64 / 1_000.0
                ),
            );
        }
    }

    /// Every acknowledged event that the log, as far as it was read, does not hold.
    pub(crate) fn lost(&self) -> Vec<u64> {
        let read = self.log.position();
        let lost = |(sequence, hash): &(u64, u64)| *sequence <= read && self.log.hash_at(*sequence) != Some(*hash);
        self.ledger.all().filter(lost).map(|(sequence, _)| sequence).collect()
    }
}
