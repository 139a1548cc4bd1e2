//! The task behind a `Discovery`: feeds the views what the broker delivers, and does what they want done.
//!
//! One task owns all views, so nothing in them is locked. It never waits for anything slow, so subscriptions are drained
//! as fast as messages can be read; requests run in tasks of their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as LinkState;
use async_nats::{Client, Message};
use futures::StreamExt;
use futures::future::AbortHandle;
use futures::stream::{BoxStream, SelectAll, abortable};
use muster_schemas::Subjects;
use muster_schemas::pulse::{Pulse, bucket};
use muster_schemas::query::Reply;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::cache::Cache;
use crate::change::Why;
use crate::clock::Clock;
use crate::core::io::{AskFailure, Effect, Input, Scope, Ticket};
use crate::core::view::{TICK_MS, View, timestamp};
use crate::discovery::{Open, Shared};
use crate::feed::{Feed, What};
use crate::query;
use crate::signals::Signals;

/// Questions under way at a time; the others wait for their turn.
const QUESTIONS_MAX: usize = 8;
/// A view that nobody watches and nobody has read for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

type ViewId = u64;

/// What a task came back with.
enum Done {
    /// The server has taken the subscriptions, as of this many connects.
    RoundTrip(Option<ViewId>, u64),
    Asked(ViewId, Ticket, Result<Reply, AskFailure>),
    Saved,
}

struct Entry {
    view: View,
    feed: Arc<Feed>,
    subscriptions: [AbortHandle; 2],
}

enum Kind {
    Change,
    Pulse,
}

/// The task's state.
pub(crate) struct Driver {
    client: Client,
    subjects: Subjects,
    clock: Clock,
    signals: Arc<Signals>,
    cache: Option<Cache>,
    shared: std::sync::Weak<Shared>,
    views: BTreeMap<ViewId, Entry>,
    last_view: ViewId,
    messages: SelectAll<BoxStream<'static, (ViewId, Kind, Message)>>,
    tasks: JoinSet<Done>,
    questions: Arc<Semaphore>,
    connected: bool,
    connects: u64,
}

impl Driver {
    pub(crate) fn new(
        client: Client,
        subjects: Subjects,
        clock: Clock,
        signals: Arc<Signals>,
        cache: Option<Cache>,
        shared: std::sync::Weak<Shared>,
    ) -> Self {
        Self {
            client,
            subjects,
            clock,
            signals,
            cache,
            shared,
            views: BTreeMap::new(),
            last_view: 0,
            messages: SelectAll::new(),
            tasks: JoinSet::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            connected: false,
            connects: 0,
        }
    }

    /// Runs until the last `Discovery` and the last `Watch` are dropped.
    pub(crate) async fn run(mut self, mut opens: mpsc::Receiver<Open>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let signals = self.signals.clone();
        loop {
            tokio::select! {
                open = opens.recv() => match open {
                    Some(open) => self.open(open).await,
                    None => break,
                },
                Some((id, kind, message)) = self.messages.next(), if !self.messages.is_empty() => {
                    self.on_message(id, &kind, &message);
                }
                Some(Ok(done)) = self.tasks.join_next(), if !self.tasks.is_empty() => self.on_done(done),
                () = signals.raised() => self.look_at_the_connection(),
                _ = ticks.tick() => self.on_tick(),
            }
        }
    }

    async fn open(&mut self, open: Open) {
        let Open { feed, cached } = open;
        self.last_view += 1;
        let id = self.last_view;
        let (changes, pulses) = match &feed.scope {
            Scope::Everything => (self.subjects.all_changes(), self.subjects.all_pulses()),
            Scope::Service(service) => (self.subjects.change(service), self.subjects.pulse(bucket(service))),
        };
        let changes = self.subscribe(id, || Kind::Change, changes).await;
        let pulses = self.subscribe(id, || Kind::Pulse, pulses).await;
        let view = View::new(self.clock.now_ms(), feed.scope.clone(), rand::random(), cached);
        feed.publish(view.snapshot(), Vec::new(), false);
        self.views.insert(id, Entry { view, feed, subscriptions: [changes, pulses] });
        if self.connected {
            self.make_round_trip(Some(id));
        }
    }

    async fn subscribe(&mut self, id: ViewId, kind: fn() -> Kind, subject: String) -> AbortHandle {
        match self.client.subscribe(subject).await {
            Ok(subscriber) => {
                let (stream, handle) = abortable(subscriber.map(move |message| (id, kind(), message)));
                self.messages.push(stream.boxed());
                handle
            }
            Err(error) => {
                // Only when the connection is closed for good: the view stays unknown, and says so.
                tracing::warn!(%error, "cannot subscribe: the connection is closed");
                AbortHandle::new_pair().0
            }
        }
    }

    fn on_message(&mut self, id: ViewId, kind: &Kind, message: &Message) {
        // What is not understood is passed over: a gap, if it was one, shows itself.
        let input = match kind {
            Kind::Change => serde_json::from_slice(&message.payload).map(|change| Input::Change(Box::new(change))),
            Kind::Pulse => serde_json::from_slice::<Pulse>(&message.payload).map(Input::Pulse),
        };
        match input {
            Ok(input) => self.step(id, input),
            Err(error) => tracing::debug!(%error, subject = %message.subject, "a message was not understood"),
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::RoundTrip(id, connects) if self.connected && connects == self.connects => match id {
                Some(id) => self.step(id, Input::Connected),
                None => self.step_all(|| Input::Connected),
            },
            Done::Asked(id, ticket, Ok(reply)) => self.step(id, Input::Answer(ticket, reply)),
            Done::Asked(id, ticket, Err(failure)) => self.step(id, Input::AskFailed(ticket, failure)),
            Done::RoundTrip(..) | Done::Saved => {}
        }
    }

    fn on_tick(&mut self) {
        self.look_at_the_connection();
        self.step_all(|| Input::Tick);
        self.close_idle();
        self.save();
    }

    /// Events can be lost and come before their effect; the client's counters do not lie.
    fn look_at_the_connection(&mut self) {
        let connects = self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
        let connected = self.client.connection_state() == LinkState::Connected;
        if self.connected && (!connected || connects != self.connects) {
            self.connected = false;
            self.step_all(|| Input::Disconnected);
        }
        if connected && !self.connected {
            self.connected = true;
            self.connects = connects;
            self.make_round_trip(None);
        }
        if self.signals.take_slow() {
            self.step_all(|| Input::SlowConsumer);
        }
    }

    fn make_round_trip(&mut self, id: Option<ViewId>) {
        let (client, subjects, connects) = (self.client.clone(), self.subjects.clone(), self.connects);
        self.tasks.spawn(async move {
            query::round_trip(&client, &subjects).await;
            Done::RoundTrip(id, connects)
        });
    }

    fn step_all(&mut self, input: impl Fn() -> Input) {
        let ids: Vec<ViewId> = self.views.keys().copied().collect();
        for id in ids {
            self.step(id, input());
        }
    }

    fn step(&mut self, id: ViewId, input: Input) {
        let now_ms = self.clock.now_ms();
        let Some(entry) = self.views.get_mut(&id) else { return };
        let mut effects = Vec::new();
        entry.view.step(now_ms, input, &mut effects);
        let snapshot = entry.view.snapshot();
        let mut steps = Vec::new();
        let mut asks = Vec::new();
        for effect in effects {
            match effect {
                Effect::Ask(ask) => asks.push(ask),
                Effect::Changed(change) => steps.push(What::Change(change)),
                Effect::Judged(state) => steps.push(What::State(state)),
                Effect::Replaced(lists, reason) => {
                    let why = Why::resync(timestamp(now_ms), snapshot.revision, reason);
                    steps.push(What::Replaced(lists, why.into()));
                }
            }
        }
        let present = entry.feed.snapshot();
        if !steps.is_empty() || present.revision != snapshot.revision || present.confirmed_at != snapshot.confirmed_at {
            entry.feed.publish(snapshot, steps, entry.view.is_synchronised());
        }
        for ask in asks {
            let (client, subjects, questions) = (self.client.clone(), self.subjects.clone(), self.questions.clone());
            self.tasks.spawn(async move {
                // Never closed.
                let _turn = questions.acquire_owned().await;
                Done::Asked(id, ask.ticket, query::ask(&client, &subjects, &ask).await)
            });
        }
    }

    fn close_idle(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        self.views.retain(|_, entry| {
            let is_idle = shared.close_if_idle(&entry.feed, IDLE);
            if is_idle {
                entry.subscriptions.iter().for_each(AbortHandle::abort);
            }
            !is_idle
        });
    }

    fn save(&mut self) {
        let Some(cache) = &mut self.cache else { return };
        for entry in self.views.values().filter(|entry| entry.view.is_synchronised()) {
            if let Some(work) = cache.due(&entry.feed, self.clock.now_ms()) {
                self.tasks.spawn(async move {
                    work.await;
                    Done::Saved
                });
            }
        }
    }
}
