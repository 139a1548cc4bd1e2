//! The acts, one after the other: what is done to the system, and what a consumer was promised of it.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::{Duration, Instant};

use muster_discovery::{Answer, Cause, HealthStatus, Instance, Snapshot, Update};
use muster_tests::process::Signal;
use tokio::time::sleep;

use crate::live_watch::{Seen, is_removal, is_unknown, key_of};
use crate::narrator::Narrator;
use crate::promises::Promises;
use crate::stage::{HEARTBEAT, SERVICES, Stage, TTL, send};

/// How much longer than promised we look, so that a broken promise can be told by how much.
const PATIENCE: Duration = Duration::from_secs(5);
/// The broker stays away for two and a half TTLs.
const OUTAGE: Duration = Duration::from_millis(5_000);

/// Plays all acts and hands over what stands then.
///
/// # Panics
/// If something does not even start.
pub(crate) async fn play(nats_server: &Path, narrator: Narrator, promises: &mut Promises) -> Stage {
    narrator.aside(&format!(
        "A broker, two registries, three instances of `orders` and one of `users`, each under its own agent.\n\
         TTL {} s and a heartbeat every {} s, a fifth of the defaults, so that nobody has to wait for long.",
        TTL.as_secs_f64(),
        HEARTBEAT.as_secs_f64()
    ));
    narrator.act("start: a broker and two registries");
    let began = Instant::now();
    let stage = Stage::set(nats_server, narrator).await;
    let mut play = Play { stage, narrator, promises };
    play.opening(began).await;
    play.services_start().await;
    play.child_is_killed().await;
    play.service_freezes().await;
    play.host_is_lost().await;
    play.registry_restarts().await;
    play.broker_goes_and_comes_back().await;
    play.stage
}

struct Play<'a> {
    stage: Stage,
    narrator: Narrator,
    promises: &'a mut Promises,
}

/// A change that must come: which, and from how many to how many milliseconds after it was caused.
struct Awaited {
    promise: &'static str,
    change: &'static str,
    key: &'static str,
    cause: Cause,
    health: Option<HealthStatus>,
    within_ms: RangeInclusive<u64>,
}

impl Play<'_> {
    async fn opening(&mut self, began: Instant) {
        let verified = |update: &Update| match update {
            Update::List(list) => list.is_verified(),
            Update::State(state) => !state.is_unknown(),
            _ => false,
        };
        let found = self.stage.watch.first(0, 2 * PATIENCE, verified).await;
        let snapshot = self.stage.watch.snapshot().await;
        let seen = format!("{} instances, {}", snapshot.len(), snapshot.state());
        let is_empty = snapshot.is_proven_empty();
        let took = found.map(|found| found.at.saturating_duration_since(began));
        let expected = "0 instances, verified, ≤ 10000 ms";
        self.promises.note("before all: proven empty", expected, seen, took, is_empty && took.is_some());
    }

    async fn services_start(&mut self) {
        self.narrator.act("start: orders/a, orders/b, orders/c and users/d, checked over HTTP every 0.5 s");
        let (mark, began) = (self.stage.watch.mark(), Instant::now());
        for (service, instance) in SERVICES {
            self.stage.start_service(service, instance);
        }
        let limit = Duration::from_millis(4_000);
        let mut last = None;
        let mut count = 0;
        for (service, instance) in SERVICES {
            let key = format!("{service}/{instance}");
            let is_there = |update: &Update| is_change(update, "added", &key) && is_routable(update);
            let left = (limit + PATIENCE).saturating_sub(began.elapsed());
            if let Some(seen) = self.stage.watch.first(mark, left, is_there).await {
                count += 1;
                last = last.max(Some(seen.at));
            }
        }
        let took = last.map(|at| at.saturating_duration_since(began));
        let expected = format!("{} added, passing, ≤ {} ms", SERVICES.len(), limit.as_millis());
        let pass = count == SERVICES.len() && took.is_some_and(|took| took <= limit);
        self.promises.note("services that start are seen", expected, format!("{count} added, passing"), took, pass);
    }

    async fn child_is_killed(&mut self) {
        self.narrator.act("kill -KILL: the service orders/a, under its agent");
        let (pid, mark) = (self.stage.service_pid("a").await, self.stage.watch.mark());
        send(pid, Signal::SIGKILL);
        let killed = Instant::now();
        let awaited = |promise, change, cause, health, within_ms| {
            let key = "orders/a";
            Awaited { promise, change, key, cause, health, within_ms }
        };
        let (gone, back) = ("a killed service is removed at once", "its agent starts it again");
        let gone = awaited(gone, "removed", Cause::Deregistered, None, 0..=500);
        self.expect(gone, mark, killed).await;
        let back = awaited(back, "added", Cause::Registered, Some(HealthStatus::Passing), 0..=4_000);
        self.expect(back, mark, killed).await;
    }

    async fn service_freezes(&mut self) {
        self.narrator.act("kill -STOP: the service orders/b; it stays connected and answers nobody");
        let (pid, mark) = (self.stage.service_pid("b").await, self.stage.watch.mark());
        send(pid, Signal::SIGSTOP);
        let awaited = |promise, health, within_ms| {
            let (change, key, health) = ("updated", "orders/b", Some(health));
            Awaited { promise, change, key, cause: Cause::Health, health, within_ms }
        };
        let frozen = awaited("a frozen service turns critical", HealthStatus::Critical, 0..=3_000);
        self.expect(frozen, mark, Instant::now()).await;
        let list = self.stage.watch.snapshot().await;
        let (all, routable) = (list.of_service("orders").count(), routable_of(&list, "orders"));
        let seen = format!("{all} listed, {routable} routable");
        self.promises.note("it stays listed, but is not routed to", "3 listed, 2 routable", seen, None, {
            (all, routable) == (3, 2)
        });

        self.narrator.act("kill -CONT: orders/b goes on");
        let mark = self.stage.watch.mark();
        send(pid, Signal::SIGCONT);
        let thawed = awaited("a thawed service turns passing", HealthStatus::Passing, 0..=3_000);
        self.expect(thawed, mark, Instant::now()).await;
    }

    async fn host_is_lost(&mut self) {
        self.narrator.act("kill -KILL: users/d and its agent together, as if their host were lost");
        let mark = self.stage.watch.mark();
        self.stage.kill_host("d").await;
        let lost = Instant::now();
        // A heartbeat may just have gone, or just have been due; after the TTL come a mark and a probe.
        let earliest = u64::try_from((TTL - HEARTBEAT).as_millis()).unwrap_or(0);
        let awaited = |promise, change, cause, within_ms| {
            let key = "users/d";
            Awaited { promise, change, key, cause, health: None, within_ms }
        };
        let gone = "a lost host's service goes at its TTL";
        self.expect(awaited(gone, "removed", Cause::Expired, earliest - 100..=3_000), mark, lost).await;
        let empty = self.stage.watch.snapshot().await;
        let answer = if empty.of_service("users").next().is_some() {
            "users is still listed".to_owned()
        } else {
            match empty.answer() {
                Answer::UnknownSince(since, _) => format!("unknown since {since}"),
                _ => "no users, verified".to_owned(),
            }
        };
        let pass = answer == "no users, verified";
        self.promises.note("the last one gone is proven gone", "no users, verified", answer, None, pass);

        self.narrator.act("start: users/d and its agent again");
        let (mark, began) = (self.stage.watch.mark(), Instant::now());
        self.stage.start_service("users", "d");
        let back = awaited("a service that returns is seen", "added", Cause::Registered, 0..=4_000);
        self.expect(back, mark, began).await;
    }

    async fn registry_restarts(&mut self) {
        self.narrator.act("kill -KILL: the registry that publishes; then it is started again");
        let (mark, began) = (self.stage.watch.mark(), Instant::now());
        let restart = self.stage.restart_registry().await;
        // Where it went wrong, it would show by now: the other one takes over within a second.
        sleep(TTL.saturating_sub(restart)).await;
        let seen = self.stage.watch.since(mark);
        let changes = seen.iter().filter(|seen| matches!(seen.update, Update::Change(_))).count();
        let unknown = seen.iter().filter(|seen| is_unknown(&seen.update)).count();
        let expected = "0 changes, 0 times unknown";
        let text = format!("{changes} changes, {unknown} times unknown");
        let pass = (changes, unknown) == (0, 0);
        self.promises.note("a registry restarts: nobody notices", expected, text, Some(began.elapsed()), pass);
    }

    async fn broker_goes_and_comes_back(&mut self) {
        self.narrator.act(&format!("stop: the broker, for {} TTLs", OUTAGE.as_secs_f64() / TTL.as_secs_f64()));
        let mark = self.stage.watch.mark();
        self.stage.stop_broker().await;
        let stopped = Instant::now();
        let found = self.stage.watch.first(mark, PATIENCE, is_unknown).await;
        let took = found.map(|found| found.at.saturating_duration_since(stopped));
        let seen = if found_in(took, 1_000) { "unknown" } else { "verified all the time" };
        let pass = found_in(took, 1_000);
        self.promises.note("without a broker the list is unknown", "unknown, ≤ 1000 ms", seen, took, pass);
        sleep(OUTAGE.saturating_sub(stopped.elapsed())).await;
        let kept = self.stage.watch.snapshot().await;
        let seen = format!("{} instances, {}", kept.len(), state_of(&kept));
        let pass = kept.len() == SERVICES.len() && !kept.is_verified();
        self.promises.note("…and the last good one is kept", "4 instances, unknown", seen, Some(OUTAGE), pass);

        self.narrator.act("start: the broker again");
        let began = Instant::now();
        self.stage.restart_broker().await;
        let verified = |update: &Update| matches!(update, Update::State(state) if !state.is_unknown());
        let found = self.stage.watch.first(mark, 3 * PATIENCE, verified).await;
        let took = found.map(|found| found.at.saturating_duration_since(began));
        let seen = if took.is_some() { "verified" } else { "still unknown" };
        let pass = found_in(took, 10_000);
        self.promises.note("with the broker the list is verified", "verified, ≤ 10000 ms", seen, took, pass);
        self.nobody_was_removed(mark, began).await;
    }

    /// Looks for a TTL longer: whoever is taken for dead after the outage would go then.
    async fn nobody_was_removed(&mut self, mark: usize, began: Instant) {
        sleep(TTL + Duration::from_secs(1)).await;
        let removed = self.stage.watch.since(mark).iter().filter(|seen| is_removal(&seen.update)).count();
        let list = self.stage.watch.snapshot().await;
        let seen = format!("{removed} removed, {} routable, {}", list.instances().count(), state_of(&list));
        let pass = removed == 0 && list.instances().count() == SERVICES.len() && list.is_verified();
        let expected = "0 removed, 4 routable, verified";
        self.promises.note("nobody alive was removed", expected, seen, Some(began.elapsed()), pass);
    }

    /// Waits for a change and notes whether it came as promised.
    async fn expect(&mut self, awaited: Awaited, mark: usize, caused: Instant) {
        let Awaited { promise, change, key, cause, health, within_ms } = awaited;
        let limit = Duration::from_millis(*within_ms.end());
        let left = (limit + PATIENCE).saturating_sub(caused.elapsed());
        let is_it = |update: &Update| is_change(update, change, key) && has_health(update, health);
        let found = self.stage.watch.first(mark, left, is_it).await;
        let took = found.as_ref().map(|found| found.at.saturating_duration_since(caused));
        let in_time = took.is_some_and(|took| within_ms.contains(&u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
        let pass = in_time && found.as_ref().is_some_and(|found| cause_of(found) == Some(cause));
        let health = health.map_or_else(String::new, |health| format!(", {}", health.as_str()));
        let when = match within_ms.start() {
            0 => format!("≤ {} ms", within_ms.end()),
            start => format!("{start} to {} ms", within_ms.end()),
        };
        let expected = format!("{change} ({}){health}, {when}", cause.as_str());
        let seen = match found.as_ref().and_then(cause_of) {
            Some(cause) => format!("{change} ({}){health}", cause.as_str()),
            None => format!("not {change} in {} ms", (limit + PATIENCE).as_millis()),
        };
        self.promises.note(promise, expected, seen, took, pass);
    }
}

/// Whether an update is this kind of change to this instance.
fn is_change(update: &Update, kind: &str, key: &str) -> bool {
    matches!(update, Update::Change(change) if change.as_str() == kind && key_of(change) == key)
}

fn is_routable(update: &Update) -> bool {
    matches!(update, Update::Change(change) if change.instance().is_some_and(|instance| instance.is_routable()))
}

fn has_health(update: &Update, wanted: Option<HealthStatus>) -> bool {
    let Some(wanted) = wanted else { return true };
    let health = |instance: &Instance| instance.registration.health.status;
    matches!(update, Update::Change(change) if change.instance().is_some_and(|instance| health(instance) == wanted))
}

fn cause_of(seen: &Seen) -> Option<Cause> {
    match &seen.update {
        Update::Change(change) => Some(change.cause()),
        _ => None,
    }
}

fn routable_of(list: &Snapshot, service: &str) -> usize {
    list.of_service(service).filter(|instance| instance.is_routable()).count()
}

fn state_of(list: &Snapshot) -> &'static str {
    if list.is_verified() { "verified" } else { "unknown" }
}

fn found_in(took: Option<Duration>, within_ms: u64) -> bool {
    took.is_some_and(|took| took <= Duration::from_millis(within_ms))
}
