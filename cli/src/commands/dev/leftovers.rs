//! Temporary directories that an earlier `muster dev` left behind because it was killed.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// How the names of all of them begin.
pub(super) const PREFIX: &str = "muster-dev-";
/// The file in each that whoever uses it holds locked; the system unlocks it however that one ends.
pub(super) const LOCK_FILE: &str = "dev.lock";
/// A younger one may belong to somebody who has not locked it yet.
const SETTLED: Duration = Duration::from_secs(60);

/// Removes those below `place` that nobody uses any more. One that cannot be removed, because it is another user's, for
/// instance, is left alone.
pub(super) fn clear(place: &Path) {
    clear_older_than(place, SETTLED);
}

fn clear_older_than(place: &Path, age: Duration) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let are_ours = |entry: &fs::DirEntry| {
        // A link is none: what it leads to is somebody else's.
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name().to_string_lossy().starts_with(PREFIX)
    };
    for directory in entries.filter(are_ours).map(|entry| entry.path()) {
        let Ok(lock) = File::options().write(true).open(directory.join(LOCK_FILE)) else { continue };
        let modified = lock.metadata().and_then(|metadata| metadata.modified());
        let is_settled = modified.is_ok_and(|at| at.elapsed().is_ok_and(|elapsed| elapsed >= age));
        if is_settled && lock.try_lock().is_ok() {
            // The next start tries what stays.
            let _ = fs::remove_dir_all(&directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_goes_and_everything_else_stays() {
        let place = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let directory = place.path().join(name);
            fs::create_dir(&directory).unwrap();
            (File::create(directory.join(LOCK_FILE)).unwrap(), directory)
        };
        let (_, left) = make("muster-dev-left");
        let (held, used) = make("muster-dev-used");
        held.try_lock().unwrap();
        let (_, other) = make("somebody-else");
        let bare = place.path().join("muster-dev-bare");
        fs::create_dir(&bare).unwrap();
        clear_older_than(place.path(), SETTLED);
        assert!(left.exists(), "it may be somebody's who has just begun");
        clear_older_than(place.path(), Duration::ZERO);
        assert!(!left.exists());
        assert!(used.exists() && other.exists() && bare.exists());
        drop(held);
        clear_older_than(place.path(), Duration::ZERO);
        assert!(!used.exists());
    }
}
