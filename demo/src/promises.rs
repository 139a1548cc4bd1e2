//! What was promised, what was seen instead, and whether that will do.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::json;

use crate::narrator::Narrator;
use crate::stage::TTL;

const MILLISECONDS_COLUMN: usize = 3;

/// One promise, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Promise {
    /// In a few words.
    pub(crate) promise: &'static str,
    /// What must be seen.
    pub(crate) expected: String,
    /// What was seen.
    pub(crate) seen: String,
    /// How long it took, or how long was looked; none if there is nothing to measure.
    pub(crate) milliseconds: Option<u64>,
    /// Whether it was kept.
    pub(crate) pass: bool,
}

/// All promises so far. One per promise of the acts, which are a dozen.
#[derive(Debug)]
pub(crate) struct Promises {
    list: Vec<Promise>,
    narrator: Narrator,
}

impl Promises {
    pub(crate) fn new(narrator: Narrator) -> Self {
        Self { list: Vec::new(), narrator }
    }

    /// Writes a promise down and tells at once what came of it.
    pub(crate) fn note(
        &mut self,
        promise: &'static str,
        expected: impl Into<String>,
        seen: impl Into<String>,
        took: Option<Duration>,
        pass: bool,
    ) {
        let milliseconds = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let promise = Promise { promise, expected: expected.into(), seen: seen.into(), milliseconds, pass };
        let after = milliseconds.map_or_else(String::new, |milliseconds| format!(" ({milliseconds} ms)"));
        let line = format!("{}: {}: {}{after}", verdict(pass), promise.promise, promise.seen);
        self.narrator.verdict(&line);
        self.list.push(promise);
    }

    /// The demo itself could not go on.
    pub(crate) fn broken_off(&mut self, why: &str) {
        self.note("the demo runs to its end", "it does", why, None, false);
    }

    /// Whether there were promises, and all were kept.
    pub(crate) fn are_kept(&self) -> bool {
        !self.list.is_empty() && self.list.iter().all(|promise| promise.pass)
    }

    fn kept(&self) -> usize {
        self.list.iter().filter(|promise| promise.pass).count()
    }

    /// For people.
    pub(crate) fn to_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["promise", "expected", "seen", "ms", ""]);
        for promise in &self.list {
            let milliseconds = promise.milliseconds.map_or_else(|| "-".to_owned(), |number| number.to_string());
            let row = [promise.promise, &promise.expected, &promise.seen, &milliseconds, verdict(promise.pass)];
            table.add_row(row.map(str::to_owned));
        }
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        if let Some(milliseconds) = table.column_mut(MILLISECONDS_COLUMN) {
            milliseconds.set_cell_alignment(CellAlignment::Right);
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        format!("{}\n\n{} of {} promises kept", lines.join("\n"), self.kept(), self.list.len())
    }

    /// For programs.
    pub(crate) fn to_json(&self, broker_url: Option<String>) -> String {
        let document = json!({
            "ttl_ms": u64::try_from(TTL.as_millis()).unwrap_or(u64::MAX),
            "broker_url": broker_url,
            "promises": self.list,
            "kept": self.kept(),
            "broken": self.list.len() - self.kept(),
            "pass": self.are_kept(),
        });
        format!("{document:#}")
    }
}

fn verdict(pass: bool) -> &'static str {
    if pass { "PASS" } else { "FAIL" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(passes: &[bool]) -> Promises {
        let mut promises = Promises::new(Narrator::new(false));
        for pass in passes {
            promises.note("it goes", "removed", "removed", Some(Duration::from_millis(12)), *pass);
        }
        promises
    }

    #[test]
    fn one_broken_promise_is_one_too_many_and_none_at_all_proves_nothing() {
        assert!(with(&[true, true]).are_kept());
        assert!(!with(&[true, false]).are_kept());
        assert!(!with(&[]).are_kept());
    }

    #[test]
    fn the_table_and_the_json_tell_the_same() {
        let promises = with(&[true, false]);
        let table = promises.to_table();
        assert!(table.contains("PASS") && table.contains("FAIL") && table.ends_with("1 of 2 promises kept"), "{table}");
        let read: serde_json::Value = serde_json::from_str(&promises.to_json(None)).expect("it is JSON");
        assert_eq!((&read["kept"], &read["broken"], &read["pass"]), (&json!(1), &json!(1), &json!(false)));
        assert_eq!(read["promises"][0]["milliseconds"], json!(12));
    }
}
