//! An event of the log in plain words.

use muster_registry::core::catalog::{Outcome, Reason};
use muster_registry::past::Entry;
use muster_schemas::entry::{Evidence, IntentKind, ProbeResult};
use muster_schemas::event::{EventData, ExpiryCause};
use muster_schemas::{Cause, ChangeKind, Event, Health, HealthStatus, Subjects};

use crate::show::period;

/// One sentence about an event, and what became of it.
pub(crate) fn sentence(subjects: &Subjects, entry: &Entry) -> String {
    let event = match Event::parse(subjects, &entry.subject, &entry.payload) {
        Ok(event) => event,
        Err(refusal) => return format!("an event that nobody understands was ignored: {refusal}"),
    };
    let actor = event.source.to_string();
    if entry.is_doubtful {
        return format!("{}; what became of it depended on events that are gone", accepted(&event, &actor, entry));
    }
    match entry.folded.outcome {
        Outcome::Ignored(reason) => ignored(&event, &actor, reason, entry.folded.detail.as_deref()),
        Outcome::NoOp(_) => format!("{actor} said again what was known"),
        Outcome::Accepted(_) => accepted(&event, &actor, entry),
    }
}

fn ignored(event: &Event, actor: &str, reason: Reason, detail: Option<&str>) -> String {
    let what = match &event.data {
        EventData::Register(_) => "registration",
        EventData::Deregister(_) => "deregistration",
        EventData::Health(_) => "report of health",
        EventData::Expire(_) => "proposal to expire it",
        EventData::Intent(_) => "wish",
        EventData::Lapse(_) => "proposal to end an intent",
        EventData::Carry(_) => "entry carried over",
        EventData::Epoch(_) => "beginning of a log",
        EventData::Recovered(_) => "end of recovery",
        EventData::Setting(_) => "setting",
    };
    let why = match reason {
        Reason::Stale => "it was late, or of an earlier life".to_owned(),
        Reason::Superseded => "something had happened in between".to_owned(),
        Reason::Fenced => "an operator's eviction is in force".to_owned(),
        Reason::FutureIncarnation => "its incarnation lies more than a day in the future".to_owned(),
        Reason::UnknownInstance => "it was not registered".to_owned(),
        Reason::NoEpoch => "no log was in force yet".to_owned(),
        Reason::WrongEpoch => "it was meant for another log".to_owned(),
        Reason::NotDue => "the time set was not over yet".to_owned(),
        Reason::StaticInstance => "it has no lease that could end".to_owned(),
        Reason::CarryClosed => "this log takes nothing over, or no longer".to_owned(),
        Reason::TooManyIntents => "as many intents are in force as there may be".to_owned(),
        Reason::UnknownKind
        | Reason::UnknownSetting
        | Reason::UnsupportedFoldVersion
        | Reason::Malformed
        | Reason::Oversize
        | Reason::IdentityMismatch => detail.unwrap_or(reason.as_str()).to_owned(),
    };
    format!("a {what} by {actor} was ignored: {why} ({})", reason.as_str())
}

fn accepted(event: &Event, actor: &str, entry: &Entry) -> String {
    let change = entry.folded.change.as_ref();
    match &event.data {
        EventData::Register(registration) => {
            let health = health(&registration.health);
            match change.map(|change| change.change) {
                Some(ChangeKind::Updated) => format!("{actor} registered it with other content, {health}"),
                _ => format!("{actor} registered it, {health}"),
            }
        }
        EventData::Health(report) => format!("{actor} reported it {}", health(&report.health)),
        EventData::Deregister(data) => {
            let reason = reason(data.reason.as_str());
            let detail = data.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{actor} took it back: {reason}{detail}")
        }
        EventData::Expire(expiry) => format!("{actor} removed it: {}", expired(expiry.cause, &expiry.evidence)),
        EventData::Intent(intent) => {
            let until = intent.until.map(|until| format!(" until {until}")).unwrap_or_default();
            let why = if intent.why.is_empty() { String::new() } else { format!(": {}", intent.why) };
            match intent.intent {
                IntentKind::Maintenance => format!("{} put it into maintenance{until}{why}", intent.who),
                IntentKind::Evict => format!("{} evicted it{until}{why}", intent.who),
                IntentKind::Clear => format!("{} lifted what was wanted of it{why}", intent.who),
            }
        }
        EventData::Lapse(_) => "the time set for maintenance or eviction was over".to_owned(),
        EventData::Epoch(data) => match data.previous_epoch {
            Some(previous) => format!("log {previous} was lost; {actor} began log {}, empty at first", data.epoch),
            None => format!("{actor} began log {}", data.epoch),
        },
        EventData::Carry(_) => format!("{actor} brought it over from the lost log"),
        EventData::Recovered(_) => "the log had recovered: whoever was alive had been back".to_owned(),
        EventData::Setting(setting) => format!("{actor} set {} to {}", setting.name, setting.value),
    }
}

fn health(health: &Health) -> String {
    if health.status == HealthStatus::Passing {
        return "passing".to_owned();
    }
    let worst = health.checks.iter().filter(|check| check.status == health.status);
    let checks = worst.map(|check| {
        let name = check.name.as_deref().unwrap_or(&check.id);
        check.output.as_ref().map_or_else(|| name.to_owned(), |output| format!("{name}: {output}"))
    });
    let checks = checks.collect::<Vec<_>>().join("; ");
    let status = health.status.as_str();
    if checks.is_empty() { status.to_owned() } else { format!("{status} ({checks})") }
}

/// Why an instance was held for gone, with the evidence.
pub(crate) fn expired(cause: ExpiryCause, evidence: &Evidence) -> String {
    let cause = match cause {
        ExpiryCause::Silent => reason("silent"),
        ExpiryCause::Disconnected => reason("disconnected"),
        ExpiryCause::Disowned => reason("disowned"),
        ExpiryCause::Unreachable => reason("unreachable"),
    };
    format!("{cause}{}", proof(evidence))
}

/// Who caused a change, and why, from what consumers are told.
pub(crate) fn cause(cause: Cause, actor: &str, evidence: Option<&Evidence>) -> String {
    let reason = evidence.and_then(|evidence| evidence.reason.as_deref()).map(reason);
    let proof = evidence.map(proof).unwrap_or_default();
    let told = match cause {
        Cause::Resync => "found when the view was read again".to_owned(),
        Cause::CarriedOver => format!("brought over from the lost log by {actor}"),
        Cause::Health => format!("health reported by {actor}"),
        other => format!("{} by {actor}", other.as_str()),
    };
    match reason {
        Some(reason) => format!("{told}: {reason}{proof}"),
        None => format!("{told}{proof}"),
    }
}

/// The words that replicas and agents put into evidence, as people say them.
fn reason(word: &str) -> &str {
    match word {
        "silent" => "its agent was silent",
        "disconnected" => "its agent's connection broke",
        "disowned" => "its agent no longer vouched for it",
        "unreachable" => "its agent's broker server was unreachable for too long",
        "stopped" => "it was stopped",
        "child_exited" => "its process exited",
        "critical_too_long" => "it was critical for too long",
        "operator" => "an operator asked for it",
        "evicted" => "an operator put it out",
        other => other,
    }
}

/// The evidence in parentheses, or nothing.
pub(crate) fn proof(evidence: &Evidence) -> String {
    let mut proof = Vec::new();
    if let Some(at) = evidence.last_heartbeat_at {
        let by = evidence.heard_by.as_ref().map(|replica| format!(" by {replica}")).unwrap_or_default();
        proof.push(format!("last heard at {at}{by}"));
    }
    proof.extend(evidence.charged_ms.map(|charged_ms| format!("{} of silence that counted", period(charged_ms))));
    proof.extend(evidence.broker_reason.as_ref().map(|reason| {
        let server = evidence.server.as_ref().map(|server| format!(" {server}")).unwrap_or_default();
        format!("broker{server} said of its connection: {reason}")
    }));
    proof.extend(evidence.probe.map(|probe| {
        match probe {
            ProbeResult::NoResponders => "asked, and nobody listened",
            ProbeResult::Timeout => "asked, and nobody answered",
            ProbeResult::Unlisted => "asked, and it was not on the agent's list",
        }
        .to_owned()
    }));
    proof.extend(evidence.detail.clone());
    proof.extend(evidence.replica.as_ref().map(|replica| format!("decided by {replica}")));
    if proof.is_empty() { String::new() } else { format!(" ({})", proof.join("; ")) }
}

#[cfg(test)]
mod tests;
