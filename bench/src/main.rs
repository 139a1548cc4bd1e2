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

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.role {
        Some(Role::Relay { url, change_bytes }) => runtime.block_on(floor::relay(&url, change_bytes)),
        Some(Role::Echo { url }) => runtime.block_on(floor::echo(&url)),
        Some(Role::Sink { url }) => runtime.block_on(floor::sink(&url)),
        Some(Role::Catalog { instances }) if std::env::var_os(work::catalog::RESTORE).is_some() => {
            work::catalog::restore(instances)
        }
        Some(Role::Catalog { instances }) => work::catalog::measure(instances),
        None => runtime.block_on(bench(&arguments.options)),
    }
}

/// Why there are no figures of it.
const NO_CONSUL: &str = "no ordinary package client installs it: neither Debian, PyPI nor npm has its server, and `go install` \
    refuses its module, whose go.mod replaces others";

async fn bench(options: &Options) -> Result<()> {
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
    for work in work::ALL {
        if !options.only.is_empty() && !options.only.iter().any(|only| work.name.contains(only.as_str())) {
            continue;
        }
        let started = Instant::now();
        println!("\n{}", work.name);
        let context = work::Context { quick: options.quick, peers: &options.peers, etcd: etcd.clone() };
        if let Err(error) = (work.run)(context, &mut report).await {
            report.missing(work.name, format!("{error:#}"));
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
