//! The table of mutations in `docs/testing.md`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::definition::Mutation;
use crate::workspace;

const BEGIN: &str = "<!-- mutations: written by `cargo xtask mutants --write` -->\n";
const END: &str = "<!-- end of mutations -->\n";

pub(super) fn write(mutations: &[Mutation]) -> Result<()> {
    let text = fs::read_to_string(path())?;
    fs::write(path(), with_table(&text, mutations)?)?;
    Ok(())
}

pub(super) fn check(mutations: &[Mutation]) -> Result<()> {
    let text = fs::read_to_string(path())?;
    ensure!(
        with_table(&text, mutations)? == text,
        "the mutations in docs/testing.md are stale: run `cargo xtask mutants --write`"
    );
    Ok(())
}

fn path() -> PathBuf {
    workspace::root().join("docs/testing.md")
}

fn with_table(text: &str, mutations: &[Mutation]) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("docs/testing.md has no place for the mutations")?;
    let (_, after) = rest.split_once(END).context("docs/testing.md has no end of the mutations")?;
    let mut table = "\n| mutation | what is broken | caught by |\n|---|---|---|\n".to_owned();
    for mutation in mutations {
        let tests: Vec<_> = mutation.tests.iter().map(|test| format!("`{test}`")).collect();
        table += &format!("| {} | {} | {} |\n", mutation.name, mutation.about, tests.join(", "));
    }
    Ok(format!("{before}{BEGIN}{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_what_stood_there_and_nothing_else() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        let fresh = with_table(&text, &[]).unwrap();
        assert!(fresh.starts_with("a\n") && fresh.ends_with("b\n") && !fresh.contains("old"), "{fresh}");
        assert_eq!(with_table(&fresh, &[]).unwrap(), fresh);
    }
}
