//! The environment layer: `MUSTER_*` variables, those known under foreign names, and those nobody knows.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::nearest::suggestion;
use super::problem::{Problem, Source};
use super::setting::Setting;

const PREFIX: &str = "MUSTER_";

/// The variables of a process that are not empty.
#[derive(Debug, Default)]
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self(named.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The value of one variable, if it is set.
    ///
    /// # Errors
    /// It is not Unicode.
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, Problem> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value.to_str().map(|value| Some(value.to_owned())).ok_or_else(|| Problem {
            setting: name.to_owned(),
            source: Source::Environment(name.to_owned()),
            value: Some(value.to_string_lossy().into_owned()),
            reason: "not valid UTF-8; set it to plain text, or unset it".to_owned(),
        })
    }

    /// The variable that wins for this setting, and its value.
    ///
    /// # Errors
    /// It is not Unicode.
    pub(super) fn of_setting(&self, setting: &Setting) -> Result<Option<(String, String)>, Problem> {
        for variable in &setting.variables {
            if let Some(value) = self.get(variable)? {
                return Ok(Some((variable.clone(), value)));
            }
        }
        Ok(None)
    }

    /// One warning for each `MUSTER_*` variable that no setting of this program has.
    pub(super) fn unknown(&self, settings: &[Setting]) -> Vec<String> {
        let known: Vec<&str> = settings.iter().flat_map(|setting| &setting.variables).map(String::as_str).collect();
        let candidates = || known.iter().copied().chain(["MUSTER_CONFIG"]);
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && !candidates().any(|known| known == name.as_str()))
            .filter(|(name, value)| !is_from_orchestrator(name, value))
            .map(|(name, _)| {
                format!("{name} is set, but is no setting of this program{}", suggestion(name, candidates()))
            })
            .collect()
    }
}

/// Kubernetes gives every pod variables for every service; a service called `muster` makes `MUSTER_SERVICE_HOST`,
/// `MUSTER_PORT=tcp://…`, `MUSTER_PORT_4222_TCP_ADDR` and more. They are nobody's slip.
fn is_from_orchestrator(name: &str, value: &OsString) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || value.to_str().is_some_and(|value| value.starts_with("tcp://") || value.starts_with("udp://"))
}
