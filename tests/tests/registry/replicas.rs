//! Several replicas of one namespace.

use std::time::{Duration, Instant};

use muster_tests::{NatsServer, free_port, http};
use serde_json::Value;

use crate::support::{listen, next_change, register, start_ready, status_with};

#[tokio::test]
async fn every_change_comes_once_and_soon_also_when_the_publisher_is_killed() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, &client, "r1", &[]).await;
    let _second = start_ready(&broker, &client, "r2", &[]).await;
    status_with(&client, |status| status.replicas.len() == 2).await;
    let mut changes = listen(&client, "change.orders").await;
    for number in 1..=20 {
        let sequence = register(&client, "orders", &format!("a{number}"), 1).await;
        assert_eq!(next_change(&mut changes).await.revision, sequence, "each once, in order");
    }
    first.kill();
    let killed_at = Instant::now();
    let sequence = register(&client, "orders", "after", 1).await;
    assert_eq!(next_change(&mut changes).await.revision, sequence);
    assert!(killed_at.elapsed() < Duration::from_secs(2), "{:?}", killed_at.elapsed());
    status_with(&client, |status| status.replicas.len() == 1 && status.rank == Some(0)).await;
}

#[tokio::test]
async fn a_frozen_publisher_costs_about_a_second() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let first = start_ready(&broker, &client, "r1", &[]).await;
    let second = start_ready(&broker, &client, "r2", &[]).await;
    status_with(&client, |status| status.replicas.len() == 2).await;
    let mut changes = listen(&client, "change.orders").await;
    first.freeze();
    let frozen_at = Instant::now();
    let sequence = register(&client, "orders", "a", 1).await;
    assert_eq!(next_change(&mut changes).await.revision, sequence);
    assert!(frozen_at.elapsed() < Duration::from_secs(2), "{:?}", frozen_at.elapsed());
    first.thaw();
    let sequence = register(&client, "orders", "b", 1).await;
    while next_change(&mut changes).await.revision < sequence {}
    status_with(&client, |status| status.replicas.len() == 2).await;
    drop((first, second));
}

/// Messages that the broker has sent on a connection since it was made.
async fn sent_to(monitor: u16, connection: &str) -> u64 {
    let body = http::get(monitor, "/connz").await.expect("the broker tells of its connections");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    let connections = told["connections"].as_array().expect("a list");
    let found = connections.iter().find(|found| found["name"] == connection);
    found.and_then(|found| found["out_msgs"].as_u64()).unwrap_or_else(|| panic!("no {connection} in {body}"))
}

#[tokio::test]
async fn a_replica_hears_what_others_publish_and_not_what_it_publishes_itself() {
    const CHANGES: u64 = 300;
    let monitor = free_port();
    let broker = NatsServer::builder().settings(&format!("http: \"127.0.0.1:{monitor}\"")).start().await;
    let client = broker.connect().await;
    let _first = start_ready(&broker, &client, "r1", &[]).await;
    let _second = start_ready(&broker, &client, "r2", &[]).await;
    status_with(&client, |status| status.replicas.len() == 2).await;
    let (to_first, to_second) = ("muster-registry r1 output", "muster-registry r2 output");
    let before = (sent_to(monitor, to_first).await, sent_to(monitor, to_second).await);
    let mut changes = listen(&client, "change.orders").await;
    for number in 1..=CHANGES {
        let sequence = register(&client, "orders", &format!("a{number}"), 1).await;
        assert_eq!(next_change(&mut changes).await.revision, sequence);
    }
    let heard = (sent_to(monitor, to_first).await - before.0, sent_to(monitor, to_second).await - before.1);
    assert!(heard.0 < CHANGES / 2, "the publishing replica was sent {} messages", heard.0);
    // Of the last change the consumer may have been told first.
    assert!(heard.1 + 1 >= CHANGES, "the other was sent {} messages", heard.1);
}
