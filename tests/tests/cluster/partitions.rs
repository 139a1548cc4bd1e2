//! Scenario 19: one broker is cut off together with its registry, its agents and its consumers, and comes back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use muster_schemas::Cause;
use muster_tests::cluster::BROKERS;
use muster_tests::{eventually, throughout};

use crate::observer::Observer;
use crate::world::{SOON, TTL, World, alive};

/// For how long the partition is watched: several TTLs, and far below the limit for unreachable agents.
const WATCHED: Duration = Duration::from_secs(5 * TTL.as_secs());

/// A view that has been unknown for longer stays so: no registry says more than five seconds after it was at the log's end that
/// it is there, and nobody takes a pulse that is older than six.
const UNKNOWN_MS: i64 = 12_000;

#[derive(Debug, Clone, Copy)]
enum How {
    /// The connections are closed.
    Cut,
    /// Nothing gets through any more.
    BlackHole,
}

async fn a_broker_cut_off(how: How, leads: bool) {
    let world = World::start().await;
    let leader = world.cluster.leader(&world.subjects().stream_name()).await;
    let lost = if leads { leader } else { (leader + 1) % BROKERS };
    let kept = [(lost + 1) % BROKERS, (lost + 2) % BROKERS];
    let observers: Vec<Observer> = join_all((0..BROKERS).map(|home| world.observe(home))).await;
    let _cut_off = world.start_service(lost, "orders", "cut-off");
    let mut dies_cut_off = world.start_service(lost, "orders", "dies-cut-off");
    let _majority = world.start_service(kept[0], "orders", "majority");
    let mut dies = world.start_service(kept[1], "orders", "dies");
    for observer in &observers {
        for instance in ["cut-off", "dies-cut-off", "majority", "dies"] {
            observer.until_routable("orders", instance).await;
        }
    }
    let everywhere: Vec<&Observer> = observers.iter().collect();
    let majority = [&observers[kept[0]], &observers[kept[1]]];

    match how {
        How::Cut => world.cluster.cut_off(lost),
        How::BlackHole => world.cluster.black_hole(lost),
    }
    until_it_knows_nothing(&observers[lost]).await;
    for observer in &observers {
        observer.dies("orders/dies");
        observer.dies("orders/dies-cut-off");
    }
    dies.kill();
    dies_cut_off.kill();
    for observer in majority {
        let (_, change) = observer.until_removed("orders", "dies", SOON).await;
        assert_eq!(change.cause(), Cause::Expired, "{change}");
        observer.until_verified().await;
    }
    let living = ["orders/cut-off", "orders/majority"];
    throughout("the unreachable are kept, and the cut-off side says that it knows nothing", WATCHED, async || {
        alive(&everywhere, &living).await?;
        alive(&everywhere, &["orders/dies-cut-off"]).await?;
        let cut_off = observers[lost].snapshot().await;
        let held = cut_off.instance("orders", "dies").is_some();
        if cut_off.is_verified() || !held { Err(format!("{:?}, {held}", cut_off.state())) } else { Ok(()) }
    })
    .await;

    world.cluster.heal();
    world.cluster.until_healthy().await;
    for observer in &observers {
        for gone in ["dies", "dies-cut-off"] {
            let (_, change) = observer.until_removed("orders", gone, SOON).await;
            assert!(matches!(change.cause(), Cause::Expired | Cause::Resync), "{change}");
        }
        observer.until_verified().await;
    }
    throughout("everybody who lives stays", TTL * 2, async || alive(&everywhere, &living).await).await;
    for observer in observers {
        observer.finish(world.cluster.broker(kept[0])).await;
    }
}

/// Waits until a view has been unknown for so long that no registry can still have been at the log's end a moment ago.
async fn until_it_knows_nothing(observer: &Observer) {
    eventually("the cut-off side knows nothing", SOON, async || {
        let since = observer.snapshot().await.unknown_since().ok_or("it is verified")?;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let unknown_ms = i64::try_from(now_ms).expect("before the year 292278994") - since.as_ms();
        if unknown_ms > UNKNOWN_MS { Ok(()) } else { Err("it has been unknown for a short time") }
    })
    .await;
}

#[tokio::test]
async fn a_broker_whose_routes_are_cut_takes_nobody_along_and_comes_back() {
    a_broker_cut_off(How::Cut, false).await;
}

#[tokio::test]
async fn a_leading_broker_behind_a_black_hole_takes_nobody_along_and_comes_back() {
    a_broker_cut_off(How::BlackHole, true).await;
}
