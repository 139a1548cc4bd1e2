//! `muster export`: everything that the log says, as a file that `muster import` makes a log of again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use muster_registry::core::catalog::checkpoint::Checkpoint;
use muster_registry::past::Past;
use muster_schemas::MinRevision;
use muster_schemas::history::At;
use serde_json::json;

use crate::error::CommandError;
use crate::session::Session;
use crate::show::instances;

/// Write everything that the log says into a file: instances, what is kept of the gone, and what operators want
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  muster export backup.checkpoint\n  \
                        muster export --at 2026-11-21T09:30:00Z before.checkpoint\n\n\
                        `muster import` makes a log of it again.")]
pub(crate) struct Export {
    /// The file
    file: PathBuf,
    /// As it was at this revision, or at this time by the broker's clock
    #[arg(long, value_name = "REVISION|TIME", value_parser = crate::at::parse)]
    at: Option<At>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Export {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let file = self.file.display();
        if self.file.exists() && !self.force {
            return Err(CommandError::Failed(format!("{file} is there already: name another file, or give --force")));
        }
        let past = Past::new(session.client().clone(), session.subjects().clone());
        let at = match self.at {
            Some(at) => at,
            None => At::Revision(MinRevision(None, past.span().await?.last)),
        };
        let catalog = past.catalog_at(at).await?;
        let nothing = || CommandError::Failed("there is no log to export".to_owned());
        let checkpoint = Checkpoint::of(&catalog, None).ok_or_else(nothing)?;
        let failed = |error: io::Error| CommandError::Failed(format!("{file} was not written: {error}"));
        let bytes = write(&self.file, &checkpoint).map_err(failed)?;
        let value = json!({
            "file": self.file, "bytes": bytes, "epoch": catalog.epoch(), "revision": catalog.revision(),
            "digest": catalog.digest(), "instances": catalog.instances_count(),
            "tombstones": catalog.tombstones_count(), "intents": catalog.intents_count(),
        });
        session.print(&value, || {
            format!(
                "exported revision {} to {file}: {}, {} gone, {} intents; digest {}",
                catalog.revision(),
                instances(catalog.instances_count()),
                catalog.tombstones_count(),
                catalog.intents_count(),
                catalog.digest()
            )
        });
        Ok(())
    }
}

/// Never half a file: it is written beside, and then put in its place.
fn write(path: &Path, checkpoint: &Checkpoint) -> io::Result<u64> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::NamedTempFile::new_in(directory)?;
    let mut out = BufWriter::new(File::create(beside.path())?);
    let written = checkpoint.write(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    beside.persist(path).map_err(|error| error.error)?;
    Ok(written.bytes)
}
