//! A Python environment with the pinned NATS client, for the test that another language can join from the documents.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::install_whole;
use crate::progress::say;
use crate::{run, workspace};

const REQUIREMENTS: &str = include_str!("../../python.txt");
/// What was installed, kept inside the environment to know when it is stale.
const INSTALLED: &str = "installed.txt";

pub(super) fn install() -> Result<()> {
    let place = workspace::tools().join("python");
    let version = workspace::pinned_version(REQUIREMENTS, "nats-py");
    if is_current(&place) {
        say!("  nats-py      {version}, already there");
        return Ok(());
    }
    say!("  nats-py      {version}: downloading");
    install_whole(&place, create)?;
    say!("  nats-py      {version} is in {}", place.display());
    Ok(())
}

fn is_current(place: &Path) -> bool {
    let same = fs::read_to_string(place.join(INSTALLED)).is_ok_and(|installed| installed == REQUIREMENTS);
    same && Command::new(workspace::python()).args(["-c", "import nats"]).output().is_ok_and(|it| it.status.success())
}

/// Without pip inside: Debian keeps the part of `venv` that would install it in a package of its own.
fn create(scratch: &Path) -> Result<()> {
    run::quietly(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(scratch))?;
    let where_packages_go = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let packages = run::quietly(Command::new(scratch.join("bin/python")).args(["-c", where_packages_go]))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--no-deps"])
        .args(["--only-binary=:all:", "--target", packages.trim(), "--requirement"])
        .arg(workspace::root().join("xtask/python.txt"));
    run::quietly(&mut pip).context("cannot install nats-py from PyPI")?;
    fs::write(scratch.join(INSTALLED), REQUIREMENTS)?;
    Ok(())
}
