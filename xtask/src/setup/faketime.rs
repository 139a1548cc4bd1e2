//! libfaketime, with which tests set the clocks of programs: a package of the system. Without it those tests are skipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::progress::say;

/// The variant for programs with several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const PACKAGE: &str = "faketime";

/// Installs the package if it is missing and this is root on a Debian; never fails.
pub(super) fn install() {
    if library().is_some() {
        say!("  faketime     already there");
        return;
    }
    if !may_install() {
        say!("  faketime     not there: tests that set clocks will be skipped (Debian: apt-get install {PACKAGE})");
        return;
    }
    say!("  faketime     installing the system's package");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq", "-o", "DPkg::Lock::Timeout=60"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install = ["install", "-y", "--no-install-recommends", PACKAGE];
    let installed = apt(&install) || (apt(&["update"]) && apt(&install));
    if !installed || library().is_none() {
        say!("  faketime     cannot be installed: tests that set clocks will be skipped");
    }
}

fn library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    directories.map(|directory| directory.join(LIBRARY)).find(|path| path.is_file())
}

fn may_install() -> bool {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    is_root && Path::new("/usr/bin/apt-get").exists()
}
