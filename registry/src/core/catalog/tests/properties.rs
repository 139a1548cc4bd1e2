//! Whatever the log holds: no panic, the same catalog for everybody, sums that are right (the bench checks them after every
//! event), snapshots that stay as they were.

use muster_schemas::HealthStatus;
use muster_schemas::entry::Tombstone;
use proptest::prelude::*;

use super::*;

/// One event of a history, small enough that events meet.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Register { agent: u8, instance: u8, incarnation: u64, generation: u64, port: u16, is_static: bool },
    Deregister { agent: u8, instance: u8, incarnation: u64, generation: u64 },
    Health { agent: u8, instance: u8, incarnation: u64, generation: u64, status: u8 },
    Expire { instance: u8, late_by: u64 },
    Intent { instance: u8, kind: u8, until_ms: Option<i64>, incarnation: u64 },
    Lapse { back: u64, instance: u8 },
    Carry { instance: u8, incarnation: u64, generation: u64, gone: bool },
    Epoch { number: u64, previous: Option<u64> },
    Recovered { number: u64 },
    Garbage { subject: String, payload: Vec<u8> },
    Wait { ms: i64 },
}

fn order() -> impl Strategy<Value = (u64, u64)> {
    (1_u64..4, 1_u64..6)
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..2, 0_u8..4, order(), 1_u16..3, prop::bool::weighted(0.1)).prop_map(
            |(agent, instance, (incarnation, generation), port, is_static)| Step::Register {
                agent, instance, incarnation, generation, port, is_static }),
        3 => (0_u8..2, 0_u8..4, order()).prop_map(|(agent, instance, (incarnation, generation))| Step::Deregister {
            agent, instance, incarnation, generation }),
        4 => (0_u8..2, 0_u8..4, order(), 0_u8..3).prop_map(|(agent, instance, (incarnation, generation), status)|
            Step::Health { agent, instance, incarnation, generation, status }),
        3 => (0_u8..4, 0_u64..2).prop_map(|(instance, late_by)| Step::Expire { instance, late_by }),
        3 => (0_u8..4, 0_u8..3, prop::option::of(0_i64..20), 1_u64..4).prop_map(
            |(instance, kind, until_ms, incarnation)| Step::Intent { instance, kind, until_ms, incarnation }),
        2 => (0_u64..6, 0_u8..4).prop_map(|(back, instance)| Step::Lapse { back, instance }),
        2 => (0_u8..4, order(), any::<bool>()).prop_map(|(instance, (incarnation, generation), gone)| Step::Carry {
            instance, incarnation, generation, gone }),
        1 => (1_u64..6, prop::option::of(1_u64..6)).prop_map(|(number, previous)| Step::Epoch { number, previous }),
        1 => (1_u64..6).prop_map(|number| Step::Recovered { number }),
        1 => ("muster\\.default\\.event\\.(register|health|carry)\\.[a-z%.]{1,9}\\.a|\\PC{0,20}", any::<Vec<u8>>())
            .prop_map(|(subject, payload)| Step::Garbage { subject, payload }),
        1 => prop_oneof![-5_i64..50, Just(super::super::KEPT_MS)].prop_map(|ms| Step::Wait { ms }),
    ]
}

pub(super) fn play(bench: &mut Bench, step: &Step) -> Option<Folded> {
    let agent = |number: &u8| format!("agent-{number}");
    let instance = |number: &u8| format!("i{number}");
    let in_force = bench.catalog.epoch();
    let epoch = (1..6).find(|number| Some(epoch_id(*number)) == in_force).unwrap_or(1);
    Some(match step {
        Step::Register { agent: by, instance: of, incarnation, generation, port, is_static } => {
            let vouching = vouching(&agent(by), &instance(of), *incarnation, *generation);
            bench.register_with(vouching, |registration| {
                registration.endpoints = vec![endpoint("10.0.0.1", *port)];
                if *is_static {
                    registration.ttl_ms = 0;
                    registration.linger_ms = 0;
                }
            })
        }
        Step::Deregister { agent: by, instance: of, incarnation, generation } => {
            bench.deregister(&agent(by), &instance(of), *incarnation, *generation)
        }
        Step::Health { agent: by, instance: of, incarnation, generation, status } => {
            let status = [HealthStatus::Passing, HealthStatus::Warning, HealthStatus::Critical][usize::from(*status)];
            bench.health(&agent(by), &instance(of), (*incarnation, *generation), status)
        }
        Step::Expire { instance: of, late_by } => {
            let observed = bench.last_sequence(&instance(of)).saturating_sub(*late_by);
            bench.expire_observed(&instance(of), epoch, observed)
        }
        Step::Intent { instance: of, kind, until_ms, incarnation: number } => {
            let kind = [IntentKind::Maintenance, IntentKind::Evict, IntentKind::Clear][usize::from(*kind)];
            let until_ms = until_ms.map(|ms| bench.now_ms + ms);
            bench.intent_of(&instance(of), kind, until_ms, incarnation(*number))
        }
        Step::Lapse { back, instance: of } => {
            let ends = bench.sequence.saturating_sub(*back);
            bench.lapse(&instance(of), epoch, ends)
        }
        Step::Carry { instance: of, incarnation, generation, gone } => {
            let vouching = vouching("agent-0", &instance(of), *incarnation, *generation);
            let entry = if *gone {
                Entry::Tombstone(Arc::new(Tombstone {
                    vouching,
                    cause: muster_schemas::Cause::Expired,
                    actor: "registry/r0".into(),
                    revision: 1,
                    // Of a broker whose clock was ahead.
                    at: Timestamp::from_ms(BEGIN_MS + 1_000_000_000_000),
                    evidence: None,
                }))
            } else {
                Entry::Instance(Arc::new(Instance {
                    registration: registration(vouching),
                    created_revision: 1,
                    modified_revision: 1,
                    maintenance: None,
                }))
            };
            bench.carry(epoch, entry)
        }
        Step::Epoch { number, previous } => bench.begin(*number, *previous),
        Step::Recovered { number } => bench.recovered(*number),
        Step::Garbage { subject, payload } => bench.raw(subject, payload),
        Step::Wait { ms } => {
            bench.now_ms += ms;
            return None;
        }
    })
}

/// A consumer that applies changes, as far as they chain.
#[derive(Default)]
struct View {
    instances: std::collections::BTreeMap<InstanceId, Arc<Instance>>,
    revision: u64,
}

impl View {
    fn apply(&mut self, change: &muster_schemas::Change) {
        if change.previous_revision == 0 {
            assert!(self.instances.is_empty(), "a first change finds an empty list");
        } else {
            assert_eq!(change.previous_revision, self.revision, "changes are chained");
        }
        self.revision = change.revision;
        match &change.value {
            Some(value) => self.instances.insert(change.instance.clone(), Arc::clone(value)),
            None => self.instances.remove(&change.instance),
        };
        let sum: Digest = self
            .instances
            .values()
            .map(|instance| Digest::of_instance(instance.id(), instance.modified_revision))
            .sum();
        assert_eq!(sum, change.digest, "the digest after the change is that of what a consumer holds");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3_000 }))]

    #[test]
    fn two_catalogs_of_the_same_log_are_equal_and_a_consumer_of_its_changes_holds_the_same(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (mut one, mut other) = (Bench::recovering(), Bench::recovering());
        let mut view = View::default();
        for step in &steps {
            let epoch = one.catalog.epoch();
            let folded = play(&mut one, step);
            prop_assert_eq!(&folded, &play(&mut other, step));
            if one.catalog.epoch() != epoch {
                view = View::default();
            }
            if let Some(change) = folded.and_then(|folded| folded.change) {
                view.apply(&change);
            }
        }
        prop_assert_eq!(&one.catalog, &other.catalog);
        let held: Vec<InstanceId> = one.catalog.service(&orders()).into_iter()
            .flat_map(super::super::Service::instances).map(|instance| instance.id().clone()).collect();
        prop_assert_eq!(held, view.instances.into_keys().collect::<Vec<_>>());
    }

    #[test]
    fn a_clone_is_unaffected_by_what_is_folded_later(
        before in prop::collection::vec(step(), 1..30), after in prop::collection::vec(step(), 1..30),
    ) {
        let mut bench = Bench::ready();
        for step in &before {
            play(&mut bench, step);
        }
        let snapshot = bench.catalog.clone();
        let entries: Vec<_> = snapshot.entries().collect();
        let digest = snapshot.digest();
        for step in &after {
            play(&mut bench, step);
        }
        prop_assert_eq!(snapshot.entries().collect::<Vec<_>>(), entries);
        prop_assert_eq!(snapshot.digest(), digest);
    }

    #[test]
    fn no_instance_is_held_in_an_incarnation_that_is_fenced(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::ready();
        for step in &steps {
            play(&mut bench, step);
            for intent in bench.catalog.intents().filter(|intent| intent.intent == IntentKind::Evict) {
                let held = bench.catalog.instance(&intent.service, &intent.instance);
                let incarnation = held.map(|held| held.vouching().incarnation);
                prop_assert!(incarnation.is_none() || incarnation > intent.incarnation);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_outcome(subject in "\\PC{0,60}", payload in any::<Vec<u8>>()) {
        let mut bench = Bench::ready();
        prop_assert!(bench.raw(&subject, &payload).outcome.is_ignored());
    }
}
