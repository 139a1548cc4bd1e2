//! Scenario 27: the clocks of hosts jump by an hour, either way, under the programs (libfaketime).

use muster_schemas::Cause;
use muster_tests::faketime::FakeClock;
use muster_tests::{ProcessBuilder, bin};

use crate::world::{SOON, Setup, Starting, TTL, World};

const HOUR_S: i64 = 3_600;

/// A clock for a program that can be set, or none, and then it is said why.
fn fake_clock() -> Option<FakeClock> {
    let clock = FakeClock::new();
    if clock.is_none() {
        eprintln!("skipped: libfaketime is not there (Debian: apt-get install faketime)");
    }
    clock
}

fn under(clock: &FakeClock) -> Starting {
    Starting { env: clock.env(), ..Starting::default() }
}

#[tokio::test]
async fn when_the_clocks_of_agents_jump_nothing_expires_and_nothing_lives_on() {
    let Some(clock) = fake_clock() else { return };
    let world = World::start(2).await;
    let observer = world.observe().await;
    let mut services = Vec::new();
    for instance in ["a", "b", "c"] {
        services.push(world.start_service("orders", instance, &under(&clock)));
        observer.until_routable("orders", instance).await;
    }
    for (offset_s, dying) in [(HOUR_S, 1), (-HOUR_S, 2)] {
        clock.set(offset_s);
        observer.sees_changes_only_of(&[], TTL * 2).await;
        let instance = services[dying].instance.clone();
        observer.dies(&format!("orders/{instance}"));
        services[dying].agent.kill();
        let (_, change) = observer.until_removed("orders", instance.as_str(), SOON).await;
        assert_eq!(change.cause(), Cause::Expired);
    }
    observer.finish(&world.broker).await;
}

#[tokio::test]
async fn when_the_clocks_of_registries_and_consumers_jump_nothing_expires_and_nothing_lives_on() {
    let Some(clock) = fake_clock() else { return };
    let mut world = World::start(1).await;
    world.add_registry(Setup { env: clock.env(), ..Setup::default() });
    world.until_all_serve().await;
    let observer = world.observe().await;
    let mut services = world.start_services(&observer, &[("orders", "a"), ("orders", "b"), ("orders", "c")]).await;
    let watch = ProcessBuilder::new(bin("muster")).args(["watch", "orders", "--server", &world.broker.url()]);
    let watch = clock.env().iter().fold(watch, |watch, (name, value)| watch.env(name, value)).start();
    watch.wait_for_line("3 instances, verified", SOON).await;
    // The other has no say from here on.
    world.registries[0].stop(SOON).await;
    for (offset_s, dying) in [(HOUR_S, 1), (-HOUR_S, 2)] {
        clock.set(offset_s);
        observer.sees_changes_only_of(&[], TTL * 2).await;
        let instance = services[dying].instance.clone();
        observer.dies(&format!("orders/{instance}"));
        services[dying].agent.kill();
        let (_, change) = observer.until_removed("orders", instance.as_str(), SOON).await;
        assert_eq!(change.cause(), Cause::Expired);
        let told = watch.wait_for_line(&format!("REMOVED   {instance} "), SOON).await;
        assert!(told.text.contains("expired by registry/r2"), "{}", told.text);
        let heard_at = change.evidence().and_then(|evidence| evidence.last_heartbeat_at).expect("evidence");
        let away_ms = (change.why().at.as_ms() - heard_at.as_ms()).abs();
        assert!(away_ms < 60_000, "it was last heard at {heard_at}, by the clock of a host that is wrong");
    }
    let unsure = watch.lines().into_iter().find(|line| line.text.contains("unknown since"));
    assert!(unsure.is_none(), "{unsure:?}");
    observer.finish(&world.broker).await;
}

/// Its earlier life was younger by its host's clock: with what its agent has on disk, and without.
#[tokio::test]
async fn a_service_restarted_after_its_hosts_clock_stepped_back_registers_at_once() {
    let Some(clock) = fake_clock() else { return };
    let world = World::start(2).await;
    let observer = world.observe().await;
    let mut supervised = world.start_service("orders", "a", &under(&clock));
    let mut held = observer.until_routable("orders", "a").await;
    for (round, wipes_state) in [false, true].into_iter().enumerate() {
        let back = i64::try_from(round).expect("small") + 1;
        observer.dies("orders/a");
        supervised.agent.stop(SOON).await;
        observer.until_removed("orders", "a", SOON).await;
        if wipes_state {
            std::fs::remove_dir_all(world.directory().join("state")).expect("the agents' state");
        }
        clock.set(-HOUR_S * back);
        supervised = world.start_service("orders", "a", &under(&clock));
        let registered = supervised.agent.wait_for_line(": registered after_ms=", SOON).await;
        println!("{}", registered.text);
        let now = observer.until_routable("orders", "a").await;
        assert!(now.vouching().incarnation > held.vouching().incarnation, "{now:?} after {held:?}");
        held = now;
    }
    // The same after a crash, which leaves the registration where it was.
    observer.dies("orders/a");
    supervised.agent.kill();
    clock.set(-HOUR_S * 3);
    let _again = world.start_service("orders", "a", &under(&clock));
    let is_new = |it: &muster_schemas::Instance| it.vouching().incarnation > held.vouching().incarnation;
    observer.until("orders", "a", "of a higher incarnation", is_new).await;
    observer.until_routable("orders", "a").await;
    observer.sees_changes_only_of(&[], TTL * 2).await;
    observer.finish(&world.broker).await;
}

/// The clock does jump: without this the tests above would show nothing.
#[tokio::test]
async fn the_clock_of_a_program_can_be_set() {
    let Some(clock) = fake_clock() else { return };
    let start = || {
        let shell = ProcessBuilder::new("sh").args(["-c", "date +%s"]);
        clock.env().iter().fold(shell, |shell, (name, value)| shell.env(name, value)).start()
    };
    let mut seconds = Vec::new();
    for offset_s in [0, HOUR_S, -HOUR_S] {
        clock.set(offset_s);
        let ended = muster_tests::process::Ended::of(&mut start()).await;
        seconds.push(ended.stdout.parse::<i64>().expect("seconds"));
    }
    let differences = [seconds[1] - seconds[0], seconds[2] - seconds[0]];
    let is_near = |difference: i64, wanted: i64| (difference - wanted).abs() < 60;
    assert!(is_near(differences[0], HOUR_S) && is_near(differences[1], -HOUR_S), "{differences:?}");
}
