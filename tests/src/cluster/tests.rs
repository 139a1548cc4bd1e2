//! Clusters that lose a leader, and that are cut apart.

use async_nats::jetstream::{self, stream::Config};
use futures::StreamExt;

use super::*;

const SOON: Duration = Duration::from_secs(30);

async fn replicated_stream(cluster: &Cluster) -> jetstream::Context {
    let context = jetstream::new(cluster.broker(0).connect().await);
    let config = Config { name: "S".into(), subjects: vec!["s".into()], num_replicas: 3, ..Config::default() };
    eventually("the stream is created", SOON, async || context.create_stream(config.clone()).await.map(drop)).await;
    context
}

async fn stored(context: &jetstream::Context) -> Result<u64, String> {
    let sent = context.publish("s", "x".into()).await.map_err(|error| error.to_string())?;
    sent.await.map(|stored| stored.sequence).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::start().await;
    let context = replicated_stream(&cluster).await;
    assert_eq!(stored(&context).await, Ok(1));
    let leader = cluster.leader("S").await;
    let other = (leader + 1) % BROKERS;
    cluster.broker_mut(leader).kill();
    let context = jetstream::new(cluster.broker(other).connect().await);
    eventually("the stream stores again", SOON, async || stored(&context).await).await;
    cluster.broker_mut(leader).restart().await;
    cluster.until_healthy().await;
}

#[tokio::test]
async fn a_server_that_is_cut_off_hears_nobody_until_the_cluster_is_healed() {
    let cluster = Cluster::start().await;
    for black_hole in [false, true] {
        let inside = cluster.broker(2).connect().await;
        let outside = cluster.broker(0).connect().await;
        let mut heard = inside.subscribe("word").await.expect("subscribed");
        inside.flush().await.expect("flushed");
        eventually("a word gets across", SOON, async || {
            outside.publish("word", "before".into()).await.map_err(|error| error.to_string())?;
            tokio::time::timeout(Duration::from_millis(50), heard.next()).await.map_err(|_| "nothing".to_owned())
        })
        .await;
        if black_hole {
            cluster.black_hole(2);
        } else {
            cluster.cut_off(2);
        }
        eventually("words no longer get across", SOON, async || {
            outside.publish("word", "during".into()).await.map_err(|error| error.to_string())?;
            match tokio::time::timeout(Duration::from_millis(500), heard.next()).await {
                Ok(message) => Err(format!("{message:?}")),
                Err(_) => Ok(()),
            }
        })
        .await;
        cluster.heal();
        cluster.until_healthy().await;
    }
}
