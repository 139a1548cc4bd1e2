//! What a program says of itself with `--reference`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{run, workspace};

/// The programs that have settings, in the order in which documents list them.
pub(super) const PROGRAMS: [&str; 3] = ["muster-registry", "muster-agent", "muster"];

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) program: String,
    pub(super) about: String,
    pub(super) settings: Vec<Setting>,
    pub(super) tables: Vec<Table>,
    pub(super) commands: Vec<Task>,
    pub(super) metrics: Vec<Metric>,
    pub(super) exit_codes: Vec<ExitCode>,
}

/// A setting of the program, or an argument of one of its commands.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Setting {
    pub(super) name: String,
    /// None for a positional argument.
    pub(super) flag: Option<String>,
    pub(super) variables: Vec<String>,
    pub(super) value_name: Option<String>,
    pub(super) default: Option<String>,
    pub(super) possible_values: Vec<String>,
    pub(super) repeatable: bool,
    pub(super) required: bool,
    pub(super) help: String,
    pub(super) section: Option<String>,
}

/// An array of tables in the program's file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) settings: Vec<Setting>,
}

/// The program itself, or one of its sub-commands.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) long_about: Option<String>,
    pub(super) usage: String,
    pub(super) arguments: Vec<Setting>,
    pub(super) examples: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) unit: String,
    pub(super) labels: Vec<String>,
    pub(super) help: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct ExitCode {
    pub(super) code: u8,
    pub(super) meaning: String,
}

impl Setting {
    /// Whether it is given without a value.
    pub(super) fn is_switch(&self) -> bool {
        let named_after_itself = self.value_name.as_deref() == Some(&self.name.to_uppercase());
        self.flag.is_some() && self.default.as_deref() == Some("false") && named_after_itself
    }
}

/// Builds the programs.
pub(super) fn build_programs() -> Result<()> {
    let mut build = workspace::cargo();
    build.args(["build", "--workspace", "--bins"]);
    ensure!(run::shown_through(&mut build)?, "the programs were not built; cargo's output is above");
    Ok(())
}

/// Asks the programs as they were built last.
pub(super) fn of_all_programs() -> Result<Vec<Reference>> {
    PROGRAMS.into_iter().map(of_program).collect()
}

fn of_program(name: &str) -> Result<Reference> {
    let mut command = Command::new(workspace::target().join("debug").join(name));
    command.arg("--reference");
    let output = command.output().with_context(|| format!("cannot run `{}`", run::shown(&command)))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed: {complaint}", run::shown(&command));
    let reference = serde_json::from_slice(&output.stdout);
    reference.with_context(|| format!("`{}` printed something that is no reference", run::shown(&command)))
}
