//! Scenario 18: the stream's leader is killed, and each broker restarted in turn, while things change.

use std::time::Duration;

use futures::future::join_all;
use muster_schemas::Cause;
use muster_schemas::query::Request;
use muster_schemas::subject::Query;
use muster_tests::cluster::BROKERS;
use muster_tests::{eventually, throughout};

use crate::observer::Observer;
use crate::world::{Load, SOON, TTL, World, alive, until_number};

/// For how long queries are watched without a leader: replicas leave the queue group when the end of the log was last seen
/// five seconds ago.
const WITHOUT_LEADER: Duration = Duration::from_secs(3);

async fn observers(world: &World) -> Vec<Observer> {
    join_all((0..BROKERS).map(|home| world.observe(home))).await
}

#[tokio::test]
async fn a_killed_leader_of_the_stream_costs_no_registration_and_no_living_instance() {
    let mut world = World::start().await;
    let leader = world.cluster.leader(&world.subjects().stream_name()).await;
    let (one, other) = ((leader + 1) % BROKERS, (leader + 2) % BROKERS);
    let observer = world.observe(one).await;
    let _stays = world.start_service(one, "orders", "a");
    let mut dies = world.start_service(other, "orders", "b");
    observer.until_routable("orders", "a").await;
    observer.until_routable("orders", "b").await;
    let mut load = Load::start(&world).await;
    load.register_one();
    load.all_confirmed().await;

    world.cluster.broker_mut(leader).kill();
    observer.dies("orders/b");
    dies.kill();
    // Without a leader nothing can be stored: what is registered now waits.
    let _comes = world.start_service(other, "orders", "c");
    (0..10).for_each(|_| load.register_one());
    let client = world.cluster.broker(one).connect().await;
    let request = serde_json::to_string(&Request::default()).expect("plain data");
    throughout("queries are answered", WITHOUT_LEADER, async || {
        let subject = world.subjects().query(&Query::Services);
        let answered = client.request(subject, request.clone().into()).await;
        answered.map(drop).map_err(|error| error.to_string())?;
        alive(&[&observer], &["orders/a"]).await
    })
    .await;

    let confirmed = load.all_confirmed().await;
    until_number(&observer, "load", confirmed).await;
    observer.until_routable("orders", "c").await;
    let (_, change) = observer.until_removed("orders", "b", SOON).await;
    assert_eq!(change.cause(), Cause::Expired, "who died meanwhile is expired after the election: {change}");
    alive(&[&observer], &["orders/a"]).await.expect("the living stay");

    world.cluster.broker_mut(leader).restart().await;
    world.cluster.until_healthy().await;
    let back = world.observe(leader).await;
    until_number(&back, "load", confirmed).await;
    for observer in [observer, back] {
        observer.finish(world.cluster.broker(one)).await;
    }
}

#[tokio::test]
async fn brokers_restarted_one_after_the_other_lose_nothing_and_remove_nobody() {
    let mut world = World::start().await;
    let observers = observers(&world).await;
    let names = [("orders", "a"), ("orders", "b"), ("users", "c")];
    let _services: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(home, (service, instance))| world.start_service(home, service, instance))
        .collect();
    for (service, instance) in names {
        observers[0].until_routable(service, instance).await;
    }
    let keys = ["orders/a", "orders/b", "users/c"];
    let everywhere: Vec<&Observer> = observers.iter().collect();
    let mut load = Load::start(&world).await;
    for broker in 0..BROKERS {
        load.register_one();
        world.cluster.broker_mut(broker).stop().await;
        load.register_one();
        world.cluster.broker_mut(broker).restart().await;
        load.register_one();
        world.cluster.until_healthy().await;
        alive(&everywhere, &keys).await.expect("nobody is removed");
    }
    let confirmed = load.all_confirmed().await;
    for observer in &observers {
        until_number(observer, "load", confirmed).await;
    }
    throughout("everybody stays", TTL * 2, async || alive(&everywhere, &keys).await).await;
    for observer in observers {
        observer.finish(world.cluster.broker(0)).await;
    }
}

#[tokio::test]
async fn changes_flow_while_a_broker_is_away_that_does_not_lead() {
    let mut world = World::start().await;
    let leader = world.cluster.leader(&world.subjects().stream_name()).await;
    let observer = world.observe(leader).await;
    let away = (leader + 1) % BROKERS;
    world.cluster.broker_mut(away).kill();
    let _service = world.start_service(leader, "orders", "a");
    observer.until_routable("orders", "a").await;
    world.cluster.broker_mut(away).restart().await;
    eventually("the broker has caught up", SOON, async || world.cluster.is_healthy(away).await).await;
    observer.finish(world.cluster.broker(leader)).await;
}
