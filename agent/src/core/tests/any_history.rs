//! Whatever happened: once it is over, a registry shows exactly what the owners want, and heartbeats say the same.

use muster_schemas::subject::Verb;
use muster_schemas::{Digest, Health, HealthStatus};
use proptest::prelude::*;

use super::world::{Held, Registry, Stream, World, spec};
use crate::core::io::{ClaimId, Input};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Freeze(u64),
    Connect,
    Disconnect,
    Stream(Stream),
    Registry(Registry),
    Notices(bool),
    Register(u8),
    Deregister(u8),
    Health(u8, HealthStatus),
    Weight(u8, u16),
    Expire(u8, bool),
    Announce,
    LoseLog,
}

fn happens() -> impl Strategy<Value = Event> {
    let stream = prop_oneof![
        3 => Just(Stream::Works),
        1 => Just(Stream::Missing),
        1 => Just(Stream::Silent),
        1 => Just(Stream::LosesAcknowledgements)
    ];
    let registry = prop_oneof![
        3 => Just(Registry::Works),
        1 => Just(Registry::Missing),
        1 => Just(Registry::Silent),
        1 => Just(Registry::Behind)
    ];
    let status = prop_oneof![Just(HealthStatus::Passing), Just(HealthStatus::Warning), Just(HealthStatus::Critical)];
    prop_oneof![
        8 => (1_u64..4_000).prop_map(Event::Pass),
        1 => (1_500_u64..60_000).prop_map(Event::Freeze),
        2 => Just(Event::Connect),
        2 => Just(Event::Disconnect),
        2 => stream.prop_map(Event::Stream),
        2 => registry.prop_map(Event::Registry),
        1 => any::<bool>().prop_map(Event::Notices),
        4 => (0_u8..4).prop_map(Event::Register),
        2 => (0_u8..4).prop_map(Event::Deregister),
        3 => (0_u8..4, status).prop_map(|(which, status)| Event::Health(which, status)),
        2 => (0_u8..4, 0_u16..3).prop_map(|(which, weight)| Event::Weight(which, weight)),
        2 => (0_u8..4, any::<bool>()).prop_map(|(which, told)| Event::Expire(which, told)),
        1 => Just(Event::Announce),
        1 => Just(Event::LoseLog),
    ]
}

/// The owners, and the world they live in.
struct History {
    world: World,
    claims: [Option<ClaimId>; 4],
    wanted: [crate::core::spec::InstanceSpec; 4],
    is_connected: bool,
    /// Something happened that only a registry's question can repair while the connection stands.
    needs_announcement: bool,
}

fn name(which: u8) -> String {
    format!("i{which}")
}

impl History {
    fn new() -> Self {
        let mut wanted = [0, 1, 2, 3].map(|which| spec(&name(which)));
        // One of them has no lease.
        (wanted[3].ttl_ms, wanted[3].linger_ms) = (0, 0);
        Self { world: World::new(), claims: [None; 4], wanted, is_connected: false, needs_announcement: false }
    }

    fn happen(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Pass(ms) => world.pass(ms),
            Event::Freeze(ms) => world.jump(ms),
            Event::Connect if !self.is_connected => {
                self.is_connected = true;
                world.connect();
            }
            Event::Disconnect if self.is_connected => {
                self.is_connected = false;
                world.disconnect();
            }
            Event::Connect | Event::Disconnect => {}
            Event::Stream(stream) => world.stream = stream,
            Event::Registry(registry) => world.registry = registry,
            Event::Notices(lost) => world.lose_notices = lost,
            Event::Register(which) => {
                let slot = &mut self.claims[usize::from(which)];
                let over = slot.is_none_or(|claim| world.status(claim).is_final());
                if over {
                    *slot = Some(world.register(self.wanted[usize::from(which)].clone()));
                }
            }
            Event::Deregister(which) => {
                if let Some(claim) = self.claims[usize::from(which)] {
                    world.deregister(claim);
                }
            }
            Event::Health(which, status) => {
                let health = Health { status, ..Health::default() };
                self.wanted[usize::from(which)].health = health.clone();
                if let Some(claim) = self.claims[usize::from(which)] {
                    world.set_health(claim, health);
                }
            }
            Event::Weight(which, weight) => {
                self.wanted[usize::from(which)].weight = weight;
                if let Some(claim) = self.claims[usize::from(which)] {
                    world.step(Input::Update(claim, self.wanted[usize::from(which)].clone()));
                }
            }
            Event::Expire(which, told) => self.expire(which, told),
            Event::Announce if self.is_connected => world.say(Verb::Announce, b""),
            Event::Announce => {}
            Event::LoseLog => {
                self.needs_announcement = true;
                world.held.clear();
                world.sequence = 0;
            }
        }
    }

    fn expire(&mut self, which: u8, told: bool) {
        if self.world.live(&name(which)).is_some_and(|live| !live.is_static()) {
            let notice = self.world.expire(&name(which));
            if told && self.is_connected {
                self.world.hear_notice(&notice);
            } else {
                self.needs_announcement = true;
            }
        }
    }

    /// All faults end; a registry asks once, as it does where heartbeats differ from what it holds.
    fn settle(&mut self) {
        self.world.stream = Stream::Works;
        self.world.registry = Registry::Works;
        self.world.lose_notices = false;
        self.happen(Event::Connect);
        self.world.pass(10_000);
        if self.needs_announcement {
            self.world.say(Verb::Announce, b"");
        }
        self.world.pass(20_000);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut digest = Digest::ZERO;
        for which in 0..4 {
            let Some(claim) = self.claims[usize::from(which)] else { continue };
            let status = self.world.status(claim);
            let held = self.world.held.get(&name(which));
            if status.is_final() {
                prop_assert!(!matches!(held, Some(Held::Live(_))), "{status}: {held:?}");
                continue;
            }
            prop_assert!(status.is_registered(), "{which}: {status}");
            let live = self.world.live(&name(which));
            let wanted = live.map(|live| self.wanted[usize::from(which)].registration(live.vouching.clone()));
            prop_assert_eq!(live, wanted.as_ref());
            let vouching = live.map(|live| live.vouching.clone()).filter(|_| which != 3);
            if let Some(one) = vouching {
                let share = Digest::of_vouching(&one.service, &one.instance, one.incarnation, one.generation);
                digest = digest.plus(share);
            }
        }
        if let Some((_, heartbeat)) = self.world.heartbeats.last() {
            let is_late = self.world.now.ms - self.world.heartbeats.last().map_or(0, |(at, _)| *at) > 2_000;
            prop_assert!(is_late || heartbeat.digest == digest, "the heartbeat's digest is of something else");
        }
        prop_assert_eq!(self.world.superseded, None);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_it_ends_as_the_owners_want_it(events in prop::collection::vec(happens(), 0..60)) {
        let mut history = History::new();
        for event in events {
            history.happen(event);
        }
        history.settle();
        history.check()?;
    }
}
