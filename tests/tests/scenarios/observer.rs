//! A consumer that writes everything down, and checks while it does what must hold of what it sees.
//!
//! Who is alive it takes from the test: whoever was seen routable lives until the test says that it [`dies`](Observer::dies).

// Named, because another test takes this file in under another directory.
#[path = "observer/folding.rs"]
mod folding;
#[path = "observer/record.rs"]
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_discovery::{Change, Discovery, Snapshot, State};
use muster_schemas::{Instance, Subjects};
use tokio::task::JoinHandle;

use crate::world::SOON;
use muster_tests::{NatsServer, eventually};
use record::Record;

/// How often the view itself is looked at, besides everything that the watch delivers.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// Watches everything with the consumer library.
#[derive(Debug)]
pub(crate) struct Observer {
    discovery: Discovery,
    subjects: Subjects,
    record: Arc<Mutex<Record>>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Observer {
    /// Connects and waits for the first verified list.
    pub(crate) async fn start(broker: &NatsServer, subjects: &Subjects) -> Self {
        let discovery = Discovery::connect(broker.url()).await.expect("the observer connects");
        let observer = Self::of(discovery, subjects);
        observer.until_verified().await;
        observer
    }

    /// Watches with what was connected already, without waiting for a list.
    pub(crate) fn of(discovery: Discovery, subjects: &Subjects) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let mut watch = discovery.watch_all();
        let log = record.clone();
        let watching = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                lock(&log).take(update);
            }
        });
        let (log, views) = (record.clone(), discovery.clone());
        let looking = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK_PERIOD);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Ok(snapshot) = views.all_instances().await {
                    lock(&log).look_at(&snapshot);
                }
            }
        });
        Self { discovery, subjects: subjects.clone(), record, tasks: [watching, looking] }
    }

    /// What it has written down so far, unless something in it must not be.
    fn record(&self) -> MutexGuard<'_, Record> {
        let record = lock(&self.record);
        if let Some(breach) = record.breach() {
            let breach = breach.to_owned();
            drop(record);
            panic!("{breach}");
        }
        record
    }

    /// Panics if something was seen that must not be.
    pub(crate) fn sees_no_breach(&self) {
        drop(self.record());
    }

    /// From now on the instance (`service/instance`) may go: the test is about to do something to it.
    pub(crate) fn dies(&self, key: &str) {
        self.record().dies(key);
    }

    /// The changes that it has seen, with their moments, oldest first.
    pub(crate) fn changes(&self) -> Vec<(Instant, Change)> {
        self.record().changes().to_vec()
    }

    /// The changes of one instance (`service/instance`), with their moments.
    pub(crate) fn changes_of(&self, key: &str) -> Vec<(Instant, Change)> {
        let mut changes = self.changes();
        changes.retain(|(_, change)| record::key_of(change) == key);
        changes
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

    /// Waits until the instance is there and may be used; from then on it lives.
    pub(crate) async fn until_routable(&self, service: &str, instance: &str) -> Arc<Instance> {
        let held = self.until(service, instance, "routable", Instance::is_routable).await;
        self.record().lives(&held);
        held
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
            self.sees_no_breach();
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
        eventually("the view is verified", SOON, async || {
            self.sees_no_breach();
            match self.snapshot().await.state() {
                State::Verified => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until the view says that it is unknown.
    pub(crate) async fn until_unknown(&self) {
        eventually("the view is unknown", SOON, async || {
            self.sees_no_breach();
            match self.snapshot().await.state() {
                State::Unknown { .. } => Ok(()),
                State::Verified => Err("verified"),
            }
        })
        .await;
    }

    /// Goes on watching for a time in which nothing that must not be may come to be, and no change of anybody but `those`.
    pub(crate) async fn sees_changes_only_of(&self, those: &[&str], period: Duration) {
        let before = self.changes().len();
        muster_tests::throughout(format!("changes come only of {those:?}"), period, async || {
            let other = |(_, change): &&(Instant, Change)| !those.contains(&record::key_of(change).as_str());
            match self.changes()[before..].iter().find(other) {
                Some((_, change)) => Err(format!("{change:?}")),
                None => Ok(()),
            }
        })
        .await;
    }

    /// Ends the watch; what was verified when must be what the log says:
    ///
    /// * I3: every view that called itself verified equals the fold of the log up to its revision.
    pub(crate) async fn finish(self, broker: &NatsServer) {
        self.until_verified().await;
        folding::the_present_view_equals_the_fold(&self, broker).await;
        let verified = self.record().take_verified();
        folding::all_equal_the_fold(&verified, broker, &self.subjects).await;
    }

    /// The same for a log whose beginning is gone: without the fold.
    pub(crate) async fn finish_without_fold(self) {
        self.until_verified().await;
        self.sees_no_breach();
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
