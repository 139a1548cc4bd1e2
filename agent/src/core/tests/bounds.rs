//! What happens at the bounds of a session.

use super::super::schedule::UNDER_WAY_MAX;
use super::super::status::{DeregisterOutcome, Status};
use super::super::wishes::LEFT_MAX;
use super::world::{Registry, Stream, World, spec};

#[test]
fn no_more_requests_than_the_bound_are_under_way_and_the_others_wait_for_their_turn() {
    let mut world = World::connected();
    world.register(spec("first"));
    (world.stream, world.registry) = (Stream::Silent, Registry::Silent);
    let before = world.asked.len();
    let claims: Vec<_> = (0..100).map(|number| world.register(spec(&format!("i{number}")))).collect();
    world.pass(100);
    assert_eq!(world.asked.len() - before, UNDER_WAY_MAX);
    (world.stream, world.registry) = (Stream::Works, Registry::Works);
    world.pass(20_000);
    assert!(claims.iter().all(|claim| world.status(*claim).is_registered()), "whoever waited had its turn");
}

#[test]
fn one_deregistration_too_many_that_nobody_waits_for_is_left_to_its_lease() {
    let mut world = World::connected();
    let claims: Vec<_> = (0..=LEFT_MAX).map(|number| world.register(spec(&format!("i{number}")))).collect();
    world.pass(5_000);
    world.disconnect();
    for claim in &claims {
        world.deregister(*claim);
    }
    world.pass(60_000);
    for claim in &claims {
        let status = world.status(*claim);
        assert!(matches!(status, Status::Deregistered(DeregisterOutcome::Unconfirmed { .. })), "{status:?}");
    }
    world.connect();
    world.pass(5_000);
    let kinds = world.kinds();
    assert_eq!(kinds.iter().filter(|kind| **kind == "deregister").count(), LEFT_MAX);
    let live = (0..=LEFT_MAX).filter(|number| world.live(&format!("i{number}")).is_some()).count();
    assert_eq!(live, 1, "it is not taken back");
    let vouched_for = usize::try_from(world.last_heartbeat().instances).expect("a few");
    assert_eq!(vouched_for, LEFT_MAX, "nor vouched for, so its lease ends");
}
