//! What a mutation is: a file in `xtask/mutants`, its text replaced by another, and the tests that must notice.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::named_tests;
use crate::workspace;

/// One piece of a source, and what stands there instead.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    file: String,
    search: String,
    replace: String,
}

/// What holds a test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Build {
    /// The library in this folder.
    Library(String),
    /// A suite of `tests/tests`, which starts our programs.
    Suite(String),
}

impl Build {
    /// A test's name as it is written down.
    pub(super) fn name_of(&self, path: &str) -> String {
        let (Self::Library(first) | Self::Suite(first)) = self;
        format!("{first}::{path}")
    }
}

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
    /// What is changed besides, where one place is not enough.
    #[serde(default)]
    pub(super) also: Vec<Change>,
    /// The tests that must fail: `package::module::name` for those beside the code, `suite::module::name` for those of
    /// `tests/tests`.
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
    /// The sources with the mutation, by their path below `root`; an error if it no longer fits.
    pub(super) fn mutated(&self, root: &Path) -> Result<BTreeMap<String, String>> {
        let first = Change { file: self.file.clone(), search: self.search.clone(), replace: self.replace.clone() };
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        for change in std::iter::once(&first).chain(&self.also) {
            let text = match texts.get(&change.file) {
                Some(text) => text.clone(),
                None => fs::read_to_string(root.join(&change.file))
                    .with_context(|| format!("mutation {}: cannot read {}", self.name, change.file))?,
            };
            texts.insert(change.file.clone(), self.applied_to(&text, change)?);
        }
        Ok(texts)
    }

    fn applied_to(&self, text: &str, change: &Change) -> Result<String> {
        match text.matches(&change.search).count() {
            1 => Ok(text.replacen(&change.search, &change.replace, 1)),
            count => bail!(
                "mutation {} is stale: what it replaces stands {count} times in {}, not once; mend xtask/mutants/{}.toml",
                self.name,
                change.file,
                self.name
            ),
        }
    }

    /// The tests, by what has to be built for them: (build, paths within it).
    pub(super) fn by_build(&self) -> Result<Vec<(Build, Vec<String>)>> {
        let mut builds: BTreeMap<Build, Vec<String>> = BTreeMap::new();
        for test in &self.tests {
            let (first, path) = test.split_once("::").unwrap_or(("", test));
            let first = first.to_owned();
            let build = if named_tests::is_in_suite(test)? { Build::Suite(first) } else { Build::Library(first) };
            builds.entry(build).or_default().push(path.to_owned());
        }
        Ok(builds.into_iter().collect())
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
            also: Vec::new(),
            tests: vec!["models::expiry::x".into(), "registry::core::y".into(), "models::log::z".into()],
        }
    }

    #[test]
    fn a_mutation_that_no_longer_fits_is_an_error_that_names_it() {
        let change = |search: &str| Change { file: "f".into(), search: search.into(), replace: "b".into() };
        assert_eq!(mutation("a").applied_to("cab", &change("a")).unwrap(), "cbb");
        for text in ["xyz", "aa"] {
            let error = mutation("a").applied_to(text, &change("a")).unwrap_err().to_string();
            assert!(error.contains("mutation m is stale"), "{error}");
        }
    }

    #[test]
    fn a_mutation_may_change_several_places_also_of_one_file() {
        let path = "xtask/src/progress.rs".to_owned();
        let mut mutation = Mutation { file: path.clone(), search: "//! Lines of progress".into(), ..mutation("a") };
        let search = "on standard output, or on standard error".to_owned();
        mutation.also = vec![Change { file: path.clone(), search, replace: "c".into() }];
        let texts = mutation.mutated(&workspace::root()).unwrap();
        assert!(texts[&path].starts_with("b: c where"), "{}", &texts[&path][..80]);
    }

    #[test]
    fn tests_are_run_build_by_build() {
        let mut mutation = mutation("a");
        mutation
            .tests
            .push("scenarios::clocks::a_service_restarted_after_its_hosts_clock_stepped_back_registers_at_once".into());
        let builds = mutation.by_build().unwrap();
        let of =
            |build: Build, paths: &[&str]| (build, paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
        assert_eq!(builds[0], of(Build::Library("models".into()), &["expiry::x", "log::z"]));
        assert_eq!(builds[1], of(Build::Library("registry".into()), &["core::y"]));
        assert_eq!(builds[2].0, Build::Suite("scenarios".into()));
        assert_eq!(builds[2].0.name_of(&builds[2].1[0]), mutation.tests[3]);
    }
}
