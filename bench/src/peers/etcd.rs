//! etcd 3.5 as go-zero and Kratos use it: a lease, puts under it, a watch on the prefix. Over gRPC, with the few messages
//! of its API that this takes, written out here so that no compiler for them is needed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::Stream;
use muster_tests::{Process, ProcessBuilder, eventually, free_port};
use tempfile::TempDir;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::stand::{Durability, SOON};

pub(crate) const NAME: &str = "etcd";

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: bytes::Bytes,
    #[prost(int64, tag = "3")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseKeepAliveRequest {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchCreateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: bytes::Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchEvent {
    #[prost(message, optional, tag = "2")]
    kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchResponse {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<WatchEvent>,
}

/// A server of its own.
pub(crate) struct Etcd {
    process: Process,
    endpoint: String,
    _directory: TempDir,
}

impl Etcd {
    pub(crate) async fn start(program: &Path, durability: Durability) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("muster-bench-etcd-").tempdir()?;
        let (port, peer) = (free_port(), free_port());
        let endpoint = format!("http://127.0.0.1:{port}");
        let peers = format!("http://127.0.0.1:{peer}");
        let mut builder = ProcessBuilder::new(program)
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--name", "bench", "--log-level", "error"])
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("bench={peers}"), "--quota-backend-bytes", "4294967296"]);
        if durability == Durability::PageCache {
            builder = builder.arg("--unsafe-no-fsync");
        }
        let etcd = Self { process: builder.start(), endpoint, _directory: directory };
        eventually("etcd answers", SOON, async || {
            let client = etcd.connect().await.map_err(|error| error.to_string())?;
            client.range("ready").await.map_err(|error| error.to_string())
        })
        .await;
        Ok(etcd)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        let endpoint = Channel::from_shared(self.endpoint.clone())?.tcp_nodelay(true);
        Ok(Client { channel: endpoint.connect_timeout(Duration::from_secs(2)).connect().await? })
    }
}

/// One connection; calls may run side by side.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static(path);
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }

    pub(crate) async fn grant(&self, ttl_seconds: i64) -> Result<i64> {
        let granted: LeaseGrantResponse =
            self.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { ttl: ttl_seconds }).await?;
        Ok(granted.id)
    }

    pub(crate) async fn put(&self, key: &str, value: bytes::Bytes, lease: i64) -> Result<()> {
        let request = PutRequest { key: key.to_owned().into(), value, lease };
        let _: Empty = self.call("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    /// All under a prefix; how many bytes they have.
    pub(crate) async fn range(&self, prefix: &str) -> Result<usize> {
        let request = RangeRequest { key: prefix.to_owned().into(), range_end: end_of(prefix) };
        let found: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(found.kvs.iter().map(|pair| pair.value.len()).sum())
    }

    /// Keeps a lease alive over one stream as fast as answers come; returns how many did within `period`.
    pub(crate) async fn keep_alive(&self, lease: i64, period: Duration) -> Result<u64> {
        let (send, receive) = tokio::sync::mpsc::channel(16);
        for _ in 0..8 {
            send.send(LeaseKeepAliveRequest { id: lease }).await?;
        }
        let requests = futures::stream::unfold(receive, |mut receive| async { Some((receive.recv().await?, receive)) });
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        let codec: ProstCodec<LeaseKeepAliveRequest, Empty> = ProstCodec::default();
        let mut answers = grpc.streaming(tonic::Request::new(requests), path, codec).await?.into_inner();
        let (mut count, end) = (0, tokio::time::Instant::now() + period);
        while let Ok(answer) = tokio::time::timeout_at(end, answers.message()).await {
            answer?.context("the stream ended")?;
            count += 1;
            send.send(LeaseKeepAliveRequest { id: lease }).await?;
        }
        Ok(count)
    }

    /// The values that change under a prefix, from now on.
    pub(crate) async fn watch(&self, prefix: &str) -> Result<impl Stream<Item = bytes::Bytes> + use<>> {
        let create = WatchCreateRequest { key: prefix.to_owned().into(), range_end: end_of(prefix) };
        let request = WatchRequest { create_request: Some(create) };
        // The stream of requests stays open: its end would end the watch.
        let requests =
            futures::StreamExt::chain(futures::stream::once(std::future::ready(request)), futures::stream::pending());
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec: ProstCodec<WatchRequest, WatchResponse> = ProstCodec::default();
        let mut answers = grpc.streaming(tonic::Request::new(requests), path, codec).await?.into_inner();
        let first = answers.message().await?.context("the watch ended")?;
        anyhow::ensure!(first.created, "the watch was not created");
        let responses = futures::stream::unfold(answers, |mut answers| async {
            let response = answers.message().await.ok()??;
            let values: Vec<_> = response.events.into_iter().filter_map(|event| Some(event.kv?.value)).collect();
            Some((futures::stream::iter(values), answers))
        });
        Ok(futures::StreamExt::flatten(responses))
    }
}

fn end_of(prefix: &str) -> bytes::Bytes {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}
