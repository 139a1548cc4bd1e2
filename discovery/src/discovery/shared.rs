//! What all clones of a `Discovery` share: the feeds, and where they come from.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use imbl::OrdMap;
use muster_schemas::Timestamp;
use tokio::sync::mpsc;

use crate::cache::Cache;
use crate::clock::Clock;
use crate::core::io::Scope;
use crate::core::view::timestamp;
use crate::error::{Error, ErrorKind};
use crate::feed::Feed;
use crate::signals::Signals;
use crate::snapshot::{Lists, Snapshot, State};

/// With a list from disk readers wait only so long for a better one.
const CACHED_PATIENCE: Duration = Duration::from_millis(500);

/// Views that wait to be opened; the caller waits beyond it.
const OPENS_MAX: usize = 64;

/// A wish to have a view open, with what was on disk.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) feed: Arc<Feed>,
    pub(crate) cached: Option<(Lists, Timestamp)>,
}

/// Where views wait to be opened, and where the driver takes them from.
pub(crate) fn waiting_opens() -> (mpsc::Sender<Open>, mpsc::Receiver<Open>) {
    mpsc::channel(OPENS_MAX)
}

/// An open feed, and what keeps it fed.
pub(crate) struct Opened {
    pub(crate) feed: Arc<Feed>,
    pub(crate) shared: Arc<Shared>,
}

/// Where feeds come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A driver on a connection.
    Broker { opens: mpsc::Sender<Open>, cache: Option<Cache>, signals: Arc<Signals> },
    /// A user's test.
    #[cfg(any(test, feature = "fake"))]
    Fake(crate::fake::Instances),
}

/// Shared by all clones of a `Discovery`, and by its watches.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Read without a lock; one per service in use.
    feeds: ArcSwap<OrdMap<Scope, Arc<Feed>>>,
    /// Held while the map of feeds is changed, never across a wait.
    changing: Mutex<()>,
    source: Source,
    clock: Clock,
    patience: Duration,
}

impl Shared {
    pub(crate) fn new(source: Source, clock: Clock, patience: Duration) -> Self {
        Self { feeds: ArcSwap::default(), changing: Mutex::new(()), source, clock, patience }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The feed of a scope, opened if need be.
    pub(crate) async fn feed(&self, scope: Scope) -> Result<Arc<Feed>, Error> {
        if let Some(feed) = self.open_feed(&scope) {
            return Ok(feed);
        }
        match &self.source {
            Source::Broker { opens, cache, .. } => {
                let permit = self.room(opens).await?;
                let cached = match cache {
                    Some(cache) => cache.load(&scope).await,
                    None => None,
                };
                let (feed, is_new) = self.insert(&scope, || self.first_feed(scope.clone(), cached.as_ref()));
                if is_new {
                    permit.send(Open { feed: feed.clone(), cached });
                }
                Ok(feed)
            }
            #[cfg(any(test, feature = "fake"))]
            Source::Fake(instances) => {
                let first = || Feed::new(scope.clone(), instances.snapshot(&scope), self.patience);
                let (feed, is_new) = self.insert(&scope, first);
                if is_new {
                    instances.publish_first(&feed);
                }
                Ok(feed)
            }
        }
    }

    /// Room to open one more view. There is always some, unless thousands are opened while the broker is away.
    async fn room<'o>(&self, opens: &'o mpsc::Sender<Open>) -> Result<mpsc::Permit<'o, Open>, Error> {
        let limit = self.patience.max(CACHED_PATIENCE);
        match tokio::time::timeout(limit, opens.reserve()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, "the discovery's task has ended: connect again")),
            Err(_) => {
                let message = "too many services wait to be opened: wait until the broker is back";
                Err(Error::new(ErrorKind::Unreachable, message))
            }
        }
    }

    fn first_feed(&self, scope: Scope, cached: Option<&(Lists, Timestamp)>) -> Feed {
        let mut snapshot = Snapshot::unknown(timestamp(self.clock.now_ms()));
        let mut patience = self.patience;
        if let Some((lists, since)) = cached {
            snapshot.lists = lists.clone();
            snapshot.state = State::Unknown { since: *since };
            patience = patience.min(CACHED_PATIENCE);
        }
        Feed::new(scope, snapshot, patience)
    }

    fn open_feed(&self, scope: &Scope) -> Option<Arc<Feed>> {
        let feed = self.feeds.load().get(scope).cloned()?;
        feed.touch(self.clock.now_ms()).then_some(feed)
    }

    fn insert(&self, scope: &Scope, make: impl FnOnce() -> Feed) -> (Arc<Feed>, bool) {
        // Nothing panics while the lock is held; if it did, the map would still be whole.
        let _changing = self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(feed) = self.open_feed(scope) {
            return (feed, false);
        }
        let feed = Arc::new(make());
        feed.touch(self.clock.now_ms());
        let mut feeds = OrdMap::clone(&self.feeds.load());
        feeds.insert(scope.clone(), feed.clone());
        self.feeds.store(Arc::new(feeds));
        (feed, true)
    }

    /// Takes a feed out of use if nobody has used it for so long. From then on it cannot be got at.
    pub(crate) fn close_if_idle(&self, feed: &Arc<Feed>, idle: Duration) -> bool {
        if !feed.close_if_idle(self.clock.now_ms(), idle) {
            return false;
        }
        let _changing = self.changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut feeds = OrdMap::clone(&self.feeds.load());
        if feeds.get(&feed.scope).is_some_and(|current| Arc::ptr_eq(current, feed)) {
            feeds.remove(&feed.scope);
            self.feeds.store(Arc::new(feeds));
        }
        true
    }

    /// All feeds in use.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn feeds(&self) -> Vec<Arc<Feed>> {
        self.feeds.load().values().cloned().collect()
    }

    /// An error if the snapshot knows nothing because the broker refused a subject.
    pub(crate) fn check_permissions(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let refused = match &self.source {
            Source::Broker { signals, .. } if !snapshot.is_verified() => signals.refused(),
            _ => None,
        };
        match refused {
            Some(refused) => Err(Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "the broker refused a subject ({refused}): a consumer may subscribe change.> and pulse.> of its namespace and its own inbox, and publish query.>"
                ),
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use muster_schemas::ServiceName;

    use super::*;

    fn scope(number: usize) -> Scope {
        Scope::Service(ServiceName::new(&format!("s{number}")).unwrap())
    }

    /// As many views as may wait have been asked for.
    async fn full(patience: Duration) -> (Shared, mpsc::Receiver<Open>) {
        let (opens, opened) = waiting_opens();
        let source = Source::Broker { opens, cache: None, signals: Arc::default() };
        let shared = Shared::new(source, Clock::start(), patience);
        for number in 0..OPENS_MAX {
            shared.feed(scope(number)).await.unwrap();
        }
        tokio::task::yield_now().await;
        (shared, opened)
    }

    #[tokio::test]
    async fn one_view_more_than_may_wait_to_be_opened_waits_for_room_and_none_is_lost() {
        let (shared, mut opened) = full(Duration::from_secs(60)).await;
        let mut one_more = Box::pin(shared.feed(scope(OPENS_MAX)));
        assert!(one_more.as_mut().now_or_never().is_none(), "it waits");
        assert!(shared.feed(scope(0)).now_or_never().is_some(), "what is open needs no room");
        let mut scopes = vec![opened.recv().await.unwrap().feed.scope.clone()];
        one_more.await.unwrap();
        while let Ok(open) = opened.try_recv() {
            scopes.push(open.feed.scope.clone());
        }
        assert_eq!(scopes, (0..=OPENS_MAX).map(scope).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn whoever_waits_for_room_beyond_its_patience_is_told_and_may_ask_again() {
        let (shared, mut opened) = full(Duration::ZERO).await;
        let error = shared.feed(scope(OPENS_MAX)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        opened.recv().await.unwrap();
        shared.feed(scope(OPENS_MAX)).await.unwrap();
    }
}
