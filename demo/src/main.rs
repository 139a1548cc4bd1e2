//! A whole Muster on one machine, harmed on purpose: what was promised to a consumer, and what it saw.
//!
//! `cargo xtask demo` builds this and runs it. Whatever it starts is killed with it, however it ends.

mod acts;
mod live_watch;
mod narrator;
mod promises;
mod stage;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};

use narrator::Narrator;
use promises::Promises;
use stage::Stage;

/// Starts a broker, registries and services, harms them, and shows what a consumer sees.
#[derive(Parser)]
#[command(name = "muster-demo")]
struct Arguments {
    /// The broker's program
    #[arg(long, value_name = "PATH")]
    nats_server: PathBuf,
    /// Print the promises as JSON on standard output, and everything else on standard error
    #[arg(long)]
    json: bool,
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    stay: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let narrator = Narrator::new(arguments.json);
    // What the harness says is written for people; where in the code it says so is not for those who watch a demo.
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", what_went_wrong(panic.payload()))));
    let (stage, code) = tokio::select! {
        performed = perform(&arguments, narrator) => performed,
        name = told_to_stop() => {
            narrator.aside(&format!("{name}: everything that was started here is killed"));
            // As a shell reports a program that an interrupt ended.
            return ExitCode::from(130);
        }
    };
    if let (true, Some(stage)) = (arguments.stay, &stage) {
        narrator.aside(&stage.what_to_try().await);
        let name = told_to_stop().await;
        narrator.aside(&format!("{name}: everything is killed"));
    }
    code
}

/// Plays all acts and tells what came of the promises; what stands then is still running.
async fn perform(arguments: &Arguments, narrator: Narrator) -> (Option<Stage>, ExitCode) {
    let mut promises = Promises::new(narrator);
    // The harness panics where something does not even start. That ends the demo, but its table is still owed.
    let played = AssertUnwindSafe(acts::play(&arguments.nats_server, narrator, &mut promises)).catch_unwind().await;
    let stage =
        played.map_err(|panic| promises.broken_off(what_went_wrong(&*panic).lines().next().unwrap_or_default())).ok();
    let url = stage.as_ref().map(Stage::broker_url);
    narrator.result(&if arguments.json { promises.to_json(url) } else { promises.to_table() });
    if promises.are_kept() {
        return (stage, ExitCode::SUCCESS);
    }
    if let Some(stage) = &stage {
        stage.print_logs();
    }
    (stage, ExitCode::FAILURE)
}

fn what_went_wrong(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// Waits for Ctrl-C and its like.
async fn told_to_stop() -> &'static str {
    let listen = |kind| signal(kind).expect("signals can be listened to");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    let mut hang_up = listen(SignalKind::hangup());
    tokio::select! {
        _ = interrupt.recv() => "interrupted",
        _ = terminate.recv() => "told to stop",
        _ = hang_up.recv() => "the terminal is gone",
    }
}
