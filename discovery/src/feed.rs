//! One view as its readers share it: the present snapshot, without a lock, and what happened since, for watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::change::{Change, Why};
use crate::core::io::Scope;
use crate::snapshot::{Lists, Snapshot, State};

/// What a watch may leave unread, in messages. A watch beyond it goes on from the present snapshot, with the differences
/// to what it delivered last.
const MESSAGES_MAX: usize = 1_024;

/// One step from one list to the next.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Rises by one; a snapshot names the last one that it contains.
    pub(crate) serial: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Change(Change),
    Replaced(Lists, Arc<Why>),
    State(State),
}

/// What a view's readers share.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) scope: Scope,
    snapshot: ArcSwap<Snapshot>,
    messages: broadcast::Sender<Message>,
    /// Whether the first list is there; the flag for those who need not wait.
    listed: watch::Sender<bool>,
    is_listed: AtomicBool,
    /// How long readers wait for it.
    listed_by: Instant,
    /// When it was last asked for, in milliseconds since 1970; [`CLOSED`] when it is no longer fed.
    used_ms: AtomicU64,
}

/// A feed that is no longer fed: whoever finds it opens another.
const CLOSED: u64 = u64::MAX;

impl Feed {
    /// `patience` is how long readers wait for a first list, from now on.
    pub(crate) fn new(scope: Scope, first: Snapshot, patience: Duration) -> Self {
        Self {
            scope,
            snapshot: ArcSwap::from_pointee(first),
            messages: broadcast::Sender::new(MESSAGES_MAX),
            listed: watch::Sender::new(false),
            is_listed: AtomicBool::new(false),
            listed_by: Instant::now() + patience,
            used_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }

    /// Notes that it is in use. False if it is no longer fed.
    pub(crate) fn touch(&self, now_ms: u64) -> bool {
        let used = |used_ms| (used_ms != CLOSED).then_some(now_ms.max(used_ms));
        self.used_ms.fetch_update(Ordering::AcqRel, Ordering::Acquire, used).is_ok()
    }

    /// Closes it if nobody watches it and nobody has asked for it for so long.
    pub(crate) fn close_if_idle(&self, now_ms: u64, idle: Duration) -> bool {
        let used_ms = self.used_ms.load(Ordering::Acquire);
        let age_ms = now_ms.saturating_sub(used_ms);
        if self.messages.receiver_count() > 0 || u128::from(age_ms) < idle.as_millis() {
            return false;
        }
        self.used_ms.compare_exchange(used_ms, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Waits until the first list is there, or for as long as readers have patience.
    pub(crate) async fn listed(&self) {
        if self.is_listed.load(Ordering::Acquire) {
            return;
        }
        let mut listed = self.listed.subscribe();
        let wait = listed.wait_for(|listed| *listed);
        // Out of patience, the snapshot says itself that it is not known.
        drop(tokio::time::timeout_at(self.listed_by, wait).await);
    }

    /// Makes `snapshot` the present one and tells the watches what led to it. Only one task may publish.
    pub(crate) fn publish(&self, mut snapshot: Snapshot, steps: Vec<What>, is_listed: bool) {
        let mut serial = self.snapshot.load().serial;
        let messages = steps.into_iter().map(|what| {
            serial += 1;
            Message { serial, what }
        });
        let messages: Vec<Message> = messages.collect();
        snapshot.serial = serial;
        // The snapshot first: a watch that begins in between finds the messages in it and passes over them.
        self.snapshot.store(Arc::new(snapshot));
        for message in messages {
            // Nobody watching is no error.
            drop(self.messages.send(message));
        }
        if is_listed && !self.is_listed.swap(true, Ordering::AcqRel) {
            self.listed.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_schemas::Timestamp;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn feed() -> Feed {
        Feed::new(Scope::Everything, Snapshot::unknown(Timestamp::from_ms(0)), PATIENCE)
    }

    #[test]
    fn a_feed_is_closed_only_when_nobody_watches_it_and_nobody_asked_for_long() {
        let (feed, minute) = (feed(), Duration::from_secs(60));
        assert!(feed.touch(1_000));
        assert!(!feed.close_if_idle(60_999, minute));
        let watch = feed.subscribe();
        assert!(!feed.close_if_idle(61_000, minute));
        drop(watch);
        assert!(feed.close_if_idle(61_000, minute));
        assert!(!feed.touch(61_001), "whoever comes now opens another");
    }

    #[tokio::test]
    async fn readers_wait_for_the_first_list_only_as_long_as_they_have_patience() {
        let feed = feed();
        feed.listed().await;
        assert!(Instant::now() >= feed.listed_by);
        let began = Instant::now();
        feed.listed().await;
        assert!(began.elapsed() < PATIENCE, "the second reader does not wait again");
    }

    #[tokio::test]
    async fn readers_go_on_as_soon_as_the_first_list_is_there() {
        let feed = feed();
        feed.publish(Snapshot::unknown(Timestamp::from_ms(0)), Vec::new(), true);
        feed.listed().await;
    }
}
