//! Several replicas of one namespace.

use std::time::{Duration, Instant};

use muster_tests::NatsServer;

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
