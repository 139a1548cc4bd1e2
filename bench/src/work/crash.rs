//! From the end of a service, or of its agent with it, to the consumer's callback: killed under supervision, killed
//! together with its agent, and frozen together with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use muster_discovery::{Change, Discovery, Update, Watch};
use muster_tests::process::Signal;
use muster_tests::{Process, ProcessBuilder, bin, eventually};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Context;
use crate::measure::histogram;
use crate::report::{MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON};

const SERVICE: &str = "orders";
/// The agent's own default for a service that it takes along.
const LINGER_US: f64 = 2_000_000.0;
/// Agents that run at once; the next ones start when these are done.
const HOSTS: usize = 20;
/// What a crash entails, the agent's own end included, is over before the next one.
const BETWEEN: Duration = Duration::from_millis(30);

/// A way in which instances end, and the work that it is.
#[derive(Clone, Copy)]
enum Crash {
    Service,
    ServiceAndAgent(Signal),
}

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, &told_of_disconnects()).await?;
    let _registry = Registry::start(&broker, &[]).await?;
    let discovery = Discovery::connect(broker.server.url()).await?;
    let mut watch = discovery.watch(SERVICE)?;
    anyhow::ensure!(matches!(watch.next().await, Some(Update::List(_))), "a watch begins with the list");
    let directory = tempfile::tempdir()?;
    let works = [
        ("crash of a supervised service", Crash::Service, context.size(240, 20)),
        ("crash of agent and service", Crash::ServiceAndAgent(Signal::SIGKILL), context.size(40, 5)),
        ("freeze of agent and service", Crash::ServiceAndAgent(Signal::SIGSTOP), context.size(20, 5)),
    ];
    for (work, crash, samples) in works {
        let mut latencies = histogram();
        for first in (0..samples).step_by(HOSTS) {
            let names: Vec<String> = (first..samples.min(first + HOSTS))
                .map(|number| format!("{}-{number}", work.replace(' ', "-")))
                .collect();
            let hosts = names.iter().map(|name| host(&broker, directory.path(), name)).collect();
            batch(crash, hosts, &names, &mut watch, &mut latencies).await.context(work)?;
        }
        report.latency(work, MUSTER, &latencies);
        if matches!(crash, Crash::ServiceAndAgent(Signal::SIGKILL)) {
            let beyond = latencies.max() as f64 / 1_000.0 - LINGER_US;
            report.add(work, MUSTER, "beyond linger", beyond, "us", latencies.len());
        }
    }
    Ok(())
}

/// A broker that tells the account which of its connections are gone.
fn told_of_disconnects() -> String {
    "system_account: SYS\nno_auth_user: muster\naccounts {\n\
     SYS { exports: [ { stream: \"$SYS.ACCOUNT.*.DISCONNECT\", accounts: [ MUSTER ] } ] }\n\
     MUSTER { jetstream: enabled, users: [ { user: muster, password: muster } ]\n\
     imports: [ { stream: { account: SYS, subject: \"$SYS.ACCOUNT.MUSTER.DISCONNECT\" } } ] }\n}"
        .to_owned()
}

/// An agent that supervises one service.
fn host(broker: &Broker, directory: &Path, name: &str) -> Process {
    ProcessBuilder::new(bin("muster-agent"))
        .args(["--server", &broker.server.url(), "--agent-id", name, "--advertise", "127.0.0.1", "--state-dir"])
        .arg(directory.join(name))
        .args(["run", "--service", SERVICE, "--instance", name, "--", "sleep", "100000"])
        .start()
}

/// Ends each host, or its service, and waits until the consumer has been told of all.
async fn batch(
    crash: Crash,
    hosts: Vec<Process>,
    names: &[String],
    watch: &mut Watch,
    latencies: &mut Histogram<u64>,
) -> Result<()> {
    for _ in names {
        until(watch, |change| matches!(change, Change::Added { .. }).then_some(())).await?;
    }
    let mut children = Vec::new();
    for host in &hosts {
        children.push(child_of(host).await);
    }
    let mut began = BTreeMap::new();
    for ((host, child), name) in hosts.iter().zip(children).zip(names) {
        tokio::time::sleep(BETWEEN).await;
        began.insert(name.as_str(), Instant::now());
        match crash {
            Crash::Service => {
                kill(child, Signal::SIGKILL)?;
                told(watch, &mut began, latencies).await?;
            }
            Crash::ServiceAndAgent(signal) => {
                kill(Pid::from_raw(i32::try_from(host.pid())?), signal)?;
                // The agent's own guard may have been faster.
                let _ = kill(child, signal);
            }
        }
    }
    while !began.is_empty() {
        told(watch, &mut began, latencies).await?;
    }
    Ok(())
}

/// Waits for the next removal, and writes down how long it took.
async fn told(watch: &mut Watch, began: &mut BTreeMap<&str, Instant>, latencies: &mut Histogram<u64>) -> Result<()> {
    let removed = |change: &Change| match change {
        Change::Removed { before, .. } => Some((before.id().as_str().to_owned(), Instant::now())),
        _ => None,
    };
    let (name, at) = until(watch, removed).await?;
    let began = began.remove(name.as_str()).with_context(|| format!("{name} was removed while it lived"))?;
    latencies.record(u64::try_from((at - began).as_nanos())?)?;
    Ok(())
}

async fn until<T>(watch: &mut Watch, wanted: impl Fn(&Change) -> Option<T>) -> Result<T> {
    loop {
        let update = tokio::time::timeout(2 * SOON, watch.next()).await.context("nothing happened")?;
        if let Update::Change(change) = update.context("the watch ended")?
            && let Some(found) = wanted(&change)
        {
            return Ok(found);
        }
    }
}

/// The process that an agent supervises.
async fn child_of(agent: &Process) -> Pid {
    let parent = agent.pid().to_string();
    eventually("the agent has a child", SOON, async || {
        let entries = std::fs::read_dir("/proc").map_err(|error| error.to_string())?;
        for entry in entries.flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((head, rest)) = stat.split_once(") ") else { continue };
            if rest.split(' ').nth(1) == Some(&parent) && head.ends_with("(sleep") {
                let pid = head.split(' ').next().and_then(|text| text.parse().ok());
                return pid.map(Pid::from_raw).ok_or_else(|| "no number".to_owned());
            }
        }
        Err(format!("{parent} has none"))
    })
    .await
}
