//! Lays the layers over one another: for each setting the value that wins, where it came from, and whether it is sound.

use clap::builder::OsStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::arguments::complaint;
use super::environment::Environment;
use super::file::{FileTable, FileValue};
use super::nearest::suggestion;
use super::problem::{Problem, Source};
use super::setting::{Setting, settings_of};

/// The value that won for one setting.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) setting: Setting,
    pub(super) source: Source,
    pub(super) values: Vec<String>,
}

impl Choice {
    /// The setting as its source spells it.
    pub(super) fn spelled(&self) -> &str {
        match &self.source {
            Source::Environment(variable) => variable,
            Source::File { .. } => &self.setting.key,
            Source::Flag | Source::Default => &self.setting.flag,
        }
    }

    /// Larger wins.
    fn rank(&self) -> u8 {
        match self.source {
            Source::Flag => 3,
            Source::Environment(_) => 2,
            Source::File { .. } => 1,
            Source::Default => 0,
        }
    }

    pub(super) fn problem(&self, value: Option<String>, reason: impl Into<String>) -> Problem {
        let value = value.or_else(|| Some(self.values.join(",")));
        Problem { setting: self.spelled().to_owned(), source: self.source.clone(), value, reason: reason.into() }
    }
}

/// The layers below the defaults' level, highest first. The command line is read already.
pub(super) struct Layers<'a> {
    pub(super) line: Option<&'a ArgMatches>,
    pub(super) environment: &'a Environment,
    pub(super) file: Option<&'a FileTable>,
}

impl Layers<'_> {
    /// What each of these settings of `command` gets that is given anywhere; problems go to `problems`.
    pub(super) fn choose(&self, command: &Command, settings: Vec<Setting>, problems: &mut Vec<Problem>) -> Vec<Choice> {
        let mut choices = Vec::new();
        for setting in settings {
            match self.choice(setting) {
                Ok(choice) => choices.extend(choice),
                Err(problem) => problems.push(problem),
            }
        }
        exclude(command, &mut choices, problems);
        for choice in &choices {
            problems.extend(choice.values.iter().filter_map(|value| unsound(command, choice, value)));
        }
        choices
    }

    fn choice(&self, setting: Setting) -> Result<Option<Choice>, Problem> {
        if let Some(line) = self.line.filter(|line| line.value_source(&setting.key) == Some(ValueSource::CommandLine)) {
            let values = line.get_raw(&setting.key).into_iter().flatten();
            let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
            return Ok(Some(Choice { setting, source: Source::Flag, values }));
        }
        if let Some((variable, value)) = self.environment.of_setting(&setting)? {
            let values = split(&setting, value);
            return Ok(Some(Choice { setting, source: Source::Environment(variable), values }));
        }
        self.file.map_or(Ok(None), |file| from_file(setting, file))
    }
}

fn from_file(setting: Setting, file: &FileTable) -> Result<Option<Choice>, Problem> {
    let Some((line, value)) = file.entries.get(&setting.key) else {
        return Ok(None);
    };
    let source = file.source(*line);
    let refuse =
        |reason: String| Err(Problem { setting: setting.key.clone(), source: source.clone(), value: None, reason });
    let values = match value {
        FileValue::One(value) => split(&setting, value.clone()),
        FileValue::Many(values) if setting.separator.is_some() => values.clone(),
        FileValue::Many(_) => return refuse("takes one value, not an array; remove the brackets".to_owned()),
        FileValue::Tables(_) => return refuse(format!("takes a value, not a table; write `{} = …`", setting.key)),
        FileValue::Unfit(what) => return refuse(format!("is {what}; write a plain value")),
    };
    Ok(Some(Choice { setting, source, values }))
}

fn split(setting: &Setting, value: String) -> Vec<String> {
    match setting.separator {
        Some(separator) => {
            value.split(separator).map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        }
        None => vec![value],
    }
}

/// Of settings that exclude each other only those of the highest layer stay; two of the same layer are a problem.
/// (Two flags are `clap`'s to refuse.)
fn exclude(command: &Command, choices: &mut Vec<Choice>, problems: &mut Vec<Problem>) {
    let mut built = command.clone();
    built.build();
    for group in built.get_groups().filter(|group| !(*group).clone().is_multiple()) {
        let members: Vec<String> = group.get_args().map(ToString::to_string).collect();
        let is_member = |choice: &Choice| members.contains(&choice.setting.key);
        let Some(top) = choices.iter().filter(|choice| is_member(choice)).map(Choice::rank).max() else {
            continue;
        };
        choices.retain(|choice| !is_member(choice) || choice.rank() == top);
        let mut rivals = choices.iter().filter(|choice| is_member(choice) && choice.source != Source::Flag);
        if let Some(first) = rivals.next() {
            problems.extend(rivals.map(|rival| {
                rival.problem(None, format!("excludes `{}`, which is set too; keep one of them", first.spelled()))
            }));
        }
    }
}

/// Lets `clap` parse one value alone, so that a wrong one hides no other.
fn unsound(command: &Command, choice: &Choice, value: &str) -> Option<Problem> {
    let lone = command.clone().subcommand_required(false).arg_required_else_help(false).no_binary_name(true);
    let error = lone.try_get_matches_from([format!("--{}={value}", choice.setting.argument.get_long()?)]).err()?;
    let reason = match error.kind() {
        ErrorKind::ValueValidation => {
            std::error::Error::source(&error).map_or_else(|| complaint(&error), ToString::to_string)
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) => format!("not one of {}", valid.join(", ")),
            _ => complaint(&error),
        },
        ErrorKind::TooManyValues
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues
        | ErrorKind::InvalidUtf8 => complaint(&error),
        // Whatever else is wrong with a line of this one flag (something required is missing) is not the value's fault.
        _ => return None,
    };
    let help = choice.setting.argument.get_help().map(ToString::to_string).unwrap_or_default();
    // Who typed the flag knows what it is for; a variable may have been set by somebody else, long ago.
    let is_told = choice.source != Source::Flag && !help.is_empty();
    let purpose = if is_told { format!(" ({}: {help})", choice.setting.flag) } else { String::new() };
    Some(choice.problem(Some(value.to_owned()), format!("{reason}{purpose}")))
}

/// The command with the choices of the lower layers as its defaults.
pub(super) fn with_defaults(mut command: Command, choices: &[Choice]) -> Command {
    for choice in choices.iter().filter(|choice| choice.source != Source::Flag) {
        let values: Vec<OsStr> = choice.values.iter().cloned().map(OsStr::from).collect();
        command = command.mut_arg(&choice.setting.key, |argument| argument.required(false).default_values(values));
    }
    command
}

/// One problem for each key of the file that is neither a setting nor one of `tables`.
pub(super) fn unknown_keys(command: &Command, file: &FileTable, tables: &[&str]) -> Vec<Problem> {
    let keys: Vec<String> = settings_of(command).into_iter().map(|setting| setting.key).collect();
    let known = || keys.iter().map(String::as_str).chain(tables.iter().copied());
    let unknown = file.entries.iter().filter(|(key, _)| !known().any(|known| known == key.as_str()));
    unknown
        .map(|(key, (line, _))| {
            let dashed = key.replace('-', "_");
            let near = suggestion(if known().any(|known| known == dashed) { &dashed } else { key }, known());
            let reason = format!("no such setting{near}");
            Problem { setting: key.clone(), source: file.source(*line), value: None, reason }
        })
        .collect()
}
