//! One agent that supervises one service which does nothing.

use std::time::Duration;

use anyhow::Result;
use muster_tests::{ProcessBuilder, bin};

use super::Context;
use crate::measure::{CpuUse, resident_bytes};
use crate::report::{MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, until_instances};

const WORK: &str = "agent, idle";

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let broker = Broker::start(Durability::PageCache, "").await?;
    let registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    let directory = tempfile::tempdir()?;
    let agent = ProcessBuilder::new(bin("muster-agent"))
        .args(["--server", &broker.server.url(), "--agent-id", "idle", "--advertise", "127.0.0.1", "--state-dir"])
        .arg(directory.path())
        .args(["run", "--service", "orders", "--instance", "a", "--"])
        .args(["sleep", "100000"])
        .start();
    until_instances(&client, 1).await;
    let (of_agent, of_registry) = (CpuUse::of(agent.pid())?, CpuUse::of(registry.pid())?);
    let seconds = context.size(60, 10);
    tokio::time::sleep(Duration::from_secs(u64::try_from(seconds)?)).await;
    report.add(WORK, MUSTER, "processor", of_agent.percent()?, "% of a core", 1);
    report.add(WORK, MUSTER, "resident memory", resident_bytes(agent.pid())?, "bytes", 1);
    report.add("registry, idle", MUSTER, "processor", of_registry.percent()?, "% of a core", 1);
    report.add("registry, idle", MUSTER, "resident memory", resident_bytes(registry.pid())?, "bytes", 1);
    Ok(())
}
