//! Scenario 16: a proposal on its way when the broker died, or the connection, removes nobody.

use muster_tests::proxy::Flow;
use muster_tests::{NatsServer, Proxy};

use crate::observer::Observer;
use crate::world::{SOON, Setup, Supervised, TTL, World};

const NAMES: [(&str, &str); 3] = [("orders", "a"), ("orders", "b"), ("users", "c")];

/// A registry behind a proxy that has had something to propose before: its connection for proposals is there.
async fn with_a_connection_for_proposals() -> (World, Proxy, Observer, Vec<Supervised>) {
    let mut world = World::without_registries(NatsServer::builder().fixed_port().pings(1, 2)).await;
    let proxy = Proxy::to_port(world.broker.port()).await;
    world.add_registry(Setup { url: Some(proxy.url()), ..Setup::default() });
    world.until_all_serve().await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &NAMES).await;
    observer.dies("orders/b");
    services[1].agent.kill();
    observer.until_removed("orders", "b", SOON).await;
    // The epoch and this expiry: numbers are told a little later than things happen, and what follows waits for one more.
    world.until_metric(0, "muster_events_proposed_total", |proposed| proposed >= 2.0).await;
    (world, proxy, observer, services)
}

#[tokio::test]
async fn a_proposal_on_its_way_when_the_broker_died_removes_nobody() {
    let (mut world, proxy, observer, services) = with_a_connection_for_proposals().await;
    let before = world.metric(0, "muster_events_proposed_total").await.expect("a number");
    proxy.set_named("proposals", Flow::Held, Flow::Open);
    services[0].agent.freeze();
    world.until_metric(0, "muster_events_proposed_total", |proposed| proposed > before).await;
    world.broker.kill();
    services[0].agent.thaw();
    proxy.heal();
    world.broker.restart().await;
    world.until_all_serve().await;
    observer.until_verified().await;
    observer.sees_changes_only_of(&[], TTL * 2).await;
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_proposal_that_waited_for_its_connection_removes_nobody() {
    let (world, proxy, observer, services) = with_a_connection_for_proposals().await;
    let before = world.metric(0, "muster_proposal_batches_failed_total").await.expect("a number");
    proxy.cut_named("proposals");
    services[0].agent.freeze();
    // More than once: what is said to a connection while it is lost may also be lost by chance.
    world.until_metric(0, "muster_proposal_batches_failed_total", |failed| failed > before + 1.0).await;
    services[0].agent.thaw();
    // Heard again before anything that waits can be sent.
    let heard = world.metric(0, "muster_heartbeats_total").await.expect("a number");
    world.until_metric(0, "muster_heartbeats_total", |heartbeats| heartbeats >= heard + 6.0).await;
    proxy.heal();
    observer.sees_changes_only_of(&[], TTL * 2).await;
    observer.finish(&world.broker).await;
}
