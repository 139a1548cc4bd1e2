//! `muster import`: makes a log of what `muster export` wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use muster_registry::core::catalog::checkpoint::{Checkpoint, Restoring};
use muster_registry::past::{RestoreError, restore};
use muster_schemas::beacon::Beacon;
use muster_schemas::subject::Query;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::CommandError;
use crate::session::Session;
use crate::show::instances;

/// A registry that runs is heard within this time.
const LISTEN: Duration = Duration::from_secs(1);
const PIECE_BYTES: usize = 128 * 1_024;

/// Make a log of what `muster export` wrote; no registry may run meanwhile
#[derive(clap::Args)]
#[command(after_help = "Example:\n  muster import backup.checkpoint\n\n\
                        Stop all registries of the namespace before, and start them afterwards. Revisions, intents and what\n\
                        is kept of the gone come back as they were; whoever has died meanwhile is removed as usual.")]
pub(crate) struct Import {
    /// The file
    file: PathBuf,
    /// Replace the log that is there, with all that it holds
    #[arg(long)]
    force: bool,
    /// How many copies the stream has: 1 on a single broker, 3 in a cluster
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    stream_replicas: u8,
}

impl Import {
    pub(crate) async fn run(&self, session: &Session) -> Result<(), CommandError> {
        let checkpoint = read(&self.file)?;
        if let Some(registry) = running(session).await {
            return Err(CommandError::Failed(format!(
                "registry {registry} is running: it would bring its own catalog back; stop all registries of namespace {} \
                 first",
                session.subjects().namespace()
            )));
        }
        let replicas = usize::from(self.stream_replicas);
        restore(session.client(), session.subjects(), &checkpoint, replicas, self.force).await.map_err(refused)?;
        let catalog = checkpoint.catalog();
        let value = json!({
            "epoch": catalog.epoch(), "revision": catalog.revision(), "digest": catalog.digest(),
            "instances": catalog.instances_count(), "tombstones": catalog.tombstones_count(),
            "intents": catalog.intents_count(),
        });
        session.print(&value, || {
            format!(
                "imported revision {}: {}, {} gone, {} intents; digest {}\nNow start the registries.",
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

fn refused(error: RestoreError) -> CommandError {
    let way_out = match &error {
        RestoreError::Exists { .. } => ": importing would replace it; --force does that, and what it holds is lost",
        RestoreError::Refused(_) => "; run `muster doctor`, then import again with --force",
    };
    CommandError::Failed(format!("{error}{way_out}"))
}

/// The whole file, believed only if its checksum is right.
fn read(path: &Path) -> Result<Checkpoint, CommandError> {
    let failed =
        |error: &dyn std::fmt::Display| CommandError::Failed(format!("{} cannot be imported: {error}", path.display()));
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let (mut restoring, mut piece) = (Restoring::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => restoring.feed(&piece[..length]).map_err(|error| failed(&error))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(restoring.finish().map_err(|error| failed(&error))?.0)
}

/// A registry of the namespace that is heard, or that answers.
async fn running(session: &Session) -> Option<String> {
    let deadline = Instant::now() + LISTEN;
    let mut beacons = session.client().subscribe(session.subjects().all_beacons()).await.ok()?;
    let status = session.client().request(session.subjects().query(&Query::Status), bytes::Bytes::new());
    if let Ok(Ok(answer)) = timeout(LISTEN, status).await {
        let name = serde_json::from_slice::<serde_json::Value>(&answer.payload).ok();
        return Some(name.and_then(|status| status["replica"].as_str().map(str::to_owned)).unwrap_or_default());
    }
    while let Ok(Some(message)) = timeout_at(deadline, beacons.next()).await {
        if let Ok(beacon) = serde_json::from_slice::<Beacon>(&message.payload) {
            return Some(beacon.replica.to_string());
        }
    }
    None
}
