//! Scenarios 2, 3, 10 and 11: agents that die without their service and with it, flapping, and a starved host.

use std::time::{Duration, Instant};

use futures::StreamExt;
use muster_discovery::Change;
use muster_schemas::subject::Subject;
use muster_schemas::{Cause, HealthStatus, Instance};
use muster_tests::process::Signal;
use muster_tests::{ProcessBuilder, eventually, http};
use nix::sys::signal::killpg;
use nix::unistd::Pid;

use crate::world::{SOON, Starting, TTL, World};

/// Its linger, too: longer than an agent takes to be started again, also on a busy machine.
const LONG_TTL: &str = "30s";

/// Scenario 2.
#[tokio::test]
async fn a_restarted_agent_adopts_its_independent_service_without_a_removal_in_between() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let (service, mut supervised) = world.start_independent("orders", "a", LONG_TTL).await;
    let first = observer.until_routable("orders", "a").await;
    supervised.agent.kill();
    http::get(supervised.port, "/").await.expect("the service lives on");
    observer.sees_changes_only_of(&[], TTL).await;
    let starting =
        Starting { port: Some(supervised.port), independent: true, ttl: Some(LONG_TTL), ..Starting::default() };
    let again = world.start_service("orders", "a", &starting);
    let is_adopted = |instance: &Instance| instance.vouching().incarnation > first.vouching().incarnation;
    observer.until("orders", "a", "of a higher incarnation", is_adopted).await;
    observer.until_routable("orders", "a").await;
    observer.sees_changes_only_of(&[], TTL * 2).await;
    assert!(observer.removals_of("orders/a").is_empty(), "it was never removed");
    observer.finish(&world.broker).await;
    drop((service, again));
}

/// Scenario 2, when nobody comes back: not before `linger`, and soon after.
#[tokio::test]
async fn an_independent_service_whose_agent_stays_away_outlives_linger_and_then_goes() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let (service, mut supervised) = world.start_independent("orders", "a", "2s").await;
    observer.until_routable("orders", "a").await;
    observer.dies("orders/a");
    let killed = Instant::now();
    supervised.agent.kill();
    let (at, change) = observer.until_removed("orders", "a", SOON).await;
    let took = at.duration_since(killed);
    println!("expired {took:?} after the kill, with a linger of {TTL:?}");
    // The last heartbeat was some time before the kill.
    assert!(took > TTL / 2, "it went after {took:?}");
    assert_eq!(change.cause(), Cause::Expired);
    http::get(supervised.port, "/").await.expect("the service lives on");
    drop(service);
    observer.finish(&world.broker).await;
}

/// Scenario 3: a host that is lost without a farewell leaves its connections open.
#[tokio::test]
async fn a_host_that_is_lost_without_a_farewell_expires_and_stays_gone() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b")]).await;
    let child = Pid::from_raw(services[0].service_pid().await);
    observer.dies("orders/a");
    let lost = Instant::now();
    services[0].agent.freeze();
    // The child is a group of its own, or of its agent's: whichever it is, it stands still.
    let _ = killpg(child, Signal::SIGSTOP).or_else(|_| nix::sys::signal::kill(child, Signal::SIGSTOP));
    let (at, change) = observer.until_removed("orders", "a", SOON).await;
    println!("expired {:?} after the loss, with a TTL of {TTL:?}", at.duration_since(lost));
    assert_eq!(change.cause(), Cause::Expired);
    let evidence = change.evidence().expect("evidence");
    assert!(evidence.probe.is_some() && evidence.last_heartbeat_at.is_some(), "{evidence:?}");
    services[0].agent.kill();
    observer.sees_changes_only_of(&[], TTL).await;
    assert_eq!(observer.removals_of("orders/a").len(), 1);
    observer.finish(&world.broker).await;
}

const FLAP: Duration = Duration::from_secs(1);

/// Scenario 10.
#[tokio::test]
async fn a_service_that_flaps_every_second_is_held_by_its_thresholds() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    // Checked five times a second.
    let flags = ["--check-failures".to_owned(), "15".to_owned()];
    let supervised = world.start_service("orders", "a", &Starting { flags: flags.into(), ..Starting::default() });
    observer.until_routable("orders", "a").await;
    for _ in 0..3 {
        supervised.set_healthy(false);
        observer.sees_changes_only_of(&[], FLAP).await;
        supervised.set_healthy(true);
        observer.sees_changes_only_of(&[], FLAP).await;
    }
    observer.finish(&world.broker).await;
}

/// Scenario 10: what does get through the thresholds is in its history, each time with the check that made it so.
#[tokio::test]
async fn every_transition_of_a_flapping_service_is_in_its_history() {
    let world = World::start(1).await;
    let observer = world.observe().await;
    let supervised = world.start_service("orders", "a", &Starting::default());
    observer.until_routable("orders", "a").await;
    let is_critical = |instance: &Instance| instance.registration.health.status == HealthStatus::Critical;
    for _ in 0..3 {
        supervised.set_healthy(false);
        observer.until("orders", "a", "critical", is_critical).await;
        supervised.set_healthy(true);
        observer.until_routable("orders", "a").await;
    }
    let seen: Vec<(u64, HealthStatus)> = observer.changes_of("orders/a").into_iter().filter_map(transition).collect();
    let statuses: Vec<_> = seen.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses, [HealthStatus::Critical, HealthStatus::Passing].repeat(3));

    let why = world.muster(&["why", "orders", "a", "--json"]).await.expect_code(0);
    let story: serde_json::Value = serde_json::from_str(&why.stdout).expect("JSON");
    let told =
        story["events"].as_array().expect("events").iter().filter(|told| told["event"]["type"] == HEALTH_CHANGED);
    let told: Vec<(u64, String)> = told
        .map(|told| {
            let status = &told["event"]["data"]["health"]["status"];
            (told["revision"].as_u64().unwrap_or_default(), status.as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let wanted: Vec<(u64, String)> =
        seen.iter().map(|(sequence, status)| (*sequence, status.as_str().to_owned())).collect();
    assert_eq!(told, wanted, "{}", why.stdout);
    observer.finish(&world.broker).await;
}

const HEALTH_CHANGED: &str = "io.muster.instance.health_changed.v1";

fn transition((_, change): (Instant, Change)) -> Option<(u64, HealthStatus)> {
    let instance = change.instance().filter(|_| change.cause() == Cause::Health)?;
    Some((change.why().revision?.sequence(), instance.registration.health.status))
}

/// Scenario 11: more programs that want the processor than there are cores, for several TTLs.
#[tokio::test]
async fn on_a_host_without_a_free_core_heartbeats_keep_their_period_and_nobody_is_removed() {
    let world = World::start(2).await;
    let observer = world.observe().await;
    let services = world.start_services(&observer, &[("orders", "a"), ("users", "b")]).await;
    let mut heartbeats =
        world.broker.connect().await.subscribe(world.subjects().all_heartbeats()).await.expect("subscribed");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let _hungry: Vec<_> = (0..2 * cores)
        .map(|_| ProcessBuilder::new("sh").name("hungry").args(["-c", "while :; do :; done"]).start())
        .collect();
    let wanted = services[0].agent_id();
    let (began, mut last, mut gaps) = (Instant::now(), None, Vec::new());
    while began.elapsed() < TTL * 3 {
        observer.sees_no_breach();
        let heard = tokio::time::timeout(SOON, heartbeats.next()).await.expect("heartbeats go on").expect("connected");
        if matches!(world.subjects().parse(&heard.subject), Ok(Subject::Heartbeat(agent)) if agent == wanted) {
            gaps.extend(last.replace(Instant::now()).map(|before: Instant| before.elapsed()));
        }
    }
    gaps.sort_unstable();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!("{} heartbeats, {median:?} apart, at most {longest:?}, with a period of 400 ms", gaps.len());
    assert!(median < TTL / 2, "half of the heartbeats came {median:?} apart or more");
    eventually("the hungry ones changed nothing", SOON, async || match observer.changes().len() {
        2 => Ok(()),
        _ => Err(format!("{:?}", observer.changes())),
    })
    .await;
    observer.finish(&world.broker).await;
}
