//! An exported catalog becomes a log again: an empty stream whose first event will follow the catalog's last, and a checkpoint
//! that stands for all before it.

use async_nats::Client;
use muster_schemas::{Subjects, Timestamp};

use super::TIMEOUT;
use crate::checkpoint_store;
use crate::core::catalog::checkpoint::Checkpoint;
use crate::stream;

/// Why nothing was restored. The stream may be there, empty; restoring again replaces it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something already.
    #[error("there is a log already: stream {stream} holds events up to revision {last}")]
    Exists {
        /// The stream.
        stream: String,
        /// Its last revision.
        last: u64,
    },
    /// The broker did not take it.
    #[error("{0}")]
    Refused(String),
}

/// Makes a log of a catalog. A stream that is there and has ever held an event is replaced only if that is allowed; no
/// registry may run meanwhile, or it would carry its own catalog over into the new log.
///
/// # Errors
/// [`RestoreError`]; what state that leaves is said there.
pub async fn restore(
    client: &Client,
    subjects: &Subjects,
    checkpoint: &Checkpoint,
    replicas: usize,
    replaces: bool,
) -> Result<(), RestoreError> {
    let refused = |what: &str, error: &dyn std::fmt::Display| RestoreError::Refused(format!("{what}: {error}"));
    let found =
        stream::info(client, subjects, TIMEOUT).await.map_err(|error| refused("asking for the stream", &error))?;
    if let Some(found) = found {
        let last = found.state.last_sequence;
        if last > 0 && !replaces {
            return Err(RestoreError::Exists { stream: subjects.stream_name(), last });
        }
        stream::delete(client, subjects).await.map_err(|error| refused("deleting the stream", &error))?;
    }
    checkpoint_store::delete(client, subjects).await.map_err(|error| refused("deleting old checkpoints", &error))?;
    let first = checkpoint.revision().sequence() + 1;
    let created = stream::create_from(client, subjects, replicas, first).await;
    let created = created.map_err(|error| refused("creating the stream", &error))?;
    let created_at = Timestamp::from_nanoseconds(created.created.unix_timestamp_nanos());
    let restored = Checkpoint::of(checkpoint.catalog(), Some(created_at));
    let restored = restored.ok_or_else(|| refused("restoring", &"the catalog is of no log"))?;
    let written = checkpoint_store::write(client, subjects, &restored).await;
    written.map_err(|error| refused("writing the checkpoint", &error))?;
    Ok(())
}
