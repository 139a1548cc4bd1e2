//! Tables and phrases for people.

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use muster_schemas::instance::Endpoint;
use muster_schemas::{Instance, Timestamp};

/// A table without lines, columns as wide as they need to be: readable, and `cut` and `awk` can take it apart.
pub(crate) fn table<R, C>(header: &[&str], rows: R) -> String
where
    R: IntoIterator<Item = C>,
    C: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| (*title).to_owned()));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `http=http://10.0.0.1:8080`, one after the other.
pub(crate) fn endpoints(instance: &Instance) -> String {
    instance.registration.endpoints.iter().map(endpoint).collect::<Vec<_>>().join(" ")
}

/// One of them.
pub(crate) fn endpoint(endpoint: &Endpoint) -> String {
    let name = &endpoint.name;
    let scheme = &endpoint.scheme;
    match (&endpoint.subject, &endpoint.host, endpoint.port) {
        (Some(subject), ..) => format!("{name}={scheme}:{subject}"),
        (None, Some(host), Some(port)) if host.contains(':') => format!("{name}={scheme}://[{host}]:{port}"),
        (None, Some(host), Some(port)) => format!("{name}={scheme}://{host}:{port}"),
        (None, host, _) => format!("{name}={scheme}://{}", host.as_deref().unwrap_or("?")),
    }
}

/// `passing`, or with the reason why it is not to be used.
pub(crate) fn condition(instance: &Instance) -> String {
    let health = instance.registration.health.status.as_str();
    match &instance.maintenance {
        Some(maintenance) => format!("{health}, maintenance by {} ({})", maintenance.who, maintenance.why),
        None if instance.registration.weight == 0 => format!("{health}, weight 0"),
        None => health.to_owned(),
    }
}

/// `1 instance`, `2 instances`.
pub(crate) fn instances(count: u64) -> String {
    match count {
        1 => "1 instance".to_owned(),
        count => format!("{count} instances"),
    }
}

/// `yes` or `no`.
pub(crate) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// `14:03:59.123 (12 s ago)`, by the clock of this machine.
pub(crate) fn moment(at: Timestamp, now: DateTime<Utc>) -> String {
    let ago = now.timestamp_millis().saturating_sub(at.as_ms());
    format!("{at} ({} ago)", period(u64::try_from(ago).unwrap_or(0)))
}

/// A period in the largest unit that fits: `350 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn period(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_no_lines_and_no_trailing_space_and_marks_empty_cells() {
        let text = table(&["NAME", "TAGS"], [["orders".to_owned(), String::new()], ["a".to_owned(), "x y".to_owned()]]);
        assert_eq!(text, "NAME    TAGS\norders  -\na       x y");
    }

    #[test]
    fn a_period_is_told_in_the_largest_unit_that_fits() {
        let told = [0, 999, 1_000, 119_999, 120_000, 7_200_000, 172_800_000].map(period);
        assert_eq!(told, ["0 ms", "999 ms", "1 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
