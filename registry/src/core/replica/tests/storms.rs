//! Much at once: when that is an alarm, and what is bounded then.

use super::world::World;
use crate::core::io::OutgoingKind;
use crate::core::leases::Due;
use crate::core::replica::liveness::WAITING_MAX;

fn storm_alarms(world: &World) -> usize {
    world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.message.subject.ends_with(".mass_expiry")).count()
}

/// Of a hundred agents so many die at once.
fn of_a_hundred_die(count: usize) -> World {
    let mut world = World::settled(1);
    let agents: Vec<_> = (0..100).map(|number| world.start_agent(&format!("web{number}"), &["orders"])).collect();
    world.run(3_000);
    for agent in &agents[..count] {
        world.agent(agent).alive = false;
    }
    world.run(20_000);
    world
}

#[test]
fn a_fifth_of_the_fleet_due_within_a_ttl_is_an_alarm_and_less_is_none() {
    assert!(storm_alarms(&of_a_hundred_die(20)) >= 1);
    assert_eq!(storm_alarms(&of_a_hundred_die(19)), 0);
}

#[test]
fn no_more_than_256_probes_are_under_way_and_whoever_waits_is_asked_later() {
    let mut world = World::settled(1);
    let agents: Vec<_> = (0..600).map(|number| world.start_agent(&format!("web{number}"), &["orders"])).collect();
    world.run(3_000);
    world.node(0).probes_unanswered = true;
    for agent in &agents {
        world.agent(agent).mute = true;
    }
    world.run(20_000);
    let asked: Vec<u64> = world.probes.iter().map(|(ms, _)| *ms).collect();
    assert!(asked.len() > 256, "{}", asked.len());
    // A probe without any answer is given up after three timeouts.
    for window in asked.windows(257) {
        assert!(
            window[256] - window[0] >= 3 * world.timing.probe_timeout_ms,
            "257 within {} ms",
            window[256] - window[0]
        );
    }
    let names: std::collections::BTreeSet<_> = world.probes.iter().map(|(_, agent)| agent).collect();
    assert!(names.len() > 256, "{} different agents were asked", names.len());
    assert_eq!(world.changes().iter().filter(|(_, _, change)| change.value.is_none()).count(), 0);
}

#[test]
fn whoever_is_due_when_no_more_can_wait_is_due_again_later() {
    let mut world = World::settled(1);
    let agents = ["web1", "web2"].map(|name| world.start_agent(name, &["orders"]));
    world.run(3_000);
    // Others that wait, and whose turn does not come.
    let never = u64::MAX / 2;
    let filler = || (never, Due { agent: "nobody".parse().unwrap(), instances: Vec::new() });
    world.node(0).replica.liveness.waiting.extend(std::iter::repeat_with(filler).take(WAITING_MAX - 1));
    for agent in &agents {
        world.agent(agent).alive = false;
    }
    world.run(20_000);
    assert_eq!(world.node(0).replica.liveness.waiting.len(), WAITING_MAX, "there was room for one of two");
    world.node(0).replica.liveness.waiting.retain(|(since_ms, _)| *since_ms != never);
    world.run(3_000);
    assert_eq!(world.removals().len(), 2, "and neither is forgotten");
}
