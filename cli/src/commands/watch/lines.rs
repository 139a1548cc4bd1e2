//! An update as lines for people.

use chrono::Utc;
use muster_discovery::{Change, Snapshot, State, Update};
use muster_schemas::{Cause, Instance, ServiceName, Timestamp};

use crate::columns::Columns;
use crate::show::{condition, endpoints, instances};
use crate::story;

/// Time, what, instance, endpoints, health: as wide as they usually are, so that few lines shift.
const WIDTHS: [usize; 5] = [24, 8, 20, 28, 8];

/// The lines so far.
pub(super) struct Lines {
    columns: Columns,
    headed: bool,
    /// One service is watched: it need not be named on every line.
    of_one_service: bool,
}

impl Lines {
    pub(super) fn new(of_one_service: bool) -> Self {
        Self { columns: Columns::new(WIDTHS), headed: false, of_one_service }
    }

    /// The lines that tell of one update.
    pub(super) fn of(&mut self, service: Option<&ServiceName>, update: &Update) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.headed {
            self.headed = true;
            lines.push(self.columns.line(["TIME", "WHAT", "INSTANCE", "ENDPOINTS", "HEALTH", "WHY"]));
        }
        match update {
            Update::List(list) => self.list(service, list, &mut lines),
            Update::Change(change) => lines.push(self.change(change)),
            Update::State(state) => lines.push(self.state(service, *state)),
            _ => {}
        }
        lines
    }

    fn list(&mut self, service: Option<&ServiceName>, list: &Snapshot, lines: &mut Vec<String>) {
        let now = now();
        for instance in list.all() {
            let (name, endpoints, condition) = (self.name(instance), endpoints(instance), condition(instance));
            lines.push(self.columns.line([&now, "LISTED", &name, &endpoints, &condition, &provenance(instance)]));
        }
        let name = self.scope(service);
        let count = instances(list.len() as u64);
        lines.push(match list.state() {
            State::Verified => format!("{now}  {name}: {count}, verified; now what changes:"),
            State::Unknown { since } => {
                format!("{now}  {name}: {count}, unknown since {since}; waiting for a registry")
            }
        });
    }

    fn change(&mut self, change: &Change) -> String {
        let why = change.why();
        let (word, now, before) = match change {
            Change::Added { instance, .. } => ("ADDED", instance, None),
            Change::Updated { instance, before, .. } => ("UPDATED", instance, Some(before)),
            Change::Removed { before, .. } => ("REMOVED", before, None),
        };
        let health = match before.map(|before| condition(before)) {
            Some(before) if before != condition(now) => format!("{before} -> {}", condition(now)),
            _ => condition(now),
        };
        let mut reason = story::cause(why.cause, &why.actor, why.evidence.as_ref());
        reason.push_str(through_the_filter(change));
        if !why.conflicts.is_empty() {
            reason.push_str(&format!("; CONFLICT: same address as {}", why.conflicts.join(" and ")));
        }
        let (at, name, endpoints) = (why.at.to_string(), self.name(now), endpoints(now));
        self.columns.line([&at, word, &name, &endpoints, &health, &reason])
    }

    fn state(&self, service: Option<&ServiceName>, state: State) -> String {
        let name = self.scope(service);
        match state {
            State::Verified => format!("{}  {name}: verified, the list is complete", now()),
            State::Unknown { since } => format!(
                "{}  {name}: unknown since {since}, the last good list is kept until a registry is heard again",
                now()
            ),
        }
    }

    fn name(&self, instance: &Instance) -> String {
        if self.of_one_service {
            instance.id().to_string()
        } else {
            format!("{}/{}", instance.service(), instance.id())
        }
    }

    fn scope(&self, service: Option<&ServiceName>) -> String {
        service.map_or_else(|| "all services".to_owned(), ToString::to_string)
    }
}

/// A filter makes an instance come or go although it was there all the time.
fn through_the_filter(change: &Change) -> &'static str {
    let is_at_hand = matches!(change.cause(), Cause::Updated | Cause::Health | Cause::Maintenance | Cause::Lapsed);
    match change {
        Change::Added { .. } if is_at_hand => "; fits the filter now",
        Change::Removed { .. } if is_at_hand => "; no longer fits the filter",
        _ => "",
    }
}

/// Who vouches for it.
fn provenance(instance: &Instance) -> String {
    let agent = &instance.vouching().agent;
    if instance.is_static() { format!("static, by agent/{agent}") } else { format!("agent/{agent} vouches") }
}

fn now() -> String {
    Timestamp::from_ms(Utc::now().timestamp_millis()).to_string()
}
