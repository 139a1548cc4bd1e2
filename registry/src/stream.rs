//! The stream that holds the log: created as it must be, or checked, never changed.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use muster_schemas::Subjects;
use muster_schemas::limits::CARRY_BYTES_MAX;

use crate::broker_api::{AskError, STREAM_NAME_IN_USE, STREAM_NOT_FOUND, ask_jetstream};

/// De-duplication is not used: it would swallow the return of a live instance. This is as short as the broker allows.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);
/// What the broker may take to create a stream; a replicated one needs an election.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

/// One field in which a stream is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field, as the broker's tools call it.
    pub field: &'static str,
    /// As it must be.
    pub expected: String,
    /// As it is.
    pub found: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: expected {}, found {}", self.field, self.expected, self.found)
    }
}

/// What a stream is created with.
pub(crate) fn configuration(subjects: &Subjects, replicas: usize) -> Config {
    Config {
        name: subjects.stream_name(),
        description: Some("Muster's log of registrations".into()),
        subjects: vec![subjects.all_events()],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        max_age: Duration::ZERO,
        num_replicas: replicas,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    }
}

/// Where a stream differs from what it must be; how many replicas it has only matters where a number was asked for.
#[must_use]
pub fn differences(subjects: &Subjects, replicas: Option<usize>, found: &Config) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut compare = |field: &'static str, expected: String, found: String| {
        if expected != found {
            differences.push(Difference { field, expected, found });
        }
    };
    let wanted = configuration(subjects, replicas.unwrap_or(found.num_replicas));
    compare("subjects", wanted.subjects.join(", "), found.subjects.join(", "));
    compare("storage", word(&wanted.storage), word(&found.storage));
    compare("retention", word(&wanted.retention), word(&found.retention));
    compare("num_replicas", wanted.num_replicas.to_string(), found.num_replicas.to_string());
    compare("max_age", period(wanted.max_age), period(found.max_age));
    compare("max_bytes", limit(wanted.max_bytes), limit(found.max_bytes));
    compare("max_msgs", limit(wanted.max_messages), limit(found.max_messages));
    let (wanted_per, found_per) = (wanted.max_messages_per_subject, found.max_messages_per_subject);
    compare("max_msgs_per_subject", limit(wanted_per), limit(found_per));
    let size = usize::try_from(found.max_message_size).unwrap_or(0);
    if size > 0 && size < CARRY_BYTES_MAX {
        compare("max_msg_size", format!("none, or at least {CARRY_BYTES_MAX}"), size.to_string());
    }
    compare("duplicate_window", period(wanted.duplicate_window), period(found.duplicate_window));
    for (field, wanted, found) in [
        ("deny_delete", wanted.deny_delete, found.deny_delete),
        ("deny_purge", wanted.deny_purge, found.deny_purge),
        ("allow_direct", wanted.allow_direct, found.allow_direct),
        ("allow_rollup_hdrs", wanted.allow_rollup, found.allow_rollup),
        ("no_ack", wanted.no_ack, found.no_ack),
        ("sealed", wanted.sealed, found.sealed),
        ("mirror", false, found.mirror.is_some()),
        ("sources", false, found.sources.as_ref().is_some_and(|sources| !sources.is_empty())),
        ("subject_transform", false, found.subject_transform.is_some()),
        ("allow_msg_ttl", wanted.allow_message_ttl, found.allow_message_ttl),
    ] {
        compare(field, wanted.to_string(), found.to_string());
    }
    differences
}

fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// No limit is written as 0 or -1.
fn limit(value: i64) -> String {
    if value > 0 { value.to_string() } else { "none".into() }
}

fn period(value: Duration) -> String {
    if value.is_zero() { "none".into() } else { format!("{value:?}") }
}

/// The stream's description and state; `None` if the broker says that there is no such stream.
pub(crate) async fn info(client: &Client, subjects: &Subjects, timeout: Duration) -> Result<Option<Info>, AskError> {
    let verb = format!("STREAM.INFO.{}", subjects.stream_name());
    match ask_jetstream(client, &verb, &serde_json::json!({}), timeout).await {
        Ok(info) => Ok(Some(info)),
        Err(AskError::Refused { code: STREAM_NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates the stream; one that is there already is left as it is.
pub(crate) async fn create(client: &Client, subjects: &Subjects, replicas: usize) -> Result<(), AskError> {
    let verb = format!("STREAM.CREATE.{}", subjects.stream_name());
    let configuration = configuration(subjects, replicas);
    match ask_jetstream::<serde_json::Value>(client, &verb, &configuration, CREATE_TIMEOUT).await {
        Ok(_) | Err(AskError::Refused { code: STREAM_NAME_IN_USE, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates an empty stream whose first event will have this sequence.
pub(crate) async fn create_from(
    client: &Client,
    subjects: &Subjects,
    replicas: usize,
    first_sequence: u64,
) -> Result<Info, AskError> {
    let verb = format!("STREAM.CREATE.{}", subjects.stream_name());
    let configuration = Config { first_sequence: Some(first_sequence), ..configuration(subjects, replicas) };
    ask_jetstream(client, &verb, &configuration, CREATE_TIMEOUT).await
}

/// Deletes the stream with all events.
pub(crate) async fn delete(client: &Client, subjects: &Subjects) -> Result<(), AskError> {
    let verb = format!("STREAM.DELETE.{}", subjects.stream_name());
    let _: serde_json::Value = ask_jetstream(client, &verb, &serde_json::json!({}), CREATE_TIMEOUT).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects() -> Subjects {
        Subjects::new(muster_schemas::Prefix::default(), muster_schemas::Namespace::default())
    }

    #[test]
    fn a_stream_as_it_is_created_shows_no_difference() {
        assert_eq!(differences(&subjects(), Some(3), &configuration(&subjects(), 3)), []);
        assert_eq!(differences(&subjects(), None, &configuration(&subjects(), 3)), []);
    }

    #[test]
    fn every_difference_is_named_with_what_was_expected_and_found() {
        let mut found = configuration(&subjects(), 1);
        found.storage = StorageType::Memory;
        found.max_age = Duration::from_secs(3600);
        found.deny_delete = false;
        let lines: Vec<String> = differences(&subjects(), Some(3), &found).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "storage: expected file, found memory",
                "num_replicas: expected 3, found 1",
                "max_age: expected none, found 3600s",
                "deny_delete: expected true, found false",
            ]
        );
    }
}
