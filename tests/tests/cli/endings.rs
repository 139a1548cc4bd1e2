//! How commands end where they cannot do their work.

use std::fs;
use std::time::{Duration, Instant};

use muster_tests::{NatsServer, free_port};

use crate::support::{Ended, World, home, muster, run};

#[tokio::test]
async fn a_wrong_command_line_ends_with_64_and_says_what_is_wrong() {
    let home = home();
    let long = "x".repeat(129);
    for (arguments, told) in [
        (&["srevices"][..], "services"),
        (&["services", "--nonesuch"], "--nonesuch"),
        (&["instances"], "SERVICE"),
        (&["instances", &long], "128"),
        (&["instances", "-"], "-"),
        (&["watch", "--for", "soon"], "500ms"),
        (&["watch", "--count", "0"], "--count"),
        (&["--server", "http://127.0.0.1:1", "services"], "nats://"),
        (&["register", "orders", "--port", "8080"], "NAME=PORT"),
        (&["register", "orders", "--static", "--ttl", "5s"], "--ttl"),
        (&["maintenance", "perhaps", "orders", "a"], "on"),
    ] {
        let ended = run(&home, arguments).await.expect_code(64);
        assert!(ended.stderr.contains(told), "{told:?} in {ended:?}");
    }
}

#[tokio::test]
async fn a_name_of_128_bytes_after_encoding_is_taken_and_one_of_129_refused() {
    let world = World::start().await;
    // Each dot becomes three bytes.
    let fits = format!("{}{}", ".".repeat(40), "x".repeat(8));
    let too_long = format!("{fits}x");
    world.run(&["instances", &fits]).await.expect_code(0);
    let refused = world.run(&["instances", &too_long]).await.expect_code(64);
    assert!(refused.stderr.contains("128"), "{refused:?}");
}

#[tokio::test]
async fn without_a_broker_every_command_ends_with_69_within_a_second_or_so() {
    let home = home();
    let url = format!("nats://127.0.0.1:{}", free_port());
    for command in [
        &["services"][..],
        &["instances", "orders"],
        &["snapshot"],
        &["status"],
        &["watch"],
        &["why", "orders"],
        &["register", "orders"],
        &["deregister", "orders", "a"],
        &["maintenance", "on", "orders", "a"],
        &["evict", "orders", "a"],
        &["doctor"],
    ] {
        let begun = Instant::now();
        let mut process = muster(&home, command).args(["--server", &url]).start();
        let ended = Ended::of(&mut process).await.expect_code(69);
        assert!(ended.stderr.contains(&url) && ended.stderr.contains("--server"), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{command:?} took {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn without_a_registry_the_message_says_how_to_start_one() {
    let broker = NatsServer::start().await;
    let home = home();
    let ended = Ended::of(&mut muster(&home, &["services", "--server", &broker.url()]).start()).await.expect_code(1);
    assert!(ended.stderr.contains("namespace default") && ended.stderr.contains("muster-registry"), "{ended:?}");
}

#[tokio::test]
async fn refused_credentials_and_refused_subjects_end_with_77() {
    let settings = r#"
        authorization { users: [
            { user: all, password: secret }
            { user: narrow, password: secret, permissions: { publish: ["_INBOX.>"], subscribe: ["_INBOX.>"] } }
        ] }"#;
    let broker = NatsServer::builder().settings(settings).start().await;
    let home = home();
    let password = home.path().join("password");
    fs::write(&password, "wrong").unwrap();
    let credentials = ["--user", "all", "--password-file", password.to_str().unwrap()];
    let mut process = muster(&home, &["services", "--server", &broker.url()]).args(credentials).start();
    let ended = Ended::of(&mut process).await.expect_code(77);
    assert!(ended.stderr.contains("credentials"), "{ended:?}");

    fs::write(&password, "secret").unwrap();
    let credentials = ["--user", "narrow", "--password-file", password.to_str().unwrap()];
    let mut process = muster(&home, &["watch", "orders", "--server", &broker.url()]).args(credentials).start();
    let ended = Ended::of(&mut process).await.expect_code(77);
    assert!(ended.stderr.contains("muster.default.change.orders"), "{ended:?}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_78_and_names_every_error() {
    let home = home();
    let file = home.path().join("cli.toml");
    fs::write(&file, "namespace = \"a b\"\nnonesuch = 1\n").unwrap();
    let ended = run(&home, &["services", "--config", file.to_str().unwrap()]).await.expect_code(78);
    assert!(ended.stderr.contains("nonesuch") && ended.stderr.contains("namespace"), "{ended:?}");
}
