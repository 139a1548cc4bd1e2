//! `watch`: the list first, then every change, for people and for programs.

use std::time::Duration;

use muster_tests::process::{Signal, Stream};
use muster_tests::{Process, ProcessBuilder, bin};
use serde_json::Value;

use crate::support::{Ended, SOON, World, instance, leased};

/// The objects that a watch has printed, up to the first that is wanted.
async fn until(process: &Process, wanted: &str) -> Vec<Value> {
    process.wait_for_line(wanted, SOON).await;
    let printed = process.lines().into_iter().filter(|line| line.stream == Stream::Stdout);
    printed.map(|line| serde_json::from_str(&line.text).unwrap_or_else(|error| panic!("{error}: {line:?}"))).collect()
}

#[tokio::test]
async fn people_see_the_list_and_then_each_change_with_cause_and_proof() {
    let world = World::start().await;
    world.register(&instance("orders", "a", &[])).await;
    let mut watch = world.muster(&["watch", "orders"]).start();
    watch.wait_for_line("orders: 1 instance, verified", SOON).await;
    world.register(&leased("orders", "b")).await;
    let added = watch.wait_for_line("ADDED", SOON).await;
    assert!(added.text.contains("http=http://62.example:8080   passing   registered by agent/web1"), "{added:?}");
    let removed = watch.wait_for_line("REMOVED", SOON).await;
    assert!(removed.text.contains("expired by registry/r1: its agent was silent ("), "{removed:?}");
    assert!(removed.text.contains("asked, and nobody listened"), "{removed:?}");
    world.run(&["maintenance", "on", "orders", "a", "--why", "disk"]).await.expect_code(0);
    let updated = watch.wait_for_line("UPDATED", SOON).await;
    assert!(updated.text.contains("passing -> passing, maintenance by alice (disk)"), "{updated:?}");

    watch.signal(Signal::SIGINT);
    let ended = Ended::of(&mut watch).await.expect_code(0);
    let rows = ended.rows();
    assert_eq!(rows[0], ["TIME", "WHAT", "INSTANCE", "ENDPOINTS", "HEALTH", "WHY"]);
    assert_eq!(rows[1][1..], ["LISTED", "a", "http=http://61.example:8080", "passing", "static, by agent/web1"]);
}

#[tokio::test]
async fn programs_get_one_object_per_line() {
    let world = World::start().await;
    world.register(&instance("orders", "a", &[])).await;
    let mut watch = world.muster(&["watch", "--json", "--count", "2"]).start();
    let list = until(&watch, "\"list\"").await.remove(0);
    assert_eq!((&list["update"], &list["state"], &list["service"]), (&"list".into(), &"verified".into(), &Value::Null));
    assert_eq!(list["instances"][0]["instance"], "a");
    let sequence = world.register(&instance("users", "c", &[])).await;
    world.run(&["deregister", "users", "c"]).await.expect_code(0);
    let ended = Ended::of(&mut watch).await.expect_code(0);
    let changes: Vec<Value> = ended.stdout.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let (added, removed) = (&changes[0], &changes[1]);
    assert_eq!(
        (&added["update"], &added["change"], &added["cause"]),
        (&"change".into(), &"added".into(), &"registered".into())
    );
    assert_eq!(
        (&added["service"], &added["instance"], &added["actor"]),
        (&"users".into(), &"c".into(), &"agent/web1".into())
    );
    assert_eq!(added["revision"][1], sequence);
    assert_eq!((&added["before"], &added["value"]["version"]), (&Value::Null, &"1.4.2".into()));
    assert_eq!((&removed["change"], &removed["value"]), (&"removed".into(), &Value::Null));
    assert_eq!((&removed["cause"], &removed["before"]["instance"]), (&"deregistered".into(), &"c".into()));
    assert_eq!(removed["evidence"]["reason"], "operator", "{removed}");
}

#[tokio::test]
async fn several_services_are_watched_at_once_and_others_are_not() {
    let world = World::start().await;
    let mut watch = world.muster(&["watch", "orders", "users", "orders", "--json", "--count", "2"]).start();
    until(&watch, "\"users\"").await;
    until(&watch, "\"orders\"").await;
    for service in ["orders", "payments", "users"] {
        world.register(&instance(service, "a", &[])).await;
    }
    let ended = Ended::of(&mut watch).await.expect_code(0);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<&str> = lines.iter().filter_map(|line| line["service"].as_str()).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(!told.contains(&"payments"), "{told:?}");
}

#[tokio::test]
async fn a_filter_lets_instances_come_and_go_as_they_begin_and_cease_to_fit() {
    let world = World::start().await;
    world.register(&instance("orders", "a", &["eu"])).await;
    let mut watch = world.muster(&["watch", "orders", "--routable", "--tag", "eu", "--count", "2"]).start();
    watch.wait_for_line("1 instance, verified", SOON).await;
    world.register(&instance("orders", "b", &["us"])).await;
    world.run(&["maintenance", "on", "orders", "a"]).await.expect_code(0);
    let removed = watch.wait_for_line("REMOVED", SOON).await;
    assert!(removed.text.ends_with("maintenance by operator/alice; no longer fits the filter"), "{removed:?}");
    world.run(&["maintenance", "off", "orders", "a"]).await.expect_code(0);
    let ended = Ended::of(&mut watch).await.expect_code(0);
    assert!(ended.stdout.ends_with("maintenance by operator/alice; fits the filter now"), "{ended:?}");
    assert!(!ended.stdout.contains("62.example"), "{ended:?}");
}

#[tokio::test]
async fn a_watch_goes_on_through_an_outage_and_says_when_it_does_not_know() {
    let mut world = World::start().await;
    world.register(&instance("orders", "a", &[])).await;
    let mut watch = world.muster(&["watch", "orders", "--json"]).start();
    until(&watch, "\"list\"").await;
    world.broker.kill();
    let unknown = until(&watch, "\"unknown\"").await.pop().unwrap();
    assert_eq!((&unknown["update"], unknown["unknown_since"].is_string()), (&"state".into(), true), "{unknown}");
    world.broker.restart().await;
    watch.wait_for_line("\"state\":\"verified\",\"unknown_since\":null}", SOON).await;
    world.client = world.broker.connect().await;
    world.register(&instance("orders", "b", &[])).await;
    watch.wait_for_line("\"added\"", SOON).await;
    watch.signal(Signal::SIGTERM);
    Ended::of(&mut watch).await.expect_code(0);
}

#[tokio::test]
async fn a_watch_ends_by_itself_after_a_period() {
    let world = World::start().await;
    let ended = world.run(&["watch", "--for", "300ms"]).await.expect_code(0);
    assert!(ended.stdout.contains("all services: 0 instances, verified"), "{ended:?}");
}

#[tokio::test]
async fn a_watch_whose_reader_has_gone_ends_although_nothing_happens() {
    let world = World::start().await;
    let script = r#"exec 3>&1; { "$0" watch; echo "code $?" >&3; } | head -n 1"#;
    let mut shell = ProcessBuilder::new("/bin/sh")
        .args(["-c", script])
        .arg(bin("muster"))
        .env("HOME", world.home.path())
        .env("NATS_URL", world.broker.url())
        .start();
    shell.wait_for_line("code 141", Duration::from_secs(5)).await;
    let ended = Ended::of(&mut shell).await.expect_code(0);
    assert_eq!(ended.stderr, "", "it ends without a word");
}
