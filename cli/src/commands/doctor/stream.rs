//! The stream that holds the log, held against what a registry would create; and the broker's clock.

use async_nats::jetstream::stream::Config;
use chrono::{DateTime, Utc};
use muster_registry::stream_differences;
use serde_json::{Value, json};

use super::{Finding, Verdict};
use crate::session::Session;

/// Clocks that differ by more than this confuse people who read times; by a day, incarnations are refused.
const CLOCK_WARNING_MS: u64 = 1_000;
const CLOCK_FAILURE_MS: u64 = 3_600_000;

pub(super) async fn check(session: &Session) -> Vec<Finding> {
    let context = async_nats::jetstream::new(session.client().clone());
    let name = session.subjects().stream_name();
    let info: Value = match context.request(format!("STREAM.INFO.{name}"), &json!({})).await {
        Ok(info) => info,
        Err(error) => {
            let found = format!("{name} is not described: {error}");
            let help = "fine, if this user is no operator and no registry; else let it ask $JS.API.STREAM.INFO";
            return vec![Finding::bad("stream", Verdict::Warning, found, help)];
        }
    };
    if let Some(error) = info.get("error") {
        let found = format!("{name}: {}", error["description"].as_str().unwrap_or("no such stream"));
        let help = "start a registry: it creates the stream";
        return vec![Finding::bad("stream", Verdict::Failed, found, help)];
    }
    vec![check_configuration(session, &info), check_clock(&info)]
}

fn check_configuration(session: &Session, info: &Value) -> Finding {
    let name = session.subjects().stream_name();
    let config: Config = match serde_json::from_value(info["config"].clone()) {
        Ok(config) => config,
        Err(error) => {
            let found = format!("{name}: its description is not understood: {error}");
            return Finding::bad("stream", Verdict::Warning, found, "upgrade muster");
        }
    };
    let differences = stream_differences(session.subjects(), None, &config);
    if !differences.is_empty() {
        let found: Vec<String> = differences.iter().map(ToString::to_string).collect();
        let help = format!("no registry starts on it: set these fields with `nats stream edit {name}`");
        return Finding::bad("stream", Verdict::Failed, format!("{name}: {}", found.join("; ")), help);
    }
    let (events, last) = (&info["state"]["messages"], &info["state"]["last_seq"]);
    let copies = config.num_replicas;
    let found = format!("{name} holds {events} events up to sequence {last}, copies: {copies}");
    if copies < 2 && info["cluster"]["name"].is_string() {
        let help = format!("the loss of one broker loses the log: nats stream edit {name} --replicas 3");
        return Finding::bad("stream", Verdict::Warning, found, help);
    }
    Finding::ok("stream", found)
}

fn check_clock(info: &Value) -> Finding {
    let time = info["ts"].as_str().and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    let Some(broker) = time else {
        let found = "the broker did not tell its time";
        return Finding::bad("clock", Verdict::Warning, found, "compare the clocks by hand");
    };
    let difference_ms = Utc::now().signed_duration_since(broker).num_milliseconds();
    let found = match difference_ms {
        0.. => format!("{difference_ms} ms ahead of the broker"),
        _ => format!("{} ms behind the broker", difference_ms.unsigned_abs()),
    };
    let help = "synchronise the clocks (chrony, systemd-timesyncd); nothing expires by them, but people read them";
    match difference_ms.unsigned_abs() {
        0..CLOCK_WARNING_MS => Finding::ok("clock", found),
        CLOCK_WARNING_MS..CLOCK_FAILURE_MS => Finding::bad("clock", Verdict::Warning, found, help),
        _ => Finding::bad("clock", Verdict::Failed, found, help),
    }
}
