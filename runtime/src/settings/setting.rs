//! Which settings a `clap` command declares, and under which names each layer knows them.

use clap::{Arg, ArgAction, Command, builder::BoolishValueParser};

/// Arguments that steer the loading itself and are no settings.
pub(super) const CONFIG: &str = "config";
const NO_SETTINGS: [&str; 3] = [CONFIG, "help", "version"];

/// Names that the world outside already uses; the variable of our own wins over them.
const FOREIGN_VARIABLES: [(&str, &str); 1] = [("server", "NATS_URL")];

/// One setting and its names.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The key in the file: the field's name.
    pub(super) key: String,
    /// With its dashes.
    pub(super) flag: String,
    /// In the order in which they win.
    pub(super) variables: Vec<String>,
    /// What separates the elements of a list, if it is one.
    pub(super) separator: Option<char>,
    pub(super) argument: Arg,
}

/// All settings of the root command, in the order of their declaration.
pub(super) fn settings_of(command: &Command) -> Vec<Setting> {
    command.get_arguments().filter_map(setting_of).collect()
}

pub(super) fn setting_of(argument: &Arg) -> Option<Setting> {
    let key = argument.get_id().to_string();
    if NO_SETTINGS.contains(&key.as_str()) {
        return None;
    }
    let flag = format!("--{}", argument.get_long()?);
    let own = format!("MUSTER_{}", key.to_ascii_uppercase());
    let foreign = FOREIGN_VARIABLES.iter().filter(|(of, _)| *of == key).map(|(_, name)| (*name).to_owned());
    let repeatable = matches!(argument.get_action(), ArgAction::Append);
    let separator = argument.get_value_delimiter().or_else(|| repeatable.then_some(','));
    let variables = std::iter::once(own).chain(foreign).collect();
    Some(Setting { key, flag, variables, separator, argument: argument.clone() })
}

/// Makes the root command's arguments fit for layers: switches take an optional value, and all are known to sub-commands.
pub(super) fn prepared(command: Command) -> Command {
    let has_subcommands = command.has_subcommands();
    command.mut_args(|argument| {
        if setting_of(&argument).is_none() {
            return argument;
        }
        let argument = if matches!(argument.get_action(), ArgAction::SetTrue) { switch(argument) } else { argument };
        if has_subcommands && !argument.is_required_set() { argument.global(true) } else { argument }
    })
}

/// `--flag`, `--flag=true` and `--flag=false`.
fn switch(argument: Arg) -> Arg {
    argument
        .action(ArgAction::Set)
        .value_parser(BoolishValueParser::new())
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .hide_possible_values(true)
}

/// Makes the arguments of a table fit for the file: positional ones become keys as well.
pub(super) fn prepared_table(command: Command) -> Command {
    command.disable_help_flag(true).mut_args(|argument| {
        if argument.is_positional() {
            let key = argument.get_id().to_string();
            let argument = argument.last(false).trailing_var_arg(false).num_args(1).allow_hyphen_values(true);
            return argument.long(key.replace('_', "-"));
        }
        if matches!(argument.get_action(), ArgAction::SetTrue) { switch(argument) } else { argument }
    })
}
