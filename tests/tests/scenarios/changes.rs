//! Change load without agents, what of it goes over the wire, and how long that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use futures::StreamExt;
use muster_schemas::event::{Event, EventData, Source};
use muster_schemas::{Incarnation, Registration, Subjects};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::stalls::Stalls;
use crate::world::{SOON, World};
use muster_tests::eventually;

/// Instances that the load changes, one after the other.
const INSTANCES: u64 = 10;
/// One value of metadata that only makes an event longer.
const PADDING_BYTES: usize = 1_000;
/// The service that they belong to.
pub(crate) const SERVICE: &str = "load";

/// What was acknowledged: the sequence, and when.
type Acknowledged = Vec<(u64, Instant)>;

/// Registers static instances of one service again and again, until it is stopped.
#[derive(Debug)]
pub(crate) struct ChangeLoad {
    stopped: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    task: JoinHandle<Acknowledged>,
}

impl ChangeLoad {
    /// One event each `period`, each after the one before was acknowledged.
    pub(crate) async fn start(world: &World, period: Duration) -> Self {
        Self::padded(world, period, 0).await
    }

    /// The same with events of at least so many bytes.
    pub(crate) async fn padded(world: &World, period: Duration, bytes: usize) -> Self {
        let (client, subjects) = (world.broker.connect().await, world.subjects().clone());
        let (stopped, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, done) = (stopped.clone(), count.clone());
        let task = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut number = 0;
            while !end.load(Ordering::Relaxed) {
                ticks.tick().await;
                number += 1;
                if let Some(sequence) = append(&client, &subjects, number, bytes).await {
                    acknowledged.push((sequence, Instant::now()));
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            acknowledged
        });
        Self { stopped, count, task }
    }

    /// Waits until so many more events were acknowledged.
    pub(crate) async fn until_more_than(&self, more: u64) {
        let goal = self.count.load(Ordering::Relaxed) + more;
        eventually(format!("{more} more events"), SOON, async || {
            let done = self.count.load(Ordering::Relaxed);
            if done >= goal { Ok(()) } else { Err(format!("{done} of {goal}")) }
        })
        .await;
    }

    /// Ends it; all that was acknowledged, and when.
    pub(crate) async fn stop(self) -> Acknowledged {
        self.stopped.store(true, Ordering::Relaxed);
        self.task.await.expect("the load does not panic")
    }
}

/// The sequence of the load's event of this number, if the broker acknowledges it.
async fn append(client: &Client, subjects: &Subjects, number: u64, bytes: usize) -> Option<u64> {
    let registration = registration(number, bytes);
    let source: Source = Source::Agent(registration.vouching.agent.clone());
    let event = Event { id: format!("load-{number}"), source, time: None, data: EventData::Register(registration) };
    let payload = event.encode(subjects.namespace()).expect("an event");
    let reply = tokio::time::timeout(SOON, client.request(event.subject(subjects), payload.into())).await.ok()?.ok()?;
    serde_json::from_slice::<Value>(&reply.payload).ok()?["seq"].as_u64()
}

fn registration(number: u64, bytes: usize) -> Registration {
    let padding: BTreeMap<String, String> =
        (0..bytes / PADDING_BYTES).map(|key| (format!("padding-{key}"), "x".repeat(PADDING_BYTES))).collect();
    let instance = format!("i{}", number % INSTANCES);
    let value = json!({
        "service": SERVICE, "instance": instance, "agent": "load", "session": "01J00000000000000000000001",
        "incarnation": Incarnation::from_parts(1, u128::from(number)), "generation": 1, "ttl_ms": 0,
        "version": number.to_string(), "metadata": padding,
        "endpoints": [{ "name": "http", "scheme": "http", "host": format!("{instance}.example"), "port": 80 }],
    });
    serde_json::from_value(value).expect("a registration")
}

/// A machine that never lets this test wait for longer has time for it.
const QUIET: Duration = Duration::from_millis(20);

/// Hears changes as they go over the wire, without the consumer library.
#[derive(Debug)]
pub(crate) struct Wire {
    first: Arc<Mutex<BTreeMap<u64, Instant>>>,
    stalls: Stalls,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// Listens to the changes of all services.
    pub(crate) async fn tap(world: &World) -> Self {
        let client = world.broker.connect().await;
        let mut changes = client.subscribe(world.subjects().all_changes()).await.expect("subscribed");
        client.flush().await.expect("flushed");
        let first = Arc::new(Mutex::new(BTreeMap::new()));
        let heard = first.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = changes.next().await {
                // Empty messages are somebody's check of permissions.
                if let Ok(change) = serde_json::from_slice::<Value>(&message.payload)
                    && let Some(revision) = change["revision"].as_u64()
                {
                    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                    heard.entry(revision).or_insert_with(Instant::now);
                }
            }
            drop(client);
        });
        Self { first, stalls: Stalls::start(), task }
    }

    /// The revisions heard so far, with the moment of the first of each.
    pub(crate) fn heard(&self) -> BTreeMap<u64, Instant> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every event of the load was heard as a change; how long the longest took.
    pub(crate) async fn until_all_heard(&self, acknowledged: &Acknowledged) -> Duration {
        eventually("every acknowledged event was published as a change", SOON, async || {
            let heard: BTreeSet<u64> = self.heard().into_keys().collect();
            let missing: Vec<u64> =
                acknowledged.iter().map(|(sequence, _)| *sequence).filter(|it| !heard.contains(it)).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("missing {missing:?}")) }
        })
        .await;
        let heard = self.heard();
        let delays = acknowledged.iter().map(|(sequence, at)| heard[sequence].saturating_duration_since(*at));
        delays.max().unwrap_or_default()
    }

    /// How long the longest may take: a second, but on a machine that had no time for this test meanwhile, less than the
    /// faults last.
    pub(crate) fn longest(&self) -> Duration {
        if self.stalls.worst() < QUIET { Duration::from_millis(1_200) } else { Duration::from_secs(5) }
    }
}
