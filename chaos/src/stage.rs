//! The processes: three brokers, three registries, agents with their services, consumers.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use muster_tests::cluster::BROKERS;
use muster_tests::process::{Line, Stream};
use muster_tests::{Cluster, Process, ProcessBuilder, bin, free_port};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::clock_step::ClockSteps;

/// Agents on each broker.
const AGENTS_EACH: usize = 4;
/// How long an instance is kept after its agent's connection broke: shorter than its TTL, so that it can be told apart.
const LINGER: &str = "1s";
/// Lines of an ended process that are kept for whoever looks for a cause.
const KEPT_LINES_MAX: usize = 4_000;

/// One process of the stage, which may be ended and started again.
pub(crate) struct Member {
    pub(crate) name: String,
    /// The broker that it knows.
    pub(crate) home: usize,
    /// Held by whoever harms it.
    pub(crate) busy: Mutex<()>,
    start: Box<dyn Fn() -> Process>,
    process: RefCell<Option<Process>>,
    next_line: Cell<u64>,
    kept: RefCell<Vec<String>>,
}

impl Member {
    fn new(name: String, home: usize, start: impl Fn() -> Process + 'static) -> Self {
        Self {
            name,
            home,
            busy: Mutex::new(()),
            process: RefCell::new(Some(start())),
            start: Box::new(start),
            next_line: Cell::new(0),
            kept: RefCell::default(),
        }
    }

    /// How it ended, if it has by itself.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.process.borrow_mut().as_mut().and_then(Process::exit)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.borrow_mut().as_mut().is_some_and(|process| process.exit().is_none())
    }

    /// Its number, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.is_running().then(|| self.process.borrow().as_ref().map(Process::pid)).flatten()
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        self.keep_lines();
        if let Some(mut process) = self.process.borrow_mut().take()
            && process.exit().is_none()
        {
            process.kill();
        }
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        if self.is_running() {
            self.process.borrow().iter().for_each(|process| process.signal(nix::sys::signal::Signal::SIGTERM));
        }
    }

    /// Starts it again; what is left of the process before is ended.
    pub(crate) fn restart(&self) {
        self.kill();
        self.next_line.set(0);
        *self.process.borrow_mut() = Some((self.start)());
    }

    /// Whether it stands still now.
    pub(crate) fn freeze(&self) -> bool {
        let running = self.is_running();
        if running {
            self.process.borrow().iter().for_each(Process::freeze);
        }
        running
    }

    pub(crate) fn thaw(&self) {
        if self.is_running() {
            self.process.borrow().iter().for_each(Process::thaw);
        }
    }

    /// What it has printed on its standard output since the last time.
    pub(crate) fn new_output(&self) -> Vec<Line> {
        let process = self.process.borrow();
        let Some(process) = &*process else { return Vec::new() };
        let mut lines = process.lines_since(self.next_line.get());
        if let Some(last) = lines.last() {
            self.next_line.set(last.index + 1);
        }
        lines.retain(|line| line.stream == Stream::Stdout);
        lines
    }

    fn keep_lines(&self) {
        let process = self.process.borrow();
        let Some(process) = &*process else { return };
        let mut kept = self.kept.borrow_mut();
        let lines = process.lines().into_iter().filter(|line| line.stream == Stream::Stderr);
        kept.push(format!("--- process {}", process.pid()));
        kept.extend(lines.map(|line| line.text));
        let excess = kept.len().saturating_sub(KEPT_LINES_MAX);
        kept.drain(..excess);
    }

    /// Writes what all its processes have logged into a file.
    pub(crate) fn write_log(&self, directory: &Path) -> std::io::Result<()> {
        self.keep_lines();
        std::fs::write(directory.join(format!("{}.log", self.name)), self.kept.borrow().join("\n"))
    }
}

/// An agent and the service under it.
pub(crate) struct Supervised {
    pub(crate) agent: Member,
    pub(crate) key: String,
    pub(crate) port: u16,
}

/// Everything that was started.
pub(crate) struct Stage {
    pub(crate) registries: Vec<Member>,
    pub(crate) agents: Vec<Supervised>,
    /// Those that are harmed.
    pub(crate) consumers: Vec<Member>,
    /// One on each broker that is never harmed.
    pub(crate) observers: Vec<Member>,
    pub(crate) urls: Vec<String>,
    pub(crate) clocks: ClockSteps,
    _directory: TempDir,
}

impl Stage {
    /// Starts all processes but the brokers.
    pub(crate) fn set(cluster: &Cluster) -> Self {
        let directory = tempfile::Builder::new().prefix("muster-chaos-").tempdir().expect("a temporary directory");
        let clocks = ClockSteps::new(directory.path());
        let urls: Vec<String> = (0..BROKERS).map(|broker| cluster.url(broker)).collect();
        let registries = (0..BROKERS).map(|home| registry(home, &urls[home], &clocks)).collect();
        let agents = (0..BROKERS * AGENTS_EACH)
            .map(|number| supervised(number, &urls[number % BROKERS], directory.path(), &clocks))
            .collect();
        let consumers =
            (0..BROKERS).map(|home| consumer(&format!("c{}", home + 1), home, &urls[home], &clocks)).collect();
        let observers =
            (0..BROKERS).map(|home| consumer(&format!("o{}", home + 1), home, &urls[home], &clocks)).collect();
        Self { registries, agents, consumers, observers, urls, clocks, _directory: directory }
    }

    /// Every process that can be harmed.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        let agents = self.agents.iter().map(|supervised| &supervised.agent);
        self.registries.iter().chain(agents).chain(&self.consumers)
    }

    /// All consumers, with and without harm.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = &Member> {
        self.consumers.iter().chain(&self.observers)
    }

    /// Writes what everybody has logged into files.
    pub(crate) fn write_logs(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        self.members().chain(&self.observers).try_for_each(|member| member.write_log(directory))
    }
}

fn registry(home: usize, url: &str, clocks: &ClockSteps) -> Member {
    let name = format!("r{}", home + 1);
    let arguments = ["--server", url, "--replica-id", &name, "--stream-replicas", "3", "--listen-period", "400ms"];
    started(name.clone(), home, "muster-registry", arguments.map(str::to_owned).to_vec(), clocks)
}

fn supervised(number: usize, url: &str, directory: &Path, clocks: &ClockSteps) -> Supervised {
    let port = free_port();
    let service = ["orders", "users", "mail"][number / BROKERS % 3];
    let instance = format!("i{number}");
    let (agent, state) = (format!("a{number}"), directory.join("state"));
    let mut arguments: Vec<String> = ["--server", url, "--agent-id", &agent, "--advertise", "127.0.0.1"]
        .into_iter()
        .chain(["--heartbeat-interval", "400ms", "--state-dir", &state.to_string_lossy()])
        .chain(["run", "--service", service, "--instance", &instance, "--port", &format!("http={port}")])
        .chain(["--check", "http=/healthz", "--check-interval", "500ms", "--check-timeout", "400ms", "--ttl", "2s"])
        .chain(["--linger", LINGER])
        .chain(["--drain", "0s", "--restart", "on-failure", "--"])
        .map(str::to_owned)
        .collect();
    arguments.push(bin("muster-demo-service").to_string_lossy().into_owned());
    arguments.push(port.to_string());
    let agent = started(agent.clone(), number % BROKERS, "muster-agent", arguments, clocks);
    Supervised { agent, key: format!("{service}/{instance}"), port }
}

fn consumer(name: &str, home: usize, url: &str, clocks: &ClockSteps) -> Member {
    started(name.to_owned(), home, "muster-chaos-consumer", vec![url.to_owned()], clocks)
}

fn started(name: String, home: usize, program: &str, arguments: Vec<String>, clocks: &ClockSteps) -> Member {
    let program: PathBuf = bin(program);
    let environment = clocks.environment(&name);
    let called = name.clone();
    Member::new(name, home, move || {
        let builder = ProcessBuilder::new(&program).name(&called).args(&arguments);
        let builder = environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        builder.start()
    })
}
