//! Each guarantee names a test that shows it, and each test that is named is there.

use anyhow::Result;

use super::Findings;
use super::files::File;
use crate::named_tests;

/// The page whose every list item is a promise.
pub(super) const PAGE: &str = "docs/guarantees.md";

pub(super) fn check(file: &File, exists: impl Fn(&str) -> Result<bool>, findings: &mut Findings<'_>) {
    for (line, item) in items(&file.text) {
        let named: Vec<&str> = item.split('`').skip(1).step_by(2).filter(|text| text.contains("::")).collect();
        if named.is_empty() {
            findings.add(line, "guarantee", "a guarantee that no test is named for");
        }
        for test in named {
            if !exists(test).unwrap_or(false) {
                findings.add(line, "guarantee", format!("there is no test `{test}`"));
            }
        }
    }
}

pub(super) fn exists(test: &str) -> Result<bool> {
    named_tests::exists(test)
}

/// List items with the lines that belong to them; lines count from 1.
fn items(text: &str) -> Vec<(usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("- ") {
            items.push((index + 1, line.to_owned()));
            open = true;
        } else if open && line.starts_with("  ") {
            if let Some((_, item)) = items.last_mut() {
                item.push_str(line);
            }
        } else {
            open = false;
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut list = Vec::new();
        let file = File { path: PAGE.to_owned(), text: text.to_owned() };
        check(&file, |test| Ok(test == "a::b"), &mut Findings { path: PAGE, list: &mut list });
        list.into_iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
    }

    #[test]
    fn a_guarantee_without_a_test_or_with_one_that_is_not_there_is_found() {
        assert_eq!(found("# x\n- Good.\n  `a::b`\n\ntext\n"), Vec::<String>::new());
        assert_eq!(found("- Bad.\n"), ["1: a guarantee that no test is named for"]);
        assert_eq!(found("\n- Good `a::b`, bad `a::c`.\n"), ["2: there is no test `a::c`"]);
    }
}
