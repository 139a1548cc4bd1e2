//! What a whole process does: the second signal, a closed pipe, and settings that are wrong.
//!
//! The programs are the ignored tests below; each runs in a process of its own.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use muster_runtime::exit::Exit;
use muster_runtime::output::print_line;
use muster_runtime::settings::{Program, Settings};
use muster_runtime::stop::Stop;
use muster_tests::{Process, ProcessBuilder};
use nix::sys::signal::Signal;

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(name = "muster-example")]
struct Example {
    /// How many
    #[arg(long, default_value_t = 1)]
    count: u32,
}

impl Settings for Example {}

#[test]
#[ignore = "a program for the tests of this file"]
fn program_that_stops() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stop = Stop::on_signals().unwrap();
        eprintln!("waiting");
        stop.requested().await;
        eprintln!("stopping");
        if std::env::var_os("STUBBORN").is_some() {
            std::future::pending::<()>().await;
        }
    });
    Exit::Success.end("example", "ended");
}

#[test]
#[ignore = "a program for the tests of this file"]
fn program_that_prints_for_ever() {
    loop {
        print_line("orders");
    }
}

#[test]
#[ignore = "a program for the tests of this file"]
fn program_that_loads() {
    // The arguments are the test runner's, none of which this program knows.
    let _ = Program::new("example").load_or_exit::<Example>();
}

#[test]
#[ignore = "a program for the tests of this file"]
fn program_that_logs() {
    muster_runtime::logging::LogSettings { log_format: muster_runtime::logging::LogFormat::Text }.start();
    // Goes on only once the reader of the log is gone.
    let _ = std::io::stdin().read(&mut [0]);
    tracing::error!("nobody reads this");
    std::process::exit(7);
}

fn arguments(program: &str) -> [&str; 4] {
    ["--exact", program, "--include-ignored", "--nocapture"]
}

fn start(program: &str, variables: &[(&str, &str)]) -> Process {
    let builder = ProcessBuilder::new(std::env::current_exe().unwrap()).name(program).args(arguments(program));
    variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
}

#[tokio::test]
async fn the_first_sigterm_asks_and_the_program_ends_as_it_likes() {
    let mut process = start("program_that_stops", &[]);
    process.wait_for_line("waiting", DEADLINE).await;
    let status = process.stop(DEADLINE).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn the_second_sigterm_ends_the_process_at_once() {
    let mut process = start("program_that_stops", &[("STUBBORN", "1")]);
    let waiting = process.wait_for_line("waiting", DEADLINE).await;
    process.signal(Signal::SIGTERM);
    process.wait_for_line_after(&waiting, "stopping", DEADLINE).await;
    let status = process.stop(DEADLINE).await;
    assert_eq!(status.code(), Some(128 + 15));
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments("program_that_prints_for_ever"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 64];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_64_and_every_complaint() {
    let mut process = start("program_that_loads", &[]);
    let status = process.wait_exit(DEADLINE).await;
    let lines: Vec<String> = process.lines().into_iter().map(|line| line.text).collect();
    assert_eq!(status.code(), Some(64), "{lines:?}");
    for part in
        ["muster-example: 3 problems with the settings", "'--exact'", "'--nocapture'", "More: muster-example --help"]
    {
        assert!(lines.iter().any(|line| line.contains(part)), "`{part}` is missing in {lines:#?}");
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nobody() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments("program_that_logs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}
