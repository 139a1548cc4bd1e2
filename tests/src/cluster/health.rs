//! What the servers of a cluster say about themselves over their monitoring ports.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::http;

/// Whether JetStream, its streams and its consumers have caught up.
pub(super) async fn healthy(monitor: u16) -> Result<(), String> {
    http::get(monitor, "/healthz").await.map(drop)
}

/// To how many other servers it has routes now.
pub(super) async fn routed_servers(monitor: u16) -> Result<usize, String> {
    let routes = document(monitor, "/routez").await?;
    let names = routes["routes"].as_array().into_iter().flatten();
    let names: BTreeSet<&str> = names.filter_map(|route| route["remote_name"].as_str()).collect();
    Ok(names.len())
}

/// Whether JetStream as a whole has a leader.
pub(super) async fn has_meta_leader(monitor: u16) -> Result<(), String> {
    let jetstream = document(monitor, "/jsz").await?;
    let leader = jetstream["meta_cluster"]["leader"].as_str().filter(|name| !name.is_empty());
    leader.map(drop).ok_or_else(|| format!("JetStream has no leader: {}", jetstream["meta_cluster"]))
}

/// The name of the server that leads a stream, if there is one.
pub(super) async fn stream_leader(monitor: u16, stream: &str) -> Result<String, String> {
    let accounts = document(monitor, "/jsz?streams=true").await?;
    let streams = accounts["account_details"].as_array().into_iter().flatten();
    let streams = streams.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
    let mut found = streams.filter(|found| found["name"] == *stream);
    let leader = found.find_map(|found| found["cluster"]["leader"].as_str());
    leader.map(str::to_owned).ok_or_else(|| format!("nobody leads stream {stream}"))
}

async fn document(monitor: u16, path: &str) -> Result<Value, String> {
    let body = http::get(monitor, path).await?;
    serde_json::from_str(&body).map_err(|error| format!("{path}: {error} in {body:?}"))
}
