//! Loads a program's settings from the process it runs in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

use super::Settings;
use super::arguments::{self, Given, complaint};
use super::check::Check;
use super::environment::Environment;
use super::file::{self, FileTable};
use super::layers::{Layers, unknown_keys, with_defaults};
use super::problem::{Problem, Problems, Source};
use super::reference::Reference;
use super::setting::{CONFIG, prepared, settings_of};
use super::subcommand;
use crate::exit::{Exit, ExitReason, end_process};
use crate::metrics::MetricDoc;
use crate::version;

/// Alone on the command line, it asks for the reference; no flag, since a program may insist on a command beside flags.
const REFERENCE: &str = "--reference";

/// A program and the name of its configuration file.
#[derive(Clone, Debug)]
pub struct Program {
    name: &'static str,
    metrics: Option<fn() -> Vec<MetricDoc>>,
}

/// What settings are read from; of the process itself, or made up by a test.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The command line, the program's name first.
    pub arguments: Vec<OsString>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Where a file is looked for if none is named; the first that exists is read.
    pub search_path: Vec<PathBuf>,
}

/// The settings, and what was noticed on the way.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The program's struct.
    pub settings: T,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Unknown variables and the like: log them as soon as there is a log.
    pub warnings: Vec<String>,
}

impl<T> Loaded<T> {
    /// Logs what was noticed.
    pub fn log_warnings(&self) {
        if let Some(file) = &self.file {
            tracing::info!(file = %file.display(), "configuration file read");
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `--help`, `--version`, or a subcommand missing: a text to print; `0` for standard output or usage.
    #[error("{0}")]
    Display(clap::Error),
    /// `--reference` was asked for: this goes to standard output.
    #[error("{0}")]
    Reference(String),
    /// Something is wrong.
    #[error("{0}")]
    Problems(Problems),
}

impl Inputs {
    /// Those of this process. The file is `$XDG_CONFIG_HOME/muster/<name>.toml` (or `~/.config/…`), else
    /// `/etc/muster/<name>.toml`.
    #[must_use]
    pub fn of_process(name: &str) -> Self {
        Self {
            arguments: std::env::args_os().collect(),
            variables: std::env::vars_os().collect(),
            search_path: search_path(name),
        }
    }
}

fn search_path(name: &str) -> Vec<PathBuf> {
    let file = format!("{name}.toml");
    let mut paths: Vec<PathBuf> = config_home().map(|home| home.join("muster").join(&file)).into_iter().collect();
    paths.push(Path::new("/etc/muster").join(file));
    paths
}

/// `$XDG_CONFIG_HOME`, else `~/.config`; relative values are ignored, as the XDG specification says.
pub(crate) fn config_home() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

impl Program {
    /// `name` is the stem of the configuration file: `registry` for `registry.toml`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, metrics: None }
    }

    /// Puts the program's metrics into its reference.
    #[must_use]
    pub fn metrics(mut self, list: fn() -> Vec<MetricDoc>) -> Self {
        self.metrics = Some(list);
        self
    }

    /// The settings of this process. Prints help, version, reference or all problems, and ends the process, where there
    /// is no going on: 0 for what was asked for, 64 if the command line is wrong, 78 if environment or file are.
    #[must_use]
    pub fn load_or_exit<T: Settings>(&self) -> Loaded<T> {
        let error = match self.load::<T>(Inputs::of_process(self.name)) {
            Ok(loaded) => return loaded,
            Err(error) => error,
        };
        match error {
            LoadError::Display(text) => {
                let exit = if text.use_stderr() { Exit::Usage } else { Exit::Success };
                let _ = text.print();
                end_process(exit.code().into())
            }
            LoadError::Reference(text) => {
                crate::output::print_line(&text);
                end_process(Exit::Success.code().into())
            }
            LoadError::Problems(problems) => {
                let name = T::command().get_name().to_owned();
                problems.exit().end(&name, format!("{problems}\nMore: {name} --help"))
            }
        }
    }

    /// The settings that these inputs give.
    ///
    /// # Errors
    /// Help, version or reference was asked for, or something is wrong.
    pub fn load<T: Settings>(&self, inputs: Inputs) -> Result<Loaded<T>, LoadError> {
        if inputs.arguments.iter().skip(1).eq([REFERENCE]) {
            return Err(LoadError::Reference(self.reference::<T>().to_json()));
        }
        let command = self.command::<T>();
        let (line, mut problems) = match arguments::read(&command, inputs.arguments.clone()) {
            Given::Display(error) => return Err(LoadError::Display(error)),
            Given::Line(line, problems) => (line, problems),
        };
        let environment = Environment::new(inputs.variables);
        let matches = line.as_ref().map(|line| &line.matches);
        let named = matches.and_then(|matches| matches.get_raw(CONFIG)?.next()).map(PathBuf::from);
        let file = match config_file(named, &environment, &inputs.search_path) {
            Ok(file) => file,
            Err(found) => {
                problems.extend(found);
                None
            }
        };
        let layers = Layers { line: matches, environment: &environment, file: file.as_ref() };
        let choices = layers.choose(&command, settings_of(&command), &mut problems);
        let subcommand =
            line.as_ref().map(|line| subcommand::choose(&command, line, &mut problems)).unwrap_or_default();
        let tables = T::tables();
        let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
        problems.extend(file.iter().flat_map(|file| unknown_keys(&command, file, &names)));

        let mut check = Check {
            choices: choices.iter().map(|choice| (choice.setting.key.clone(), choice.clone())).collect(),
            subcommand,
            warnings: environment.unknown(&settings_of(&command)),
            file,
            problems,
        };
        let settings = if check.problems.is_empty() {
            let strict = with_defaults(command, &choices).try_get_matches_from(inputs.arguments);
            let parsed = strict.and_then(|matches| T::from_arg_matches(&matches));
            parsed.map_err(|error| check.problems.push(Problem::of_command_line(explain(&error)))).ok()
        } else {
            None
        };
        self.finish(settings, check)
    }

    fn finish<T: Settings>(&self, settings: Option<T>, mut check: Check) -> Result<Loaded<T>, LoadError> {
        match settings {
            Some(mut settings) => {
                settings.check(&mut check);
                if check.problems.is_empty() {
                    let file = check.file.map(|file| file.path);
                    return Ok(Loaded { settings, file, warnings: check.warnings });
                }
            }
            None => T::tables().into_iter().for_each(|table| check.read_unasked(table)),
        }
        Err(LoadError::Problems(Problems::sorted(check.problems)))
    }

    /// The `clap` command with everything that is the same in all programs.
    #[must_use]
    pub fn command<T: Settings>(&self) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_hint(clap::ValueHint::FilePath)
            .value_parser(clap::value_parser!(PathBuf))
            .global(true)
            .help(format!(
                "Read settings from this TOML file [MUSTER_CONFIG; else muster/{0}.toml in the user's configuration \
                 directory, else /etc/muster/{0}.toml]",
                self.name
            ));
        prepared(T::command()).version(version::long()).arg(config)
    }

    /// All settings, commands, metrics and exit codes, for the generated documents.
    #[must_use]
    pub fn reference<T: Settings>(&self) -> Reference {
        let metrics = self.metrics.map(|list| list()).unwrap_or_default();
        Reference::new(&self.command::<T>(), &T::tables(), metrics)
    }
}

fn explain(error: &clap::Error) -> String {
    match arguments::missing(error) {
        Some(missing) => format!("{missing} (by flag, MUSTER_* variable or configuration file)"),
        None => complaint(error),
    }
}

/// The named file, which must be there, or the first of the search path that is.
fn config_file(
    named: Option<PathBuf>,
    environment: &Environment,
    search_path: &[PathBuf],
) -> Result<Option<FileTable>, Vec<Problem>> {
    const VARIABLE: &str = "MUSTER_CONFIG";
    let by_variable = environment.get(VARIABLE).map_err(|problem| vec![problem])?;
    let (path, spelled, source) = match (named, by_variable) {
        (Some(path), _) => (path, "--config", Source::Flag),
        (None, Some(path)) => (path.into(), VARIABLE, Source::Environment(VARIABLE.to_owned())),
        (None, None) => {
            let found = search_path.iter().find(|path| path.is_file());
            return found.map(|path| file::read(path)).transpose();
        }
    };
    if !path.exists() {
        let (setting, value) = (spelled.to_owned(), Some(path.display().to_string()));
        let reason = "there is no such file; name one that exists, or leave it out".to_owned();
        return Err(vec![Problem { setting, source, value, reason }]);
    }
    file::read(&path).map(Some)
}
