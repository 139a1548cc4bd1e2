//! Reading what the log holds about one service or instance, and folding it again as the registries did.
//!
//! The fold of an instance's events depends on no other instance, so the events about it and those about the log as a
//! whole are enough: of a log with millions of events only a few are read.

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use muster_registry::core::catalog::{Catalog, Folded};
use muster_registry::core::io::Record;
use muster_schemas::{InstanceId, ServiceName, Timestamp};

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
    pub(crate) payload: bytes::Bytes,
    /// What the fold made of it.
    pub(crate) folded: Folded,
}

/// How many events one request brings.
const BATCH: usize = 512;

/// All that the log holds about a service, or about one instance, in order, folded; and the catalog at its end.
pub(crate) async fn read(
    session: &Session,
    service: &ServiceName,
    instance: Option<&InstanceId>,
) -> Result<(Vec<Entry>, Catalog), CommandError> {
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
    let total = consumer.cached_info().num_pending;
    let mut catalog = Catalog::default();
    let mut entries = Vec::new();
    while (entries.len() as u64) < total {
        let mut batch = consumer.fetch().max_messages(BATCH).messages().await.map_err(|error| failed(&error))?;
        let before = entries.len();
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| failed(&error))?;
            let info = message.info().map_err(|error| failed(&error))?;
            let timestamp_ms = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
            let at = Timestamp::from_ms(timestamp_ms);
            let sequence = info.stream_sequence;
            let record = Record { sequence, at, subject: &message.subject, payload: &message.payload };
            let folded = catalog.fold(subjects, &record);
            entries.push(Entry {
                sequence,
                at,
                subject: message.subject.to_string(),
                payload: message.payload.clone(),
                folded,
            });
        }
        if entries.len() == before {
            break;
        }
    }
    Ok((entries, catalog))
}
