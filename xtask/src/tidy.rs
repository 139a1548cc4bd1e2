//! `cargo xtask tidy`: the part of the style that a program can check, in under a second.
//!
//! A rule looks at one file and reports lines. Rules about code see it without comments and strings, rules about words
//! see only what people read; so a rule may be named in a comment and tested in a string without breaking itself.

mod files;
mod guarantees;
mod markdown;
mod rust;
mod source;
mod words;

use std::time::Instant;

use anyhow::{Result, bail};

use files::File;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    message: String,
}

/// Collects what rules report about one file.
struct Findings<'a> {
    path: &'a str,
    list: &'a mut Vec<Finding>,
}

impl Findings<'_> {
    /// Lines count from 1.
    fn add(&mut self, line: usize, rule: &'static str, message: impl Into<String>) {
        self.list.push(Finding { path: self.path.to_owned(), line, rule, message: message.into() });
    }
}

pub(crate) fn tidy() -> Result<()> {
    let started = Instant::now();
    let files = files::all()?;
    let findings = check(&files);
    for finding in &findings {
        println!("{}:{}: {}: {}", finding.path, finding.line, finding.rule, finding.message);
    }
    println!("Looked at {} files in {} ms", files.len(), started.elapsed().as_millis());
    if !findings.is_empty() {
        bail!("{} lines are not tidy", findings.len());
    }
    Ok(())
}

fn check(files: &[File]) -> Vec<Finding> {
    let mut list = Vec::new();
    for file in files {
        let findings = &mut Findings { path: &file.path, list: &mut list };
        words::check_whitespace(file, findings);
        if file.path.ends_with(".rs") {
            let source = source::Source::parse(&file.text);
            rust::check(file, &source, findings);
            words::check(&source.comments, findings);
        } else {
            words::check(&file.text, findings);
        }
        if file.path.ends_with(".md") {
            markdown::check_links(file, files, findings);
            if file.path == guarantees::PAGE {
                guarantees::check(file, guarantees::exists, findings);
            }
        }
    }
    list.sort();
    list
}

#[cfg(test)]
mod tests;
