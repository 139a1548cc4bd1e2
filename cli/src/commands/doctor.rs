//! `muster doctor`: broker, JetStream, permissions, clock, stream and registries: what is wrong, and what to do.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use muster_runtime::broker::{BrokerError, BrokerSettings, Need, SERVER_VERSION_MIN};
use muster_schemas::pulse::CatalogState;
use muster_schemas::subject::Query;
use muster_schemas::{EventKind, OperatorName, ServiceName};
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::error::CommandError;
use crate::session::{Session, print_json};
use crate::show::table;

/// Find out what is wrong, and what to do.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  muster doctor\n  muster doctor --json | jq '.[] | select(.verdict != \"ok\")'\n\n\
                        Ends with 0 if nothing failed, else with 1 (69 without a broker, 77 if it refuses us)."
)]
pub(crate) struct Doctor {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    help: Option<String>,
}

/// Clocks that differ by more than this confuse people who read times; by a day, incarnations are refused.
const CLOCK_WARNING_MS: u64 = 1_000;
const CLOCK_FAILURE_MS: u64 = 3_600_000;
/// How long registries get to answer a ping.
const PING_WINDOW: Duration = Duration::from_millis(500);

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict: Verdict::Ok,
        found: found.into(),
        help: None,
    }
}

fn bad(check: &'static str, verdict: Verdict, found: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict,
        found: found.into(),
        help: Some(help.into()),
    }
}

impl Doctor {
    pub(crate) async fn run(&self, broker: &BrokerSettings, json: bool) -> Result<(), CommandError> {
        let begun = Instant::now();
        let session = match Session::connect(broker, json, "doctor").await {
            Ok(session) => session,
            Err(error) => {
                print(
                    &[bad(
                        "broker",
                        Verdict::Failed,
                        error.to_string(),
                        "nothing else can be checked",
                    )],
                    json,
                );
                return Err(error);
            }
        };
        let mut findings = vec![check_broker(&session, begun.elapsed())];
        findings.push(check_jetstream(&session).await);
        findings.push(check_permissions(&session).await);
        findings.extend(check_stream(&session).await);
        findings.extend(check_registries(&session).await);
        print(&findings, json);
        let failed = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Failed)
            .count();
        if failed == 0 {
            Ok(())
        } else {
            Err(CommandError::Failed(format!(
                "{failed} of {} checks failed",
                findings.len()
            )))
        }
    }
}

fn print(findings: &[Finding], json: bool) {
    if json {
        return print_json(&findings);
    }
    let word = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "WARNING",
        Verdict::Failed => "FAILED",
    };
    let rows = findings.iter().map(|finding| {
        let help = finding
            .help
            .as_ref()
            .map(|help| format!(" -> {help}"))
            .unwrap_or_default();
        [
            finding.check.to_owned(),
            word(finding.verdict).to_owned(),
            format!("{}{help}", finding.found),
        ]
    });
    muster_runtime::output::print_line(&table(&["CHECK", "VERDICT", "FOUND"], rows));
}

fn check_broker(session: &Session, took: Duration) -> Finding {
    let info = session.client().server_info();
    let (major, minor) = SERVER_VERSION_MIN;
    ok(
        "broker",
        format!(
            "{} runs version {} ({major}.{minor} or newer is needed), connected in {} ms",
            info.server_name,
            info.version,
            took.as_millis()
        ),
    )
}

async fn check_jetstream(session: &Session) -> Finding {
    let context = async_nats::jetstream::new(session.client().clone());
    match context.query_account().await {
        Ok(account) if account.limits.max_storage.is_some_and(|limit| limit == 0) => bad(
            "jetstream",
            Verdict::Failed,
            "the account may store nothing on disk",
            "raise the account's disk limit (max_file or max_disk_storage)",
        ),
        Ok(account) => ok(
            "jetstream",
            format!("{} streams, {} bytes on disk", account.streams, account.storage),
        ),
        Err(error) => bad(
            "jetstream",
            Verdict::Failed,
            error.to_string(),
            "start nats-server with -js, and enable JetStream for the account",
        ),
    }
}

async fn check_permissions(session: &Session) -> Finding {
    let subjects = session.subjects();
    let Ok(probe) = ServiceName::new("muster-doctor") else {
        return bad("permissions", Verdict::Warning, "not checked", "");
    };
    let mut needs = vec![
        Need::subscribe(subjects.change(&probe)),
        Need::subscribe(subjects.pulse(muster_schemas::pulse::bucket(&probe))),
        Need::publish(subjects.query(&Query::Service(probe.clone()))),
    ];
    if let (Ok(instance), Ok(who)) = (probe.as_str().parse(), OperatorName::new("doctor")) {
        let sender = muster_schemas::event::Sender::Operator(who);
        needs.push(Need::publish(subjects.event(
            EventKind::Intent,
            Some((&probe, &instance)),
            &sender,
        )));
    }
    match session.connection().verify(&needs).await {
        Ok(()) => ok("permissions", "may watch, ask, and set intents"),
        Err(error @ BrokerError::SubjectsRefused { .. }) => bad(
            "permissions",
            Verdict::Warning,
            error.to_string(),
            "not every user needs all of them",
        ),
        Err(error) => bad("permissions", Verdict::Failed, error.to_string(), "check the broker"),
    }
}

async fn check_stream(session: &Session) -> Vec<Finding> {
    let context = async_nats::jetstream::new(session.client().clone());
    let name = session.subjects().stream_name();
    let answer = context.request(format!("STREAM.INFO.{name}"), b"").await;
    let info: Value = match answer {
        Ok(info) => info,
        Err(error) => {
            return vec![bad(
                "stream",
                Verdict::Failed,
                error.to_string(),
                "check the broker and permissions",
            )];
        }
    };
    if let Some(error) = info.get("error") {
        let found = error["description"].as_str().unwrap_or("no such stream").to_owned();
        return vec![bad(
            "stream",
            Verdict::Failed,
            format!("{name}: {found}"),
            "start a registry: it creates the stream",
        )];
    }
    let config = &info["config"];
    let subjects = serde_json::json!([session.subjects().all_events()]);
    let rules = [
        ("subjects", &config["subjects"] == &subjects),
        ("storage", config["storage"] == "file"),
        ("retention", config["retention"] == "limits"),
        ("max_age", config["max_age"].as_u64().unwrap_or(0) == 0),
        ("max_bytes", config["max_bytes"].as_i64().unwrap_or(-1) < 1),
        ("max_msgs", config["max_msgs"].as_i64().unwrap_or(-1) < 1),
        ("deny_delete", config["deny_delete"] == true),
    ];
    let wrong: Vec<&str> = rules
        .iter()
        .filter(|(_, right)| !right)
        .map(|(field, _)| *field)
        .collect();
    let state = &info["state"];
    let found = format!(
        "{name} holds {} events up to sequence {}, {} copies",
        state["messages"], state["last_seq"], config["num_replicas"]
    );
    let stream = if wrong.is_empty() {
        ok("stream", found)
    } else {
        let found = wrong
            .iter()
            .map(|field| format!("{field} = {}", config[*field]))
            .collect::<Vec<_>>()
            .join(", ");
        let help = "the registry will not start on it: restore these fields as docs/operations.md lists them";
        bad("stream", Verdict::Failed, found, help)
    };
    vec![stream, check_clock(&info)]
}

fn check_clock(info: &Value) -> Finding {
    let Some(broker) = info["ts"]
        .as_str()
        .and_then(|time| DateTime::parse_from_rfc3339(time).ok())
    else {
        return bad(
            "clock",
            Verdict::Warning,
            "the broker did not tell its time",
            "compare the clocks by hand",
        );
    };
    let difference_ms = Utc::now().signed_duration_since(broker).num_milliseconds();
    let found = format!("{difference_ms} ms ahead of the broker");
    let help = "synchronise the clocks (chrony, systemd-timesyncd); nothing expires by them, but people read them";
    match difference_ms.unsigned_abs() {
        0..CLOCK_WARNING_MS => ok("clock", found),
        CLOCK_WARNING_MS..CLOCK_FAILURE_MS => bad("clock", Verdict::Warning, found, help),
        _ => bad("clock", Verdict::Failed, found, help),
    }
}

async fn check_registries(session: &Session) -> Vec<Finding> {
    let heard = ping_registries(session).await;
    let status = match session.status().await {
        Ok(status) => status,
        Err(error) => {
            let help = "start one with `muster-registry`";
            return vec![bad("registry", Verdict::Failed, error.to_string(), help)];
        }
    };
    let count = format!(
        "{heard} answer as a service, {} heard by each other",
        status.replicas.len()
    );
    let replicas = match status.replicas.len() {
        0 | 1 => bad(
            "replicas",
            Verdict::Warning,
            count,
            "run two registries, so that one may fail or restart",
        ),
        _ => ok("replicas", count),
    };
    let found = format!(
        "{} is at revision {}, {} instances",
        status.replica, status.revision, status.instances
    );
    let state = match status.state {
        CatalogState::Ready => ok("registry", found),
        CatalogState::Recovering => bad(
            "registry",
            Verdict::Warning,
            format!("{found}, recovering"),
            "agents are coming back; wait",
        ),
        CatalogState::Warming => bad(
            "registry",
            Verdict::Failed,
            format!("{found}, warming: {}", status.reason.unwrap_or_default()),
            "it reads the log; wait, then look at its own log",
        ),
    };
    vec![state, replicas]
}

/// How many registries answer a ping of the NATS services API.
async fn ping_registries(session: &Session) -> usize {
    let client = session.client();
    let inbox = client.new_inbox();
    let Ok(answers) = client.subscribe(inbox.clone()).await else {
        return 0;
    };
    if client
        .publish_with_reply("$SRV.PING.muster-registry", inbox, bytes::Bytes::new())
        .await
        .is_err()
    {
        return 0;
    }
    let namespace = session.subjects().namespace().to_string();
    let mut heard = 0;
    let mut answers = answers;
    let count = async {
        while let Some(answer) = answers.next().await {
            let pong: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            heard += usize::from(pong["metadata"]["namespace"] == namespace.as_str());
        }
    };
    // The window ends the count; there is no last answer.
    let _ = timeout(PING_WINDOW, count).await;
    heard
}
