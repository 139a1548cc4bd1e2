//! A consumer that prints what its view holds and what its watch delivers, to be killed and frozen.
//!
//! `muster-chaos-consumer SERVERS`

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use muster_chaos::lines::{ChangeLine, Line, ViewLine};
use muster_discovery::{Discovery, Update};
use tokio::time::{MissedTickBehavior, interval};

/// How often the view is looked at; what has not changed is printed once a second.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS_BETWEEN_EQUALS: u32 = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(servers) = std::env::args().nth(1) else {
        eprintln!("muster-chaos-consumer SERVERS");
        return ExitCode::from(64);
    };
    let discovery = match Discovery::builder().server(servers).start_disconnected(true).connect().await {
        Ok(discovery) => discovery,
        Err(error) => {
            eprintln!("muster-chaos-consumer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut watch = discovery.watch_all();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut equals) = (ViewLine::default(), LOOKS_BETWEEN_EQUALS);
    loop {
        tokio::select! {
            update = watch.next() => match update {
                Some(Update::Change(change)) => print(&Line::Change(ChangeLine::of(&change))),
                Some(_) => {}
                None => return ExitCode::FAILURE,
            },
            _ = looks.tick() => {
                let Ok(snapshot) = discovery.all_instances().await else { continue };
                let view = ViewLine::of(&snapshot);
                equals += 1;
                if view != last || equals >= LOOKS_BETWEEN_EQUALS {
                    print(&Line::View(view.clone()));
                    (last, equals) = (view, 0);
                }
            }
        }
    }
}

/// Whoever does not read it has gone.
fn print(line: &Line) {
    let text = serde_json::to_string(line).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(141);
    }
}
