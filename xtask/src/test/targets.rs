//! Which integration tests there are, and which of them are scenarios.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace;

const SCENARIO_PACKAGE: &str = "muster-tests";
/// It computes for minutes, and is a step of its own, optimised.
pub(super) const SIMULATION: &str = "simulation";

pub(super) fn integration() -> Result<Vec<String>> {
    Ok(test_targets(&metadata()?, |package| package != SCENARIO_PACKAGE))
}

pub(super) fn scenarios() -> Result<Vec<String>> {
    let mut targets = test_targets(&metadata()?, |package| package == SCENARIO_PACKAGE);
    targets.retain(|target| target != SIMULATION);
    Ok(targets)
}

fn metadata() -> Result<Value> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed ({})", output.status);
    serde_json::from_slice(&output.stdout).context("cargo metadata printed something else than JSON")
}

fn test_targets(metadata: &Value, of_package: impl Fn(&str) -> bool) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let packages = list(&metadata["packages"]);
    let packages = packages.iter().filter(|package| package["name"].as_str().is_some_and(&of_package));
    let targets = packages.flat_map(|package| list(&package["targets"]));
    let tests = targets.filter(|target| list(&target["kind"]).iter().any(|kind| kind == "test"));
    tests.filter_map(|target| Some(target["name"].as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_test_targets_of_the_chosen_packages_are_listed() {
        let metadata = json!({"packages": [
            {"name": "muster-schemas", "targets": [
                {"name": "muster_schemas", "kind": ["lib"]}, {"name": "golden", "kind": ["test"]}]},
            {"name": "muster-tests", "targets": [{"name": "scenarios", "kind": ["test"]}]},
        ]});
        assert_eq!(test_targets(&metadata, |package| package != SCENARIO_PACKAGE), ["golden"]);
        assert_eq!(test_targets(&metadata, |package| package == SCENARIO_PACKAGE), ["scenarios"]);
    }
}
