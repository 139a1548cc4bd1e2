//! A consumer that writes everything down, and the invariants that must hold of what it saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use muster_discovery::{Change, Discovery, Snapshot, State, Update};
use muster_registry::core::catalog::Catalog;
use muster_registry::core::io::Record;
use muster_schemas::{Cause, Instance, Revision, Subjects, Timestamp};
use tokio::task::JoinHandle;

use crate::world::SOON;
use muster_tests::{NatsServer, eventually};

/// One thing that the watch delivered.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When.
    pub(crate) at: Instant,
    /// What.
    pub(crate) update: Update,
}

/// Watches everything with the consumer library.
#[derive(Debug)]
pub(crate) struct Observer {
    discovery: Discovery,
    subjects: Subjects,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Connects and waits for the first verified list.
    pub(crate) async fn start(broker: &NatsServer, subjects: &Subjects) -> Self {
        let observer = Self::start_unready(broker, subjects).await;
        eventually("the observer's view is verified", SOON, async || {
            let snapshot = observer.snapshot().await;
            if snapshot.is_verified() { Ok(()) } else { Err(format!("{:?}", snapshot.state())) }
        })
        .await;
        observer
    }

    /// Connects without waiting for a list.
    pub(crate) async fn start_unready(broker: &NatsServer, subjects: &Subjects) -> Self {
        let discovery = Discovery::connect(broker.url()).await.expect("the observer connects");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut watch = discovery.watch_all();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                let entry = Seen { at: Instant::now(), update };
                log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(entry);
            }
        });
        Self { discovery, subjects: subjects.clone(), seen, task }
    }

    /// Everything that it has seen, oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The changes that it has seen, with their moments.
    pub(crate) fn changes(&self) -> Vec<(Instant, Change)> {
        let change = |seen: Seen| match seen.update {
            Update::Change(change) => Some((seen.at, change)),
            _ => None,
        };
        self.seen().into_iter().filter_map(change).collect()
    }

    /// The changes of one instance (`service/instance`), with their moments.
    pub(crate) fn changes_of(&self, key: &str) -> Vec<(Instant, Change)> {
        let is_it = |change: &Change| format!("{}/{}", change.service(), change.id()) == key;
        self.changes().into_iter().filter(|(_, change)| is_it(change)).collect()
    }

    /// Removals of one instance that it has seen.
    pub(crate) fn removals_of(&self, key: &str) -> Vec<(Instant, Change)> {
        let mut changes = self.changes_of(key);
        changes.retain(|(_, change)| matches!(change, Change::Removed { .. }));
        changes
    }

    /// The present view of everything.
    pub(crate) async fn snapshot(&self) -> Arc<Snapshot> {
        self.discovery.all_instances().await.expect("the observer's view")
    }

    /// Waits until the instance is there and may be used.
    pub(crate) async fn until_routable(&self, service: &str, instance: &str) -> Arc<Instance> {
        self.until(service, instance, "routable", Instance::is_routable).await
    }

    /// Waits until the view is verified and holds the instance in some condition.
    pub(crate) async fn until(
        &self,
        service: &str,
        instance: &str,
        what: &str,
        condition: impl Fn(&Instance) -> bool,
    ) -> Arc<Instance> {
        eventually(format!("{service}/{instance} is {what}"), SOON, async || {
            let snapshot = self.snapshot().await;
            let held = snapshot.instance(service, instance).cloned();
            let seen = || format!("{:?}: {held:?}", snapshot.state());
            held.clone().filter(|held| snapshot.is_verified() && condition(held)).ok_or_else(seen)
        })
        .await
    }

    /// Waits until it sees the instance removed; when, and the change.
    pub(crate) async fn until_removed(&self, service: &str, instance: &str, within: Duration) -> (Instant, Change) {
        let key = format!("{service}/{instance}");
        eventually(format!("{key} is removed"), within, async || {
            let changes = self.changes_of(&key);
            match changes.last() {
                Some((at, change @ Change::Removed { .. })) => Ok((*at, change.clone())),
                last => Err(format!("last change: {last:?}")),
            }
        })
        .await
    }

    /// Waits until the view is verified.
    pub(crate) async fn until_verified(&self) {
        eventually("the view is verified", SOON, async || match self.snapshot().await.state() {
            State::Verified => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Waits until the view says that it is unknown.
    pub(crate) async fn until_unknown(&self) {
        eventually("the view is unknown", SOON, async || match self.snapshot().await.state() {
            State::Unknown { .. } => Ok(()),
            State::Verified => Err("verified"),
        })
        .await;
    }

    /// Ends the watch and checks what must hold of all that was seen.
    ///
    /// * I3: the verified view equals the fold of the log up to its revision;
    /// * I4: every removal carries cause and actor, an expiry also evidence;
    /// * I5: revisions never go back within an epoch, and no change came twice.
    pub(crate) async fn finish(self, broker: &NatsServer) {
        self.until_verified().await;
        self.equals_the_fold(broker).await;
        self.task.abort();
        self.every_removal_is_explained();
        self.revisions_only_rise();
    }

    /// I4.
    pub(crate) fn every_removal_is_explained(&self) {
        for (_, change) in self.changes() {
            let Change::Removed { why, .. } = &change else { continue };
            assert!(!why.actor.is_empty(), "{change} has no actor");
            let proven = why.evidence.as_ref().is_some_and(|evidence| evidence != &Default::default());
            assert!(proven || why.cause != Cause::Expired, "{change} has no evidence");
        }
    }

    /// I5.
    pub(crate) fn revisions_only_rise(&self) {
        let mut last: BTreeMap<String, Revision> = BTreeMap::new();
        for (_, change) in self.changes() {
            if change.cause() == Cause::Resync {
                continue;
            }
            let Some(revision) = change.why().revision else {
                continue;
            };
            let key = format!("{}/{}", change.service(), change.id());
            if let Some(before) = last.insert(key, revision) {
                assert!(before < revision, "{change} at {revision:?} came after {before:?}");
            }
        }
    }

    /// I3: the view, at the revision through which it is verified, equals the fold of the log up to there.
    pub(crate) async fn equals_the_fold(&self, broker: &NatsServer) {
        eventually("the view equals the fold of the log", SOON, async || {
            let snapshot = self.snapshot().await;
            let Some(revision) = snapshot.revision().filter(|_| snapshot.is_verified()) else {
                return Err(format!("no verified revision: {:?}", snapshot.state()));
            };
            let catalog = fold(broker, &self.subjects, u64::MAX).await?;
            // A list may be ahead of what is proven of the others: compared is what is proven to the log's end.
            if catalog.revision() > revision.sequence() {
                return Err(format!("verified through {revision:?}, the log ends at {}", catalog.revision()));
            }
            if catalog.epoch() != Some(revision.epoch()) {
                return Err(format!("the log is in epoch {:?}, the view in {:?}", catalog.epoch(), revision.epoch()));
            }
            compare(&snapshot, &catalog);
            Ok(())
        })
        .await;
    }
}

/// A verified view that differs from the fold is wrong at once; there is nothing to wait for.
fn compare(snapshot: &Snapshot, catalog: &Catalog) {
    let folded: BTreeMap<String, _> = catalog
        .services()
        .filter(|(_, service)| service.total() > 0)
        .map(|(name, service)| (name.to_string(), (service.digest(), service.revision())))
        .collect();
    let viewed: BTreeMap<String, _> =
        snapshot.services().filter_map(|name| Some((name.to_string(), snapshot.digest(name.as_str())?))).collect();
    assert_eq!(viewed, folded, "a view that calls itself verified differs from the fold of the log");
}

/// Folds the whole log up to a sequence. Where it is replicated, the copy that is read may lag behind: that is an error.
///
/// # Errors
/// What kept it from being read.
pub(crate) async fn fold(broker: &NatsServer, subjects: &Subjects, through: u64) -> Result<Catalog, String> {
    let context = async_nats::jetstream::new(broker.connect().await);
    let stream = context.get_stream(subjects.stream_name()).await.map_err(|error| error.to_string())?;
    let config = pull::Config { ack_policy: AckPolicy::None, memory_storage: true, ..pull::Config::default() };
    let last = stream.cached_info().state.last_sequence.min(through);
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let mut left = consumer.cached_info().num_pending;
    let mut catalog = Catalog::default();
    while left > 0 {
        let mut batch = consumer.fetch().max_messages(500).messages().await.map_err(|error| error.to_string())?;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| error.to_string())?;
            let info = message.info().map_err(|error| error.to_string())?;
            left = left.saturating_sub(1);
            if info.stream_sequence > through {
                return Ok(catalog);
            }
            let record = Record {
                sequence: info.stream_sequence,
                at: Timestamp::from_nanoseconds(info.published.unix_timestamp_nanos()),
                subject: &message.subject,
                payload: &message.payload,
            };
            catalog.fold(subjects, &record);
        }
    }
    match catalog.revision() {
        revision if revision < last => Err(format!("the log ends at {last}, and was read to {revision}")),
        _ => Ok(catalog),
    }
}
