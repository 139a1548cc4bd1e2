//! `why`: a biography from the log, in plain words.

use crate::support::{SOON, World, instance, leased};
use muster_tests::eventually;

#[tokio::test]
async fn an_instance_whose_agent_died_is_explained_in_plain_words() {
    let world = World::start().await;
    world.register(&leased("orders", "a")).await;
    eventually("the instance is removed", SOON, async || {
        let services = world.run(&["instances", "orders"]).await.stdout;
        if services == "orders has no instance" { Ok(()) } else { Err(services) }
    })
    .await;
    let why = world.run(&["why", "orders", "a"]).await.expect_code(0);
    for told in [
        "registry/r1 began log 01",
        "agent/web1 registered it, passing",
        "registry/r1 removed it: its agent was silent (",
        "of silence that counted; asked, and nobody listened)",
        "\nNow: gone since ",
        ": expired by registry/r1.",
    ] {
        assert!(why.stdout.contains(told), "{told:?} in {why:?}");
    }

    let json = world.run_json(&["why", "orders", "a"]).await;
    let last = json["events"].as_array().and_then(|events| events.last()).expect("events").clone();
    assert_eq!((&last["outcome"], &last["change"]), (&"accepted".into(), &"removed".into()));
    assert_eq!(last["event"]["data"]["evidence"]["probe"], "no_responders");
}

#[tokio::test]
async fn a_late_message_of_an_earlier_life_is_told_as_ignored() {
    let world = World::start().await;
    let mut registration = instance("orders", "a", &[]);
    registration.vouching.generation = 5;
    world.register(&registration).await;
    registration.vouching.generation = 4;
    world.register(&registration).await;
    let why = world.run(&["why", "orders"]).await.expect_code(0);
    let told = "a registration by agent/web1 was ignored: it was late, or of an earlier life (stale)";
    assert!(why.stdout.contains(told), "{why:?}");
    assert!(why.stdout.ends_with("Now: 1 instance, 1 of them routable."), "{why:?}");

    let last = world.run(&["why", "orders", "--last", "1"]).await.expect_code(0);
    assert!(last.stdout.contains("\n2 earlier events are not shown (--last).\n"), "{last:?}");
    assert_eq!(last.stdout.lines().count(), 4, "{last:?}");
}

#[tokio::test]
async fn what_was_never_in_the_log_is_said_and_is_a_failure() {
    let world = World::start().await;
    let why = world.run(&["why", "orders", "a"]).await.expect_code(1);
    assert!(why.stderr.contains("the log says nothing about orders/a"), "{why:?}");
}
