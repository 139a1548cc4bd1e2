//! Trims the head of the log: everything that a verified checkpoint stands for and the history settings no longer want.

use std::time::Duration;

use async_nats::Client;
use muster_schemas::{Subjects, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::broker_api::{AskError, ask_jetstream};
use crate::core::catalog::EventMark;
use crate::core::io::Trim;
use crate::{inspection, stream};

/// How long each question to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

/// Trims the log; how many events went.
pub(crate) async fn trim(client: &Client, subjects: &Subjects, trim: &Trim) -> Result<u64, AskError> {
    let Some(info) = stream::info(client, subjects, TIMEOUT).await? else {
        return Ok(0);
    };
    let state = info.state;
    let mut first_kept = state.first_sequence;
    if let Some(since) = trim.since {
        let range = (state.first_sequence, trim.below);
        first_kept = first_kept.max(first_since(client, subjects, range, since).await?);
    }
    if let Some(bytes_max) = trim.bytes_max.filter(|max| *max < state.bytes) {
        let events = u128::from(state.messages) * u128::from(bytes_max) / u128::from(state.bytes.max(1));
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        first_kept = first_kept.max((state.last_sequence + 1).saturating_sub(events));
    }
    first_kept = first_kept.min(trim.below);
    if first_kept <= state.first_sequence {
        return Ok(0);
    }
    // Looked at last: what the checkpoint stands for must be this very log.
    if !stands(client, subjects, trim.below, &trim.mark).await? {
        return Err(AskError::Failed(format!("the event at {} is not that of the checkpoint", trim.below)));
    }
    let verb = format!("STREAM.PURGE.{}", subjects.stream_name());
    let Purged { purged } = ask_jetstream(client, &verb, &json!({ "seq": first_kept }), TIMEOUT).await?;
    tracing::info!(events = purged, first_sequence = first_kept, "the log's head was trimmed");
    Ok(purged)
}

async fn stands(client: &Client, subjects: &Subjects, sequence: u64, mark: &EventMark) -> Result<bool, AskError> {
    let found = inspection::event(client, subjects, json!({ "seq": sequence }), TIMEOUT).await?;
    Ok(found.is_some_and(|found| mark.is_of(&found.as_record())))
}

/// The first event of a range, its end excluded, that is not before a time; the end if there is none. Timestamps in a
/// stream rise, so halving finds it.
pub(crate) async fn first_since(
    client: &Client,
    subjects: &Subjects,
    (mut low, mut high): (u64, u64),
    since: Timestamp,
) -> Result<u64, AskError> {
    while low < high {
        let middle = low + (high - low) / 2;
        let wanted = json!({ "seq": middle, "next_by_subj": subjects.all_events() });
        match inspection::event(client, subjects, wanted, TIMEOUT).await? {
            Some(event) if event.at() < since => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
