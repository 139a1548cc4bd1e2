//! What a user may write, what it comes to, and what is said when it is wrong.

use std::ffi::OsString;

use muster_runtime::exit::{Exit, ExitReason};
use muster_runtime::settings::{Inputs, LoadError, Program};

use super::*;
use crate::process::check::Probe;
use crate::process::plan::Place;

fn load_with(arguments: &[&str], file: Option<&str>) -> Result<AgentSettings, LoadError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    let mut search_path = Vec::new();
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
        search_path.push(path);
    }
    let inputs = Inputs {
        arguments: std::iter::once("muster-agent").chain(arguments.iter().copied()).map(OsString::from).collect(),
        variables: Vec::new(),
        search_path,
    };
    Program::new("agent").load::<AgentSettings>(inputs).map(|loaded| loaded.settings)
}

fn service(arguments: &[&str]) -> ServicePlan {
    let arguments: Vec<&str> = ["run", "--service", "orders"].iter().chain(arguments).copied().collect();
    load_with(&arguments, None).unwrap().services.remove(0)
}

fn complaints(arguments: &[&str], file: Option<&str>) -> (Exit, String) {
    match load_with(arguments, file) {
        Err(LoadError::Problems(problems)) => (problems.exit(), problems.to_string()),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn the_usual_line_is_one_service_with_a_child_and_an_http_check() {
    let plan = service(&["--port", "http=8080", "--check", "http=/healthz", "--", "./orders", "--fast"]);
    assert_eq!(plan.service.as_str(), "orders");
    assert_eq!(plan.launch.as_ref().unwrap().command, ["./orders", "--fast"]);
    let [run] = &plan.runs[..] else { panic!("{:?}", plan.runs) };
    let path = "/healthz".to_owned();
    assert_eq!((&run.probe, &run.place), (&Probe::Http { path }, &Place::OwnPort(8080)));
    assert_eq!((run.timeout.as_millis(), plan.plan.checks[0].interval_ms), (1_000, 2_000));
    assert_eq!((plan.plan.drain_ms, plan.plan.grace_ms), (500, 10_000));
    assert_eq!((plan.ttl_ms, plan.linger_ms), (10_000, 2_000));
    assert_eq!(plan.instance_id("web1").unwrap().as_str(), "web1-8080");
}

#[test]
fn every_port_without_a_check_must_be_open_unless_said_otherwise_or_impossible() {
    let plan = service(&["--port", "a=1", "--port", "b=2", "--port", "udp=3", "--check", "a=none"]);
    assert_eq!(plan.runs.iter().map(|run| run.place.clone()).collect::<Vec<_>>(), [Place::OwnPort(2)]);
    assert_eq!(plan.linger_ms, plan.ttl_ms, "runs by itself");
}

#[test]
fn the_registration_of_a_service_that_runs_by_itself_outlives_its_agent_unless_said_otherwise() {
    assert!(service(&["--port", "a=1"]).leaves_on_stop);
    assert!(!service(&["--port", "a=1", "--on-stop", "deregister"]).leaves_on_stop);
    assert!(!service(&["--", "x"]).leaves_on_stop);
    let (_, text) = complaints(&["run", "--service", "a", "--on-stop", "leave", "--", "x"], None);
    assert!(text.contains("--on-stop = `leave`: leave is for services that run by themselves"), "{text}");
}

#[test]
fn every_check_may_have_its_own_numbers() {
    let check = "a=tcp interval=1s timeout=3s failures=7 successes=8";
    let plan = service(&["--port", "a=1", "--check", check, "--check-interval", "9s", "--check", "a=/x"]);
    let [own, usual] = &plan.plan.checks[..] else { panic!() };
    assert_eq!((own.interval_ms, own.thresholds.failures, own.thresholds.successes), (1_000, 7, 8));
    assert_eq!((usual.interval_ms, usual.id.as_str()), (9_000, "a-2"));
    assert_eq!(plan.runs[0].timeout.as_millis(), 3_000);
}

#[test]
fn the_file_has_several_services_of_both_kinds() {
    let file = "node = 'web1'\n[[service]]\nservice = 'orders'\nport = ['http=8080']\ncommand = ['./orders', '-x']\n\
                restart = 'on-failure'\n[[service]]\nservice = 'db'\ninstance = 'db-1'\nport = ['postgres=5432']\n\
                critical_deregister_after = 'never'\nmetadata = ['team=shop']\n";
    let settings = load_with(&["run"], Some(file)).unwrap();
    assert!(settings.is_of_file());
    let [orders, db] = &settings.services[..] else { panic!("{:?}", settings.services) };
    assert_eq!(
        (orders.launch.is_some(), orders.plan.restart),
        (true, crate::process::core::backoff::Restart::OnFailure)
    );
    assert_eq!((db.launch.is_none(), db.plan.critical_deregister_after_ms), (true, None));
    assert_eq!(db.instance_id("web1").unwrap().as_str(), "db-1");
    assert_eq!(db.metadata["team"], "shop");
}

#[test]
fn a_service_on_the_command_line_leaves_out_those_of_the_file() {
    let file = "[[service]]\nservice = 'db'\nport = ['postgres=5432']\n";
    let settings = load_with(&["run", "--service", "orders", "--", "true"], Some(file)).unwrap();
    assert_eq!(settings.services.len(), 1);
    assert_eq!(settings.services[0].service.as_str(), "orders");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_the_way_out() {
    let (exit, text) = complaints(
        &[
            "run",
            "--service",
            "orders",
            "--port",
            "http=8080",
            "--check",
            "htpp=/x",
            "--ttl",
            "0s",
            "--check-failures",
            "0",
            "--advertise",
            "0.0.0.0",
            "--",
            "x",
        ],
        None,
    );
    assert_eq!(exit, Exit::Usage);
    for part in [
        "--check = `htpp=/x`: there is no port named \"htpp\" (ports: http)",
        "--ttl = `0s`: must be from 1s to 1h",
        "--check-failures = `0`: ",
        "--advertise = `0.0.0.0`",
    ] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
    let file =
        "[[service]]\nservice = 'db'\n[[service]]\nport = ['a=1']\n[[service]]\nservice = 'x'\nport = ['a=1', 'a=2']\n";
    let (exit, text) = complaints(&["run"], Some(file));
    assert_eq!(exit, Exit::Configuration);
    for part in [
        "agent.toml:1: check: ",
        "agent.toml:3: service: must be given",
        "agent.toml:7: port = `a=1,a=2`: ",
        "must be unique",
    ] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn every_flag_that_cannot_be_read_is_named_with_its_value_and_the_way_out() {
    let arguments = ["run", "--port", "8080", "--check", "x", "--weight", "heavy", "--service", "", "--check-retries"];
    let (exit, text) = complaints(&arguments, None);
    assert_eq!(exit, Exit::Usage);
    for part in [
        "--port = `8080`: write NAME=PORT",
        "--check = `x`: write NAME=/PATH",
        "--weight = `heavy`: ",
        "--service = ``: ",
        "'--check-retries'",
    ] {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

#[test]
fn nothing_to_run_and_ports_without_a_service_are_usage_errors() {
    assert_eq!(complaints(&["run"], None).0, Exit::Usage);
    assert!(complaints(&["run", "--", "./orders"], None).1.contains("--service"));
    assert!(complaints(&["run", "--service", "orders"], None).1.contains("nothing to tell whether the service lives"));
}

#[test]
fn a_heartbeat_must_fit_twice_into_the_shortest_ttl() {
    let arguments = ["run", "--service", "a", "--ttl", "3s", "--heartbeat-interval", "2s", "--", "x"];
    let (_, text) = complaints(&arguments, None);
    assert!(text.contains("at most half of every ttl"), "{text}");
}

#[test]
fn the_limits_of_the_wire_hold_for_settings() {
    let long = "x".repeat(129);
    for (flag, value) in
        [("--tag", &long[..]), ("--service-version", &long), ("--metadata", "muster.x=1"), ("--linger", "11s")]
    {
        let (_, text) = complaints(&["run", "--service", "a", flag, value, "--", "x"], None);
        assert!(text.contains(flag), "{flag}: {text}");
    }
}

#[test]
fn a_file_with_more_services_than_one_agent_may_have_is_refused() {
    let of =
        |count: usize| (0..count).map(|number| format!("[[service]]\nservice = \"s{number}\"\ncommand = [\"x\"]\n"));
    assert_eq!(load_with(&["run"], Some(&of(SERVICES_MAX).collect::<String>())).unwrap().services.len(), SERVICES_MAX);
    let (_, text) = complaints(&["run"], Some(&of(SERVICES_MAX + 1).collect::<String>()));
    assert!(text.contains("at most 1000 services"), "{text}");
}
