//! Tells how a registration stands, line by line.

use std::cell::RefCell;

use chrono::Utc;
use muster_agent::vouch::{DeregisterOutcome, InstanceSpec, Pending, Status};
use muster_runtime::output::write_line;
use muster_schemas::Timestamp;
use serde::Serialize;

use crate::error::CommandError;
use crate::show::endpoint;

/// What is told of, and in which form.
pub(super) struct Standing {
    json: bool,
    service: String,
    instance: String,
    endpoints: String,
    /// People are not told the same twice in a row.
    last_told: RefCell<String>,
}

/// One line for programs.
#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    service: &'a str,
    instance: &'a str,
    status: &'static str,
    revision: Option<u64>,
    detail: String,
}

impl Standing {
    pub(super) fn new(json: bool, spec: &InstanceSpec) -> Self {
        let endpoints: Vec<String> = spec.endpoints.iter().map(endpoint).collect();
        Self {
            json,
            service: spec.service.to_string(),
            instance: spec.instance.to_string(),
            endpoints: endpoints.join(" "),
            last_told: RefCell::default(),
        }
    }

    /// One line. That nobody reads it is no reason to stop vouching.
    pub(super) fn tell(&self, status: &Status) {
        let at = Timestamp::from_ms(Utc::now().timestamp_millis());
        let line = if self.json {
            let line = Line {
                at,
                service: &self.service,
                instance: &self.instance,
                status: word(status),
                revision: sequence(status),
                detail: self.sentence(status),
            };
            // Plain data with string keys cannot fail to serialise.
            serde_json::to_string(&line).unwrap_or_default()
        } else {
            let sentence = self.sentence(status);
            if is_passing_by(status) || self.last_told.replace(sentence.clone()) == sentence {
                return;
            }
            format!("{at}  {sentence}")
        };
        let _ = write_line(&mut std::io::stdout().lock(), &line);
    }

    /// For people.
    pub(super) fn sentence(&self, status: &Status) -> String {
        let name = format!("{}/{}", self.service, self.instance);
        match status {
            Status::Registered { revision, conflict } => {
                let at = if self.endpoints.is_empty() { String::new() } else { format!(" with {}", self.endpoints) };
                let conflict = conflict.as_ref().map(|other| format!("; CONFLICT: same address as {other}"));
                let conflict = conflict.unwrap_or_default();
                format!("{name} is registered{at}, at revision {}{conflict}", revision.sequence())
            }
            Status::Deregistered(DeregisterOutcome::Removed { sequence }) => {
                format!("{name} is deregistered, at revision {sequence}")
            }
            status => format!("{name} is {status}"),
        }
    }

    /// Or why it is not, and will not be by itself.
    pub(super) fn is_registered(&self, status: &Status) -> Result<(), CommandError> {
        let sentence = self.sentence(status);
        match status {
            Status::Registered { .. } => Ok(()),
            Status::Superseded | Status::Displaced { .. } => Err(CommandError::Superseded(sentence)),
            _ => Err(CommandError::Failed(sentence)),
        }
    }
}

/// A step on the way that people need not be told of while nothing holds it up.
fn is_passing_by(status: &Status) -> bool {
    use Pending::{Confirming, Publishing, Starting};
    matches!(status, Status::Pending(Starting | Publishing | Confirming { problem: None }) | Status::Deregistering)
}

fn word(status: &Status) -> &'static str {
    match status {
        Status::Pending(_) => "pending",
        Status::Registered { .. } => "registered",
        Status::Refused(_) => "refused",
        Status::Fenced(_) => "fenced",
        Status::Duplicate { .. } => "duplicate",
        Status::Displaced { .. } => "displaced",
        Status::Deregistering => "deregistering",
        Status::Deregistered(_) => "deregistered",
        Status::Superseded => "superseded",
        _ => "stopped",
    }
}

/// The position in the log of what was confirmed.
fn sequence(status: &Status) -> Option<u64> {
    match status {
        Status::Registered { revision, .. } => Some(revision.sequence()),
        Status::Deregistered(DeregisterOutcome::Removed { sequence }) => Some(*sequence),
        _ => None,
    }
}
