//! Reads events of the log in order, a batch at a time, over a consumer that the broker forgets by itself.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use futures::StreamExt;
use muster_schemas::Timestamp;

use super::{Past, PastError};
use crate::core::io::Record;

/// How many events one request brings.
const BATCH: usize = 512;
/// The broker forgets a consumer that nobody listens to after this time.
const INACTIVE: Duration = Duration::from_secs(10);
/// A request that brings nothing is made again after this time, so often.
const PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS_MAX: u32 = 20;

fn unreadable(error: &dyn Display) -> PastError {
    PastError::Unreadable(error.to_string())
}

impl Past {
    /// Takes the events of some subjects from one revision to another, both included, in order.
    pub(super) async fn each(
        &self,
        subjects: Vec<String>,
        from: u64,
        until: u64,
        mut take: impl FnMut(&Record<'_>) -> Result<(), PastError>,
    ) -> Result<(), PastError> {
        if from > until {
            return Ok(());
        }
        let consumer = self.consumer(subjects, from).await?;
        let mut left = consumer.cached_info().num_pending;
        let mut in_vain = 0;
        while left > 0 {
            let batch = consumer.fetch().max_messages(BATCH).messages().await;
            let mut batch = batch.map_err(|error| unreadable(&error))?;
            let before = left;
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| unreadable(&error))?;
                if !give(&message, until, &mut take)? {
                    return Ok(());
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    return Ok(());
                }
            }
            in_vain = if left == before { in_vain + 1 } else { 0 };
            if in_vain == ATTEMPTS_MAX {
                return Err(unreadable(&"the broker sent nothing in time"));
            }
            if in_vain > 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn consumer(&self, filter_subjects: Vec<String>, from: u64) -> Result<PullConsumer, PastError> {
        let context = jetstream::new(self.client.clone());
        let stream =
            context.get_stream_no_info(self.subjects.stream_name()).await.map_err(|error| unreadable(&error))?;
        let config = pull::Config {
            // With a name it is made under a subject below the stream's, as the log reader's.
            name: Some(format!("muster-past-{:016x}", rand::random::<u64>())),
            filter_subjects,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        stream.create_consumer(config).await.map_err(|error| unreadable(&error))
    }
}

/// False once the end has been passed.
fn give(
    message: &Message,
    until: u64,
    take: &mut impl FnMut(&Record<'_>) -> Result<(), PastError>,
) -> Result<bool, PastError> {
    let info = message.info().map_err(|error| unreadable(&error))?;
    if info.stream_sequence > until {
        return Ok(false);
    }
    let at = Timestamp::from_nanoseconds(info.published.unix_timestamp_nanos());
    take(&Record { sequence: info.stream_sequence, at, subject: &message.subject, payload: &message.payload })?;
    Ok(info.stream_sequence < until)
}
