//! A consumer's view of one service or of all: applies changes, proves completeness by pulses, repairs itself by snapshots.
//!
//! At every moment each service's list equals the fold of the log at some revision, proven by the digest that came with
//! the change or snapshot that led there (`kept` instances of a lost log aside). What is *verified* beyond that is that
//! nothing has happened since: see [`Coverage`].

mod answers;

use std::collections::BTreeSet;

use muster_schemas::change::Change as WireChange;
use muster_schemas::pulse::{BUCKETS, CatalogState, Pulse, bucket};
use muster_schemas::{Digest, EpochId, MinRevision, Revision, ServiceName, Timestamp, WIRE_VERSION};

use super::asking::Asking;
use super::coverage::{Coverage, HeldPulse};
use super::gaps::Gaps;
use super::io::{Ask, Effect, Input, Scope};
use super::random::Random;
use crate::change::{Change, Why, differ};
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
/// All consumers of a service find a gap at the same moment: they ask spread over so long.
const GAP_JITTER_MS: u64 = 200;
/// The same for a reconnect, a new epoch, the end of recovery: all consumers of the namespace.
const WIDE_JITTER_MS: u64 = 500;
/// A second mismatch within this time is not a mishap: no longer asked at once.
const MISMATCH_PAUSE_MS: u64 = 1_000;

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
    /// The newest log that was heard of.
    epoch: Option<EpochId>,
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

    /// Whether something of this epoch is to be heard. A newer one than known makes the lists a memory.
    fn enter(&mut self, now_ms: u64, epoch: EpochId) -> bool {
        match self.epoch {
            Some(known) if epoch < known => return false,
            Some(known) if epoch == known => return true,
            Some(_) => {
                let due_ms = now_ms + self.random.up_to(WIDE_JITTER_MS);
                self.asking.want_whole(due_ms, "a new log began");
                self.unconditioned = true;
                keep_only(&mut self.lists);
            }
            None => {}
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

    fn on_change(&mut self, now_ms: u64, change: Box<WireChange>, effects: &mut Vec<Effect>) {
        let sound = change.v == WIRE_VERSION && is_sound(&change) && self.scope.covers(&change.service);
        if !sound || !self.enter(now_ms, change.epoch) {
            return;
        }
        self.seen = self.seen.max(change.revision);
        let service = change.service.clone();
        match self.judge_change(&change) {
            Verdict::Repeated => self.counters.repeated += 1,
            Verdict::Follows => {
                self.apply(now_ms, &change, effects);
                self.apply_held(now_ms, &service, effects);
            }
            Verdict::Early => {
                self.counters.early += 1;
                if !self.gaps.hold(now_ms, change) {
                    self.asking.want_whole(now_ms, "too many changes out of order");
                }
            }
            Verdict::Contradicts => self.mismatch(now_ms, &service),
        }
    }

    fn judge_change(&self, change: &WireChange) -> Verdict {
        let list = self.lists.get(&change.service).filter(|list| list.proven() > 0);
        let listed = list.map_or(0, |list| list.revision);
        if change.revision <= self.complete_through(&change.service) {
            // Everything through there was said to be in the list; a change that is not can only mean that it was wrong.
            let new = list.is_some() && change.revision > listed;
            return if new { Verdict::Contradicts } else { Verdict::Repeated };
        }
        // 0 says that the service had no instance, so it fits any empty list, whatever happened to the service before.
        if change.previous_revision == listed { Verdict::Follows } else { Verdict::Early }
    }

    /// Applies a change that follows, if the digest afterwards is the one that it names.
    fn apply(&mut self, now_ms: u64, change: &WireChange, effects: &mut Vec<Effect>) {
        let mut list = self.lists.get(&change.service).cloned().unwrap_or_default();
        let before = list.instances.get(&change.instance).cloned();
        let was_kept = list.kept.contains(&change.instance);
        let item = |modified_revision| Digest::of_instance(&change.instance, modified_revision);
        if let Some(before) = before.as_ref().filter(|_| !was_kept) {
            list.digest = list.digest.minus(item(before.modified_revision));
        }
        if let Some(value) = &change.value {
            list.digest = list.digest.plus(item(value.modified_revision));
        }
        if list.digest != change.digest {
            self.mismatch(now_ms, &change.service);
            return;
        }
        list.revision = change.revision;
        list.complete_through = change.revision;
        list.kept.remove(&change.instance);
        match &change.value {
            Some(value) => drop(list.instances.insert(change.instance.clone(), value.clone())),
            None => drop(list.instances.remove(&change.instance)),
        }
        self.store(&change.service, list);
        self.reached = self.reached.max(change.revision);
        let same =
            matches!((&before, &change.value), (Some(before), Some(after)) if was_kept && !differ(before, after));
        if !same {
            let delivered = Change::between(before, change.value.clone(), || Why::of(change).into());
            effects.extend(delivered.map(Effect::Changed));
        }
    }

    fn store(&mut self, service: &ServiceName, list: ServiceList) {
        if list.instances.is_empty() && self.scope == Scope::Everything {
            self.emptied.insert(service.clone());
        }
        self.lists.insert(service.clone(), list);
    }

    /// An empty list says nothing more once its bucket is verified beyond it: names do not pile up.
    fn forget_emptied(&mut self) {
        for service in std::mem::take(&mut self.emptied) {
            let covered = self.coverage_index(bucket(&service)).map_or(0, |index| self.coverage[index].through);
            match self.lists.get(&service) {
                Some(list) if !list.instances.is_empty() => {}
                Some(list) if list.complete_through > covered => drop(self.emptied.insert(service)),
                _ => drop(self.lists.remove(&service)),
            }
        }
    }

    /// Applies what was held for a service, as far as it follows now, and looks at the pulses that waited for it.
    fn apply_held(&mut self, now_ms: u64, service: &ServiceName, effects: &mut Vec<Effect>) {
        if self.gaps.contains(service) {
            while let Some(next) = self.gaps.next(service, self.complete_through(service)) {
                let next = next.clone();
                if self.judge_change(&next) != Verdict::Follows {
                    break;
                }
                self.gaps.take(service);
                self.apply(now_ms, &next, effects);
            }
            self.gaps.moved(now_ms, service, self.complete_through(service));
        }
        if let Some(index) = self.coverage_index(bucket(service)) {
            self.advance(now_ms, index);
        }
    }

    /// The list is not what the registry holds: ask at once, and believe nothing that was built on it.
    fn mismatch(&mut self, now_ms: u64, service: &ServiceName) {
        self.counters.mismatched += 1;
        self.gaps.drop_service(service);
        let again = self.last_mismatch_ms.is_some_and(|last| now_ms.saturating_sub(last) < MISMATCH_PAUSE_MS);
        self.last_mismatch_ms = Some(now_ms);
        let wait_ms = if again { self.random.up_to(MISMATCH_PAUSE_MS) } else { 0 };
        self.asking.want(self.target(service), now_ms + wait_ms, "a digest differed");
    }

    fn target(&self, service: &ServiceName) -> Scope {
        Scope::Service(service.clone())
    }

    fn on_pulse(&mut self, now_ms: u64, pulse: Pulse) {
        let Some(index) = self.coverage_index(pulse.bucket) else {
            return;
        };
        if pulse.v != WIRE_VERSION || pulse.state == CatalogState::Warming || !self.enter(now_ms, pulse.epoch) {
            return;
        }
        self.asking.hasten(now_ms, &mut self.random);
        self.seen = self.seen.max(pulse.to);
        if !self.in_epoch {
            return;
        }
        let is_news = pulse.to >= self.coverage[index].through;
        if self.recovering && pulse.state == CatalogState::Ready && is_news && !self.asking.is_wanted(&self.scope) {
            let due_ms = now_ms + self.random.up_to(WIDE_JITTER_MS);
            self.asking.want_whole(due_ms, "the log has recovered");
        }
        let (number, scope) = (pulse.bucket, &self.scope);
        let in_scope = |(name, _): &(ServiceName, u64)| scope.covers(name) && bucket(name) == number;
        self.coverage[index].hold(HeldPulse {
            from: pulse.from,
            to: pulse.to,
            services: pulse.services.into_iter().filter(in_scope).collect(),
            head_age_ms: pulse.head_age_ms,
            received_ms: now_ms,
        });
        self.advance(now_ms, index);
    }

    /// Lets a bucket go as far as its pulses and the lists allow, and notes what it waits for.
    fn advance(&mut self, now_ms: u64, index: usize) {
        let lists = &self.lists;
        let complete_through = |service: &ServiceName| lists.get(service).map_or(0, |list| list.complete_through);
        self.coverage[index].advance(now_ms, complete_through);
        self.reached = self.reached.max(self.coverage[index].through);
        for (service, revision) in self.coverage[index].awaited() {
            if complete_through(service) < *revision {
                self.gaps.need(now_ms, service, *revision);
            }
        }
    }

    fn ask_for_old_gaps(&mut self, now_ms: u64) {
        let is_old =
            |coverage: &Coverage| coverage.gap_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= GAP_MS);
        if self.coverage.iter().any(is_old) && !self.asking.is_wanted(&self.scope) {
            let due_ms = now_ms + self.random.up_to(GAP_JITTER_MS);
            self.asking.want_whole(due_ms, "pulses were missed");
        }
        let targets: Vec<Scope> = self.gaps.older_than(now_ms, GAP_MS).map(|service| self.target(service)).collect();
        for target in targets {
            if !self.asking.is_wanted(&target) {
                let due_ms = now_ms + self.random.up_to(GAP_JITTER_MS);
                self.asking.want(target, due_ms, "changes were missed");
            }
        }
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

/// What to do with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The list holds it.
    Repeated,
    /// It is the next.
    Follows,
    /// Something is missing before it.
    Early,
    /// It should have been in the list.
    Contradicts,
}

/// Whether a change says the same in its own fields and in its value.
fn is_sound(change: &WireChange) -> bool {
    use muster_schemas::ChangeKind::Removed;
    match &change.value {
        Some(value) => change.change != Removed && *value.service() == change.service && *value.id() == change.instance,
        None => change.change == Removed,
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
