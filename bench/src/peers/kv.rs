//! A NATS key-value bucket used as a registry: one key per instance, values that expire unless put again, a watch.
//!
//! A bucket is a stream of this form, a put a publish into it, and a watch an ordered consumer of it (ADR-8).

use std::time::Duration;

use anyhow::Result;
use async_nats::Client;
use async_nats::jetstream;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Stream};

pub(crate) const NAME: &str = "nats-kv";
const BUCKET: &str = "registry";

/// A bucket whose values expire after an agent's usual lease.
pub(crate) async fn create(client: &Client) -> Result<Stream> {
    let config = Config {
        name: format!("KV_{BUCKET}"),
        subjects: vec![subject(">")],
        // Of one alone a watch would miss what is put again before it was delivered.
        max_messages_per_subject: 64,
        max_age: Duration::from_secs(10),
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    Ok(jetstream::new(client.clone()).create_stream(config).await?)
}

/// The subject of a key, or of a pattern of keys.
pub(crate) fn subject(key: &str) -> String {
    format!("$KV.{BUCKET}.{key}")
}

/// What is put from now on.
pub(crate) async fn watch(client: &Client, bucket: &Stream) -> Result<Ordered> {
    let config = OrderedConfig {
        deliver_subject: client.new_inbox(),
        filter_subject: subject(">"),
        deliver_policy: jetstream::consumer::DeliverPolicy::New,
        ..OrderedConfig::default()
    };
    Ok(bucket.create_consumer(config).await?.messages().await?)
}
