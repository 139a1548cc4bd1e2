//! Rules about Rust files: their names, their size, and what may stand in which of them.

use super::Findings;
use super::files::File;
use super::source::Source;
use super::words::contains_word;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;
const VAGUE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];
/// What a pure core may not touch, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "the core knows no runtime: return an effect"),
    ("async_nats", "the core knows no broker: return an effect"),
    ("Instant::now", "time is an argument"),
    ("Utc::now", "time is an argument"),
    ("Local::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("thread_rng", "randomness comes seeded from outside"),
    ("rand::rng", "randomness comes seeded from outside"),
    ("rand::random", "randomness comes seeded from outside"),
    ("Ulid::generate", "ids come from outside"),
    ("std::fs", "the core touches no disk"),
    ("std::net", "the core knows no network"),
    ("std::env", "settings are arguments"),
    ("std::thread", "the core starts nothing"),
    ("std::process", "the core starts nothing"),
];

/// The one file that may contain subject text, and this checker.
const SUBJECT_FILES: &[&str] = &["schemas/src/subject", "xtask/src/tidy/"];
const SUBJECT_HEADS: &[&str] = &["event", "heartbeat", "change", "pulse", "beacon", "alarm", "query", "agent"];
/// What follows `muster.` in a file's name.
const FILE_ENDINGS: &[&str] = &["toml", "service", "conf", "sock", "socket", "log", "json", "yaml", "yml", "md", "pid"];

pub(super) fn check(file: &File, source: &Source, findings: &mut Findings<'_>) {
    check_names(file, findings);
    check_size(file, source, findings);
    let (is_test_file, is_core) = (is_test_file(&file.path), is_core(&file.path));
    for (index, code) in source.code.lines().enumerate() {
        let line = index + 1;
        check_names_of_types(line, code, findings);
        check_finished(line, code, findings);
        if is_test_file || source.is_test(line) {
            check_sleep(line, code, findings);
        } else if is_core {
            check_pure(line, code, findings);
        }
    }
    check_comments(source, findings);
    check_reasons(file, source, findings);
    if !is_test_file && !SUBJECT_FILES.iter().any(|start| file.path.starts_with(start)) {
        check_subjects(source, findings);
    }
}

fn is_test_file(path: &str) -> bool {
    // The package `tests` is the harness in its `src`, and scenarios beside it.
    let scenario = path.starts_with("tests/") && !path.starts_with("tests/src/");
    scenario || path.ends_with("/tests.rs") || path.split('/').skip(1).any(|part| part == "tests")
}

fn is_core(path: &str) -> bool {
    path.contains("/src/core/") || path.ends_with("/src/core.rs")
}

fn check_names(file: &File, findings: &mut Findings<'_>) {
    let mut parts = file.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    if file.path.ends_with("/mod.rs") {
        findings.add(1, "mod-rs", "name the file after its module: `foo.rs` beside `foo/`");
    }
    if let Some(vague) = parts.find(|part| VAGUE_NAMES.contains(part) || part.contains("manager")) {
        findings.add(1, "vague-name", format!("`{vague}` says nothing: name it after what it does"));
    }
    if !file.text.starts_with("//! ") {
        findings.add(1, "first-line", "begin with `//!` and what the file is for");
    }
}

fn check_names_of_types(line: usize, code: &str, findings: &mut Findings<'_>) {
    let mut words = code.split(|character: char| !character.is_alphanumeric() && character != '_').peekable();
    while let Some(word) = words.next() {
        let defines = ["struct", "enum", "trait", "type"].contains(&word);
        if let Some(name) = words.peek().filter(|name| defines && name.ends_with("Manager")) {
            findings.add(line, "vague-name", format!("`{name}` says nothing: name it after what it does"));
        }
    }
}

fn check_size(file: &File, source: &Source, findings: &mut Findings<'_>) {
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.add(FILE_LINES_MAX + 1, "file-length", format!("{lines} lines, more than {FILE_LINES_MAX}: split it"));
    }
    for (line, name, lines) in functions(&source.code) {
        if lines > FUNCTION_LINES_MAX {
            let message = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}: divide it");
            findings.add(line, "function-length", message);
        }
    }
}

/// First line, name and number of lines of each function with a body.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut functions = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let starts = line.match_indices("fn ").find(|(at, _)| is_head(&line[..*at]));
        let Some((at, matched)) = starts else { continue };
        let name: String = line[at + matched.len()..]
            .chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect();
        if let Some(length) = body_length(&lines[index..]).filter(|_| !name.is_empty()) {
            functions.push((index + 1, name, length));
        }
    }
    functions
}

/// Whether only words like `pub(crate) async` stand before `fn`.
fn is_head(before: &str) -> bool {
    let stands_alone = before.is_empty() || before.ends_with(' ');
    stands_alone && before.chars().all(|character| character.is_alphanumeric() || " ()\"_:".contains(character))
}

/// Up to the brace that closes the first one; none if a semicolon outside of brackets comes first.
fn body_length(lines: &[&str]) -> Option<usize> {
    let (mut depth, mut brackets) = (0_usize, 0_i32);
    for (index, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                ';' if depth == 0 && brackets == 0 => return None,
                '{' => depth += 1,
                '}' if depth <= 1 => return Some(index + 1),
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    None
}

fn check_finished(line: usize, code: &str, findings: &mut Findings<'_>) {
    for unfinished in ["todo!", "unimplemented!"] {
        if code.contains(unfinished) {
            findings.add(line, "unfinished", format!("`{unfinished}`: finish it or leave it out"));
        }
    }
}

fn check_comments(source: &Source, findings: &mut Findings<'_>) {
    for (index, comment) in source.comments.lines().enumerate() {
        for unfinished in ["FIXME", "XXX", "TODO", "HACK"] {
            if contains_word(comment, unfinished) {
                findings.add(
                    index + 1,
                    "unfinished",
                    format!("`{unfinished}`: finish it, or say what is not done and why"),
                );
            }
        }
    }
}

fn check_sleep(line: usize, code: &str, findings: &mut Findings<'_>) {
    if contains_word(code, "sleep") && code.contains("sleep(") {
        findings.add(line, "sleep", "wait for a condition with a deadline: `eventually`");
    }
}

fn check_pure(line: usize, code: &str, findings: &mut Findings<'_>) {
    for (impure, why) in IMPURE {
        if contains_word(code, impure) {
            findings.add(line, "pure-core", format!("`{impure}`: {why}"));
        }
    }
}

/// An exception needs a reason in the attribute or a comment on its line or the one above.
fn check_reasons(file: &File, source: &Source, findings: &mut Findings<'_>) {
    let (code, comments): (Vec<&str>, Vec<&str>) = (source.code.lines().collect(), source.comments.lines().collect());
    let has_comment = |index: usize| comments.get(index).is_some_and(|comment| !comment.trim().is_empty());
    for (index, line) in code.iter().enumerate() {
        let starts = ["#[allow(", "#![allow(", "#[expect(", "#![expect(", "#[ignore"];
        let Some(at) = starts.iter().find_map(|start| line.find(start)) else {
            continue;
        };
        let attribute: Vec<&str> = file.text.lines().skip(index).take(6).collect();
        let attribute = attribute.join("\n");
        let attribute =
            attribute.get(at..).and_then(|rest| rest.split_once("]\n").map(|(text, _)| text)).unwrap_or(&attribute);
        let told = attribute.contains("reason = ") || attribute.contains("ignore = ");
        let told = told || has_comment(index) || index.checked_sub(1).is_some_and(has_comment);
        if !told {
            findings.add(index + 1, "reason", "an exception needs its reason: `reason = \"…\"` or a comment beside it");
        }
    }
}

fn check_subjects(source: &Source, findings: &mut Findings<'_>) {
    for (line, text) in &source.strings {
        if !source.is_test(*line) && is_subject_text(text) {
            let message = format!("\"{text}\" looks like subject text, which stands in schemas/src/subject.rs only");
            findings.add(*line, "subject", message);
        }
    }
}

/// `muster.<ns>.…`, or a part of it that is built or matched: `event.{kind}`, `change.>`.
fn is_subject_text(text: &str) -> bool {
    let goes_on = |rest: &str| rest.starts_with(['{', '*', '>']);
    let prefixed = text.match_indices("muster.").any(|(at, matched)| {
        let rest = &text[at + matched.len()..];
        let word: &str =
            rest.split(|character: char| !character.is_alphanumeric() && character != '_').next().unwrap_or("");
        let in_front =
            at == 0 && !word.is_empty() && rest[word.len()..].starts_with('.') && !FILE_ENDINGS.contains(&word);
        goes_on(rest) || in_front
    });
    let headed = SUBJECT_HEADS.iter().any(|head| {
        let rest = text.strip_prefix(head).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(goes_on)
    });
    prefixed || headed
}
