//! Links between the documents lead somewhere: the file is there, and so is the heading.

use std::path::Path;

use super::Findings;
use super::files::File;
use crate::workspace;

pub(super) fn check_links(file: &File, files: &[File], findings: &mut Findings<'_>) {
    for (line, target) in links(&file.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let full = if path.is_empty() { file.path.clone() } else { resolve(&file.path, path) };
        let text = files.iter().find(|other| other.path == full).map(|other| other.text.as_str());
        if text.is_none() && !workspace::root().join(&full).exists() {
            findings.add(line, "link", format!("`{target}`: there is no {full}"));
        } else if let Some(text) = text
            && !anchor.is_empty()
            && full.ends_with(".md")
            && !headings(text).any(|heading| heading == anchor)
        {
            findings.add(line, "link", format!("`{target}`: {full} has no heading `{anchor}`"));
        }
    }
}

/// Line numbers (from 1) and texts of the lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((index + 1, line))
    })
}

fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        for (at, matched) in line.match_indices("](") {
            let in_code = line[..at].matches('`').count() % 2 == 1;
            let rest = &line[at + matched.len()..];
            if let (false, Some(end)) = (in_code, rest.find(')')) {
                let target = rest[..end].split_whitespace().next().unwrap_or("");
                links.push((number, target));
            }
        }
    }
    links
}

/// `docs/a.md` and `../b.md` make `b.md`.
fn resolve(from: &str, path: &str) -> String {
    let directory = Path::new(from).parent().map(|parent| parent.to_string_lossy().into_owned()).unwrap_or_default();
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { directory.split('/').collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

/// The anchors that headings get: lower case, spaces to hyphens, punctuation gone.
fn headings(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter_map(|(_, line)| {
        let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
        let kept = title.trim().chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
        Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
    })
}
