//! Where a registry's time goes under load, as a flame graph: sampled from outside while registrations come as fast as they
//! are taken, the kernel included.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;
use muster_tests::ProcessBuilder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::payload::fleet;
use crate::stand::{Broker, Durability, SOON, pipeline, until_instances};

/// Registrations that come meanwhile: some seconds.
const REGISTRATIONS: usize = 100_000;
/// Samples of each thread in a second that it works: not a round number, so that nothing regular is in step with it.
const SAMPLES: &str = "997";
/// Of each sample's stack so many bytes are kept: most have all frames in them.
const STACK: &str = "dwarf,16384";
/// What is narrower, in percent of the whole, is left out.
const WIDTH_MIN: f64 = 0.2;

/// Draws a flame graph of this registry into a file.
pub(crate) async fn flame(registry: &Path, file: &Path) -> Result<()> {
    let version = Command::new("perf").arg("--version").output();
    ensure!(version.is_ok(), "perf is not installed (Debian: apt install linux-perf)");
    let directory = tempfile::tempdir()?;
    let samples = directory.path().join("perf.data");
    let broker = Broker::start(Durability::PageCache, "").await?;
    let registry = ProcessBuilder::new(registry)
        .args(["--server", &broker.server.url(), "--replica-id", "r1", "--listen-period", "200ms"])
        .start();
    registry.wait_for_line("answering queries", SOON).await;
    let client = broker.connect().await;
    let mut perf = Command::new("perf")
        .args(["record", "--freq", SAMPLES, "--call-graph", STACK, "--pid", &registry.pid().to_string(), "--output"])
        .arg(&samples)
        .stderr(Stdio::null())
        .spawn()?;
    let events = fleet(REGISTRATIONS, 0).map(|(subject, bytes)| (subject.into(), bytes));
    pipeline(&client, events, 4_096).await?;
    until_instances(&client, REGISTRATIONS as u64).await;
    // It writes down what it has; how it ends then says nothing.
    kill(Pid::from_raw(i32::try_from(perf.id())?), Signal::SIGINT)?;
    perf.wait()?;
    let script = Command::new("perf").args(["script", "--no-inline", "--input"]).arg(&samples).output()?;
    ensure!(script.status.success(), "perf script: {}", String::from_utf8_lossy(&script.stderr));
    std::fs::write(file, drawn(&script.stdout)?).with_context(|| file.display().to_string())?;
    println!("The flame graph is in {}", file.display());
    Ok(())
}

/// What `perf script` printed, as SVG.
fn drawn(script: &[u8]) -> Result<Vec<u8>> {
    let mut folded = Vec::new();
    Folder::default().collapse(script, &mut folded)?;
    let mut options = flamegraph::Options::default();
    options.title = "muster-registry under load, by threads".into();
    options.deterministic = true;
    options.min_width = WIDTH_MIN;
    let mut svg = Vec::new();
    flamegraph::from_reader(&mut options, folded.as_slice(), &mut svg).context("there are no samples")?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_a_picture_that_names_threads_and_functions_and_none_become_an_error() {
        let script = b"core  7/8  1.0:   1 cycles:\n\t  1 fold+0x1 (/bin/registry)\n\t  2 step+0x2 (/bin/registry)\n\n";
        let svg = String::from_utf8(drawn(script).unwrap()).unwrap();
        for name in ["core", "step", "fold"] {
            assert!(svg.contains(&format!("<title>{name} (")), "{name}: {svg}");
        }
        assert!(drawn(b"").is_err());
    }
}
