//! The consumer: prints what it is told as it happens, and remembers it for the promises.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_discovery::schemas::entry::ProbeResult;
use muster_discovery::{Change, Discovery, Instance, Snapshot, State, Update};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use crate::narrator::Narrator;

/// What is remembered at most: a hundred times what the acts cause. What comes later is printed only.
const REMEMBERED_MAX: usize = 10_000;

/// One thing that the watch delivered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) update: Update,
}

#[derive(Debug, Default)]
struct Memory {
    seen: Mutex<Vec<Seen>>,
    grown: Notify,
}

/// Follows all services.
#[derive(Debug)]
pub(crate) struct LiveWatch {
    discovery: Discovery,
    memory: Arc<Memory>,
    task: JoinHandle<()>,
}

impl LiveWatch {
    /// Connects and follows everything from now on.
    pub(crate) async fn start(broker_url: String, narrator: Narrator) -> Self {
        let discovery = Discovery::connect(broker_url).await;
        let discovery = discovery.unwrap_or_else(|error| panic!("the consumer does not connect: {error}"));
        let mut watch = discovery.watch_all();
        let memory = Arc::new(Memory::default());
        let remember = Arc::clone(&memory);
        let task = tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                let seen = Seen { at: Instant::now(), update };
                narrator.seen(seen.at, &described(&seen.update));
                remember.push(seen);
            }
        });
        Self { discovery, memory, task }
    }

    /// What is seen from here on counts for the next promise.
    pub(crate) fn mark(&self) -> usize {
        self.memory.lock().len()
    }

    /// Everything seen since the mark.
    pub(crate) fn since(&self, mark: usize) -> Vec<Seen> {
        self.memory.lock().get(mark..).unwrap_or_default().to_vec()
    }

    /// The first thing since the mark of which this is true; none if none comes in time.
    pub(crate) async fn first(&self, mark: usize, within: Duration, is_it: impl Fn(&Update) -> bool) -> Option<Seen> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            // Before the look, or what comes between look and wait would be missed.
            let grown = self.memory.grown.notified();
            if let Some(seen) = self.since(mark).into_iter().find(|seen| is_it(&seen.update)) {
                return Some(seen);
            }
            timeout_at(deadline, grown).await.ok()?;
        }
    }

    /// The present list of everything.
    pub(crate) async fn snapshot(&self) -> Arc<Snapshot> {
        self.discovery.all_instances().await.unwrap_or_else(|error| panic!("the consumer has no list: {error}"))
    }
}

impl Drop for LiveWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, seen: Seen) {
        let mut all = self.lock();
        if all.len() < REMEMBERED_MAX {
            all.push(seen);
        }
        drop(all);
        self.grown.notify_waiters();
    }
}

/// `service/instance` of a change.
pub(crate) fn key_of(change: &Change) -> String {
    format!("{}/{}", change.service(), change.id())
}

/// Whether an update removes an instance.
pub(crate) fn is_removal(update: &Update) -> bool {
    matches!(update, Update::Change(Change::Removed { .. }))
}

/// Whether an update says that the list is no longer verified.
pub(crate) fn is_unknown(update: &Update) -> bool {
    matches!(update, Update::State(State::Unknown { .. }))
}

fn described(update: &Update) -> String {
    match update {
        Update::List(list) => format!("list      {} instances, {}", list.len(), list.state()),
        Update::State(state) => format!("state     the list is {state}"),
        Update::Change(change) => {
            let now = change.instance().map(|instance| format!(", {}", condition(instance)));
            let detail = reason(change).map(|reason| format!(" ({reason})"));
            format!(
                "{:<9} {}{}: {} by {}{}",
                change.as_str(),
                key_of(change),
                now.unwrap_or_default(),
                change.cause().as_str(),
                change.actor(),
                detail.unwrap_or_default()
            )
        }
        _ => "something that this demo does not know".to_owned(),
    }
}

fn condition(instance: &Instance) -> &'static str {
    instance.registration.health.status.as_str()
}

/// What convinced whoever caused the change, in a few words.
fn reason(change: &Change) -> Option<String> {
    let evidence = change.evidence()?;
    let words = evidence.detail.clone().or_else(|| evidence.reason.clone());
    let charged = evidence.charged_ms.map(|charged_ms| format!("{charged_ms} ms of lease time used up"));
    let probe = evidence.probe.map(|probe| match probe {
        ProbeResult::NoResponders => "nobody there when asked".to_owned(),
        ProbeResult::Timeout => "no answer when asked".to_owned(),
        ProbeResult::Unlisted => "its agent answers and does not vouch for it".to_owned(),
    });
    let known: Vec<String> = [words, charged, probe].into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_before_the_mark_is_not_found_and_what_comes_later_is() {
        let discovery = Discovery::builder().start_disconnected(true).server("nats://127.0.0.1:1").connect().await;
        let watch = LiveWatch {
            discovery: discovery.expect("it starts without a broker"),
            memory: Arc::default(),
            task: tokio::spawn(async {}),
        };
        let state = || Seen { at: Instant::now(), update: Update::State(State::Verified) };
        watch.memory.push(state());
        let mark = watch.mark();
        let anything = |_: &Update| true;
        assert!(watch.first(mark, Duration::from_millis(20), anything).await.is_none());
        let memory = Arc::clone(&watch.memory);
        let later = tokio::spawn(async move { memory.push(state()) });
        assert!(watch.first(mark, Duration::from_secs(5), anything).await.is_some());
        later.await.expect("it ends");
    }
}
