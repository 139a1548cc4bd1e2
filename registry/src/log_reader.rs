//! Reads the log in order from a sequence on, in batches, over an ephemeral push consumer of its own.
//!
//! Opening takes a round trip and is a task; from then on the shell reads by itself, so that an event is handed from the
//! connection to the core without anybody between them.
//!
//! It never mends itself: whatever goes wrong ends it, and the core looks whether the log is still the same before it asks
//! for another. So a stream that was replaced underneath cannot be mistaken for a quiet one.

use std::time::{Duration, Instant};

use async_nats::{Client, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::stream::ReadyChunks;
use futures::{FutureExt, StreamExt};
use muster_schemas::{Subjects, Timestamp};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::broker_api::{ask_jetstream, subject};

/// Events handed over at once.
const BATCH_MAX: usize = 512;
/// An idle consumer says so this often.
const IDLE_HEARTBEAT: Duration = Duration::from_millis(500);
/// A consumer that is silent for longer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The broker forgets a consumer that nobody listens to after this time.
const INACTIVE: Duration = Duration::from_secs(30);
const CREATE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a reader says of itself.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// The log can be read from here.
    Opened { reader: u64, log: OpenLog },
    /// The reader ended.
    Stopped { reader: u64, reason: String },
}

/// One event; the message is held only until the core has copied what it keeps.
#[derive(Debug)]
pub(crate) struct LogEvent {
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    pub(crate) message: Message,
}

/// A running reader; dropping it ends it.
#[derive(Debug)]
pub(crate) struct LogReader {
    reader: u64,
    task: AbortHandle,
    client: Client,
    delete: String,
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.task.abort();
        // The broker would forget the consumer by itself; this spares it the wait. Lost if the connection takes nothing now.
        let _ = self.client.publish(std::mem::take(&mut self.delete), Bytes::new()).now_or_never();
    }
}

impl LogReader {
    /// Begins to open the log; what comes of it goes to `out`.
    pub(crate) fn start(
        client: &Client,
        subjects: &Subjects,
        reader: u64,
        from_sequence: u64,
        out: mpsc::Sender<Delivery>,
    ) -> Self {
        let (stream, name) = (subjects.stream_name(), format!("muster-{:016x}", rand::random::<u64>()));
        let delete = subject(&format!("CONSUMER.DELETE.{stream}.{name}"));
        let for_task = client.clone();
        let task = tokio::spawn(async move {
            let delivery = match consume(&for_task, &stream, &name, from_sequence).await {
                Ok(messages) => Delivery::Opened { reader, log: OpenLog::new(for_task, messages) },
                Err(reason) => Delivery::Stopped { reader, reason },
            };
            // Nobody left to tell: the shell ends.
            let _ = out.send(delivery).await;
        });
        Self { reader, task: task.abort_handle(), client: client.clone(), delete }
    }

    /// By which the core knows it.
    pub(crate) fn number(&self) -> u64 {
        self.reader
    }
}

/// A log that is being read. Whoever does not ask for more holds back the broker, which waits for an answer to its flow
/// control after at most 32 MiB.
#[derive(Debug)]
pub(crate) struct OpenLog {
    client: Client,
    messages: ReadyChunks<Subscriber>,
    delivered: u64,
    heard: Instant,
}

impl OpenLog {
    fn new(client: Client, messages: Subscriber) -> Self {
        Self { client, messages: messages.ready_chunks(BATCH_MAX), delivered: 0, heard: Instant::now() }
    }

    /// The next messages, for [`OpenLog::read`]; none when the connection was closed. Nothing is lost if it is not waited for
    /// to its end.
    pub(crate) async fn next(&mut self) -> Option<Vec<Message>> {
        self.messages.next().await
    }

    /// The events among them, in order; and what is wrong, if something is.
    pub(crate) async fn read(&mut self, messages: Vec<Message>) -> (Vec<LogEvent>, Result<(), String>) {
        self.heard = Instant::now();
        let mut events = Vec::with_capacity(messages.len());
        for message in messages {
            match take(&self.client, message, &mut self.delivered).await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => {}
                Err(reason) => return (events, Err(reason)),
            }
        }
        (events, Ok(()))
    }

    /// Whether nothing has come for so long that the consumer must be gone. What waits to be read has come.
    pub(crate) fn is_silent(&self) -> bool {
        self.heard.elapsed() > SILENCE_MAX
    }
}

/// What is said of a log that is silent.
pub(crate) fn silence() -> String {
    format!("the broker was silent for {} s", SILENCE_MAX.as_secs())
}

/// Subscribes, then creates the consumer that delivers there.
async fn consume(client: &Client, stream: &str, name: &str, from_sequence: u64) -> Result<Subscriber, String> {
    let inbox = client.new_inbox();
    let messages = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
    let configuration = json!({
        "name": name,
        "deliver_subject": inbox,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": from_sequence.max(1),
        "ack_policy": "none",
        "replay_policy": "instant",
        "max_deliver": 1,
        "flow_control": true,
        "idle_heartbeat": nanoseconds(IDLE_HEARTBEAT),
        "inactive_threshold": nanoseconds(INACTIVE),
        "num_replicas": 1,
        "mem_storage": true,
    });
    let body = json!({ "stream_name": stream, "config": configuration, "action": "create" });
    let verb = format!("CONSUMER.CREATE.{stream}.{name}");
    ask_jetstream::<Value>(client, &verb, &body, CREATE_TIMEOUT)
        .await
        .map_err(|error| format!("no consumer: {error}"))?;
    Ok(messages)
}

fn nanoseconds(period: Duration) -> u64 {
    u64::try_from(period.as_nanos()).unwrap_or(u64::MAX)
}

/// One message of the consumer: an event, or a word of the broker about the consumer itself.
async fn take(client: &Client, message: Message, delivered: &mut u64) -> Result<Option<LogEvent>, String> {
    match message.status {
        None => {}
        Some(StatusCode::IDLE_HEARTBEAT) => return idle(client, &message, *delivered).await.map(|()| None),
        Some(status) => {
            let description = message.description.as_deref().unwrap_or_default();
            return Err(format!("the broker ended the consumer: {status} {description}"));
        }
    }
    let place = message.reply.as_deref().and_then(Place::parse);
    let place = place.ok_or("the broker sent a message without its place in the stream")?;
    if place.delivered != *delivered + 1 {
        return Err(format!("{} events were lost on the way", place.delivered.saturating_sub(*delivered + 1)));
    }
    *delivered = place.delivered;
    Ok(Some(LogEvent { sequence: place.sequence, at: Timestamp::from_nanoseconds(place.nanoseconds), message }))
}

/// "Still there", with the number of messages sent so far; or a request to say that all before it were read.
async fn idle(client: &Client, message: &Message, delivered: u64) -> Result<(), String> {
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
    if let Some(reply) = &message.reply {
        let _ = client.publish(reply.clone(), Bytes::new()).await;
    } else if let Some(stalled) = header("Nats-Consumer-Stalled") {
        let _ = client.publish(stalled.as_str().to_owned(), Bytes::new()).await;
    }
    let sent = header("Nats-Last-Consumer").and_then(|text| text.as_str().parse::<u64>().ok());
    match sent {
        Some(sent) if sent != delivered => {
            Err(format!("{} events were lost on the way", sent.saturating_sub(delivered)))
        }
        _ => Ok(()),
    }
}

/// What the reply subject of a delivered message says of it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    sequence: u64,
    /// The how-manieth message of the consumer.
    delivered: u64,
    nanoseconds: i64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<delivered>.<time>.<pending>`, with domain and account hash
    /// before the stream, and a token behind, where the broker uses domains.
    fn parse(reply: &str) -> Option<Self> {
        let mut tokens = reply.split('.');
        let skipped = if tokens.clone().count() == 9 { 5 } else { 7 };
        let mut tokens = tokens.by_ref().skip(skipped);
        let sequence = tokens.next()?.parse().ok()?;
        let delivered = tokens.next()?.parse().ok()?;
        let nanoseconds = tokens.next()?.parse().ok()?;
        Some(Self { sequence, delivered, nanoseconds })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use async_nats::ConnectOptions;
    use muster_schemas::{Namespace, Prefix};
    use muster_tests::NatsServer;

    use super::*;
    use crate::stream;

    const SOON: Duration = Duration::from_secs(60);
    /// For so long nothing came: nothing comes any more.
    const QUIET: Duration = Duration::from_millis(100);
    const EVENTS: u64 = 3_000;

    /// A broker with a log, and that log open, which nobody reads yet: with room for so many messages of the broker.
    async fn unread(messages: usize) -> (NatsServer, LogReader, OpenLog) {
        let broker = NatsServer::start().await;
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let writer = broker.connect().await;
        stream::create(&writer, &subjects, 1).await.expect("a stream");
        for _ in 0..EVENTS {
            let event = subjects.all_events().replace('>', "register.orders.i1.web1");
            writer.publish(event, "x".repeat(1_000).into()).await.expect("it is sent");
        }
        let stored = async {
            while stream::info(&writer, &subjects, SOON).await.unwrap().unwrap().state.last_sequence < EVENTS {}
        };
        tokio::time::timeout(SOON, stored).await.expect("everything is stored");
        let client = broker.connect_with(ConnectOptions::new().subscription_capacity(messages)).await;
        let (out, mut delivered) = mpsc::channel(1);
        let reader = LogReader::start(&client, &subjects, 7, 1, out);
        let delivery = tokio::time::timeout(SOON, delivered.recv()).await.expect("it is opened");
        let Some(Delivery::Opened { reader: 7, log }) = delivery else { panic!("{delivery:?}") };
        let held_back = async {
            let (mut look, mut before) = (tokio::time::interval(QUIET), 0);
            loop {
                look.tick().await;
                let received = client.statistics().in_messages.load(Ordering::Relaxed);
                if received == before {
                    break;
                }
                before = received;
            }
        };
        tokio::time::timeout(SOON, held_back).await.expect("nothing is taken, so nothing more comes");
        (broker, reader, log)
    }

    /// The last sequence that comes, all before it in order; with why there is no more, if there is none.
    async fn read_all(log: &mut OpenLog) -> (u64, Option<String>) {
        let mut last = 0;
        while last < EVENTS {
            let messages = tokio::time::timeout(SOON, log.next()).await.expect("it goes on").expect("it is open");
            let (events, outcome) = log.read(messages).await;
            for event in events {
                assert_eq!(event.sequence, last + 1);
                last = event.sequence;
            }
            if let Err(reason) = outcome {
                return (last, Some(reason));
            }
        }
        (last, None)
    }

    #[tokio::test]
    async fn a_log_that_nobody_reads_waits_and_no_event_is_lost() {
        let (_broker, _reader, mut log) = unread(65_536).await;
        assert_eq!(read_all(&mut log).await, (EVENTS, None));
    }

    #[tokio::test]
    async fn a_reader_that_has_lost_messages_ends_before_the_gap_and_says_how_many_are_missing() {
        let (_broker, _reader, mut log) = unread(16).await;
        let (last, reason) = read_all(&mut log).await;
        let reason = reason.expect("it has no room for that many");
        assert!(last < EVENTS && reason.ends_with("events were lost on the way"), "{last}: {reason}");
    }

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let expected = Some(Place { sequence: 42, delivered: 7, nanoseconds: 1_700_000_000_123_456_789 });
        let short = "$JS.ACK.MUSTER_default.c.1.42.7.1700000000123456789.0";
        let long = "$JS.ACK.hub.abcdef.MUSTER_default.c.1.42.7.1700000000123456789.0.token";
        assert_eq!(Place::parse(short), expected);
        assert_eq!(Place::parse(long), expected);
        assert_eq!(Place::parse("$JS.FC.x"), None);
    }
}
