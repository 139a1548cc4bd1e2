//! The life of a connection after its beginning: what state it is in, and what the broker complained about.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use async_nats::{ClientError, Event, ServerError, Statistics};
use tokio::sync::{broadcast, watch};

use super::connection::Role;
use crate::logging::limited;

/// How many events a slow reader of [`super::Connection::events`] may be behind before it loses the oldest.
const EVENTS_HELD: usize = 256;

/// Whether there is a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkPhase {
    /// Not yet, since the process began.
    #[default]
    Connecting,
    /// Yes.
    Connected,
    /// It was lost and is being made again.
    Disconnected,
    /// It was closed on purpose and does not come back.
    Closed,
}

/// The present state of a connection; counters count since it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// Whether there is one.
    pub phase: LinkPhase,
    /// How often it was made. If this grew, messages may have been missed.
    pub connects: u64,
    /// How often a subscription overflowed and lost messages.
    pub slow_consumers: u64,
    /// How often the broker refused a subject.
    pub violations: u64,
    /// What the last failed attempt or complaint was; kept after it is over.
    pub last_error: Option<String>,
}

/// What happened to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there (again). Subscriptions are restored only after this.
    Connected {
        /// How often it was made, this time included.
        connects: u64,
    },
    /// It is gone.
    Disconnected,
    /// A subscription of this process overflowed and lost messages: re-synchronise.
    SlowConsumer,
    /// The broker refused a subject.
    Violation(Violation),
    /// The server is about to stop and asks its clients to go elsewhere.
    LameDuck,
    /// An attempt failed, or the broker complained about something else.
    Trouble(String),
    /// It was closed on purpose.
    Closed,
}

/// What one may do with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Send to it.
    Publish,
    /// Listen to it.
    Subscribe,
}

/// A subject that the broker refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// What was tried.
    pub operation: Operation,
    /// The subject.
    pub subject: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operation {
            Operation::Publish => write!(f, "publishing to `{}`", self.subject),
            Operation::Subscribe => write!(f, "subscribing to `{}`", self.subject),
        }
    }
}

impl Violation {
    /// Reads what the server writes: `Permissions Violation for Publish to "subject"`, or
    /// `… for Subscription to "subject" using queue "group"`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let (operation, start) =
            [(Operation::Publish, "for publish to \""), (Operation::Subscribe, "for subscription to \"")]
                .into_iter()
                .find_map(|(operation, phrase)| Some((operation, lower.find(phrase)? + phrase.len())))?;
        let subject = text.get(start..)?.split('"').next()?;
        Some(Self { operation, subject: subject.to_owned() })
    }
}

/// Takes the client's events and makes state, events and a few log lines of them.
pub(super) struct Link {
    name: String,
    servers: String,
    /// Whether a disconnect is the end; then the attempts that the client still makes are no trouble.
    once: bool,
    state: watch::Sender<LinkState>,
    events: broadcast::Sender<LinkEvent>,
    /// Tells of the end of the client's tasks: they hold the only sender, and never send.
    tasks: watch::Receiver<()>,
    /// The client's own counters, as soon as there is a client: its events can get lost, these cannot.
    statistics: OnceLock<Arc<Statistics>>,
}

impl Link {
    /// A link, and what the client's tasks have to hold as long as they live.
    pub(super) fn new(role: &Role, servers: String) -> (Self, watch::Sender<()>) {
        let (state, _) = watch::channel(LinkState::default());
        let (events, _) = broadcast::channel(EVENTS_HELD);
        let (alive, tasks) = watch::channel(());
        let name = role.name.clone();
        (Self { name, servers, once: role.once, state, events, tasks, statistics: OnceLock::new() }, alive)
    }

    pub(super) fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<LinkEvent> {
        self.events.subscribe()
    }

    /// Says where the client counts. A first connection is noted here, for its event may come before or after.
    pub(super) fn attach(&self, statistics: Arc<Statistics>) {
        let connects = statistics.connects.load(Ordering::Relaxed);
        let _ = self.statistics.set(statistics);
        self.state.send_if_modified(|state| {
            let news = connects > state.connects;
            if news {
                state.connects = connects;
                state.phase = LinkPhase::Connected;
            }
            news
        });
    }

    /// From now on the link is closed, whatever the client still says.
    pub(super) fn close(&self) {
        self.take(Event::Closed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.borrow().phase == LinkPhase::Closed
    }

    /// Waits until the client's tasks have ended.
    pub(super) async fn ended(&self) {
        let _ = self.tasks.clone().changed().await;
    }

    pub(super) fn take(&self, event: Event) {
        if self.is_closed() {
            return;
        }
        let event = self.translate(event);
        self.log(&event);
        self.state.send_modify(|state| apply(state, &event));
        // Nobody listening is fine: the state has it all.
        let _ = self.events.send(event);
    }

    fn translate(&self, event: Event) -> LinkEvent {
        match event {
            Event::Connected => {
                let counted = self.statistics.get().map(|statistics| statistics.connects.load(Ordering::Relaxed));
                let known = self.state.borrow().connects;
                LinkEvent::Connected { connects: counted.unwrap_or(known + 1).max(1) }
            }
            Event::Disconnected => LinkEvent::Disconnected,
            Event::LameDuckMode => LinkEvent::LameDuck,
            Event::Draining | Event::Closed | Event::ClientError(ClientError::MaxReconnects) => LinkEvent::Closed,
            Event::SlowConsumer(_) | Event::ServerError(ServerError::SlowConsumer(_)) => LinkEvent::SlowConsumer,
            Event::ServerError(ServerError::Other(text)) => {
                Violation::parse(&text).map_or(LinkEvent::Trouble(text), LinkEvent::Violation)
            }
            Event::ServerError(error) => LinkEvent::Trouble(error.to_string()),
            Event::ClientError(ClientError::Other(text)) => LinkEvent::Trouble(in_plain_words(text)),
            Event::ClientError(error) => LinkEvent::Trouble(error.to_string()),
        }
    }

    /// All connections of a process share the limit: one line per kind of trouble in ten seconds. That a connection was
    /// lost and that it cannot be made again is one trouble, and so are all refused subjects: the check at the beginning
    /// names them together.
    fn log(&self, event: &LinkEvent) {
        if self.once && self.state.borrow().phase == LinkPhase::Disconnected {
            return;
        }
        let (connection, servers) = (&self.name, &self.servers);
        match event {
            LinkEvent::Connected { connects } if *connects > 1 => {
                limited("reconnected", |suppressed| {
                    tracing::info!(connection, connects, suppressed, "connected to the broker again");
                });
            }
            LinkEvent::Connected { .. } => tracing::debug!(connection, servers, "connected to the broker"),
            LinkEvent::Disconnected => {
                limited("no connection", |suppressed| {
                    tracing::warn!(connection, servers, suppressed, "lost the connection to the broker");
                });
            }
            LinkEvent::SlowConsumer => limited("slow consumer", |suppressed| {
                tracing::warn!(connection, suppressed, "a subscription overflowed and lost messages");
            }),
            LinkEvent::Violation(violation) => limited("violation", |suppressed| {
                tracing::error!(connection, suppressed, "the broker refuses {violation}; grant this permission");
            }),
            LinkEvent::Trouble(reason) if is_refusal(reason) => limited("credentials", |suppressed| {
                tracing::error!(connection, servers, suppressed, "the broker refuses the credentials: {reason}");
            }),
            LinkEvent::Trouble(reason) => limited("no connection", |suppressed| {
                tracing::warn!(connection, servers, suppressed, "no connection to the broker: {reason}");
            }),
            LinkEvent::LameDuck => {
                limited("lame duck", |suppressed| {
                    tracing::info!(connection, suppressed, "the broker's server is about to stop");
                });
            }
            LinkEvent::Closed => tracing::debug!(connection, "connection closed"),
        }
    }
}

/// The client library keeps the reason to itself where nobody accepts the connection.
fn in_plain_words(reason: String) -> String {
    if reason == "IO error" { "nobody accepts it there, or it breaks".to_owned() } else { reason }
}

pub(super) fn is_refusal(reason: &str) -> bool {
    reason.to_ascii_lowercase().contains("auth")
}

fn apply(state: &mut LinkState, event: &LinkEvent) {
    match event {
        LinkEvent::Connected { connects } => {
            state.phase = LinkPhase::Connected;
            state.connects = state.connects.max(*connects);
        }
        LinkEvent::Disconnected => state.phase = LinkPhase::Disconnected,
        LinkEvent::Closed => state.phase = LinkPhase::Closed,
        LinkEvent::SlowConsumer => state.slow_consumers += 1,
        LinkEvent::Violation(violation) => {
            state.violations += 1;
            state.last_error = Some(format!("the broker refuses {violation}"));
        }
        LinkEvent::Trouble(reason) => state.last_error = Some(reason.clone()),
        LinkEvent::LameDuck => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_subject_is_read_from_the_servers_words() {
        let publish = Violation::parse("Permissions Violation for Publish to \"muster.default.heartbeat.a\"").unwrap();
        assert_eq!(publish, Violation { operation: Operation::Publish, subject: "muster.default.heartbeat.a".into() });
        let subscribe =
            Violation::parse("Permissions Violation for Subscription to \"a.>\" using queue \"q\"").unwrap();
        assert_eq!(subscribe.to_string(), "subscribing to `a.>`");
        assert_eq!(Violation::parse("User Authentication Expired"), None);
    }

    #[tokio::test]
    async fn the_state_counts_what_happened_although_nobody_listened() {
        let (link, _alive) = Link::new(&Role::new("test"), "nats://x".into());
        for event in
            [Event::Connected, Event::SlowConsumer(1), Event::Disconnected, Event::Connected, Event::SlowConsumer(1)]
        {
            link.take(event);
        }
        let state = link.state().borrow().clone();
        assert_eq!((state.phase, state.connects, state.slow_consumers), (LinkPhase::Connected, 2, 2));
    }

    #[test]
    fn a_closed_link_stays_closed() {
        let (link, _alive) = Link::new(&Role::new("test"), "nats://x".into());
        link.close();
        link.take(Event::Disconnected);
        link.take(Event::Connected);
        assert_eq!(link.state().borrow().phase, LinkPhase::Closed);
    }
}
