//! A consumer's view of one service or of all: applies changes, proves completeness by pulses, repairs itself by snapshots.
//!
//! At every moment each service's list equals the fold of the log at some revision, proven by the digest that came with
//! the change or snapshot that led there (`kept` instances of a lost log aside). What is *verified* beyond that is that
//! nothing has happened since: see `coverage`.

mod answers;
mod changes;
mod pulses;

use std::collections::BTreeSet;

use muster_schemas::pulse::{BUCKETS, bucket};
use muster_schemas::{EpochId, MinRevision, Revision, ServiceName, Timestamp};

use super::asking::Asking;
use super::coverage::Coverage;
use super::gaps::Gaps;
use super::io::{Ask, Effect, Input, Scope};
use super::random::Random;
use crate::snapshot::{Lists, ServiceList, Snapshot, State};

/// How often a view must be told the time.
pub const TICK_MS: u64 = 100;
/// A gap is held so long: another publisher may fill it.
const GAP_MS: u64 = 500;
/// Three periods of the pulse: what was confirmed longer ago is unknown.
pub(super) const PULSES_SPAN_MS: u64 = 6_000;
/// A publisher that has not been at the log's end for longer confirms nothing.
pub(super) const HEAD_AGE_MS_MAX: u64 = 5_000;
/// Not having been run for so long is treated like a disconnect: what waits to be read may be as old.
const PAUSE_MS: u64 = PULSES_SPAN_MS;
/// A newer log of which nothing was heard for so long no longer stands against an older one.
const EPOCH_FORGOTTEN_MS: u64 = 30_000;
/// All consumers of a service find a gap at the same moment: they ask spread over so long.
const GAP_JITTER_MS: u64 = 200;
/// The same for a reconnect, a new epoch, the end of recovery: all consumers of the namespace.
const WIDE_JITTER_MS: u64 = 500;

/// What went on in a view, for tests and for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes that the lists held already.
    pub repeated: u64,
    /// Changes that did not fit when they came.
    pub early: u64,
    /// Changes whose digest was not that of the list.
    pub mismatched: u64,
    /// Snapshots that replaced a list.
    pub resynchronised: u64,
    /// Answers that were older than what the view held, or not right in themselves.
    pub refused: u64,
}

/// The state of one view.
#[derive(Debug)]
pub struct View {
    scope: Scope,
    random: Random,
    last_step_ms: u64,
    connected: bool,
    /// The newest log that was heard of, and when something was heard of it.
    epoch: Option<EpochId>,
    epoch_heard_ms: u64,
    /// A snapshot of that log was taken in.
    in_epoch: bool,
    /// A snapshot was taken in since the last disconnect.
    trusted: bool,
    /// Absence proves nothing in that log yet.
    recovering: bool,
    /// The next request names no revision.
    unconditioned: bool,
    /// The highest revision of that log that was heard of, and the highest that a list holds or is verified through.
    seen: u64,
    reached: u64,
    lists: Lists,
    /// Services in `lists` without instances, until their bucket is verified beyond their end.
    emptied: BTreeSet<ServiceName>,
    gaps: Gaps,
    /// One per bucket in scope.
    coverage: Vec<Coverage>,
    asking: Asking,
    state: State,
    /// As of when the lists were known to be right.
    as_of_ms: Option<u64>,
    last_mismatch_ms: Option<u64>,
    counters: Counters,
}

impl View {
    /// A view that knows nothing, or what was on disk: `cached` lists were right until `since`.
    pub fn new(now_ms: u64, scope: Scope, seed: u64, cached: Option<(Lists, Timestamp)>) -> Self {
        let (mut lists, since) = cached.unwrap_or_else(|| (Lists::new(), timestamp(now_ms)));
        keep_only(&mut lists);
        let buckets = match scope {
            Scope::Everything => usize::from(BUCKETS),
            Scope::Service(_) => 1,
        };
        let mut asking = Asking::new(scope.clone());
        asking.want_whole(now_ms, "the view begins");
        Self {
            scope,
            random: Random::new(seed),
            last_step_ms: now_ms,
            connected: false,
            epoch: None,
            epoch_heard_ms: now_ms,
            in_epoch: false,
            trusted: false,
            recovering: false,
            unconditioned: false,
            seen: 0,
            reached: 0,
            lists,
            emptied: BTreeSet::new(),
            gaps: Gaps::default(),
            coverage: std::iter::repeat_with(Coverage::default).take(buckets).collect(),
            asking,
            state: State::Unknown { since },
            as_of_ms: None,
            last_mismatch_ms: None,
            counters: Counters::default(),
        }
    }

    /// Takes one input in, at a time that never goes back, and adds what is to be done to `effects`.
    pub fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        if now_ms.saturating_sub(self.last_step_ms) > PAUSE_MS {
            self.lose_sight(now_ms, "this process was not running");
        }
        self.last_step_ms = self.last_step_ms.max(now_ms);
        match input {
            Input::Change(change) => self.on_change(now_ms, change, effects),
            Input::Pulse(pulse) => self.on_pulse(now_ms, pulse),
            Input::Answer(ticket, reply) => self.on_answer(now_ms, ticket, reply, effects),
            Input::AskFailed(ticket, failure) => self.asking.fail(now_ms, ticket, failure, &mut self.random),
            Input::Disconnected => {
                self.connected = false;
                self.lose_sight(now_ms, "the connection was lost");
            }
            Input::Connected => self.connected = true,
            Input::SlowConsumer => {
                let due_ms = now_ms + self.random.up_to(GAP_JITTER_MS);
                self.asking.void(due_ms);
                self.asking.want_whole(due_ms, "messages were not read fast enough");
            }
            Input::Tick => {
                self.ask_for_old_gaps(now_ms);
                self.forget_emptied();
            }
        }
        self.ask_what_is_due(now_ms, effects);
        self.judge(now_ms, effects);
    }

    /// What readers get.
    pub fn snapshot(&self) -> Snapshot {
        let through = match &self.scope {
            Scope::Service(service) => self.complete_through(service),
            Scope::Everything => self.coverage.iter().map(|coverage| coverage.through).min().unwrap_or(0),
        };
        Snapshot {
            lists: self.lists.clone(),
            state: self.state,
            revision: self.epoch.map(|epoch| Revision(epoch, through)),
            confirmed_at: self.as_of_ms.map(timestamp),
            serial: 0,
        }
    }

    /// Has heard of a log and taken in a snapshot of it: the lists are more than a memory.
    pub fn is_synchronised(&self) -> bool {
        self.in_epoch
    }

    /// What went on so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn coverage_index(&self, bucket_number: u8) -> Option<usize> {
        match &self.scope {
            Scope::Everything => (bucket_number < BUCKETS).then_some(usize::from(bucket_number)),
            Scope::Service(service) => (bucket(service) == bucket_number).then_some(0),
        }
    }

    /// How far a service's list is known to be right.
    fn complete_through(&self, service: &ServiceName) -> u64 {
        let index = self.coverage_index(bucket(service));
        let covered = index.map_or(0, |index| self.coverage[index].through);
        self.lists.get(service).map_or(0, |list| list.complete_through).max(covered)
    }

    /// Nothing that was heard so far proves anything about the present.
    fn lose_sight(&mut self, now_ms: u64, reason: &'static str) {
        self.trusted = false;
        self.coverage.iter_mut().for_each(Coverage::distrust);
        let jitter_ms = if self.in_epoch { WIDE_JITTER_MS } else { 0 };
        let due_ms = now_ms + self.random.up_to(jitter_ms);
        self.asking.void(due_ms);
        self.asking.want_whole(due_ms, reason);
    }

    /// Whether a log is older than one that somebody spoke of lately. After a silence it may be that everything was
    /// restored from before the newer one began, and that only this view remembers it.
    fn is_past(&self, now_ms: u64, epoch: EpochId) -> bool {
        let is_remembered = now_ms.saturating_sub(self.epoch_heard_ms) < EPOCH_FORGOTTEN_MS;
        self.epoch.is_some_and(|known| epoch < known) && is_remembered
    }

    /// Whether something of this epoch is to be heard. Another one than the one in hand makes the lists a memory.
    fn enter(&mut self, now_ms: u64, epoch: EpochId) -> bool {
        if self.is_past(now_ms, epoch) {
            return false;
        }
        self.epoch_heard_ms = now_ms;
        if self.epoch == Some(epoch) {
            return true;
        }
        if self.epoch.is_some() {
            let due_ms = now_ms + self.random.up_to(WIDE_JITTER_MS);
            self.asking.want_whole(due_ms, "a new log began");
            self.unconditioned = true;
            keep_only(&mut self.lists);
        }
        self.epoch = Some(epoch);
        self.in_epoch = false;
        self.recovering = false;
        self.seen = 0;
        self.reached = 0;
        self.gaps.clear();
        self.coverage.fill_with(Coverage::default);
        true
    }

    fn target(&self, service: &ServiceName) -> Scope {
        Scope::Service(service.clone())
    }

    fn ask_what_is_due(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        while self.connected
            && let Some(due) = self.asking.next_due(now_ms)
        {
            let named = self.epoch.filter(|_| due.conditioned && !self.unconditioned);
            let min_revision = named.map(|epoch| MinRevision(Some(epoch), self.seen));
            effects.push(Effect::Ask(Ask { ticket: due.ticket, target: due.target, min_revision }));
        }
    }

    /// As of when everything in scope is known to be complete; none if it is not known.
    fn verified_as_of(&self, now_ms: u64) -> Option<u64> {
        let may_know = self.connected && self.trusted && self.in_epoch && !self.recovering;
        let earliest = |earliest: u64, coverage: &Coverage| Some(earliest.min(coverage.as_of_ms(now_ms)?));
        if may_know { self.coverage.iter().try_fold(u64::MAX, earliest) } else { None }
    }

    fn judge(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let as_of_ms = self.verified_as_of(now_ms);
        self.as_of_ms = self.as_of_ms.max(as_of_ms);
        let state = match (as_of_ms, self.state) {
            (Some(_), _) => State::Verified,
            (None, State::Verified) => State::Unknown { since: timestamp(self.as_of_ms.unwrap_or(now_ms)) },
            (None, unknown) => unknown,
        };
        if state != self.state {
            self.state = state;
            effects.push(Effect::Judged(state));
        }
    }
}

/// Makes all instances a memory: still shown, but proven by no log.
fn keep_only(lists: &mut Lists) {
    let kept = |list: &ServiceList| ServiceList {
        instances: list.instances.clone(),
        kept: list.instances.keys().cloned().collect(),
        ..ServiceList::default()
    };
    *lists = lists.iter().map(|(service, list)| (service.clone(), kept(list))).collect();
}

/// Milliseconds since 1970 as a time for people.
pub(crate) fn timestamp(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
