//! What is wrong with a setting: which, where it came from, its value, why, and the way out.

use std::fmt;
use std::path::PathBuf;

use crate::exit::{Exit, ExitReason};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// Nothing was given.
    Default,
}

impl Source {
    /// The order in which a user looks: command line, environment, file from top to bottom.
    fn place(&self) -> (u8, usize) {
        match self {
            Self::Flag => (0, 0),
            Self::Default => (1, 0),
            Self::Environment(_) => (2, 0),
            Self::File { line, .. } => (3, *line),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As the source spells it: `--http`, `MUSTER_HTTP`, `http`. Empty where the source as a whole is meant.
    pub setting: String,
    /// Where the value came from.
    pub source: Source,
    /// The value, if there was one. Passwords in URLs are masked when it is shown.
    pub value: Option<String>,
    /// What is wrong, and the way out.
    pub reason: String,
}

impl Problem {
    pub(super) fn of_command_line(reason: impl Into<String>) -> Self {
        Self { setting: String::new(), source: Source::Flag, value: None, reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Source::File { path, line } = &self.source {
            write!(f, "{}:{line}", path.display())?;
            separator = ": ";
        }
        if !self.setting.is_empty() {
            write!(f, "{separator}{}", self.setting)?;
            separator = ": ";
            if let Some(value) = &self.value {
                write!(f, " = `{}`", without_password(value))?;
            }
        }
        write!(f, "{separator}{}", self.reason)
    }
}

/// Everything that is wrong, in the order in which a user would look for it: command line, environment, file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(super) fn sorted(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.source.place());
        Self(problems)
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                write!(f, "{} problems with the settings", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

impl ExitReason for Problems {
    /// Usage if the command line has a part in it, else configuration.
    fn exit(&self) -> Exit {
        if self.0.iter().any(|problem| problem.source == Source::Flag) { Exit::Usage } else { Exit::Configuration }
    }
}

/// The value with what stands between `://` and `@` masked: a URL may carry a password or a token there.
pub(super) fn without_password(value: &str) -> String {
    value.split(',').map(mask_url).collect::<Vec<_>>().join(",")
}

fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}
