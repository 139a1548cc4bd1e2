//! A wall clock that a test sets under a program, by libfaketime (Debian: `faketime`), if the machine has it.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

/// The variant for programs with several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Where the library is, if it is there.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let found = directories.map(|directory| directory.join(LIBRARY)).find(|path| path.is_file());
    found.or_else(|| Some(PathBuf::from("/usr/lib").join(LIBRARY)).filter(|path| path.is_file()))
}

/// The wall clock of the programs that are started with its environment. Their monotonic clock goes on as it is, as it
/// does when somebody sets a host's clock.
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    directory: TempDir,
}

impl FakeClock {
    /// A clock that is right; none if the library is not there.
    #[must_use]
    pub fn new() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("muster-clock-").tempdir().ok()?;
        let clock = Self { library: library()?, directory };
        clock.set(0);
        Some(clock)
    }

    /// Sets it to so many seconds from the true time, at once and under programs that run.
    ///
    /// # Panics
    /// If the temporary directory is not writable.
    pub fn set(&self, offset_s: i64) {
        // Renamed into place: a program never reads half of it.
        let scratch = self.directory.path().join("new");
        fs::write(&scratch, format!("{offset_s:+}\n")).expect("the temporary directory is writable");
        fs::rename(&scratch, self.file()).expect("the temporary directory is writable");
    }

    /// For the programs whose clock it is.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }
}
