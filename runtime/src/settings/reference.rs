//! The machine-readable reference of a program, from which the documents are generated.

use clap::{Arg, Command};
use serde::Serialize;

use super::check::Table;
use super::setting::{Setting, settings_of};
use crate::exit::{ExitCodeDoc, exit_codes};
use crate::metrics::MetricDoc;

/// Everything about a program that documents list.
#[derive(Clone, Debug, Serialize)]
pub struct Reference {
    /// The program's name.
    pub program: String,
    /// What it does, in a sentence.
    pub about: String,
    /// All settings, in the order of their declaration.
    pub settings: Vec<SettingDoc>,
    /// The arrays of tables its file may hold.
    pub tables: Vec<TableDoc>,
    /// The program itself and all its sub-commands, depth first.
    pub commands: Vec<CommandDoc>,
    /// The metrics it serves.
    pub metrics: Vec<MetricDoc>,
    /// What its exit codes mean.
    pub exit_codes: Vec<ExitCodeDoc>,
}

/// One setting, or one argument of a command.
#[derive(Clone, Debug, Serialize)]
pub struct SettingDoc {
    /// The key in the file; for an argument of a command its name.
    pub name: String,
    /// With its dashes; none for positional arguments.
    pub flag: Option<String>,
    /// Variables, in the order in which they win; empty for arguments of a command.
    pub variables: Vec<String>,
    /// What stands for the value in the help.
    pub value_name: Option<String>,
    /// What holds when nothing is given.
    pub default: Option<String>,
    /// The values it can have, if they are few.
    pub possible_values: Vec<String>,
    /// Whether it can be given several times.
    pub repeatable: bool,
    /// Whether it must be given.
    pub required: bool,
    /// What it is for.
    pub help: String,
    /// The heading it stands under.
    pub section: Option<String>,
}

/// One kind of table of the file.
#[derive(Clone, Debug, Serialize)]
pub struct TableDoc {
    /// What stands between the brackets.
    pub name: &'static str,
    /// Its keys.
    pub settings: Vec<SettingDoc>,
}

/// One command.
#[derive(Clone, Debug, Serialize)]
pub struct CommandDoc {
    /// As it is typed: `muster watch`.
    pub name: String,
    /// What it does, in a sentence.
    pub about: String,
    /// What it does, at length.
    pub long_about: Option<String>,
    /// How it is called.
    pub usage: String,
    /// Its own arguments; settings of the program are not repeated.
    pub arguments: Vec<SettingDoc>,
    /// Examples and the like.
    pub examples: Option<String>,
}

impl Reference {
    pub(super) fn new(command: &Command, tables: &[Table], metrics: Vec<MetricDoc>) -> Self {
        let mut built = command.clone();
        built.build();
        let mut commands = Vec::new();
        collect_commands(&built, "", &mut commands);
        Self {
            program: command.get_name().to_owned(),
            about: text(command.get_about()),
            settings: visible(command),
            tables: tables
                .iter()
                .map(|table| TableDoc { name: table.name, settings: visible(&(table.command)()) })
                .collect(),
            commands,
            metrics,
            exit_codes: exit_codes(),
        }
    }

    /// As indented JSON with a stable order, fit for a committed file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, lists and switches only: there is nothing that could fail to become JSON.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

fn visible(command: &Command) -> Vec<SettingDoc> {
    settings_of(command).iter().filter(|setting| !setting.argument.is_hide_set()).map(setting_doc).collect()
}

fn setting_doc(setting: &Setting) -> SettingDoc {
    SettingDoc { variables: setting.variables.clone(), ..argument_doc(&setting.argument) }
}

fn argument_doc(argument: &Arg) -> SettingDoc {
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let help = argument.get_long_help().or_else(|| argument.get_help());
    SettingDoc {
        name: argument.get_id().to_string(),
        flag: argument.get_long().map(|long| format!("--{long}")),
        variables: Vec::new(),
        value_name: argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string),
        default: (!defaults.is_empty()).then(|| defaults.join(",")),
        possible_values: argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| value.get_name().to_owned())
            .collect(),
        repeatable: matches!(argument.get_action(), clap::ArgAction::Append),
        required: argument.is_required_set(),
        help: text(help),
        section: argument.get_help_heading().map(ToOwned::to_owned),
    }
}

fn collect_commands(command: &Command, parent: &str, into: &mut Vec<CommandDoc>) {
    let name = format!("{parent}{}", command.get_name());
    let is_own = |argument: &&Arg| {
        let inherited = argument.is_global_set() || (parent.is_empty() && argument.get_long().is_some());
        !inherited && !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
    };
    into.push(CommandDoc {
        about: text(command.get_about()),
        long_about: command.get_long_about().map(ToString::to_string),
        usage: command.clone().render_usage().to_string().trim_start_matches("Usage: ").to_owned(),
        arguments: command.get_arguments().filter(is_own).map(argument_doc).collect(),
        examples: command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string),
        name: name.clone(),
    });
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    visible.for_each(|command| collect_commands(command, &format!("{name} "), into));
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}
