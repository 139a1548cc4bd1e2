//! What dependencies may be: licences, bans and sources as in `deny.toml`; advisories where their list is reachable.

use std::process::Command;

use anyhow::Result;

use super::report::Outcome;
use crate::{run, setup, workspace};

fn cargo_deny(arguments: &[&str]) -> Command {
    let mut command = Command::new(setup::cargo_deny_binary());
    command.current_dir(workspace::root()).args(["--color", "never", "check"]).args(arguments);
    command
}

pub(super) fn policy() -> Result<Outcome> {
    run::quietly(&mut cargo_deny(&["--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    Ok(Outcome::check(true))
}

pub(super) fn advisories() -> Result<Outcome> {
    let (status, output) = run::captured(&mut cargo_deny(&["advisories"]))?;
    if status.success() {
        return Ok(Outcome::check(true));
    }
    if let Some(why) = unreachable(&output) {
        return Ok(Outcome::Skipped(why));
    }
    println!("{output}");
    Ok(Outcome::check(false))
}

/// A list that cannot be fetched says nothing about our dependencies; anything else does.
fn unreachable(output: &str) -> Option<String> {
    output.contains("failed to fetch advisory database").then(|| {
        let cause = output.lines().map(str::trim).find(|line| line.starts_with("fatal:"));
        let cause = cause.map_or("no connection", |line| line.trim_start_matches("fatal:").trim());
        format!("the advisory database is not reachable: {cause}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_out_of_reach_is_told_from_a_weakness_in_a_dependency() {
        let offline = "[ERROR] failed to fetch advisory database https://example.org/db with cli\n\
            fatal: unable to access 'https://example.org/db/': Could not resolve host: example.org";
        let why = unreachable(offline).unwrap();
        assert!(why.contains("Could not resolve host"), "{why}");
        assert_eq!(unreachable("error[vulnerability]: a buffer overflow\nadvisories FAILED"), None);
    }
}
