//! Where what is left of a log begins, and which log was in force there, once its beginning has been trimmed or purged.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::PullConsumer;
use futures::StreamExt;
use muster_registry::core::catalog::Catalog;
use muster_registry::core::io::Record;
use muster_schemas::event::{EpochBegan, Event, EventData, EventKind, Sender};
use muster_schemas::{EpochId, Subjects, Timestamp};

use super::{LogStream, each};
use crate::error::CommandError;
use crate::session::Session;

/// The beginning of what is left of a log.
pub(super) struct Head {
    /// Sequence of the first event that is left.
    pub(super) first_sequence: u64,
    began: Event,
}

impl Head {
    /// None if nothing is missing that an event of the log could depend on.
    pub(super) async fn find(session: &Session, stream: &LogStream) -> Result<Option<Self>, CommandError> {
        let first_sequence = first_sequence(stream).await?;
        if first_sequence == Some(1) {
            return Ok(None);
        }
        let status = session.status().await?;
        let first_sequence = first_sequence.unwrap_or(status.revision + 1);
        if first_sequence == 1 {
            return Ok(None);
        }
        let mut epoch = status.epoch.ok_or_else(|| {
            let reason = status.reason.unwrap_or_else(|| "it is warming up".to_owned());
            CommandError::Failed(format!("registry {} does not know the log yet ({reason}); try again", status.replica))
        })?;
        let followed = epochs(session.subjects(), stream).await?;
        while let Some(previous) = followed.get(&epoch) {
            match previous {
                Some(previous) => epoch = *previous,
                None => return Ok(None),
            }
        }
        let began = EpochBegan {
            epoch,
            previous_epoch: None,
            namespace: session.subjects().namespace().clone(),
            datacenter: None,
            fold_version: status.fold_version,
        };
        let source = Sender::Registry(status.replica);
        let began = Event { id: "head".to_owned(), source, time: None, data: EventData::Epoch(began) };
        Ok(Some(Self { first_sequence, began }))
    }

    /// An empty catalog of the log that was in force at the beginning of what is left.
    pub(super) fn catalog(&self, subjects: &Subjects) -> Result<Catalog, CommandError> {
        let mut catalog = Catalog::default();
        let subject = subjects.event(EventKind::Epoch, None, &self.began.source);
        let payload = self.began.encode(subjects.namespace())?;
        let (sequence, at) = (self.first_sequence - 1, Timestamp::from_ms(0));
        catalog.fold(subjects, &Record { sequence, at, subject: &subject, payload: &payload });
        Ok(catalog)
    }
}

/// None if nothing is left.
async fn first_sequence(stream: &LogStream) -> Result<Option<u64>, CommandError> {
    let consumer: PullConsumer = stream.consumer(Vec::new()).await?;
    if consumer.cached_info().num_pending == 0 {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| stream.unreadable(error);
    let mut first = consumer.fetch().max_messages(1).messages().await.map_err(|error| failed(&error))?;
    match first.next().await {
        Some(Ok(message)) => Ok(Some(message.info().map_err(|error| failed(&error))?.stream_sequence)),
        Some(Err(error)) => Err(failed(&error)),
        None => Ok(None),
    }
}

/// The logs whose beginning is left, each with the one that it followed.
async fn epochs(subjects: &Subjects, stream: &LogStream) -> Result<BTreeMap<EpochId, Option<EpochId>>, CommandError> {
    let consumer = stream.consumer(vec![subjects.events_of_kind(EventKind::Epoch)]).await?;
    let mut epochs = BTreeMap::new();
    each(stream, &consumer, |message| {
        if let Ok(Event { data: EventData::Epoch(began), .. }) =
            Event::parse(subjects, &message.subject, &message.payload)
        {
            epochs.insert(began.epoch, began.previous_epoch);
        }
        Ok(())
    })
    .await?;
    Ok(epochs)
}
