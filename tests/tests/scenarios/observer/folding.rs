//! What the log says, folded by the registry's own core, and comparing views with it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use muster_registry::core::catalog::Catalog;
use muster_registry::core::io::Record;
use muster_schemas::{Digest, Subjects, Timestamp};
use tokio::time::timeout;

use super::Observer;
use super::record::Verified;
use crate::world::SOON;
use muster_tests::{NatsServer, eventually};

/// Events fetched at a time: the largest ones together must not be more than a broker holds for one connection.
const FETCHED_MAX: usize = 20;
/// A broker that delivers nothing for so long has lost the connection, or given it up.
const NEXT_WITHIN: Duration = Duration::from_secs(5);

/// I3 of now: the view, verified through the log's end, equals the fold of the log.
pub(super) async fn the_present_view_equals_the_fold(observer: &Observer, broker: &NatsServer) {
    eventually("the view equals the fold of the log", 3 * SOON, async || {
        let snapshot = observer.snapshot().await;
        let Some(revision) = snapshot.revision().filter(|_| snapshot.is_verified()) else {
            return Err(format!("no verified revision: {:?}", snapshot.state()));
        };
        let mut catalog = Catalog::default();
        fold(broker, &observer.subjects, |subjects, record| {
            catalog.fold(subjects, &record);
        })
        .await?;
        // A list may be ahead of what is proven of the others: compared is what is proven to the log's end.
        if catalog.revision() > revision.sequence() {
            return Err(format!("verified through {revision:?}, the log ends at {}", catalog.revision()));
        }
        if catalog.epoch() != Some(revision.epoch()) {
            return Err(format!("the log is in epoch {:?}, the view in {:?}", catalog.epoch(), revision.epoch()));
        }
        let viewed: BTreeMap<String, _> =
            snapshot.services().filter_map(|name| Some((name.to_string(), snapshot.digest(name.as_str())?))).collect();
        assert_eq!(viewed, services_of(&catalog), "a view that calls itself verified differs from the fold of the log");
        Ok(())
    })
    .await;
}

/// I3 of then: every view that was verified equals the fold of the log up to its revision, if that is in the log still.
pub(super) async fn all_equal_the_fold(verified: &[Verified], broker: &NatsServer, subjects: &Subjects) {
    let mut wanted: BTreeMap<u64, Vec<&Verified>> = BTreeMap::new();
    for view in verified {
        wanted.entry(view.revision.sequence()).or_default().push(view);
    }
    eventually("the whole log is read", 3 * SOON, async || {
        let mut catalog = Catalog::default();
        fold(broker, subjects, |subjects, record| {
            let sequence = record.sequence;
            catalog.fold(subjects, &record);
            for view in wanted.get(&sequence).into_iter().flatten() {
                if catalog.epoch() == Some(view.revision.epoch()) {
                    let folded = services_of(&catalog);
                    assert_eq!(view.services, folded, "verified through {:?}, and not the fold", view.revision);
                }
            }
        })
        .await
    })
    .await;
}

fn services_of(catalog: &Catalog) -> BTreeMap<String, (Digest, u64)> {
    let with_instances = catalog.services().filter(|(_, service)| service.total() > 0);
    with_instances.map(|(name, service)| (name.to_string(), (service.digest(), service.revision()))).collect()
}

/// Gives every event of the log to `each`, in order. Where it is replicated, the copy that is read may lag behind: that is an
/// error.
///
/// # Errors
/// What kept it from being read.
async fn fold(
    broker: &NatsServer,
    subjects: &Subjects,
    mut each: impl FnMut(&Subjects, Record<'_>),
) -> Result<(), String> {
    let context = async_nats::jetstream::new(broker.connect().await);
    let stream = context.get_stream(subjects.stream_name()).await.map_err(|error| error.to_string())?;
    let config = pull::Config { ack_policy: AckPolicy::None, memory_storage: true, ..pull::Config::default() };
    let last = stream.cached_info().state.last_sequence;
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let mut left = consumer.cached_info().num_pending;
    let mut read = 0;
    while left > 0 {
        let mut batch =
            consumer.fetch().max_messages(FETCHED_MAX).messages().await.map_err(|error| error.to_string())?;
        while let Some(message) = timeout(NEXT_WITHIN, batch.next()).await.map_err(|_| "nothing is delivered")? {
            let message = message.map_err(|error| error.to_string())?;
            let info = message.info().map_err(|error| error.to_string())?;
            left = left.saturating_sub(1);
            read = info.stream_sequence;
            let record = Record {
                sequence: info.stream_sequence,
                at: Timestamp::from_nanoseconds(info.published.unix_timestamp_nanos()),
                subject: &message.subject,
                payload: &message.payload,
            };
            each(subjects, record);
        }
    }
    if read < last { Err(format!("the log ends at {last}, and was read to {read}")) } else { Ok(()) }
}
