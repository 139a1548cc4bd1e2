//! What was measured, how it compares, and which goal that meets: the JSON that everything else is made from.

use std::collections::BTreeMap;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::goals::{Against, GOALS, Goal, Wanted};

/// Muster itself.
pub(crate) const MUSTER: &str = "muster";
/// The same path on the same broker without any logic in it.
pub(crate) const FLOOR: &str = "floor";

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) work: String,
    pub(crate) system: String,
    pub(crate) metric: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// How many operations it rests on.
    pub(crate) count: u64,
}

/// Muster's figure divided by another's, or by a limit.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ratio {
    pub(crate) work: String,
    pub(crate) metric: String,
    pub(crate) against: String,
    pub(crate) ratio: f64,
    pub(crate) goal: String,
    pub(crate) met: bool,
}

/// Something that was not measured, and why.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: BTreeMap<&'static str, String>,
    pub(crate) versions: BTreeMap<&'static str, String>,
    pub(crate) quick: bool,
    pub(crate) results: Vec<Figure>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) missing: Vec<Missing>,
}

impl Report {
    #[allow(clippy::too_many_arguments)] // One for each column of a table.
    pub(crate) fn add(&mut self, work: &str, system: &str, metric: &str, value: f64, unit: &'static str, count: u64) {
        println!("  {work:<44} {system:<8} {metric:<28} {value:>14.3} {unit}");
        self.results.push(Figure {
            work: work.into(),
            system: system.into(),
            metric: metric.into(),
            value,
            unit,
            count,
        });
    }

    /// The percentiles of a histogram of nanoseconds, in microseconds.
    pub(crate) fn latency(&mut self, work: &str, system: &str, histogram: &Histogram<u64>) {
        let count = histogram.len();
        let us = |ns: u64| ns as f64 / 1_000.0;
        for (metric, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            self.add(work, system, metric, us(histogram.value_at_quantile(quantile)), "us", count);
        }
        self.add(work, system, "maximum", us(histogram.max()), "us", count);
    }

    /// How long the last one had to wait, in microseconds of a histogram of nanoseconds.
    pub(crate) fn last_subscriber(&mut self, work: &str, system: &str, histogram: &Histogram<u64>) {
        let us = |ns: u64| ns as f64 / 1_000.0;
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let value = us(histogram.value_at_quantile(quantile));
            self.add(work, system, &format!("last subscriber {name}"), value, "us", histogram.len());
        }
        self.add(work, system, "last subscriber maximum", us(histogram.max()), "us", histogram.len());
    }

    /// What a process of its own printed: metric, value, unit and count, a line each.
    pub(crate) fn lines_of_child(&mut self, work: &str, system: &str, printed: &str) -> anyhow::Result<()> {
        const UNITS: [&str; 7] = ["bytes", "s", "ns/op", "us/op", "% of a core", "% of the fleet", ""];
        for line in printed.lines() {
            let mut fields = line.split('\t');
            let mut next = || fields.next().context("a short line");
            let (metric, value, unit, count) = (next()?, next()?.parse()?, next()?, next()?.parse()?);
            let unit = UNITS.into_iter().find(|known| *known == unit).context("a unit")?;
            self.add(work, system, metric, value, unit, count);
        }
        Ok(())
    }

    pub(crate) fn missing(&mut self, what: &str, why: impl ToString) {
        let why = why.to_string();
        println!("  missing: {what}: {why}");
        self.missing.push(Missing { what: what.into(), why });
    }

    fn value(&self, work: &str, system: &str, metric: &str) -> Option<f64> {
        let same = |figure: &&Figure| figure.work == work && figure.system == system && figure.metric == metric;
        self.results.iter().rfind(same).map(|figure| figure.value)
    }

    /// Holds what was measured against the goals.
    pub(crate) fn compare(&mut self) {
        self.ratios = GOALS.iter().filter_map(|goal| self.ratio(goal)).collect();
        for ratio in &self.ratios {
            let met = if ratio.met { "met" } else { "NOT MET" };
            println!(
                "  {:<44} {:<24} {:<12} {:>9.3}  {:<10} {met}",
                ratio.work, ratio.metric, ratio.against, ratio.ratio, ratio.goal
            );
        }
    }

    fn ratio(&self, goal: &Goal) -> Option<Ratio> {
        let own = self.value(goal.work, MUSTER, goal.metric)?;
        let (against, other) = match goal.against {
            Against::System(system) => (system.to_owned(), self.value(goal.work, system, goal.metric)?),
            Against::Work(work) => (work.to_owned(), self.value(work, MUSTER, goal.metric)?),
            Against::Limit(limit) => ("limit".to_owned(), limit),
        };
        let ratio = if own == other { 1.0 } else { own / other };
        let (text, met) = match goal.wanted {
            Wanted::AtMost(most) => (format!("<= {}", hundredths(most)), ratio <= most),
            Wanted::AtLeast(least) => (format!(">= {}", hundredths(least)), ratio >= least),
        };
        Some(Ratio { work: goal.work.into(), metric: goal.metric.into(), against, ratio, goal: text, met })
    }
}

/// As people write a goal.
fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
