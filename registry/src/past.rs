//! The past: the fold run to a point, from the nearest checkpoint before it, or from the beginning of its log.

mod history;
mod reading;
mod restoring;

use std::time::Duration;

use async_nats::{Client, jetstream};
use muster_schemas::history::At;
use muster_schemas::{EpochId, Revision, Subjects, Timestamp};
use serde_json::json;

pub use history::{Entry, History, Wanted};
pub use restoring::{RestoreError, restore};

use crate::broker_api::AskError;
use crate::checkpoint_store::{self, Found};
use crate::core::catalog::Catalog;
use crate::core::catalog::checkpoint::{Checkpoint, name};
use crate::core::io::Record;
use crate::core::replica::epochs;
use crate::{inspection, stream, trimming};

/// How long each question to the broker may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the log and its checkpoints, and writes nothing.
#[derive(Debug, Clone)]
pub struct Past {
    client: Client,
    subjects: Subjects,
}

/// What the stream holds of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Sequence of the first event; one above the last when none is left.
    pub first: u64,
    /// Sequence of the last event there ever was.
    pub last: u64,
    /// When the stream was created.
    pub created_at: Timestamp,
}

/// Why the past cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// The broker does not give it.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// There is no stream.
    #[error("there is no log: nothing was ever registered in this namespace, or the broker has lost everything")]
    NoStream,
    /// It lies in the future.
    #[error("revision {wanted} is above {last}, the end of the log")]
    Ahead {
        /// The revision asked for.
        wanted: u64,
        /// The last there is.
        last: u64,
    },
    /// Another log was in force there.
    #[error("log {found} was in force at revision {revision}, not {wanted}")]
    OtherEpoch {
        /// The revision asked for.
        revision: u64,
        /// The log asked for.
        wanted: EpochId,
        /// The log in force there.
        found: EpochId,
    },
    /// No log was in force yet.
    #[error("no log was in force yet at that point")]
    BeforeTheLog,
    /// The events were trimmed, and no checkpoint stands for them.
    #[error(
        "revision {wanted} was trimmed away: the log begins at {first}, and the oldest checkpoint kept is {}",
        oldest.as_deref().unwrap_or("none")
    )]
    Trimmed {
        /// The revision asked for.
        wanted: u64,
        /// The first that the log holds.
        first: u64,
        /// The oldest checkpoint that could be begun from.
        oldest: Option<String>,
    },
    /// A later version wrote what would have to be read.
    #[error("{0}")]
    Foreign(String),
    /// The log in force at the beginning of what is left has to be named.
    #[error("the beginning of the log is gone, and no registry says which log is in force")]
    NeedsEpoch,
}

impl From<AskError> for PastError {
    fn from(error: AskError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Past {
    /// Of the log of a namespace.
    #[must_use]
    pub fn new(client: Client, subjects: Subjects) -> Self {
        Self { client, subjects }
    }

    /// What the stream holds.
    ///
    /// # Errors
    /// [`PastError::NoStream`], [`PastError::Unreadable`].
    pub async fn span(&self) -> Result<Span, PastError> {
        let info = stream::info(&self.client, &self.subjects, TIMEOUT).await?.ok_or(PastError::NoStream)?;
        Ok(Span {
            first: info.state.first_sequence.max(1),
            last: info.state.last_sequence,
            created_at: Timestamp::from_nanoseconds(info.created.unix_timestamp_nanos()),
        })
    }

    /// The last revision at a point.
    ///
    /// # Errors
    /// [`PastError::Ahead`], [`PastError::BeforeTheLog`], [`PastError::Unreadable`].
    pub async fn revision_at(&self, at: At, span: Span) -> Result<u64, PastError> {
        let revision = match at {
            At::Revision(wanted) if wanted.sequence() > span.last => {
                return Err(PastError::Ahead { wanted: wanted.sequence(), last: span.last });
            }
            At::Revision(wanted) => wanted.sequence(),
            At::Time(time) => {
                let after = Timestamp::from_ms(time.as_ms().saturating_add(1));
                let range = (span.first, span.last + 1);
                trimming::first_since(&self.client, &self.subjects, range, after).await?.saturating_sub(1)
            }
        };
        if revision == 0 { Err(PastError::BeforeTheLog) } else { Ok(revision) }
    }

    /// The catalog as it was at a point, bit for bit.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub async fn catalog_at(&self, at: At) -> Result<Catalog, PastError> {
        let span = self.span().await?;
        let revision = self.revision_at(at, span).await?;
        let (mut catalog, from) = self.start(revision, span).await?;
        let wanted = catalog.revision().max(revision);
        let mut expected = from;
        let (all, catalog_ref) = (vec![self.subjects.all_events()], &mut catalog);
        self.each(all, from, revision, |record| {
            if record.sequence != expected {
                return Err(PastError::Unreadable(format!("revision {expected} is missing")));
            }
            expected += 1;
            catalog_ref.fold(&self.subjects, record);
            Ok(())
        })
        .await?;
        if catalog.revision() != wanted {
            return Err(PastError::Unreadable(format!("it ended at {} before {wanted}", catalog.revision())));
        }
        if !catalog.is_supported() {
            let version = catalog.fold_version();
            return Err(PastError::Foreign(format!(
                "fold version {version} was in force there: upgrade this software"
            )));
        }
        match (at, catalog.epoch()) {
            (_, None) => Err(PastError::BeforeTheLog),
            (At::Revision(asked), Some(found)) if asked.epoch().is_some_and(|epoch| epoch != found) => {
                Err(PastError::OtherEpoch { revision, wanted: asked.epoch().unwrap_or(found), found })
            }
            _ => Ok(catalog),
        }
    }

    /// The nearest catalog before a revision, and the first event to be folded into it.
    async fn start(&self, revision: u64, span: Span) -> Result<(Catalog, u64), PastError> {
        let stored = inspection::epochs(&self.client, &self.subjects, TIMEOUT).await?;
        let epochs: Vec<Record<'_>> =
            stored.iter().map(|event| event.as_record()).filter(|record| record.sequence <= revision).collect();
        let in_log = epochs::in_force(&self.subjects, &epochs).map(|(began, _)| began).filter(|_| span.first <= 1);
        let checkpoints = self.checkpoints().await?;
        let is_nearer = |checkpoint: &Revision| {
            checkpoint.sequence() <= revision
                && Some(checkpoint.sequence()) >= in_log
                && epochs::in_force_after(&self.subjects, *checkpoint, &epochs) == checkpoint.epoch()
        };
        let mut left: Vec<Revision> = checkpoints.iter().copied().filter(is_nearer).collect();
        left.sort_unstable_by_key(Revision::sequence);
        let mut foreign = None;
        while let Some(nearest) = left.pop() {
            match self.checkpoint(nearest, span).await? {
                Ok(checkpoint) => return Ok((checkpoint.catalog().clone(), nearest.sequence() + 1)),
                Err(reason) => foreign = foreign.or(reason),
            }
        }
        match (in_log, foreign) {
            (Some(began), _) => Ok((Catalog::default(), began)),
            (None, Some(foreign)) => Err(PastError::Foreign(foreign)),
            (None, None) if span.first <= 1 => Err(PastError::BeforeTheLog),
            (None, None) => {
                let mut kept = checkpoints;
                kept.sort_unstable_by_key(Revision::sequence);
                let oldest = kept.first().map(|oldest| oldest.sequence().to_string());
                Err(PastError::Trimmed { wanted: revision, first: span.first, oldest })
            }
        }
    }

    /// All checkpoints there are, of whatever log; none where there is no store.
    async fn checkpoints(&self) -> Result<Vec<Revision>, PastError> {
        let context = jetstream::new(self.client.clone());
        let unreadable = |reason| PastError::Unreadable(format!("the store for checkpoints: {reason}"));
        match checkpoint_store::open(&context, &self.subjects).await.map_err(unreadable)? {
            Some(store) => checkpoint_store::names(&store).await.map_err(unreadable),
            None => Ok(Vec::new()),
        }
    }

    /// A checkpoint, if its event stands in the stream; else why not, if only a later version could read it.
    async fn checkpoint(
        &self,
        wanted: Revision,
        span: Span,
    ) -> Result<Result<Box<Checkpoint>, Option<String>>, PastError> {
        let context = jetstream::new(self.client.clone());
        let unreadable = |reason| PastError::Unreadable(format!("the store for checkpoints: {reason}"));
        let Some(store) = checkpoint_store::open(&context, &self.subjects).await.map_err(unreadable)? else {
            return Ok(Err(None));
        };
        let checkpoint = match checkpoint_store::load_checkpoint(&context, &self.subjects, &store, wanted).await {
            Found::Whole(checkpoint) if checkpoint.revision() == wanted => checkpoint,
            Found::Whole(_) | Found::Broken(_) => return Ok(Err(None)),
            Found::Foreign(reason) => return Ok(Err(Some(format!("checkpoint {}: {reason}", name(wanted))))),
            Found::Unreachable(reason) => return Err(unreadable(reason)),
        };
        let own = json!({ "seq": wanted.sequence() });
        let own = inspection::event(&self.client, &self.subjects, own, TIMEOUT).await?;
        let stands = match &own {
            Some(own) => checkpoint.catalog().folded_last(&own.as_record()),
            None => wanted.sequence() + 1 == span.first && checkpoint.stream_created_at() == Some(span.created_at),
        };
        Ok(if stands { Ok(checkpoint) } else { Err(None) })
    }

    /// The oldest checkpoint that stands for what the log no longer holds. A store that cannot be read has none.
    async fn oldest_checkpoint(&self, span: Span) -> Option<Box<Checkpoint>> {
        let mut checkpoints = self.checkpoints().await.unwrap_or_default();
        checkpoints.retain(|checkpoint| checkpoint.sequence() + 1 >= span.first && checkpoint.sequence() <= span.last);
        checkpoints.sort_unstable_by_key(Revision::sequence);
        for checkpoint in checkpoints {
            if let Ok(Ok(checkpoint)) = self.checkpoint(checkpoint, span).await {
                return Some(checkpoint);
            }
        }
        None
    }
}
