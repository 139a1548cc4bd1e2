//! What is asked of a replica, and what it answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt;
use muster_schemas::pulse::{CatalogState, Pulse, bucket};
use muster_schemas::query::ErrorCode;
use muster_schemas::{Cause, ChangeKind, Digest};
use muster_tests::{NatsServer, eventually};
use serde_json::{Value, json};

use crate::support::{answered, ask, listen, next, next_change, read, refused, register, start_ready};

#[tokio::test]
async fn a_registration_becomes_a_change_a_pulse_and_an_answer() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let service = "user.rpc".parse().unwrap();
    let mut changes = listen(&client, "change.user%2Erpc").await;
    let mut pulses = listen(&client, &format!("pulse.{}", bucket(&service))).await;

    let sequence = register(&client, "user.rpc", "a", 1).await;

    let change = next_change(&mut changes).await;
    assert_eq!((change.revision, change.previous_revision), (sequence, 0));
    assert_eq!((change.change, change.cause), (ChangeKind::Added, Cause::Registered));
    let value = change.value.as_ref().expect("an instance");
    assert_eq!(change.digest, Digest::of_instance(&value.vouching().instance, sequence));
    let pulse = loop {
        let pulse: Pulse = serde_json::from_slice(&next(&mut pulses).await.payload).unwrap();
        if pulse.to >= sequence {
            break pulse;
        }
    };
    assert_eq!(pulse.services.get(&service), Some(&sequence));
    assert_eq!((pulse.epoch, pulse.state), (change.epoch, CatalogState::Ready));
    let reply = answered(&client, "query.service.user%2Erpc", json!({ "min_revision": [null, sequence] })).await;
    let entry = &reply.services[0];
    assert_eq!((entry.revision, entry.digest, entry.total), (sequence, change.digest, 1));
    assert_eq!(entry.instances[0], *value, "the change and the answer carry the same instance");
    assert!(reply.head_age_ms <= 5_000);
    let one = answered(&client, "query.instance.user%2Erpc.a", json!({})).await;
    assert_eq!(one.services[0].instances, entry.instances);
}

#[tokio::test]
async fn a_service_that_nobody_knows_is_proven_empty_and_an_unknown_instance_is_an_error() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let reply = answered(&client, "query.service.nobody", json!({})).await;
    assert_eq!(reply.state, CatalogState::Ready);
    assert_eq!((reply.services.len(), reply.services[0].revision, reply.services[0].total), (1, 0, 0));
    let error = refused(&client, "query.instance.nobody.a", json!({})).await;
    assert_eq!((error.code, error.value.as_str()), (ErrorCode::NotFound, "nobody/a"));
    let error = refused(&client, "query.services", json!({ "limit": "many" })).await;
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::BadRequest, "request"));
}

#[tokio::test]
async fn a_snapshot_larger_than_a_message_comes_in_chunks_of_one_revision() {
    let broker = NatsServer::builder().settings("max_payload: 16384").start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let mut expected = BTreeSet::new();
    let mut sequence = 0;
    for number in 0..120 {
        let (service, instance) = (format!("service-{}", number % 3), format!("instance-{number}"));
        sequence = register(&client, &service, &instance, 1).await;
        expected.insert((service, instance));
    }

    let mut chunk = answered(&client, "query.snapshot", json!({ "min_revision": [null, sequence] })).await;
    let first = (chunk.epoch, chunk.revision);
    let (mut found, mut chunks) = (BTreeSet::new(), 1);
    loop {
        assert_eq!((chunk.epoch, chunk.revision), first);
        for service in &chunk.services {
            assert_eq!(service.total, 40);
            for instance in &service.instances {
                let vouching = instance.vouching();
                assert!(found.insert((vouching.service.to_string(), vouching.instance.to_string())), "{vouching:?}");
            }
        }
        let Some(next) = chunk.next.clone() else { break };
        // What happens meanwhile is of a later revision.
        let late = register(&client, "service-1", &format!("late-{chunks}"), 1).await;
        answered(&client, "query.services", json!({ "min_revision": [null, late] })).await;
        let again = read(&client.request(next.clone(), "".into()).await.unwrap()).unwrap();
        chunk = read(&client.request(next, "".into()).await.unwrap()).unwrap();
        assert_eq!(again.services, chunk.services, "a chunk whose reply was lost can be asked for again");
        chunks += 1;
    }
    assert!(chunks > 3, "{chunks} chunks");
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_is_left_of_an_answer_is_held_for_a_limited_time() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &["--cursor-period", "200ms"]).await;
    register(&client, "orders", "a", 1).await;
    let sequence = register(&client, "orders", "b", 1).await;
    let reply = answered(&client, "query.snapshot", json!({ "min_revision": [null, sequence], "limit": 1 })).await;
    let next = reply.next.expect("another instance");
    eventually("the cursor expires", Duration::from_secs(5), async || {
        match read(&client.request(next.clone(), "".into()).await.map_err(|error| error.to_string())?) {
            Err(error) if error.code == ErrorCode::CursorExpired => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn filter_and_limit_choose_instances_and_leave_revision_and_digest_alone() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    for instance in ["a1", "a2", "b1"] {
        register(&client, "orders", instance, 1).await;
    }
    let sequence = register(&client, "orders", "b2", 1).await;
    let whole = answered(&client, "query.service.orders", json!({ "min_revision": [null, sequence] })).await;
    let body = json!({ "filter": { "tag": "odd", "routable": true, "version": "1.0" }, "limit": 1 });
    let reply = answered(&client, "query.service.orders", body).await;
    let (all, chosen) = (&whole.services[0], &reply.services[0]);
    assert_eq!((all.digest, all.revision, all.total), (chosen.digest, chosen.revision, chosen.total));
    assert_eq!(chosen.instances[0].vouching().instance.as_str(), "a1");
    let rest = read(&client.request(reply.next.unwrap(), "".into()).await.unwrap()).unwrap();
    assert_eq!(rest.services[0].instances[0].vouching().instance.as_str(), "b1");
    assert_eq!((rest.services[0].instances.len(), rest.next), (1, None));
    let none = answered(&client, "query.service.orders", json!({ "filter": { "version": "2.0" } })).await;
    assert_eq!((none.services[0].instances.len(), none.services[0].total), (0, 4));
}

#[tokio::test]
async fn a_revision_not_reached_in_time_is_behind_and_one_reached_is_waited_for() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let sequence = register(&client, "orders", "a", 1).await;

    let asked_at = Instant::now();
    let error = refused(&client, "query.services", json!({ "min_revision": [null, sequence + 1] })).await;
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::Behind, "min_revision"));
    assert!(asked_at.elapsed() >= Duration::from_millis(450), "{:?}", asked_at.elapsed());

    let body = json!({ "min_revision": [null, sequence + 1] });
    let waiting = ask(&client, "query.service.orders", &body);
    let (reply, next) = tokio::join!(waiting, register(&client, "orders", "b", 1));
    let reply = read(&reply.unwrap()).unwrap();
    assert_eq!((reply.revision, reply.services[0].total), (next, 2));

    let older =
        answered(&client, "query.services", json!({ "min_revision": ["01J00000000000000000000000", 999_999] })).await;
    assert_eq!(older.revision, next, "a revision of an older epoch is met");
    let newer = refused(&client, "query.services", json!({ "min_revision": ["7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 1] })).await;
    assert_eq!(newer.code, ErrorCode::Behind, "one of a newer epoch is not");
}

#[tokio::test]
async fn only_reply_subjects_below_the_configured_prefixes_are_answered() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let registry = start_ready(&broker, &client, "r1", &["--reply-prefix", "_INBOX,_REPLIES.shop"]).await;
    let mut all = client.subscribe("*.>").await.unwrap();
    for reply in ["elsewhere.x", "_REPLIES.shopping.x", "_REPLIES.shop.x"] {
        let subject = "muster.default.query.services";
        client.publish_with_reply(subject, reply, "".into()).await.unwrap();
    }
    let mut answered_on = Vec::new();
    while let Some(message) = all.next().await {
        if !message.subject.starts_with("muster.") && !message.subject.starts_with('$') {
            answered_on.push(message.subject.to_string());
            break;
        }
    }
    assert_eq!(answered_on, ["_REPLIES.shop.x"], "answers come in the order of the questions");
    registry.wait_for_line("elsewhere.x", Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_replica_is_a_nats_service() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    refused(&client, "query.instance.nobody.a", json!({})).await;
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.muster-registry.r1")] {
            let message = client.request(subject, "".into()).await.unwrap();
            let value: Value = serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(value["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!((&value["name"], &value["id"]), (&json!("muster-registry"), &json!("r1")));
            assert_eq!(value["metadata"]["namespace"], "default");
        }
    }
    let message = client.request("$SRV.STATS.muster-registry", "".into()).await.unwrap();
    let stats: async_nats::service::Stats = serde_json::from_slice(&message.payload).unwrap();
    let instance = stats.endpoints.iter().find(|endpoint| endpoint.name == "instance").unwrap();
    assert_eq!((instance.requests, instance.errors), (1, 1));
    assert_eq!(instance.subject, "muster.default.query.instance.*.*");
    let message = client.request("$SRV.INFO.muster-registry", "".into()).await.unwrap();
    let info: async_nats::service::Info = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!(info.endpoints.len(), stats.endpoints.len());
}

#[tokio::test]
async fn an_answer_shows_what_is_in_force_also_after_an_event_that_changed_nothing() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let first = register(&client, "orders", "a", 1).await;
    let before = answered(&client, "query.service.orders", json!({ "min_revision": [null, first] })).await;
    let second = register(&client, "orders", "a", 2).await;
    let after = answered(&client, "query.service.orders", json!({ "min_revision": [null, second] })).await;
    assert_eq!(after.services[0].instances[0].vouching().generation, 2);
    assert_eq!(after.services[0].revision, before.services[0].revision, "and makes no change");
    let again = answered(&client, "query.service.orders", json!({})).await;
    assert_eq!(again.services, after.services);
}
