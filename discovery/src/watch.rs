//! A watch: first the whole list, then every difference, for as long as it is polled, however late.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use imbl::OrdMap;
use muster_schemas::HealthStatus;
use tokio::sync::broadcast;

use crate::change::{Change, Update, Why, differences};
use crate::core::view::timestamp;
use crate::discovery::Opened;
use crate::feed::{Message, What};
use crate::filter::Filter;
use crate::snapshot::{Lists, ServiceList, Snapshot, State};

/// A stream of [`Update`]s: first the list, then what differs.
///
/// It may be left unpolled for as long as you like. Beyond a bound it forgets the single steps, and when it is polled
/// again delivers the differences to what it delivered last, with the cause `resync`.
///
/// Nothing happens before the first poll. Dropping it ends it. It does not end by itself: through outages it tells you
/// the state, and goes on.
#[must_use = "a watch does nothing unless it is polled"]
pub struct Watch {
    beginning: Option<(Beginning, Filter)>,
    running: BoxStream<'static, Update>,
}

/// What a watch starts from: how to get at the feed, once it is polled.
pub(crate) type Beginning = futures::future::BoxFuture<'static, Option<Opened>>;

impl Watch {
    pub(crate) fn new(beginning: Beginning) -> Self {
        Self { beginning: Some((beginning, Filter::default())), running: futures::stream::empty().boxed() }
    }

    /// Waits for the next update. The same as `StreamExt::next`, without the import.
    pub async fn next(&mut self) -> Option<Update> {
        StreamExt::next(self).await
    }

    /// Narrows the watch. An instance that leaves the filter is `Removed` for this watch, one that enters it is `Added`,
    /// both with the true cause. Without effect once the watch was polled.
    pub fn filtered(mut self, filter: Filter) -> Self {
        if let Some((_, current)) = &mut self.beginning {
            *current = filter;
        }
        self
    }

    fn narrowed(mut self, narrow: impl FnOnce(Filter) -> Filter) -> Self {
        if let Some((_, filter)) = &mut self.beginning {
            *filter = narrow(std::mem::take(filter));
        }
        self
    }

    /// Only instances that may be used now: passing or warning, not in maintenance, weight above 0.
    pub fn routable(self) -> Self {
        self.narrowed(Filter::routable)
    }

    /// Only instances as healthy as this, or healthier.
    pub fn health_at_worst(self, status: HealthStatus) -> Self {
        self.narrowed(|filter| filter.health_at_worst(status))
    }

    /// Only instances of this version.
    pub fn version(self, version: impl Into<String>) -> Self {
        self.narrowed(|filter| filter.version(version))
    }

    /// Only instances with this tag; called again, with all of them.
    pub fn tag(self, tag: impl Into<String>) -> Self {
        self.narrowed(|filter| filter.tag(tag))
    }
}

impl Stream for Watch {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        if let Some((beginning, filter)) = self.beginning.take() {
            let stage = Stage::Beginning(beginning, filter);
            self.running = futures::stream::unfold(stage, |stage| async move {
                let mut cursor = match stage {
                    Stage::Beginning(beginning, filter) => Box::new(Cursor::begin(beginning.await?, filter).await),
                    Stage::Going(cursor) => cursor,
                };
                let update = cursor.next().await?;
                Some((update, Stage::Going(cursor)))
            })
            .boxed();
        }
        self.running.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Watch").field("polled", &self.beginning.is_none()).finish_non_exhaustive()
    }
}

enum Stage {
    Beginning(Beginning, Filter),
    Going(Box<Cursor>),
}

/// Where a watch stands: what it delivered last, and what waits to be delivered.
struct Cursor {
    opened: Opened,
    messages: broadcast::Receiver<Message>,
    filter: Filter,
    /// The list as this watch has it, filter aside.
    lists: Lists,
    state: State,
    serial: u64,
    /// At most one list's worth of differences.
    ready: VecDeque<Update>,
}

impl Cursor {
    async fn begin(opened: Opened, filter: Filter) -> Self {
        let feed = &opened.feed;
        feed.listed().await;
        // First the messages, then the snapshot: what falls between is in both, and passed over.
        let messages = feed.subscribe();
        let snapshot = feed.snapshot();
        let mut cursor = Self {
            messages,
            lists: snapshot.lists.clone(),
            state: snapshot.state(),
            serial: snapshot.serial,
            ready: VecDeque::new(),
            filter,
            opened,
        };
        let list = if cursor.filter.lets_everything_through() {
            snapshot
        } else {
            Arc::new(filtered(&snapshot, &cursor.filter))
        };
        cursor.ready.push_back(Update::List(list));
        cursor
    }

    async fn next(&mut self) -> Option<Update> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Some(update);
            }
            match self.messages.recv().await {
                Ok(message) if message.serial <= self.serial => {}
                Ok(message) => self.take(message),
                Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up(),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    fn take(&mut self, message: Message) {
        self.serial = message.serial;
        match message.what {
            What::Change(change) => {
                note(&mut self.lists, &change);
                self.deliver(change);
            }
            What::Replaced(lists, why) => self.replace(lists, &why),
            What::State(state) => self.judge(state),
        }
    }

    fn deliver(&mut self, change: Change) {
        let filter = &self.filter;
        self.ready.extend(change.filtered(|instance| filter.matches(instance)).map(Update::Change));
    }

    fn replace(&mut self, lists: Lists, why: &Arc<Why>) {
        for change in differences(&self.lists, &lists, why) {
            self.deliver(change);
        }
        self.lists = lists;
    }

    fn judge(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.ready.push_back(Update::State(state));
        }
    }

    /// Single steps were dropped: goes on from the present.
    fn catch_up(&mut self) {
        let snapshot = self.opened.feed.snapshot();
        let why = Why::resync(
            timestamp(self.opened.shared.now_ms()),
            snapshot.revision(),
            "this watch was not polled for long",
        );
        self.replace(snapshot.lists.clone(), &why.into());
        self.judge(snapshot.state());
        self.serial = snapshot.serial;
    }
}

/// Keeps a watch's own list in step.
pub(crate) fn note(lists: &mut Lists, change: &Change) {
    let list = lists.entry(change.service().clone()).or_default();
    match change.instance() {
        Some(instance) => drop(list.instances.insert(change.id().clone(), instance.clone())),
        None => drop(list.instances.remove(change.id())),
    }
}

fn filtered(snapshot: &Snapshot, filter: &Filter) -> Snapshot {
    let list_of = |list: &ServiceList| {
        let instances = list.instances.iter().filter(|(_, instance)| filter.matches(instance));
        let instances: OrdMap<_, _> = instances.map(|(id, instance)| (id.clone(), instance.clone())).collect();
        let kept = list.kept.iter().filter(|id| instances.contains_key(*id)).cloned().collect();
        ServiceList { instances, kept, ..list.clone() }
    };
    let lists = snapshot.lists.iter().map(|(service, list)| (service.clone(), list_of(list)));
    Snapshot { lists: lists.collect(), ..snapshot.clone() }
}
