//! What the broker itself says: connections that are gone, servers that are there or are not.

use bytes::Bytes;
use muster_schemas::entry::ProbeResult;
use muster_schemas::query::ServerState;
use muster_schemas::{AgentId, Cause, Change, ChangeKind, Timestamp};

use super::world::{Post, World};
use crate::core::io::OutgoingKind;

impl World {
    /// All replicas are on `n1`, one of several servers.
    fn cluster(replicas: usize) -> Self {
        let mut world = Self::settled(replicas);
        world.post_from("n1", || Post::ConnectedTo(true));
        world
    }

    fn agent_on(&mut self, server: &str, name: &str) -> AgentId {
        let id = self.start_agent(name, &["orders"]);
        server.clone_into(&mut self.agent(&id).server);
        id
    }

    /// The broker says that an agent's connection is gone.
    fn advise(&mut self, agent: &AgentId, reason: &str) {
        let (server, client) = (self.agent(agent).server.clone(), self.agent(agent).client);
        let advisory = serde_json::json!({
            "type": "io.nats.server.advisory.v1.client_disconnect",
            "server": { "name": server, "id": format!("id-of-{server}"), "ver": "2.15.1" },
            "client": { "id": client, "acc": "MUSTER", "name": "muster-agent" },
            "reason": reason,
        });
        let payload = Bytes::from(advisory.to_string());
        self.post_from(&server, || Post::Advisory(payload.clone()));
    }

    pub(super) fn ask_servers(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[index];
        node.servers_asked.push(now_ms);
        for server in ["n1", "n2", "n3"].iter().filter(|server| !node.cut_from.contains(**server)) {
            let answer =
                serde_json::json!({ "server": { "name": server, "id": format!("id-of-{server}") }, "data": {} });
            node.inbox.push_back(Post::ServerAnswered(Bytes::from(answer.to_string())));
        }
    }

    fn cut(&mut self, server: &str) {
        for node in &mut self.nodes {
            node.cut_from.insert(server.to_owned());
        }
    }

    fn heal(&mut self) {
        for node in &mut self.nodes {
            node.cut_from.clear();
        }
    }

    pub(super) fn removals(&self) -> Vec<(u64, Change)> {
        let changes = self.changes().into_iter();
        changes
            .filter(|(_, _, change)| change.change == ChangeKind::Removed)
            .map(|(ms, _, change)| (ms, change))
            .collect()
    }

    fn alarms(&self) -> usize {
        self.of_kind(OutgoingKind::Alarm).filter(|sent| sent.message.subject.ends_with(".unreachable_server")).count()
    }
}

fn reason(change: &Change) -> Option<&str> {
    change.evidence.as_ref().and_then(|evidence| evidence.reason.as_deref())
}

#[test]
fn a_killed_agent_is_expired_within_fifty_milliseconds_after_its_linger() {
    let mut world = World::settled(3);
    let dead = world.start_agent("web1", &["orders"]);
    world.run(4_030);
    world.agent(&dead).alive = false;
    world.advise(&dead, "Client Closed");
    let took_ms = world.until(5_000, "it is removed", |world| !world.removals().is_empty());
    assert!((2_000..=2_050).contains(&took_ms), "{took_ms}");
    let (_, change) = &world.removals()[0];
    assert_eq!((change.cause, reason(change)), (Cause::Expired, Some("disconnected")));
    let evidence = change.evidence.as_ref().expect("evidence");
    assert_eq!(evidence.broker_reason.as_deref(), Some("Client Closed"));
    assert_eq!(evidence.server.as_deref(), Some("n1"));
    assert_eq!(evidence.probe, Some(ProbeResult::NoResponders));
    assert_eq!(evidence.replica.as_ref().map(muster_schemas::ReplicaId::as_str), Some("r0"));
    world.run(10_000);
    assert_eq!(world.removals().len(), 1);
    world.assert_agreement();
}

#[test]
fn only_a_closed_or_broken_connection_counts() {
    let mut world = World::settled(1);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(4_000);
    world.agent(&agent).alive = false;
    for reason in ["Server Shutdown", "Authentication Expired", "Credentials Revoked", "Kicked", "Something New"] {
        world.advise(&agent, reason);
    }
    world.run(5_000);
    assert_eq!(world.probes, [], "nobody was asked before the TTL was over");
    let took_ms = world.until(10_000, "it is removed", |world| !world.removals().is_empty());
    assert!(took_ms > 1_000);
    assert_eq!(reason(&world.removals()[0].1), Some("silent"));
}

#[test]
fn an_agent_that_comes_back_within_its_linger_is_not_even_asked() {
    let mut world = World::settled(2);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(4_000);
    world.advise(&agent, "Read Error");
    world.agent(&agent).client = 99;
    world.run(20_000);
    assert_eq!((world.probes.as_slice(), world.removals()), ([].as_slice(), vec![]));
}

#[test]
fn no_responders_without_a_word_of_the_broker_afterwards_convinces_nobody() {
    let mut world = World::settled(1);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(4_000);
    world.advise(&agent, "Client Closed");
    world.agent(&agent).alive = false;
    world.node(0).deaf_once_it_probes = true;
    world.run(30_000);
    assert!(!world.probes.is_empty(), "it was asked");
    assert_eq!(world.removals(), []);
    world.node(0).deaf_once_it_probes = false;
    world.node(0).marks_lost = false;
    world.until(15_000, "it is removed", |world| !world.removals().is_empty());
}

#[test]
fn no_responders_behind_a_short_cut_convinces_nobody_once_the_server_is_heard_again() {
    let mut world = World::cluster(1);
    let agent = world.agent_on("n3", "web1");
    world.run(4_000);
    // It lost its connection, found another, and the cut began.
    world.advise(&agent, "Read Error");
    world.cut("n3");
    world.run(2_500);
    assert!(!world.probes.is_empty(), "it was asked, and could not be reached");
    world.heal();
    world.run(10_000);
    assert_eq!(world.removals(), [], "it answered when it was asked again");
    // Dead it is found at once, too: its server says that it was there when nobody answered.
    world.advise(&agent, "Client Closed");
    world.agent(&agent).alive = false;
    let took_ms = world.until(5_000, "it is removed", |world| !world.removals().is_empty());
    assert!((2_000..=2_100).contains(&took_ms), "{took_ms}");
}

#[test]
fn an_agent_that_is_alive_answers_the_probe_after_its_linger_and_stays() {
    let mut world = World::settled(2);
    let agent = world.start_agent("web1", &["orders"]);
    world.run(4_000);
    world.agent(&agent).mute = true;
    world.advise(&agent, "Client Closed");
    world.run(3_000);
    assert!(!world.probes.is_empty());
    world.run(20_000);
    assert_eq!(world.removals(), []);
}

#[test]
fn what_is_no_advisory_is_counted_and_ignored() {
    let mut world = World::settled(1);
    for payload in ["", "{", "{}", r#"{"server":{"name":"n1","id":"x"},"client":{"id":-1},"reason":"Client Closed"}"#] {
        world.post_from("n1", || Post::Advisory(Bytes::from(payload)));
        world.post_from("n1", || Post::ServerAnswered(Bytes::from(payload)));
    }
    world.run(100);
    assert_eq!(world.nodes[0].replica.counters().messages_refused, 4);
    assert_eq!(world.nodes[0].replica.counters().advisories, 0);
}

#[test]
fn a_cut_off_server_keeps_its_agents_instances_with_an_alarm_and_loses_none_when_it_is_back() {
    let mut world = World::cluster(2);
    world.agent_on("n1", "web1");
    for name in ["web2", "web3"] {
        world.agent_on("n3", name);
    }
    world.run(5_000);
    world.cut("n3");
    world.run(40_000);
    assert_eq!(world.removals(), []);
    assert!((3..=12).contains(&world.alarms()), "{} alarms", world.alarms());
    let status = world.nodes[0].replica.status(world.now_ms);
    assert_eq!(status.unreachable_instances, 2);
    let states: Vec<_> = status.servers.iter().map(|server| (server.name.as_str(), server.state)).collect();
    assert_eq!(states, [("n1", ServerState::Heard), ("n3", ServerState::Unreachable)]);
    world.heal();
    world.run(60_000);
    assert_eq!(world.removals(), []);
    assert_eq!(world.nodes[0].replica.status(world.now_ms).unreachable_instances, 0);
}

#[test]
fn who_died_behind_a_cut_is_gone_within_its_bound_after_the_server_is_heard_again() {
    let mut world = World::cluster(2);
    world.agent_on("n3", "web1");
    let dead = world.agent_on("n3", "web2");
    world.run(5_000);
    world.cut("n3");
    world.run(5_000);
    world.agent(&dead).alive = false;
    world.run(30_000);
    world.heal();
    let took_ms = world.until(20_000, "the dead one is removed", |world| !world.removals().is_empty());
    assert!((10_000..15_000).contains(&took_ms), "its charge starts at zero: {took_ms}");
    world.run(20_000);
    assert_eq!(world.removals().len(), 1);
    assert_eq!(world.removals()[0].1.instance.as_str(), "web2");
}

#[test]
fn after_the_limit_what_is_unreachable_is_removed_as_that() {
    let mut world = World::cluster(2);
    world.agent_on("n1", "web1");
    world.agent_on("n3", "web2");
    world.run(5_000);
    world.cut("n3");
    let took_ms = world.until(70_000, "it is removed", |world| !world.removals().is_empty());
    assert!((58_000..64_000).contains(&took_ms), "{took_ms}");
    world.run(10_000);
    let removals = world.removals();
    assert_eq!(removals.len(), 1);
    let (_, change) = &removals[0];
    assert_eq!((change.instance.as_str(), reason(change)), ("web2", Some("unreachable")));
    let detail = change.evidence.as_ref().and_then(|evidence| evidence.detail.as_deref()).unwrap_or_default();
    assert!(detail.contains("nobody heard its server for"), "{detail}");
}

#[test]
fn a_server_without_living_agents_is_asked_by_the_oldest_replica_about_once_a_second() {
    let mut world = World::cluster(3);
    world.agent_on("n1", "web1");
    let dead = world.agent_on("n3", "web2");
    world.run(5_000);
    assert!(world.nodes[0].servers_asked.is_empty(), "while agents are heard nobody is asked");
    world.agent(&dead).alive = false;
    let took_ms = world.until(20_000, "it is removed", |world| !world.removals().is_empty());
    assert!(took_ms < 15_000, "the server lives, so its silence counts: {took_ms}");
    assert_eq!(reason(&world.removals()[0].1), Some("silent"));
    let asked = &world.nodes[0].servers_asked;
    assert!(asked.len() >= 3, "{asked:?}");
    let too_soon = asked.windows(2).filter(|pair| pair[1] - pair[0] < 1_000).count();
    assert!(too_soon <= world.probes.len(), "once more for each question to an agent: {asked:?}");
    assert!(world.nodes[1].servers_asked.is_empty() && world.nodes[2].servers_asked.is_empty());
}

#[test]
fn a_lease_whose_server_another_replica_hears_is_left_to_it() {
    let mut world = World::cluster(2);
    world.agent_on("n1", "web1");
    world.agent_on("n3", "web2");
    world.run(5_000);
    // The oldest hears nothing of the third server, the other does.
    world.node(0).cut_from.insert("n3".to_owned());
    world.run(90_000);
    assert_eq!(world.removals(), []);
    assert_eq!(world.alarms(), 0);
    let status = world.nodes[0].replica.status(world.now_ms);
    assert!(status.servers.iter().any(|server| server.name == "n3" && server.state == ServerState::Elsewhere));
}

/// It hears neither its own marks nor any heartbeat, and no server answers it; what it sends arrives.
fn make_deaf(world: &mut World, index: usize) {
    world.node(index).marks_lost = true;
    for server in ["n1", "n2", "n3"] {
        world.node(index).cut_from.insert(server.to_owned());
    }
}

#[test]
fn a_deaf_replica_ends_intents_in_time_and_removes_nobody_however_short_the_limit_is() {
    for replicas in [1, 2] {
        let mut world = World::new();
        world.timing.unreachable_limit_ms = 3_000;
        for _ in 0..replicas {
            world.start_replica();
        }
        world.until(10_000, "all replicas serve", |world| world.nodes.iter().all(|node| node.serving));
        world.post_from("n1", || Post::ConnectedTo(true));
        world.agent_on("n1", "web1");
        world.agent_on("n3", "web2");
        world.run(5_000);
        make_deaf(&mut world, 0);
        let until = Timestamp::from_ms(world.wall().as_ms() + 30_000);
        world.set_maintenance("orders", "web1", Some(until));
        world.run(120_000);
        assert_eq!(world.removals(), [], "{replicas} replicas");
        let lapse =
            world.changes().into_iter().map(|(_, _, change)| change).find(|change| change.cause == Cause::Lapsed);
        let actor = lapse.expect("the maintenance ended").actor;
        assert_eq!(actor, "registry/r0", "whose clock says that it is time");
    }
}

#[test]
fn a_storm_of_disconnects_beyond_what_is_remembered_ends_nobody_who_lives() {
    let mut world = World::settled(1);
    let agents: Vec<_> = (0..200).map(|number| world.start_agent(&format!("web{number}"), &["orders"])).collect();
    world.run(4_000);
    for agent in &agents {
        world.advise(agent, "Stale Connection");
    }
    world.run(20_000);
    assert_eq!(world.removals(), [], "they answer");
}
