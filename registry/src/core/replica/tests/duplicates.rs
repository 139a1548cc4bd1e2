//! Two living agents that claim one instance.

use muster_schemas::alarm::Alarm;
use muster_schemas::{AgentId, Incarnation};

use super::world::World;
use crate::core::io::OutgoingKind;
use crate::core::replica::duplicates::DISPLACED_MAX;

/// Registers for `taker` what `holder` holds, with a larger incarnation.
fn takes(world: &mut World, taker: &AgentId, holder: &AgentId) {
    let mut taken = world.agent(holder).instances[0].clone();
    taken.agent = taker.clone();
    taken.session = world.agent(taker).session;
    taken.incarnation = Incarnation::from_parts(taken.incarnation.time_ms() + 1, 1);
    world.agent(taker).instances = vec![taken];
    world.announce(taker);
}

fn alarms(world: &World) -> Vec<String> {
    let of_duplicates =
        world.of_kind(OutgoingKind::Alarm).filter(|sent| sent.message.subject.ends_with(".duplicate_ids"));
    of_duplicates.map(|sent| serde_json::from_slice::<Alarm>(&sent.message.payload).unwrap().message).collect()
}

#[test]
fn an_agent_that_lives_after_another_took_its_instance_is_an_alarm_with_both_their_names() {
    let mut world = World::settled(2);
    let (one, two) = (world.start_agent("one", &["orders"]), world.start_agent("two", &["users"]));
    world.run(1_000);
    takes(&mut world, &two, &one);
    world.run(3_000);
    let [alarm] = &alarms(&world)[..] else { panic!("{:?}", alarms(&world)) };
    assert!(
        alarm.contains("agents one and two both live and both registered orders/one, which two now holds"),
        "{alarm}"
    );
    assert_eq!(world.removals(), []);
}

#[test]
fn one_that_does_not_live_any_more_is_none() {
    let mut world = World::settled(2);
    let (one, two) = (world.start_agent("one", &["orders"]), world.start_agent("two", &["users"]));
    world.run(1_000);
    world.agent(&one).alive = false;
    takes(&mut world, &two, &one);
    world.run(11_000);
    world.agent(&one).alive = true;
    world.run(3_000);
    assert_eq!(alarms(&world), Vec::<String>::new(), "what comes so much later is another life");
}

#[test]
fn one_displaced_agent_too_many_is_not_waited_for() {
    let mut world = World::settled(1);
    let count = DISPLACED_MAX + 1;
    let holders: Vec<_> = (0..count).map(|number| world.start_agent(&format!("web{number}"), &["orders"])).collect();
    world.run(1_000);
    for (number, holder) in holders.iter().enumerate() {
        world.agent(holder).alive = false;
        let taker = world.start_agent(&format!("other{number}"), &["users"]);
        takes(&mut world, &taker, holder);
    }
    world.run(500);
    assert_eq!(world.node(0).replica.duplicates.displaced.len(), DISPLACED_MAX);
}
