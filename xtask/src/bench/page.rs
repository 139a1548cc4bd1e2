//! docs/performance.md from the figures: tables, and how to repeat them. Nothing in it is typed by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

pub(super) fn rows<'a>(report: &'a Value, field: &str) -> &'a [Value] {
    report[field].as_array().map_or(&[], Vec::as_slice)
}

/// A number as people read it.
pub(super) fn shown(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        "us" if value >= 10_000.0 => (value / 1_000.0, "ms"),
        "us" => (value, "µs"),
        "us/op" => (value, "µs each"),
        "ns/op" if value >= 10_000.0 => (value / 1_000.0, "µs each"),
        "ns/op" => (value, "ns each"),
        "1/s" if value >= 10_000.0 => (value / 1_000.0, "k/s"),
        "1/s" => (value, "/s"),
        "bytes" if value.abs() >= 1e7 => (value / 1e6, "MB"),
        "bytes" if value.abs() >= 1e4 => (value / 1e3, "kB"),
        "bytes" => (value, "B"),
        other => (value, other),
    };
    let digits = if value == value.trunc() || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

pub(super) fn page(report: &Value, plots: &[&str], unmet: &str) -> String {
    let mut out = String::from(
        "<!-- Written by `cargo xtask bench --docs` from docs/performance.json: change that, not this. -->\n\
         # Performance\n\n\
         Floor, Muster and its peers on the same work, in one run on one machine, in turns. Machines differ and are noisy: a\n\
         figure means little by itself, so read the ratios. The *floor* is the same path on the same broker with the same bytes\n\
         and no logic in it. What bends first, and what to do then, is in [scaling.md](scaling.md).\n\n\
         To repeat it: `cargo xtask bench --setup`, then `cargo xtask bench` (half an hour) or `cargo xtask bench --quick` (five\n\
         minutes); `--docs` writes this page.\n",
    );
    if let Some(load) = busy(report) {
        let _ = writeln!(
            out,
            "\n**Others worked on the machine meanwhile** (load average {load}). Every figure is worse than it would be alone, and the\n\
             tails are theirs more than anybody's; the ratios compare systems that were disturbed alike."
        );
    }
    about(report, &mut out);
    ratios(report, &mut out);
    out.push_str(unmet);
    out.push_str("\n## Plots\n\n");
    for name in plots {
        let _ = writeln!(out, "![{}](performance/{name}.svg)\n", name.replace('-', " "));
    }
    figures(report, &mut out);
    missing(report, &mut out);
    out
}

/// How many wanted to run before the first work began, if that were too many for it to have the machine to itself.
fn busy(report: &Value) -> Option<f64> {
    let machine = report["machine"].as_object()?;
    let (_, load) = machine.iter().find(|(name, _)| name.starts_with("load before"))?;
    let load: f64 = load.as_str()?.split(' ').next()?.parse().ok()?;
    (load > BUSY).then_some(load)
}

/// More than what is left of building what is measured.
const BUSY: f64 = 1.0;

fn about(report: &Value, out: &mut String) {
    out.push_str("\n## Machine and versions\n\n| what | |\n|---|---|\n");
    for part in ["machine", "versions"] {
        for (name, value) in report[part].as_object().into_iter().flatten() {
            let _ = writeln!(out, "| {name} | {} |", value.as_str().unwrap_or_default());
        }
    }
    let size = if report["quick"] == true { "small (`--quick`)" } else { "full" };
    let _ = writeln!(out, "| size of the works | {size} |");
}

fn ratios(report: &Value, out: &mut String) {
    out.push_str(
        "\n## Goals\n\nA ratio is Muster's figure divided by the other's, or by the limit.\n\n\
         | work | figure | against | ratio | goal | met |\n|---|---|---|---:|---:|---|\n",
    );
    for ratio in rows(report, "ratios") {
        let met = if ratio["met"] == true { "yes" } else { "**no**" };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.2} | {} | {met} |",
            text(ratio, "work"),
            text(ratio, "metric"),
            text(ratio, "against"),
            ratio["ratio"].as_f64().unwrap_or_default(),
            text(ratio, "goal").replace("<=", "≤").replace(">=", "≥"),
        );
    }
}

fn figures(report: &Value, out: &mut String) {
    let results = rows(report, "results");
    let mut works: Vec<&str> = Vec::new();
    for result in results {
        if !works.contains(&text(result, "work")) {
            works.push(text(result, "work"));
        }
    }
    out.push_str("## Figures\n");
    for work in works {
        let of_work: Vec<&Value> = results.iter().filter(|result| text(result, "work") == work).collect();
        let (mut systems, mut metrics): (Vec<&str>, Vec<&str>) = Default::default();
        for result in &of_work {
            for (list, name) in [(&mut systems, text(result, "system")), (&mut metrics, text(result, "metric"))] {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
        let counts: BTreeSet<u64> = of_work.iter().filter_map(|result| result["count"].as_u64()).collect();
        let counts: Vec<String> = counts.iter().filter(|count| **count > 1).map(u64::to_string).collect();
        let _ = writeln!(out, "\n### {}{}\n", work[..1].to_uppercase(), &work[1..]);
        let _ = writeln!(out, "| | {} |\n|---|{}", systems.join(" | "), "---:|".repeat(systems.len()));
        for metric in metrics {
            let cells: Vec<String> = systems.iter().map(|system| cell(&of_work, system, metric)).collect();
            let _ = writeln!(out, "| {metric} | {} |", cells.join(" | "));
        }
        if !counts.is_empty() {
            let _ = writeln!(out, "\nOperations: {}.", counts.join(", "));
        }
    }
}

fn cell(results: &[&Value], system: &str, metric: &str) -> String {
    let by_name: BTreeMap<(&str, &str), &Value> =
        results.iter().map(|result| ((text(result, "system"), text(result, "metric")), *result)).collect();
    match by_name.get(&(system, metric)) {
        Some(result) => shown(result["value"].as_f64().unwrap_or_default(), text(result, "unit")),
        None => String::new(),
    }
}

fn missing(report: &Value, out: &mut String) {
    let missing = rows(report, "missing");
    if missing.is_empty() {
        return;
    }
    out.push_str("\n## Not measured\n\n");
    for one in missing {
        let why = text(one, "why").lines().next().unwrap_or_default();
        let _ = writeln!(out, "* {}: {why}", text(one, "what"));
    }
}
