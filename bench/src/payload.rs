//! The bytes that all systems carry: registrations as an agent would send them, numbered so that they are recognised.

use bytes::Bytes;
use muster_schemas::event::{Event, EventData, Source};
use muster_schemas::{AgentId, Digest, Namespace, Prefix, Registration, Subjects};
use serde_json::json;

/// The namespace's subjects.
pub(crate) fn subjects() -> Subjects {
    Subjects::new(Prefix::default(), Namespace::default())
}

/// One registration to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) service: &'a str,
    pub(crate) instance: usize,
    /// Whose it is.
    pub(crate) agent: usize,
    pub(crate) generation: u64,
    /// By which it is recognised.
    pub(crate) number: usize,
    pub(crate) ttl_ms: u64,
}

/// Instances of an agent; of one lease, where a peer has leases.
pub(crate) const INSTANCES_EACH: usize = 10;

/// Longer than any measurement: leases play no part in it.
pub(crate) const LONG_TTL_MS: u64 = 3_600_000;

pub(crate) fn agent(number: usize) -> String {
    format!("node-{number:06}")
}

pub(crate) const SESSION: &str = "01KAJ8Q0000000000000000001";

/// What an agent says of an ordinary service: two endpoints, two tags, four labels, one check.
pub(crate) fn registration(subject: Subject<'_>) -> Registration {
    let Subject { service, instance, agent: agent_number, generation, number, ttl_ms } = subject;
    let (high, low) = (agent_number / 250 % 250, agent_number % 250);
    let host = format!("10.{}.{high}.{low}", agent_number / 62_500 % 250);
    // Two ports for each, or neighbours on one host would register the same address.
    let port = 8_000 + 2 * (instance % 20_000);
    let value = json!({
        "service": service, "instance": format!("{service}-{instance:07}"), "agent": agent(agent_number),
        "session": SESSION, "incarnation": SESSION, "generation": generation,
        "ttl_ms": ttl_ms, "linger_ms": ttl_ms.min(2_000), "version": "2.7.1",
        "endpoints": [
            { "name": "http", "scheme": "http", "host": host, "port": port },
            { "name": "grpc", "scheme": "grpc", "host": host, "port": port + 1 },
        ],
        "tags": ["primary", "canary"],
        "metadata": { "n": format!("{number:010}"), "team": "payments", "commit": "c8e2e71f", "tier": "gold" },
        "locality": { "region": "eu-central", "zone": "eu-central-1a" },
        "node": { "name": agent(agent_number), "address": host },
        "health": { "status": "passing", "checks": [{ "id": "http", "kind": "http", "status": "passing" }] },
    });
    serde_json::from_value(value).expect("a registration")
}

/// The event's subject and bytes.
pub(crate) fn event(subject: Subject<'_>) -> (String, Bytes) {
    let source = Source::Agent(agent(subject.agent).parse::<AgentId>().expect("a name"));
    let data = EventData::Register(registration(subject));
    let event = Event { id: format!("01KAJ8Q0{:018}", subject.number), source, time: None, data };
    let subjects = subjects();
    let bytes = event.encode(subjects.namespace()).expect("small enough");
    (event.subject(&subjects), bytes.into())
}

/// The number in the bytes of a registration, a change or whatever carries one.
pub(crate) fn number(bytes: &[u8]) -> Option<usize> {
    const FIELD: &[u8] = b"\"n\":\"";
    let at = bytes.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    std::str::from_utf8(bytes.get(at..at + 10)?).ok()?.parse().ok()
}

/// `count` new registrations over services of 50 instances.
pub(crate) fn fleet(count: usize, from: usize) -> impl Iterator<Item = (String, Bytes)> {
    (from..from + count).map(|number| event(fleet_member(number, 1)))
}

/// One of a fleet.
pub(crate) fn fleet_member(number: usize, generation: u64) -> Subject<'static> {
    let service = FLEET_SERVICES[number / 50 % FLEET_SERVICES.len()];
    Subject { service, instance: number, agent: number / INSTANCES_EACH, generation, number, ttl_ms: LONG_TTL_MS }
}

/// Names for a fleet's services; larger fleets have larger services.
static FLEET_SERVICES: std::sync::LazyLock<Vec<&'static str>> =
    std::sync::LazyLock::new(|| (0..1_000).map(|number| &*format!("service-{number:03}").leak()).collect());

/// What an agent of a fresh fleet vouches for, as its heartbeats say it.
pub(crate) fn fleet_digest(agent_number: usize) -> Digest {
    (agent_number * INSTANCES_EACH..(agent_number + 1) * INSTANCES_EACH).fold(Digest::ZERO, |sum, number| {
        let vouching = registration(fleet_member(number, 1)).vouching;
        sum.plus(Digest::of_vouching(&vouching.service, &vouching.instance, vouching.incarnation, vouching.generation))
    })
}
