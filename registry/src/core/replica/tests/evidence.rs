//! Every removal says what it rests on: in the change, and in one line of the log.

use bytes::Bytes;
use muster_schemas::entry::IntentKind;
use muster_schemas::event::{DeregisterReason, Deregistration, IntentSet};
use muster_schemas::{AgentId, Cause, Change, ChangeKind, EventData, InstanceId, OperatorName, Source};

use super::world::{Post, World, service};
use crate::core::io::Severity;

impl World {
    /// Lets time pass until `orders/web1` is removed; that change.
    fn removal(&mut self) -> Change {
        let removal = |world: &Self| {
            let changes = world.changes().into_iter().map(|(_, _, change)| change);
            changes.into_iter().find(|change| change.change == ChangeKind::Removed)
        };
        self.until(90_000, "it is removed", |world| removal(world).is_some());
        removal(self).expect("it was just there")
    }

    /// The lines about removals in the log of the first replica.
    fn removal_lines(&self) -> Vec<&str> {
        let about =
            |(severity, text): &&(Severity, String)| *severity == Severity::Info && text.starts_with("removed ");
        self.nodes[0].reports.iter().filter(about).map(|(_, text)| text.as_str()).collect()
    }

    fn deregister(&mut self, id: &AgentId, reason: DeregisterReason, detail: Option<&str>) {
        let agent = self.agent(id);
        agent.instances[0].generation += 1;
        let vouching = agent.instances[0].clone();
        let data = Deregistration { vouching, reason, detail: detail.map(str::to_owned) };
        self.append_event(Source::Agent(id.clone()), EventData::Deregister(data));
    }

    fn evict(&mut self, id: &AgentId, why: &str) {
        let who = OperatorName::new("ada").unwrap();
        let incarnation = Some(self.agent(id).instances[0].incarnation);
        let data = EventData::Intent(IntentSet {
            service: service("orders"),
            instance: InstanceId::new("web1").unwrap(),
            intent: IntentKind::Evict,
            who: who.clone(),
            why: why.to_owned(),
            until: None,
            incarnation,
        });
        self.append_event(Source::Operator(who), data);
    }

    fn advise_of(&mut self, id: &AgentId) {
        let client = self.agent(id).client;
        let advisory = format!(
            r#"{{"server":{{"name":"n1","id":"id-of-n1"}},"client":{{"id":{client}}},"reason":"Stale Connection"}}"#
        );
        self.post_from("n1", || Post::Advisory(Bytes::from(advisory.clone())));
    }
}

/// What is done to an instance, and what its removal then says: cause, actor, reason, and parts of the line.
type Case = (fn(&mut World, &AgentId), Cause, &'static str, &'static str, &'static [&'static str]);

const CASES: [Case; 8] = [
    (
        |world, id| world.deregister(id, DeregisterReason::Stopped, None),
        Cause::Deregistered,
        "agent/web1",
        "stopped",
        &[],
    ),
    (
        |world, id| world.deregister(id, DeregisterReason::ChildExited, Some("killed by signal 9")),
        Cause::Deregistered,
        "agent/web1",
        "child_exited",
        &["detail=\"killed by signal 9\""],
    ),
    (
        |world, id| world.deregister(id, DeregisterReason::CriticalTooLong, Some("http: 503")),
        Cause::Deregistered,
        "agent/web1",
        "critical_too_long",
        &["detail=\"http: 503\""],
    ),
    (
        |world, id| world.evict(id, "answers with the wrong tenant"),
        Cause::Evicted,
        "operator/ada",
        "evicted",
        &["detail=\"answers with the wrong tenant\""],
    ),
    (
        |world, id| world.agent(id).alive = false,
        Cause::Expired,
        "registry/r0",
        "silent",
        &[
            "last_heartbeat_at=2027",
            "heard_by=r0",
            "charged_ms=10",
            "server=n1",
            "probe=no_responders",
            "decided_by=r0",
        ],
    ),
    (
        |world, id| world.agent(id).hangs = true,
        Cause::Expired,
        "registry/r0",
        "silent",
        &["last_heartbeat_at=2027", "probe=timeout", "decided_by=r0"],
    ),
    (
        |world, id| {
            world.agent(id).alive = false;
            world.advise_of(id);
        },
        Cause::Expired,
        "registry/r0",
        "disconnected",
        &["broker_reason=\"Stale Connection\"", "server=n1", "probe=no_responders", "decided_by=r0"],
    ),
    (
        |world, id| world.agent(id).instances.clear(),
        Cause::Expired,
        "registry/r0",
        "disowned",
        &["probe=unlisted", "decided_by=r0"],
    ),
];

#[test]
fn every_removal_says_cause_actor_and_what_convinced_whom_in_the_change_and_in_one_line() {
    for (harm, cause, actor, reason, parts) in CASES {
        let mut world = World::settled(2);
        let id = world.start_agent("web1", &["orders"]);
        world.start_agent("web2", &["orders"]);
        world.run(4_000);
        harm(&mut world, &id);
        let change = world.removal();
        assert_eq!((change.cause, change.actor.as_str()), (cause, actor), "{reason}");
        assert_eq!(change.evidence.as_ref().and_then(|evidence| evidence.reason.as_deref()), Some(reason));
        world.run(1_000);
        let lines = world.removal_lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let begins = format!(
            "removed orders/web1 at revision {}: {} by {actor} reason={reason}",
            change.revision,
            cause.as_str()
        );
        assert!(lines[0].starts_with(&begins), "{lines:?} instead of {begins}");
        for part in parts {
            assert!(lines[0].contains(part), "{part} in {lines:?}");
        }
    }
}

#[test]
fn an_agent_whose_connection_broke_and_that_does_not_answer_goes_by_its_silence_only() {
    let mut world = World::settled(1);
    let id = world.start_agent("web1", &["orders"]);
    world.run(4_000);
    world.agent(&id).hangs = true;
    world.advise_of(&id);
    let begun_ms = world.now_ms;
    let change = world.removal();
    assert!(world.now_ms - begun_ms > 7_000, "{} ms", world.now_ms - begun_ms);
    assert_eq!(change.evidence.and_then(|evidence| evidence.reason).as_deref(), Some("silent"));
}

#[test]
fn a_storm_of_removals_is_a_bounded_number_of_lines() {
    let mut world = World::settled(1);
    let ids: Vec<_> = (0..250).map(|number| world.start_agent(&format!("web{number}"), &["orders"])).collect();
    world.run(2_000);
    for id in &ids {
        world.deregister(id, DeregisterReason::Stopped, None);
    }
    world.run(2_000);
    let lines = world.removal_lines();
    assert_eq!(lines.len(), 101, "a hundred lines and a number");
    assert!(lines[100].contains("removed 150 more within a second"), "{}", lines[100]);
    assert_eq!(world.nodes[0].replica.counters().removals, 250);
}
