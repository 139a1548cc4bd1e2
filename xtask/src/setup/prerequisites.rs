//! What the machine must have before anything else can work, and which package brings it.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::say;
use crate::workspace;

const PYTHON_VERSION_MINIMUM: (u32, u32) = (3, 9);

struct Prerequisite {
    what: &'static str,
    command: Vec<String>,
    /// Why the answer will not do, if it will not.
    refuse: fn(&str) -> Option<String>,
    remedy: &'static str,
}

/// What building, testing and checking needs.
pub(super) const ALL: &[&str] = &["clippy", "rustfmt", "C compiler", "Python", "pip"];

/// Reports everything of this that is missing, at once.
pub(super) fn check(needed: &[&str]) -> Result<()> {
    let mut missing = Vec::new();
    for prerequisite in prerequisites().into_iter().filter(|it| needed.contains(&it.what)) {
        match answer(&prerequisite) {
            Ok(version) => say!("  {:<12} {version}", prerequisite.what),
            Err(why) => {
                say!("  {:<12} MISSING: {why}", prerequisite.what);
                missing.push(format!("  {}: {}", prerequisite.what, prerequisite.remedy));
            }
        }
    }
    if !missing.is_empty() {
        bail!("this machine lacks {} thing(s); install them and repeat:\n{}", missing.len(), missing.join("\n"));
    }
    Ok(())
}

fn answer(prerequisite: &Prerequisite) -> Result<String, String> {
    let (program, arguments) = prerequisite.command.split_first().expect("a command has a program");
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("`{program}`: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = complaint.lines().last().unwrap_or("it printed nothing");
        return Err(format!("`{}` failed: {complaint}", prerequisite.command.join(" ")));
    }
    let version = printed.lines().next().unwrap_or("").trim().to_owned();
    match (prerequisite.refuse)(&version) {
        Some(why) => Err(why),
        None => Ok(version),
    }
}

fn prerequisites() -> Vec<Prerequisite> {
    let cargo = workspace::cargo_program().to_string_lossy().into_owned();
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let anything = |_: &str| None;
    vec![
        Prerequisite {
            what: "clippy",
            command: command(&[&cargo, "clippy", "--version"]),
            refuse: anything,
            remedy: "`rustup component add clippy`, or the package `rust-clippy` / `clippy` of your system",
        },
        Prerequisite {
            what: "rustfmt",
            command: command(&[&cargo, "fmt", "--version"]),
            refuse: anything,
            remedy: "`rustup component add rustfmt`, or the package `rustfmt` of your system",
        },
        Prerequisite {
            what: "C compiler",
            command: command(&[&compiler, "--version"]),
            refuse: anything,
            remedy: "Debian, Ubuntu: `apt-get install build-essential`; Fedora: `dnf install gcc`; macOS: `xcode-select --install`",
        },
        Prerequisite {
            what: "Python",
            command: command(&["python3", "--version"]),
            refuse: python_too_old,
            remedy: "Python 3.9 or newer. Debian, Ubuntu: `apt-get install python3`; Fedora: `dnf install python3`; macOS: `brew install python3`",
        },
        Prerequisite {
            what: "pip",
            command: command(&["python3", "-m", "pip", "--version"]),
            refuse: anything,
            remedy: "Debian, Ubuntu: `apt-get install python3-pip`; Fedora: `dnf install python3-pip`; elsewhere: `python3 -m ensurepip`",
        },
    ]
}

fn python_too_old(answer: &str) -> Option<String> {
    let version = answer.strip_prefix("Python ").unwrap_or(answer);
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let found = (numbers.next().flatten()?, numbers.next().flatten()?);
    let (major, minor) = PYTHON_VERSION_MINIMUM;
    (found < PYTHON_VERSION_MINIMUM).then(|| format!("found {version}, but {major}.{minor} or newer is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_python_is_refused_and_a_new_one_is_not() {
        assert!(python_too_old("Python 3.8.20").unwrap().contains("found 3.8.20"));
        assert!(python_too_old("Python 2.7.18").is_some());
        assert_eq!(python_too_old("Python 3.9.0"), None);
        assert_eq!(python_too_old("Python 3.14.0rc1"), None);
    }

    #[test]
    fn everything_that_is_needed_has_its_check() {
        assert!(ALL.iter().all(|needed| prerequisites().iter().any(|it| it.what == *needed)));
        assert_eq!(ALL.len(), prerequisites().len());
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let absent = Prerequisite {
            what: "it",
            command: vec!["no-such-program-here".into()],
            refuse: |_| None,
            remedy: "install it",
        };
        assert!(answer(&absent).unwrap_err().contains("no-such-program-here"));
    }
}
