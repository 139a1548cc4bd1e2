//! Whether the broker tells which connections are gone, and whether its servers can be asked if they are there.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt;
use muster_runtime::broker::{BrokerError, BrokerSettings, Need};
use muster_schemas::subject::{DISCONNECT_ADVISORIES, PING_SERVERS};
use serde_json::Value;
use tokio::time::timeout;

use super::{Finding, Verdict};
use crate::session::Session;

/// How long the broker gets to tell; it takes milliseconds.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// How long broker servers get to answer.
const ANSWER_WINDOW: Duration = Duration::from_millis(500);

const CHECK: &str = "advisories";

/// Closes a connection of its own and waits to be told.
pub(super) async fn check(session: &Session, broker: &BrokerSettings) -> Finding {
    match session.connection().verify(&[Need::subscribe(DISCONNECT_ADVISORIES)]).await {
        Ok(()) => {}
        Err(error @ BrokerError::SubjectsRefused { .. }) => {
            let help = "fine, unless this user is a registry's: let that one subscribe to it";
            return Finding::bad(CHECK, Verdict::No, error.to_string(), help);
        }
        Err(error) => return unknown(&error.to_string()),
    }
    let Ok(mut advisories) = session.client().subscribe(DISCONNECT_ADVISORIES).await else {
        return unknown("the connection was closed");
    };
    let other = match Session::connect(broker, true, "doctor, to be closed").await {
        Ok(other) => other,
        Err(error) => return unknown(&error.to_string()),
    };
    let closed = other.client().server_info();
    let begun = Instant::now();
    other.connection().close().await;
    let told = async {
        while let Some(message) = advisories.next().await {
            let said: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            if said["server"]["id"] == closed.server_id.as_str() && said["client"]["id"] == closed.client_id {
                return true;
            }
        }
        false
    };
    if timeout(TOLD_WITHIN, told).await == Ok(true) {
        let took_ms = begun.elapsed().as_millis();
        return Finding::ok(CHECK, format!("the broker tells of a closed connection, here within {took_ms} ms"));
    }
    let found = format!("the broker did not tell of a closed connection within {} s", TOLD_WITHIN.as_secs());
    let help = format!(
        "whoever is killed with its agent is noticed at its TTL only; export {DISCONNECT_ADVISORIES} from the system account \
         and import it here: docs/operations.md, Disconnect advisories"
    );
    Finding::bad(CHECK, Verdict::Warning, found, help)
}

fn unknown(reason: &str) -> Finding {
    Finding::bad(CHECK, Verdict::Warning, format!("not known: {reason}"), "look at the broker's own log")
}

/// Which servers of a cluster answer that they are there; nothing on a single broker.
pub(super) async fn check_servers(session: &Session) -> Option<Finding> {
    session.client().server_info().cluster?;
    let client = session.client();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.ok()?;
    client.publish_with_reply(PING_SERVERS, inbox, bytes::Bytes::new()).await.ok()?;
    let mut names = BTreeSet::new();
    let mut unnamed = false;
    let collect = async {
        while let Some(answer) = answers.next().await {
            let said: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            unnamed |= said["server"]["name"] == said["server"]["id"];
            names.extend(said["server"]["name"].as_str().map(str::to_owned));
        }
    };
    // The window ends it; there is no last answer.
    let _ = timeout(ANSWER_WINDOW, collect).await;
    let found = names.into_iter().collect::<Vec<_>>().join(", ");
    Some(if found.is_empty() {
        let help = format!(
            "let the registries' user publish {PING_SERVERS}: else a server without living agents looks as if it were cut off"
        );
        Finding::bad("broker servers", Verdict::Warning, "none answers", help)
    } else if unnamed {
        let help = "set server_name on each: it is how a registry knows which broker an agent is on";
        Finding::bad("broker servers", Verdict::Warning, format!("{found} answer"), help)
    } else {
        Finding::ok("broker servers", format!("{found} answer"))
    })
}
