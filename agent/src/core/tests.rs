//! The vouching, in virtual time: what an owner, a registry and the log see of it.

mod any_history;
mod bounds;
mod life;
mod refusals;
mod world;

use muster_schemas::{Digest, Health, HealthStatus, MinRevision};

use super::io::Input;
use super::status::{DeregisterOutcome, Pending, Status};
use world::{Registry, Stream, World, spec};

fn critical() -> Health {
    Health { status: HealthStatus::Critical, ..Health::default() }
}

#[test]
fn registered_means_that_a_registry_showed_it() {
    let mut world = World::connected();
    world.registry = Registry::Missing;
    let claim = world.register(spec("a"));
    world.pass(3_000);
    assert_eq!(world.kinds(), ["register"], "stored once, and only asked about after that");
    assert!(matches!(world.status(claim), Status::Pending(Pending::Confirming { problem: Some(_) })));
    assert_eq!(world.last_heartbeat().acked, Some(MinRevision(None, 101)));
    world.registry = Registry::Works;
    world.pass(2_100);
    assert!(world.status(claim).is_registered(), "{:?}", world.status(claim));
    world.pass(2_000);
    assert_eq!(world.last_heartbeat().acked, Some(MinRevision(Some(world.epoch), 101)));
    assert_eq!(world.kinds(), ["register"]);
}

#[test]
fn nothing_is_sent_before_there_is_a_connection() {
    let mut world = World::new();
    let claim = world.register(spec("a"));
    world.pass(10_000);
    assert!(world.log.is_empty() && world.heartbeats.is_empty());
    world.connect();
    assert!(world.status(claim).is_registered(), "{:?}", world.status(claim));
}

#[test]
fn a_lost_acknowledgement_costs_a_generation_and_nothing_else() {
    let mut world = World::connected();
    world.stream = Stream::LosesAcknowledgements;
    let claim = world.register(spec("a"));
    world.pass(1_000);
    world.stream = Stream::Works;
    world.pass(2_000);
    assert!(world.status(claim).is_registered());
    let generations: Vec<u64> =
        world.log.iter().map(|(_, event)| event.data.vouching().expect("one").generation).collect();
    assert_eq!(generations, [1, 2]);
}

#[test]
fn a_stream_that_is_not_there_yet_is_tried_again_without_end() {
    let mut world = World::connected();
    world.stream = Stream::Missing;
    let claim = world.register(spec("a"));
    world.pass(600_000);
    assert!(matches!(world.status(claim), Status::Pending(Pending::Retrying { .. })));
    world.stream = Stream::Works;
    world.pass(2_000);
    assert!(world.status(claim).is_registered());
}

#[test]
fn a_disconnect_on_the_way_is_followed_by_the_same_with_a_higher_generation() {
    let mut world = World::connected();
    world.stream = Stream::Silent;
    let claim = world.register(spec("a"));
    world.pass(500);
    world.disconnect();
    assert_eq!(*world.status(claim), Status::Pending(Pending::Disconnected));
    world.pass(5_000);
    assert!(world.heartbeats.is_empty(), "nothing is queued while disconnected");
    world.stream = Stream::Works;
    world.connect();
    world.pass(200);
    assert!(world.status(claim).is_registered());
    assert_eq!(world.live("a").expect("live").vouching.generation, 2);
}

#[test]
fn heartbeats_keep_their_period_and_the_first_comes_with_the_first_registration() {
    let mut world = World::connected();
    world.pass(1_234);
    world.register(spec("a"));
    world.pass(10_000);
    let at: Vec<u64> = world.heartbeats.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [1_234, 3_234, 5_234, 7_234, 9_234, 11_234]);
    let counters: Vec<u64> = world.heartbeats.iter().map(|(_, heartbeat)| heartbeat.counter).collect();
    assert_eq!(counters, [1, 2, 3, 4, 5, 6]);
    assert_eq!(world.last_heartbeat().conn, Some(world::connection(17)));
}

#[test]
fn the_shortest_ttl_decides_the_period() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.pass(500);
    let mut short = spec("b");
    (short.ttl_ms, short.linger_ms) = (2_000, 2_000);
    world.register(short);
    world.pass(1_300);
    let at: Vec<u64> = world.heartbeats.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 900, 1_300, 1_700]);
}

#[test]
fn a_heartbeat_comes_at_once_after_a_reconnect() {
    let mut world = World::connected();
    world.register(spec("a"));
    world.pass(500);
    world.disconnect();
    world.pass(3_000);
    let before = world.heartbeats.len();
    world.connect();
    assert_eq!(world.heartbeats.len(), before + 1);
}

#[test]
fn the_digest_is_of_what_the_log_has_and_leaves_static_instances_out() {
    let mut world = World::connected();
    world.register(spec("a"));
    let mut fixed = spec("b");
    (fixed.ttl_ms, fixed.linger_ms) = (0, 0);
    world.register(fixed);
    world.pass(2_000);
    let live = &world.live("a").expect("live").vouching;
    let expected = Digest::of_vouching(&live.service, &live.instance, live.incarnation, live.generation);
    assert!(world.live("b").is_some());
    assert_eq!(world.last_heartbeat().digest, expected);
    assert_eq!(world.last_heartbeat().instances, 1);
}

#[test]
fn a_change_of_health_is_an_event_of_its_own_once_it_is_registered() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.set_health(claim, critical());
    world.set_health(claim, critical());
    world.pass(100);
    assert_eq!(world.kinds(), ["register", "health"]);
    let live = world.live("a").expect("live");
    assert_eq!((live.health.status, live.vouching.generation), (HealthStatus::Critical, 2));
    assert!(
        world.statuses[&claim].iter().filter(|status| !status.is_registered()).count() <= 3,
        "it stayed registered"
    );
}

#[test]
fn a_change_of_health_before_that_becomes_part_of_the_registration() {
    let mut world = World::new();
    let claim = world.register(spec("a"));
    world.set_health(claim, critical());
    world.connect();
    world.pass(100);
    assert_eq!(world.kinds(), ["register"]);
    assert_eq!(world.live("a").expect("live").health.status, HealthStatus::Critical);
}

#[test]
fn changes_of_health_on_the_way_become_one() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.stream = Stream::Silent;
    for status in [HealthStatus::Critical, HealthStatus::Warning, HealthStatus::Critical] {
        let health = Health { status, ..Health::default() };
        world.set_health(claim, health);
    }
    world.stream = Stream::Works;
    world.pass(5_000);
    assert_eq!(world.kinds(), ["register", "health"]);
    assert_eq!(world.live("a").expect("live").health.status, HealthStatus::Critical);
}

#[test]
fn an_update_is_the_whole_registration_with_the_same_incarnation() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    let before = world.live("a").expect("live").vouching.incarnation;
    let mut changed = spec("a");
    changed.weight = 1;
    world.step(Input::Update(claim, changed));
    assert_eq!(world.kinds(), ["register", "register"]);
    let live = world.live("a").expect("live");
    assert_eq!((live.weight, live.vouching.incarnation, live.vouching.generation), (1, before, 2));
}

#[test]
fn a_deregistration_is_over_once_a_registry_shows_that_it_is_gone() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.registry = Registry::Missing;
    world.deregister(claim);
    world.pass(1_000);
    assert_eq!(*world.status(claim), Status::Deregistering);
    assert_eq!(world.heartbeats.iter().filter(|(_, heartbeat)| heartbeat.instances == 0).count(), 0);
    world.registry = Registry::Works;
    world.pass(2_000);
    assert_eq!(*world.status(claim), Status::Deregistered(DeregisterOutcome::Removed { sequence: 102 }));
    assert_eq!(world.kinds(), ["register", "deregister"]);
}

#[test]
fn a_deregistration_ends_in_time_even_without_a_broker() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.disconnect();
    world.deregister(claim);
    world.pass(4_900);
    assert_eq!(*world.status(claim), Status::Deregistering);
    world.pass(200);
    assert!(matches!(world.status(claim), Status::Deregistered(DeregisterOutcome::Unconfirmed { .. })));
}

#[test]
fn what_never_went_out_needs_no_deregistration() {
    let mut world = World::new();
    let claim = world.register(spec("a"));
    world.deregister(claim);
    assert_eq!(*world.status(claim), Status::Deregistered(DeregisterOutcome::NothingToRemove));
    world.connect();
    world.pass(1_000);
    assert!(world.log.is_empty());
}

#[test]
fn the_same_instance_registers_anew_after_its_deregistration() {
    let mut world = World::connected();
    let first = world.register(spec("a"));
    let before = world.live("a").expect("live").vouching.incarnation;
    world.deregister(first);
    assert!(world.live("a").is_none());
    let second = world.register(spec("a"));
    assert!(world.status(second).is_registered());
    assert!(world.live("a").expect("live").vouching.incarnation > before);
    assert_eq!(world.kinds(), ["register", "deregister", "register"]);
}

#[test]
fn a_thousand_registrations_go_out_a_few_at_a_time_and_all_arrive() {
    let mut world = World::new();
    let claims: Vec<_> = (0..1_000).map(|number| world.register(spec(&format!("i{number}")))).collect();
    world.connect();
    world.pass(2_000);
    assert!(claims.iter().all(|claim| world.status(*claim).is_registered()));
    assert_eq!(world.log.len(), 1_000);
    assert_eq!(world.last_heartbeat().instances, 1_000);
}

#[test]
fn a_log_that_forgot_an_acknowledged_event_gets_it_again() {
    let mut world = World::connected();
    world.registry = Registry::Behind;
    let claim = world.register(spec("a"));
    world.pass(8_000);
    assert!(world.log.len() > 1, "sent anew once no registry gets that far");
    assert!(world.log.len() < 4, "but not all the time: {:?}", world.log.len());
    world.registry = Registry::Works;
    world.pass(3_000);
    assert!(world.status(claim).is_registered());
}

#[test]
fn a_deregistration_that_nobody_waits_for_goes_out_all_the_same() {
    let mut world = World::connected();
    let claim = world.register(spec("a"));
    world.disconnect();
    world.deregister(claim);
    world.pass(60_000);
    assert!(world.status(claim).is_final());
    world.connect();
    world.pass(500);
    assert!(world.live("a").is_none());
    assert_eq!(world.kinds(), ["register", "deregister"]);
}
