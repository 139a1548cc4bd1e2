//! Which registries answer, and in what state.

use std::time::Duration;

use futures::StreamExt;
use muster_schemas::pulse::CatalogState;
use serde_json::Value;
use tokio::time::timeout;

use super::{Finding, Verdict};
use crate::session::Session;
use crate::show::instances;

/// How long registries get to answer a ping.
const PING_WINDOW: Duration = Duration::from_millis(500);
/// What registries are called in the NATS services API.
const PING_SUBJECT: &str = "$SRV.PING.muster-registry";

pub(super) async fn check(session: &Session) -> Vec<Finding> {
    let heard = ping(session).await;
    let status = match session.status().await {
        Ok(status) => status,
        Err(error) => {
            let help = "start one with `muster-registry`";
            return vec![Finding::bad("registry", Verdict::Failed, error.to_string(), help)];
        }
    };
    let count = format!("{heard} answer as a service, {} heard by each other", status.replicas.len());
    let replicas = match status.replicas.len() {
        0 | 1 => {
            let help = "run two registries, so that one may fail or restart";
            Finding::bad("replicas", Verdict::Warning, count, help)
        }
        _ => Finding::ok("replicas", count),
    };
    let (replica, revision) = (&status.replica, status.revision);
    let held = instances(status.instances);
    let found = format!("{replica} is at revision {revision}, {held}");
    let state = match status.state {
        CatalogState::Ready => Finding::ok("registry", found),
        CatalogState::Recovering => {
            let help = "the log was lost, and agents are coming back; wait";
            Finding::bad("registry", Verdict::Warning, format!("{found}, recovering"), help)
        }
        CatalogState::Warming => {
            let found = format!("{found}, warming: {}", status.reason.unwrap_or_default());
            let help = "it reads the log; wait, then look at its own log";
            Finding::bad("registry", Verdict::Failed, found, help)
        }
    };
    vec![state, replicas]
}

/// How many registries of this namespace answer a ping of the NATS services API.
async fn ping(session: &Session) -> usize {
    let client = session.client();
    let inbox = client.new_inbox();
    let Ok(mut answers) = client.subscribe(inbox.clone()).await else {
        return 0;
    };
    let asked = client.publish_with_reply(PING_SUBJECT, inbox, bytes::Bytes::new()).await;
    if asked.is_err() {
        return 0;
    }
    let namespace = session.subjects().namespace().to_string();
    let mut heard = 0;
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
