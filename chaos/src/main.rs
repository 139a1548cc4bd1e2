//! `muster-chaos`: a run, its table, its JSON, its exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use muster_chaos::run::{Options, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// Harms a whole Muster on a cluster at random, and judges what consumers see of it.
#[derive(Parser)]
#[command(name = "muster-chaos")]
struct Arguments {
    /// What the schedule of faults follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// For how long faults are injected
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Where the figures go as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where everybody's logs go if something is wrong
    #[arg(long, value_name = "DIRECTORY", default_value = "chaos-logs")]
    logs: PathBuf,
    /// The broker's program, instead of the pinned one
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seed, minutes, json, logs, nats_server } = Arguments::parse();
    let options = Options { seed, minutes, nats_server, logs };
    let local = LocalSet::new();
    // Whatever was started is killed by its number when it goes out of scope, also after a signal.
    let report = tokio::select! {
        report = local.run_until(run(&options)) => report,
        () = told_to_stop() => return ExitCode::from(130),
    };
    drop(local);
    println!("\n{}", report.to_table());
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report).expect("plain data");
        if let Err(error) = std::fs::write(&path, text + "\n") {
            eprintln!("muster-chaos: cannot write {}: {error}", path.display());
            return ExitCode::from(74);
        }
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn told_to_stop() {
    let listen = |kind| signal(kind).expect("signals can be listened to");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    let mut hang_up = listen(SignalKind::hangup());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}
