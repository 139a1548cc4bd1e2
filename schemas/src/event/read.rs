//! Reading an event: subject, envelope and data must agree.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

use super::{Event, EventData, EventKind, Sender};
use crate::limits::{CARRY_BYTES_MAX, EVENT_ID_BYTES_MAX};
use crate::refusal::{Refusal, RefusalKind};
use crate::subject::{Subject, SubjectError, Subjects, Target};
use crate::timestamp::Timestamp;

/// The parts of the envelope that are held against the subject before its data.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    type_name: Cow<'a, str>,
    #[serde(default)]
    time: Option<Timestamp>,
}

/// All of it, read in one go.
#[derive(Deserialize)]
struct Whole<'a, D> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    type_name: Cow<'a, str>,
    #[serde(default)]
    time: Option<Timestamp>,
    data: D,
}

impl Event {
    /// Reads an event: understands the subject, the envelope and the data, checks that the three agree on sender, service
    /// and instance, and that every rule and limit holds.
    ///
    /// # Errors
    /// A [`Refusal`] that names the field, its value and the way out.
    pub fn parse(subjects: &Subjects, subject: &str, payload: &[u8]) -> Result<Self, Refusal> {
        let (kind, target, sender) = parse_subject(subjects, subject)?;
        if payload.len() > kind.bytes_max() {
            return Err(Refusal::too_large("event", payload.len(), kind.bytes_max()));
        }
        let source = sender.source(subjects.namespace());
        let (head, data) = read_whole(kind, &source, payload)?;
        check_identity(&data, &target, &sender)?;
        data.validate()?;
        Ok(Self { id: head.id.into_owned(), source: sender, time: head.time, data })
    }

    /// The id in a payload that may otherwise be unreadable, for telling its sender.
    #[must_use]
    pub fn peek_id(payload: &[u8]) -> Option<String> {
        let value: serde_json::Value =
            serde_json::from_slice(payload.get(..CARRY_BYTES_MAX).unwrap_or(payload)).ok()?;
        let id = value.get("id")?.as_str()?;
        (id.len() <= EVENT_ID_BYTES_MAX).then(|| id.to_owned())
    }
}

fn parse_subject(subjects: &Subjects, subject: &str) -> Result<(EventKind, Target, Sender), Refusal> {
    match subjects.parse(subject) {
        Ok(Subject::Event { kind, target, sender }) => Ok((kind, target, sender)),
        Ok(_) => Err(Refusal::malformed("subject", subject, "is not an event's subject")),
        Err(error @ SubjectError::UnknownKind { .. }) => {
            Err(Refusal::new(RefusalKind::UnknownKind, "subject", subject, error.to_string()))
        }
        Err(error) => Err(Refusal::malformed("subject", subject, error.to_string())),
    }
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(payload)
        .map_err(|error| Refusal::malformed("event", String::from_utf8_lossy(payload), error.to_string()))
}

fn check_head(head: &Head<'_>, kind: EventKind, source: &str) -> Result<(), Refusal> {
    if head.specversion != "1.0" {
        return Err(Refusal::malformed("specversion", &head.specversion, "must be \"1.0\""));
    }
    if head.id.is_empty() || head.id.len() > EVENT_ID_BYTES_MAX {
        return Err(Refusal::malformed("id", &head.id, "must have 1 to 128 bytes"));
    }
    if head.type_name == kind.type_name() {
        return if head.source == source { Ok(()) } else { Err(mismatch("source", &head.source, source)) };
    }
    if EventKind::ALL.iter().any(|known| known.type_name() == head.type_name) {
        return Err(mismatch("type", &head.type_name, kind.type_name()));
    }
    let help = format!("this version reads {}: upgrade the registries first", kind.type_name());
    Err(Refusal::new(RefusalKind::UnknownKind, "type", &head.type_name, help))
}

fn read_whole<'a>(kind: EventKind, source: &str, payload: &'a [u8]) -> Result<(Head<'a>, EventData), Refusal> {
    Ok(match kind {
        EventKind::Register => of_kind(kind, source, payload, EventData::Register)?,
        EventKind::Deregister => of_kind(kind, source, payload, EventData::Deregister)?,
        EventKind::Health => of_kind(kind, source, payload, EventData::Health)?,
        EventKind::Expire => of_kind(kind, source, payload, EventData::Expire)?,
        EventKind::Intent => of_kind(kind, source, payload, EventData::Intent)?,
        EventKind::Lapse => of_kind(kind, source, payload, EventData::Lapse)?,
        EventKind::Epoch => of_kind(kind, source, payload, EventData::Epoch)?,
        EventKind::Carry => of_kind(kind, source, payload, EventData::Carry)?,
        EventKind::Recovered => of_kind(kind, source, payload, EventData::Recovered)?,
        EventKind::Setting => of_kind(kind, source, payload, EventData::Setting)?,
    })
}

/// An event whose data do not fit its kind is refused for its envelope, if that does not fit either.
fn of_kind<'a, D: Deserialize<'a>>(
    kind: EventKind,
    source: &str,
    payload: &'a [u8],
    data: impl FnOnce(D) -> EventData,
) -> Result<(Head<'a>, EventData), Refusal> {
    match read::<Whole<'a, D>>(payload) {
        Ok(Whole { specversion, id, source: named, type_name, time, data: body }) => {
            let head = Head { specversion, id, source: named, type_name, time };
            check_head(&head, kind, source)?;
            Ok((head, data(body)))
        }
        Err(refusal) => {
            check_head(&read::<Head<'_>>(payload)?, kind, source)?;
            Err(refusal)
        }
    }
}

fn mismatch(field: &str, value: impl fmt::Display, expected: impl fmt::Display) -> Refusal {
    let help = format!("subject, envelope and data must agree: expected {expected}");
    Refusal::new(RefusalKind::IdentityMismatch, field, value, help)
}

fn check_identity(data: &EventData, target: &Target, sender: &Sender) -> Result<(), Refusal> {
    match (data.target(), target) {
        (Some((service, instance)), Some((expected_service, expected_instance))) => {
            if service != expected_service {
                return Err(mismatch("data.service", service, expected_service));
            }
            if instance != expected_instance {
                return Err(mismatch("data.instance", instance, expected_instance));
            }
        }
        (None, None) => {}
        _ => return Err(mismatch("subject", "-", "the service and instance of the data")),
    }
    match (data, sender) {
        (EventData::Register(_) | EventData::Deregister(_) | EventData::Health(_), Sender::Agent(agent)) => {
            match data.vouching() {
                Some(vouching) if vouching.agent != *agent => Err(mismatch("data.agent", &vouching.agent, agent)),
                _ => Ok(()),
            }
        }
        (EventData::Intent(intent), Sender::Operator(who)) if intent.who != *who => {
            Err(mismatch("data.who", &intent.who, who))
        }
        _ => Ok(()),
    }
}
