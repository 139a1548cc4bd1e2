//! `cargo xtask`: set-up, demo, tests and checks of the workspace, on any machine with Rust, a C compiler and Python.

mod bench;
mod chaos;
mod demo;
mod docs;
mod mutants;
mod named_tests;
mod progress;
mod run;
mod schemas;
mod setup;
mod simulate;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set-up, demo, tests and checks of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check what this machine has and fetch the pinned tools into `target/tools`; safe to repeat.
    Setup,
    /// Show on a real broker what Muster promises: services appear, break and vanish in a live watch.
    Demo(demo::Options),
    /// Harm real processes on a cluster of three brokers at random, and judge what consumers see of it.
    Chaos(chaos::Options),
    /// Run every check and every test; a table at the end says what passed, failed and was skipped, and why.
    Test(test::Options),
    /// Run histories of the simulation: many, for hours, or one of them step by step.
    Simulate(simulate::Options),
    /// Write the JSON Schemas of everything on the wire from the Rust types.
    Schemas(schemas::Options),
    /// Write the reference of settings, commands, metrics and exit codes from what the programs say of themselves.
    Docs(docs::Options),
    /// Make deliberately broken builds and see that the tests refuse each of them.
    Mutants(mutants::Options),
    /// Measure floor, Muster and its peers on the same work, in one run on this machine.
    Bench(bench::Options),
    /// Check the style that a program can check.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Setup => setup::setup().map(|()| true),
        Task::Demo(options) => demo::demo(&options),
        Task::Chaos(options) => chaos::chaos(&options),
        Task::Test(options) => test::test(&options),
        Task::Simulate(options) => simulate::simulate(&options),
        Task::Schemas(options) => schemas::schemas(&options),
        Task::Docs(options) => docs::docs(&options).map(|()| true),
        Task::Mutants(options) => mutants::mutants(&options),
        Task::Bench(options) => bench::bench(&options).map(|()| true),
        Task::Tidy => tidy::tidy().map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // What failed was told already, and the last line is for whoever counts.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
