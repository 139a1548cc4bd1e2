//! Asks the stream for its facts, so that the core can tell whether the log is still the one that it folded.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{ClusterInfo, Info, PeerInfo, RawMessage};
use bytes::Bytes;
use muster_schemas::event::EventKind;
use muster_schemas::{Subjects, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::broker_api::{AskError, NO_MESSAGE_FOUND, STREAM_NOT_FOUND, ask_jetstream};
use crate::core::io::{EPOCHS_MAX, Inspection, LogFacts, Record};
use crate::stream;

/// A copy from which the stream's leader has not heard for so long is not there for it: they speak every second.
const COPY_SILENT_MAX: Duration = Duration::from_secs(4);

/// What is wanted of an inspection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Also all `epoch` events.
    pub(crate) epochs: bool,
    /// Also the event of this sequence.
    pub(crate) own: Option<u64>,
}

/// What an inspection found; owns what [`Inspection`] borrows.
#[derive(Debug)]
pub(crate) enum Found {
    Unreachable(String),
    Missing,
    Present(Box<Facts>),
}

#[derive(Debug)]
pub(crate) struct Facts {
    created_at: Timestamp,
    first_sequence: u64,
    last_sequence: u64,
    replicas: usize,
    servers: Vec<String>,
    epochs: VecDeque<StoredEvent>,
    own: Option<StoredEvent>,
}

#[derive(Debug)]
pub(crate) struct StoredEvent {
    sequence: u64,
    at: Timestamp,
    subject: String,
    payload: Bytes,
}

impl Found {
    /// As the core takes it.
    pub(crate) fn as_inspection(&self) -> Inspection<'_> {
        match self {
            Self::Unreachable(reason) => Inspection::Unreachable(reason),
            Self::Missing => Inspection::Missing,
            Self::Present(facts) => Inspection::Present(LogFacts {
                created_at: facts.created_at,
                first_sequence: facts.first_sequence,
                last_sequence: facts.last_sequence,
                replicas: facts.replicas,
                servers: &facts.servers,
                epochs: facts.epochs.iter().map(StoredEvent::as_record).collect(),
                own: facts.own.as_ref().map(StoredEvent::as_record),
            }),
        }
    }
}

impl StoredEvent {
    /// When the stream stored it.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    pub(crate) fn as_record(&self) -> Record<'_> {
        Record { sequence: self.sequence, at: self.at, subject: &self.subject, payload: &self.payload }
    }
}

/// Inspects the log; the answer comes within `timeout`.
pub(crate) async fn inspect(client: &Client, subjects: &Subjects, wanted: Wanted, timeout: Duration) -> Found {
    let facts = tokio::time::timeout(timeout, facts(client, subjects, wanted, timeout)).await;
    match facts {
        Ok(Ok(Some(facts))) => Found::Present(Box::new(facts)),
        Ok(Ok(None) | Err(AskError::Refused { code: STREAM_NOT_FOUND, .. })) => Found::Missing,
        Ok(Err(error)) => Found::Unreachable(error.to_string()),
        Err(_) => Found::Unreachable(format!("no answer within {} ms", timeout.as_millis())),
    }
}

/// The numbers are read last, so that whatever else is found lies below the last sequence.
async fn facts(
    client: &Client,
    subjects: &Subjects,
    wanted: Wanted,
    timeout: Duration,
) -> Result<Option<Facts>, AskError> {
    let epochs = if wanted.epochs { epochs(client, subjects, timeout).await? } else { VecDeque::new() };
    let own = match wanted.own {
        Some(sequence) => event(client, subjects, json!({ "seq": sequence }), timeout).await?,
        None => None,
    };
    let Some(info) = stream::info(client, subjects, timeout).await? else {
        return Ok(None);
    };
    if let Some(cluster) = info.cluster.as_ref().filter(|_| info.config.num_replicas > 1)
        && !has_quorum(cluster, info.config.num_replicas)
    {
        let leader = cluster.leader.as_deref().unwrap_or("nobody");
        return Err(AskError::Failed(format!("{leader} leads the stream, and hears too few of its copies")));
    }
    Ok(Some(Facts {
        created_at: Timestamp::from_nanoseconds(info.created.unix_timestamp_nanos()),
        first_sequence: info.state.first_sequence,
        last_sequence: info.state.last_sequence,
        replicas: info.config.num_replicas,
        servers: servers(&info),
        epochs,
        own,
    }))
}

/// Whether who answered speaks for the stream. A leader that was cut off goes on answering for twenty seconds with what it held
/// when that happened, and then, as one copy among others without a leader, for as long as it is cut off.
fn has_quorum(cluster: &ClusterInfo, copies: usize) -> bool {
    // One that it has not heard since it leads was heard "0 seconds ago".
    let heard = |copy: &&PeerInfo| !copy.offline && !copy.active.is_zero() && copy.active <= COPY_SILENT_MAX;
    cluster.leader.is_some() && cluster.replicas.iter().filter(heard).count() + 1 > copies / 2
}

fn servers(info: &Info) -> Vec<String> {
    let Some(cluster) = &info.cluster else { return Vec::new() };
    let followers = cluster.replicas.iter().map(|follower| follower.name.clone());
    let mut names: Vec<String> = cluster.leader.iter().cloned().chain(followers).collect();
    names.sort_unstable();
    names
}

/// The newest `epoch` events, oldest first. There are few: one per lost log.
pub(crate) async fn epochs(
    client: &Client,
    subjects: &Subjects,
    timeout: Duration,
) -> Result<VecDeque<StoredEvent>, AskError> {
    let filter = subjects.events_of_kind(EventKind::Epoch);
    let mut epochs = VecDeque::new();
    let mut from = 1;
    while let Some(epoch) = event(client, subjects, json!({ "seq": from, "next_by_subj": filter }), timeout).await? {
        from = epoch.sequence + 1;
        keep_newest(&mut epochs, epoch);
    }
    Ok(epochs)
}

fn keep_newest(epochs: &mut VecDeque<StoredEvent>, epoch: StoredEvent) {
    if epochs.len() == EPOCHS_MAX {
        epochs.pop_front();
    }
    epochs.push_back(epoch);
}

#[derive(Deserialize)]
struct Stored {
    message: RawMessage,
}

/// One event, from the stream's leader: a direct get may be answered by a copy that lags.
pub(crate) async fn event(
    client: &Client,
    subjects: &Subjects,
    wanted: Value,
    timeout: Duration,
) -> Result<Option<StoredEvent>, AskError> {
    let verb = format!("STREAM.MSG.GET.{}", subjects.stream_name());
    let stored: Stored = match ask_jetstream(client, &verb, &wanted, timeout).await {
        Err(AskError::Refused { code: NO_MESSAGE_FOUND, .. }) => return Ok(None),
        other => other?,
    };
    let message = StreamMessage::try_from(stored.message).map_err(|error| AskError::Failed(error.to_string()))?;
    Ok(Some(StoredEvent {
        sequence: message.sequence,
        at: Timestamp::from_nanoseconds(message.time.unix_timestamp_nanos()),
        subject: message.subject.to_string(),
        payload: message.payload,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(silent_s: u64, offline: bool) -> PeerInfo {
        let active = Duration::from_secs(silent_s) + Duration::from_millis(1);
        PeerInfo { name: "n".into(), current: true, active, offline, lag: None }
    }

    fn heard(copies: Vec<PeerInfo>) -> bool {
        let number = copies.len() + 1;
        has_quorum(&ClusterInfo { leader: Some("n1".into()), replicas: copies, ..ClusterInfo::default() }, number)
    }

    #[test]
    fn a_leader_speaks_for_the_stream_while_it_hears_a_majority_of_the_copies() {
        assert!(heard(vec![copy(0, false), copy(1, false)]));
        assert!(heard(vec![copy(60, false), copy(1, false)]), "one of three is away");
        assert!(!heard(vec![copy(60, false), copy(5, false)]), "it was cut off");
        assert!(!heard(vec![copy(0, true), copy(0, true)]));
        assert!(!heard(vec![copy(0, false), copy(60, false), copy(60, false), copy(60, false)]));
        assert!(heard(vec![]), "the only copy is its own");
        let unheard = || PeerInfo { active: Duration::ZERO, current: false, ..copy(0, false) };
        assert!(!heard(vec![unheard(), unheard()]), "it has not heard them since it leads");
        let leaderless = ClusterInfo { replicas: vec![copy(0, false), copy(0, false)], ..ClusterInfo::default() };
        assert!(!has_quorum(&leaderless, 3), "nobody leads");
    }

    #[test]
    fn of_more_epochs_than_are_looked_at_the_newest_are_kept_oldest_first() {
        let mut epochs = VecDeque::new();
        let count = EPOCHS_MAX as u64 + 10;
        for sequence in 1..=count {
            let at = Timestamp::from_ms(0);
            keep_newest(&mut epochs, StoredEvent { sequence, at, subject: String::new(), payload: Bytes::new() });
        }
        let sequences: Vec<u64> = epochs.iter().map(|epoch| epoch.sequence).collect();
        assert_eq!(sequences, (11..=count).collect::<Vec<_>>());
    }
}
