//! What operators want outlasts every restart, and a broker that lost its disk while a registry runs; consumers see who and why.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_discovery::Change;
use muster_schemas::instance::Maintenance;
use muster_schemas::query::{Request, Status};
use muster_schemas::subject::Query;
use muster_schemas::{Cause, EpochId, Timestamp};
use muster_tests::eventually;

use crate::world::{SOON, World};

/// What is wanted of `orders/a`, once a registry answers that both intents are in force and `orders/b` is out; and in which
/// log, which is a later one than `than`.
async fn wanted(world: &World, than: Option<EpochId>) -> (Maintenance, Option<EpochId>) {
    let client = world.broker.connect().await;
    let query = Query::Service("orders".parse().expect("a name"));
    eventually("both intents are in force", SOON * 2, async || {
        let status = client.request(world.subjects().query(&Query::Status), "".into()).await;
        let message = status.map_err(|error| error.to_string())?;
        let status: Status = serde_json::from_slice(&message.payload).map_err(|error| error.to_string())?;
        let reply = world.ask(&query, &Request::default()).await?;
        let held = reply.services.first().map(|service| service.instances.clone()).unwrap_or_default();
        let ids: Vec<_> = held.iter().map(|instance| instance.id().as_str()).collect();
        match held.first().and_then(|instance| instance.maintenance.as_deref().cloned()) {
            Some(maintenance) if status.intents == 2 && ids == ["a"] && status.epoch > than => {
                Ok((maintenance, status.epoch))
            }
            _ => Err(format!("{} intents, instances {ids:?}, in {:?}", status.intents, status.epoch)),
        }
    })
    .await
}

#[tokio::test]
async fn intents_survive_every_restart_and_a_wiped_broker_beside_a_running_registry() {
    let mut world = World::start(1).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let until = Timestamp::from_ms(i64::try_from(now.as_millis()).expect("before the year 292,000,000") + 3_600_000);
    let until_text = until.to_string();
    let on = ["maintenance", "on", "orders", "a", "--who", "ada", "--why", "disk swap", "--until", &until_text];
    world.muster(&on).await.expect_code(0);
    observer.dies("orders/b");
    world
        .muster(&["evict", "orders", "b", "--who", "ada", "--why", "wrong tenant", "--for", "1h"])
        .await
        .expect_code(0);
    let (_, removed) = observer.until_removed("orders", "b", SOON).await;
    assert_eq!((removed.cause(), removed.actor()), (Cause::Evicted, "operator/ada"));
    let evidence = removed.evidence().expect("evidence");
    assert_eq!(evidence.detail.as_deref(), Some("wrong tenant"));
    let seen = observer.until("orders", "a", "in maintenance", |instance| instance.maintenance.is_some()).await;
    let expected = Maintenance { who: "ada".parse().expect("a name"), why: "disk swap".into(), until: Some(until) };
    assert_eq!(seen.maintenance.as_deref(), Some(&expected), "consumers see who, why and until when");
    assert!(!seen.is_routable());

    assert!(world.registries[0].stop(SOON).await.success());
    world.restart_registry(0);
    assert_eq!(wanted(&world, None).await.0, expected, "after a restart of the registry");

    world.broker.stop().await;
    world.broker.restart().await;
    let (maintenance, lost) = wanted(&world, None).await;
    assert_eq!(maintenance, expected, "after a restart of the broker");

    world.broker.stop().await;
    world.broker.wipe_store();
    world.broker.restart().await;
    assert_eq!(wanted(&world, lost).await.0, expected, "carried into the log that follows the lost one");
    let again =
        observer.changes_of("orders/b").into_iter().filter(|(_, change)| matches!(change, Change::Added { .. }));
    assert_eq!(again.count(), 1, "it never came back");
}
