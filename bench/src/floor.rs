//! Floors: the same path as Muster's on the same broker with no logic in it, as processes of their own.

use anyhow::{Context, Result};
use async_nats::Client;
use async_nats::jetstream;
use bytes::Bytes;
use futures::StreamExt;

/// What a floor's events are stored under.
pub(crate) const EVENTS: &str = "floor.event";
/// What the relay sends on.
pub(crate) const CHANGES: &str = "floor.change";
const STREAM: &str = "FLOOR";

/// The stream of the floor: as Muster's.
pub(crate) async fn create_stream(client: &Client) -> Result<()> {
    let context = jetstream::new(client.clone());
    let subjects = vec![format!("{EVENTS}.>")];
    let config = jetstream::stream::Config { name: STREAM.into(), subjects, ..Default::default() };
    context.create_stream(config).await?;
    Ok(())
}

/// Reads the stream in order and sends each message on, padded to the size of a change.
pub(crate) async fn relay(url: &str, change_bytes: usize) -> Result<()> {
    let (input, output) = (async_nats::connect(url).await?, async_nats::connect(url).await?);
    let stream = jetstream::new(input.clone()).get_stream(STREAM).await?;
    let deliver_subject = input.new_inbox();
    let config = jetstream::consumer::push::OrderedConfig { deliver_subject, ..Default::default() };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    let subject = async_nats::Subject::from_static(CHANGES);
    println!("relaying");
    while let Some(message) = messages.next().await {
        let mut payload = Vec::with_capacity(change_bytes.max(message.as_ref().map_or(0, |it| it.payload.len())));
        payload.extend_from_slice(&message?.payload);
        payload.resize(change_bytes.max(payload.len()), b' ');
        output.publish(subject.clone(), payload.into()).await?;
    }
    Ok(())
}

/// Answers every request with as many bytes as the subject's last token says.
pub(crate) async fn echo(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut requests = client.queue_subscribe("floor.echo.*", "floor".into()).await?;
    client.flush().await?;
    println!("echoing");
    let mut reply: Option<(usize, Bytes)> = None;
    while let Some(request) = requests.next().await {
        let size: usize = request.subject.rsplit('.').next().context("no size")?.parse()?;
        let bytes = match &reply {
            Some((known, bytes)) if *known == size => bytes.clone(),
            _ => reply.insert((size, Bytes::from(vec![b'x'; size]))).1.clone(),
        };
        if let Some(to) = request.reply {
            client.publish(to, bytes).await?;
        }
    }
    Ok(())
}

/// Counts what comes, and tells when asked.
pub(crate) async fn sink(url: &str) -> Result<()> {
    let (input, answers) = (
        async_nats::ConnectOptions::new().subscription_capacity(131_072).connect(url).await?,
        async_nats::connect(url).await?,
    );
    let mut messages = input.subscribe("floor.heartbeat.>").await?;
    let mut questions = answers.subscribe("floor.count").await?;
    input.flush().await?;
    answers.flush().await?;
    println!("counting");
    let (mut count, mut bytes) = (0_u64, 0_usize);
    loop {
        tokio::select! {
            biased;
            Some(question) = questions.next() => {
                if let Some(to) = question.reply {
                    answers.publish(to, format!("{count} {bytes}").into()).await?;
                }
            }
            Some(message) = messages.next() => {
                count += 1;
                bytes += message.payload.len();
            }
            else => return Ok(()),
        }
    }
}
