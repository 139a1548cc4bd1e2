//! What stands on this machine while the demo plays: a broker, two registries, agents with their services, a consumer.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_tests::process::Signal;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually, free_port, http};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::live_watch::LiveWatch;
use crate::narrator::Narrator;

/// How long an agent may be silent. The default is five times as much; this one keeps the demo short.
pub(crate) const TTL: Duration = Duration::from_secs(2);
/// From one heartbeat to the next: a fifth of the TTL, as by default.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(400);
/// From one check to the next, and how long an answer may take: a quarter of the defaults.
const CHECKS: [&str; 4] = ["--check-interval", "500ms", "--check-timeout", "250ms"];
/// What is started at the beginning: service and instance.
pub(crate) const SERVICES: [(&str, &str); 4] = [("orders", "a"), ("orders", "b"), ("orders", "c"), ("users", "d")];
const REGISTRIES: [&str; 2] = ["r1", "r2"];
/// A program that has not started by then never will.
const START_DEADLINE: Duration = Duration::from_secs(15);
/// The metric of the registry that publishes.
const PUBLISHES: &str = "muster_publisher 1";
const LOG_LINES_SHOWN: usize = 8;

/// Everything that was started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Stage {
    // Dropped in this order: whoever would complain about the broker goes before it.
    pub(crate) watch: LiveWatch,
    services: Vec<Supervised>,
    registries: Vec<Registry>,
    broker: NatsServer,
    directory: TempDir,
}

#[derive(Debug)]
struct Registry {
    process: Process,
    name: &'static str,
    http_port: u16,
}

/// An agent and the service that it supervises.
#[derive(Debug)]
struct Supervised {
    agent: Process,
    service: &'static str,
    instance: &'static str,
    port: u16,
}

impl Stage {
    /// A broker, two registries that answer, and a consumer; no services yet.
    pub(crate) async fn set(nats_server: &Path, narrator: Narrator) -> Self {
        let directory = tempfile::Builder::new().prefix("muster-demo-").tempdir().expect("a temporary directory");
        let broker = NatsServer::builder().binary(nats_server).fixed_port().start().await;
        let registries: Vec<Registry> = REGISTRIES.iter().map(|name| Registry::start(name, &broker.url())).collect();
        for registry in &registries {
            registry.until_ready().await;
        }
        let watch = LiveWatch::start(broker.url(), narrator).await;
        Self { watch, services: Vec::new(), registries, broker, directory }
    }

    pub(crate) fn broker_url(&self) -> String {
        self.broker.url()
    }

    /// Starts an agent with its service, without waiting for either.
    pub(crate) fn start_service(&mut self, service: &'static str, instance: &'static str) {
        let port = free_port();
        let agent = ProcessBuilder::new(bin("muster-agent"))
            .name(&format!("agent of {service}/{instance}"))
            .args(["--server", &self.broker.url(), "--agent-id", &format!("agent-{instance}")])
            .args(["--advertise", "127.0.0.1", "--heartbeat-interval", &text(HEARTBEAT), "--state-dir"])
            .arg(self.directory.path().join("state"))
            .args(["run", "--service", service, "--instance", instance, "--port", &format!("http={port}")])
            .args(["--check", "http=/healthz"])
            .args(CHECKS)
            .args(["--ttl", &text(TTL), "--restart", "on-failure", "--"])
            .arg(bin("muster-demo-service"))
            .arg(port.to_string())
            .start();
        self.services.retain(|held| (held.service, held.instance) != (service, instance));
        self.services.push(Supervised { agent, service, instance, port });
    }

    /// The number of a service's process.
    pub(crate) async fn service_pid(&self, instance: &str) -> Pid {
        self.of(instance).service_pid().await
    }

    /// Kills an agent and its service in one breath, as the loss of their host would.
    pub(crate) async fn kill_host(&mut self, instance: &str) {
        let pid = self.of(instance).service_pid().await;
        let index = self.services.iter().position(|held| held.instance == instance).expect("it was started");
        let mut lost = self.services.remove(index);
        lost.agent.kill();
        // The agent's own guard may have been faster.
        let _ = kill(pid, Signal::SIGKILL);
    }

    /// Kills the registry that publishes, and starts it again.
    pub(crate) async fn restart_registry(&mut self) -> Duration {
        let started = Instant::now();
        let url = self.broker.url();
        let index = self.publisher().await;
        let registry = &mut self.registries[index];
        registry.process.kill();
        *registry = Registry::start(registry.name, &url);
        registry.until_ready().await;
        started.elapsed()
    }

    /// Which registry says that it publishes changes first.
    async fn publisher(&self) -> usize {
        eventually("one registry publishes", START_DEADLINE, async || {
            for (index, registry) in self.registries.iter().enumerate() {
                if http::get(registry.http_port, "/metrics").await?.lines().any(|line| line == PUBLISHES) {
                    return Ok(index);
                }
            }
            Err("none does".to_owned())
        })
        .await
    }

    pub(crate) async fn stop_broker(&mut self) {
        self.broker.stop().await;
    }

    pub(crate) async fn restart_broker(&mut self) {
        self.broker.restart().await;
    }

    fn of(&self, instance: &str) -> &Supervised {
        self.services.iter().find(|held| held.instance == instance).expect("it was started")
    }

    /// The newest lines of every program, where a promise was broken.
    pub(crate) fn print_logs(&self) {
        let registries = self.registries.iter().map(|registry| (registry.name.to_owned(), &registry.process));
        let agents = self.services.iter().map(|held| (format!("agent of {}", held.instance), &held.agent));
        for (name, process) in registries.chain(agents) {
            let lines = process.lines();
            eprintln!("--- {name}, its newest lines:");
            let skipped = lines.len().saturating_sub(LOG_LINES_SHOWN);
            lines.iter().skip(skipped).for_each(|line| eprintln!("    {}", line.text));
        }
    }

    /// Commands for whoever wants to go on by hand.
    pub(crate) async fn what_to_try(&self) -> String {
        let (frozen, killed) = (self.of("b").service_pid().await, self.of("c").service_pid().await);
        let programs = bin("muster").parent().map(PathBuf::from).unwrap_or_default();
        format!(
            "Everything runs on; Ctrl-C ends it. In another terminal:\n\n  \
             export NATS_URL={} PATH=\"{}:$PATH\"\n  \
             muster services\n  \
             muster watch\n  \
             muster why orders a\n  \
             muster status\n  \
             kill -KILL {killed}        # orders/c: removed in milliseconds, and back after a second\n  \
             kill -STOP {frozen}        # orders/b: critical; kill -CONT {frozen} brings it back\n",
            self.broker.url(),
            programs.display()
        )
    }
}

impl Registry {
    fn start(name: &'static str, broker_url: &str) -> Self {
        let http_port = free_port();
        let process = ProcessBuilder::new(bin("muster-registry"))
            .name(name)
            .args(["--server", broker_url, "--replica-id", name, "--http", &format!("127.0.0.1:{http_port}")])
            .start();
        Self { process, name, http_port }
    }

    async fn until_ready(&self) {
        let what = format!("registry {} is ready", self.name);
        eventually(what, START_DEADLINE, async || http::get(self.http_port, "/health/ready").await).await;
    }
}

impl Supervised {
    /// The number of the service's process, asked of the service itself.
    async fn service_pid(&self) -> Pid {
        let what = format!("{}/{} tells its process number", self.service, self.instance);
        eventually(what, START_DEADLINE, async || {
            let body = http::get(self.port, "/").await?;
            body.parse().map(Pid::from_raw).map_err(|_| format!("it said {body:?}"))
        })
        .await
    }
}

/// Sends a signal to a service that runs, not to its agent.
pub(crate) fn send(pid: Pid, signal: Signal) {
    kill(pid, signal).unwrap_or_else(|error| panic!("process {pid} cannot be sent {signal}: {error}"));
}

fn text(period: Duration) -> String {
    format!("{}ms", period.as_millis())
}
