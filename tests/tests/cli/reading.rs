//! `services`, `instances`, `snapshot`, `status`, `completions` and help.

use muster_schemas::HealthStatus;

use crate::support::{World, home, instance, run};

#[tokio::test]
async fn nothing_registered_is_said_in_words_and_is_an_empty_list_for_programs() {
    let world = World::start().await;
    assert_eq!(world.run(&["services"]).await.expect_code(0).stdout, "no service is registered");
    assert_eq!(world.run(&["instances", "orders"]).await.expect_code(0).stdout, "orders has no instance");
    let services = world.run_json(&["services"]).await;
    assert_eq!((services["services"].as_array().map(Vec::len), &services["state"]), (Some(0), &"ready".into()));
}

#[tokio::test]
async fn services_and_instances_are_tables_for_people_and_replies_for_programs() {
    let world = World::start().await;
    let first = world.register(&instance("orders", "a", &["primary"])).await;
    let mut critical = instance("orders", "b", &[]);
    critical.health.status = HealthStatus::Critical;
    critical.version = Some("1.5.0".into());
    let second = world.register(&critical).await;
    assert_eq!((first, second), (2, 3), "the log begins with its epoch");

    let services = world.run(&["services"]).await.expect_code(0);
    assert_eq!(
        services.stdout,
        "SERVICE  INSTANCES  ROUTABLE  REVISION  CONFLICTS\norders   2          1         3         -"
    );
    let instances = world.run(&["instances", "orders"]).await.expect_code(0);
    assert_eq!(
        instances.rows(),
        [
            vec!["INSTANCE", "ENDPOINTS", "HEALTH", "ROUTABLE", "VERSION", "TAGS", "AGENT"],
            vec!["a", "http=http://61.example:8080", "passing", "yes", "1.4.2", "primary", "web1"],
            vec!["b", "http=http://62.example:8080", "critical", "no", "1.5.0", "-", "web1"],
        ]
    );
    let snapshot = world.run(&["snapshot"]).await.expect_code(0);
    assert_eq!(snapshot.rows()[2], ["orders", "b", "http=http://62.example:8080", "critical", "3"]);
    assert!(snapshot.stdout.contains("\nrevision 3 of epoch 01"), "{snapshot:?}");

    let reply = world.run_json(&["instances", "orders"]).await;
    assert_eq!((&reply["revision"], &reply["services"][0]["total"]), (&3.into(), &2.into()));
    assert_eq!(reply["services"][0]["instances"][0]["instance"], "a");
    let snapshot = world.run_json(&["snapshot"]).await;
    assert_eq!(snapshot["services"][0]["instances"], reply["services"][0]["instances"]);
}

#[tokio::test]
async fn instances_are_narrowed_by_routability_tag_and_version() {
    let world = World::start().await;
    world.register(&instance("orders", "a", &["primary"])).await;
    let mut other = instance("orders", "b", &["spare"]);
    other.weight = 0;
    world.register(&other).await;
    for (filter, expected) in
        [(&["--routable"][..], "a"), (&["--tag", "spare"], "b"), (&["--of-version", "1.4.2", "--tag", "primary"], "a")]
    {
        let arguments: Vec<&str> = ["instances", "orders"].iter().chain(filter).copied().collect();
        let found = world.run(&arguments).await.expect_code(0);
        let ids: Vec<&str> = found.rows().into_iter().skip(1).map(|row| row[0]).collect();
        assert_eq!(ids, [expected], "{filter:?}");
    }
    let none = world.run(&["instances", "orders", "--of-version", "9"]).await.expect_code(0);
    assert_eq!(none.stdout, "orders has 2 instances, and none fits");
}

#[tokio::test]
async fn names_in_any_script_keep_the_columns_straight() {
    let world = World::start().await;
    world.register(&instance("注文/表", "naïve.1", &["größe"])).await;
    world.register(&instance("orders", "a", &[])).await;
    let services = world.run(&["services"]).await.expect_code(0);
    let lines: Vec<&str> = services.stdout.lines().collect();
    // Three wide characters and a narrow one fill seven columns, like "SERVICE".
    assert!(lines.contains(&"注文/表  1          1         2         -"), "{services:?}");
    let instances = world.run(&["instances", "注文/表"]).await.expect_code(0);
    assert_eq!((instances.rows()[1][0], instances.rows()[1][5]), ("naïve.1", "größe"));
    let reply = world.run_json(&["instances", "注文/表", "--tag", "größe"]).await;
    assert_eq!(reply["services"][0]["service"], "注文/表");
}

#[tokio::test]
async fn a_conflict_of_addresses_is_told() {
    let world = World::start().await;
    let first = instance("orders", "a", &[]);
    let mut second = instance("orders", "b", &[]);
    second.endpoints = first.endpoints.clone();
    world.register(&first).await;
    world.register(&second).await;
    let services = world.run(&["services"]).await.expect_code(0);
    assert!(services.stdout.ends_with("61.example:8080"), "{services:?}");
    let instances = world.run(&["instances", "orders"]).await.expect_code(0);
    let line = "conflict: 61.example:8080 is registered by orders/a and orders/b";
    assert!(instances.stdout.contains(line), "{instances:?}");
}

#[tokio::test]
async fn status_tells_what_a_registry_says_of_itself() {
    let world = World::start().await;
    world.register(&instance("orders", "a", &[])).await;
    let status = world.run(&["status"]).await.expect_code(0);
    let rows = status.rows();
    for expected in
        [["replica", "r1"], ["state", "ready"], ["revision", "2"], ["instances", "1"], ["rank", "0 (publishes)"]]
    {
        assert!(rows.iter().any(|row| row[..] == expected), "{expected:?} in {status:?}");
    }
    let status = world.run_json(&["status"]).await;
    assert_eq!((&status["replica"], &status["state"], &status["revision"]), (&"r1".into(), &"ready".into(), &2.into()));
}

#[tokio::test]
async fn completions_are_printed_for_every_shell_without_a_broker() {
    let home = home();
    for (shell, mark) in [("bash", "complete -F _muster"), ("zsh", "#compdef muster"), ("fish", "complete -c muster")] {
        let script = run(&home, &["completions", shell]).await.expect_code(0);
        assert!(script.stdout.contains(mark), "{script:?}");
        for command in ["watch", "deregister", "maintenance"] {
            assert!(script.stdout.contains(command), "{command} for {shell}");
        }
    }
    run(&home, &["completions", "tcsh"]).await.expect_code(64);
}

#[tokio::test]
async fn help_teaches_by_example() {
    let home = home();
    let commands = [
        "dev",
        "services",
        "instances",
        "watch",
        "snapshot",
        "why",
        "register",
        "deregister",
        "maintenance",
        "evict",
        "status",
        "doctor",
        "completions",
    ];
    let overview = run(&home, &["--help"]).await.expect_code(0).stdout;
    for command in commands {
        assert!(overview.contains(&format!("\n  {command} ")), "{command} in {overview}");
        let help = run(&home, &[command, "--help"]).await.expect_code(0).stdout;
        assert!(help.contains("Example") && help.contains(&format!("  muster {command}")), "{help}");
    }
    assert!(!overview.contains("guard"), "{overview}");
    let version = run(&home, &["--version"]).await.expect_code(0).stdout;
    assert!(version.contains("wire") && version.contains("fold"), "{version}");
}
