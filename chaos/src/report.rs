//! What a run has found, as a table and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::judge::{Judge, Promise, Violation};
use crate::kind::Kind;

/// A gap in publishing that is longer is counted.
const LONG_GAP_MS: u64 = 1_000;
/// Violations shown in the table's foot; the JSON has all.
const SHOWN_MAX: usize = 20;

/// Median, 99th percentile and largest of some times, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Half are no longer.
    pub p50_ms: u64,
    /// Ninety-nine of a hundred are no longer.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

impl Times {
    /// Of these.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = u64>) -> Self {
        let mut sorted: Vec<u64> = times.into_iter().collect();
        sorted.sort_unstable();
        let count = sorted.len();
        let at = |percent: usize| sorted.get((count * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        Self { count, p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// How long something took after faults of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct AfterFault {
    /// Which.
    pub kind: Kind,
    /// While brokers, other registries and the machine were left alone.
    pub undisturbed: Times,
    /// All of them.
    pub all: Times,
}

impl AfterFault {
    /// Of faults, each with how long it took and whether that was disturbed; one for each kind.
    fn each(took: &[(Kind, u64, bool)]) -> Vec<Self> {
        let kinds: BTreeSet<Kind> = took.iter().map(|(kind, ..)| *kind).collect();
        let of = |kind: Kind| took.iter().filter(move |(other, ..)| *other == kind);
        kinds
            .into_iter()
            .map(|kind| Self {
                kind,
                undisturbed: Times::of(of(kind).filter(|(.., disturbed)| !disturbed).map(|(_, ms, _)| *ms)),
                all: Times::of(of(kind).map(|(_, ms, _)| *ms)),
            })
            .collect()
    }
}

/// Everything that is told of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the schedule followed from.
    pub seed: u64,
    /// How long it was to be.
    pub minutes: u64,
    /// How long it was, with its last checkpoint.
    pub seconds: u64,
    /// How many faults there were.
    pub faults_total: u64,
    /// How many of each kind.
    pub faults: BTreeMap<Kind, u64>,
    /// What was not done, and why.
    pub not_run: BTreeMap<Kind, String>,
    /// How often each promise was broken.
    pub broken: BTreeMap<Promise, usize>,
    /// All of it.
    pub violations: Vec<Violation>,
    /// Removals of the living for which this machine's own starvation is to blame, or may be.
    pub not_judged: u64,
    /// For how long this program itself did not get to run, in milliseconds, in all.
    pub starved_ms: u64,
    /// Events of the log.
    pub events: u64,
    /// Those that were acknowledged to the load.
    pub acknowledged: usize,
    /// Those whose acknowledgement did not come in time.
    pub unacknowledged: u64,
    /// Removals in the log.
    pub removals: usize,
    /// Views that called themselves verified and were compared with the fold.
    pub views_compared: u64,
    /// From a death to a consumer's being told.
    pub detections: Vec<AfterFault>,
    /// From harming the registry that publishes to the change of an event that was sent after that.
    pub takeovers: Vec<AfterFault>,
    /// How many of the undisturbed of those took longer than a second.
    pub long_takeovers: usize,
    /// From an event's acknowledgement to its change.
    pub publication_gaps: Times,
    /// The same while no broker was harmed.
    pub publication_gaps_brokers_well: Times,
    /// How many of the latter were longer than a second.
    pub long_publication_gaps: usize,
    /// Changes that no replica published; consumers found them by their pulses.
    pub never_published: usize,
    /// From sending an event to its acknowledgement, elections included.
    pub stored_after: Times,
    /// Changes that consumers found by re-synchronising.
    pub repairs: u64,
    /// From the end of all faults to all views being right.
    pub convergence: Times,
    /// Alarms of the registries.
    pub alarms: BTreeMap<String, u64>,
}

impl Report {
    pub(crate) fn of(judge: &Judge, seed: u64, minutes: u64, not_run: BTreeMap<Kind, String>) -> Self {
        let mut broken: BTreeMap<Promise, usize> = Promise::ALL.into_iter().map(|promise| (promise, 0)).collect();
        for violation in &judge.violations {
            *broken.entry(violation.promise).or_default() += 1;
        }
        let gaps = &judge.ledger.gaps;
        let calm =
            || gaps.iter().filter(|(_, at_ms)| !judge.truth.brokers_disturbed(*at_ms)).map(|(gap_ms, _)| *gap_ms);
        let detected = judge.deaths.detected.iter().map(|found| (found.kind, found.took_ms, found.disturbed));
        let takeovers = judge.takeovers.over().iter().map(|over| (over.kind, over.took_ms, over.disturbed));
        let takeovers: Vec<_> = takeovers.collect();
        let is_long = |(_, took_ms, disturbed): &&(Kind, u64, bool)| !disturbed && *took_ms > LONG_GAP_MS;
        Self {
            seed,
            minutes,
            seconds: judge.clock.now_ms() / 1_000,
            faults_total: judge.faults.values().sum(),
            faults: judge.faults.clone(),
            not_run,
            broken,
            violations: judge.violations.clone(),
            not_judged: judge.not_judged,
            starved_ms: judge.starved.windows().iter().map(|(from, until)| until - from).sum(),
            events: judge.log.position(),
            acknowledged: judge.ledger.all().count(),
            unacknowledged: judge.ledger.unacknowledged,
            removals: judge.log.removals.len(),
            views_compared: judge.views.judged,
            detections: AfterFault::each(&detected.collect::<Vec<_>>()),
            long_takeovers: takeovers.iter().filter(is_long).count(),
            takeovers: AfterFault::each(&takeovers),
            publication_gaps: Times::of(gaps.iter().map(|(gap_ms, _)| *gap_ms)),
            publication_gaps_brokers_well: Times::of(calm()),
            long_publication_gaps: calm().filter(|gap_ms| *gap_ms > LONG_GAP_MS).count(),
            never_published: judge.ledger.never_published(),
            stored_after: Times::of(judge.ledger.stored_after.iter().copied()),
            repairs: judge.resyncs,
            convergence: Times::of(judge.converged_ms.iter().copied()),
            alarms: judge.alarms.clone(),
        }
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let table = |header: &[&str]| {
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(header);
            table
        };
        let mut faults = table(&["fault", "times"]);
        for (kind, count) in &self.faults {
            faults.add_row([kind.as_str().to_owned(), count.to_string()]);
        }
        for (kind, why) in &self.not_run {
            faults.add_row([kind.as_str().to_owned(), format!("not run: {why}")]);
        }
        faults.add_row(["all".to_owned(), self.faults_total.to_string()]);
        let mut times = table(&["milliseconds", "count", "p50", "p99", "max"]);
        let mut row = |what: String, of: Times| {
            let cells = [of.p50_ms, of.p99_ms, of.max_ms].map(|ms| ms.to_string());
            times.add_row([what, of.count.to_string()].into_iter().chain(cells));
        };
        for found in &self.detections {
            row(format!("{}: until a consumer is told", found.kind.as_str()), found.undisturbed);
            row(format!("{}: the same, other faults beside it", found.kind.as_str()), found.all);
        }
        for over in &self.takeovers {
            row(format!("publisher, {}: until changes come again", over.kind.as_str()), over.undisturbed);
            row(format!("publisher, {}: the same, other faults beside it", over.kind.as_str()), over.all);
        }
        row("from acknowledgement to change".into(), self.publication_gaps);
        row("the same while brokers are well".into(), self.publication_gaps_brokers_well);
        row("from sending to acknowledgement, elections included".into(), self.stored_after);
        row("from the last fault to all views right".into(), self.convergence);
        let promises = self.broken.iter().map(|(promise, count)| format!("{}: {count}", promise.as_str()));
        let promises: Vec<String> = promises.collect();
        let shown = self.violations.iter().take(SHOWN_MAX).map(|violation| {
            format!("\n{:>8.1} s  {}: {}", violation.at_ms as f64 / 1_000.0, violation.promise.as_str(), violation.what)
        });
        format!(
            "{faults}\n\n{times}\n\n{} events, {} acknowledged to the load, {} not in time, {} removals; {} views compared; \
             {} repairs; {} undisturbed takeovers of a publisher's place above {LONG_GAP_MS} ms, {} gaps above {LONG_GAP_MS} ms \
             while brokers were well, {} changes never published; alarms {:?}; \
             starved for {} ms, {} removals not judged\n\n{}\n{}",
            self.events,
            self.acknowledged,
            self.unacknowledged,
            self.removals,
            self.views_compared,
            self.repairs,
            self.long_takeovers,
            self.long_publication_gaps,
            self.never_published,
            self.alarms,
            self.starved_ms,
            self.not_judged,
            promises.join("\n"),
            shown.collect::<String>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        assert_eq!(Times::of(1..=100), Times { count: 100, p50_ms: 50, p99_ms: 99, max_ms: 100 });
        assert_eq!(Times::of([7]), Times { count: 1, p50_ms: 7, p99_ms: 7, max_ms: 7 });
        assert_eq!(Times::of([]), Times::default());
    }
}
