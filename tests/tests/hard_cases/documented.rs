//! The page that lists the hard cases names tests that exist, and all of ours.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The tests that the page names, as `suite::module::name`.
fn named(page: &str) -> BTreeSet<&str> {
    let section = page.split("## Hard cases").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section");
    section.split('`').filter(|text| text.contains("::")).collect()
}

/// The file of a test, and its name.
fn place(tests: &Path, test: &str) -> (PathBuf, String) {
    let (path, name) = test.rsplit_once("::").expect("a path");
    (tests.join(path.replace("::", "/")).with_extension("rs"), name.to_owned())
}

#[test]
fn every_test_that_the_page_names_exists_and_every_module_here_is_named() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let page = std::fs::read_to_string(tests.join("../../docs/testing.md")).expect("the page");
    let named = named(&page);
    assert!(named.len() > 40, "{named:?}");
    for test in &named {
        let (file, name) = place(&tests, test);
        let source = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(source.contains(&format!("fn {name}(")), "{test} is not in {}", file.display());
    }
    for module in ["broker", "children", "clocks", "events", "messages", "names", "outages", "output", "queries"] {
        assert!(named.iter().any(|test| test.starts_with(&format!("hard_cases::{module}::"))), "{module}");
    }
}
