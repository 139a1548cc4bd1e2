//! Real children and ports, with a vouching that confirms everything and remembers what it was asked.

use std::path::{Path, PathBuf};

use muster_runtime::metrics::Metrics;
use muster_schemas::HealthStatus;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::core::supervision::StopCause;
use super::super::settings::AgentSettings;
use super::*;

/// Longer than anything here should take.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Registered(HealthStatus),
    Told(HealthStatus),
    Deregistered(Withdrawal),
}

/// Confirms everything at once.
struct Willing {
    mailbox: Mailbox,
    asked: mpsc::Sender<Asked>,
}

impl Willing {
    fn ask(&self, asked: Asked, answer: Option<Input>) {
        let _ = self.asked.try_send(asked);
        if let Some(answer) = answer {
            self.mailbox.try_send(Mail::Happened(answer)).unwrap();
        }
    }
}

impl Claims for Willing {
    fn register(&mut self, health: Health) {
        self.ask(Asked::Registered(health.status), Some(Input::Registered));
    }

    fn tell(&mut self, health: Health) {
        self.ask(Asked::Told(health.status), None);
    }

    fn deregister(&mut self, withdrawal: Withdrawal, _: String) {
        self.ask(Asked::Deregistered(withdrawal), Some(Input::Removed { confirmed: true }));
    }
}

/// A service that runs, and what it asked for.
struct Running {
    mailbox: Mailbox,
    asked: mpsc::Receiver<Asked>,
    end: JoinHandle<u8>,
    directory: tempfile::TempDir,
}

/// Runs `sh -c script` (or nothing, if it is empty) in a directory of its own.
fn run(script: &str, flags: &[&str]) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_string_lossy().into_owned();
    let mut line = vec!["muster-agent", "run", "--service", "orders", "--directory", &place];
    line.extend(flags);
    if !script.is_empty() {
        line.extend(["--", "sh", "-c", script]);
    }
    let parsed = <AgentSettings as clap::Parser>::try_parse_from(line).unwrap();
    let super::super::settings::Command::Run(settings) = parsed.command else { panic!() };
    let plan = ServicePlan::new(&settings).unwrap();
    let (mailbox, mail) = mailbox();
    let (asked, receiver) = mpsc::channel(64);
    let claims = Willing { mailbox: mailbox.clone(), asked };
    let shared = Shared {
        guard: None,
        advertised: watch::channel(None).1,
        meters: Meters::register(&Metrics::new()),
        changed: Arc::default(),
    };
    let service = Service::new(plan, claims, shared, (mailbox.clone(), mail));
    Running { mailbox, asked: receiver, end: tokio::spawn(service.run()), directory }
}

impl Running {
    async fn asks(&mut self) -> Asked {
        tokio::time::timeout(DEADLINE, self.asked.recv()).await.expect("nothing was asked in time").expect("it ended")
    }

    async fn ends(self) -> u8 {
        tokio::time::timeout(DEADLINE, self.end).await.expect("it did not end in time").unwrap()
    }

    async fn stop(&self) {
        let stop = Input::Stop { cause: StopCause::Signal, within_ms: None };
        self.mailbox.send(Mail::Happened(stop)).await.unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

async fn appears(path: &Path) {
    let seen = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{} did not appear", path.display()));
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens at the moment.
async fn free_port() -> u16 {
    listener().await.1
}

#[tokio::test]
async fn a_child_is_registered_when_its_port_opens_and_stopped_after_it_was_deregistered() {
    let port = free_port().await;
    let script = "trap ': > stopped; exit 3' TERM; : > started; while :; do sleep 0.02; done";
    let mut running = run(script, &["--port", &format!("http={port}"), "--drain", "50ms"]);
    appears(&running.file("started")).await;
    assert!(running.asked.try_recv().is_err(), "registered before its port was open");
    let _listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    assert_eq!(running.asks().await, Asked::Registered(HealthStatus::Passing));
    running.stop().await;
    assert_eq!(running.asks().await, Asked::Deregistered(Withdrawal::Stopped));
    let stopped = running.file("stopped");
    assert!(!stopped.exists(), "stopped before it was deregistered");
    appears(&stopped).await;
    assert_eq!(running.ends().await, 3);
}

#[tokio::test]
async fn a_port_that_is_open_before_the_child_starts_is_somebody_elses() {
    let (_listener, port) = listener().await;
    let running = run(": > started", &["--port", &format!("http={port}")]);
    let started = running.file("started");
    assert_eq!(running.ends().await, CODE_AGENT_FAILED);
    assert!(!started.exists());
}

#[tokio::test]
async fn a_port_that_is_open_before_may_be_allowed() {
    let (_listener, port) = listener().await;
    let mut running = run("exec sleep 60", &["--port", &format!("http={port}"), "--allow-open-port", "--drain", "0s"]);
    assert_eq!(running.asks().await, Asked::Registered(HealthStatus::Passing));
    running.stop().await;
    assert_eq!(running.ends().await, 143);
}

#[tokio::test]
async fn a_child_that_exits_at_once_is_not_registered_for_long_and_its_code_is_returned() {
    let running = run("exit 5", &[]);
    assert_eq!(running.ends().await, 5);
    let port = format!("http={}", free_port().await);
    let mut running = run("exit 6", &["--port", &port]);
    assert_eq!(running.asked.recv().await, None, "was registered although it was never ready");
    assert_eq!(running.ends().await, 6);
}

#[tokio::test]
async fn a_child_that_ignores_the_stop_signal_is_killed_with_its_group() {
    let script =
        "trap '' TERM; (trap '' TERM; while :; do sleep 0.02; done) & : > started; while :; do sleep 0.02; done";
    let running = run(script, &["--drain", "0s", "--grace", "100ms"]);
    appears(&running.file("started")).await;
    running.stop().await;
    assert_eq!(running.ends().await, 137);
}

#[tokio::test]
async fn a_child_that_leaves_others_behind_takes_them_along() {
    let running = run("sleep 600 & echo $! > left; exit 0", &["--grace", "100ms"]);
    let left = running.file("left");
    let text = async {
        loop {
            match std::fs::read_to_string(&left) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let pid: i32 = tokio::time::timeout(DEADLINE, text).await.unwrap().trim().parse().unwrap();
    assert_eq!(running.ends().await, 0);
    // Gone, or dead and waiting for process 1 to reap it.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(status.is_empty() || status.contains(") Z "), "{status}");
}

#[tokio::test]
async fn a_signal_is_forwarded_to_the_child_alone() {
    let mut running = run("trap ': > hangup' USR1; : > started; while :; do sleep 0.02; done", &["--drain", "0s"]);
    running.asks().await;
    appears(&running.file("started")).await;
    running.mailbox.send(Mail::Forward(Signal::SIGUSR1)).await.unwrap();
    appears(&running.file("hangup")).await;
    running.stop().await;
    assert_eq!(running.ends().await, 143);
}

#[tokio::test]
async fn a_service_that_does_not_get_ready_is_stopped() {
    let port = format!("http={}", free_port().await);
    let running = run("exec sleep 60", &["--port", &port, "--ready-within", "150ms"]);
    assert_eq!(running.ends().await, CODE_AGENT_FAILED);
}

#[tokio::test]
async fn a_service_that_runs_by_itself_is_vouched_for_while_it_lives() {
    let (listening, port) = listener().await;
    let check = format!("db=tcp://127.0.0.1:{port} interval=20ms failures=2");
    let mut running = run("", &["--check", &check, "--critical-deregister-after", "100ms"]);
    assert_eq!(running.asks().await, Asked::Registered(HealthStatus::Passing));
    drop(listening);
    assert_eq!(running.asks().await, Asked::Told(HealthStatus::Critical));
    assert_eq!(running.asks().await, Asked::Deregistered(Withdrawal::CriticalTooLong));
    let _listening = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    assert_eq!(running.asks().await, Asked::Registered(HealthStatus::Passing));
    running.stop().await;
    assert_eq!(running.asks().await, Asked::Deregistered(Withdrawal::Stopped));
    assert_eq!(running.ends().await, 0);
}

#[tokio::test]
async fn a_failed_service_is_started_again_if_that_is_wanted() {
    let script = "[ -e first ] || { : > first; exit 1; }; : > second; exit 0";
    let running = run(script, &["--restart", "on-failure"]);
    let second = running.file("second");
    assert_eq!(running.ends().await, 0);
    assert!(second.exists() || !second.parent().unwrap().exists());
}

#[tokio::test]
async fn a_command_that_is_not_there_is_127() {
    let running = run("", &["--", "/nowhere/orders"]);
    assert_eq!(running.ends().await, 127);
}
