//! `why`: a biography from the log, in plain words.

use async_nats::jetstream;
use muster_schemas::Registration;
use muster_schemas::event::{EventData, HealthReport};
use muster_tests::eventually;
use serde_json::json;

use crate::support::{SOON, World, instance, leased, subjects};

/// The next that its agent says of it.
fn reported(registration: &mut Registration, status: &str) -> EventData {
    registration.vouching.generation += 1;
    let health = serde_json::from_value(json!({ "status": status })).expect("health");
    EventData::Health(HealthReport { vouching: registration.vouching.clone(), registered_generation: None, health })
}

impl World {
    /// Removes what lies below a sequence, as trimming does.
    async fn purge_below(&self, sequence: u64) {
        let context = jetstream::new(self.client.clone());
        let stream = context.get_stream(subjects().stream_name()).await.expect("the stream");
        stream.purge().sequence(sequence).await.expect("purged");
    }
}

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
        "of silence that counted; asked, and nobody listened; decided by r1)",
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
async fn of_a_log_whose_beginning_is_gone_what_is_left_is_told_and_the_present_by_a_registry() {
    let world = World::start().await;
    let mut trimmed = instance("orders", "a", &[]);
    world.register(&trimmed).await;
    world.register(&instance("users", "quiet", &[])).await;
    let first = world.append(reported(&mut trimmed, "warning")).await;
    let mut whole = instance("orders", "b", &[]);
    world.register(&whole).await;
    world.append(reported(&mut whole, "critical")).await;
    world.purge_below(first).await;

    let begins = format!("\nThe log begins at revision {first}: what came before is no longer in it.\n");
    let why = world.run(&["why", "orders", "a"]).await.expect_code(0);
    let doubtful = "agent/web1 reported it warning; what became of it depended on events that are gone";
    for told in [doubtful, &begins, "\nNow: registered, warning."] {
        assert!(why.stdout.contains(told), "{told:?} in {why:?}");
    }
    let json = world.run_json(&["why", "orders", "a"]).await;
    assert_eq!((&json["log_begins_at"], &json["events"][0]["outcome"]), (&first.into(), &"unknown".into()));

    let why = world.run(&["why", "orders", "b"]).await.expect_code(0);
    for told in ["agent/web1 registered it, passing\n", "reported it critical\n", &begins, "Now: registered, critical."]
    {
        assert!(why.stdout.contains(told), "{told:?} in {why:?}");
    }
    let service = world.run(&["why", "orders"]).await.expect_code(0);
    assert!(service.stdout.ends_with("Now: 2 instances, 1 of them routable."), "{service:?}");

    let quiet = world.run(&["why", "users", "quiet"]).await.expect_code(0);
    assert!(quiet.stdout.contains(&begins) && quiet.stdout.ends_with("Now: registered, passing."), "{quiet:?}");
    let nobody = world.run(&["why", "users", "nobody"]).await.expect_code(1);
    assert!(
        nobody.stderr.contains(&format!("what is left of the log, from revision {first} on, says nothing")),
        "{nobody:?}"
    );

    let last = jetstream::new(world.client.clone()).get_stream(subjects().stream_name()).await.expect("the stream");
    world.purge_below(last.cached_info().state.last_sequence + 1).await;
    let all_gone = world.run(&["why", "orders", "a"]).await.expect_code(0);
    assert!(all_gone.stdout.ends_with("Now: registered, warning."), "{all_gone:?}");
}

#[tokio::test]
async fn what_was_never_in_the_log_is_said_and_is_a_failure() {
    let world = World::start().await;
    let why = world.run(&["why", "orders", "a"]).await.expect_code(1);
    assert!(why.stderr.contains("the log says nothing about orders/a"), "{why:?}");
}
