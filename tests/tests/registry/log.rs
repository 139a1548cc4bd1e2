//! What happens to the log, and what a replica makes of it.

use async_nats::jetstream;
use futures::TryStreamExt;
use muster_schemas::pulse::CatalogState;
use muster_tests::{NatsServer, eventually};
use serde_json::json;

use crate::support::{
    SOON, answered, answered_with, ask, listen, next_change, register, start_ready, status_with, subjects,
};

#[tokio::test]
async fn a_restarted_broker_is_the_same_log() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let sequence = register(&client, "orders", "a", 1).await;
    let before = answered(&client, "query.services", json!({ "min_revision": [null, sequence] })).await;
    broker.stop().await;
    broker.restart().await;
    let client = broker.connect().await;
    let mut changes = listen(&client, "change.orders").await;
    let sequence = register(&client, "orders", "b", 1).await;
    let change = next_change(&mut changes).await;
    assert_eq!((change.epoch, change.revision), (before.epoch, sequence));
    let after = answered(&client, "query.service.orders", json!({ "min_revision": [null, sequence] })).await;
    assert_eq!((after.epoch, after.services[0].total), (before.epoch, 2));
}

#[tokio::test]
async fn a_replica_that_starts_anew_folds_the_same_catalog() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, &client, "r1", &[]).await;
    let mut sequence = 0;
    for number in 0..50 {
        sequence = register(&client, "orders", &format!("instance-{number}"), 1).await;
    }
    let before = status_with(&client, |status| status.revision >= sequence).await;
    assert!(first.stop(SOON).await.success());
    let _second = start_ready(&broker, &client, "r2", &[]).await;
    let after = status_with(&client, |status| status.replica.as_str() == "r2").await;
    assert_eq!((after.digest, after.epoch, after.instances), (before.digest, before.epoch, 50));
}

#[tokio::test]
async fn a_deleted_stream_is_created_again_with_a_new_epoch_and_keeps_what_a_replica_held() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let sequence = register(&client, "orders", "a", 1).await;
    let before = answered(&client, "query.services", json!({ "min_revision": [null, sequence] })).await;
    jetstream::new(client.clone()).delete_stream(subjects().stream_name()).await.unwrap();
    let after = answered_with(&client, "query.services", |reply| reply.epoch != before.epoch).await;
    assert!(after.epoch > before.epoch);
    assert_eq!(after.state, CatalogState::Recovering);
    // Static instances have no agent that would announce them again: the replica carries them over.
    let orders = answered_with(&client, "query.service.orders", |reply| reply.services[0].total == 1).await;
    assert_eq!(orders.epoch, after.epoch);
}

#[tokio::test]
async fn a_stream_replaced_by_another_of_the_same_name_is_a_new_epoch() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let sequence = register(&client, "orders", "a", 1).await;
    let before = answered(&client, "query.services", json!({ "min_revision": [null, sequence] })).await;
    let context = jetstream::new(client.clone());
    let mut stream = context.get_stream(subjects().stream_name()).await.unwrap();
    let configuration = stream.info().await.unwrap().config.clone();
    context.delete_stream(subjects().stream_name()).await.unwrap();
    context.create_stream(configuration).await.unwrap();
    for number in 0..10 {
        // More events than before: the last sequence alone shows nothing.
        register(&client, "payments", &format!("other-{number}"), 1).await;
    }
    let after = answered_with(&client, "query.services", |reply| reply.epoch != before.epoch).await;
    assert!(after.epoch > before.epoch);
}

#[tokio::test]
async fn a_purged_stream_leaves_what_was_folded_and_goes_on() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let sequence = register(&client, "orders", "a", 1).await;
    answered(&client, "query.services", json!({ "min_revision": [null, sequence] })).await;
    let stream = jetstream::new(client.clone()).get_stream(subjects().stream_name()).await.unwrap();
    stream.purge().await.unwrap();
    let sequence = register(&client, "orders", "b", 1).await;
    let reply = answered_with(&client, "query.service.orders", |reply| {
        reply.revision >= sequence && reply.services[0].total == 2
    });
    reply.await;
}

#[tokio::test]
async fn a_replica_that_cannot_confirm_the_logs_end_leaves_the_queue_group_and_comes_back() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    let client = broker.connect().await;
    let registry = start_ready(&broker, &client, "r1", &[]).await;
    let sequence = register(&client, "orders", "a", 1).await;
    let before = answered(&client, "query.services", json!({ "min_revision": [null, sequence] })).await;

    broker.stop().await;
    broker.set_settings("jetstream: disabled");
    broker.restart().await;
    let client = broker.connect().await;
    eventually("nobody answers", SOON, async || match ask(&client, "query.services", &json!({})).await {
        Err(error) if error.contains("no responders") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let status = status_with(&client, |status| status.reason.is_some()).await;
    assert!(status.head_age_ms.is_none_or(|age_ms| age_ms > 5_000), "{status:?}");

    broker.stop().await;
    broker.set_settings("");
    broker.restart().await;
    let client = broker.connect().await;
    let after = answered(&client, "query.services", json!({})).await;
    assert_eq!((after.epoch, after.revision), (before.epoch, before.revision));
    // Nine seconds of outage, three connections, and what matters was said once each.
    let said = |text: &str| registry.lines().iter().filter(|line| line.text.contains(text)).count();
    assert!(said("lost the connection") <= 2 && registry.lines().len() < 60, "{:?}", registry.lines());
}

#[tokio::test]
async fn a_reader_whose_consumer_was_deleted_is_replaced_without_loss() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, &client, "r1", &[]).await;
    let mut changes = listen(&client, "change.orders").await;
    let before = register(&client, "orders", "a", 1).await;
    assert_eq!(next_change(&mut changes).await.revision, before);
    let stream = jetstream::new(client.clone()).get_stream(subjects().stream_name()).await.unwrap();
    let consumers: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    assert_eq!(consumers.len(), 1, "one replica, one consumer: {consumers:?}");
    stream.delete_consumer(&consumers[0]).await.unwrap();
    let after = register(&client, "orders", "b", 1).await;
    let change = next_change(&mut changes).await;
    assert_eq!((change.revision, change.previous_revision), (after, before));
    let status = status_with(&client, |status| status.revision == after).await;
    assert_eq!(status.outcomes["accepted"], 3, "nothing was folded twice");
}
