//! `cargo xtask demo`: finds a nats-server, builds the programs, and becomes the demo, which is a program of its own.
//!
//! This one is built within seconds, so that a newcomer sees at once that something happens.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::{leave_stdout_alone, say};
use crate::{run, setup, workspace};

const NAME: &str = "nats-server";
/// Packages whose programs, and what only those are built from, the demo does without.
const NOT_SHOWN: [&str; 3] = ["muster-bench", "muster-chaos", "muster-models"];
/// Major and minor of the oldest broker that will do.
const VERSION_MINIMUM: (u32, u32) = (2, 11);

/// What to show, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print the promises as JSON, and nothing else, on standard output.
    #[arg(long)]
    json: bool,
    /// Leave everything running until Ctrl-C, and say what to try.
    #[arg(long)]
    stay: bool,
    /// The broker's program; by default the one on PATH, if it is 2.11 or newer, else the pinned one.
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
}

/// Only returns if it does not get as far as the demo.
pub(crate) fn demo(options: &Options) -> Result<bool> {
    if options.json {
        leave_stdout_alone();
    }
    say!("Muster's demo: a broker, two registries, four services; less than a minute once everything is built");
    setup::compiler_is_there()?;
    let server = nats_server(options.nats_server.as_deref())?;
    say!("Building the programs (the first time this takes some minutes)");
    let unneeded = NOT_SHOWN.iter().flat_map(|package| ["--exclude", package]);
    if !run::shown_through(workspace::cargo().args(["build", "--workspace", "--bins"]).args(unneeded))? {
        bail!("the programs were not built; cargo's output is above");
    }
    let program = workspace::target().join("debug").join("muster-demo");
    let mut command = Command::new(&program);
    command.arg("--nats-server").arg(server);
    command.args(options.json.then_some("--json")).args(options.stay.then_some("--stay"));
    // Ctrl-C, standard output and exit code are the demo's own from here on.
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

fn nats_server(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        let version = usable(path).with_context(|| format!("--nats-server {}", path.display()))?;
        say!("  nats-server  {version}, {}", path.display());
        return Ok(path.to_path_buf());
    }
    let directories: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    for path in directories.iter().map(|directory| directory.join(NAME)).filter(|path| path.is_file()) {
        match usable(&path) {
            Ok(version) => {
                say!("  nats-server  {version}, {} (on PATH)", path.display());
                return Ok(path);
            }
            Err(why) => say!("  nats-server  passing over {}: {why:#}", path.display()),
        }
    }
    let path = setup::pinned_nats_server()?;
    say!("  nats-server  the pinned one, {}", path.display());
    Ok(path)
}

/// Its version, if it is new enough.
fn usable(path: &Path) -> Result<String> {
    let version = setup::nats_server_version(path)?;
    if !is_recent_enough(&version) {
        let (major, minor) = VERSION_MINIMUM;
        bail!("it says that it is version {version:?}, and {major}.{minor} or newer is needed");
    }
    Ok(version)
}

fn is_recent_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    matches!((numbers.next().flatten(), numbers.next().flatten()), (Some(major), Some(minor)) if (major, minor) >= VERSION_MINIMUM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_older_than_2_11_is_refused() {
        for recent in ["2.11.0", "2.15.1", "3.0.0-beta.1", "2.12.0-RC.2"] {
            assert!(is_recent_enough(recent), "{recent}");
        }
        for old in ["2.10.29", "1.99.0", "", "something else", "2"] {
            assert!(!is_recent_enough(old), "{old}");
        }
    }

    #[test]
    fn what_is_named_must_be_there() {
        let error = nats_server(Some(Path::new("/nonesuch/nats-server"))).unwrap_err();
        assert!(format!("{error:#}").contains("--nats-server /nonesuch/nats-server"), "{error:#}");
    }
}
