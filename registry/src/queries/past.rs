//! Questions about the past: one at a time, in a task of its own, over a connection of its own, so that the present waits for
//! none of them.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use muster_runtime::broker::{BrokerSettings, Connection, Role};
use muster_schemas::history::{At, HistoryEvent, HistoryReply};
use muster_schemas::query::{ErrorCode, QueryError};
use muster_schemas::subject::Query;
use muster_schemas::{Change, Event, InstanceId, ServiceName, Subjects, WIRE_VERSION};
use tokio::sync::mpsc;

use super::Asked;
use super::replies::too_many;
use crate::core::catalog::Catalog;
use crate::core::replica::Snapshot;
use crate::past::{Entry, History, Past, PastError, Wanted};

/// Questions that may wait; one more is told to ask again.
const WAITING_MAX: usize = 16;
/// How long one may take: what is farther from a checkpoint is not told.
const LIMIT: Duration = Duration::from_secs(20);
/// Events in one answer, if no other number is asked for, and at most.
const EVENTS: u32 = 100;
const EVENTS_MAX: u32 = 1_000;
/// The events of one answer take about so much at most: a larger message would hold up others.
const EVENTS_BYTES_MAX: usize = 512 * 1_024;
/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// The catalog as it was: the question is answered from it like any other.
    Snapshot(Arc<Snapshot>),
    /// The answer.
    History(Vec<u8>),
}

/// A question, with the present as it was when it was asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) asked: Asked,
    pub(super) present: Arc<Snapshot>,
}

/// What came of a question.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) asked: Asked,
    pub(super) found: Result<Found, QueryError>,
}

/// Looks into the past.
pub(crate) struct PastReader {
    broker: BrokerSettings,
    role: Role,
    subjects: Subjects,
    questions: mpsc::Receiver<Question>,
    told: mpsc::Sender<Told>,
}

/// The way to it.
#[derive(Debug)]
pub(crate) struct PastLink {
    questions: mpsc::Sender<Question>,
    pub(super) told: mpsc::Receiver<Told>,
}

impl PastLink {
    /// Puts a question behind those that wait; if too many do, it is given back with what to say.
    pub(super) fn ask(&self, question: Question) -> Option<(Asked, QueryError)> {
        let full = self.questions.try_send(question).err()?;
        let error = too_many("too many questions about the past are waiting", self.questions.max_capacity());
        Some((full.into_inner().asked, error))
    }
}

/// The way there, with its end: questions come out of it, answers go in.
fn way() -> (PastLink, mpsc::Receiver<Question>, mpsc::Sender<Told>) {
    let (questions, asked) = mpsc::channel(WAITING_MAX);
    let (answers, told) = mpsc::channel(WAITING_MAX);
    (PastLink { questions, told }, asked, answers)
}

impl PastReader {
    /// A reader, and the way to it. `role` is that of a connection that ends at the first disconnect.
    pub(crate) fn new(broker: BrokerSettings, role: Role, subjects: Subjects) -> (Self, PastLink) {
        let (link, questions, told) = way();
        (Self { broker, role, subjects, questions, told }, link)
    }

    /// Answers until nobody asks any more.
    pub(crate) async fn run(mut self) {
        let mut connection: Option<Connection> = None;
        loop {
            let question = match tokio::time::timeout(IDLE, self.questions.recv()).await {
                Ok(Some(question)) => question,
                Ok(None) => break,
                Err(_) => {
                    if let Some(connection) = connection.take() {
                        connection.close().await;
                    }
                    continue;
                }
            };
            if !connection.as_ref().is_some_and(Connection::is_connected) {
                connection = self.broker.connect(self.role.clone()).await.ok();
            }
            let found = match &connection {
                Some(connection) => self.look(connection.client(), &question).await,
                None => Err(unavailable("no connection to the broker")),
            };
            if self.told.send(Told { asked: question.asked, found }).await.is_err() {
                break;
            }
        }
        if let Some(connection) = connection {
            connection.close().await;
        }
    }

    async fn look(&self, client: &Client, question: &Question) -> Result<Found, QueryError> {
        let Question { asked, present } = question;
        let past = Past::new(client.clone(), self.subjects.clone());
        let looking = async {
            match (&asked.query, asked.request.at) {
                (Query::History(service, instance), at) => {
                    let limit = asked.request.limit.unwrap_or(EVENTS).min(EVENTS_MAX);
                    self.history(&past, (service, instance.as_ref()), at, limit, present).await
                }
                (_, Some(at)) => Ok(Found::Snapshot(Arc::new(as_it_was(past.catalog_at(at).await?, present)))),
                (_, None) => Ok(Found::Snapshot(Arc::clone(present))),
            }
        };
        match tokio::time::timeout(LIMIT, looking).await {
            Ok(found) => found.map_err(|refusal| refused(refusal, asked)),
            Err(_) => {
                let help =
                    "ask for a point that is nearer to a checkpoint, or read the log itself, as `muster why` does";
                Err(QueryError::new(
                    ErrorCode::TooLarge,
                    "there are too many events to fold",
                    "at",
                    at_text(asked),
                    help,
                ))
            }
        }
    }

    async fn history(
        &self,
        past: &Past,
        (service, instance): (&ServiceName, Option<&InstanceId>),
        at: Option<At>,
        limit: u32,
        present: &Snapshot,
    ) -> Result<Found, Refusal> {
        let until = match at {
            Some(at) => Some(past.revision_at(at, past.span().await?).await?),
            None => None,
        };
        let kept_max = usize::try_from(limit).unwrap_or(usize::MAX);
        let in_force = present.epoch.map(|epoch| (epoch, present.catalog.fold_version()));
        let wanted = Wanted { service, instance, until, kept_max, exact_changes: true, in_force };
        let history = past.history(&wanted).await?;
        let is_known = match instance {
            Some(instance) => history.catalog.held(service, instance).is_some(),
            None => history.catalog.service(service).is_some(),
        };
        if history.about_it == 0 && !is_known {
            return Err(Refusal::Unknown(QueryError::not_found(service, instance)));
        }
        let epoch = history.catalog.epoch().ok_or(PastError::BeforeTheLog)?;
        let (events, dropped) = events(&self.subjects, &history);
        let reply = HistoryReply {
            v: WIRE_VERSION,
            epoch,
            revision: history.until,
            state: history.catalog.state(),
            service: service.clone(),
            instance: instance.cloned(),
            begins_at: history.span.first,
            earlier: u64::try_from(history.earlier + dropped).unwrap_or(u64::MAX),
            events,
        };
        // Serialising plain data with string keys into memory cannot fail.
        Ok(Found::History(serde_json::to_vec(&reply).unwrap_or_default()))
    }
}

/// Why a question has no answer.
enum Refusal {
    Past(PastError),
    Unknown(QueryError),
}

impl From<PastError> for Refusal {
    fn from(error: PastError) -> Self {
        Self::Past(error)
    }
}

fn at_text(asked: &Asked) -> String {
    asked.request.at.map_or_else(|| "now".to_owned(), |at| serde_json::to_string(&at).unwrap_or_default())
}

fn refused(refusal: Refusal, asked: &Asked) -> QueryError {
    let error = match refusal {
        Refusal::Unknown(error) => return error,
        Refusal::Past(error) => error,
    };
    let (code, help) = match &error {
        PastError::Unreadable(_) | PastError::NoStream | PastError::NeedsEpoch => {
            return unavailable(&error.to_string());
        }
        PastError::Ahead { .. } => (ErrorCode::BadRequest, "ask for a revision up to there, or leave `at` out"),
        PastError::OtherEpoch { .. } => (ErrorCode::BadRequest, "name that log, or null"),
        PastError::BeforeTheLog => (ErrorCode::NotFound, "ask for a later point"),
        PastError::Trimmed { .. } => {
            (ErrorCode::NotFound, "ask for a later point; --history-age says how much is kept")
        }
        PastError::Foreign(_) => (ErrorCode::NotReady, "upgrade this registry"),
    };
    QueryError::new(code, &error.to_string(), "at", at_text(asked), help)
}

fn unavailable(reason: &str) -> QueryError {
    QueryError::new(ErrorCode::NotReady, "this replica cannot look into the past now", "at", reason, "ask again")
}

fn as_it_was(catalog: Catalog, present: &Snapshot) -> Snapshot {
    Snapshot {
        epoch: catalog.epoch(),
        revision: catalog.revision(),
        state: catalog.state(),
        head_confirmed_ms: present.head_confirmed_ms,
        serving: true,
        reason: None,
        catalog,
    }
}

/// The newest events that fit, the oldest first, and how many did not.
fn events(subjects: &Subjects, history: &History) -> (Vec<HistoryEvent>, usize) {
    let (mut events, mut bytes) = (Vec::new(), 0);
    for entry in history.entries.iter().rev() {
        let event = event(subjects, entry);
        bytes += serde_json::to_vec(&event).map_or(0, |event| event.len());
        if bytes > EVENTS_BYTES_MAX && !events.is_empty() {
            break;
        }
        events.push(event);
    }
    events.reverse();
    let dropped = history.entries.len() - events.len();
    (events, dropped)
}

fn event(subjects: &Subjects, entry: &Entry) -> HistoryEvent {
    let parsed = Event::parse(subjects, &entry.subject, &entry.payload).ok();
    let without_conflicts = |change: &Arc<Change>| Change { conflicts: Default::default(), ..Change::clone(change) };
    HistoryEvent {
        revision: entry.sequence,
        at: entry.at,
        instance: entry.instance(subjects),
        kind: parsed.as_ref().map_or("unreadable", |event| event.data.kind().token()).to_owned(),
        actor: parsed.as_ref().map_or_else(|| "unknown".to_owned(), |event| event.source.to_string()),
        outcome: if entry.is_doubtful { "unknown" } else { entry.folded.outcome.as_str() }.to_owned(),
        change: entry.folded.change.as_ref().map(without_conflicts),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};
    use std::time::Instant;

    use muster_schemas::event::Sender;
    use muster_schemas::query::Request;
    use muster_schemas::{EventData, Namespace, Prefix, Timestamp};
    use serde_json::json;

    use super::super::{Endpoint, catalog_of};
    use super::*;
    use crate::core::io::Record;
    use crate::past::Span;

    fn question(number: usize) -> Question {
        let asked = Asked {
            endpoint: Endpoint::History,
            reply: format!("_INBOX.{number}").into(),
            query: Query::History(ServiceName::new("orders").unwrap(), None),
            request: Request::default(),
            since: Instant::now(),
        };
        let catalog = Catalog::default();
        let (epoch, revision, state) = (catalog.epoch(), catalog.revision(), catalog.state());
        let present =
            Snapshot { catalog, epoch, revision, state, head_confirmed_ms: None, serving: true, reason: None };
        Question { asked, present: Arc::new(present) }
    }

    #[test]
    fn one_question_about_the_past_more_than_may_wait_is_told_so_until_there_is_room() {
        let (link, mut asked, _told) = way();
        for number in 0..16 {
            assert!(link.ask(question(number)).is_none(), "{number}");
        }
        let (refused, error) = link.ask(question(16)).expect("full");
        assert_eq!(refused.reply.as_str(), "_INBOX.16");
        assert_eq!((error.code, error.value.as_str()), (ErrorCode::NotReady, "16"));
        assert_eq!(asked.try_recv().expect("the first").asked.reply.as_str(), "_INBOX.0");
        assert!(link.ask(question(0)).is_none(), "room again");
    }

    /// `orders/a`, registered so many times, each time as another version, with about 50 KB of metadata.
    fn large_history(count: u64) -> History {
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let mut catalog = catalog_of(&[]);
        let (begun, at) = (catalog.revision(), Timestamp::from_ms(1_800_000_000_000));
        let metadata: BTreeMap<String, String> = (0..50).map(|key| (format!("key-{key}"), "x".repeat(1_000))).collect();
        let mut entries = VecDeque::new();
        for generation in 1..=count {
            let registration = json!({
                "service": "orders", "instance": "a", "agent": "a1", "session": "01J00000000000000000000000",
                "incarnation": "01J00000000000000000000000", "generation": generation, "ttl_ms": 0,
                "version": generation.to_string(), "metadata": metadata,
            });
            let data = EventData::Register(serde_json::from_value(registration).unwrap());
            let source = Sender::Agent("a1".parse().unwrap());
            let event = Event { id: generation.to_string(), source, time: None, data };
            let (subject, payload) = (event.subject(&subjects), event.encode(subjects.namespace()).unwrap());
            let sequence = begun + generation;
            let folded = catalog.fold(&subjects, &Record { sequence, at, subject: &subject, payload: &payload });
            assert!(folded.change.is_some(), "{:?}", folded.outcome);
            entries.push_back(Entry { sequence, at, subject, payload: payload.into(), folded, is_doubtful: false });
        }
        let until = begun + count;
        let about_it = entries.len();
        let span = Span { first: 1, last: until, created_at: at };
        History { entries, earlier: 0, about_it, span, until, known_from: None, is_whole: true, catalog }
    }

    #[test]
    fn of_a_history_larger_than_an_answer_may_be_the_newest_events_are_told() {
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let history = large_history(20);
        let (told, dropped) = events(&subjects, &history);
        let bytes = serde_json::to_vec(&told).unwrap().len();
        assert!((400 * 1024..=513 * 1024).contains(&bytes), "{} events of {bytes} bytes in all", told.len());
        assert_eq!((told.len() + dropped, dropped > 0), (20, true));
        let revisions: Vec<u64> = told.iter().map(|event| event.revision).collect();
        let newest: Vec<u64> = history.entries.iter().skip(dropped).map(|entry| entry.sequence).collect();
        assert_eq!(revisions, newest);
        assert_eq!(events(&subjects, &large_history(5)).1, 0, "what fits is told as a whole");
    }
}
