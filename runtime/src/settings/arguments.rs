//! The flag layer: reads the whole command line although parts of it are wrong, and keeps every complaint.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use super::problem::Problem;

/// How many complaints are collected before the rest of the line is given up.
const COMPLAINTS_MAX: usize = 20;

/// What a first, lenient reading found.
pub(super) enum Given {
    /// `--help`, `--version` or the like: print it and end.
    Display(clap::Error),
    /// The flags, and every complaint; `None` where the line made no sense as a whole.
    Line(Option<Line>, Vec<Problem>),
}

/// The command line, with values not yet parsed.
pub(super) struct Line {
    pub(super) matches: ArgMatches,
    /// Something was taken for the value of an unknown flag, and may have been more than that.
    pub(super) swallowed: bool,
}

/// Reads `arguments` (the program's name first) for which flags are given, without parsing their values.
pub(super) fn read(command: &Command, mut arguments: Vec<OsString>) -> Given {
    let lenient = lenient(command.clone());
    let (mut problems, mut swallowed) = (Vec::new(), false);
    while problems.len() < COMPLAINTS_MAX {
        match lenient.clone().try_get_matches_from(&arguments) {
            Ok(matches) => return Given::Line(Some(Line { matches, swallowed }), problems),
            Err(error) if is_display(&error) => return display(command, &arguments, error),
            Err(error) => {
                problems.push(Problem::of_command_line(complaint(&error)));
                match remove_offender(command, &mut arguments, &error) {
                    Some(with_value) => swallowed |= with_value,
                    None => break,
                }
            }
        }
    }
    Given::Line(None, problems)
}

fn is_display(error: &clap::Error) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion)
}

/// The help of the strict command, which knows possible values; the lenient one's if the line is wrong elsewhere.
fn display(command: &Command, arguments: &[OsString], lenient: clap::Error) -> Given {
    match command.clone().try_get_matches_from(arguments) {
        Err(error) if is_display(&error) => Given::Display(error),
        _ => Given::Display(lenient),
    }
}

/// The same command, but every value is taken as it is, and nothing is required.
fn lenient(command: Command) -> Command {
    command
        .mut_args(|argument| {
            let argument = argument.required(false);
            if argument.get_action().takes_values() {
                argument.value_parser(ValueParser::os_string())
            } else {
                argument
            }
        })
        .mut_subcommands(lenient)
}

/// The message of a `clap` error on one line, without usage.
pub(super) fn complaint(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information")).collect();
    lines.join("; ").trim_start_matches("error: ").replace(":; ", ": ")
}

/// Takes the argument that the error names off the line, so that reading can go on, and says whether what follows went
/// with it. None if there is no such argument.
fn remove_offender(command: &Command, arguments: &mut Vec<OsString>, error: &clap::Error) -> Option<bool> {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = named.split([' ', '=']).next().unwrap_or_default();
    let is_offender = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument == named.as_str() || argument == name || argument.split('=').next() == Some(name)
    };
    let position = arguments.iter().skip(1).position(is_offender)? + 1;
    let removed = arguments.remove(position);
    // What follows an unknown flag is most likely its value, unless it is a flag or a sub-command itself.
    let takes_next = |next: &OsString| {
        let next = next.to_string_lossy();
        !next.starts_with('-') && command.find_subcommand(next.as_ref()).is_none()
    };
    let flag = removed.to_string_lossy();
    let with_value = flag.starts_with("--") && !flag.contains('=') && arguments.get(position).is_some_and(takes_next);
    if with_value {
        arguments.remove(position);
    }
    Some(with_value)
}

/// What a `clap` error says is missing, if that is what it says.
pub(super) fn missing(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => Some(format!("{} must be given", names.join(", "))),
        _ => None,
    }
}
