//! A sub-command's own arguments: every wrong value and every missing one, although `clap` stops at the first.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::arguments::Line;
use super::environment::Environment;
use super::layers::{Choice, Layers};
use super::problem::{Problem, Source};
use super::setting::{Setting, prepared_table, setting_of};

/// What is given to the sub-commands that the line names; what is wrong goes to `problems`.
pub(super) fn choose(command: &Command, line: &Line, problems: &mut Vec<Problem>) -> Vec<Choice> {
    let mut choices = Vec::new();
    let (mut command, mut matches) = (command, &line.matches);
    while let Some((name, within)) = matches.subcommand()
        && let Some(found) = command.find_subcommand(name)
    {
        let layers = Layers { line: Some(within), environment: &Environment::default(), file: None };
        choices.extend(layers.choose(&prepared_table(found.clone()), arguments_of(found), problems));
        problems.extend(missing(found, within, line.swallowed));
        (command, matches) = (found, within);
    }
    choices
}

/// Positional arguments too, spelled as in the usage, but not what stands behind `--`: that is for somebody else to read.
fn arguments_of(command: &Command) -> Vec<Setting> {
    let prepared = prepared_table(command.clone());
    let own = command.get_arguments().filter(|argument| !argument.is_last_set());
    let setting = |argument: &Arg| {
        let prepared = prepared.get_arguments().find(|prepared| prepared.get_id() == argument.get_id())?;
        Some(Setting { flag: spelled(argument), ..setting_of(prepared)? })
    };
    own.filter_map(setting).collect()
}

fn spelled(argument: &Arg) -> String {
    match argument.get_long() {
        Some(long) => format!("--{long}"),
        None => argument.to_string(),
    }
}

/// One problem for each argument that must be given and is not. A positional one may have been taken for the value of an
/// unknown flag, if there was one; then nothing is said of it.
fn missing(command: &Command, matches: &ArgMatches, swallowed: bool) -> Vec<Problem> {
    let is_given = |argument: &Arg| matches.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine);
    let is_missing =
        |argument: &&Arg| argument.is_required_set() && !is_given(argument) && !(swallowed && argument.is_positional());
    let problem = |argument: &Arg| {
        let help = argument.get_help().map(|help| format!(" ({help})")).unwrap_or_default();
        let reason = format!("must be given{help}");
        Problem { setting: spelled(argument), source: Source::Flag, value: None, reason }
    };
    command.get_arguments().filter(is_missing).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::Parser;

    use crate::exit::{Exit, ExitReason};
    use crate::settings::{Inputs, LoadError, Period, Program, Settings};

    #[derive(Debug, Parser)]
    struct Example {
        /// How many.
        #[arg(long, default_value_t = 3)]
        count: u32,
        #[command(subcommand)]
        errand: Errand,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Errand {
        /// Carries something.
        Carry {
            /// How heavy it is
            weight: u16,
            /// Where to
            #[arg(long)]
            place: String,
            /// How long it may take
            #[arg(long)]
            within: Vec<Period>,
            /// How
            #[arg(long, value_parser = ["fast", "slow"])]
            pace: Option<String>,
            /// Whether somebody may know
            #[arg(long)]
            secret: bool,
            /// Whom to call then
            #[arg(last = true)]
            call: Vec<String>,
        },
    }

    impl Settings for Example {}

    fn complaints(arguments: &[&str]) -> (Exit, Vec<String>) {
        let inputs = Inputs {
            arguments: ["example", "carry"].iter().chain(arguments).map(OsString::from).collect(),
            ..Inputs::default()
        };
        match Program::new("example").load::<Example>(inputs) {
            Ok(_) => (Exit::Success, Vec::new()),
            Err(LoadError::Problems(problems)) => {
                (problems.exit(), problems.0.iter().map(ToString::to_string).collect())
            }
            Err(other) => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn every_wrong_value_of_a_subcommand_is_reported_at_once_beside_those_of_the_program() {
        let arguments = ["heavy", "--within", "soon", "--within", "2s", "--within", "x", "--pace", "lazy", "--hurry"];
        let (exit, lines) = complaints(&[&arguments[..], &["--count", "many", "--secret"]].concat());
        assert_eq!(exit, Exit::Usage);
        let period = "write a whole number and a unit (ms, s, m, h, d), for instance 500ms, 2s or 5m";
        let expected = [
            "unexpected argument '--hurry' found; tip: to pass '--hurry' as a value, use '-- --hurry'".to_owned(),
            "--count = `many`: invalid digit found in string".to_owned(),
            "<WEIGHT> = `heavy`: invalid digit found in string".to_owned(),
            format!("--within = `soon`: {period}"),
            format!("--within = `x`: {period}"),
            "--pace = `lazy`: not one of fast, slow".to_owned(),
            "--place: must be given (Where to)".to_owned(),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn everything_that_a_subcommand_misses_is_reported_at_once() {
        let (exit, lines) = complaints(&["--count", "many"]);
        assert_eq!(exit, Exit::Usage);
        let expected = [
            "--count = `many`: invalid digit found in string",
            "<WEIGHT>: must be given (How heavy it is)",
            "--place: must be given (Where to)",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_may_be_the_value_of_an_unknown_flag_is_not_called_missing() {
        let (_, lines) = complaints(&["--hurry", "12"]);
        assert!(lines[0].starts_with("unexpected argument '--hurry' found"), "{lines:?}");
        assert_eq!(lines[1..], ["--place: must be given (Where to)"]);
    }

    #[test]
    fn what_is_sound_is_taken_whatever_stands_behind_two_dashes() {
        let arguments = ["12", "--place=-", "--within", "2s", "--pace", "fast", "--secret", "--", "--within", "soon"];
        assert_eq!(complaints(&arguments), (Exit::Success, Vec::new()));
    }
}
