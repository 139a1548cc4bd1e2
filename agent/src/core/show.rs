//! What a registry shows of an instance, read from its answer.

use muster_schemas::agent::instance_key;
use muster_schemas::query::{ErrorCode, ErrorReply, Reply, Request, ServiceReply};
use muster_schemas::{EpochId, InstanceId, MinRevision, ServiceName, Vouching};

use super::io::Answer;

/// What a registry shows of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Show {
    /// It is registered.
    There {
        epoch: EpochId,
        vouching: Vouching,
        /// Who else registered the same host and port, for people.
        conflict: Option<String>,
    },
    /// It is not.
    Absent,
    /// No answer that proves anything.
    Nothing {
        /// For people.
        problem: String,
        /// The registry that answered has not come as far as it was asked to, or does not know yet.
        is_behind: bool,
    },
}

/// The body of a question; the epoch in force is meant.
pub(super) fn question(min_sequence: Option<u64>) -> Vec<u8> {
    let request =
        Request { min_revision: min_sequence.map(|sequence| MinRevision(None, sequence)), ..Request::default() };
    // Serialising plain data into memory cannot fail.
    serde_json::to_vec(&request).unwrap_or_default()
}

impl Show {
    /// Reads an answer about an instance; none: nothing in time.
    pub(super) fn read(answer: Option<Answer<'_>>, service: &ServiceName, instance: &InstanceId) -> Self {
        let nothing = |problem: &str| Self::Nothing { problem: problem.to_owned(), is_behind: false };
        let payload = match answer {
            None => return nothing("no registry answered in time"),
            Some(Answer::NoResponders) => return nothing("no registry answers: does one run?"),
            Some(Answer::NotSent(problem)) => return nothing(problem),
            Some(Answer::Message(payload)) => payload,
        };
        if let Ok(ErrorReply { error }) = serde_json::from_slice(payload) {
            return match error.code {
                ErrorCode::NotFound => Self::Absent,
                code => Self::Nothing {
                    problem: format!("the registry says: {error}"),
                    // One that recovers has come as far as it was asked to, if it says so; absence proves nothing to it.
                    is_behind: matches!(code, ErrorCode::Behind | ErrorCode::NotReady),
                },
            };
        }
        match serde_json::from_slice::<Reply>(payload) {
            Ok(reply) => Self::of(reply, service, instance),
            Err(error) => nothing(&format!("the registry's answer is not understood: {error}")),
        }
    }

    fn of(reply: Reply, service: &ServiceName, instance: &InstanceId) -> Self {
        let epoch = reply.epoch;
        let Some(shown) = reply.services.into_iter().find(|shown| shown.service == *service) else {
            return Self::Absent;
        };
        let conflict = conflict(&shown, instance);
        let found = shown.instances.iter().find(|found| found.id() == instance);
        found.map_or(Self::Absent, |found| Self::There { epoch, vouching: found.vouching().clone(), conflict })
    }
}

fn conflict(shown: &ServiceReply, instance: &InstanceId) -> Option<String> {
    let own = instance_key(&shown.service, instance);
    let (place, keys) = shown.conflicts.iter().find(|(_, keys)| keys.contains(&own))?;
    let others: Vec<&str> = keys.iter().map(String::as_str).filter(|key| *key != own).collect();
    Some(format!("{place} is also registered by {}", others.join(", ")))
}
