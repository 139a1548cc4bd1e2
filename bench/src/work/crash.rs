//! From the end of a service, or of its agent with it, to the consumer's callback: killed under supervision, killed
//! together with its agent, and frozen together with it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use muster_discovery::{Change, Discovery, Update, Watch};
use muster_tests::process::Signal;
use muster_tests::{Process, ProcessBuilder, bin, eventually};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Context;
use crate::measure::histogram;
use crate::report::{MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, until_instances};

const SERVICE: &str = "orders";
/// The agent's own defaults.
const LINGER_US: f64 = 2_000_000.0;

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, "").await?;
    let _registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    let discovery = Discovery::connect(broker.server.url()).await?;
    let mut watch = discovery.watch(SERVICE)?;
    anyhow::ensure!(matches!(watch.next().await, Some(Update::List(_))), "a watch begins with the list");

    let directory = tempfile::tempdir()?;
    let start = |name: &str| {
        ProcessBuilder::new(bin("muster-agent"))
            .args(["--server", &broker.server.url(), "--agent-id", name, "--advertise", "127.0.0.1", "--state-dir"])
            .arg(directory.path().join(name))
            .args(["run", "--service", SERVICE, "--instance", name, "--restart", "always", "--"])
            .args(["sleep", "100000"])
            .start()
    };
    supervised(&start("a"), &mut watch, context.size(30, 5), report).await?;
    for (work, signal) in
        [("crash of agent and service", Signal::SIGKILL), ("freeze of agent and service", Signal::SIGSTOP)]
    {
        let hosts: Vec<Process> = (0..context.size(10, 3)).map(|number| start(&format!("host-{number}"))).collect();
        until_instances(&client, hosts.len() as u64).await;
        for _ in &hosts {
            until(&mut watch, |change| matches!(change, Change::Added { .. })).await?;
        }
        let mut children = Vec::new();
        for host in &hosts {
            children.push(child_of(host).await);
        }
        let began = Instant::now();
        for (host, child) in hosts.iter().zip(children) {
            kill(Pid::from_raw(i32::try_from(host.pid())?), signal)?;
            // The agent's own guard may have been faster.
            let _ = kill(child, signal);
        }
        let mut latencies = histogram();
        for _ in &hosts {
            until(&mut watch, |change| matches!(change, Change::Removed { .. })).await?;
            latencies.record(u64::try_from(began.elapsed().as_nanos())?)?;
        }
        report.latency(work, MUSTER, &latencies);
        if signal == Signal::SIGKILL {
            let beyond = latencies.max() as f64 / 1_000.0 - LINGER_US;
            report.add(work, MUSTER, "beyond linger", beyond, "us", latencies.len());
        }
    }
    Ok(())
}

async fn supervised(agent: &Process, watch: &mut Watch, times: usize, report: &mut Report) -> Result<()> {
    let mut latencies = histogram();
    until(watch, |change| matches!(change, Change::Added { .. })).await?;
    for _ in 0..times {
        let child = child_of(agent).await;
        let began = Instant::now();
        kill(child, Signal::SIGKILL)?;
        until(watch, |change| change.instance().is_none_or(|instance| !instance.is_routable())).await?;
        latencies.record(u64::try_from(began.elapsed().as_nanos())?)?;
        until(watch, |change| change.instance().is_some_and(|instance| instance.is_routable())).await?;
    }
    report.latency("crash of a supervised service", MUSTER, &latencies);
    Ok(())
}

async fn until(watch: &mut Watch, wanted: impl Fn(&Change) -> bool) -> Result<()> {
    loop {
        let update = tokio::time::timeout(2 * SOON, watch.next()).await.context("nothing happened")?;
        if let Update::Change(change) = update.context("the watch ended")?
            && wanted(&change)
        {
            return Ok(());
        }
    }
}

/// The process that an agent supervises.
async fn child_of(agent: &Process) -> Pid {
    let parent = agent.pid().to_string();
    eventually("the agent has a child", Duration::from_secs(60), async || {
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
