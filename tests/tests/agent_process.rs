//! `muster-agent run` with real children and no broker: what starts, what ends, and with which code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_tests::process::Signal;
use muster_tests::{Process, ProcessBuilder, bin, eventually, free_port};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long anything may take that is expected to happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A directory for an agent's state and its children's marks, and a broker's address at which nobody answers.
struct Place {
    directory: TempDir,
    server: String,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            server: format!("nats://127.0.0.1:{}", free_port()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An agent with these flags of its own.
    fn agent(&self, flags: &[&str]) -> ProcessBuilder {
        ProcessBuilder::new(bin("muster-agent"))
            .current_dir(self.directory.path())
            .args(["--server", &self.server, "--advertise", "127.0.0.1", "--node", "web1", "--state-dir", "state"])
            .args(flags)
            .arg("run")
    }

    /// An agent that runs `sh -c script` as the service `orders`.
    fn shell(&self, flags: &[&str], script: &str) -> Process {
        self.agent(&[]).args(["--service", "orders"]).args(flags).args(["--", "sh", "-c", script]).start()
    }

    async fn until_there(&self, name: &str) -> String {
        let path = self.path(name);
        eventually(format!("{name} is written"), SOON, async || match std::fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => Ok(text.trim().to_owned()),
            Ok(text) => Err(format!("{text:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await
    }
}

/// Dead, or dead and not reaped yet.
async fn until_dead(pid: &str) {
    let stat = Path::new("/proc").join(pid).join("stat");
    eventually(format!("process {pid} is dead"), SOON, async || match std::fs::read_to_string(&stat) {
        Ok(text) if !text.contains(") Z ") => Err(text),
        _ => Ok(()),
    })
    .await;
}

async fn code(process: &mut Process) -> Option<i32> {
    process.wait_exit(SOON).await.code()
}

#[tokio::test]
async fn the_childs_code_is_returned_although_no_broker_answers() {
    let place = Place::new();
    assert_eq!(code(&mut place.shell(&[], "exit 7")).await, Some(7));
    assert_eq!(code(&mut place.shell(&[], "kill -KILL $$")).await, Some(137));
    assert_eq!(code(&mut place.shell(&[], "exit 0")).await, Some(0));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_127_and_one_that_cannot_be_run_126() {
    let place = Place::new();
    std::fs::write(place.path("plain"), "text").expect("written");
    let run = |program: &str| place.agent(&[]).args(["--service", "orders", "--", program]).start();
    assert_eq!(code(&mut run("./missing")).await, Some(127));
    assert_eq!(code(&mut run("./plain")).await, Some(126));
}

#[tokio::test]
async fn a_port_that_somebody_else_listens_on_is_125_and_the_child_is_not_started() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = format!("http={}", listener.local_addr().expect("an address").port());
    let mut agent = place.shell(&["--port", &port], "echo > started");
    agent.wait_for_line("is in use", SOON).await;
    assert_eq!(code(&mut agent).await, Some(125));
    assert!(!place.path("started").exists());
}

#[tokio::test]
async fn a_service_that_never_gets_ready_is_stopped_and_the_check_that_failed_named() {
    let place = Place::new();
    let port = format!("http={}", free_port());
    let mut agent = place.shell(&["--port", &port, "--ready-within", "300ms"], "exec sleep 600");
    let line = agent.wait_for_line("not ready in time", SOON).await;
    assert!(line.text.contains("cannot connect to 127.0.0.1"), "{}", line.text);
    assert_eq!(code(&mut agent).await, Some(125));
}

#[tokio::test]
async fn a_stop_reaches_the_child_and_a_child_that_ignores_it_is_killed() {
    let place = Place::new();
    let mut agent = place.shell(&[], "trap 'exit 5' TERM; echo > started; while :; do sleep 0.02; done");
    place.until_there("started").await;
    agent.signal(Signal::SIGTERM);
    assert_eq!(code(&mut agent).await, Some(5));

    let mut agent = place.shell(&["--grace", "200ms"], "trap '' TERM; echo > deaf; while :; do sleep 0.02; done");
    place.until_there("deaf").await;
    agent.signal(Signal::SIGINT);
    agent.wait_for_line("killing its process group", SOON).await;
    assert_eq!(code(&mut agent).await, Some(137));
}

#[tokio::test]
async fn whoever_insists_gets_a_quick_end() {
    let place = Place::new();
    let mut agent = place.shell(&["--grace", "1h"], "trap '' TERM; echo > started; while :; do sleep 0.02; done");
    place.until_there("started").await;
    agent.signal(Signal::SIGTERM);
    let sent = agent.wait_for_line("stop signal sent", SOON).await;
    agent.signal(Signal::SIGTERM);
    agent.wait_for_line_after(&sent, "killing its process group", SOON).await;
    assert_eq!(code(&mut agent).await, Some(137));
}

#[tokio::test]
async fn signals_that_do_not_stop_are_forwarded() {
    let place = Place::new();
    let script = "trap 'echo > hup' HUP; trap 'echo > usr1' USR1; trap 'echo > usr2' USR2; echo > started; \
                  while :; do sleep 0.02; done";
    let agent = place.shell(&[], script);
    place.until_there("started").await;
    let mut marks = vec![(Signal::SIGUSR1, "usr1"), (Signal::SIGUSR2, "usr2")];
    if !is_hangup_ignored() {
        marks.push((Signal::SIGHUP, "hup"));
    }
    for (signal, mark) in marks {
        agent.signal(signal);
        place.until_there(mark).await;
    }
}

/// Under `nohup` a shell cannot trap it: what is ignored at its start stays ignored.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[tokio::test]
async fn a_killed_agent_takes_its_child_and_what_that_started_along() {
    let place = Place::new();
    let mut agent = place.shell(&[], "sleep 600 & echo $! > grandchild; echo $$ > child; wait");
    let (grandchild, child) = (place.until_there("grandchild").await, place.until_there("child").await);
    agent.kill();
    until_dead(&child).await;
    until_dead(&grandchild).await;
}

#[tokio::test]
async fn what_a_child_leaves_behind_ends_with_it() {
    let place = Place::new();
    let mut agent = place.shell(&["--grace", "200ms"], "(trap '' TERM; sleep 600 & echo $! > left; wait) & wait");
    let left = place.until_there("left").await;
    agent.signal(Signal::SIGTERM);
    agent.wait_exit(SOON).await;
    until_dead(&left).await;
}

#[tokio::test]
async fn closed_output_keeps_nobody_from_working() {
    let place = Place::new();
    let script = format!(
        "exec {} --server {} --advertise 127.0.0.1 --state-dir state run --service orders -- sh -c 'echo lost; exit 8' >&- 2>&-",
        bin("muster-agent").display(),
        place.server
    );
    let mut agent = ProcessBuilder::new("/bin/sh").current_dir(place.directory.path()).args(["-c", &script]).start();
    assert_eq!(code(&mut agent).await, Some(8));
}

#[tokio::test]
async fn agents_of_one_host_have_ids_of_their_own_and_find_them_again() {
    let place = Place::new();
    let run = |service: &str| place.agent(&[]).args(["--service", service, "--", "sleep", "600"]).start();
    let mut first = run("orders");
    first.wait_for_line("agent=web1 ", SOON).await;
    let mut second = run("users");
    second.wait_for_line("agent=web1-2 ", SOON).await;
    first.stop(SOON).await;
    second.stop(SOON).await;
    let second = run("users");
    second.wait_for_line("agent=web1-2 ", SOON).await;
    run("orders").wait_for_line("agent=web1 ", SOON).await;
}

#[tokio::test]
async fn the_address_is_chosen_by_the_rule_that_the_log_names() {
    let place = Place::new();
    let run = |flags: &[&str]| {
        ProcessBuilder::new(bin("muster-agent"))
            .current_dir(place.directory.path())
            .args(["--server", &place.server, "--state-dir", "state"])
            .args(flags)
            .args(["run", "--service", "orders", "--", "sh", "-c", "exit 3"])
            .start()
    };
    let mut refused = run(&[]);
    refused.wait_for_line("--allow-loopback", SOON).await;
    assert_eq!(code(&mut refused).await, Some(125));
    for (flags, rule) in [
        (&["--allow-loopback"][..], "rule=the route to the broker"),
        (&["--advertise", "127.0.0.1"], "rule=--advertise"),
        (&["--allow-loopback", "--advertise-cidr", "127.0.0.0/8"], "rule=--advertise-cidr 127.0.0.0/8"),
        (&["--allow-loopback", "--advertise-interface", "nope0,lo"], "rule=--advertise-interface lo"),
    ] {
        let mut agent = run(flags);
        let line = agent.wait_for_line(rule, SOON).await;
        assert!(line.text.contains("address=127.0.0.1"), "{}", line.text);
        assert_eq!(code(&mut agent).await, Some(3));
    }
    let mut nothing = run(&["--advertise-interface", "nope0"]);
    nothing.wait_for_line("no address of this host fits --advertise-interface nope0", SOON).await;
    assert_eq!(code(&mut nothing).await, Some(125));
}

#[tokio::test]
async fn a_service_that_needs_its_registration_is_not_started_without_a_broker() {
    let place = Place::new();
    let mut agent = place
        .agent(&["--require-registration", "--registration-within", "300ms"])
        .args(["--service", "orders", "--", "sh", "-c", "echo > started"])
        .start();
    assert_eq!(code(&mut agent).await, Some(69));
    assert!(!place.path("started").exists());
}

#[tokio::test]
async fn of_several_services_of_a_file_one_may_end_and_the_others_go_on() {
    let place = Place::new();
    let table = |service: &str, script: &str| {
        format!("[[service]]\nservice = '{service}'\ncommand = ['sh', '-c', '{script}']\n")
    };
    let file = [table("brief", "exit 1"), table("long", "echo $$ > long; exec sleep 600")].concat();
    std::fs::write(place.path("services.toml"), file).expect("written");
    let mut agent = place.agent(&["--config", "services.toml"]).start();
    agent.wait_for_line("ended with code 1", SOON).await;
    let long: i32 = place.until_there("long").await.parse().expect("a number");
    kill(Pid::from_raw(long), None).expect("it lives");
    assert_eq!(agent.stop(SOON).await.code(), Some(0), "several that were asked to stop");
}

#[tokio::test]
async fn wrong_settings_are_named_and_nothing_is_started() {
    let place = Place::new();
    let mut agent = place.shell(&["--port", "http=1", "--check", "htpp=/x", "--ttl", "0s"], "echo > started");
    assert_eq!(code(&mut agent).await, Some(64));
    for part in ["--check = `htpp=/x`: there is no port named \"htpp\"", "--ttl = `0s`: must be from 1s to 1h"] {
        agent.wait_for_line(part, SOON).await;
    }
    assert!(!place.path("started").exists());
}
