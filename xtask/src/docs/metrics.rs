//! The page of metrics, and what a metric must be to stand on it.

use anyhow::{Result, bail};

use super::markdown::{code, sentence, table};
use super::reference::{Metric, Reference};

/// Units that Prometheus calls base units, and the ending of a name in each.
const UNITS: &[(&str, &str)] = &[("none", ""), ("seconds", "_seconds"), ("bytes", "_bytes"), ("ratio", "_ratio")];
/// Labels whose values are a closed list in the code. A service, an instance, an agent or an address is none: there may
/// be any number of them, and each would be a time series.
const BOUNDED_LABELS: &[(&str, &str)] = &[
    ("outcome", "what the fold made of an event"),
    ("kind", "kind of event or check"),
    ("endpoint", "what was asked"),
    ("answer", "`ok` or the error"),
    ("status", "`passing`, `warning` or `critical`"),
];

pub(super) fn page(references: &[Reference]) -> Result<String> {
    let problems: Vec<String> = references.iter().flat_map(|it| &it.metrics).flat_map(problems_of).collect();
    if !problems.is_empty() {
        bail!("{} metrics are not as they should be:\n  {}", problems.len(), problems.join("\n  "));
    }
    let mut text = String::from(
        "# Metrics\n\n\
         Served at `/metrics` of `--http ADDR`, in the text format of Prometheus. Every name begins with `muster_`, units are\n\
         base units, and no label can have more values than the code lists.\n",
    );
    for reference in references.iter().filter(|reference| !reference.metrics.is_empty()) {
        text.push_str(&format!("\n## {}\n\n", reference.program));
        text.push_str(&table(&["metric", "kind", "labels", "what it counts"], reference.metrics.iter().map(row)));
    }
    text.push_str("\n## Labels\n\n");
    let used = |label: &str| {
        references.iter().flat_map(|it| &it.metrics).any(|metric| metric.labels.iter().any(|it| it == label))
    };
    let labels = BOUNDED_LABELS.iter().filter(|(label, _)| used(label));
    text.push_str(&table(&["label", "values"], labels.map(|(label, values)| vec![code(label), (*values).to_owned()])));
    Ok(text)
}

fn row(metric: &Metric) -> Vec<String> {
    let labels: Vec<String> = metric.labels.iter().map(|label| code(label)).collect();
    vec![code(&metric.name), metric.kind.clone(), labels.join(", "), sentence(&metric.help)]
}

fn problems_of(metric: &Metric) -> Vec<String> {
    let name = &metric.name;
    let mut problems = Vec::new();
    if !name.starts_with("muster_") {
        problems.push(format!("{name}: its name must begin with `muster_`"));
    }
    let stem = name.strip_suffix("_total").unwrap_or(name);
    if (metric.kind == "counter") != name.ends_with("_total") {
        problems.push(format!("{name}: the names of counters, and of nothing else, end with `_total`"));
    }
    match UNITS.iter().find(|(unit, _)| *unit == metric.unit) {
        None => problems.push(format!("{name}: `{}` is no base unit", metric.unit)),
        Some((unit, ending)) if !stem.ends_with(ending) => {
            problems.push(format!("{name}: a number of {unit} must say so in its name: `{stem}{ending}`"));
        }
        Some(_) => {}
    }
    if ["_ms", "_milliseconds", "_minutes", "_kilobytes", "_percent"].iter().any(|ending| stem.ends_with(ending)) {
        problems.push(format!("{name}: use a base unit, seconds or bytes"));
    }
    let unknown = metric.labels.iter().filter(|label| BOUNDED_LABELS.iter().all(|(known, _)| known != label));
    problems.extend(unknown.map(|label| {
        format!("{name}: nothing says that the values of `{label}` are few; if they are, list it in xtask/src/docs/metrics.rs")
    }));
    if metric.help.trim().is_empty() {
        problems.push(format!("{name}: it needs a help text"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, kind: &str, unit: &str, labels: &[&str]) -> Metric {
        let labels = labels.iter().map(ToString::to_string).collect();
        Metric { name: name.into(), kind: kind.into(), unit: unit.into(), labels, help: "Something".into() }
    }

    #[test]
    fn what_prometheus_users_expect_is_accepted() {
        for fine in [
            metric("muster_events_folded_total", "counter", "none", &["outcome"]),
            metric("muster_head_age_seconds", "gauge", "seconds", &[]),
            metric("muster_bytes_read_bytes_total", "counter", "bytes", &[]),
            metric("muster_instances", "gauge", "none", &[]),
        ] {
            assert!(problems_of(&fine).is_empty(), "{:?}", problems_of(&fine));
        }
    }

    #[test]
    fn other_prefixes_units_and_unbounded_labels_are_refused() {
        for (wrong, why) in [
            (metric("events_total", "counter", "none", &[]), "begin with `muster_`"),
            (metric("muster_events", "counter", "none", &[]), "end with `_total`"),
            (metric("muster_events_total", "gauge", "none", &[]), "end with `_total`"),
            (metric("muster_age", "gauge", "seconds", &[]), "`muster_age_seconds`"),
            (metric("muster_age_ms", "gauge", "none", &[]), "base unit"),
            (metric("muster_age", "gauge", "fortnights", &[]), "no base unit"),
            (metric("muster_instances", "gauge", "none", &["service"]), "values of `service`"),
        ] {
            let problems = problems_of(&wrong).join("\n");
            assert!(problems.contains(why), "{problems}");
        }
    }
}
