//! One event into the catalog: time moves, the old is forgotten, the event is judged by its kind.

use std::sync::Arc;

use muster_schemas::event::{EpochBegan, Sender};
use muster_schemas::pulse::CatalogState;
use muster_schemas::{Event, EventData, EventKind, Subjects};

use super::outcome::{Folded, News, Outcome, Reason};
use super::write::Doing;
use super::{Catalog, Epoch, EventMark};
use crate::core::io::Record;

impl Catalog {
    /// Folds one message of the stream. Never fails: what is wrong with an event is its outcome. The caller sees to it that
    /// sequences arrive without holes; one that is not above the revision is ignored and changes nothing at all.
    pub fn fold(&mut self, subjects: &Subjects, record: &Record<'_>) -> Folded {
        if record.sequence <= self.revision {
            return Folded::ignored(Reason::Superseded);
        }
        let parsed = Event::parse(subjects, record.subject, record.payload);
        let id = match &parsed {
            Ok(event) => Some(Arc::from(event.id.as_str())),
            Err(_) => Event::peek_id(record.payload).map(Arc::from),
        };
        self.revision = record.sequence;
        self.last_event = Some(EventMark { id, at: record.at });
        self.stream_time = self.stream_time.max(record.at);
        if self.is_supported() {
            self.forget();
        }
        match parsed {
            Ok(event) => self.fold_event(record, event),
            Err(refusal) => {
                let reason = Reason::from(refusal.kind);
                let mut folded = Folded::ignored(reason);
                folded.notices.extend(self.unreadable_notice(subjects, record, reason, &refusal));
                folded.detail = Some(refusal.to_string());
                folded
            }
        }
    }

    fn fold_event(&mut self, record: &Record<'_>, event: Event) -> Folded {
        let Event { id, source, data, .. } = event;
        let doing = Doing { sequence: record.sequence, kind: data.kind(), sender: &source };
        if let EventData::Epoch(began) = &data {
            return self.fold_epoch(record, began);
        }
        if self.epoch.is_none() {
            return Folded::ignored(Reason::NoEpoch);
        }
        if !self.is_supported() {
            return Folded::ignored(Reason::UnsupportedFoldVersion);
        }
        // What a notice must name, should the event be ignored: cheap clones of names.
        let about = data.target().map(|(service, instance)| (service.clone(), instance.clone()));
        let mut folded = self.fold_data(doing, data);
        if let (Outcome::Ignored(reason), Sender::Agent(agent)) = (folded.outcome, &source) {
            let notice = self.refusal_notice(reason, Some(id), about, folded.detail.as_deref());
            folded.notices.extend(notice.map(|notice| (agent.clone(), notice)));
        }
        folded
    }

    fn fold_data(&mut self, doing: Doing<'_>, data: EventData) -> Folded {
        match data {
            EventData::Register(registration) => self.fold_register(doing, registration),
            EventData::Deregister(deregistration) => self.fold_deregister(doing, &deregistration),
            EventData::Health(report) => self.fold_health(doing, &report),
            EventData::Expire(expiry) => self.fold_expire(doing, &expiry),
            EventData::Intent(intent) => self.fold_intent(doing, &intent),
            EventData::Lapse(lapse) => self.fold_lapse(doing, &lapse),
            EventData::Carry(carried) => self.fold_carry(doing, &carried),
            EventData::Recovered(recovered) => self.fold_recovered(&recovered),
            EventData::Setting(setting) => self.fold_setting(&setting),
            EventData::Epoch(_) => Folded::ignored(Reason::Superseded),
        }
    }

    /// The first epoch of a log is accepted whatever it follows: what it followed may have been lost with its log. Later
    /// ones must follow the one in force and be larger, so the first writer wins.
    fn fold_epoch(&mut self, record: &Record<'_>, began: &EpochBegan) -> Folded {
        if let Some(held) = &self.epoch
            && (began.previous_epoch != Some(held.id) || began.epoch <= held.id)
        {
            return Folded::ignored(Reason::Superseded);
        }
        // A replica that starts here knows nothing of what lies below, so nothing of it may be left: stream time included.
        let began_at = record.at;
        *self = Self {
            epoch: Some(Epoch {
                id: began.epoch,
                previous: began.previous_epoch,
                began_at,
                state: match began.previous_epoch {
                    Some(_) => CatalogState::Recovering,
                    None => CatalogState::Ready,
                },
                fold_version: began.fold_version,
            }),
            revision: self.revision,
            stream_time: began_at,
            last_event: self.last_event.take(),
            ..Self::default()
        };
        let mut folded = Folded::accepted(EventKind::Epoch);
        folded.news = News::EpochBegan(began.epoch);
        folded
    }
}
