//! One line in the log for each removal: what went, why, by whom, and what convinced whom.

use muster_schemas::entry::Evidence;
use muster_schemas::{Change, ChangeKind};

use super::Replica;
use crate::core::io::{Effects, Severity};

/// Lines a second; what is removed beyond that is told as a number, and by `muster why` one by one.
const LINES_PER_SECOND: u64 = 100;
/// A second.
const PERIOD_MS: u64 = 1_000;

/// How many lines were written lately.
#[derive(Debug, Default)]
pub(super) struct RemovalLines {
    since_ms: u64,
    written: u64,
    left_out: u64,
}

impl Replica {
    pub(super) fn tell_removal(&mut self, change: &Change, effects: &mut Effects) {
        if change.change != ChangeKind::Removed {
            return;
        }
        self.counters.removals += 1;
        self.tell_left_out(effects);
        if self.removal_lines.written >= LINES_PER_SECOND {
            self.removal_lines.left_out += 1;
            return;
        }
        self.removal_lines.written += 1;
        let evidence = change.evidence.as_ref().map(words).unwrap_or_default();
        let text = format!(
            "removed {}/{} at revision {}: {} by {}{evidence}",
            change.service,
            change.instance,
            change.revision,
            change.cause.as_str(),
            change.actor,
        );
        self.report(Severity::Info, text, effects);
    }

    /// Begins a new second, if it is time to, with what the one before left out.
    pub(super) fn tell_left_out(&mut self, effects: &mut Effects) {
        if self.now_ms < self.removal_lines.since_ms + PERIOD_MS {
            return;
        }
        let before = std::mem::take(&mut self.removal_lines);
        self.removal_lines.since_ms = self.now_ms;
        if before.left_out > 0 {
            let text = format!("removed {} more within a second: `muster why` tells of each", before.left_out);
            self.report(Severity::Info, text, effects);
        }
    }
}

/// Everything that the evidence holds, as `key=value`.
fn words(evidence: &Evidence) -> String {
    let mut words = String::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push_str(&format!(" {key}={value}"));
        }
    };
    let quoted = |text: &Option<String>| text.as_ref().map(|text| format!("{text:?}"));
    add("reason", evidence.reason.clone());
    add("last_heartbeat_at", evidence.last_heartbeat_at.map(|at| at.to_string()));
    add("heard_by", evidence.heard_by.as_ref().map(ToString::to_string));
    add("charged_ms", evidence.charged_ms.map(|ms| ms.to_string()));
    add("broker_reason", quoted(&evidence.broker_reason));
    add("server", evidence.server.clone());
    add("probe", evidence.probe.map(|probe| probe.as_str().to_owned()));
    add("decided_by", evidence.replica.as_ref().map(ToString::to_string));
    add("detail", quoted(&evidence.detail));
    words
}
