//! A Rust source taken apart into code, comments and strings, just well enough for rules about lines.

/// A source file seen from three sides. `code` and `comments` have the same lines as the file; what does not belong to
/// them is blank.
pub(super) struct Source {
    /// Without comments and without what stands inside strings and characters.
    pub(super) code: String,
    /// What people read.
    pub(super) comments: String,
    /// Each string literal's line (from 1) and content as written, escapes included.
    pub(super) strings: Vec<(usize, String)>,
    /// For each line, whether it belongs to a `#[cfg(test)]` module.
    pub(super) in_tests: Vec<bool>,
}

impl Source {
    pub(super) fn parse(text: &str) -> Self {
        let mut reader =
            Reader { rest: text, line: 1, code: String::new(), comments: String::new(), strings: Vec::new() };
        while !reader.rest.is_empty() {
            reader.step();
        }
        let in_tests = test_lines(&reader.code);
        Self { code: reader.code, comments: reader.comments, strings: reader.strings, in_tests }
    }

    /// Whether the line (from 1) belongs to a `#[cfg(test)]` module.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.in_tests.get(line - 1).copied().unwrap_or(false)
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    code: String,
    comments: String,
    strings: Vec<(usize, String)>,
}

#[derive(Clone, Copy)]
enum Side {
    Code,
    Comment,
    Neither,
}

impl Reader<'_> {
    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.take(rest.find('\n').unwrap_or(rest.len()), Side::Comment);
        } else if rest.starts_with("/*") {
            self.take(block_comment_length(rest), Side::Comment);
        } else if let Some((opening, closing)) = raw_string_quotes(rest)
            && !self.after_word()
        {
            self.string(opening, rest[opening..].find(&closing).unwrap_or(rest.len() - opening), closing.len());
        } else if let Some(content) = rest.strip_prefix('"') {
            self.string(1, quoted_length(content, '"'), 1);
        } else if let Some(length) = character_length(rest) {
            self.take(length, Side::Neither);
        } else {
            // As far as nothing else can begin.
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let length = rest[first..].find(['/', '"', '\'', 'r', 'b', 'c']).map_or(rest.len(), |at| first + at);
            self.take(length, Side::Code);
        }
    }

    fn after_word(&self) -> bool {
        self.code.ends_with(|character: char| character.is_alphanumeric() || character == '_')
    }

    fn string(&mut self, opening: usize, content: usize, closing: usize) {
        self.take(opening, Side::Code);
        self.strings.push((self.line, self.rest[..content].to_owned()));
        self.take(content, Side::Neither);
        self.take(closing.min(self.rest.len()), Side::Code);
    }

    fn take(&mut self, length: usize, side: Side) {
        let (taken, rest) = self.rest.split_at(length);
        let blank: String = taken.chars().map(|character| if character == '\n' { '\n' } else { ' ' }).collect();
        self.code.push_str(if matches!(side, Side::Code) { taken } else { &blank });
        self.comments.push_str(if matches!(side, Side::Comment) { taken } else { &blank });
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }
}

fn block_comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `r"`, `r#"`, `br"`, `cr#"` …: the opening's length and the closing.
fn raw_string_quotes(text: &str) -> Option<(usize, String)> {
    let after_prefix = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
    after_prefix[hashes..].starts_with('"').then(|| {
        let opening = text.len() - after_prefix.len() + hashes + 1;
        (opening, format!("\"{}", "#".repeat(hashes)))
    })
}

/// The length of what stands before the closing quote, or of everything if there is none.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at,
            _ => {}
        }
    }
    text.len()
}

/// A character literal's length; a lifetime is none.
fn character_length(text: &str) -> Option<usize> {
    let content = text.strip_prefix('\'')?;
    let mut characters = content.chars();
    let first = characters.next()?;
    if first == '\\' || characters.next() == Some('\'') {
        return Some((quoted_length(content, '\'') + 2).min(text.len()));
    }
    None
}

fn test_lines(code: &str) -> Vec<bool> {
    let mut in_tests = Vec::new();
    let (mut awaiting, mut depth) = (false, 0_usize);
    for line in code.lines() {
        let begins = line.contains("#[cfg(test)]") || line.contains("#[cfg(all(test");
        awaiting |= begins && depth == 0;
        let was_inside = awaiting || depth > 0;
        for character in line.chars() {
            match character {
                '{' if awaiting || depth > 0 => (awaiting, depth) = (false, depth + 1),
                '}' if depth > 0 => depth -= 1,
                ';' if awaiting => awaiting = false,
                _ => {}
            }
        }
        in_tests.push(was_inside);
    }
    in_tests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_taken_out_of_the_code() {
        let source = Source::parse(
            "let a = \"x // \\\" y\"; // said\nlet b = '\"'; let c: &'a str = r#\"q \" q\"#; /* b /* c */ */ d",
        );
        assert_eq!(source.code.lines().next().unwrap().trim_end(), "let a = \"         \";");
        assert_eq!(source.comments.lines().next().unwrap().trim(), "// said");
        let strings: Vec<_> = source.strings.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(strings, [(1, "x // \\\" y"), (2, "q \" q")]);
        let second = source.code.lines().nth(1).unwrap();
        assert!(second.contains("let c: &'a str") && second.ends_with('d') && !second.contains("b /*"), "{second}");
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = "/* a\nb */ fn f() {\n\"c\nd\";\n}\n";
        let source = Source::parse(text);
        assert_eq!(source.code.lines().count(), text.lines().count());
        assert_eq!(source.code.lines().nth(4), Some("}"));
    }

    #[test]
    fn a_test_module_ends_with_its_brace() {
        let source = Source::parse(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\nfn d() {}\n",
        );
        assert_eq!(source.in_tests, [false, true, true, true, true, false, true, true, false]);
    }
}
