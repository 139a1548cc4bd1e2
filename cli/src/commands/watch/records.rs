//! An update as JSON: the shape that the help of `muster watch` documents.

use std::sync::Arc;

use chrono::Utc;
use muster_discovery::{State, Update};
use muster_schemas::entry::Evidence;
use muster_schemas::{Cause, Instance, InstanceId, Revision, ServiceName, Timestamp};
use serde::Serialize;

/// One line.
#[derive(Serialize)]
#[serde(tag = "update", rename_all = "snake_case")]
pub(super) enum Record<'a> {
    List {
        service: Option<&'a ServiceName>,
        at: Timestamp,
        state: &'static str,
        unknown_since: Option<Timestamp>,
        revision: Option<Revision>,
        instances: Vec<&'a Arc<Instance>>,
    },
    Change {
        change: &'static str,
        service: &'a ServiceName,
        instance: &'a InstanceId,
        at: Timestamp,
        cause: Cause,
        actor: &'a str,
        revision: Option<Revision>,
        evidence: Option<&'a Evidence>,
        conflicts: &'a [String],
        value: Option<&'a Arc<Instance>>,
        before: Option<&'a Arc<Instance>>,
    },
    State {
        service: Option<&'a ServiceName>,
        at: Timestamp,
        state: &'static str,
        unknown_since: Option<Timestamp>,
    },
}

/// None for a kind of update that this version does not know.
pub(super) fn record<'a>(service: Option<&'a ServiceName>, update: &'a Update) -> Option<Record<'a>> {
    let now = Timestamp::from_ms(Utc::now().timestamp_millis());
    match update {
        Update::List(list) => Some(Record::List {
            service,
            at: now,
            state: word(list.state()),
            unknown_since: list.unknown_since(),
            revision: list.revision(),
            instances: list.all().collect(),
        }),
        Update::Change(change) => {
            let why = change.why();
            Some(Record::Change {
                change: change.as_str(),
                service: change.service(),
                instance: change.id(),
                at: why.at,
                cause: why.cause,
                actor: &why.actor,
                revision: why.revision,
                evidence: why.evidence.as_ref(),
                conflicts: &why.conflicts,
                value: change.instance(),
                before: change.before(),
            })
        }
        Update::State(state) => Some(Record::State {
            service,
            at: now,
            state: word(*state),
            unknown_since: match state {
                State::Verified => None,
                State::Unknown { since } => Some(*since),
            },
        }),
        _ => None,
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Verified => "verified",
        State::Unknown { .. } => "unknown",
    }
}
