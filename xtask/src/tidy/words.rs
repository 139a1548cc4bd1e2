//! Rules about any text: white space, and words that do not belong into what people read here.

use super::Findings;
use super::files::File;

/// Lower-case word or phrase, and what to do instead.
const WORDS: &[(&str, &str)] = &[
    ("blacklist", "say `denied`, `refused` or `banned`"),
    ("whitelist", "say `allowed`"),
    ("obviously", "if it is, leave it out; if not, explain it"),
    ("simply", "leave it out"),
    ("blazing", "give the number"),
    ("blazingly", "give the number"),
    ("seamless", "say what happens"),
    ("seamlessly", "say what happens"),
    ("leverage", "say `use`"),
    ("leverages", "say `uses`"),
    ("utilize", "say `use`"),
    ("utilizes", "say `uses`"),
    ("enterprise-grade", "say what it withstands"),
    ("battle-tested", "name the test"),
    ("cutting-edge", "say what is new"),
    ("world-class", "give the number"),
    ("in order to", "say `to`"),
];

/// Directories that exist on one machine only.
const PLACES: &[&str] = &["/home/", "/root/", "/users/", "/work/"];

pub(super) fn check_whitespace(file: &File, findings: &mut Findings<'_>) {
    for (index, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.add(
                index + 1,
                "trailing-space",
                "remove the white space at the end of the line",
            );
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.add(
            file.text.lines().count(),
            "final-newline",
            "end the file with a line end",
        );
    }
}

pub(super) fn check(text: &str, findings: &mut Findings<'_>) {
    for (index, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for (word, instead) in WORDS {
            if contains_word(&line, word) {
                findings.add(index + 1, "word", format!("`{word}`: {instead}"));
            }
        }
        for place in PLACES {
            if begins_a_path(&line, place) {
                findings.add(
                    index + 1,
                    "place",
                    format!("`{place}` is a path on one machine: name it from the root or `~`"),
                );
            }
        }
        if names_a_ticket(&line) {
            findings.add(
                index + 1,
                "ticket",
                "a ticket's number says nothing in a clone: say what it is about",
            );
        }
    }
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether `word` stands in `line` with no word character beside it.
pub(super) fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word_character) && !after.is_some_and(is_word_character)
    })
}

/// Not in the middle of a longer path or an address.
fn begins_a_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|character| is_word_character(character) || "/.~>-}*".contains(character))
    })
}

fn names_a_ticket(line: &str) -> bool {
    line.match_indices("issue ").any(|(at, matched)| {
        let after = line[at + matched.len()..].trim_start_matches('#');
        after.starts_with(|character: char| character.is_ascii_digit())
    })
}
