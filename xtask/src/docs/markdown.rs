//! Markdown from plain text: table cells, and what must be escaped in them.

/// A table; cells are Markdown already.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = header.iter().map(ToString::to_string).collect();
    let mut text = line(&names);
    text.push_str(&format!("|{}\n", "---|".repeat(header.len())));
    rows.into_iter().for_each(|row| text.push_str(&line(&row)));
    text
}

/// A word as it is typed. A bar would end the cell of a table, even in code.
pub(super) fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

/// A sentence of a program's help: on one line, and nothing in it is taken for Markdown but code.
pub(super) fn sentence(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let parts: Vec<String> = one_line
        .split('`')
        .enumerate()
        .map(|(index, part)| if index % 2 == 1 { format!("`{part}`") } else { escaped(part) })
        .collect();
    parts.concat()
}

/// An underscore within a word is harmless; one at its edge begins or ends emphasis.
fn escaped(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let in_word = |at: Option<usize>| at.and_then(|at| characters.get(at)).is_some_and(|it| it.is_alphanumeric());
    let mut safe = String::with_capacity(text.len());
    for (at, &character) in characters.iter().enumerate() {
        let at_edge = character == '_' && !(in_word(at.checked_sub(1)) && in_word(Some(at + 1)));
        if at_edge || matches!(character, '<' | '>' | '*') {
            safe.push('\\');
        }
        safe.push(character);
    }
    safe
}

/// Paragraphs of a program's help: indented lines become blocks of code.
pub(super) fn paragraphs(text: &str) -> String {
    let mut blocks: Vec<(bool, Vec<&str>)> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let is_code = line.starts_with("  ");
        match blocks.last_mut() {
            Some((of_code, lines)) if *of_code == is_code && !line.is_empty() => lines.push(line),
            // A blank line ends a paragraph; within code, the next indented line goes on.
            Some((true, lines)) if line.is_empty() => lines.push(line),
            _ => blocks.push((is_code, vec![line])),
        }
    }
    let shown = blocks.into_iter().filter(|(_, lines)| lines.iter().any(|line| !line.is_empty()));
    let shown: Vec<String> = shown.map(|(is_code, lines)| block(is_code, &lines)).collect();
    shown.join("\n")
}

fn block(is_code: bool, lines: &[&str]) -> String {
    if is_code {
        let lines: Vec<&str> = lines.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
        format!("```console\n{}\n```\n", lines.join("\n").trim_end())
    } else {
        format!("{}\n", sentence(&lines.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_sentence_is_taken_for_markdown_but_code() {
        let text = "the <name> or `<id>`:\n  *any* a|b, _INBOX but not RUST_LOG [1]";
        assert_eq!(sentence(text), r"the \<name\> or `<id>`: \*any\* a\|b, \_INBOX but not RUST_LOG [1]");
    }

    #[test]
    fn indented_lines_become_code_and_others_paragraphs() {
        let text = "Examples:\n  muster dev\n  muster watch\n\nAnd\nso on.";
        assert_eq!(paragraphs(text), "Examples:\n\n```console\nmuster dev\nmuster watch\n```\n\nAnd so on.\n");
    }

    #[test]
    fn a_table_has_a_line_between_its_header_and_its_rows() {
        let rows = vec![vec!["1".to_owned(), code("a|b")]];
        assert_eq!(table(&["n", "what"], rows), "| n | what |\n|---|---|\n| 1 | `a\\|b` |\n");
    }
}
