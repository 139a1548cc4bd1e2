//! `cargo xtask mutants`: deliberately broken builds, each of which some test must refuse.
//!
//! Each file in `xtask/mutants` replaces one piece of the source and names the tests that must fail then. The builds are made
//! in a copy of the tree with a target directory of its own, one after the other; what is built once is built again only
//! as far as the mutation reaches.

mod definition;
mod page;
mod running;

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::progress::leave_stdout_alone;
use crate::workspace;
use definition::Mutation;
use running::{Outcome, Workshop};

/// Which broken builds to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this one; can be given again.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print what came out as JSON, and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Make no builds: write the table of `docs/testing.md` from the mutations.
    #[arg(long, conflicts_with_all = ["only", "json"])]
    write: bool,
}

/// One line of the result.
#[derive(Serialize)]
struct Line {
    mutation: String,
    about: String,
    /// Tests that failed, as they must.
    caught_by: Vec<String>,
    /// Named tests that passed although the build is broken.
    missed_by: Vec<String>,
    /// What kept the tests from running; then nothing was shown.
    trouble: Option<String>,
    /// What building and testing took.
    seconds: u64,
}

impl Line {
    fn is_caught(&self) -> bool {
        !self.caught_by.is_empty() && self.missed_by.is_empty() && self.trouble.is_none()
    }

    fn verdict(&self) -> String {
        match &self.trouble {
            Some(trouble) => format!("TROUBLE  {trouble}"),
            None if self.is_caught() => format!("caught by {}", self.caught_by.join(", ")),
            None => format!("SURVIVED {}", self.missed_by.join(", ")),
        }
    }
}

/// Whether every mutation was caught by every test that it names.
pub(crate) fn mutants(options: &Options) -> Result<bool> {
    let mut mutations = definition::all()?;
    if options.write {
        page::write(&mutations)?;
        return Ok(true);
    }
    page::check(&mutations)?;
    for mutation in &mutations {
        mutation.mutated(&workspace::root())?;
        mutation.check_tests()?;
    }
    for only in &options.only {
        let is_there = mutations.iter().any(|mutation| mutation.name == *only);
        ensure!(is_there, "there is no mutation `{only}`; each is a file in xtask/mutants");
    }
    if !options.only.is_empty() {
        mutations.retain(|mutation| options.only.contains(&mutation.name));
    }
    leave_stdout_alone();
    let began = Instant::now();
    let workshop = Workshop::open()?;
    workshop.check_unharmed(&mutations)?;
    eprintln!("The tests that are named hold as it is ({} s)", began.elapsed().as_secs());
    let mut lines = Vec::new();
    for (index, mutation) in mutations.iter().enumerate() {
        let line = tried(&workshop, mutation)?;
        eprintln!("[{}/{}] {}: {} ({} s)", index + 1, mutations.len(), line.mutation, line.verdict(), line.seconds);
        lines.push(line);
    }
    eprintln!("{} s in all", began.elapsed().as_secs());
    if options.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print(&lines);
    }
    Ok(lines.iter().all(Line::is_caught))
}

fn tried(workshop: &Workshop, mutation: &Mutation) -> Result<Line> {
    let began = Instant::now();
    let mut line = Line {
        mutation: mutation.name.clone(),
        about: mutation.about.clone(),
        caught_by: Vec::new(),
        missed_by: Vec::new(),
        trouble: None,
        seconds: 0,
    };
    match workshop.try_out(mutation)? {
        Outcome::Ran { failed, passed } => {
            line.caught_by = failed;
            line.missed_by = passed;
        }
        Outcome::NotBuilt(why) => line.trouble = Some(format!("it does not build: {why}")),
    }
    line.seconds = began.elapsed().as_secs();
    Ok(line)
}

fn print(lines: &[Line]) {
    let width = lines.iter().map(|line| line.mutation.len()).max().unwrap_or(0);
    for line in lines {
        println!("{:<width$}  {}", line.mutation, line.verdict());
    }
    let caught = lines.iter().filter(|line| line.is_caught()).count();
    println!("{caught} of {} broken builds were caught", lines.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_applies_and_every_test_that_it_names_exists() {
        let mutations = definition::all().unwrap();
        assert!(mutations.len() >= 15, "{}", mutations.len());
        for mutation in &mutations {
            mutation.mutated(&workspace::root()).unwrap();
            mutation.check_tests().unwrap();
        }
    }

    #[test]
    fn the_page_lists_the_mutations_as_they_are() {
        page::check(&definition::all().unwrap()).unwrap();
    }

    #[test]
    fn a_build_counts_as_caught_only_if_every_named_test_failed() {
        let line = |caught: &[&str], missed: &[&str], trouble: Option<&str>| {
            let owned = |tests: &[&str]| tests.iter().map(|test| (*test).to_owned()).collect();
            Line {
                mutation: "m".into(),
                about: "a".into(),
                caught_by: owned(caught),
                missed_by: owned(missed),
                trouble: trouble.map(str::to_owned),
                seconds: 1,
            }
        };
        assert!(line(&["a"], &[], None).is_caught());
        assert!(!line(&["a"], &["b"], None).is_caught());
        assert!(!line(&[], &[], None).is_caught());
        assert!(!line(&["a"], &[], Some("no")).is_caught());
    }
}
