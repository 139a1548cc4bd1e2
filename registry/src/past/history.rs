//! What the log holds about one service or instance, folded again as the registries did.
//!
//! The fold of an instance's events depends on no other instance, so the events about it and those about the log as a
//! whole are enough: of a log with millions of events only a few are read. Where the log's head was trimmed, the oldest
//! checkpoint says what was so there.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use muster_schemas::event::{EpochBegan, Event, EventData, EventKind, Sender};
use muster_schemas::subject::Subject;
use muster_schemas::{EpochId, InstanceId, ReplicaId, ServiceName, Subjects, Timestamp};

use super::{Past, PastError, Span};
use crate::core::catalog::checkpoint::Checkpoint;
use crate::core::catalog::{Catalog, Folded, News, Outcome, Reason};
use crate::core::io::Record;

/// What is to be told.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The service,
    pub service: &'a ServiceName,
    /// or one instance of it.
    pub instance: Option<&'a InstanceId>,
    /// Up to this revision; to the end of the log if none is named.
    pub until: Option<u64>,
    /// The newest so many events.
    pub kept_max: usize,
    /// Changes are to be those that consumers were told: all of the service's events are read for that.
    pub exact_changes: bool,
    /// The log in force at the end, and its fold version, if that is known.
    pub in_force: Option<(EpochId, u32)>,
}

/// One event of the log, and what became of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its stream sequence.
    pub sequence: u64,
    /// Its stream time.
    pub at: Timestamp,
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Bytes,
    /// What the fold made of it.
    pub folded: Folded,
    /// It was ignored here for want of an earlier event, which may have been in the part of the log that is gone.
    pub is_doubtful: bool,
}

impl Entry {
    /// The instance that it is about; none if it is about the log as a whole.
    #[must_use]
    pub fn instance(&self, subjects: &Subjects) -> Option<InstanceId> {
        instance_of(subjects, &self.subject)
    }
}

fn instance_of(subjects: &Subjects, subject: &str) -> Option<InstanceId> {
    match subjects.parse(subject) {
        Ok(Subject::Event { target, .. }) => target.map(|(_, instance)| instance),
        _ => None,
    }
}

/// What the log holds about a service or an instance.
#[derive(Debug)]
pub struct History {
    /// The newest events, in order.
    pub entries: VecDeque<Entry>,
    /// How many came before those.
    pub earlier: usize,
    /// How many of all of them are about it, and not about the log as a whole.
    pub about_it: usize,
    /// What the stream holds.
    pub span: Span,
    /// The last revision that was looked at.
    pub until: u64,
    /// From this revision on a checkpoint stands for what was trimmed.
    pub known_from: Option<u64>,
    /// All is there that the events from here on depend on: what the catalog says of the service is right.
    pub is_whole: bool,
    /// The catalog after the last; right about the service, or the instance, only.
    pub catalog: Catalog,
}

impl Past {
    /// Reads and folds the events of a service or of an instance.
    ///
    /// # Errors
    /// [`PastError::NeedsEpoch`]: of a log without its beginning and without checkpoint somebody has to say which it is.
    pub async fn history(&self, wanted: &Wanted<'_>) -> Result<History, PastError> {
        let span = self.span().await?;
        let until = wanted.until.unwrap_or(span.last).min(span.last);
        let mut checkpoint = if span.first > 1 { self.oldest_checkpoint(span).await } else { None };
        let known = checkpoint.as_ref().map(|checkpoint| checkpoint.revision());
        let in_force = match &checkpoint {
            Some(checkpoint) => Some((checkpoint.revision().epoch(), checkpoint.catalog().fold_version())),
            None => wanted.in_force,
        };
        let head = if span.first > 1 { self.head(span, in_force).await? } else { None };
        let mut history = History {
            entries: VecDeque::new(),
            earlier: 0,
            about_it: 0,
            span,
            until,
            known_from: known.map(|known| known.sequence()),
            is_whole: head.is_none(),
            catalog: head.unwrap_or_default(),
        };
        let about = self.subjects.events_about(wanted.service, wanted.instance.filter(|_| !wanted.exact_changes));
        let filter = vec![about, self.subjects.log_wide_events()];
        self.each(filter, span.first, until, |record| {
            history.stand_on(&mut checkpoint, record.sequence);
            history.add(&self.subjects, record, wanted);
            Ok(())
        })
        .await?;
        history.stand_on(&mut checkpoint, until + 1);
        Ok(history)
    }

    /// An empty catalog of the log that was in force at the beginning of what is left; none if what is left holds the beginning
    /// of its log.
    async fn head(&self, span: Span, in_force: Option<(EpochId, u32)>) -> Result<Option<Catalog>, PastError> {
        let (mut epoch, fold_version) = in_force.ok_or(PastError::NeedsEpoch)?;
        let mut followed = BTreeMap::new();
        let epochs = vec![self.subjects.events_of_kind(EventKind::Epoch)];
        self.each(epochs, span.first, span.last, |record| {
            if let Ok(Event { data: EventData::Epoch(began), .. }) =
                Event::parse(&self.subjects, record.subject, record.payload)
            {
                followed.insert(began.epoch, began.previous_epoch);
            }
            Ok(())
        })
        .await?;
        while let Some(previous) = followed.get(&epoch) {
            match previous {
                Some(previous) => epoch = *previous,
                None => return Ok(None),
            }
        }
        Ok(Some(self.empty_catalog(span.first - 1, epoch, fold_version)))
    }

    fn empty_catalog(&self, sequence: u64, epoch: EpochId, fold_version: u32) -> Catalog {
        let mut catalog = Catalog::default();
        let Ok(replica) = ReplicaId::new("head") else { return catalog };
        let namespace = self.subjects.namespace().clone();
        let began = EpochBegan { epoch, previous_epoch: None, namespace, datacenter: None, fold_version };
        let event = Event {
            id: "head".to_owned(),
            source: Sender::Registry(replica),
            time: None,
            data: EventData::Epoch(began),
        };
        let subject = self.subjects.event(EventKind::Epoch, None, &event.source);
        if let Ok(payload) = event.encode(self.subjects.namespace()) {
            let at = Timestamp::from_ms(0);
            catalog.fold(&self.subjects, &Record { sequence, at, subject: &subject, payload: &payload });
        }
        catalog
    }
}

impl History {
    /// From the checkpoint's revision on nothing is doubtful.
    fn stand_on(&mut self, checkpoint: &mut Option<Box<Checkpoint>>, before: u64) {
        if let Some(reached) = checkpoint.take_if(|checkpoint| checkpoint.revision().sequence() < before) {
            self.catalog = reached.catalog().clone();
            self.is_whole = true;
        }
    }

    fn add(&mut self, subjects: &Subjects, record: &Record<'_>, wanted: &Wanted<'_>) {
        let folded = self.catalog.fold(subjects, record);
        // What is known of a log from its beginning on is everything.
        self.is_whole |= matches!(folded.news, News::EpochBegan(_));
        let instance = instance_of(subjects, record.subject);
        if instance.is_some() && wanted.instance.is_some() && instance.as_ref() != wanted.instance {
            return;
        }
        self.about_it += usize::from(instance.is_some());
        self.entries.push_back(Entry {
            sequence: record.sequence,
            at: record.at,
            subject: record.subject.to_owned(),
            payload: Bytes::copy_from_slice(record.payload),
            is_doubtful: !self.is_whole && rests_on_others(folded.outcome),
            folded,
        });
        if self.entries.len() > wanted.kept_max {
            self.entries.pop_front();
            self.earlier += 1;
        }
    }
}

/// Whether an earlier event could have made it another outcome.
fn rests_on_others(outcome: Outcome) -> bool {
    use Reason::{CarryClosed, NoEpoch, NotDue, Superseded, UnknownInstance, WrongEpoch};
    matches!(outcome, Outcome::Ignored(CarryClosed | NoEpoch | NotDue | Superseded | UnknownInstance | WrongEpoch))
}
