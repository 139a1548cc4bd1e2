//! Broken builds, in a copy of the tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::definition::Mutation;
use crate::{run, workspace};

/// A broken build may go round in circles. That counts as caught: a test that never ends has not passed.
const TESTS_MAX: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(100);

/// What the tests said of a broken build.
pub(super) enum Outcome {
    Ran { failed: Vec<String>, passed: Vec<String> },
    NotBuilt(String),
}

/// The copy and its target directory.
pub(super) struct Workshop {
    tree: PathBuf,
    build: PathBuf,
}

impl Workshop {
    /// Brings the copy to the tree's present state; files that are the same are not touched, so nothing of them is built again.
    pub(super) fn open() -> Result<Self> {
        let directory = workspace::target().join("mutants");
        let workshop = Self { tree: directory.join("tree"), build: directory.join("build") };
        fs::create_dir_all(&workshop.build)?;
        fs::create_dir_all(workspace::tools())?;
        let mut list = Command::new("git");
        list.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(workspace::root());
        let output = list.output().context("cannot run git")?;
        ensure!(output.status.success(), "git ls-files failed ({})", output.status);
        for path in String::from_utf8_lossy(&output.stdout).lines() {
            let (from, to) = (workspace::root().join(path), workshop.tree.join(path));
            let Ok(content) = fs::read(&from) else { continue };
            if fs::read(&to).ok().as_ref() != Some(&content) {
                fs::create_dir_all(to.parent().unwrap_or(Path::new("")))?;
                fs::write(&to, content).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
        Ok(workshop)
    }

    /// Unharmed, every named test must pass, or its failure would show nothing.
    pub(super) fn check_unharmed(&self, mutations: &[Mutation]) -> Result<()> {
        let mut all = Mutation { tests: Vec::new(), ..mutations[0].clone() };
        all.tests = mutations.iter().flat_map(|mutation| mutation.tests.clone()).collect();
        all.tests.sort();
        all.tests.dedup();
        eprintln!("Building what is not broken");
        match self.run_tests(&all)? {
            Outcome::NotBuilt(why) => anyhow::bail!("the tree does not build as it is: {why}"),
            Outcome::Ran { failed, .. } => ensure!(failed.is_empty(), "these fail as it is: {}", failed.join(", ")),
        }
        Ok(())
    }

    /// Breaks the copy, runs the tests that must notice, and mends it.
    pub(super) fn try_out(&self, mutation: &Mutation) -> Result<Outcome> {
        let path = self.tree.join(&mutation.file);
        let unharmed = fs::read_to_string(&path)?;
        fs::write(&path, mutation.applied_to(&unharmed)?)?;
        let outcome = self.run_tests(mutation);
        fs::write(&path, unharmed)?;
        outcome
    }

    fn cargo(&self, package: &str) -> Command {
        let mut command = workspace::cargo();
        let package = format!("muster-{package}");
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build);
        command.args(["test", "--quiet", "--package", &package, "--lib"]);
        command
    }

    fn run_tests(&self, mutation: &Mutation) -> Result<Outcome> {
        let (mut failed, mut passed) = (Vec::new(), Vec::new());
        for (package, paths) in mutation.by_package() {
            let (status, output) = run::captured(self.cargo(&package).arg("--no-run"))?;
            if !status.success() {
                let error = output.lines().find(|line| line.starts_with("error")).unwrap_or("no error was named");
                return Ok(Outcome::NotBuilt(error.to_owned()));
            }
            for path in paths {
                let test = format!("{package}::{path}");
                let list = if self.passes(&package, &path)? { &mut passed } else { &mut failed };
                list.push(test);
            }
        }
        Ok(Outcome::Ran { failed, passed })
    }

    fn passes(&self, package: &str, path: &str) -> Result<bool> {
        let log = self.build.join("output");
        let mut command = self.cargo(package);
        command.args(["--", "--exact", path]).stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::null());
        let mut child = command.spawn().context("cannot run cargo test")?;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                let output = fs::read_to_string(&log)?;
                let ran = output.contains("1 passed") || output.contains("1 failed") || !status.success();
                ensure!(ran, "there is no test `{path}` in the library of muster-{package}");
                return Ok(status.success());
            }
            if started.elapsed() > TESTS_MAX {
                child.kill()?;
                child.wait()?;
                return Ok(false);
            }
            thread::sleep(POLL);
        }
    }
}
