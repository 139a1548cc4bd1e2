//! A replica that begins from a checkpoint holds what one holds that read the whole log.

use async_nats::jetstream;
use async_nats::jetstream::object_store::ObjectMetadata;
use muster_tests::{NatsServer, eventually};
use tokio::io::AsyncReadExt;

use crate::support::{
    SOON, checkpoint_from, checkpoints, register, said, set_maintenance, start_ready, status_of, store, subjects,
};

#[tokio::test]
async fn it_holds_the_same_as_from_the_log_alone() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, "r1", &[]).await;
    for number in 0..30 {
        register(&client, &format!("instance-{number}")).await;
    }
    let sequence = set_maintenance(&client, "instance-7").await;
    checkpoint_from(&client, sequence).await;
    let sequence = register(&client, "later").await;
    let before = status_of(&client, "r1", |status| status.revision >= sequence).await;
    assert!(first.stop(SOON).await.success());

    let mut second = start_ready(&broker, "r2", &[]).await;
    let after = status_of(&client, "r2", |_| true).await;
    assert!(said(&second, "begins from checkpoint"), "{:?}", second.lines());
    assert_eq!((after.digest, after.epoch, after.revision), (before.digest, before.epoch, before.revision));
    assert_eq!((after.instances, after.intents), (31, 1));
    assert!(second.stop(SOON).await.success());

    jetstream::new(client.clone()).delete_object_store(subjects().checkpoint_bucket()).await.unwrap();
    let third = start_ready(&broker, "r3", &[]).await;
    let from_log = status_of(&client, "r3", |_| true).await;
    assert!(!said(&third, "begins from checkpoint"));
    assert_eq!((from_log.digest, from_log.revision), (before.digest, before.revision));
}

#[tokio::test]
async fn a_torn_newest_one_is_skipped() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, "r1", &[]).await;
    let sequence = register(&client, "a").await;
    let older = checkpoint_from(&client, sequence).await;
    let sequence = register(&client, "b").await;
    let newest = checkpoint_from(&client, sequence).await;
    assert_ne!(older, newest);
    let before = status_of(&client, "r1", |status| status.revision >= sequence).await;
    assert!(first.stop(SOON).await.success());

    let store = store(&client).await.unwrap();
    let mut bytes = Vec::new();
    store.get(&newest).await.unwrap().read_to_end(&mut bytes).await.unwrap();
    let half = &mut &bytes[..bytes.len() / 2];
    store.put(ObjectMetadata { name: newest.clone(), ..ObjectMetadata::default() }, half).await.unwrap();

    let second = start_ready(&broker, "r2", &[]).await;
    assert!(said(&second, &format!("checkpoint {newest} is skipped: it ends after")), "{:?}", second.lines());
    assert!(said(&second, &format!("begins from checkpoint {older}")), "{:?}", second.lines());
    let after = status_of(&client, "r2", |_| true).await;
    assert_eq!((after.digest, after.revision), (before.digest, before.revision));
}

#[tokio::test]
async fn one_of_which_the_store_has_lost_a_part_is_skipped() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let mut first = start_ready(&broker, "r1", &[]).await;
    let sequence = register(&client, "a").await;
    let newest = checkpoint_from(&client, sequence).await;
    assert!(first.stop(SOON).await.success());
    let bucket = subjects().checkpoint_bucket();
    let part = store(&client).await.unwrap().info(&newest).await.unwrap().nuid;
    let stream = jetstream::new(client.clone()).get_stream(format!("OBJ_{bucket}")).await.unwrap();
    stream.purge().filter(format!("$O.{bucket}.C.{part}")).await.unwrap();
    let second = start_ready(&broker, "r2", &[]).await;
    assert!(said(&second, "is skipped: parts of it are missing"), "{:?}", second.lines());
    assert_eq!(status_of(&client, "r2", |_| true).await.instances, 1);
}

#[tokio::test]
async fn the_newest_three_are_kept() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let _registry = start_ready(&broker, "r1", &[]).await;
    let mut written = Vec::new();
    for number in 0..5 {
        let sequence = register(&client, &format!("instance-{number}")).await;
        written.push(checkpoint_from(&client, sequence).await);
    }
    eventually("the newest three", SOON, async || {
        let kept = checkpoints(&client).await?;
        if kept == written[2..] { Ok(()) } else { Err(format!("{kept:?} of {written:?}")) }
    })
    .await;
}
