//! Whether a test that a page or a mutation names is in the tree.
//!
//! A name is `crate::module::test` for tests beside the code, with the crate's folder for its first word, or
//! `suite::module::test` for those of `tests/tests`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::workspace;

/// Whether the test is there.
pub(crate) fn exists(name: &str) -> Result<bool> {
    Ok(place(name)?.is_some())
}

/// Whether it is one of a suite of `tests/tests`, on real processes, and not one beside the code.
pub(crate) fn is_in_suite(name: &str) -> Result<bool> {
    Ok(place(name)?.is_some_and(|path| path.starts_with("tests/tests")))
}

/// The file in which it stands, from the workspace's root.
fn place(name: &str) -> Result<Option<PathBuf>> {
    for path in places(name) {
        let file = workspace::root().join(&path);
        if file.is_file() && is_in(&fs::read_to_string(file)?, name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The files in which a test of this name could stand.
fn places(name: &str) -> Vec<PathBuf> {
    let words: Vec<&str> = name.split("::").collect();
    let [first, modules @ .., _] = words.as_slice() else { return Vec::new() };
    let module = modules.join("/");
    let mut places = vec![
        format!("{first}/src/{module}.rs"),
        format!("{first}/tests/{module}.rs"),
        format!("tests/tests/{first}/{module}.rs"),
    ];
    if let Some(around) = modules.strip_suffix(&["tests"]) {
        places.push(format!("{first}/src/{}.rs", around.join("/")));
    }
    if modules.is_empty() {
        places.extend([format!("tests/tests/{first}/main.rs"), format!("tests/tests/{first}.rs")]);
    }
    places.into_iter().map(PathBuf::from).collect()
}

/// Whether a source has the function, with an attribute that makes it a test.
fn is_in(source: &str, name: &str) -> bool {
    let function = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(index, line)| {
        let mut above = lines[..index].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        line.contains(&function) && above.any(|line| line.contains("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_function_that_is_a_test_counts() {
        let source =
            "#[test]\nfn a() {}\nfn b() {}\n    #[tokio::test(flavor = \"multi_thread\")]\n    async fn c() {}\n";
        assert!(is_in(source, "x::a") && is_in(source, "x::c"));
        assert!(!is_in(source, "x::b") && !is_in(source, "x::d"));
    }

    #[test]
    fn this_very_test_is_found_and_one_that_is_not_there_is_not() {
        assert!(exists("xtask::named_tests::tests::this_very_test_is_found_and_one_that_is_not_there_is_not").unwrap());
        assert!(!exists("xtask::named_tests::tests::nothing_of_the_kind").unwrap());
        assert!(!exists("nothing").unwrap());
    }

    #[test]
    fn a_test_beside_the_code_is_told_from_one_of_a_suite_of_the_same_name() {
        let in_suite =
            "registry::queries::a_service_that_nobody_knows_is_proven_empty_and_an_unknown_instance_is_an_error";
        assert!(is_in_suite(in_suite).unwrap());
        assert!(!is_in_suite("registry::queries::cursors::tests::what_nobody_asks_for_in_time_is_forgotten").unwrap());
    }
}
