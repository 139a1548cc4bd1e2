//! What is measured on: a broker with the wanted durability, a registry beside it, and connections.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::Client;
use muster_schemas::query::Status;
use muster_schemas::subject::Query;
use muster_tests::{NatsServer, Process, ProcessBuilder, bin, eventually};
use tempfile::TempDir;

use crate::payload::subjects;

/// What anything that should happen may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// When an acknowledged event is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Within two minutes; until then it is in the page cache.
    PageCache,
    /// Before it is acknowledged.
    Fsync,
}

impl Durability {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::PageCache => "page cache",
            Self::Fsync => "fsync",
        }
    }
}

/// A broker of its own.
pub(crate) struct Broker {
    pub(crate) server: NatsServer,
    _store: TempDir,
}

impl Broker {
    pub(crate) async fn start(durability: Durability, more: &str) -> Result<Self> {
        let store = tempfile::Builder::new().prefix("muster-bench-").tempdir()?;
        let sync = match durability {
            Durability::PageCache => "",
            Durability::Fsync => ", sync_interval: always",
        };
        let text = format!(
            "server_name: bench\nno_fast_producer_stall: true\nmax_connections: 16000\n\
             jetstream: {{ store_dir: \"{}\"{sync} }}\n{more}",
            store.path().display()
        );
        let server = NatsServer::builder().without_jetstream().fixed_port().settings(&text).start().await;
        Ok(Self { server, _store: store })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.process().pid()
    }

    pub(crate) async fn connect(&self) -> Client {
        let options = async_nats::ConnectOptions::new().subscription_capacity(1 << 20);
        self.server.connect_with(options).await
    }
}

/// A registry of its own process.
pub(crate) struct Registry {
    pub(crate) process: Process,
}

impl Registry {
    /// Starts one and waits until it answers; `arguments` beside the usual ones.
    pub(crate) async fn start(broker: &Broker, arguments: &[&str]) -> Result<Self> {
        let process = ProcessBuilder::new(bin("muster-registry"))
            .args(["--server", &broker.server.url(), "--replica-id", "r1", "--listen-period", "200ms"])
            .args(arguments)
            .start();
        process.wait_for_line("answering queries", Duration::from_secs(300)).await;
        Ok(Self { process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// What the registry says of itself.
pub(crate) async fn status(client: &Client) -> Result<Status> {
    let message = client.request(subjects().query(&Query::Status), "".into()).await?;
    Ok(serde_json::from_slice(&message.payload)?)
}

/// Waits until so many instances are registered.
pub(crate) async fn until_instances(client: &Client, count: u64) -> Status {
    eventually(format!("{count} instances"), Duration::from_secs(300), async || {
        let status = status(client).await.map_err(|error| error.to_string())?;
        if status.instances == count { Ok(status) } else { Err(format!("{} instances", status.instances)) }
    })
    .await
}

/// A process of this program in another role.
pub(crate) fn child(arguments: &[&str]) -> Result<Process> {
    let own = std::env::current_exe()?;
    Ok(ProcessBuilder::new(own).args(arguments).start())
}

/// Where a pinned etcd is, if it is.
pub(crate) fn etcd() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("MUSTER_BENCH_ETCD")?);
    path.is_file().then_some(path)
}

/// Sends messages to a stream as fast as it acknowledges them, at most `window` unacknowledged; returns once all are.
pub(crate) async fn pipeline(
    client: &Client,
    messages: impl Iterator<Item = (async_nats::Subject, bytes::Bytes)>,
    window: usize,
) -> Result<u64> {
    use futures::StreamExt;
    let inbox: async_nats::Subject = client.new_inbox().into();
    let mut acknowledged = client.subscribe(inbox.clone()).await?;
    let (mut sent, mut done) = (0, 0);
    for (subject, payload) in messages {
        client.publish_with_reply(subject, inbox.clone(), payload).await?;
        sent += 1;
        while sent - done >= window {
            take_acknowledgement(&acknowledged.next().await.context("the connection was closed")?)?;
            done += 1;
        }
    }
    while done < sent {
        let message = tokio::time::timeout(SOON, acknowledged.next()).await.context("no acknowledgement")?;
        take_acknowledgement(&message.context("the connection was closed")?)?;
        done += 1;
    }
    Ok(u64::try_from(sent)?)
}

fn take_acknowledgement(message: &async_nats::Message) -> Result<()> {
    if message.status.is_some() || !message.payload.starts_with(b"{\"stream\"") {
        bail!("not stored: {:?} {}", message.status, String::from_utf8_lossy(&message.payload));
    }
    Ok(())
}
