//! Between two rounds nothing is harmed but one host, which stays dead: all views must hold who is alive, and nobody else.
//! And then the registry that publishes: another one must take its place.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::faults::{Scene, kill_agent, registry_harmed, start_agent};
use crate::judge::Promise;
use crate::kind::Kind;
use crate::load;
use crate::plan::Fault;

/// How long all views may take: agents start services again after up to half a minute, and starved machines are slow.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(50);
/// A view that was not heard of for longer proves nothing.
const FRESH_MS: u64 = 3_000;
/// For so long the registry that publishes is gone, or stands still.
const PUBLISHER_HARMED: Duration = Duration::from_secs(2);
/// How long it may take until what was harmed before has settled, and somebody publishes.
const QUIET_PATIENCE: Duration = Duration::from_secs(15);

/// Kills one host, waits until all views are right, and brings it back; then harms who publishes.
pub(crate) async fn pass(scene: &Scene, number: u64) {
    let agents = &scene.stage.agents;
    let dead = &agents[usize::try_from(number).unwrap_or(0) % agents.len()];
    settle(scene, None, "everybody is back").await;
    {
        let _busy = dead.agent.busy.lock().await;
        let child = muster_tests::http::get(dead.port, "/").await.ok().and_then(|body| body.parse().ok());
        let child = child.map(nix::unistd::Pid::from_raw);
        kill_agent(scene, dead, Kind::HostKilled, child);
        scene.judge.borrow_mut().injected(Kind::HostKilled, &dead.key, 0);
        settle(scene, Some(&dead.key), "all but the dead are there").await;
        start_agent(scene, dead);
    }
    settle(scene, None, "the dead one is back").await;
    for kind in [Kind::RegistryKilled, Kind::RegistryFrozen] {
        harm_publisher(scene, kind).await;
        settle(scene, None, "another one publishes").await;
    }
}

/// Kills or freezes the registry that publishes, once nothing else is harmed.
async fn harm_publisher(scene: &Scene, kind: Kind) {
    let began = Instant::now();
    let publisher = loop {
        let found = {
            let judge = scene.judge.borrow();
            let now_ms = judge.clock.now_ms();
            let name = judge.takeovers.publisher(now_ms).filter(|_| !judge.truth.was_disturbed(now_ms, now_ms));
            name.and_then(|name| scene.stage.registries.iter().find(|registry| registry.name == name))
        };
        match found {
            Some(publisher) => break publisher,
            None if began.elapsed() < QUIET_PATIENCE => sleep(LOOK).await,
            None => {
                let what = format!("nobody was seen to publish, or something was harmed still, for {QUIET_PATIENCE:?}");
                return scene.judge.borrow_mut().violated(Promise::NotPerformed, what);
            }
        }
    };
    let lasts_ms = u64::try_from(PUBLISHER_HARMED.as_millis()).unwrap_or(u64::MAX);
    let fault = Fault { kind, after_ms: 0, target: 0, lasts_ms };
    registry_harmed(scene, &fault, publisher, PUBLISHER_HARMED).await;
}

/// Waits until every view is verified and holds exactly those who are alive.
async fn settle(scene: &Scene, dead: Option<&str>, what: &str) {
    let mut expected: BTreeSet<String> = scene.stage.agents.iter().map(|agent| agent.key.clone()).collect();
    expected.extend((0..load::INSTANCES).map(|number| format!("{}/load-{number}", load::SERVICE)));
    if let Some(dead) = dead {
        expected.remove(dead);
    }
    let began = Instant::now();
    while let Some(wrong) = first_wrong(scene, &expected) {
        if began.elapsed() > PATIENCE {
            let what = format!("{what}: {wrong}");
            scene.judge.borrow_mut().violated(Promise::NotConverged, what);
            return;
        }
        sleep(LOOK).await;
    }
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut judge = scene.judge.borrow_mut();
    judge.converged_ms.push(took_ms);
    println!("{:>8.1} s  {what}, in all views, after {took_ms} ms", judge.clock.now_ms() as f64 / 1_000.0);
}

fn first_wrong(scene: &Scene, expected: &BTreeSet<String>) -> Option<String> {
    let judge = scene.judge.borrow();
    let now_ms = judge.clock.now_ms();
    scene.stage.watchers().find_map(|watcher| {
        let name = &watcher.name;
        let Some((at_ms, view)) = judge.latest.get(name) else {
            return Some(format!("{name} has said nothing"));
        };
        if now_ms.saturating_sub(*at_ms) > FRESH_MS {
            return Some(format!("{name} has said nothing for {} ms", now_ms - at_ms));
        }
        if !view.verified {
            return Some(format!("the view of {name} is unknown"));
        }
        let keys = view.keys();
        let missing: Vec<_> = expected.difference(&keys).collect();
        let left: Vec<_> = keys.difference(expected).collect();
        (!missing.is_empty() || !left.is_empty()).then(|| format!("{name} lacks {missing:?} and still has {left:?}"))
    })
}
