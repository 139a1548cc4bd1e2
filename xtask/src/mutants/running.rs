//! Broken builds, in a copy of the tree.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::definition::{Build, Mutation};
use crate::{run, workspace};

/// A test of a broken build may go round in circles. That counts as caught: a test that never ends has not passed.
const TEST_MAX: Duration = Duration::from_secs(300);
/// What the suites start.
const PROGRAMS: [&str; 9] = [
    "--bins",
    "--package",
    "muster-registry",
    "--package",
    "muster-agent",
    "--package",
    "muster-cli",
    "--package",
    "muster-tests",
];
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
        let broken = mutation.mutated(&self.tree)?;
        let mut unharmed = Vec::new();
        for (path, text) in &broken {
            let path = self.tree.join(path);
            unharmed.push((path.clone(), fs::read_to_string(&path)?));
            fs::write(&path, text)?;
        }
        let outcome = self.run_tests(mutation);
        for (path, text) in unharmed {
            fs::write(&path, text)?;
        }
        outcome
    }

    fn run_tests(&self, mutation: &Mutation) -> Result<Outcome> {
        let (mut failed, mut passed) = (Vec::new(), Vec::new());
        for (build, paths) in mutation.by_build()? {
            let program = match self.build(&build)? {
                Ok(program) => program,
                Err(why) => return Ok(Outcome::NotBuilt(why)),
            };
            for path in paths {
                let list = if self.passes(&build, &program, &path)? { &mut passed } else { &mut failed };
                list.push(build.name_of(&path));
            }
        }
        Ok(Outcome::Ran { failed, passed })
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = workspace::cargo();
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build).args(arguments);
        command
    }

    /// The program with the tests, or the compiler's first complaint.
    fn build(&self, build: &Build) -> Result<Result<PathBuf, String>> {
        let mut command = self.cargo(&["test", "--no-run", "--message-format=json"]);
        match build {
            Build::Library(folder) => command.args(["--lib", "--package", &format!("muster-{folder}")]),
            Build::Suite(suite) => {
                let (status, output) = run::captured(self.cargo(&["build", "--message-format=json"]).args(PROGRAMS))?;
                if !status.success() {
                    return Ok(Err(complaint(&output)));
                }
                command.args(["--package", "muster-tests", "--test", suite])
            }
        };
        let (status, output) = run::captured(&mut command)?;
        if !status.success() {
            return Ok(Err(complaint(&output)));
        }
        let mut programs = messages(&output).filter_map(|message| Some(message["executable"].as_str()?.to_owned()));
        programs.next_back().map(|program| Ok(PathBuf::from(program))).context("cargo named no program with the tests")
    }

    fn passes(&self, build: &Build, program: &Path, path: &str) -> Result<bool> {
        let log = self.build.join("output");
        let folder = match build {
            Build::Library(folder) => folder,
            Build::Suite(_) => "tests",
        };
        let mut command = Command::new(program);
        command.args(["--exact", path]).current_dir(self.tree.join(folder)).stdin(Stdio::null());
        command.env("MUSTER_TEST_NATS_SERVER", workspace::nats_server());
        command.stdout(File::create(&log)?).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                let output = fs::read_to_string(&log)?;
                let ran = output.contains("1 passed") || output.contains("1 failed") || !status.success();
                ensure!(ran, "there is no test `{path}` in {}", program.display());
                return Ok(status.success());
            }
            if started.elapsed() > TEST_MAX {
                child.kill()?;
                child.wait()?;
                return Ok(false);
            }
            thread::sleep(POLL);
        }
    }
}

/// Cargo's own messages, among what the compiler says.
fn messages(output: &str) -> impl DoubleEndedIterator<Item = Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn complaint(output: &str) -> String {
    let errors = messages(output).filter(|message| message["message"]["level"] == "error");
    let mut errors = errors.filter_map(|message| Some(message["message"]["message"].as_str()?.to_owned()));
    errors.next().unwrap_or_else(|| "no error was named".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_a_build_is_told_and_no_warning() {
        let output = concat!(
            "   Compiling x\n",
            r#"{"reason":"compiler-message","message":{"level":"warning","message":"unused"}}"#,
            "\n",
            r#"{"reason":"compiler-message","message":{"level":"error","message":"mismatched types"}}"#,
            "\n",
            r#"{"reason":"build-finished","success":false}"#,
        );
        assert_eq!(complaint(output), "mismatched types");
        assert_eq!(complaint("error: no such package"), "no error was named");
    }
}
