//! What was measured on, and with what.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The machine, as far as figures depend on it.
pub(crate) fn machine() -> BTreeMap<&'static str, String> {
    let unknown = || "unknown".to_owned();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    BTreeMap::from([
        ("processor", field("/proc/cpuinfo", "model name").unwrap_or_else(unknown)),
        ("cores", cores.to_string()),
        ("memory", field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown)),
        ("kernel", output("uname", "-sr").unwrap_or_else(unknown)),
        ("load before (1, 5, 15 minutes)", load()),
    ])
}

/// How many wanted to run, averaged over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The versions of everything that takes part.
pub(crate) fn versions(nats_server: &Path, registry: &Path, etcd: Option<&Path>) -> BTreeMap<&'static str, String> {
    let unknown = || "unknown".to_owned();
    let mut versions = BTreeMap::from([
        ("muster", output(registry, "--version").unwrap_or_else(unknown)),
        ("nats-server", output(nats_server, "--version").unwrap_or_else(unknown)),
    ]);
    if let Some(etcd) = etcd {
        versions.insert("etcd", output(etcd, "--version").unwrap_or_else(unknown));
    }
    versions
}
