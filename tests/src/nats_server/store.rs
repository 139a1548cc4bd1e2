//! The server's disk: emptied, copied, put back.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tempfile::TempDir;

/// What a server's disk held at one moment.
#[derive(Debug)]
pub struct StoreCopy {
    directory: TempDir,
}

impl StoreCopy {
    pub(super) fn of(store: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("muster-store-").tempdir().expect("a temporary directory");
        copy(store, directory.path());
        Self { directory }
    }

    pub(super) fn put_at(&self, store: &Path) {
        copy(self.directory.path(), store);
    }
}

pub(super) fn remove(store: &Path) {
    match fs::remove_dir_all(store) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("cannot remove {}: {error}", store.display()),
        _ => {}
    }
}

fn copy(from: &Path, to: &Path) {
    let in_vain = |error| panic!("cannot copy {} to {}: {error}", from.display(), to.display());
    fs::create_dir_all(to).unwrap_or_else(in_vain);
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("cannot read {}: {error}", from.display())) {
        let entry = entry.expect("a directory's entries can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).map_or_else(in_vain, |_| ());
        }
    }
}
