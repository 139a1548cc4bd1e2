//! The broker is killed and comes back before ten thousand agents, simulated on ten connections: how soon queries are
//! answered again, and whether anything that lives was removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_nats::Client;
use futures::StreamExt;
use muster_schemas::heartbeat::Heartbeat;
use muster_schemas::{AgentId, Digest};
use muster_tests::eventually;

use super::Context;
use crate::payload::{SESSION, Subject, agent, event, registration, subjects};
use crate::report::{MUSTER, Report};
use crate::stand::{Broker, Durability, Registry, SOON, pipeline, status, until_instances};

const WORK: &str = "return of the broker, 10,000 agents";
const AGENTS: usize = 10_000;
const CONNECTIONS: usize = 10;
const TTL_MS: u64 = 10_000;
const HEARTBEAT: Duration = Duration::from_secs(2);

fn subject(number: usize) -> Subject<'static> {
    Subject { service: "orders", instance: number, agent: number, generation: 1, number, ttl_ms: TTL_MS }
}

pub(super) async fn run(context: Context<'_>, report: &mut Report) -> Result<()> {
    let mut broker = Broker::start(Durability::PageCache, "").await?;
    let _registry = Registry::start(&broker, &[]).await?;
    let client = broker.connect().await;
    for connection in 0..CONNECTIONS {
        let beating = broker.connect().await;
        tokio::spawn(beat(beating, connection));
    }
    let events = (0..AGENTS).map(|number| {
        let (to, bytes) = event(subject(number));
        (to.into(), bytes)
    });
    pipeline(&client, events, 1_024).await?;
    until_instances(&client, AGENTS as u64).await;
    let removed = Arc::new(AtomicU64::new(0));
    let mut changes = client.subscribe(subjects().all_changes()).await?;
    client.flush().await?;
    tokio::spawn({
        let removed = Arc::clone(&removed);
        async move {
            while let Some(change) = changes.next().await {
                let is_removal = change.payload.windows(18).any(|window| window == b"\"change\":\"removed\"");
                removed.fetch_add(u64::from(is_removal), Ordering::Relaxed);
            }
        }
    });
    broker.server.kill();
    tokio::time::sleep(Duration::from_secs(if context.quick { 3 } else { 15 })).await;
    let began = Instant::now();
    broker.server.restart().await;
    eventually("queries are answered again", SOON, async || {
        let status = status(&client).await.map_err(|error| error.to_string())?;
        if status.reason.is_none() { Ok(()) } else { Err(format!("{:?}", status.reason)) }
    })
    .await;
    report.add(WORK, MUSTER, "answering again", began.elapsed().as_secs_f64(), "s", 1);
    eventually("all agents are heard again", SOON, async || {
        let status = status(&client).await.map_err(|error| error.to_string())?;
        if status.agents >= AGENTS as u64 { Ok(()) } else { Err(format!("{} agents", status.agents)) }
    })
    .await;
    report.add(WORK, MUSTER, "all agents heard again", began.elapsed().as_secs_f64(), "s", AGENTS as u64);
    // Long enough for whatever would fall due of what was charged.
    tokio::time::sleep(Duration::from_millis(TTL_MS + 3_000)).await;
    let held = status(&client).await?.instances;
    let lost = (AGENTS as u64).saturating_sub(held).max(removed.load(Ordering::Relaxed));
    report.add(WORK, MUSTER, "false removals", lost as f64, "", AGENTS as u64);
    Ok(())
}

/// Heartbeats of a tenth of the agents, spread over the period; none while there is no connection.
async fn beat(client: Client, connection: usize) {
    let subjects = subjects();
    let agents: Vec<(String, Digest)> = (0..AGENTS)
        .filter(|number| number % CONNECTIONS == connection)
        .map(|number| {
            let vouching = registration(subject(number)).vouching;
            let agent: AgentId = agent(number).parse().expect("a name");
            let digest =
                Digest::of_vouching(&vouching.service, &vouching.instance, vouching.incarnation, vouching.generation);
            (subjects.heartbeat(&agent), digest)
        })
        .collect();
    let mut ticks = tokio::time::interval(HEARTBEAT / u32::try_from(agents.len()).unwrap_or(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for counter in 1.. {
        for (subject, digest) in &agents {
            ticks.tick().await;
            if client.connection_state() != async_nats::connection::State::Connected {
                continue;
            }
            let heartbeat = Heartbeat {
                v: muster_schemas::WIRE_VERSION,
                session: SESSION.parse().expect("a session"),
                counter,
                instances: 1,
                digest: *digest,
                acked: None,
                conn: None,
            };
            let bytes = serde_json::to_vec(&heartbeat).expect("plain data");
            if client.publish(subject.clone(), bytes.into()).await.is_err() {
                return;
            }
        }
    }
}
