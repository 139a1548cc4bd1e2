//! Reading what the log holds about one service or instance, and folding it again as the registries did.
//!
//! The fold of an instance's events depends on no other instance, so the events about it and those about the log as a
//! whole are enough: of a log with millions of events only a few are read.

use std::collections::VecDeque;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures::StreamExt;
use muster_registry::core::catalog::{Catalog, Folded};
use muster_registry::core::io::Record;
use muster_schemas::subject::Subject;
use muster_schemas::{InstanceId, ServiceName, Subjects, Timestamp};

use crate::error::CommandError;
use crate::session::Session;

/// One event of the log, and what became of it.
pub(crate) struct Entry {
    /// Its stream sequence.
    pub(crate) sequence: u64,
    /// Its stream time.
    pub(crate) at: Timestamp,
    /// Its subject.
    pub(crate) subject: String,
    /// Its bytes.
    pub(crate) payload: Bytes,
    /// What the fold made of it.
    pub(crate) folded: Folded,
}

/// What the log holds about a service or an instance.
pub(crate) struct History {
    /// The newest events, in order.
    pub(crate) entries: VecDeque<Entry>,
    /// How many came before those.
    pub(crate) earlier: usize,
    /// How many of all of them are about it, and not about the log as a whole.
    pub(crate) about_it: usize,
    /// The catalog after the last.
    pub(crate) catalog: Catalog,
}

/// How many events one request brings.
const BATCH: usize = 512;

/// Reads all that the log holds about a service, or about one instance, and folds it; keeps the newest `kept_max` events.
pub(crate) async fn read(
    session: &Session,
    service: &ServiceName,
    instance: Option<&InstanceId>,
    kept_max: usize,
) -> Result<History, CommandError> {
    let subjects = session.subjects();
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::Failed(format!("the log {} cannot be read: {error}", subjects.stream_name()))
    };
    let context = async_nats::jetstream::new(session.client().clone());
    let stream = context.get_stream_no_info(subjects.stream_name()).await.map_err(|error| failed(&error))?;
    let config = pull::Config {
        filter_subjects: vec![subjects.events_about(service, instance), subjects.log_wide_events()],
        ack_policy: AckPolicy::None,
        inactive_threshold: std::time::Duration::from_secs(10),
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| failed(&error))?;
    let mut left = consumer.cached_info().num_pending;
    let mut history = History { entries: VecDeque::new(), earlier: 0, about_it: 0, catalog: Catalog::default() };
    while left > 0 {
        let mut batch = consumer.fetch().max_messages(BATCH).messages().await.map_err(|error| failed(&error))?;
        let before = left;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| failed(&error))?;
            history.add(subjects, &message, kept_max).map_err(|error| failed(&error))?;
            left = left.saturating_sub(1);
        }
        if left == before {
            break;
        }
    }
    Ok(history)
}

impl History {
    fn add(&mut self, subjects: &Subjects, message: &Message, kept_max: usize) -> Result<(), async_nats::Error> {
        let info = message.info()?;
        let timestamp_ms = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let at = Timestamp::from_ms(timestamp_ms);
        let sequence = info.stream_sequence;
        let record = Record { sequence, at, subject: &message.subject, payload: &message.payload };
        let folded = self.catalog.fold(subjects, &record);
        let entry = Entry {
            sequence,
            at,
            subject: message.subject.to_string(),
            payload: Bytes::copy_from_slice(&message.payload),
            folded,
        };
        self.about_it += usize::from(entry.instance(subjects).is_some());
        self.entries.push_back(entry);
        if self.entries.len() > kept_max {
            self.entries.pop_front();
            self.earlier += 1;
        }
        Ok(())
    }
}

impl Entry {
    /// The instance that it is about; none if it is about the log as a whole.
    pub(crate) fn instance(&self, subjects: &Subjects) -> Option<InstanceId> {
        match subjects.parse(&self.subject) {
            Ok(Subject::Event { target, .. }) => target.map(|(_, instance)| instance),
            _ => None,
        }
    }
}
