//! Whatever comes in whatever order: no panic, sums and counts that agree with the catalog, nobody heard within a TTL is due,
//! and nobody silent for long is kept.

use proptest::prelude::*;

use super::super::Verdict;
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Register { agent: u8, instance: u8, incarnation: u64, ttl_ms: u64 },
    Deregister { agent: u8, instance: u8 },
    Beat { agent: u8, session: u64 },
    Marks { count: u8 },
    Freeze { ms: u64 },
    Gap,
    Rebuild,
    Epoch,
    Vouch { agent: u8, instance: u8 },
    Retry { agent: u8 },
    ExpireDue,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..3, 0_u8..4, 1_u64..4, prop_oneof![Just(0_u64), Just(1_000), Just(3_000)])
            .prop_map(|(agent, instance, incarnation, ttl_ms)| Step::Register { agent, instance, incarnation, ttl_ms }),
        2 => (0_u8..3, 0_u8..4).prop_map(|(agent, instance)| Step::Deregister { agent, instance }),
        8 => (0_u8..3, 1_u64..4).prop_map(|(agent, session)| Step::Beat { agent, session }),
        8 => (1_u8..12).prop_map(|count| Step::Marks { count }),
        1 => (0_u64..3_000).prop_map(|ms| Step::Freeze { ms }),
        1 => Just(Step::Gap),
        1 => Just(Step::Rebuild),
        1 => Just(Step::Epoch),
        1 => (0_u8..3, 0_u8..4).prop_map(|(agent, instance)| Step::Vouch { agent, instance }),
        1 => (0_u8..3).prop_map(|agent| Step::Retry { agent }),
        4 => Just(Step::ExpireDue),
    ]
}

fn play(bench: &mut Bench, step: &Step, generation: u64) {
    let name = |agent: &u8| format!("a{agent}");
    let id = |instance: &u8| format!("i{instance}");
    match step {
        Step::Register { agent, instance, incarnation, ttl_ms } => {
            let data = registration(vouching(&name(agent), &id(instance), *incarnation, generation), *ttl_ms);
            offer(bench, Sender::Agent(agent_id(&name(agent))), EventData::Register(data));
        }
        Step::Deregister { agent, instance } => {
            let held = bench.catalog.instance(&"orders".parse().unwrap(), &id(instance).parse().unwrap()).cloned();
            let Some(held) = held.filter(|held| held.vouching().agent.as_str() == name(agent)) else {
                return;
            };
            let vouching = Vouching { generation, ..held.vouching().clone() };
            let data = Deregistration { vouching, reason: DeregisterReason::Stopped, detail: None };
            offer(bench, Sender::Agent(agent_id(&name(agent))), EventData::Deregister(data));
        }
        Step::Beat { agent, session } => {
            bench.beat(&name(agent), *session);
        }
        Step::Marks { count } => bench.run(u64::from(*count) * MARK_MS, &[]),
        Step::Freeze { ms } => bench.now_ms += ms,
        Step::Gap => bench.leases.gap(),
        Step::Rebuild => {
            let catalog = bench.catalog.clone();
            match read_back(&catalog) {
                Some(checkpoint) => bench.leases.begin_from(&checkpoint),
                None => bench.leases.rebuild(&catalog),
            }
        }
        Step::Epoch => {
            let number = generation + 1;
            let previous = bench.catalog.epoch();
            let began = EpochBegan {
                epoch: epoch_id(number),
                previous_epoch: previous,
                namespace: Namespace::default(),
                datacenter: None,
                fold_version: 1,
            };
            offer(bench, registry(), EventData::Epoch(began));
        }
        Step::Vouch { agent, instance } => {
            let listed = vouching(&name(agent), &id(instance), 1, 1);
            bench.leases.vouched(&agent_id(&name(agent)), &answer(1, &[&listed]));
        }
        Step::Retry { agent } => bench.leases.retry(&agent_id(&name(agent))),
        Step::ExpireDue => {
            while let Some(due) = bench.next_due() {
                bench.expire(&due);
            }
        }
    }
}

/// Folds an event that may be ignored.
fn offer(bench: &mut Bench, source: Sender, data: EventData) {
    let event = Event { id: "e".into(), source, time: None, data };
    bench.sequence += 1;
    let record = Record {
        sequence: bench.sequence,
        at: Timestamp::from_ms(i64::try_from(bench.now_ms).unwrap()),
        subject: &event.subject(&subjects()),
        payload: &event.encode(&Namespace::default()).unwrap(),
    };
    let folded = bench.catalog.fold(&subjects(), &record);
    bench.leases.folded(&bench.catalog, &folded);
}

/// Every session's heartbeat, with the digest that the catalog gives, is the same as what is held.
fn assert_in_step(bench: &mut Bench) {
    let held: Vec<_> = bench.catalog.services().flat_map(|(_, service)| service.instances().cloned()).collect();
    let leased: Vec<_> = held.iter().filter(|instance| !instance.is_static()).collect();
    assert_eq!(bench.leases.leases_count(), leased.len());
    assert!(bench.leases.suspects() <= leased.len() as u64);
    for agent in ["a0", "a1", "a2"] {
        let mut seen: Vec<_> =
            bench.leases.agent(&agent_id(agent)).into_iter().flat_map(super::super::AgentView::instances).collect();
        let mut expected: Vec<_> =
            leased.iter().copied().filter(|held| held.vouching().agent.as_str() == agent).collect();
        seen.sort_by_key(|instance| instance.id().clone());
        expected.sort_by_key(|instance| instance.id().clone());
        assert_eq!(seen, expected);
    }
    for agent in ["a0", "a1", "a2"] {
        let current = bench.leases.agent(&agent_id(agent)).and_then(|view| view.session());
        let Some(current) = current else { continue };
        let own = leased.iter().filter(|held| held.vouching().agent.as_str() == agent);
        let own = own.filter(|held| held.vouching().session == current);
        let claimed: Digest = own.map(|held| item(held.vouching())).sum();
        let number = (1..4).find(|number| session(*number) == current).unwrap();
        let Heard::Beat(beat) = bench.beat_with(agent, number, claimed, None) else { panic!("dropped") };
        assert_eq!(beat.verdict, Verdict::Same);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn leases_and_catalog_stay_in_step(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        for (number, step) in steps.iter().enumerate() {
            play(&mut bench, step, number as u64 + 1);
        }
        assert_in_step(&mut bench);
    }

    #[test]
    fn whoever_is_silent_while_marks_come_is_handed_out_in_the_end(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        for (number, step) in steps.iter().enumerate() {
            play(&mut bench, step, number as u64 + 1);
        }
        // TTLs are at most 3 s, and what was handed out comes back after 5 s.
        for _ in 0..10 {
            bench.run(1_000, &[]);
            while let Some(due) = bench.next_due() {
                bench.expire(&due);
            }
        }
        prop_assert_eq!(bench.leases.leases_count(), 0);
        prop_assert_eq!(bench.leases.suspects(), 0);
        prop_assert!(bench.catalog.services().all(|(_, service)| service.instances().all(|held| held.is_static())));
    }

    #[test]
    fn nobody_is_due_who_was_heard_within_a_ttl(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        for (number, step) in steps.iter().enumerate() {
            play(&mut bench, step, number as u64 + 1);
            while let Some(due) = bench.next_due() {
                for one in &due.instances {
                    let ttl_ms = one.instance.registration.ttl_ms;
                    prop_assert!(one.evidence.charged_ms.unwrap() >= ttl_ms);
                    let heard_ms = one.evidence.last_heartbeat_at.map_or(0, |at| u64::try_from(at.as_ms()).unwrap());
                    prop_assert!(bench.now_ms - heard_ms >= ttl_ms);
                }
            }
        }
    }
}
