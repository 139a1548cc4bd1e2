//! Storms: everybody silent at once.

use super::super::due::LOOKED_AT_MAX;
use super::*;

fn fleet(agents: u64, instances: u64) -> Bench {
    let mut bench = Bench::new();
    for agent in 0..agents {
        for instance in 0..instances {
            bench.register(&format!("a{agent}"), &format!("i{agent}-{instance}"), 1, 1);
        }
    }
    bench
}

/// Instances handed out within the next `ms`, asked for every 20 ms, each expired at once.
fn handed_out(bench: &mut Bench, ms: u64) -> u64 {
    let mut count = 0;
    for _ in 0..ms / 20 {
        bench.now_ms += 20;
        while let Some(due) = bench.next_due() {
            count += due.instances.len() as u64;
        }
    }
    count
}

#[test]
fn a_small_fleet_goes_at_a_hundred_a_second() {
    let mut bench = fleet(500, 1);
    bench.run(TTL_MS, &[]);
    let first_second = handed_out(&mut bench, 1_000);
    assert!((100..=120).contains(&first_second), "{first_second} in the first second");
    let second = handed_out(&mut bench, 1_000);
    assert!((98..=102).contains(&second), "{second} in the next second");
}

#[test]
fn a_large_fleet_goes_at_a_tenth_a_second() {
    let mut bench = fleet(3_000, 1);
    bench.run(TTL_MS, &[]);
    let first_second = handed_out(&mut bench, 1_000);
    assert!((300..=360).contains(&first_second), "{first_second} in the first second");
}

#[test]
fn one_agent_with_many_instances_is_handed_out_in_parts() {
    let mut bench = fleet(1, 300);
    bench.run(TTL_MS, &[]);
    bench.now_ms += 20;
    let due = bench.next_due().unwrap();
    assert_eq!(due.instances.len(), 20);
    assert_eq!(bench.next_due(), None);
    let rest = handed_out(&mut bench, 3_000);
    assert_eq!(rest, 280, "the same instance is not handed out twice");
    assert_eq!(bench.leases.suspects(), 300);
}

#[test]
fn time_in_which_nobody_asked_is_not_saved_up() {
    let mut bench = fleet(500, 1);
    bench.run(TTL_MS, &[]);
    bench.now_ms += 60_000;
    let mut burst = 0;
    while let Some(due) = bench.next_due() {
        burst += due.instances.len();
    }
    assert_eq!(burst, 20);
}

#[test]
fn a_heartbeat_ends_the_suspicion() {
    let mut bench = fleet(10, 2);
    bench.run(TTL_MS, &[]);
    while bench.next_due().is_some() {}
    assert_eq!((bench.leases.suspects(), bench.leases.leases_count()), (20, 20));
    for agent in 0..10 {
        bench.beat(&format!("a{agent}"), 1);
    }
    assert_eq!(bench.leases.suspects(), 0);
}

#[test]
fn many_that_are_not_due_after_all_are_looked_at_in_parts_and_hide_nobody_who_is() {
    let living = 2 * LOOKED_AT_MAX as u64 + 500;
    let mut bench = fleet(living, 1);
    bench.register("silent", "i", 1, 1);
    bench.run(TTL_MS / 2, &[]);
    for agent in 0..living {
        bench.beat(&format!("a{agent}"), 1);
    }
    // A long break: nobody asked since then, and the time that was set for all of them at first is over.
    bench.run(TTL_MS / 2, &[]);
    assert_eq!(bench.next_due(), None, "{living} are alive, and no more than {LOOKED_AT_MAX} are looked at in one go");
    assert_eq!(bench.next_due(), None);
    let due = bench.next_due().expect("the silent one");
    assert_eq!(due.agent, agent_id("silent"));
    assert_eq!(bench.next_due(), None);
}
