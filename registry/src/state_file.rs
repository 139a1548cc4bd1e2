//! The catalog on the local disk: written whole beside the one before, then put in its place, so that there is always one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use muster_schemas::Subjects;

use crate::checkpoint_threads::CheckpointThreads;
use crate::core::catalog::checkpoint::{Checkpoint, CheckpointError, Restoring};

/// How much is read at once.
const PIECE_BYTES: usize = 128 * 1_024;

/// Where a replica keeps its catalog.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    directory: PathBuf,
    path: PathBuf,
    /// One writes at a time.
    writing: Arc<Mutex<()>>,
}

/// Why there is nothing to be remembered, although there is a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl StateFile {
    /// In a directory, which is made if it is missing, and must allow files to be made.
    pub(crate) fn open(directory: &Path, subjects: &Subjects) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{}.checkpoint", subjects.stream_name()));
        let file = Self { directory: directory.to_owned(), path, writing: Arc::default() };
        File::create(file.beside("try"))?;
        fs::remove_file(file.beside("try"))?;
        Ok(file)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.path.with_extension(extension)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is there; `None` if nothing is.
    pub(crate) fn read(&self) -> Result<Option<Checkpoint>, StateError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (mut restoring, mut piece) = (Restoring::read_by(CheckpointThreads::begin()), vec![0; PIECE_BYTES]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Some(restoring.finish()?.0)),
                length => restoring.feed(&piece[..length])?,
            }
        }
    }

    /// Puts a broken one aside, for people to look at.
    pub(crate) fn put_aside(&self) -> io::Result<PathBuf> {
        let aside = self.beside("broken");
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Writes a checkpoint in place of the one before. After an error that one is still there.
    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> io::Result<u64> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.beside("new");
        let mut out = BufWriter::with_capacity(PIECE_BYTES, File::create(&new)?);
        let written = checkpoint.write(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        drop(out);
        fs::rename(&new, &self.path)?;
        // The new name, too, must outlast a power cut.
        File::open(&self.directory)?.sync_all()?;
        Ok(written.bytes)
    }
}

#[cfg(test)]
mod tests {
    use muster_schemas::{Namespace, Prefix};

    use super::*;

    #[test]
    fn what_is_not_a_checkpoint_is_an_error_and_can_be_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let file = StateFile::open(&directory.path().join("deep/er"), &subjects).unwrap();
        assert!(matches!(file.read(), Ok(None)));
        fs::write(file.path(), "rubbish").unwrap();
        assert!(matches!(file.read(), Err(StateError::Checkpoint(CheckpointError::NotACheckpoint))));
        let aside = file.put_aside().unwrap();
        assert_eq!(fs::read_to_string(aside).unwrap(), "rubbish");
        assert!(matches!(file.read(), Ok(None)));
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let subjects = Subjects::new(Prefix::default(), Namespace::default());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(StateFile::open(&file, &subjects).is_err());
    }
}
