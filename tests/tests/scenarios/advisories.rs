//! What the broker knows: an agent whose connection is gone is noticed long before its TTL, and nobody is who only reconnects.

use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures::StreamExt;
use muster_discovery::Change;
use muster_schemas::entry::ProbeResult;
use muster_schemas::query::{Request, Status};
use muster_schemas::subject::{DISCONNECT_ADVISORIES, Query};
use muster_schemas::{Cause, HealthStatus};
use muster_tests::{NatsServer, Proxy, eventually, throughout};

use crate::observer::Observer;
use crate::world::{SOON, Starting, Supervised, World};

/// So long that nothing here is noticed by heartbeats.
const LONG_TTL: &str = "1m";

async fn start(registries: usize) -> (World, Observer) {
    let world = World::start_on(NatsServer::builder().fixed_port().pings(1, 2).advisories(), registries).await;
    let observer = world.observe().await;
    (world, observer)
}

fn with_ttl(ttl: &'static str) -> Starting {
    Starting { ttl: Some(ttl), ..Starting::default() }
}

async fn start_service(world: &World, observer: &Observer, instance: &str, starting: &Starting) -> Supervised {
    let supervised = world.start_service("orders", instance, starting);
    observer.until_routable("orders", instance).await;
    heard(world, 1).await;
    supervised
}

/// Whose connection is gone means something only once a heartbeat came over it.
async fn heard(world: &World, agents: u64) {
    let client = world.broker.connect().await;
    let subject = world.subjects().query(&Query::Status);
    eventually(format!("{agents} agents were heard"), SOON, async || {
        let message = client.request(subject.clone(), "".into()).await.map_err(|error| error.to_string())?;
        let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        if status.agents >= agents { Ok(()) } else { Err(format!("{} were", status.agents)) }
    })
    .await;
}

#[track_caller]
fn is_by_advisory(change: &Change) {
    assert_eq!(change.cause(), Cause::Expired);
    let evidence = change.evidence().expect("evidence");
    assert_eq!(evidence.reason.as_deref(), Some("disconnected"), "{evidence:?}");
    assert_eq!(evidence.broker_reason.as_deref(), Some("Client Closed"), "{evidence:?}");
    assert_eq!(evidence.probe, Some(ProbeResult::NoResponders), "{evidence:?}");
    assert!(evidence.server.is_some() && evidence.replica.is_some(), "{evidence:?}");
}

#[tokio::test]
async fn an_agent_killed_with_its_service_is_gone_after_its_linger_on_the_brokers_word() {
    let (world, observer) = start(2).await;
    let mut dying = start_service(&world, &observer, "a", &with_ttl(LONG_TTL)).await;
    let _living = start_service(&world, &observer, "b", &with_ttl(LONG_TTL)).await;
    heard(&world, 2).await;
    observer.dies("orders/a");
    let begun = Instant::now();
    dying.agent.kill();
    let (at, change) = observer.until_removed("orders", "a", SOON).await;
    is_by_advisory(&change);
    let took = at.duration_since(begun);
    println!("told {} ms after the kill", took.as_millis());
    assert!(took >= Duration::from_millis(1_990), "not before the linger of 2 s was over: {took:?}");
    assert!(observer.removals_of("orders/b").is_empty(), "the other lives");
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_frozen_agent_is_found_by_the_brokers_pings() {
    let (world, observer) = start(1).await;
    let frozen = start_service(&world, &observer, "a", &with_ttl(LONG_TTL)).await;
    observer.dies("orders/a");
    frozen.agent.freeze();
    let (_, change) = observer.until_removed("orders", "a", SOON).await;
    let evidence = change.evidence().expect("evidence");
    assert_eq!(evidence.broker_reason.as_deref(), Some("Stale Connection"), "{evidence:?}");
    frozen.agent.thaw();
    observer.until_routable("orders", "a").await;
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn an_agent_that_reconnects_within_its_linger_loses_nothing() {
    let (world, observer) = start(1).await;
    let proxy = Proxy::to_port(world.broker.port()).await;
    let flags = ["--linger".to_owned(), "4s".to_owned()].to_vec();
    let starting = Starting { url: Some(proxy.url()), flags, ..with_ttl(LONG_TTL) };
    let supervised = start_service(&world, &observer, "a", &starting).await;
    let client = world.broker.connect().await;
    let mut advisories = client.subscribe(DISCONNECT_ADVISORIES).await.expect("a subscription");
    // The broker has handled the subscription once it has handled what follows it on the same connection.
    let status = client.request(world.subjects().query(&Query::Status), "".into()).await;
    status.expect("a registry answers");
    for _ in 0..3 {
        proxy.cut();
        tokio::time::timeout(SOON, until_told_of(&mut advisories, "agent-a")).await.expect("the broker tells of it");
        let heartbeats = client.subscribe(world.subjects().heartbeat(&supervised.agent_id())).await;
        proxy.heal();
        let heard = heartbeats.expect("a subscription").into_future();
        tokio::time::timeout(SOON, heard).await.expect("the agent is back");
    }
    throughout("it stays", Duration::from_secs(5), async || stays(&observer, "orders/a")).await;
    observer.finish(&world.broker).await;
}

fn stays(observer: &Observer, key: &str) -> Result<(), String> {
    match observer.removals_of(key).first() {
        Some((_, removal)) => Err(format!("removed: {removal}")),
        None => Ok(()),
    }
}

async fn until_told_of(advisories: &mut Subscriber, agent: &str) {
    while let Some(message) = advisories.next().await {
        let said: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
        if said["client"]["name"].as_str().is_some_and(|name| name.contains(agent)) {
            return;
        }
    }
}

#[tokio::test]
async fn a_broker_that_shuts_down_removes_nobody() {
    let (mut world, observer) = start(1).await;
    let supervised = start_service(&world, &observer, "a", &with_ttl(LONG_TTL)).await;
    let _other = start_service(&world, &observer, "b", &with_ttl(LONG_TTL)).await;
    world.broker.stop().await;
    observer.until_unknown().await;
    world.broker.restart().await;
    observer.until_verified().await;
    throughout("both stay", Duration::from_secs(4), async || {
        stays(&observer, "orders/a").and_then(|()| stays(&observer, "orders/b"))
    })
    .await;
    let request = Request::default();
    let query = Query::Instance(supervised.service.clone(), supervised.instance.clone());
    let reply = eventually("a registry answers", SOON, async || world.ask(&query, &request).await).await;
    let health = reply.services[0].instances[0].registration.health.status;
    assert_eq!(health, HealthStatus::Passing);
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn without_the_export_it_is_the_ttl_that_ends_a_killed_agents_instances() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let mut dying = start_service(&world, &observer, "a", &with_ttl("4s")).await;
    observer.dies("orders/a");
    let begun = Instant::now();
    dying.agent.kill();
    let (at, change) = observer.until_removed("orders", "a", SOON).await;
    let evidence = change.evidence().expect("evidence");
    assert_eq!((evidence.reason.as_deref(), evidence.broker_reason.as_deref()), (Some("silent"), None), "{evidence:?}");
    assert!(evidence.charged_ms.is_some_and(|charged_ms| charged_ms >= 4_000), "{evidence:?}");
    assert!(at.duration_since(begun) > Duration::from_secs(3), "{:?}", at.duration_since(begun));
    observer.finish(&world.broker).await;
}
