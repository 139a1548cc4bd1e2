//! `--stream-replicas`: how many copies a stream is created with, and what is said to a stream that has others.

use crate::world::{SOON, World};

#[tokio::test]
async fn a_registry_creates_the_stream_with_as_many_copies_as_it_is_told_and_refuses_another_number() {
    let world = World::start().await;
    let context = async_nats::jetstream::new(world.cluster.broker(0).connect().await);
    let mut stream = context.get_stream(world.subjects().stream_name()).await.expect("the stream");
    assert_eq!(stream.info().await.expect("its description").config.num_replicas, 3);
    let mut told_otherwise = world.registry(1, "other", &["--stream-replicas", "1"]);
    assert_eq!(told_otherwise.wait_exit(SOON).await.code(), Some(78));
    told_otherwise.wait_for_line("num_replicas: expected 1, found 3", SOON).await;
    world.registry_of(0).wait_for_line("answering queries", SOON).await;
}
