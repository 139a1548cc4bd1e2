//! `register`: vouching in the foreground, and registering without lease.

use std::fs;

use muster_tests::process::Signal;
use muster_tests::{NatsServer, Process};
use serde_json::Value;

use crate::support::{Ended, SOON, World, home, muster};

impl World {
    fn start_register(&self, arguments: &[&str]) -> Process {
        self.muster(&["register"]).args(arguments).arg("--state-dir").arg(self.home.path()).start()
    }
}

#[tokio::test]
async fn an_instance_is_there_as_long_as_the_command_runs() {
    let world = World::start().await;
    let mut vouching = world.start_register(&[
        "orders",
        "--node",
        "box",
        "--port",
        "http=8080",
        "--port",
        "admin=http:8081",
        "--advertise",
        "10.0.0.7",
        "--tag",
        "eu",
        "--metadata",
        "team=shop",
        "--service-version",
        "2.0",
        "--ttl",
        "2s",
    ]);
    let line = vouching.wait_for_line("is registered", SOON).await;
    assert!(
        line.text.contains("orders/box-8080 is registered with http=http://10.0.0.7:8080 admin=http://10.0.0.7:8081"),
        "{line:?}"
    );
    let reply = world.run_json(&["instances", "orders"]).await;
    let found = &reply["services"][0]["instances"][0];
    assert_eq!(
        (&found["instance"], &found["agent"], &found["ttl_ms"]),
        (&"box-8080".into(), &"box".into(), &2_000.into())
    );
    assert_eq!(
        (&found["metadata"]["team"], &found["tags"][0], &found["version"]),
        (&"shop".into(), &"eu".into(), &"2.0".into())
    );
    assert_eq!(found["endpoints"][1]["scheme"], "http");

    let refused = world.run(&["deregister", "orders", "box-8080"]).await.expect_code(1);
    assert!(refused.stderr.contains("maintenance on") && refused.stderr.contains("evict"), "{refused:?}");

    vouching.signal(Signal::SIGTERM);
    let ended = Ended::of(&mut vouching).await.expect_code(0);
    assert!(ended.stdout.contains("orders/box-8080 is deregistered"), "{ended:?}");
    assert_eq!(world.run(&["instances", "orders"]).await.stdout, "orders has no instance");
    let why = world.run(&["why", "orders"]).await.stdout;
    assert!(why.contains("agent/box took it back: it was stopped"), "{why}");
}

#[tokio::test]
async fn a_killed_command_leaves_an_instance_that_expires() {
    let world = World::start().await;
    let mut vouching = world.start_register(&["orders", "--instance", "a", "--ttl", "1s"]);
    vouching.wait_for_line("is registered", SOON).await;
    let watch = world.muster(&["watch", "orders"]).start();
    watch.wait_for_line("1 instance, verified", SOON).await;
    vouching.kill();
    let removed = watch.wait_for_line("REMOVED", SOON).await;
    assert!(removed.text.contains("expired by registry/r1: its agent was silent (last heard at "), "{removed:?}");
}

#[tokio::test]
async fn programs_are_told_how_a_registration_stands() {
    let world = World::start().await;
    let mut vouching = world.start_register(&["orders", "--instance", "a", "--json"]);
    let line = vouching.wait_for_line("\"registered\"", SOON).await;
    let told: Value = serde_json::from_str(&line.text).unwrap();
    assert_eq!(
        (&told["service"], &told["instance"], &told["status"]),
        (&"orders".into(), &"a".into(), &"registered".into())
    );
    assert!(told["revision"].as_u64() > Some(1), "{told}");
    vouching.signal(Signal::SIGINT);
    let ended = Ended::of(&mut vouching).await.expect_code(0);
    assert!(ended.stdout.lines().last().unwrap().contains("\"deregistered\""), "{ended:?}");
}

#[tokio::test]
async fn the_second_process_under_an_agent_id_takes_over_and_the_first_ends_with_75() {
    let world = World::start().await;
    let mut first = world.start_register(&["orders", "--instance", "a", "--agent-id", "box"]);
    first.wait_for_line("is registered", SOON).await;
    let mut second = world.start_register(&["orders", "--instance", "a", "--agent-id", "box"]);
    let ended = Ended::of(&mut first).await.expect_code(75);
    assert!(ended.stderr.contains("superseded") || ended.stderr.contains("displaced"), "{ended:?}");
    second.wait_for_line("is registered", SOON).await;
    assert_eq!(world.run_json(&["instances", "orders"]).await["services"][0]["total"], 1);
    second.signal(Signal::SIGINT);
    Ended::of(&mut second).await.expect_code(0);
}

#[tokio::test]
async fn a_static_instance_is_confirmed_stays_and_can_be_registered_anew() {
    let world = World::start().await;
    let arguments = ["printers", "--instance", "laser-1", "--port", "ipp=631", "--advertise", "10.0.0.9", "--static"];
    let ended = Ended::of(&mut world.start_register(&arguments)).await.expect_code(0);
    assert!(ended.stdout.contains("printers/laser-1 is registered with ipp=tcp://10.0.0.9:631"), "{ended:?}");
    let reply = world.run_json(&["instances", "printers"]).await;
    assert_eq!(reply["services"][0]["instances"][0]["ttl_ms"], 0);

    let again = ["printers", "--instance", "laser-1", "--port", "ipp=632", "--advertise", "10.0.0.9", "--static"];
    Ended::of(&mut world.start_register(&again)).await.expect_code(0);
    let reply = world.run_json(&["instances", "printers"]).await;
    assert_eq!(reply["services"][0]["instances"][0]["endpoints"][0]["port"], 632);

    world.run(&["deregister", "printers", "laser-1"]).await.expect_code(0);
    Ended::of(&mut world.start_register(&arguments)).await.expect_code(0);
    assert_eq!(world.run_json(&["instances", "printers"]).await["services"][0]["total"], 1);
}

#[tokio::test]
async fn the_loopback_address_is_not_advertised_unless_that_was_said() {
    let world = World::start().await;
    let ended = Ended::of(&mut world.start_register(&["orders", "--port", "http=8080"])).await.expect_code(64);
    assert!(ended.stderr.contains("--allow-loopback") && ended.stderr.contains("--advertise"), "{ended:?}");
    let allowed = world.start_register(&["orders", "--port", "http=8080", "--allow-loopback"]);
    allowed.wait_for_line("http=http://127.0.0.1:8080", SOON).await;
}

#[tokio::test]
async fn a_user_who_may_not_register_is_told_which_subject_is_refused() {
    let permissions =
        r#"permissions: { publish: ["$JS.API.INFO", "muster.default.query.>"], subscribe: ["_INBOX.>"] }"#;
    let settings = format!("authorization {{ users: [ {{ user: web1, password: secret, {permissions} }} ] }}");
    let broker = NatsServer::builder().settings(&settings).start().await;
    let home = home();
    let password = home.path().join("password");
    fs::write(&password, "secret").unwrap();
    let mut process =
        muster(&home, &["register", "orders", "--instance", "a", "--server", &broker.url(), "--user", "web1"])
            .arg("--password-file")
            .arg(&password)
            .arg("--state-dir")
            .arg(home.path())
            .start();
    let ended = Ended::of(&mut process).await.expect_code(77);
    assert!(ended.stderr.contains("muster.default.event.register.orders.a."), "{ended:?}");
}

#[tokio::test]
async fn a_broker_without_jetstream_ends_it_with_69() {
    let broker = NatsServer::builder().without_jetstream().start().await;
    let home = home();
    let mut process = muster(&home, &["register", "orders", "--instance", "a", "--server", &broker.url()])
        .arg("--state-dir")
        .arg(home.path())
        .start();
    let ended = Ended::of(&mut process).await.expect_code(69);
    assert!(ended.stderr.contains("JetStream"), "{ended:?}");
}
