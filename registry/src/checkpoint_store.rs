//! Checkpoints in the broker's object store, and trimming of the log: one request after the other, over a connection of
//! their own, so that large transfers delay nothing else.

mod pieces;

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::object_store::{Config, GetErrorKind, ObjectMetadata, ObjectStore};
use async_nats::jetstream::{self, stream::StorageType};
use futures::TryStreamExt;
use muster_runtime::broker::{BrokerSettings, Connection, Role};
use muster_runtime::logging::limited;
use muster_schemas::{Revision, Subjects};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::broker_api::STREAM_NOT_FOUND;
use crate::checkpoint_threads::CheckpointThreads;
use crate::core::catalog::checkpoint::{self, Checkpoint, Restoring, Written};
use crate::core::io::Trim;
use crate::core::replica::Timing;
use crate::{stream, trimming};

/// How much is read at once.
const PIECE_BYTES: usize = 128 * 1_024;
/// Jobs that may wait.
const JOBS_MAX: usize = 16;
/// A transfer in which nothing comes for so long has failed.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What is wanted of the store.
#[derive(Debug)]
pub(crate) enum Job {
    List { list: u64 },
    Load { load: u64, checkpoint: Revision },
    Save { save: u64, checkpoint: Box<Checkpoint> },
    Delete(Vec<Revision>),
    Trim(Trim),
}

/// Where jobs wait for the store.
pub(crate) fn waiting_jobs() -> (mpsc::Sender<Job>, mpsc::Receiver<Job>) {
    mpsc::channel(JOBS_MAX)
}

/// Beyond what may wait nothing is accepted; the core asks again when the time for an answer is over.
pub(crate) fn offer(jobs: &mpsc::Sender<Job>, job: Job) {
    if jobs.try_send(job).is_err() {
        tracing::warn!("too many requests to the store for checkpoints are under way");
    }
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    Listed { list: u64, checkpoints: Option<Vec<Revision>> },
    Loaded { load: u64, found: Found },
    Saved { save: u64, bytes: Option<u64> },
    Trimmed { events: Option<u64> },
}

/// What was found of a checkpoint.
#[derive(Debug)]
pub(crate) enum Found {
    Whole(Box<Checkpoint>),
    Broken(String),
    Foreign(String),
    Unreachable(String),
}

/// Where checkpoints are, and how long things may take.
pub(crate) struct Store {
    pub(crate) broker: BrokerSettings,
    /// Of a connection that ends at the first disconnect.
    pub(crate) role: Role,
    pub(crate) subjects: Subjects,
    pub(crate) timing: Timing,
}

impl Store {
    /// Does job after job until nobody sends any.
    pub(crate) async fn run(self, mut jobs: mpsc::Receiver<Job>, done: impl AsyncFn(Done)) {
        let mut connection: Option<Connection> = None;
        while let Some(job) = jobs.recv().await {
            if !connection.as_ref().is_some_and(Connection::is_connected) {
                connection = self.connect().await;
            }
            if let Some(answer) = self.perform(connection.as_ref(), job).await {
                done(answer).await;
            }
        }
        if let Some(connection) = connection {
            connection.close().await;
        }
    }

    async fn connect(&self) -> Option<Connection> {
        let connected = tokio::time::timeout(SILENCE_MAX, self.broker.connect(self.role.clone())).await.ok()?;
        connected.inspect_err(|error| warn("connecting", &error.to_string())).ok()
    }

    async fn perform(&self, connection: Option<&Connection>, job: Job) -> Option<Done> {
        let limit = match &job {
            Job::List { .. } => self.timing.checkpoint_list_ms,
            _ => self.timing.checkpoint_transfer_ms,
        };
        let limit = Duration::from_millis(limit);
        let work = async {
            let connection = connection.ok_or_else(|| "no connection".to_owned())?;
            let Job::Trim(trim) = &job else {
                return self.perform_in_store(connection, &job).await;
            };
            let events = trimming::trim(connection.client(), &self.subjects, trim).await;
            events.map(|events| Some(Done::Trimmed { events: Some(events) })).map_err(|error| error.to_string())
        };
        let outcome = tokio::time::timeout(limit, work).await;
        match outcome.unwrap_or_else(|_| Err(format!("not done within {} ms", limit.as_millis()))) {
            Ok(done) => done,
            Err(reason) => failed(&job, &reason),
        }
    }

    async fn perform_in_store(&self, connection: &Connection, job: &Job) -> Result<Option<Done>, String> {
        let context = jetstream::new(connection.client().clone());
        let store = open(&context, &self.subjects).await?;
        Ok(match (job, store) {
            (Job::List { list }, None) => Some(Done::Listed { list: *list, checkpoints: Some(Vec::new()) }),
            (Job::List { list }, Some(store)) => {
                Some(Done::Listed { list: *list, checkpoints: Some(names(&store).await?) })
            }
            (Job::Load { load, .. }, None) => {
                Some(Done::Loaded { load: *load, found: Found::Broken("there is no store".into()) })
            }
            (Job::Load { load, checkpoint }, Some(store)) => Some(Done::Loaded {
                load: *load,
                found: load_checkpoint(&context, &self.subjects, &store, *checkpoint).await,
            }),
            (Job::Save { save, checkpoint }, store) => {
                let store = match store {
                    Some(store) => store,
                    None => create(&context, connection.client(), &self.subjects).await?,
                };
                let bytes = save_and_read_back(&store, checkpoint).await?;
                Some(Done::Saved { save: *save, bytes: Some(bytes) })
            }
            (Job::Delete(checkpoints), Some(store)) => {
                for checkpoint in checkpoints {
                    store.delete(checkpoint::name(*checkpoint)).await.map_err(|error| error.to_string())?;
                }
                None
            }
            (Job::Delete(_), None) | (Job::Trim(_), _) => None,
        })
    }
}

/// The store; `None` if there is none.
pub(crate) async fn open(context: &jetstream::Context, subjects: &Subjects) -> Result<Option<ObjectStore>, String> {
    use async_nats::jetstream::context::GetStreamErrorKind::JetStream;
    match context.get_stream(format!("OBJ_{}", subjects.checkpoint_bucket())).await {
        Ok(_) => {}
        Err(error) => match error.kind() {
            JetStream(refused) if refused.error_code().0 == STREAM_NOT_FOUND => return Ok(None),
            _ => return Err(error.to_string()),
        },
    }
    let store = context.get_object_store(subjects.checkpoint_bucket()).await;
    store.map(Some).map_err(|error| error.to_string())
}

/// Creates the store, with as many copies as the stream has.
async fn create(context: &jetstream::Context, client: &Client, subjects: &Subjects) -> Result<ObjectStore, String> {
    let info = stream::info(client, subjects, SILENCE_MAX).await.map_err(|error| error.to_string())?;
    let replicas = info.ok_or("the stream is gone")?.config.num_replicas;
    let config = Config {
        bucket: subjects.checkpoint_bucket(),
        description: Some("Muster's checkpoints of its log".into()),
        storage: StorageType::File,
        num_replicas: replicas,
        ..Config::default()
    };
    context.create_object_store(config).await.map_err(|error| error.to_string())
}

/// Reads a checkpoint.
pub(crate) async fn load_checkpoint(
    context: &jetstream::Context,
    subjects: &Subjects,
    store: &ObjectStore,
    wanted: Revision,
) -> Found {
    let mut restoring = Some(Restoring::read_by(CheckpointThreads::begin()));
    let mut broken = None;
    let name = checkpoint::name(wanted);
    let read = read(store, &name, |bytes| {
        let Some(Err(error)) = restoring.as_mut().map(|restoring| restoring.feed(bytes)) else {
            return true;
        };
        broken = Some(error);
        false
    });
    let outcome = read.await;
    if let Some(error) = broken {
        if error.is_foreign() {
            return Found::Foreign(error.to_string());
        }
        return Found::Broken(error.to_string());
    }
    match outcome {
        Ok(()) => match restoring.take().map(Restoring::finish) {
            Some(Ok((checkpoint, _))) => Found::Whole(Box::new(checkpoint)),
            Some(Err(error)) => Found::Broken(error.to_string()),
            None => Found::Broken("nothing was read".into()),
        },
        Err(ReadError::Broken(reason)) => Found::Broken(reason),
        // A broker that answers, but not with these bytes, does not have them.
        Err(ReadError::Silent) => match open(context, subjects).await {
            Ok(_) => Found::Broken("parts of it are missing".into()),
            Err(reason) => Found::Unreachable(reason),
        },
        Err(ReadError::Failed(reason)) => Found::Unreachable(reason),
    }
}

/// Writes a checkpoint, into a store that is created if there is none, and reads it back.
pub(crate) async fn write(client: &Client, subjects: &Subjects, checkpoint: &Checkpoint) -> Result<u64, String> {
    let context = jetstream::new(client.clone());
    let store = match open(&context, subjects).await? {
        Some(store) => store,
        None => create(&context, client, subjects).await?,
    };
    save_and_read_back(&store, checkpoint).await
}

/// Deletes the store with all checkpoints, if there is one.
pub(crate) async fn delete(client: &Client, subjects: &Subjects) -> Result<(), String> {
    let context = jetstream::new(client.clone());
    if open(&context, subjects).await?.is_none() {
        return Ok(());
    }
    context.delete_object_store(subjects.checkpoint_bucket()).await.map_err(|error| error.to_string())
}

fn failed(job: &Job, reason: &str) -> Option<Done> {
    let (what, done) = match job {
        Job::List { list } => ("listing checkpoints", Some(Done::Listed { list: *list, checkpoints: None })),
        Job::Load { load, .. } => {
            let found = Found::Unreachable(reason.to_owned());
            ("reading a checkpoint", Some(Done::Loaded { load: *load, found }))
        }
        Job::Save { save, .. } => ("writing a checkpoint", Some(Done::Saved { save: *save, bytes: None })),
        Job::Delete(_) => ("deleting old checkpoints", None),
        Job::Trim(_) => ("trimming the log", Some(Done::Trimmed { events: None })),
    };
    warn(what, reason);
    done
}

fn warn(what: &'static str, reason: &str) {
    limited(what, |suppressed| tracing::warn!(suppressed, "{what} failed: {reason}"));
}

/// The checkpoints in the store; what has another name is none.
pub(crate) async fn names(store: &ObjectStore) -> Result<Vec<Revision>, String> {
    let objects = store.list().await.map_err(|error| error.to_string())?;
    let objects: Vec<_> = objects.try_collect().await.map_err(|error| error.to_string())?;
    Ok(objects.iter().filter_map(|object| checkpoint::revision_of(&object.name)).collect())
}

/// Writes a checkpoint, unless it is there already, and makes sure that it can be read. Returns its size in bytes.
async fn save_and_read_back(store: &ObjectStore, checkpoint: &Checkpoint) -> Result<u64, String> {
    let name = checkpoint::name(checkpoint.revision());
    if store.info(&name).await.is_ok_and(|info| !info.deleted) {
        let expected = pieces::measure(checkpoint).await?;
        if reads_back(store, &name, expected).await.is_ok() {
            return Ok(expected.bytes);
        }
    }
    let (mut reader, writing) = pieces::stream(checkpoint.clone(), PIECE_BYTES);
    let meta = ObjectMetadata { name: name.clone(), ..ObjectMetadata::default() };
    let put = store.put(meta, &mut reader).await.map_err(|error| error.to_string());
    drop(reader);
    let written = writing.await.map_err(|error| error.to_string())?;
    put?;
    let written = written.map_err(|error| error.to_string())?;
    reads_back(store, &name, written).await?;
    Ok(written.bytes)
}

async fn reads_back(store: &ObjectStore, name: &str, written: Written) -> Result<(), String> {
    let (mut bytes, mut tail) = (0_u64, Vec::new());
    let checksum_bytes = written.checksum.len();
    let outcome = read(store, name, |piece| {
        bytes += u64::try_from(piece.len()).unwrap_or(0);
        tail.extend_from_slice(piece);
        tail.drain(..tail.len().saturating_sub(checksum_bytes));
        true
    });
    // The store compares what is read with the checksum of what was put.
    outcome.await.map_err(|error| format!("reading it back: {error}"))?;
    if bytes == written.bytes && tail == written.checksum {
        Ok(())
    } else {
        Err(format!("what is read back is not what was written: {bytes} bytes instead of {}", written.bytes))
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Broken(String),
    #[error("the store fell silent")]
    Silent,
    #[error("{0}")]
    Failed(String),
}

/// Reads an object to its end, or until `take` wants no more.
async fn read(store: &ObjectStore, name: &str, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), ReadError> {
    let mut object = store.get(name).await.map_err(|error| match error.kind() {
        GetErrorKind::NotFound => ReadError::Broken("it is there no more".into()),
        _ => ReadError::Failed(error.to_string()),
    })?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = tokio::time::timeout(SILENCE_MAX, object.read(&mut piece)).await;
        match read.map_err(|_| ReadError::Silent)? {
            Ok(0) => return Ok(()),
            Ok(length) if take(&piece[..length]) => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(ReadError::Broken(error.to_string()));
            }
            Err(error) => return Err(ReadError::Failed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_job_more_than_may_wait_is_not_accepted_and_those_before_it_are_done_in_order() {
        let (jobs, mut waiting) = waiting_jobs();
        let count = JOBS_MAX as u64;
        (0..=count).for_each(|list| offer(&jobs, Job::List { list }));
        let mut next = || match waiting.try_recv() {
            Ok(Job::List { list }) => Some(list),
            _ => None,
        };
        assert_eq!(next(), Some(0));
        offer(&jobs, Job::List { list: 99 });
        let rest: Vec<u64> = std::iter::from_fn(next).collect();
        assert_eq!(rest, (1..count).chain([99]).collect::<Vec<_>>());
    }
}
