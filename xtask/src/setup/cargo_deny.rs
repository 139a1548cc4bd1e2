//! The pinned cargo-deny, built from source: no package index carries a current binary of it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::install_whole;
use crate::progress::say;
use crate::workspace;

const VERSION: &str = "0.20.2";

pub(crate) fn binary() -> PathBuf {
    workspace::tools().join(format!("cargo-deny-{VERSION}")).join("bin").join("cargo-deny")
}

pub(super) fn install() -> Result<()> {
    let binary = binary();
    if Command::new(&binary).arg("--version").output().is_ok_and(|output| output.status.success()) {
        say!("  cargo-deny   {VERSION}, already there");
        return Ok(());
    }
    say!("  cargo-deny   {VERSION}: building (about a minute on two cores)");
    let place = binary.ancestors().nth(2).expect("the binary lies in <place>/bin");
    install_whole(place, |scratch| {
        // It runs for a second per test run: built to be built fast.
        let status = workspace::cargo()
            .args(["install", "cargo-deny", "--locked", "--version", VERSION, "--no-default-features", "--no-track"])
            .arg("--root")
            .arg(scratch)
            .env("PATH", path_with(&scratch.join("bin"))?)
            .env("CARGO_TARGET_DIR", workspace::tools().join("build-cargo-deny"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .status()
            .context("cannot run cargo install")?;
        anyhow::ensure!(status.success(), "cargo install cargo-deny failed ({status}); its output is above");
        Ok(())
    })?;
    let build = workspace::tools().join("build-cargo-deny");
    std::fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))?;
    Ok(())
}

/// With the place on the path, cargo does not advise to put it there.
fn path_with(directory: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(directory.to_path_buf()).chain(env::split_paths(&path));
    Ok(env::join_paths(directories)?)
}
