//! Who is alive is known from the faults that were done, never from Muster; and what follows from it for the log.

use std::collections::{BTreeMap, BTreeSet};

use muster_registry::core::catalog::{Folded, News, Outcome};
use muster_schemas::entry::IntentKind;
use muster_schemas::pulse::{CatalogState, Pulse};
use muster_schemas::{AgentId, Cause, Change, ChangeKind, EpochId, EventKind, Instance, Revision, Timestamp};

use super::agents::{Claim, Key, TTL_MS};
use super::link::{NodeId, Role};
use super::registries::{Registry, UNREACHABLE_LIMIT_MS};
use super::stream::Stored;
use super::views::Seen;
use super::world::World;

/// An agent that has been well for so long, with a registry that has been well for `REGISTRY_WELL_MS`, is registered.
const REGISTERED_WITHIN_MS: u64 = TTL_MS + 1_000;
/// A registry that has been well for so long has found out what happened to the log.
const REGISTRY_WELL_MS: u64 = 8_000;
/// A server's agents are heard within so long: of three heartbeats two may be lost.
const HEARD_WITHIN_MS: u64 = 3 * (TTL_MS / 5);
/// A new claim of a connected agent has reached the log within so long.
const CLAIMED_MS: u64 = 100;
/// A log that begins as if none had been before it: what agents claim has to differ from it for two seconds until they are asked,
/// of three heartbeats two may be lost, and they register at a pace.
const BEGUN_WITHOUT_MEMORY_MS: u64 = 2_000 + HEARD_WITHIN_MS + 1_000;
/// How long an agent may take to find out that an eviction has ended.
const FENCED_MS: u64 = 15_000;
/// A registry that has been well for so long has told that a log which it knew lost its tail.
const NOTICED_WITHIN_MS: u64 = 5_000;
/// Registries that have been undisturbed for so long publish every change before the pulse that names it.
const CALM_MS: u64 = 3_000;

/// What the oracle remembers.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// How far hosts' clocks are off; of the last ones run agents that share another's id.
    clocks_ms: BTreeMap<usize, i64>,
    /// Which process was told to take which instance back.
    withdrawn: BTreeSet<(usize, Key)>,
    /// Instances that two owners want, agents that run twice.
    pub(crate) contested: BTreeSet<Key>,
    pub(crate) contested_agents: BTreeSet<AgentId>,
    /// What an operator evicted, and when that was last in force.
    evicted: BTreeMap<Key, u64>,
    /// What an operator put into maintenance, and until when.
    pub(crate) maintained: BTreeMap<Key, Option<Timestamp>>,
    /// How often the log was harmed.
    pub(crate) logs_broken: u64,
    /// When an epoch last began.
    epoch_began_ms: u64,
    /// When something was last done to a registry or to the log.
    disturbed_ms: u64,
    registries_well_since_ms: Option<u64>,
    /// Changes that the log says have to be published, when they were made, and whether they were published.
    changes: BTreeMap<(EpochId, u64), (u64, bool)>,
    pub(crate) seen: Vec<Seen>,
    /// Logs that lost their tails, and who remembers that: registry and life.
    lost: BTreeMap<EpochId, Vec<(usize, u32)>>,
    /// Those of which nobody is left who does.
    forgotten: BTreeSet<EpochId>,
    /// From when to when no route led to a server last.
    healed_ms: BTreeMap<usize, (u64, u64)>,
    /// What lives, and was taken back by an earlier life with a larger incarnation; and when.
    overtaken: BTreeMap<Key, u64>,
}

impl Oracle {
    pub(crate) fn host_clock_ms(&self, host: usize) -> i64 {
        self.clocks_ms.get(&host).copied().unwrap_or(0)
    }

    pub(crate) fn step_host_clock(&mut self, host: usize, by_ms: i64) {
        *self.clocks_ms.entry(host).or_default() += by_ms;
    }

    pub(crate) fn withdrawn(&mut self, process: usize, key: Key) {
        self.withdrawn.insert((process, key));
    }

    pub(crate) fn evicted(&mut self, now_ms: u64, key: Key) {
        self.evicted.insert(key, now_ms);
    }

    pub(crate) fn evicted_ones(&self) -> impl Iterator<Item = Key> {
        self.evicted.keys().cloned()
    }

    pub(crate) fn registry_disturbed(&mut self, now_ms: u64) {
        self.disturbed_ms = now_ms;
        self.registries_well_since_ms = None;
    }

    pub(crate) fn healed(&mut self, server: usize, cut_ms: (u64, u64)) {
        self.healed_ms.insert(server, cut_ms);
    }

    /// Since when nothing of a server can have been heard that no route leads to from now on: routes that led to it for too short
    /// a time before change nothing.
    pub(crate) fn cut_since(&self, now_ms: u64, server: usize) -> u64 {
        let last = self.healed_ms.get(&server);
        last.filter(|(_, healed_ms)| now_ms.saturating_sub(*healed_ms) < HEARD_WITHIN_MS)
            .map_or(now_ms, |(since, _)| *since)
    }

    pub(crate) fn is_calm(&self, now_ms: u64, for_ms: u64) -> bool {
        now_ms.saturating_sub(self.disturbed_ms) > for_ms
    }

    pub(crate) fn consumer_started(&mut self, index: usize) {
        if self.seen.len() <= index {
            self.seen.resize_with(index + 1, Seen::default);
        }
        self.seen[index] = Seen::default();
    }
}

impl World {
    /// After everything that may make a process well or unwell.
    pub(crate) fn look_at_health(&mut self) {
        let now_ms = self.now_ms;
        for index in 0..self.agents.len() {
            let agent = &self.agents[index];
            let sound = self.broker.up && agent.is_connected() && self.links[agent.link.0].is_sound(now_ms);
            let well = sound && self.has_stream(agent.link);
            let (sound_ms, well_ms) =
                (agent.sound_since_ms.unwrap_or(now_ms), agent.healthy_since_ms.unwrap_or(now_ms));
            self.agents[index].sound_since_ms = sound.then_some(sound_ms);
            self.agents[index].healthy_since_ms = well.then_some(well_ms);
        }
        for index in 0..self.registries.len() {
            let since_ms = self.registries[index].well_since_ms.unwrap_or(now_ms);
            self.registries[index].well_since_ms = self.registry_is_well(index).then_some(since_ms);
        }
        let some_well = self.registries.iter().any(|registry| registry.well_since_ms.is_some());
        let since_ms = self.oracle.registries_well_since_ms.unwrap_or(now_ms);
        self.oracle.registries_well_since_ms = some_well.then_some(since_ms);
    }

    fn registry_is_well(&self, index: usize) -> bool {
        let registry = &self.registries[index];
        let roles = [Role::Log, Role::Output, Role::Queries, Role::Proposals];
        registry.process.is_active()
            && roles
                .iter()
                .map(|role| registry.link(*role))
                .all(|link| self.links[link.0].is_sound(self.now_ms) && self.has_stream(link))
    }

    /// Well for so long, without a break.
    fn is_well_for(&self, index: usize, for_ms: u64) -> bool {
        let since_ms = self.agents[index].healthy_since_ms;
        since_ms.is_some_and(|since_ms| self.now_ms.saturating_sub(since_ms) >= for_ms)
    }

    /// The log lost its tail: the registries that had folded it can tell.
    pub(crate) fn remember_tail(&mut self) {
        let Some(end) = self.broker.stream.as_ref().and_then(|stream| stream.catalog.position()) else { return };
        let knows = |index: &usize| {
            let Registry { process, snapshot, .. } = &self.registries[*index];
            process.running && snapshot.epoch == Some(end.epoch()) && snapshot.revision > end.sequence()
        };
        let knowing = (0..self.registries.len()).filter(knows);
        let knowing = knowing.map(|index| (index, self.registries[index].process.life)).collect();
        self.oracle.lost.insert(end.epoch(), knowing);
        self.forget_tail();
    }

    fn epoch_in_force(&self) -> Option<EpochId> {
        self.broker.stream.as_ref()?.catalog.epoch()
    }

    /// A registry ended: perhaps the last that knew of a lost tail.
    pub(crate) fn forget_tail(&mut self) {
        let Some(epoch) = self.epoch_in_force() else { return };
        if self.oracle.lost.contains_key(&epoch) && !self.knows_tail(epoch, |_| true) {
            self.oracle.forgotten.insert(epoch);
            self.coverage.forgotten = 1;
        }
    }

    fn knows_tail(&self, epoch: EpochId, is_such: impl Fn(&Registry) -> bool) -> bool {
        let knowing = self.oracle.lost.get(&epoch).into_iter().flatten();
        knowing
            .map(|(index, life)| (&self.registries[*index], life))
            .any(|(registry, life)| registry.process.running && registry.process.life == *life && is_such(registry))
    }

    /// A log lost its tail, and went on under the same name: until a registry that knew the tail has had the time to say
    /// so, and for ever if none is left, what is said at its revisions is ambiguous.
    pub(crate) fn is_ambiguous(&self, epoch: EpochId) -> bool {
        let noticed = |registry: &Registry| {
            registry.well_since_ms.is_some_and(|since_ms| self.now_ms.saturating_sub(since_ms) >= NOTICED_WITHIN_MS)
        };
        let is_lost = self.oracle.lost.contains_key(&epoch);
        let in_force = self.epoch_in_force() == Some(epoch);
        is_lost && (!in_force || self.oracle.forgotten.contains(&epoch) || !self.knows_tail(epoch, noticed))
    }

    /// An event came into the log: whatever it did has to be right.
    pub(crate) fn judge_event(&mut self, stored: &Stored, folded: &Folded) {
        self.coverage.appended += 1;
        if folded.outcome == Outcome::Accepted(EventKind::Epoch) {
            self.coverage.epochs += 1;
            self.oracle.epoch_began_ms = self.now_ms;
        }
        if let Some(change) = &folded.change {
            let key = (change.epoch, change.revision);
            self.oracle.changes.insert(key, (self.now_ms, false));
            if change.change == ChangeKind::Removed {
                self.judge_removal(stored, change, &folded.news);
            }
        }
        self.judge_presence();
    }

    fn judge_removal(&mut self, stored: &Stored, change: &Change, news: &News) {
        let what = format!("{}/{} at {}", change.service, change.instance, stored.sequence);
        let class = change.actor.split_once('/').map_or("", |(class, _)| class);
        if change.evidence.is_none() || !["agent", "registry", "operator"].contains(&class) {
            return self.fail(format!("I4: {what} was removed without actor or evidence: {change:?}"));
        }
        let News::Instance { before: Some(before), .. } = news else {
            return self.fail(format!("I4: {what} was removed, and was not there"));
        };
        match change.cause {
            Cause::Deregistered => self.judge_deregistration(&what, change, before),
            Cause::Expired | Cause::CarriedOver => self.judge_expiry(&what, change, before, stored),
            Cause::Evicted => {
                let key = (change.service.clone(), change.instance.clone());
                if !self.oracle.evicted.contains_key(&key) {
                    self.fail(format!("I1: {what} was evicted by nobody"));
                }
            }
            cause => self.fail(format!("I4: {what} was removed because of {}", cause.as_str())),
        }
    }

    fn process_of(&self, instance: &Instance) -> Option<usize> {
        let session = &instance.vouching().session;
        self.agents.iter().position(|agent| agent.sessions.contains(session))
    }

    fn judge_deregistration(&mut self, what: &str, change: &Change, before: &Instance) {
        let key = (change.service.clone(), change.instance.clone());
        self.look_for_overtaken(&key, before);
        // A later life of the same agent may end what an earlier one began, and a registry may carry its word over.
        if !self.oracle.withdrawn.iter().any(|(_, withdrawn)| *withdrawn == key) {
            self.fail(format!("I1: {what} was deregistered, and no owner had asked for it"));
        }
    }

    /// An earlier life took it back in a log that was lost before anybody read that; then its clock was set back, and its word
    /// comes once more: a larger incarnation than that of the life that registered since, and nothing in this log shows that it
    /// is the earlier one. Whoever lives is back soon.
    fn look_for_overtaken(&mut self, key: &Key, before: &Instance) {
        let Some(process) = self.process_of(before) else { return };
        let tombstone = self.broker.stream.as_ref().and_then(|stream| stream.catalog.tombstone(&key.0, &key.1));
        let is_earlier = tombstone.is_some_and(|tombstone| {
            let holder = self.agents.iter().position(|agent| agent.sessions.contains(&tombstone.vouching.session));
            holder.is_some_and(|holder| holder < process && !self.agents[holder].process.running)
                && tombstone.vouching.incarnation > before.vouching().incarnation
        });
        if is_earlier && self.agents[process].wants(key) {
            self.oracle.overtaken.insert(key.clone(), self.now_ms);
            self.coverage.overtaken = 1;
        }
    }

    fn judge_expiry(&mut self, what: &str, change: &Change, before: &Instance, stored: &Stored) {
        self.coverage.expired += 1;
        let key = (before.service().clone(), before.id().clone());
        let Some(process) = self.process_of(before) else { return };
        // Whoever has just been claimed anew has not reached the log yet: what was removed is what it was before.
        let wants = self.agents[process].wants_for(&key, self.now_ms, CLAIMED_MS) && !self.is_contested(process, &key);
        if wants && self.is_well_for(process, TTL_MS) {
            self.fail(format!("I1: {what} was removed, and lives in process {process}: {change:?}"));
        }
        let is_fresh = stored.subject.contains(".event.expire.");
        if is_fresh && wants && self.lives_behind_a_cut(process) {
            self.fail(format!("I1: {what} was removed, and lives in process {process} behind a cut: {change:?}"));
        }
    }

    /// Whether it lives where the stream is out of reach, or was until lately, and that for less than the limit: a partition
    /// looks like death, and is not. Whoever went there just before the cut nobody can know to be there.
    fn lives_behind_a_cut(&self, process: usize) -> bool {
        let agent = &self.agents[process];
        let server = self.links[agent.link.0].server;
        let Some(sound_since_ms) = agent.sound_since_ms else { return false };
        // The limit counts from when the server was heard last.
        let limit_ms = UNREACHABLE_LIMIT_MS - HEARD_WITHIN_MS;
        let is_known = |since_ms: u64, until_ms: u64| {
            until_ms.saturating_sub(since_ms) < limit_ms && sound_since_ms + HEARD_WITHIN_MS <= since_ms
        };
        let cut_since_ms = self.servers.isolated.filter(|(isolated, _)| *isolated == server).map(|(_, ms)| ms);
        let healed = self.oracle.healed_ms.get(&server).copied();
        let healed = healed.filter(|(_, healed_ms)| self.now_ms.saturating_sub(*healed_ms) < TTL_MS);
        self.now_ms.saturating_sub(sound_since_ms) >= TTL_MS
            && cut_since_ms.is_none_or(|since_ms| is_known(since_ms, self.now_ms))
            && healed.is_none_or(|(since_ms, healed_ms)| is_known(since_ms, healed_ms))
    }

    fn is_contested(&self, process: usize, key: &Key) -> bool {
        self.oracle.contested.contains(key) || self.oracle.contested_agents.contains(&self.agents[process].id)
    }

    pub(crate) fn is_evicted(&self, key: &Key) -> bool {
        let Some(stream) = &self.broker.stream else { return false };
        stream.catalog.intents_of(&key.0, &key.1).any(|intent| intent.intent == IntentKind::Evict)
    }

    /// Whoever was let in again asks now and then.
    fn was_evicted(&self, key: &Key) -> bool {
        let last_ms = self.oracle.evicted.get(key);
        last_ms.is_some_and(|ms| self.now_ms.saturating_sub(*ms) < FENCED_MS)
    }

    fn was_overtaken(&self, key: &Key) -> bool {
        let at_ms = self.oracle.overtaken.get(key);
        at_ms.is_some_and(|at_ms| self.now_ms.saturating_sub(*at_ms) < REGISTERED_WITHIN_MS)
    }

    fn look_at_evictions(&mut self) {
        let keys: Vec<Key> = self.oracle.evicted_ones().filter(|key| self.is_evicted(key)).collect();
        for key in keys {
            self.oracle.evicted(self.now_ms, key);
        }
    }

    /// Instances that a log which calls itself complete must hold, with the process that each lives in: well for so long,
    /// and confirmed so long ago.
    pub(crate) fn owed(&self, well_ms: u64, confirmed_ms: u64) -> Vec<(usize, Key)> {
        let is_old = |ms: u64| self.now_ms.saturating_sub(ms) >= confirmed_ms;
        let mut owed = Vec::new();
        for index in 0..self.agents.len() {
            if !self.is_well_for(index, well_ms) {
                continue;
            }
            let owns = |claim: &&Claim| claim.is_wanted() && claim.confirmed_ms.is_some_and(is_old);
            for claim in self.agents[index].claims.values().filter(owns) {
                let key = claim.key();
                if !self.is_contested(index, &key) && !self.was_evicted(&key) && !self.was_overtaken(&key) {
                    owed.push((index, key));
                }
            }
        }
        owed
    }

    /// Nobody who lives is missing where absence would prove something.
    pub(crate) fn judge_presence(&mut self) {
        self.look_at_evictions();
        self.judge_intents();
        let Some(stream) = &self.broker.stream else { return };
        let well_ms = self.oracle.registries_well_since_ms.map(|since_ms| self.now_ms.saturating_sub(since_ms));
        if stream.catalog.state() != CatalogState::Ready || well_ms.is_none_or(|ms| ms < REGISTRY_WELL_MS) {
            return;
        }
        // Whoever wrote into it before it began no longer names the lost one, and all registries that knew that may be gone.
        let begun_ms = self.now_ms.saturating_sub(self.oracle.epoch_began_ms);
        if stream.catalog.previous_epoch().is_none() && begun_ms < BEGUN_WITHOUT_MEMORY_MS {
            return;
        }
        if let Some((process, (service, instance))) = self.first_missing() {
            self.fail(format!(
                "I6: {service}/{instance} was confirmed, lives in process {process}, and is not registered"
            ));
        }
    }

    /// Somebody who must be registered by now, and is not.
    fn first_missing(&self) -> Option<(usize, Key)> {
        let stream = self.broker.stream.as_ref()?;
        let is_missing = |(_, key): &(usize, Key)| stream.catalog.instance(&key.0, &key.1).is_none();
        self.owed(REGISTERED_WITHIN_MS, 0).into_iter().find(is_missing)
    }

    /// A replica shows a catalog: some log said exactly that.
    pub(crate) fn judge_replica(&mut self, index: usize) {
        let snapshot = &self.registries[index].snapshot;
        let Some(epoch) = snapshot.epoch else { return };
        let position = Revision(epoch, snapshot.revision);
        if !self.truth.knows(position, snapshot.catalog.digest()) {
            self.fail(format!("I3: r{index} shows at {position:?} what no log ever said"));
        }
    }

    /// Whoever publishes a change, it is the same, byte for byte.
    pub(crate) fn judge_published_change(&mut self, change: &Change, payload: &[u8]) {
        let same = |made: &Change| serde_json::to_vec(made).is_ok_and(|bytes| bytes == payload);
        let facts = self.truth.at(Revision(change.epoch, change.revision));
        if !facts.iter().filter_map(|fact| fact.change.as_ref()).any(|made| same(made)) {
            return self.fail(format!("I3: a change was published that no log made: {change:?}"));
        }
        if let Some((_, published)) = self.oracle.changes.get_mut(&(change.epoch, change.revision)) {
            *published = true;
        }
    }

    /// A pulse says that every change up to its end was sent before it.
    pub(crate) fn judge_published_pulse(&mut self, pulse: &Pulse) {
        // One that has just come to the log's end leaves what it folded on the way to the others.
        let served_ms = self.registries.iter().map(|registry| registry.served_ms).max().unwrap_or(0);
        let calm_since_ms = self.oracle.disturbed_ms.max(served_ms) + CALM_MS;
        if self.now_ms < calm_since_ms {
            return;
        }
        for (service, revision) in &pulse.services {
            // What a lost tail said there was sent once; what the log says now may not have been read yet.
            let said_once = !self.truth.forks_at(Revision(pulse.epoch, *revision));
            let made = self.oracle.changes.get(&(pulse.epoch, *revision)).filter(|_| said_once);
            if made.is_some_and(|(made_ms, published)| *made_ms > calm_since_ms && !published) {
                return self
                    .fail(format!("I3: a pulse names revision {revision} of {service}, and nobody sent that change"));
            }
        }
    }

    /// A pulse says as of when its end was the log's.
    pub(crate) fn judge_pulse_age(&mut self, index: usize, payload: &[u8]) {
        let Ok(pulse) = serde_json::from_slice::<Pulse>(payload) else { return self.fail("a pulse is not understood") };
        let as_of_ms = self.now_ms.saturating_sub(pulse.head_age_ms);
        let end = self.truth.end_at(as_of_ms).filter(|end| end.epoch() == pulse.epoch);
        if end.is_some_and(|end| pulse.to < end.sequence()) {
            self.fail(format!(
                "I3: r{index} sends a pulse through {} as of {as_of_ms}, when the log ended at {end:?}",
                pulse.to
            ));
        }
    }

    /// Whoever touches a registry, its connections or the log.
    pub(crate) fn disturb(&mut self, node: NodeId) {
        if matches!(node, NodeId::Registry(_)) {
            self.oracle.registry_disturbed(self.now_ms);
        }
        self.look_at_health();
    }
}
