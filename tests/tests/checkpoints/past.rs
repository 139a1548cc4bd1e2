//! Time travel: what is told of a point in the past is what a consumer recorded then.

use std::collections::BTreeMap;

use async_nats::Client;
use futures::StreamExt;
use muster_schemas::Change;
use muster_schemas::history::HistoryReply;
use muster_schemas::query::{Reply, Status};
use muster_tests::process::Ended;
use muster_tests::{NatsServer, eventually};
use serde_json::{Value, json};

use crate::support::{
    SOON, checkpoint_from, deregister, muster, register, set_maintenance, start_ready, status_of, stream_state,
    subjects,
};

/// The answer to a question, whatever it is.
async fn answer(client: &Client, what: &str, request: Value) -> Result<Value, String> {
    let asked =
        tokio::time::timeout(SOON, client.request(format!("muster.default.{what}"), request.to_string().into()));
    let message = asked.await.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    serde_json::from_slice(&message.payload).map_err(|error| error.to_string())
}

/// The answer, once there is one that is no error.
async fn ask(client: &Client, what: &str, request: Value) -> Value {
    eventually(format!("an answer to {what} with {request}"), SOON, async || {
        let value = answer(client, what, request.clone()).await?;
        if value["error"].is_null() { Ok(value) } else { Err(value.to_string()) }
    })
    .await
}

async fn reply(client: &Client, what: &str, request: Value) -> Reply {
    serde_json::from_value(ask(client, what, request).await).expect("a reply")
}

async fn history(client: &Client, what: &str, request: Value) -> HistoryReply {
    serde_json::from_value(ask(client, what, request).await).expect("a history")
}

async fn snapshot_from(client: &Client, revision: u64) -> Reply {
    reply(client, "query.snapshot", json!({ "min_revision": [null, revision] })).await
}

/// Does something to `orders` several times, and records what a consumer sees of each.
async fn recorded(client: &Client, rounds: usize) -> (BTreeMap<u64, Reply>, BTreeMap<u64, Change>) {
    let mut messages = client.subscribe(subjects().all_changes()).await.unwrap();
    client.flush().await.unwrap();
    let mut snapshots = BTreeMap::new();
    for round in 0..rounds {
        let instance = format!("instance-{round}");
        let mut sequences = vec![register(client, &instance).await];
        snapshots.insert(sequences[0], snapshot_from(client, sequences[0]).await);
        sequences.push(match round % 3 {
            0 => set_maintenance(client, &instance).await,
            1 => deregister(client, &instance).await,
            _ => register(client, &instance).await,
        });
        snapshots.insert(sequences[1], snapshot_from(client, sequences[1]).await);
        checkpoint_from(client, sequences[1]).await;
    }
    let mut changes = BTreeMap::new();
    let last = *snapshots.keys().max().unwrap();
    let end = register(client, "last").await;
    while !changes.contains_key(&end) {
        let message = tokio::time::timeout(SOON, messages.next()).await.expect("changes come").expect("subscribed");
        if let Ok(change) = serde_json::from_slice::<Change>(&message.payload) {
            changes.insert(change.revision, change);
        }
    }
    assert!(last < end);
    (snapshots, changes)
}

#[tokio::test]
async fn every_point_is_told_as_a_consumer_recorded_it() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, "r1", &[]).await;
    let (snapshots, changes) = recorded(&client, 5).await;

    for (revision, then) in &snapshots {
        let told = reply(&client, "query.snapshot", json!({ "at": [null, revision] })).await;
        assert_eq!((told.revision, told.epoch, &told.services), (then.revision, then.epoch, &then.services));
        let service = reply(&client, "query.service.orders", json!({ "at": [then.epoch, revision] })).await;
        assert_eq!(service.services, then.services);
    }
    // Of events in the same millisecond a time means the last.
    let by_time: BTreeMap<_, u64> = changes.iter().map(|(revision, change)| (change.at, *revision)).collect();
    for (time, revision) in by_time {
        let Some(then) = snapshots.get(&revision) else { continue };
        let told = reply(&client, "query.snapshot", json!({ "at": time })).await;
        assert_eq!(told.services, then.services, "at {time}, revision {revision}");
    }

    let told_history = history(&client, "query.history.orders", json!({})).await;
    let told: BTreeMap<u64, Change> = told_history
        .events
        .iter()
        .filter_map(|event| event.change.clone())
        .map(|change| (change.revision, change))
        .collect();
    assert_eq!(told, changes);
    assert_eq!((told_history.begins_at, told_history.earlier), (1, 0));
    let middle = *snapshots.keys().nth(4).unwrap();
    let request = json!({ "at": [null, middle], "limit": 3 });
    let told_history = history(&client, "query.history.orders", request).await;
    assert_eq!((told_history.revision, told_history.events.len()), (middle, 3));
    assert_eq!(told_history.earlier, middle - 3, "all of the log's events were about it");
    let one = history(&client, "query.history.orders.instance-1", json!({})).await;
    let told: Vec<_> = one.events.iter().filter_map(|event| event.change.clone()).collect();
    let wanted = changes.values().filter(|change| change.instance.as_str() == "instance-1").cloned();
    assert_eq!(told, wanted.collect::<Vec<_>>());
}

#[tokio::test]
async fn of_a_trimmed_log_what_a_checkpoint_stands_for_is_told_and_the_rest_refused() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, "r1", &["--history-age", "0s"]).await;
    let (snapshots, changes) = recorded(&client, 6).await;
    let first = eventually("a trimmed log", SOON, async || {
        let state = stream_state(&client).await;
        if state.first_sequence > 5 { Ok(state.first_sequence) } else { Err(format!("{state:?}")) }
    })
    .await;
    // The newest three checkpoints are there, and so is all after the oldest of them.
    for (revision, then) in snapshots.iter().filter(|(revision, _)| **revision >= first + 2) {
        let told = reply(&client, "query.snapshot", json!({ "at": [null, revision] })).await;
        assert_eq!(told.services, then.services, "at {revision} of a log from {first} on");
    }
    for (request, code, told) in [
        (json!({ "at": [null, 2] }), "not_found", "revision 2 was trimmed away"),
        (json!({ "at": [null, 1_000_000] }), "bad_request", "above"),
        (json!({ "at": ["01J00000000000000000000001", changes.keys().max()] }), "bad_request", "was in force"),
        (json!({ "at": "2001-01-01T00:00:00Z" }), "not_found", "trimmed away"),
    ] {
        let refused = eventually("a refusal", SOON, async || {
            let value = answer(&client, "query.snapshot", request.clone()).await?;
            if value["error"]["code"] == "not_ready" { Err(value.to_string()) } else { Ok(value) }
        })
        .await;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(refused["error"]["code"] == code && message.contains(told), "{request}: {refused}");
    }
    let unknown = answer(&client, "query.history.nobody", json!({})).await.unwrap();
    assert_eq!(unknown["error"]["code"], "not_found");

    // The biography stands on the checkpoint: nothing is doubtful after it, and no registry is needed for the present.
    let why = muster(&broker, &["why", "orders", "instance-0"]).await.expect_code(0);
    assert!(why.stdout.contains("a checkpoint says") && why.stdout.contains("maintenance by ada"), "{why:?}");
    let last = muster(&broker, &["why", "orders", "last"]).await.expect_code(0);
    assert!(last.stdout.contains("agent/agent-1 registered it, passing"), "{last:?}");
}

async fn run(broker: &NatsServer, arguments: &[&str]) -> Ended {
    muster(broker, arguments).await
}

#[tokio::test]
async fn the_command_shows_the_past_as_tables_and_as_json() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, "r1", &[]).await;
    let first = register(&client, "a").await;
    register(&client, "b").await;
    let last = deregister(&client, "a").await;
    let status: Status = status_of(&client, "r1", |status| status.revision >= last).await;
    let then = run(&broker, &["snapshot", "--at", &first.to_string()]).await.expect_code(0);
    assert!(then.stdout.contains("http=http://a.example:80") && !then.stdout.contains("b.example"), "{then:?}");
    assert!(then.stdout.ends_with(&format!("revision {first} of epoch {}", status.epoch.unwrap())), "{then:?}");
    let json = run(&broker, &["--json", "snapshot", "--at", &first.to_string()]).await.expect_code(0).json();
    assert_eq!(json["services"][0]["instances"][0]["instance"], "a");

    let history = run(&broker, &["history", "orders"]).await.expect_code(0);
    for told in ["added: registered by agent/agent-1, passing", "removed: deregistered by agent/agent-1", "(log)"] {
        assert!(history.stdout.contains(told), "{told:?} in {history:?}");
    }
    let one = run(&broker, &["history", "orders", "b", "--last", "1"]).await.expect_code(0);
    assert!(one.stdout.contains("1 earlier event is not shown"), "{one:?}");
    let json = run(&broker, &["--json", "history", "orders", "a"]).await.expect_code(0).json();
    assert_eq!(json["events"][2]["change"]["cause"], "deregistered");
    let mistyped = run(&broker, &["history", "orders", "--at", "yesterday"]).await.expect_code(64);
    assert!(mistyped.stderr.contains("expected a revision, as in 1234, or a time"), "{mistyped:?}");
    let ahead = run(&broker, &["snapshot", "--at", "4000"]).await.expect_code(1);
    assert!(ahead.stderr.contains("revision 4000 is above"), "{ahead:?}");
}
