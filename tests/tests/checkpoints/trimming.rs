//! The log's head goes, and nobody misses it.

use muster_tests::{NatsServer, eventually};

use crate::support::{
    SOON, checkpoint_from, checkpoints, orders_with, register, said, start_ready, status_of, stream_state,
};

/// Registers so many instances, one per checkpoint.
async fn rounds(client: &async_nats::Client, count: usize) -> u64 {
    let mut sequence = 0;
    for number in 0..count {
        sequence = register(client, &format!("instance-{number}")).await;
        checkpoint_from(client, sequence).await;
    }
    sequence
}

#[tokio::test]
async fn a_newcomer_at_a_trimmed_log_serves_everything() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, "r1", &["--history-age", "0s"]).await;
    let last = rounds(&client, 6).await;
    let state = eventually("a trimmed log", SOON, async || {
        let state = stream_state(&client).await;
        if state.first_sequence > 1 { Ok(state) } else { Err(format!("{state:?}")) }
    })
    .await;
    assert!(state.first_sequence < last, "{state:?}");
    let before = status_of(&client, "r1", |status| status.revision >= last).await;

    let mut second = start_ready(&broker, "r2", &["--history-age", "0s"]).await;
    let after = status_of(&client, "r2", |_| true).await;
    assert_eq!((after.digest, after.epoch, after.instances), (before.digest, before.epoch, 6));
    assert!(first.stop(SOON).await.success());
    assert!(second.stop(SOON).await.success());

    // And when nobody is left who knew it.
    let third = start_ready(&broker, "r3", &[]).await;
    assert!(said(&third, "begins from checkpoint"), "{:?}", third.lines());
    let alone = status_of(&client, "r3", |_| true).await;
    assert_eq!((alone.digest, alone.epoch), (before.digest, before.epoch));
    orders_with(&client, |reply| reply.services[0].total == 6).await;
}

#[tokio::test]
async fn the_events_after_the_oldest_kept_checkpoint_stay() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, "r1", &["--history-bytes", "1"]).await;
    rounds(&client, 5).await;
    eventually("a log that begins with the oldest checkpoint's event", SOON, async || {
        let (state, kept) = (stream_state(&client).await, checkpoints(&client).await?);
        let oldest = kept.first().ok_or("no checkpoint")?;
        let wanted = oldest.ends_with(&format!("-{:020}", state.first_sequence));
        if wanted && kept.len() == 3 { Ok(()) } else { Err(format!("{state:?} with {kept:?}")) }
    })
    .await;
}

#[tokio::test]
async fn young_events_and_small_logs_stay_whole() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, "r1", &["--history-age", "1h", "--history-bytes", "1000000"]).await;
    rounds(&client, 5).await;
    assert_eq!(stream_state(&client).await.first_sequence, 1);
}
