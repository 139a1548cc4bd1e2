//! `cargo xtask mutants`: deliberately broken builds, each of which some test must refuse.
//!
//! Each file in `xtask/mutants` replaces one piece of the source and names the tests that must fail then. The builds are made
//! in a copy of the tree with a target directory of its own, one after the other; what is built once is built again only
//! as far as the mutation reaches.

mod definition;
mod page;
mod running;

use anyhow::{Result, ensure};
use serde::Serialize;

use definition::Mutation;
use running::{Outcome, Workshop};

/// Which broken builds to make.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this one.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
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
}

impl Line {
    fn is_caught(&self) -> bool {
        !self.caught_by.is_empty() && self.missed_by.is_empty() && self.trouble.is_none()
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
        mutation.mutated()?;
        mutation.check_tests()?;
    }
    if let Some(only) = &options.only {
        mutations.retain(|mutation| mutation.name == *only);
        ensure!(!mutations.is_empty(), "there is no mutation `{only}`; each is a file in xtask/mutants");
    }
    let workshop = Workshop::open()?;
    workshop.check_unharmed(&mutations)?;
    let mut lines = Vec::new();
    for (index, mutation) in mutations.iter().enumerate() {
        eprintln!("[{}/{}] {}", index + 1, mutations.len(), mutation.name);
        lines.push(tried(&workshop, mutation)?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print(&lines);
    }
    Ok(lines.iter().all(Line::is_caught))
}

fn tried(workshop: &Workshop, mutation: &Mutation) -> Result<Line> {
    let mut line = Line {
        mutation: mutation.name.clone(),
        about: mutation.about.clone(),
        caught_by: Vec::new(),
        missed_by: Vec::new(),
        trouble: None,
    };
    match workshop.try_out(mutation)? {
        Outcome::Ran { failed, passed } => {
            line.caught_by = failed;
            line.missed_by = passed;
        }
        Outcome::NotBuilt(why) => line.trouble = Some(format!("it does not build: {why}")),
    }
    Ok(line)
}

fn print(lines: &[Line]) {
    let width = lines.iter().map(|line| line.mutation.len()).max().unwrap_or(0);
    for line in lines {
        let verdict = match &line.trouble {
            Some(trouble) => format!("TROUBLE  {trouble}"),
            None if line.is_caught() => format!("caught by {}", line.caught_by.join(", ")),
            None => format!("SURVIVED {}", line.missed_by.join(", ")),
        };
        println!("{:<width$}  {verdict}", line.mutation);
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
            mutation.mutated().unwrap();
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
            }
        };
        assert!(line(&["a"], &[], None).is_caught());
        assert!(!line(&["a"], &["b"], None).is_caught());
        assert!(!line(&[], &[], None).is_caught());
        assert!(!line(&["a"], &[], Some("no")).is_caught());
    }
}
