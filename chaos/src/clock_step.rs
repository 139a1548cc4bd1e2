//! Clocks of single processes that jump, through libfaketime where the system has it.

use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// Where the clocks of the processes are set.
#[derive(Debug)]
pub(crate) struct ClockSteps {
    library: Option<&'static str>,
    directory: PathBuf,
}

impl ClockSteps {
    pub(crate) fn new(directory: &Path) -> Self {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).is_file());
        Self { library, directory: directory.to_path_buf() }
    }

    /// Why clocks cannot be stepped, if they cannot.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.library.is_none().then_some("this system has no libfaketime (Debian's package `libfaketime`)")
    }

    /// What a process needs in its environment so that its clock can be stepped.
    pub(crate) fn environment(&self, name: &str) -> Vec<(&'static str, String)> {
        let Some(library) = self.library else { return Vec::new() };
        self.step(name, 0);
        vec![
            ("LD_PRELOAD", library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file(name).to_string_lossy().into_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // What only measures time goes on as before, as on a host whose clock is set.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// Sets a process's clock so many seconds off.
    pub(crate) fn step(&self, name: &str, seconds: i64) {
        let file = self.file(name);
        // Renamed into place: a process that reads meanwhile sees the one or the other.
        let fresh = file.with_extension("new");
        let written = std::fs::write(&fresh, format!("{seconds:+}s\n")).and_then(|()| std::fs::rename(&fresh, &file));
        written.expect("the stage's directory is writable");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.clock"))
    }
}
