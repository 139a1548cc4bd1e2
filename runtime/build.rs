//! Tells the code which commit it was built from.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=MUSTER_BUILD_COMMIT");
    // `.git/logs/HEAD` changes at every commit, `.git/HEAD` only at a checkout. A debug build watches the second, so
    // that a commit does not recompile everything, and says "or later".
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let watched = if release { "logs/HEAD" } else { "HEAD" };
    println!("cargo:rerun-if-changed=build.rs");
    // Git knows where it is: a work tree beside the first one has `.git` as a file.
    if let Some(watched) = git(&["rev-parse", "--git-path", watched]).filter(|path| Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={watched}");
    }

    let commit = std::env::var("MUSTER_BUILD_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| commit_of_work_tree().map(|commit| if release { commit } else { commit + " or later" }))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=MUSTER_BUILD_COMMIT={commit}");
}

fn commit_of_work_tree() -> Option<String> {
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What git says in this directory, if it says anything.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}
