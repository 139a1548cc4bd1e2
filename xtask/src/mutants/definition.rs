//! What a mutation is: a file in `xtask/mutants`, its text replaced by another, and the tests that must notice.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::named_tests;
use crate::workspace;

/// One deliberately broken build.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutation {
    /// The name of its file.
    #[serde(skip)]
    pub(super) name: String,
    /// What is broken, in a sentence.
    pub(super) about: String,
    /// The source that is changed, from the workspace's root.
    pub(super) file: String,
    /// What stands there, exactly once.
    pub(super) search: String,
    /// What stands there instead.
    pub(super) replace: String,
    /// The tests that must fail, as `package::module::name`, all of them in the package's library.
    pub(super) tests: Vec<String>,
}

pub(super) fn all() -> Result<Vec<Mutation>> {
    let directory = workspace::root().join("xtask/mutants");
    let mut mutations = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let mut mutation: Mutation = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        mutation.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        mutations.push(mutation);
    }
    mutations.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(mutations)
}

impl Mutation {
    /// The file's text with the mutation; an error if it no longer fits.
    pub(super) fn mutated(&self) -> Result<String> {
        let text = fs::read_to_string(workspace::root().join(&self.file))
            .with_context(|| format!("mutation {}: cannot read {}", self.name, self.file))?;
        self.applied_to(&text)
    }

    pub(super) fn applied_to(&self, text: &str) -> Result<String> {
        match text.matches(&self.search).count() {
            1 => Ok(text.replacen(&self.search, &self.replace, 1)),
            count => bail!(
                "mutation {} is stale: what it replaces stands {count} times in {}, not once; mend xtask/mutants/{}.toml",
                self.name,
                self.file,
                self.name
            ),
        }
    }

    /// The tests, by package: (package, paths within it).
    pub(super) fn by_package(&self) -> Vec<(String, Vec<String>)> {
        let mut packages: Vec<(String, Vec<String>)> = Vec::new();
        for test in &self.tests {
            let (package, path) = test.split_once("::").unwrap_or(("", test));
            match packages.iter_mut().find(|(name, _)| name == package) {
                Some((_, paths)) => paths.push(path.to_owned()),
                None => packages.push((package.to_owned(), vec![path.to_owned()])),
            }
        }
        packages
    }

    pub(super) fn check_tests(&self) -> Result<()> {
        ensure!(!self.tests.is_empty(), "mutation {} names no test", self.name);
        for test in &self.tests {
            ensure!(named_tests::exists(test)?, "mutation {}: there is no test `{test}`", self.name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(search: &str) -> Mutation {
        Mutation {
            name: "m".into(),
            about: String::new(),
            file: "f".into(),
            search: search.into(),
            replace: "b".into(),
            tests: vec!["models::expiry::x".into(), "registry::core::y".into(), "models::log::z".into()],
        }
    }

    #[test]
    fn a_mutation_that_no_longer_fits_is_an_error_that_names_it() {
        assert_eq!(mutation("a").applied_to("cab").unwrap(), "cbb");
        for text in ["xyz", "aa"] {
            let error = mutation("a").applied_to(text).unwrap_err().to_string();
            assert!(error.contains("mutation m is stale"), "{error}");
        }
    }

    #[test]
    fn tests_are_run_package_by_package() {
        let packages = mutation("a").by_package();
        assert_eq!(packages[0], ("models".to_owned(), vec!["expiry::x".to_owned(), "log::z".to_owned()]));
        assert_eq!(packages[1], ("registry".to_owned(), vec!["core::y".to_owned()]));
    }
}
