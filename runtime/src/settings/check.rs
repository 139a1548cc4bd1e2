//! What a program's own checks see: where each value came from, the file's tables, and a place for complaints.

use std::collections::BTreeMap;

use clap::{Args, Command};

use super::environment::Environment;
use super::file::{FileTable, FileValue};
use super::layers::{Choice, Layers, unknown_keys, with_defaults};
use super::problem::{Problem, Problems, Source};
use super::setting::{prepared_table, settings_of};

/// Collects what is wrong after every single value was found sound.
#[derive(Debug, Default)]
pub struct Check {
    pub(super) choices: BTreeMap<String, Choice>,
    /// What is given to the sub-command.
    pub(super) subcommand: Vec<Choice>,
    pub(super) file: Option<FileTable>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// An array of tables (`[[service]]`) of the file, each one a small struct of settings.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub(super) name: &'static str,
    pub(super) command: fn() -> Command,
}

impl Table {
    /// Tables called `name`, whose keys are the arguments of `S`, positional ones included.
    #[must_use]
    pub fn of<S: Args>(name: &'static str) -> Self {
        Self { name, command: || prepared_table(S::augment_args(Command::new("table"))) }
    }
}

/// One table of the file.
#[derive(Clone, Debug)]
pub struct Entry<S> {
    /// What it says.
    pub settings: S,
    /// Where it begins.
    pub source: Source,
}

impl Check {
    /// Reports that the value of a setting (named as its field) cannot be used, and the way out.
    pub fn refuse(&mut self, key: &str, reason: impl Into<String>) {
        let problem = match self.choices.get(key) {
            Some(choice) => choice.problem(None, reason),
            None => {
                let setting = format!("--{}", key.replace('_', "-"));
                Problem { setting, source: Source::Default, value: None, reason: reason.into() }
            }
        };
        self.problems.push(problem);
    }

    /// Reports a problem with a key of one of the file's tables, or with a flag of the sub-command (with its dashes), and
    /// the way out; with the table or the sub-command as a whole if `key` is empty.
    pub fn refuse_entry(&mut self, source: &Source, key: &str, reason: impl Into<String>) {
        let problem = Problem { setting: key.to_owned(), source: source.clone(), value: None, reason: reason.into() };
        let given = match source {
            Source::File { line, .. } => self.given_in_file(*line, key),
            _ => self.given_to_subcommand(key),
        };
        self.problems.push(match given {
            Some((source, value)) => Problem { source, value: Some(value), ..problem },
            None => problem,
        });
    }

    fn given_in_file(&self, table_line: usize, key: &str) -> Option<(Source, String)> {
        let values = self.file.as_ref()?.entries.values();
        let tables =
            values.flat_map(|(_, value)| if let FileValue::Tables(tables) = value { &tables[..] } else { &[] });
        let mut tables = tables.filter(|table| table.line == table_line);
        // Two on one line cannot be told apart.
        let table = tables.next().filter(|_| tables.next().is_none())?;
        let (line, value) = table.entries.get(key)?;
        let value = match value {
            FileValue::One(value) => value.clone(),
            FileValue::Many(values) => values.join(","),
            FileValue::Tables(_) | FileValue::Unfit(_) => return None,
        };
        Some((table.source(*line), value))
    }

    fn given_to_subcommand(&self, flag: &str) -> Option<(Source, String)> {
        let choice = self.subcommand.iter().find(|choice| choice.setting.flag == flag)?;
        Some((Source::Flag, choice.values.join(",")))
    }

    /// Adds a line that the program logs once it can.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Where the value of a setting (named as its field) came from.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.choices.get(key).map_or(Source::Default, |choice| choice.source.clone())
    }

    /// Whether a setting is given in any layer.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.choices.contains_key(key)
    }

    /// The file's tables called `name`, in their order; those with problems are left out and reported.
    pub fn entries<S: Args>(&mut self, name: &str) -> Vec<Entry<S>> {
        let command = prepared_table(S::augment_args(Command::new("table")));
        let mut entries = Vec::new();
        for table in self.file.as_ref().map(|file| tables(file, name)).unwrap_or_default() {
            let found = read_table(&command, name, &table, &mut self.problems)
                .and_then(|matches| S::from_arg_matches(&matches).ok());
            entries.extend(found.map(|settings| Entry { settings, source: table.source(table.line) }));
        }
        entries
    }

    /// What was reported.
    #[must_use]
    pub fn into_problems(self) -> Problems {
        Problems::sorted(self.problems)
    }

    /// Reports the problems of tables although nobody asks for their values.
    pub(super) fn read_unasked(&mut self, table: Table) {
        let command = (table.command)();
        for found in self.file.as_ref().map(|file| tables(file, table.name)).unwrap_or_default() {
            read_table(&command, table.name, &found, &mut self.problems);
        }
    }
}

fn tables(file: &FileTable, name: &str) -> Vec<FileTable> {
    match file.entries.get(name) {
        Some((_, FileValue::Tables(tables))) => tables.clone(),
        _ => Vec::new(),
    }
}

fn read_table(
    command: &Command,
    name: &str,
    table: &FileTable,
    problems: &mut Vec<Problem>,
) -> Option<clap::ArgMatches> {
    let before = problems.len();
    let layers = Layers { line: None, environment: &Environment::default(), file: Some(table) };
    let choices = layers.choose(command, settings_of(command), problems);
    problems.extend(unknown_keys(command, table, &[]));
    let matched = with_defaults(command.clone(), &choices).no_binary_name(true).try_get_matches_from([""; 0]);
    match matched {
        Ok(matches) => (problems.len() == before).then_some(matches),
        Err(error) => {
            if problems.len() == before {
                let reason = super::arguments::missing(&error).unwrap_or_else(|| super::arguments::complaint(&error));
                let source = table.source(table.line);
                problems.push(Problem { setting: format!("[[{name}]]"), source, value: None, reason });
            }
            None
        }
    }
}
