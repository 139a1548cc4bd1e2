//! Plots of the figures: bars, in SVG, drawn with a few lines of text.

use std::fmt::Write;

use serde_json::Value;

use super::page::{rows, shown, text};

const WIDTH: f64 = 720.0;
const BAR: f64 = 18.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 110.0;

/// Name, title, and the figures that it shows: work, metric.
type Plot = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PLOTS: &[Plot] = &[
    (
        "registration-to-consumer",
        "From publish to the consumer's callback",
        &[
            ("registration to consumer, page cache", "p50"),
            ("registration to consumer, page cache", "p99"),
            ("registration to consumer, fsync", "p50"),
            ("registration to consumer, fsync", "p99"),
        ],
    ),
    (
        "rates",
        "Operations per second",
        &[
            ("registration rate, page cache", "rate"),
            ("registration rate, fsync", "rate"),
            ("heartbeat rate", "rate"),
            ("query of 10 instances", "rate"),
            ("query of 100 instances", "rate"),
        ],
    ),
    (
        "catalog",
        "One process with up to a million instances: cost of a heartbeat and of a change",
        &[
            ("catalog of 1,000 instances", "heartbeat"),
            ("catalog of 10,000 instances", "heartbeat"),
            ("catalog of 100,000 instances", "heartbeat"),
            ("catalog of 1,000,000 instances", "heartbeat"),
            ("catalog of 1,000 instances", "change"),
            ("catalog of 10,000 instances", "change"),
            ("catalog of 100,000 instances", "change"),
            ("catalog of 1,000,000 instances", "change"),
        ],
    ),
];

fn colour(system: &str) -> &'static str {
    match system {
        "muster" => "#2563eb",
        "floor" => "#9ca3af",
        "etcd" => "#d97706",
        _ => "#059669",
    }
}

/// All plots of which there is any figure.
pub(super) fn plots(report: &Value) -> Vec<(&'static str, String)> {
    let drawn = PLOTS.iter().filter_map(|(name, title, wanted)| Some((*name, draw(report, title, wanted)?)));
    drawn.collect()
}

fn draw(report: &Value, title: &str, wanted: &[(&str, &str)]) -> Option<String> {
    let of = |work: &str, metric: &str| {
        let same = move |result: &&Value| text(result, "work") == work && text(result, "metric") == metric;
        rows(report, "results").iter().filter(same).collect::<Vec<_>>()
    };
    let value = |result: &Value| result["value"].as_f64().unwrap_or_default();
    let all: Vec<&Value> = wanted.iter().flat_map(|(work, metric)| of(work, metric)).collect();
    let largest = all.iter().map(|result| value(result)).fold(0.0, f64::max);
    if largest <= 0.0 {
        return None;
    }
    let mut bars = String::new();
    let mut top = 40.0;
    for (work, metric) in wanted {
        for result in of(work, metric) {
            let (length, middle) = ((WIDTH - LEFT - RIGHT) * value(result) / largest, top + BAR * 0.72);
            let label = format!("{work}, {metric}: {}", text(result, "system"));
            let said = shown(value(result), text(result, "unit"));
            let _ = writeln!(bars, "<text x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0);
            let _ = writeln!(
                bars,
                "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                length.max(1.0),
                BAR - 4.0,
                colour(text(result, "system"))
            );
            let _ = writeln!(bars, "<text x=\"{:.1}\" y=\"{middle:.1}\">{said}</text>", LEFT + length + 6.0);
            top += BAR;
        }
        top += 6.0;
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 {WIDTH} {top}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{top}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">{title}</text>\n{bars}</svg>\n"
    ))
}
