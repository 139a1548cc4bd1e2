//! Scenarios 16 and 17: what happens to the broker.

use std::time::Duration;

use muster_discovery::Discovery;
use muster_schemas::Cause;
use tokio::task::JoinHandle;

use crate::observer::Observer;
use crate::world::{SOON, TTL, World};

const NAMES: [(&str, &str); 3] = [("orders", "a"), ("orders", "b"), ("users", "c")];

/// Scenario 16.
async fn the_broker_is_stopped_for(outage: Duration) {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &NAMES).await;
    world.broker.kill();
    observer.dies("orders/b");
    services[1].agent.kill();
    observer.until_unknown().await;
    observer.sees_changes_only_of(&[], outage).await;
    world.broker.restart().await;
    let (_, change) = observer.until_removed("orders", "b", SOON).await;
    assert_eq!(change.cause(), Cause::Expired, "who died meanwhile is gone after the return");
    observer.sees_changes_only_of(&[], TTL * 2).await;
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn a_broker_stopped_for_less_than_a_heartbeat_removes_nobody_who_lives() {
    the_broker_is_stopped_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_broker_stopped_for_two_and_a_half_ttls_removes_nobody_who_lives() {
    the_broker_is_stopped_for(TTL * 5 / 2).await;
}

#[tokio::test]
async fn a_broker_stopped_for_twenty_ttls_removes_nobody_who_lives() {
    the_broker_is_stopped_for(TTL * 20).await;
}

#[tokio::test]
async fn a_frozen_broker_removes_nobody_who_lives() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    world.broker.freeze();
    observer.sees_changes_only_of(&[], TTL * 3).await;
    world.broker.thaw();
    observer.until_verified().await;
    observer.sees_changes_only_of(&[], TTL * 2).await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_broker_that_lost_its_disk_gets_everybody_back_and_nobody_is_proven_gone() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    let before = observer.snapshot().await.revision().expect("a revision").epoch();
    let newcomers = Newcomers::come(&world);
    world.broker.kill();
    world.broker.wipe_store();
    world.broker.restart().await;
    until_back_in_another_epoch(&observer, before).await;
    newcomers.leave().await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_broker_with_an_older_copy_of_its_disk_gets_everybody_back_and_nobody_is_proven_gone() {
    let mut world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &NAMES[..2]).await;
    world.broker.stop().await;
    let copy = world.broker.copy_store();
    world.broker.restart().await;
    world.until_ready().await;
    services.extend(world.start_services(&observer, &NAMES[2..]).await);
    let before = observer.snapshot().await.revision().expect("a revision").epoch();
    let newcomers = Newcomers::come(&world);
    world.broker.kill();
    world.broker.restore_store(&copy);
    world.broker.restart().await;
    until_back_in_another_epoch(&observer, before).await;
    newcomers.leave().await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_stream_deleted_under_the_registries_is_replaced_and_everybody_comes_back() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    let before = observer.snapshot().await.revision().expect("a revision").epoch();
    let newcomers = Newcomers::come(&world);
    let context = async_nats::jetstream::new(world.broker.connect().await);
    context.delete_stream(world.subjects().stream_name()).await.expect("the stream is deleted");
    until_back_in_another_epoch(&observer, before).await;
    newcomers.leave().await;
    observer.finish(&world.broker).await;
}

/// Scenario 17.
#[tokio::test]
async fn a_log_whose_head_was_purged_by_hand_goes_on() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let _services = world.start_services(&observer, &NAMES).await;
    let context = async_nats::jetstream::new(world.broker.connect().await);
    let mut stream = context.get_stream(world.subjects().stream_name()).await.expect("the stream");
    let last = stream.info().await.expect("its state").state.last_sequence;
    stream.purge().sequence(last).await.expect("the head is purged");
    observer.sees_changes_only_of(&[], TTL * 2).await;
    let _more = world.start_services(&observer, &[("users", "d")]).await;
    observer.finish_without_fold().await;
}

/// Until everybody is in a verified view of a later epoch; that nobody is ever missing from one, the observer sees to.
async fn until_back_in_another_epoch(observer: &Observer, before: muster_schemas::EpochId) {
    muster_tests::eventually("verified in another epoch, with everybody", Duration::from_secs(90), async || {
        observer.sees_no_breach();
        let snapshot = observer.snapshot().await;
        let other = snapshot.revision().is_some_and(|revision| revision.epoch() > before);
        let count = snapshot.len();
        if other && snapshot.is_verified() && count == NAMES.len() {
            Ok(())
        } else {
            Err(format!("{:?} {:?}, {count} instances", snapshot.state(), snapshot.revision()))
        }
    })
    .await;
}

/// Consumers that know nothing yet come one after the other, and ask for a service that lives.
struct Newcomers {
    url: String,
    task: JoinHandle<Vec<String>>,
    stopped: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Newcomers {
    fn come(world: &World) -> Self {
        let stopped = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (url, end) = (world.broker.url(), stopped.clone());
        let task = tokio::spawn({
            let url = url.clone();
            async move {
                let mut seen = Vec::new();
                let mut ticks = tokio::time::interval(NEWCOMER_PERIOD);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while !end.load(std::sync::atomic::Ordering::Relaxed) {
                    ticks.tick().await;
                    seen.push(what_a_newcomer_sees(&url).await);
                }
                seen
            }
        });
        Self { url, task, stopped }
    }

    /// None of them ever saw the service proven empty; one that comes now sees all of it.
    async fn leave(self) {
        self.stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = self.task.await.expect("no newcomer panics");
        println!("{} newcomers: {seen:?}", seen.len());
        assert!(!seen.iter().any(|answer| answer == PROVEN_EMPTY), "{seen:?}");
        muster_tests::eventually("a newcomer sees both", SOON, async || match what_a_newcomer_sees(&self.url).await {
            answer if answer == "2" => Ok(()),
            answer => Err(answer),
        })
        .await;
    }
}

const NEWCOMER_PERIOD: Duration = Duration::from_millis(200);
const PROVEN_EMPTY: &str = "proven empty";

async fn what_a_newcomer_sees(url: &str) -> String {
    let builder = Discovery::builder().server(url).patience(Duration::from_millis(300));
    let Ok(discovery) = builder.connect().await else { return "no broker".to_owned() };
    match discovery.instances("orders").await {
        Ok(list) if list.is_proven_empty() => PROVEN_EMPTY.to_owned(),
        Ok(list) if list.is_verified() => list.len().to_string(),
        Ok(_) => "unknown".to_owned(),
        Err(error) => error.to_string(),
    }
}
