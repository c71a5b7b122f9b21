//! `docs/metrics.md`, the reference page, from the [`table`](super::table).

use std::fmt::Write as _;

use super::table::{LabelDef, MetricDef, Served, TABLE};

const HEAD: &str = "# Metrics

`dittofs-operator run --metrics-addr 0.0.0.0:8082` serves them at `GET /metrics`, as Prometheus text or OpenMetrics,
whichever the scraper asks for. Off by default. No series names a server, unless `--metrics-per-server` is given (for
small fleets: some 50 series a server; they go when the server goes).

What happens is counted (`_total`), what takes time is a histogram in seconds, and what is a state is found when it is
scraped: an age or a lag grows while nothing happens. Counters whose label values are all known start at 0, so that a
rate sees the first increase.

Generated from `src/telemetry/metrics/table.rs` by `make generate`.
";

/// The page, as Markdown.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    section(&mut page, "Always", Served::Always);
    section(&mut page, "With `--metrics-per-server`", Served::PerServer);
    page
}

fn section(page: &mut String, title: &str, served: Served) {
    let _ = write!(page, "\n## {title}\n");
    for def in TABLE.iter().filter(|def| def.served == served) {
        entry(page, def);
    }
}

fn entry(page: &mut String, def: &MetricDef) {
    let unit = if def.unit.as_str().is_empty() { String::new() } else { format!(", {}", def.unit.as_str()) };
    let _ = write!(page, "\n### `{}`\n\n{}{unit}. {}.\n", def.name, def.kind.as_str(), def.help);
    if !def.labels.is_empty() {
        page.push('\n');
    }
    for label in def.labels {
        let _ = writeln!(page, "- `{}`{}", label.name, words(label));
    }
    let _ = write!(page, "\nWhen it is bad: {}\n", def.when_bad);
}

fn words(label: &LabelDef) -> String {
    let values: Vec<String> =
        label.values.iter().map(|value| if value.is_empty() { "empty".into() } else { format!("`{value}`") }).collect();
    let colon = |text: &str| if text.is_empty() { String::new() } else { format!(": {text}") };
    let meaning = if label.meaning.is_empty() { String::new() } else { format!(" ({})", label.meaning) };
    if values.is_empty() { colon(label.meaning) } else { format!("{}{meaning}", colon(&values.join(", "))) }
}
