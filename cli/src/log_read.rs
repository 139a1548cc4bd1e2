//! Reading what the log holds about one service or instance, and folding it again as the registries did.
//!
//! The fold of an instance's events depends on no other instance, so the events about it and those about the log as a
//! whole are enough: of a log with millions of events only a few are read.

mod head;

use std::collections::VecDeque;
use std::fmt::Display;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures::StreamExt;
use muster_registry::core::catalog::{Catalog, Folded, News, Outcome, Reason};
use muster_registry::core::io::Record;
use muster_schemas::subject::Subject;
use muster_schemas::{InstanceId, ServiceName, Subjects, Timestamp};

use crate::error::CommandError;
use crate::session::Session;
use head::Head;

/// One event of the log, and what became of it.
pub(crate) struct Entry {
    /// Its stream sequence.
    pub(crate) sequence: u64,
    /// Its stream time.
    pub(crate) at: Timestamp,
    /// Its subject.
    pub(crate) subject: String,
    /// Its bytes.
    pub(crate) payload: Bytes,
    /// What the fold made of it.
    pub(crate) folded: Folded,
    /// It was ignored here for want of an earlier event, which may have been in the part of the log that is gone.
    pub(crate) is_doubtful: bool,
}

/// What the log holds about a service or an instance.
pub(crate) struct History {
    /// The newest events, in order.
    pub(crate) entries: VecDeque<Entry>,
    /// How many came before those.
    pub(crate) earlier: usize,
    /// How many of all of them are about it, and not about the log as a whole.
    pub(crate) about_it: usize,
    /// The first sequence that is left, where the beginning of the log is gone.
    pub(crate) begins_at: Option<u64>,
    /// All is there that the events from here on depend on.
    is_whole: bool,
    /// The catalog after the last; where the beginning of the log is gone, what follows from the rest.
    pub(crate) catalog: Catalog,
}

/// How many events one request brings.
const BATCH: usize = 512;

/// Reads all that the log holds about a service, or about one instance, and folds it; keeps the newest `kept_max` events.
pub(crate) async fn read(
    session: &Session,
    service: &ServiceName,
    instance: Option<&InstanceId>,
    kept_max: usize,
) -> Result<History, CommandError> {
    let subjects = session.subjects();
    let stream = LogStream::open(session).await?;
    let head = Head::find(session, &stream).await?;
    let mut history = History {
        entries: VecDeque::new(),
        earlier: 0,
        about_it: 0,
        begins_at: head.as_ref().map(|head| head.first_sequence),
        is_whole: head.is_none(),
        catalog: head.map_or_else(|| Ok(Catalog::default()), |head| head.catalog(subjects))?,
    };
    let consumer = stream.consumer(vec![subjects.events_about(service, instance), subjects.log_wide_events()]).await?;
    each(&stream, &consumer, |message| history.add(subjects, message, kept_max)).await?;
    Ok(history)
}

/// The stream that holds the log.
struct LogStream {
    stream: Stream<()>,
    name: String,
}

impl LogStream {
    async fn open(session: &Session) -> Result<Self, CommandError> {
        let name = session.subjects().stream_name();
        let opened = async_nats::jetstream::new(session.client().clone()).get_stream_no_info(&name).await;
        let stream = opened.map_err(|error| unreadable(&name, &error))?;
        Ok(Self { stream, name })
    }

    /// A consumer from the beginning; without filters of everything.
    async fn consumer(&self, filter_subjects: Vec<String>) -> Result<PullConsumer, CommandError> {
        let config = pull::Config {
            filter_subjects,
            ack_policy: AckPolicy::None,
            inactive_threshold: std::time::Duration::from_secs(10),
            memory_storage: true,
            ..pull::Config::default()
        };
        self.stream.create_consumer(config).await.map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &dyn Display) -> CommandError {
        unreadable(&self.name, error)
    }
}

fn unreadable(stream: &str, error: &dyn Display) -> CommandError {
    CommandError::Failed(format!("the log {stream} cannot be read: {error}"))
}

/// Takes every message that was there when the consumer was made.
async fn each(
    stream: &LogStream,
    consumer: &PullConsumer,
    mut take: impl FnMut(&Message) -> Result<(), async_nats::Error>,
) -> Result<(), CommandError> {
    let mut left = consumer.cached_info().num_pending;
    while left > 0 {
        let batch = consumer.fetch().max_messages(BATCH).messages().await;
        let mut batch = batch.map_err(|error| stream.unreadable(&error))?;
        let before = left;
        while let Some(message) = batch.next().await {
            let taken = message.and_then(|message| take(&message));
            taken.map_err(|error| stream.unreadable(&error))?;
            left = left.saturating_sub(1);
        }
        if left == before {
            break;
        }
    }
    Ok(())
}

impl History {
    fn add(&mut self, subjects: &Subjects, message: &Message, kept_max: usize) -> Result<(), async_nats::Error> {
        let info = message.info()?;
        let at = Timestamp::from_nanoseconds(info.published.unix_timestamp_nanos());
        let sequence = info.stream_sequence;
        let record = Record { sequence, at, subject: &message.subject, payload: &message.payload };
        let folded = self.catalog.fold(subjects, &record);
        // What is known of a log from its beginning on is everything.
        self.is_whole |= matches!(folded.news, News::EpochBegan(_));
        let entry = Entry {
            sequence,
            at,
            subject: message.subject.to_string(),
            payload: Bytes::copy_from_slice(&message.payload),
            is_doubtful: !self.is_whole && rests_on_others(folded.outcome),
            folded,
        };
        self.about_it += usize::from(entry.instance(subjects).is_some());
        self.entries.push_back(entry);
        if self.entries.len() > kept_max {
            self.entries.pop_front();
            self.earlier += 1;
        }
        Ok(())
    }
}

/// Whether an earlier event could have made it another outcome.
fn rests_on_others(outcome: Outcome) -> bool {
    use Reason::{CarryClosed, NoEpoch, NotDue, Superseded, UnknownInstance, WrongEpoch};
    matches!(outcome, Outcome::Ignored(CarryClosed | NoEpoch | NotDue | Superseded | UnknownInstance | WrongEpoch))
}

impl Entry {
    /// The instance that it is about; none if it is about the log as a whole.
    pub(crate) fn instance(&self, subjects: &Subjects) -> Option<InstanceId> {
        match subjects.parse(&self.subject) {
            Ok(Subject::Event { target, .. }) => target.map(|(_, instance)| instance),
            _ => None,
        }
    }
}
