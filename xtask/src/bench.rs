//! `cargo xtask bench`: builds what is measured, fetches the peers, measures, and writes what was measured.

mod etcd;
mod page;
mod plot;
mod reasons;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::progress::say;
use crate::{run, setup, workspace};

/// What to measure, and where the figures go.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only install and build what is measured.
    #[arg(long)]
    setup: bool,
    /// Fewer and smaller: within 5 minutes instead of 30.
    #[arg(long)]
    quick: bool,
    /// Where the figures go, as JSON [default: `target/bench.json`]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Peers to measure beside floor and Muster; `none` for none.
    #[arg(long, value_name = "PEER", value_delimiter = ',', default_value = "nats-kv,etcd,consul")]
    peers: Vec<String>,
    /// Only works whose name holds one of these.
    #[arg(long, value_name = "WORK", value_delimiter = ',')]
    only: Vec<String>,
    /// Write docs/performance.md and its plots from what was measured.
    #[arg(long)]
    docs: bool,
    /// Measure nothing: count where the registry's instructions go under load, draw where its time goes, and write both to
    /// the page.
    #[arg(long)]
    profile: bool,
    /// With --profile: what is counted is what later counts are held against.
    #[arg(long, requires = "profile")]
    as_before: bool,
    /// Measure nothing: write docs/performance.md and its plots from this JSON.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

/// The figures that the page shows.
const FIGURES: &str = "docs/performance.json";
const PAGE: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";

pub(crate) fn bench(options: &Options) -> Result<()> {
    if let Some(file) = &options.from {
        return write_docs(file);
    }
    setup::compiler_is_there()?;
    let server = setup::pinned_nats_server()?;
    let etcd = match etcd::install() {
        Ok(etcd) => Some(etcd),
        Err(error) => {
            say!("  etcd         missing: {error:#}");
            None
        }
    };
    say!("Building the release programs (the first time this takes some minutes)");
    let packages = ["-p", "muster-bench", "-p", "muster-registry", "-p", "muster-agent"];
    if !run::shown_through(workspace::cargo().args(["build", "--release"]).args(packages))? {
        bail!("the programs were not built; cargo's output is above");
    }
    if options.setup {
        return Ok(());
    }
    if options.profile {
        return profile(&server, options.as_before);
    }
    let json = options.json.clone().unwrap_or_else(|| workspace::target().join("bench.json"));
    let program = workspace::target().join("release").join("muster-bench");
    let mut command = std::process::Command::new(program);
    command.env("MUSTER_TEST_NATS_SERVER", server).arg("--json").arg(&json);
    command.arg("--peers").arg(options.peers.join(","));
    command.args(options.quick.then_some("--quick"));
    if let Some(etcd) = etcd {
        command.env("MUSTER_BENCH_ETCD", etcd);
    }
    for only in &options.only {
        command.arg("--only").arg(only);
    }
    if !run::shown_through(&mut command)? {
        bail!("not everything was measured; what was is in {}", json.display());
    }
    say!("The figures are in {}", json.display());
    if options.docs { write_docs(&json) } else { Ok(()) }
}

/// Counts, writes the counts down, and the page anew with them.
fn profile(server: &Path, as_before: bool) -> Result<()> {
    if std::process::Command::new("valgrind").arg("--version").output().is_err() {
        say!("Skipped: valgrind is not installed (Debian: apt install valgrind)");
        return Ok(());
    }
    let counted = workspace::target().join("profile.json");
    let program = workspace::target().join("release").join("muster-bench");
    let mut command = std::process::Command::new(program);
    command.env("MUSTER_TEST_NATS_SERVER", server).arg("--profile").arg(&counted);
    if !run::shown_through(&mut command)? {
        bail!("nothing was counted; the output is above");
    }
    let root = workspace::root();
    let mut profiles: Value = serde_json::from_str(&fs::read_to_string(root.join(reasons::PROFILES))?)?;
    profiles[if as_before { "before" } else { "now" }] = serde_json::from_str(&fs::read_to_string(&counted)?)?;
    fs::write(root.join(reasons::PROFILES), format!("{}\n", serde_json::to_string_pretty(&profiles)?))?;
    draw_flames(server, &root.join(flames(if as_before { "before" } else { "now" })))?;
    if root.join(FIGURES).is_file() { write_docs(&root.join(FIGURES)) } else { Ok(()) }
}

fn draw_flames(server: &Path, file: &Path) -> Result<()> {
    if std::process::Command::new("perf").arg("--version").output().is_err() {
        say!("Skipped the flame graph: perf is not installed (Debian: apt install linux-perf)");
        return Ok(());
    }
    let program = workspace::target().join("release").join("muster-bench");
    let mut command = std::process::Command::new(program);
    command.env("MUSTER_TEST_NATS_SERVER", server).arg("--flame").arg(file);
    if !run::shown_through(&mut command)? {
        bail!("nothing was drawn; the output is above");
    }
    Ok(())
}

/// Where the flame graph of `before` or `now` is.
fn flames(when: &str) -> String {
    format!("{PLOTS}/flames-{when}.svg")
}

fn write_docs(figures: &Path) -> Result<()> {
    let text = fs::read_to_string(figures).with_context(|| format!("cannot read {}", figures.display()))?;
    let report: Value = serde_json::from_str(&text)?;
    let root = workspace::root();
    fs::write(root.join(FIGURES), format!("{}\n", text.trim_end()))?;
    for (name, content) in pages(&report)? {
        let path = root.join(&name);
        fs::create_dir_all(path.parent().expect("a file lies in a directory"))?;
        fs::write(path, content)?;
        say!("  {name}");
    }
    Ok(())
}

/// Every file that is made from the figures.
fn pages(report: &Value) -> Result<Vec<(String, String)>> {
    let read = |name: &str| fs::read_to_string(workspace::root().join(name)).with_context(|| name.to_owned());
    let mut unmet = reasons::unmet(report, &read(reasons::REASONS)?, &read(reasons::PROFILES)?)?;
    for (when, words) in [("before", "Before the work on it"), ("now", "Now")] {
        if workspace::root().join(flames(when)).is_file() {
            let _ = write!(
                unmet,
                "\n{words}, as a flame graph, sampled by `perf` with the kernel in it:\n\n![{words}](performance/flames-{when}.svg)\n"
            );
        }
    }
    let plots = plot::plots(report);
    let names: Vec<&str> = plots.iter().map(|(name, _)| *name).collect();
    let page = (PAGE.to_owned(), page::page(report, &names, &unmet));
    let plots = plots.iter().map(|(name, plot)| (format!("{PLOTS}/{name}.svg"), plot.clone()));
    Ok(plots.chain([page]).collect())
}

/// Refuses pages that say something else than the committed figures.
pub(crate) fn check() -> Result<()> {
    let root = workspace::root();
    if !root.join(FIGURES).is_file() {
        return Ok(());
    }
    let figures = fs::read_to_string(root.join(FIGURES)).context(FIGURES)?;
    let report: Value = serde_json::from_str(&figures).context(FIGURES)?;
    for (name, content) in pages(&report)? {
        if fs::read_to_string(root.join(&name)).unwrap_or_default() != content {
            bail!(
                "{name} is not what {FIGURES} says: run `cargo xtask bench --from {FIGURES}` and commit what it writes"
            );
        }
    }
    Ok(())
}
