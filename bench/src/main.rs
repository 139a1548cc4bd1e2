//! Measures floor, Muster and its peers on the same work: in one run, on one machine, in turns.
//!
//! Every system is a process of its own, and so is the load where that matters. A figure means nothing by itself: read the
//! ratios.

mod report;
mod goals;
mod machine;
mod measure;
mod payload;
mod stand;
mod floor;
mod raw_consumers;
mod peers;
mod work;
mod profile;
mod flame;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use report::Report;

/// The registry's: what is measured in this process is measured as it is there, and the floor has no worse one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures floor, Muster and its peers on the same work.
#[derive(Parser)]
#[command(name = "muster-bench")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What to measure.
#[derive(clap::Args)]
struct Options {
    /// Fewer and smaller: within five minutes.
    #[arg(long)]
    quick: bool,
    /// Where the figures go, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Peers to measure; `none` for none.
    #[arg(long, value_delimiter = ',', default_value = "nats-kv,etcd,consul")]
    peers: Vec<String>,
    /// Measure nothing: write down where the registry's instructions go under load.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Measure nothing: draw where the registry's time goes under load, as SVG.
    #[arg(long, value_name = "FILE")]
    flame: Option<PathBuf>,
    /// With --flame: this registry, for instance one built from an earlier commit.
    #[arg(long, value_name = "PROGRAM", requires = "flame")]
    registry: Option<PathBuf>,
    /// Only works whose name holds one of these.
    #[arg(long, value_name = "WORK", value_delimiter = ',')]
    only: Vec<String>,
}

/// Processes of this program beside the one that measures.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Relay { url: String, change_bytes: usize },
    #[command(hide = true)]
    Echo { url: String },
    #[command(hide = true)]
    Sink { url: String },
    #[command(hide = true)]
    Catalog { instances: usize },
    #[command(hide = true)]
    Fleet { agents: usize },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Relay { url, change_bytes }) => runtime(true)?.block_on(floor::relay(&url, change_bytes)),
        Some(Role::Echo { url }) => runtime(true)?.block_on(floor::echo(&url)),
        Some(Role::Sink { url }) => runtime(true)?.block_on(floor::sink(&url)),
        Some(Role::Catalog { instances }) if std::env::var_os(work::catalog::RESTORE).is_some() => {
            work::catalog::restore(instances)
        }
        Some(Role::Catalog { instances }) => work::catalog::measure(instances),
        Some(Role::Fleet { agents }) => work::fleet::simulate(agents),
        None => match &arguments.options {
            Options { profile: Some(file), .. } => runtime(false)?.block_on(profile::profile(file)),
            Options { flame: Some(file), registry, .. } => {
                let registry = registry.clone().unwrap_or_else(|| muster_tests::bin("muster-registry"));
                runtime(false)?.block_on(flame::flame(&registry, file))
            }
            options => bench(options),
        },
    }
}

/// The floors have one thread: with more they would be slower, for each would have to be woken.
fn runtime(one_thread: bool) -> Result<Runtime> {
    let mut builder = if one_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    Ok(builder.enable_all().build()?)
}

/// No work takes longer: one that waits for what does not come must not cost the others their turn.
const WORK_MAX: Duration = Duration::from_secs(600);

/// Why there are no figures of it.
const NO_CONSUL: &str = "no ordinary package client installed it. apt (Debian 12): no package `consul`. pip and npm: no package `consul-bin`. \
    `go install github.com/hashicorp/consul@v…` (tried: 1.22.2, 1.14.4, 1.10.4): refused, its go.mod replaces \
    other modules. A module of one's own that requires it: 1.22.2, 1.21.0, 1.20.2 and 1.18.1 do not build, for versions of its own parts that it \
    names are not in Go's checksum database; 1.14.4 takes a quarter of an hour to download and was not built yet, 1.10.4 was not \
    downloaded within six minutes: whether these build is not known";

fn bench(options: &Options) -> Result<()> {
    let etcd = stand::etcd();
    let registry = muster_tests::bin("muster-registry");
    let mut report = Report {
        machine: machine::machine(),
        versions: machine::versions(&muster_tests::tools::nats_server(), &registry, etcd.as_deref()),
        quick: options.quick,
        results: Vec::new(),
        ratios: Vec::new(),
        missing: Vec::new(),
    };
    let began = Instant::now();
    let mut seconds = BTreeMap::new();
    for (index, work) in work::ALL.iter().enumerate() {
        if !options.only.is_empty() && !options.only.iter().any(|only| work.name.contains(only.as_str())) {
            continue;
        }
        let started = Instant::now();
        let elapsed = began.elapsed().as_secs();
        println!("\n[{}/{}, {}:{:02}] {}", index + 1, work::ALL.len(), elapsed / 60, elapsed % 60, work.name);
        let context = work::Context { quick: options.quick, peers: &options.peers, etcd: etcd.clone() };
        let runtime = runtime(work.one_thread)?;
        // Whatever goes wrong in one work, the others are measured.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async { tokio::time::timeout(WORK_MAX, (work.run)(context, &mut report)).await })
        }));
        match outcome {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => report.missing(work.name, format!("{error:#}")),
            Ok(Err(_)) => report.missing(work.name, format!("not done within {} s", WORK_MAX.as_secs())),
            Err(_) => report.missing(work.name, "given up: what it waited for did not come (see the output)"),
        }
        runtime.shutdown_background();
        // What is measured already is not lost with what comes.
        if let Some(file) = &options.json {
            std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
        }
        seconds.insert(work.name, started.elapsed().as_secs_f64());
    }
    report.machine.insert("load after (1, 5, 15 minutes)", machine::load());
    if options.peers.iter().any(|peer| peer == "consul") {
        report.missing("consul", NO_CONSUL);
    }
    println!("\nRatios");
    report.compare();
    println!("\n{:.0} s in all: {seconds:.0?}", began.elapsed().as_secs_f64());
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
}
