//! The log's events, one by one, into the catalog; and what follows from each at once.

use std::sync::Arc;

use bytes::Bytes;
use muster_schemas::agent::Notice;
use muster_schemas::pulse::CatalogState;
use muster_schemas::subject::Verb;
use muster_schemas::{AgentId, Change, Revision};

use super::continuity::Order;
use super::ring::Publication;
use super::{Awaiting, Phase, Replica, epochs};
use crate::core::catalog::{Folded, News, Outcome, Reason};
use crate::core::io::{Effects, OutgoingKind, Record, Severity};

impl Replica {
    pub(super) fn record(&mut self, reader: u64, record: &Record<'_>, effects: &mut Effects) {
        let order = self.continuity.delivered(self.now_ms, reader, record, &self.settings.timing);
        match (order, self.phase) {
            (Order::Late, _) | (Order::Next, Phase::Locating) => {}
            (Order::Hole, _) => {
                if let Some(reason) = self.continuity.lasting_hole(self.now_ms, &self.settings.timing) {
                    self.broken(&reason, effects);
                }
            }
            (Order::Next, Phase::Awaiting(awaiting)) => self.fold_awaited(awaiting, record, effects),
            (Order::Next, Phase::Warming { .. } | Phase::Live) => self.fold(record, effects),
        }
        self.snapshot_changed = true;
    }

    /// Before an epoch is in force only an acceptable one is folded.
    fn fold_awaited(&mut self, awaiting: Awaiting, record: &Record<'_>, effects: &mut Effects) {
        let began = epochs::read(&self.settings.subjects, record);
        if began.is_none_or(|began| !epochs::succeeds(awaiting.after, &began)) {
            self.count(Outcome::Ignored(Reason::NoEpoch));
            return;
        }
        self.phase = Phase::Warming { target: awaiting.target };
        self.continuity.watch_epochs(false);
        self.fold(record, effects);
    }

    fn fold(&mut self, record: &Record<'_>, effects: &mut Effects) {
        // A clone is cheap, but makes the next write copy: only what may be set aside is cloned.
        let before = record.subject.starts_with(&self.epoch_prefix).then(|| self.catalog.clone());
        let folded = self.catalog.fold(&self.settings.subjects, record);
        self.count(folded.outcome);
        if let News::EpochBegan(epoch) = folded.news {
            let before = before.unwrap_or_default();
            self.known.lose(before.epoch());
            self.set_aside(before);
            self.begin_publishing(record.sequence);
            self.report(Severity::Info, format!("epoch {epoch} began at {}", record.sequence), effects);
        }
        self.liveness.leases.folded(&self.catalog, &folded);
        self.wishes.folded(self.now_ms, &folded);
        if let Some(change) = &folded.change {
            self.pulses.changed(self.now_ms, change.revision, &change.service);
        }
        if self.remembers() {
            self.compare_with_memory(record, effects);
        }
        match self.phase {
            Phase::Live => self.follow_up(record, folded, effects),
            Phase::Warming { target } if record.sequence >= target => self.go_live(effects),
            _ => {}
        }
    }

    fn count(&mut self, outcome: Outcome) {
        *self.counters.outcomes.entry(outcome.as_str()).or_default() += 1;
    }

    pub(super) fn go_live(&mut self, effects: &mut Effects) {
        self.phase = Phase::Live;
        self.checkpoints.went_live(self.now_ms, &self.settings.timing);
        self.use_memory(effects);
        self.pulses.spread(self.now_ms, &self.settings.timing);
        let text = format!("at the log's end with revision {}", self.catalog.revision());
        self.report(Severity::Info, text, effects);
    }

    /// What an event entails at a replica that is at the log's end.
    fn follow_up(&mut self, record: &Record<'_>, folded: Folded, effects: &mut Effects) {
        self.wishes.saw_stream_time(self.now_ms, record.at);
        if let Some(change) = folded.change {
            self.tell_removal(&change, effects);
            self.take_change(&change, folded.value_bytes.as_deref(), effects);
        }
        if self.rank == Some(0) {
            for (agent, notice) in folded.notices {
                self.note_displaced(&agent, &notice);
                self.send_notice(&agent, &notice, effects);
            }
        }
    }

    fn take_change(&mut self, change: &Arc<Change>, value: Option<&[u8]>, effects: &mut Effects) {
        let revision = Revision(change.epoch, change.revision);
        if self.ring.was_seen(revision) {
            self.counters.changes_seen += 1;
            return;
        }
        let publication = Publication {
            revision,
            subject: self.settings.subjects.change(&change.service),
            payload: Bytes::from(change.encode(value)),
        };
        self.ring.hold(self.now_ms, publication);
        if self.rank == Some(0) {
            self.send_due_changes(effects);
        }
    }

    pub(super) fn send_notice(&mut self, agent: &AgentId, notice: &Notice, effects: &mut Effects) {
        self.counters.notices_sent += 1;
        let subject = self.settings.subjects.to_agent(agent, Verb::Notice);
        self.send(OutgoingKind::Notice, subject, notice, effects);
    }

    /// The state that this replica shows to others.
    pub(super) fn state(&self) -> CatalogState {
        match self.phase {
            Phase::Live if self.yields_to().is_none() => self.catalog.state(),
            _ => CatalogState::Warming,
        }
    }
}
