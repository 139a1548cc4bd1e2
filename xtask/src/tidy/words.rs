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
            findings.add(index + 1, "trailing-space", "remove the white space at the end of the line");
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.add(file.text.lines().count(), "final-newline", "end the file with a line end");
    }
}

pub(super) fn check(text: &str, findings: &mut Findings<'_>) {
    let text = text.to_lowercase();
    let line_at = |at: usize| text[..at].matches('\n').count() + 1;
    for (word, instead) in WORDS {
        for at in places_of_word(&text, word) {
            findings.add(line_at(at), "word", format!("`{word}`: {instead}"));
        }
    }
    for place in PLACES {
        for (at, _) in text.match_indices(place).filter(|(at, _)| begins_a_path(&text[..*at])) {
            let message = format!("`{place}` is a path on one machine: name it from the root or `~`");
            findings.add(line_at(at), "place", message);
        }
    }
    for (at, issue) in text.match_indices("issue ").filter(|(at, issue)| names_a_number(&text[at + issue.len()..])) {
        findings.add(
            line_at(at + issue.len()),
            "ticket",
            "a ticket's number says nothing in a clone: say what it is about",
        );
    }
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether `word` stands in `text` with no word character beside it.
pub(super) fn contains_word(text: &str, word: &str) -> bool {
    places_of_word(text, word).next().is_some()
}

fn places_of_word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let stands_alone = |at: &usize| {
        let before = text[..*at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word_character) && !after.is_some_and(is_word_character)
    };
    text.match_indices(word).map(|(at, _)| at).filter(stands_alone)
}

/// Whether a path begins after this, and not the middle of a longer one or of an address.
fn begins_a_path(before: &str) -> bool {
    let before = before.chars().next_back();
    !before.is_some_and(|character| is_word_character(character) || "/.~>-}*".contains(character))
}

fn names_a_number(after: &str) -> bool {
    after.trim_start_matches('#').starts_with(|character: char| character.is_ascii_digit())
}
