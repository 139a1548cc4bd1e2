//! What this replica wants to see in the log: epochs, lapses, carried entries, the end of a recovery, expiries.
//!
//! Nothing is kept as a decision: at every tick with no batch under way the wishes are looked at anew. The oldest replica
//! that is not behind proposes at once, each one after it a second later. What is proposed twice does no harm.

use std::collections::{BTreeMap, VecDeque};

use muster_schemas::entry::Entry;
use muster_schemas::event::{CarriedOver, EpochBegan, Lapse, Recovered, SettingChanged};
use muster_schemas::limits::CARRY_BYTES_MAX;
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Event, EventData, EventKind, Source, Timestamp};

use super::proposals::BATCH_MAX;
use super::snapshot::AGENT_HEARD_MS;
use super::{Awaiting, Phase, Replica};
use crate::core::catalog::{FOLD_VERSION_SETTING, Folded, News, Outcome};
use crate::core::io::{Effects, Severity};

/// The largest entry that fits into a `carry` event beside its envelope.
const CARRIED_BYTES_MAX: usize = CARRY_BYTES_MAX - 1_024;

/// An acknowledgement may come before the event is folded; one that came so often and changed nothing was ignored.
const CARRIED_TIMES_MAX: u32 = 3;

/// What is remembered between proposals.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// When an epoch was last proposed.
    epoch_proposed_ms: Option<u64>,
    /// Since when the epoch in force is known not to be the last word.
    outdated_since_ms: Option<u64>,
    /// Lease clock since the log in force began.
    charged_ms: u64,
    recovered_proposed_ms: Option<u64>,
    fold_proposed_ms: Option<u64>,
    /// Lapses proposed lately: sequence of the intent, and when. Bounded by the batch and the time kept.
    lapses_proposed: BTreeMap<u64, u64>,
    /// Entries of set-aside catalogs that may have to be carried over; bounded by what those hold.
    carry: VecDeque<ToCarry>,
    /// The entries of the batch under way.
    carrying: Vec<ToCarry>,
    /// When an epoch, or the last entry carried over by anybody, was folded.
    carry_progress_ms: u64,
    /// Stream time minus the own clock, at most: the best that an event folded at the log's end has shown.
    stream_offset_ms: Option<i64>,
}

/// An entry that may have to be carried over.
#[derive(Debug, Clone)]
struct ToCarry {
    entry: Entry,
    /// How often the stream has acknowledged it.
    acknowledged: u32,
}

impl Wishes {
    /// Takes note of a folded event.
    pub(super) fn folded(&mut self, now_ms: u64, folded: &Folded) {
        if let News::EpochBegan(_) = folded.news {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend(std::mem::take(&mut self.carrying));
            carry.iter_mut().for_each(|carried| carried.acknowledged = 0);
            *self =
                Self { carry, carry_progress_ms: now_ms, stream_offset_ms: self.stream_offset_ms, ..Self::default() };
        }
        if folded.outcome == Outcome::Accepted(EventKind::Carry) {
            self.carry_progress_ms = now_ms;
        }
    }

    /// An event folded at the log's end shows what the broker's clock says.
    pub(super) fn saw_stream_time(&mut self, now_ms: u64, at: Timestamp) {
        let offset_ms = at.as_ms().saturating_sub_unsigned(now_ms);
        self.stream_offset_ms = Some(self.stream_offset_ms.map_or(offset_ms, |known| known.max(offset_ms)));
    }

    /// Whether something may have to be carried over.
    pub(super) fn carries(&self) -> bool {
        !self.carry.is_empty() || !self.carrying.is_empty()
    }

    /// Leases were charged by this much.
    pub(super) fn charged(&mut self, charged_ms: u64) {
        self.charged_ms = self.charged_ms.saturating_add(charged_ms);
    }
}

impl Replica {
    pub(super) fn propose(&mut self, effects: &mut Effects) {
        let timing = &self.settings.timing;
        if !self.proposals.is_free(self.now_ms, timing) || !self.knows_the_end() {
            return;
        }
        let data = match self.phase {
            Phase::Locating | Phase::Warming { .. } => Vec::new(),
            Phase::Awaiting(awaiting) => self.first_epoch(awaiting).into_iter().collect(),
            Phase::Live => self.wishes_when_live(),
        };
        if data.is_empty() {
            return;
        }
        let events: Vec<_> = data.into_iter().take(BATCH_MAX).map(|data| self.event(data)).collect();
        for event in &events {
            *self.counters.proposed.entry(event.data.kind().token()).or_default() += 1;
        }
        let refused = self.proposals.send(self.now_ms, &events, &self.settings.subjects, effects);
        if !refused.is_empty() {
            // An entry that is too large for an event would come again and again.
            self.wishes.carrying.retain(|carried| carried.entry.canonical_bytes().len() < CARRIED_BYTES_MAX);
        }
        for text in refused {
            self.report(Severity::Warning, text, effects);
        }
    }

    /// Whether the log is what it was, and this replica has been at its end.
    pub(super) fn knows_the_end(&self) -> bool {
        self.continuity.is_connected()
            && self.continuity.suspicion().is_none()
            && self.continuity.end_confirmed_ms().is_some()
    }

    /// Whether this replica may decide about what is in the catalog. One that has not been at the log's end for long may be
    /// cut off from everybody else, while a connection on which it proposes is not.
    pub(super) fn decides(&self) -> bool {
        self.phase == Phase::Live
            && self.knows_the_end()
            && self.head_age_ms().is_some_and(|age_ms| age_ms <= self.settings.timing.head_age_ms_max)
            && self.catalog.is_supported()
            && self.yields_to().is_none()
    }

    fn event(&mut self, data: EventData) -> Event {
        Event {
            id: self.minting.event_id(),
            source: Source::Registry(self.settings.replica.clone()),
            time: Some(self.minting.wall()),
            data,
        }
    }

    pub(super) fn proposed(&mut self, batch: u64, acknowledged: bool) {
        if !self.proposals.answered(batch) {
            return;
        }
        self.liveness.proposed(acknowledged);
        // What the batch held is looked at once more, and dropped when it is no longer lacking; or when it is in the log and
        // is lacking still: the fold does not want it.
        let mut carrying = std::mem::take(&mut self.wishes.carrying);
        carrying.iter_mut().for_each(|carried| carried.acknowledged += u32::from(acknowledged));
        carrying.retain(|carried| carried.acknowledged < CARRIED_TIMES_MAX);
        self.wishes.carry.extend(carrying);
        self.counters.batches_failed += u64::from(!acknowledged);
    }

    /// How long this replica leaves each proposal to those before it; none while it may not propose at all.
    pub(super) fn proposing_delay_ms(&self) -> Option<u64> {
        let timing = &self.settings.timing;
        let rank = self.peers.proposing_rank(self.now_ms, timing)?;
        Some(timing.propose_rank_ms.saturating_mul(rank.into()))
    }

    /// Whether it is the oldest of those that are not behind: what one replica does for all is its own to do.
    pub(super) fn is_first_to_propose(&self) -> bool {
        self.proposing_delay_ms() == Some(0)
    }

    fn may_propose_again(&self, proposed_ms: Option<u64>, after_ms: u64) -> bool {
        proposed_ms.is_none_or(|ms| self.now_ms.saturating_sub(ms) >= after_ms)
    }

    /// The epoch event for a stream in which none is in force. A log that follows a lost one begins at once; one that would
    /// be the first only after whoever knows better could have been heard.
    fn first_epoch(&mut self, awaiting: Awaiting) -> Option<EventData> {
        let timing = &self.settings.timing;
        let at_end = self.continuity.position().is_some_and(|position| position >= awaiting.target);
        let follows_lost = self.known.lost.is_some() || awaiting.after.is_some();
        let listen_ms = if follows_lost { 0 } else { timing.listen_ms };
        let rank = self.peers.rank_with_warming(self.now_ms, timing)?;
        let patience_ms = listen_ms + timing.hedge_ms.saturating_mul(rank.into());
        let waited = self.now_ms.saturating_sub(awaiting.since_ms) >= patience_ms;
        let again = self.may_propose_again(self.wishes.epoch_proposed_ms, timing.epoch_retry_ms);
        if !at_end || !waited || !again || self.somebody_knows_better() {
            return None;
        }
        let previous = awaiting.after.or(self.known.predecessor());
        Some(self.epoch_after(previous))
    }

    fn epoch_after(&mut self, previous: Option<muster_schemas::EpochId>) -> EventData {
        self.wishes.epoch_proposed_ms = Some(self.now_ms);
        let largest = self.known.largest(previous);
        EventData::Epoch(EpochBegan {
            epoch: self.minting.epoch(largest),
            previous_epoch: previous,
            namespace: self.settings.subjects.namespace().clone(),
            datacenter: self.settings.datacenter.clone(),
            fold_version: self.common_fold_version(),
        })
    }

    fn wishes_when_live(&mut self) -> Vec<EventData> {
        let Some(delay_ms) = self.proposing_delay_ms().filter(|_| self.decides()) else {
            return Vec::new();
        };
        if let Some(epoch) = self.successor(delay_ms) {
            return vec![epoch];
        }
        let mut wishes = self.lapses(delay_ms);
        wishes.extend(self.newer_fold(delay_ms));
        wishes.extend(self.recovery(delay_ms));
        wishes.extend(self.expiries(BATCH_MAX.saturating_sub(wishes.len() + 1)));
        self.add_carried(delay_ms, &mut wishes);
        wishes
    }

    /// Another epoch, if somebody knows a larger one than is in force, or if the one in force was begun by someone who did
    /// not know of the log that this replica lost.
    fn successor(&mut self, delay_ms: u64) -> Option<EventData> {
        let in_force = self.catalog.epoch()?;
        let overlooked = self.catalog.previous_epoch().is_none() && !self.aside.is_empty();
        let confirmed_ms = self.continuity.end_confirmed_ms();
        if !overlooked && !self.known.is_outdated(in_force, confirmed_ms) {
            self.wishes.outdated_since_ms = None;
            return None;
        }
        let since_ms = *self.wishes.outdated_since_ms.get_or_insert(self.now_ms);
        let waited = self.now_ms.saturating_sub(since_ms) >= delay_ms;
        let again = self.may_propose_again(self.wishes.epoch_proposed_ms, self.settings.timing.epoch_retry_ms);
        (waited && again).then(|| self.epoch_after(Some(in_force)))
    }

    /// Stream time, as well as it is known here.
    pub(super) fn stream_time(&self) -> Timestamp {
        match self.wishes.stream_offset_ms {
            Some(offset_ms) => Timestamp::from_ms(offset_ms.saturating_add_unsigned(self.now_ms)),
            None => self.minting.wall(),
        }
    }

    fn lapses(&mut self, delay_ms: u64) -> Vec<EventData> {
        let (now_ms, again_ms) = (self.now_ms, self.settings.timing.repropose_ms);
        self.wishes.lapses_proposed.retain(|_, proposed_ms| now_ms.saturating_sub(*proposed_ms) < again_ms);
        let Some(epoch) = self.catalog.epoch() else {
            return Vec::new();
        };
        let due_by = self.stream_time().as_ms().saturating_sub_unsigned(delay_ms);
        let ended = self.catalog.intents_ended_by(Timestamp::from_ms(due_by));
        let proposed = &mut self.wishes.lapses_proposed;
        ended
            .take(BATCH_MAX)
            .filter(|intent| proposed.insert(intent.sequence, now_ms).is_none())
            .map(|intent| {
                EventData::Lapse(Lapse {
                    service: intent.service.clone(),
                    instance: intent.instance.clone(),
                    epoch,
                    ends_sequence: intent.sequence,
                })
            })
            .collect()
    }

    /// The newest fold version that this replica and all others that it hears have.
    fn common_fold_version(&self) -> u32 {
        let known_by_all = |version: &u32| {
            self.peers.alive(self.now_ms, &self.settings.timing).all(|beacon| beacon.fold_versions.contains(version))
        };
        let common = self.fold_versions.iter().copied().filter(known_by_all).max();
        common.unwrap_or(self.catalog.fold_version())
    }

    /// A newer fold, once every live replica has it: one that lacks it could answer nothing any more.
    fn newer_fold(&mut self, delay_ms: u64) -> Option<EventData> {
        let timing = &self.settings.timing;
        let version = self.common_fold_version();
        let again = self.may_propose_again(self.wishes.fold_proposed_ms, timing.repropose_ms + delay_ms);
        if version <= self.catalog.fold_version() || !again {
            return None;
        }
        self.wishes.fold_proposed_ms = Some(self.now_ms);
        Some(EventData::Setting(SettingChanged { name: FOLD_VERSION_SETTING.to_owned(), value: version.into() }))
    }

    /// The end of a recovery: whoever is alive has had the time to say so.
    fn recovery(&mut self, delay_ms: u64) -> Option<EventData> {
        let timing = &self.settings.timing;
        let epoch = self.catalog.epoch()?;
        if self.catalog.state() != CatalogState::Recovering {
            return None;
        }
        let charged = self.wishes.charged_ms >= timing.recover_ms + self.announcing_ms() + delay_ms;
        let carried = self.wishes.carry.is_empty()
            && self.wishes.carrying.is_empty()
            && self.now_ms.saturating_sub(self.wishes.carry_progress_ms) >= timing.repropose_ms;
        let again = self.may_propose_again(self.wishes.recovered_proposed_ms, timing.repropose_ms);
        if !charged || !carried || !again {
            return None;
        }
        self.wishes.recovered_proposed_ms = Some(self.now_ms);
        Some(EventData::Recovered(Recovered { epoch }))
    }

    /// Fills the batch with entries of lost logs that the one in force lacks.
    fn add_carried(&mut self, delay_ms: u64, wishes: &mut Vec<EventData>) {
        let Some(epoch) = self.catalog.epoch().filter(|_| self.catalog.accepts_carry()) else {
            // Too late; or into a log that follows no other, after which another has to come.
            self.wishes.carry.clear();
            if self.catalog.previous_epoch().is_some() {
                self.aside.clear();
            }
            return;
        };
        let idle_ms = self.now_ms.saturating_sub(self.wishes.carry_progress_ms);
        if idle_ms < delay_ms {
            return;
        }
        // The log lost last comes first: what it said later of an instance keeps out what an earlier one said.
        for lost in std::mem::take(&mut self.aside) {
            let earlier = std::mem::take(&mut self.wishes.carry);
            self.wishes.carry = lost.entries().map(|kept| ToCarry { entry: kept.entry, acknowledged: 0 }).collect();
            self.wishes.carry.extend(earlier);
        }
        while wishes.len() < BATCH_MAX {
            let Some(carried) = self.wishes.carry.pop_front() else {
                return;
            };
            if self.catalog.lacks(&carried.entry) {
                let entry = carried.entry.clone();
                self.wishes.carrying.push(carried);
                wishes.push(EventData::Carry(CarriedOver { epoch, entry }));
            }
        }
    }

    /// How long the announcements of all agents take at their pace.
    fn announcing_ms(&self) -> u64 {
        let agents = self.liveness.leases.agents_heard(self.now_ms, AGENT_HEARD_MS);
        let per_second = u64::from(self.settings.timing.announce_per_second.max(1));
        u64::try_from(agents).unwrap_or(u64::MAX).saturating_mul(1_000) / per_second
    }
}
