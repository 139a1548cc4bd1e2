//! Why a goal is not met: what people found out, in words, beside the figures and profiles that programs wrote.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::page::{rows, text};

/// What is known of goals that may be missed. No figures are in it: those are measured.
pub(super) const REASONS: &str = "docs/performance-reasons.toml";
/// Where instructions go, now and before the work on them, as `--profile` counted them.
pub(super) const PROFILES: &str = "docs/performance-profiles.json";

#[derive(Debug, Deserialize)]
struct Reasons {
    reason: Vec<Reason>,
}

/// What is known of one goal, or of several with the same cause.
#[derive(Debug, Deserialize)]
struct Reason {
    /// Begins the work's name.
    work: String,
    /// Of these only, if any are named.
    #[serde(default)]
    against: Vec<String>,
    /// Of these only, if any are named.
    #[serde(default)]
    figures: Vec<String>,
    why: String,
    tried: String,
    would_change: String,
}

impl Reason {
    fn is_about(&self, ratio: &Value) -> bool {
        let among = |names: &[String], field| names.is_empty() || names.iter().any(|name| name == text(ratio, field));
        text(ratio, "work").starts_with(&self.work) && among(&self.against, "against") && among(&self.figures, "metric")
    }
}

/// The page's part about goals that are not met.
pub(super) fn unmet(report: &Value, reasons: &str, profiles: &str) -> Result<String> {
    let reasons: Reasons = toml::from_str(reasons).context(REASONS)?;
    let unmet: Vec<&Value> = rows(report, "ratios").iter().filter(|ratio| ratio["met"] == false).collect();
    let mut out = String::new();
    if unmet.is_empty() {
        return Ok(out);
    }
    out.push_str("\n## Goals that are not met\n");
    let mut told = vec![false; unmet.len()];
    for reason in &reasons.reason {
        let about: Vec<usize> =
            (0..unmet.len()).filter(|index| !told[*index] && reason.is_about(unmet[*index])).collect();
        if about.is_empty() {
            continue;
        }
        out.push('\n');
        for index in about {
            told[index] = true;
            let _ = writeln!(out, "{}", heading(unmet[index]));
        }
        let Reason { why, tried, would_change, .. } = reason;
        for (title, words) in [("Why", why), ("Tried", tried), ("What would change it", would_change)] {
            let _ = writeln!(out, "\n*{title}.* {}", words.trim());
        }
    }
    for (ratio, _) in unmet.iter().zip(told).filter(|(_, told)| !told) {
        let _ = writeln!(out, "\n{}\n\nNot explained yet.", heading(ratio));
    }
    profile(profiles, &mut out)?;
    Ok(out)
}

fn heading(ratio: &Value) -> String {
    let goal = text(ratio, "goal").replace("<=", "≤").replace(">=", "≥");
    let value = ratio["ratio"].as_f64().unwrap_or_default();
    let (work, metric, against) = (text(ratio, "work"), text(ratio, "metric"), text(ratio, "against"));
    format!("* **{work}: {metric} against {against}**: {value:.2}, wanted {goal}")
}

/// The functions that cost most now, and what they cost before.
fn profile(profiles: &str, out: &mut String) -> Result<()> {
    let profiles: Value = serde_json::from_str(profiles).context(PROFILES)?;
    for now in rows(&profiles, "now") {
        let work = text(now, "work");
        let before = rows(&profiles, "before").iter().find(|before| text(before, "work") == work);
        let each = |profile: &Value, name: &str| {
            let of = rows(profile, "functions").iter().find(|function| text(function, "name") == name);
            of.and_then(|function| function["instructions_each"].as_u64())
        };
        let shown = |count: Option<u64>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let all = |profile: Option<&Value>| shown(profile.and_then(|profile| profile["instructions_each"].as_u64()));
        let _ = writeln!(
            out,
            "\n### Where the registry's instructions go: {work}\n\n\
             For each of {} operations, the whole process counted by callgrind, the kernel left out; before and after the work\n\
             on it. `cargo xtask bench --profile` counts anew.\n\n\
             | function | before | now |\n|---|---:|---:|\n| all | {} | {} |",
            now["count"],
            all(before),
            all(Some(now)),
        );
        for function in rows(now, "functions") {
            let name = text(function, "name");
            let was = before.and_then(|before| each(before, name));
            let _ = writeln!(out, "| `{name}` | {} | {} |", shown(was), shown(each(now, name)));
        }
    }
    Ok(())
}
