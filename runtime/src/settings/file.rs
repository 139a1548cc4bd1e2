//! The file layer: a TOML file of plain keys and arrays of tables, with the line of each for the error messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::problem::{Problem, Source};

/// Larger files are refused: nobody writes settings of this size.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What one key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileValue {
    /// A string, number, switch or date, as text.
    One(String),
    /// An array of those.
    Many(Vec<String>),
    /// `[[key]]`, or `[key]` as an array of one.
    Tables(Vec<FileTable>),
    /// Nothing that a setting could be.
    Unfit(&'static str),
}

/// One table of the file, or the file itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileTable {
    pub(super) path: PathBuf,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
    /// Key to its line and value.
    pub(super) entries: BTreeMap<String, (usize, FileValue)>,
}

impl FileTable {
    pub(super) fn source(&self, line: usize) -> Source {
        Source::File { path: self.path.clone(), line }
    }
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, or has errors of syntax: all of them.
pub(super) fn read(path: &Path) -> Result<FileTable, Vec<Problem>> {
    let problem = |reason: String| {
        let source = Source::File { path: path.to_owned(), line: 1 };
        vec![Problem { setting: String::new(), source, value: None, reason }]
    };
    let length = std::fs::metadata(path)
        .map_err(|error| problem(format!("cannot be read: {error}; check --config and MUSTER_CONFIG")))?
        .len();
    if length > FILE_BYTES_MAX {
        return Err(problem(format!("has {length} bytes; a configuration file has at most {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    parse(path, &text)
}

/// Reads the text of a file.
///
/// # Errors
/// All errors of syntax.
pub(super) fn parse(path: &Path, text: &str) -> Result<FileTable, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(Reader { path, text }.table(table.get_ref(), 1));
    }
    let problem = |error: toml::de::Error| Problem {
        setting: String::new(),
        source: Source::File { path: path.to_owned(), line: line_at(text, error.span().map_or(0, |span| span.start)) },
        value: None,
        reason: format!("not valid TOML: {}", error.message().replace('\n', "; ")),
    };
    Err(errors.into_iter().map(problem).collect())
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn table(&self, table: &DeTable<'_>, line: usize) -> FileTable {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            (name.to_string(), (line_at(self.text, key.span().start), self.value(value)))
        };
        FileTable { path: self.path.to_owned(), line, entries: table.iter().map(entry).collect() }
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> FileValue {
        let line = line_at(self.text, value.span().start);
        match value.get_ref() {
            DeValue::Table(table) => FileValue::Tables(vec![self.table(table, line)]),
            DeValue::Array(array) => self.array(array.iter()),
            scalar => scalar_text(scalar).map_or(FileValue::Unfit("a number that is out of range"), FileValue::One),
        }
    }

    fn array<'v, 'i: 'v>(&self, items: impl Iterator<Item = &'v Spanned<DeValue<'i>>> + Clone) -> FileValue {
        let tables: Option<Vec<FileTable>> = items
            .clone()
            .map(|item| Some(self.table(item.get_ref().as_table()?, line_at(self.text, item.span().start))))
            .collect();
        match tables {
            Some(tables) if !tables.is_empty() => FileValue::Tables(tables),
            _ => items
                .map(|item| scalar_text(item.get_ref()))
                .collect::<Option<Vec<String>>>()
                .map_or(FileValue::Unfit("an array of arrays or of mixed kinds"), FileValue::Many),
        }
    }
}

fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => decimal(number),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}
