//! Where a registry's instructions go under load: the whole process under callgrind, driven over a broker.
//!
//! Instructions, not time: a busy machine says the same as an idle one. What the kernel does is not in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use muster_tests::{ProcessBuilder, bin};
use serde::Serialize;

use crate::payload::fleet;
use crate::stand::{Broker, Durability, pipeline, until_instances};

/// Registrations that are profiled; the registry's own start is little beside them.
const REGISTRATIONS: usize = 20_000;
/// Functions that are told of.
const FUNCTIONS: usize = 25;
/// Callgrind is slow, and so is what it runs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the instructions of one kind of work go.
#[derive(Debug, Serialize)]
struct Profile {
    work: &'static str,
    count: usize,
    instructions_each: u64,
    functions: Vec<Function>,
}

/// One function, with what was inlined into it.
#[derive(Debug, Serialize)]
struct Function {
    name: String,
    instructions_each: u64,
}

/// Writes the profile as JSON.
pub(crate) async fn profile(file: &Path) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        bail!("valgrind is not installed (Debian: apt install valgrind)");
    }
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("callgrind.out");
    let broker = Broker::start(Durability::PageCache, "").await?;
    let mut registry = ProcessBuilder::new("valgrind")
        .args(["--tool=callgrind", &format!("--callgrind-out-file={}", out.display())])
        .arg(bin("muster-registry"))
        .args(["--server", &broker.server.url(), "--replica-id", "r1", "--listen-period", "200ms"])
        .start();
    registry.wait_for_line("answering queries", PATIENCE).await;
    let client = broker.connect().await;
    let events = fleet(REGISTRATIONS, 0).map(|(subject, bytes)| (subject.into(), bytes));
    pipeline(&client, events, 256).await?;
    until_instances(&client, REGISTRATIONS as u64).await;
    registry.stop(PATIENCE).await;

    let annotated = Command::new("callgrind_annotate").args(["--threshold=100", "--auto=no"]).arg(&out).output()?;
    ensure!(annotated.status.success(), "{}", String::from_utf8_lossy(&annotated.stderr));
    let (total, functions) = functions(&String::from_utf8_lossy(&annotated.stdout))?;
    let each = |instructions: u64| instructions / REGISTRATIONS as u64;
    let profile = Profile {
        work: "registration rate",
        count: REGISTRATIONS,
        instructions_each: each(total),
        functions: functions
            .into_iter()
            .take(FUNCTIONS)
            .map(|(name, instructions)| Function { name, instructions_each: each(instructions) })
            .collect(),
    };
    std::fs::write(file, format!("{}\n", serde_json::to_string_pretty(&[profile])?))?;
    println!("The profile is in {}", file.display());
    Ok(())
}

/// All instructions, and those of each function, the most first.
fn functions(annotated: &str) -> Result<(u64, Vec<(String, u64)>)> {
    let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
    let mut total = None;
    let mut functions: BTreeMap<String, u64> = BTreeMap::new();
    for line in annotated.lines() {
        let Some((instructions, rest)) = line.trim_start().split_once(" (") else { continue };
        let Some(instructions) = number(instructions) else { continue };
        let Some((_, name)) = rest.split_once(')') else { continue };
        if name.trim() == "PROGRAM TOTALS" {
            total = Some(instructions);
        } else if let Some(name) = name.trim().split_once(':').map(|(_, name)| short(name)) {
            *functions.entry(name).or_default() += instructions;
        }
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by(|(_, one), (_, other)| other.cmp(one));
    Ok((total.context("callgrind_annotate printed no totals")?, functions))
}

/// Without the program's path, the compiler's hash and a recursion's depth.
fn short(name: &str) -> String {
    let name = name.rsplit_once(" [").map_or(name, |(name, _)| name);
    let name = name.split('\'').next().unwrap_or(name);
    let name = match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => name,
    };
    name.replace('|', "/").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_added_up_without_their_hashes() {
        let annotated = "1,000 (100.0%)  PROGRAM TOTALS\n--------\nIr\n\
            600 (60.00%)  /src/a.rs:crate::fold::h0123456789abcdef [/bin/registry]\n\
            300 (30.00%)  /src/a.rs:crate::fold'2 [/bin/registry]\n\
            100 (10.00%)  ./string/memmove.S:__memmove [/lib/libc.so.6]\n";
        let (total, functions) = functions(annotated).unwrap();
        assert_eq!(total, 1_000);
        assert_eq!(functions, [("crate::fold".to_owned(), 900), ("__memmove".to_owned(), 100)]);
    }
}
