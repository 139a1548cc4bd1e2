//! A broker that lost everything while no registry ran.

use std::fs;

use muster_schemas::pulse::CatalogState;
use muster_tests::{NatsServer, eventually};

use crate::support::{SOON, orders_with, register, said, set_maintenance, start, start_ready, status_of};

async fn wiped(broker: &mut NatsServer) -> async_nats::Client {
    broker.stop().await;
    broker.wipe_store();
    broker.restart().await;
    broker.connect().await
}

#[tokio::test]
async fn intents_and_static_instances_return_from_the_state_directory() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    let client = broker.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let state = ["--state-dir", directory.path().to_str().unwrap()];
    let mut registry = start_ready(&broker, "r1", &state).await;
    register(&client, "a").await;
    let sequence = set_maintenance(&client, "a").await;
    let before = status_of(&client, "r1", |status| status.revision >= sequence).await;
    assert!(registry.stop(SOON).await.success());

    let client = wiped(&mut broker).await;
    let _registry = start_ready(&broker, "r1", &state).await;
    let reply =
        orders_with(&client, |reply| reply.services[0].instances.iter().any(|instance| instance.maintenance.is_some()))
            .await;
    assert!(Some(reply.epoch) > before.epoch && reply.state == CatalogState::Recovering, "{reply:?}");
    let after = status_of(&client, "r1", |_| true).await;
    assert_eq!((after.instances, after.intents), (1, 1));
}

#[tokio::test]
async fn it_is_kept_while_the_registry_runs() {
    let mut broker = NatsServer::builder().fixed_port().start().await;
    let client = broker.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let state = ["--state-dir", directory.path().to_str().unwrap()];
    let mut registry = start_ready(&broker, "r1", &state).await;
    register(&client, "a").await;
    let file = directory.path().join("MUSTER_default.checkpoint");
    eventually("a state with the instance", SOON, async || {
        let bytes = fs::read(&file).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("a.example") { Ok(()) } else { Err(format!("{} bytes", bytes.len())) }
    })
    .await;
    registry.kill();
    registry.wait_exit(SOON).await;
    let client_after = wiped(&mut broker).await;
    let _registry = start_ready(&broker, "r1", &state).await;
    orders_with(&client_after, |reply| reply.services[0].total == 1).await;
}

#[tokio::test]
async fn a_whole_log_outranks_it() {
    let broker = NatsServer::start().await;
    let client = broker.connect().await;
    let directory = tempfile::tempdir().unwrap();
    let state = ["--state-dir", directory.path().to_str().unwrap()];
    let mut registry = start_ready(&broker, "r1", &state).await;
    register(&client, "a").await;
    let before = status_of(&client, "r1", |status| status.instances == 1).await;
    assert!(registry.stop(SOON).await.success());
    register(&client, "b").await;
    let _registry = start_ready(&broker, "r1", &state).await;
    let after = status_of(&client, "r1", |status| status.instances == 2).await;
    assert_eq!(after.epoch, before.epoch);
}

#[tokio::test]
async fn a_broken_state_is_put_aside_and_an_unusable_directory_refused() {
    let broker = NatsServer::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("MUSTER_default.checkpoint");
    fs::write(&file, "muster checkpoint 1\n").unwrap();
    let registry = start_ready(&broker, "r1", &["--state-dir", directory.path().to_str().unwrap()]).await;
    assert!(said(&registry, "was put aside: it ends after 20 bytes"), "{:?}", registry.lines());
    assert!(directory.path().join("MUSTER_default.broken").exists());
    let mut refused = start(&broker, "r2", &["--state-dir", file.with_extension("broken").to_str().unwrap()]);
    assert_eq!(refused.wait_exit(SOON).await.code(), Some(78));
}
