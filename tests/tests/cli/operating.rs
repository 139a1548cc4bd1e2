//! `deregister`, `maintenance` and `evict`.

use crate::support::{World, instance, leased};

#[tokio::test]
async fn a_static_instance_is_deregistered_and_gone_when_the_command_returns() {
    let world = World::start().await;
    world.register(&instance("printers", "laser-1", &[])).await;
    let done = world.run(&["deregister", "printers", "laser-1", "--why", "sold"]).await.expect_code(0);
    assert_eq!(done.stdout, "deregistered printers/laser-1");
    assert_eq!(world.run(&["instances", "printers"]).await.stdout, "printers has no instance");
    let why = world.run(&["why", "printers", "laser-1"]).await.expect_code(0);
    assert!(why.stdout.contains("took it back: an operator asked for it (sold)"), "{why:?}");

    let again = world.run(&["deregister", "printers", "laser-1"]).await.expect_code(1);
    assert!(again.stderr.contains("no such instance") && again.stderr.contains("muster services"), "{again:?}");
}

#[tokio::test]
async fn an_instance_with_a_living_agent_is_not_deregistered_and_the_ways_out_are_named() {
    let world = World::start().await;
    let registration = leased("orders", "a");
    world.answer_probes(&registration).await;
    world.register(&registration).await;
    let refused = world.run(&["deregister", "orders", "a"]).await.expect_code(1);
    for told in ["agent web1 lives", "muster maintenance on orders a", "muster evict orders a"] {
        assert!(refused.stderr.contains(told), "{told} in {refused:?}");
    }
    assert_eq!(world.run_json(&["instances", "orders"]).await["services"][0]["total"], 1);
}

#[tokio::test]
async fn maintenance_keeps_an_instance_from_being_used_until_it_is_ended_or_its_time_is_over() {
    let world = World::start().await;
    world.register(&instance("orders", "a", &[])).await;
    let on = world.run(&["maintenance", "on", "orders", "a", "--why", "disk swap"]).await.expect_code(0);
    assert_eq!(on.stdout, "orders/a is in maintenance");
    let instances = world.run(&["instances", "orders"]).await;
    assert_eq!(instances.rows()[1][2..4], ["passing, maintenance by alice (disk swap)", "no"]);
    assert_eq!(world.run(&["instances", "orders", "--routable"]).await.stdout, "orders has 1 instance, and none fits");

    let off = world.run(&["maintenance", "off", "orders", "a"]).await.expect_code(0);
    assert_eq!(off.stdout, "orders/a is out of maintenance");
    assert_eq!(world.run(&["instances", "orders"]).await.rows()[1][2..4], ["passing", "yes"]);

    let short = world.run_json(&["maintenance", "on", "orders", "a", "--for", "3s", "--who", "bob"]).await;
    assert_eq!(short["result"], "in maintenance");
    let ended = world.run(&["watch", "orders", "--count", "1", "--for", "20s"]).await.expect_code(0);
    let instances = world.run(&["instances", "orders", "--routable"]).await;
    assert!(instances.stdout.contains("passing"), "{instances:?} after {ended:?}");
    let why = world.run(&["why", "orders", "a"]).await;
    assert!(why.stdout.contains("bob put it into maintenance until"), "{why:?}");
    assert!(why.stdout.contains("the time set for maintenance or eviction was over"), "{why:?}");
}

#[tokio::test]
async fn an_evicted_instance_is_out_and_its_incarnation_stays_out_until_that_is_lifted() {
    let world = World::start().await;
    let registration = instance("orders", "a", &[]);
    world.register(&registration).await;
    let done = world.run(&["evict", "orders", "a", "--why", "wrong tenant"]).await.expect_code(0);
    assert_eq!(done.stdout, "orders/a is evicted");
    let mut again = registration.clone();
    again.vouching.generation = 2;
    world.register(&again).await;
    assert_eq!(world.run(&["instances", "orders"]).await.stdout, "orders has no instance");
    let why = world.run(&["why", "orders", "a"]).await.stdout;
    assert!(
        why.contains("alice evicted it: wrong tenant") && why.contains("an operator's eviction is in force"),
        "{why}"
    );

    world.run(&["evict", "orders", "a", "--clear"]).await.expect_code(0);
    again.vouching.incarnation = "01J00000000000000000000002".parse().unwrap();
    world.register(&again).await;
    assert_eq!(world.run_json(&["instances", "orders"]).await["services"][0]["total"], 1);
    let missing = world.run(&["evict", "orders", "b"]).await.expect_code(1);
    assert!(missing.stderr.contains("no such instance"), "{missing:?}");
}
