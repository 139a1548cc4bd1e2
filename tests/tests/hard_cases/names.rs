//! Names as people choose them, through the whole: registered by an agent, watched, asked for and printed.

use muster_tests::process::{Signal, Stream};
use serde_json::Value;

use crate::support::{Ended, SOON, World};

/// Service and instance names that no subject could hold as they are, and the longest that fit.
fn names() -> Vec<(String, String)> {
    let longest = "x".repeat(128);
    // Three bytes each, once encoded.
    let longest_of_dots = format!("{}aa", ".".repeat(42));
    let longest_of_umlauts = format!("{}ab", "ü".repeat(21));
    [
        ("user.rpc", "node-1.example.com:8080"),
        ("a/b/c", "../../etc"),
        ("Größe im Büro ☕", "日本-1"),
        ("*.>", "%2E%"),
        ("a b", "$JS.API \"quoted\" \\ 'x'"),
        // One letter and a mark that combines with it: not the same bytes as "é", and so not the same name.
        ("cafe\u{301}", "café"),
        (&longest, &longest),
        (&longest_of_dots, &longest_of_umlauts),
    ]
    .map(|(service, instance)| (service.to_owned(), instance.to_owned()))
    .into()
}

#[tokio::test]
async fn any_name_that_fits_is_registered_watched_asked_for_and_printed_as_it_was_given() {
    let world = World::start().await;
    let watch_all = world.muster(&["watch", "--json"]).start();
    watch_all.wait_for_line("\"list\"", SOON).await;
    let mut tables = String::new();
    for (service, instance) in names() {
        tables.push_str(&toml_table(&service, &instance));
    }
    std::fs::write(world.directory.path().join("services.toml"), tables).expect("written");
    let mut agent = world.agent(&["--config", "services.toml", "--agent-id", "web.1/ü"]).start();

    for (service, instance) in names() {
        let mut watch = world.muster(&["watch", "--json", &service]).start();
        let wanted = format!("\"instance\":{}", Value::from(instance.as_str()));
        watch.wait_for_line(&wanted, SOON).await;
        watch.signal(Signal::SIGINT);
        Ended::of(&mut watch).await.expect_code(0);

        let list = world.run_json(&["instances", &service]).await;
        assert_eq!(list["services"][0]["service"], service.as_str());
        let held = &list["services"][0]["instances"][0];
        assert_eq!((&held["service"], &held["instance"]), (&service.as_str().into(), &instance.as_str().into()));
        assert_eq!(held["agent"], "web.1/ü");
        let table = world.run(&["instances", &service]).await.expect_code(0);
        assert!(table.stdout.contains(&instance), "{table:?}");
        let why = world.run(&["why", &service, &instance]).await.expect_code(0);
        assert!(why.stdout.contains("agent/web.1/ü"), "{why:?}");
        watch_all.wait_for_line(&wanted, SOON).await;
    }
    let services = world.run_json(&["services"]).await;
    assert_eq!(services["services"].as_array().map(Vec::len), Some(names().len()), "{services}");

    // Stopping takes every one of them back.
    agent.stop(SOON).await;
    assert_eq!(world.status().await.instances, 0);
    let printed = watch_all.lines().into_iter().filter(|line| line.stream == Stream::Stdout);
    let updates: Vec<Value> = printed.map(|line| serde_json::from_str(&line.text).expect("JSON")).collect();
    for (service, instance) in names() {
        let is_about =
            |update: &&Value| update["service"] == service.as_str() && update["instance"] == instance.as_str();
        assert!(updates.iter().any(|update| is_about(&update)), "{service}/{instance}");
    }
}

/// A service that runs by itself, in an agent's file.
fn toml_table(service: &str, instance: &str) -> String {
    // JSON texts without control characters are TOML texts.
    let (service, instance) = (Value::from(service), Value::from(instance));
    format!("[[service]]\nservice = {service}\ninstance = {instance}\ncommand = [\"sleep\", \"600\"]\n\n")
}

#[tokio::test]
async fn a_name_that_does_not_fit_is_refused_by_every_program_with_its_length_and_the_limit() {
    let world = World::start().await;
    for name in ["x".repeat(129), format!("{}aaa", ".".repeat(42)), format!("{}abc", "ü".repeat(21))] {
        let told = "has 129 bytes after percent-encoding, the limit is 128";
        let mut agent = world.agent(&[]).args(["--service", &name, "--", "sleep", "600"]).start();
        let ended = [
            Ended::of(&mut agent).await.expect_code(64),
            world.run(&["instances", &name]).await.expect_code(64),
            world.run(&["register", "orders", "--instance", &name, "--static"]).await.expect_code(64),
        ];
        for ended in ended {
            assert!(ended.stderr.contains(told), "{ended:?}");
        }
    }
    for (name, told) in [("", "empty"), ("-", "reserved"), ("a\nb", "control character")] {
        let mut agent = world.agent(&[]).args(["--service", name, "--", "sleep", "600"]).start();
        let ended = Ended::of(&mut agent).await.expect_code(64);
        assert!(ended.stderr.contains(told), "{told} in {ended:?}");
    }
    assert_eq!(world.last_sequence().await, 1, "nothing but the epoch was written");
}
