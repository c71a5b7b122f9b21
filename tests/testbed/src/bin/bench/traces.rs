//! What traces cost: the run of 200 servers with the export switched off, to a live Jaeger, and to an address where
//! nobody listens.
//!
//! The kinds take turns, so that a machine that slows down meanwhile slows all of them. With traces, the median of the
//! runs is held against the runs without: it has to lie within their spread, or cost at most 1 % of a core and 5 MiB
//! more than their median. For the delay the spread alone counts. The Jaeger and everything else run on the same machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use dittofs_testbed::jaeger::{Jaeger, Search};
use serde_json::{Value, json};

use crate::run::{PATIENCE, Run, Scenario, measure};

const SERVERS: usize = 200;
const INTERVAL: &str = "5s";
/// Nobody listens there: a connection is refused at once.
const DEAD: &str = "http://127.0.0.1:1";
/// The share of a core that traces may cost.
const CORE: f64 = 0.01;
/// The memory that they may cost, MiB.
const MEMORY: f64 = 5.0;

/// One thing that is compared.
struct Measure {
    what: &'static str,
    unit: &'static str,
    of: fn(&Run) -> f64,
    /// How much more than the median without traces is allowed, of a run that took so many seconds.
    slack: fn(f64) -> f64,
}

const MEASURES: [Measure; 5] = [
    Measure {
        what: "CPU of the operator at rest, share of a core",
        unit: "%",
        of: |run| run.quiet_cpu_percent,
        slack: |_| 100.0 * CORE,
    },
    Measure { what: "CPU of the operator in the whole run", unit: "s", of: |run| run.cpu, slack: |took| took * CORE },
    Measure { what: "resident memory at rest", unit: "MiB", of: |run| run.rss_quiet_mib, slack: |_| MEMORY },
    Measure { what: "resident memory, peak", unit: "MiB", of: |run| run.rss_peak_mib, slack: |_| MEMORY },
    Measure { what: "smb stopped → Service gone, worst", unit: "s", of: |run| run.gone_worst, slack: |_| 0.0 },
];

/// All runs.
pub(crate) struct Cost {
    off: Vec<Run>,
    on: Vec<Run>,
    dead: Vec<Run>,
    /// In each run with a live Jaeger, the servers whose birth it could show.
    traced: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Less than each run without traces.
    Below,
    WithinSpread,
    /// Above the spread, but by no more than is allowed.
    WithinSlack,
    Missed,
}

/// Runs everything: `runs` times without traces, half as often, rounded up, with each kind of traces.
///
/// # Errors
/// When a run fails, when a live Jaeger got no trace, or when the dead one was not noticed.
pub(crate) async fn measure_cost(operator: &Path, runs: usize) -> anyhow::Result<Cost> {
    let mut cost = Cost { off: Vec::new(), on: Vec::new(), dead: Vec::new(), traced: Vec::new() };
    for round in 0..runs {
        eprintln!("traces off, run {} of {runs}", round + 1);
        // Also when the machine has a collector.
        cost.off.push(measure(operator, &scenario("OTEL_TRACES_EXPORTER", "none")).await?);
        if round >= runs.div_ceil(2) {
            continue;
        }
        eprintln!("traces to a live Jaeger");
        let jaeger = Jaeger::start().await?;
        cost.on.push(measure(operator, &scenario("OTEL_EXPORTER_OTLP_ENDPOINT", &jaeger.otlp_grpc())).await?);
        let traced = born(&jaeger).await?;
        eprintln!("  Jaeger shows the birth of {traced} servers of {SERVERS}");
        cost.traced.push(traced);
        drop(jaeger);
        eprintln!("traces to a dead endpoint");
        let dead = measure(operator, &scenario("OTEL_EXPORTER_OTLP_ENDPOINT", DEAD)).await?;
        anyhow::ensure!(dead.lost_spans_lines > 0, "the operator did not notice that nobody listens at {DEAD}");
        cost.dead.push(dead);
    }
    Ok(cost)
}

fn scenario(variable: &str, value: &str) -> Scenario {
    Scenario { env: vec![(variable.to_owned(), value.to_owned())], ..Scenario::new(SERVERS, INTERVAL) }
}

/// How many servers' creation of Services Jaeger can show; at least one.
async fn born(jaeger: &Jaeger) -> anyhow::Result<usize> {
    let search = Search::service("dittofs-operator").operation("kube POST services");
    jaeger
        .wait_for(&search, PATIENCE, |traces| {
            let servers: BTreeSet<_> =
                traces.iter().flat_map(|trace| &trace.spans).filter_map(|span| span.tag("dittofs.server")).collect();
            if servers.is_empty() { Err("no server's birth".to_owned()) } else { Ok(servers.len()) }
        })
        .await
}

impl Cost {
    /// The comparison as a table in Markdown, with how the runs were made.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "{SERVERS} servers, {INTERVAL} polling: {} runs without traces, the median of {} to a live Jaeger (which showed \
             the birth of {:?} servers) and of {} to a dead endpoint\n\n\
             | | off: least – median – most | spread | live Jaeger | | dead endpoint | |\n|---|---|---|---|---|---|---|\n",
            self.off.len(),
            self.on.len(),
            self.traced,
            self.dead.len(),
        );
        for measure in &MEASURES {
            let off = Spread::of(self.off.iter().map(measure.of));
            let unit = measure.unit;
            let _ = write!(
                out,
                "| {} | {:.2} – {:.2} – {:.2} {unit} | {:.2} {unit} |",
                measure.what,
                off.least,
                off.median,
                off.most,
                off.most - off.least
            );
            for kind in [&self.on, &self.dead] {
                let (found, verdict) = self.judge(measure, kind);
                let _ = write!(out, " {found:.2} {unit} | {} |", verdict.words(found - off.median, unit));
            }
            out.push('\n');
        }
        out
    }

    /// Each run, and the comparison.
    pub(crate) fn json(&self) -> Value {
        let runs = |runs: &[Run]| -> Vec<Value> {
            runs.iter()
                .map(|run| {
                    let mut values: serde_json::Map<_, _> =
                        MEASURES.iter().map(|measure| (measure.what.to_owned(), json!((measure.of)(run)))).collect();
                    values.insert("seconds".to_owned(), json!(run.took));
                    Value::Object(values)
                })
                .collect()
        };
        let rows = MEASURES.iter().map(|measure| {
            let off = Spread::of(self.off.iter().map(measure.of));
            let judged = |kind: &[Run]| {
                let (found, verdict) = self.judge(measure, kind);
                json!({"measured": found, "reached": verdict != Verdict::Missed,
                       "within": verdict.words(found - off.median, measure.unit)})
            };
            json!({"what": measure.what, "unit": measure.unit,
                   "off": {"least": off.least, "median": off.median, "most": off.most},
                   "on": judged(&self.on), "dead": judged(&self.dead)})
        });
        json!({"servers": SERVERS, "polling": INTERVAL, "rows": rows.collect::<Vec<_>>(), "servers_traced": self.traced,
               "off": runs(&self.off), "on": runs(&self.on), "dead": runs(&self.dead)})
    }

    fn judge(&self, measure: &Measure, kind: &[Run]) -> (f64, Verdict) {
        let found = Spread::of(kind.iter().map(measure.of)).median;
        let took = Spread::of(kind.iter().map(|run| run.took)).median;
        let off = Spread::of(self.off.iter().map(measure.of));
        (found, off.judge(found, (measure.slack)(took)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        // Of an even number the upper of the two in the middle.
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
    }

    fn judge(&self, found: f64, slack: f64) -> Verdict {
        if found < self.least {
            Verdict::Below
        } else if found <= self.most {
            Verdict::WithinSpread
        } else if found <= self.median + slack {
            Verdict::WithinSlack
        } else {
            Verdict::Missed
        }
    }
}

impl Verdict {
    /// `more`: how much more than the median without traces.
    fn words(self, more: f64, unit: &str) -> String {
        match self {
            Self::Below => format!("{more:+.2} {unit}, below the spread"),
            Self::WithinSpread => format!("{more:+.2} {unit}, within the spread"),
            Self::WithinSlack => format!("{more:+.2} {unit}, allowed"),
            Self::Missed => format!("{more:+.2} {unit}, MISSED"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(value: f64) -> Run {
        Run {
            created: value,
            gone_worst: value,
            quiet_writes: 0.0,
            quiet_cpu_percent: value,
            cpu: value,
            took: 50.0,
            pod_starts: 0.0,
            rss_peak_mib: value,
            rss_quiet_mib: value,
            lost_spans_lines: 0,
        }
    }

    fn verdicts(on: f64) -> Vec<Verdict> {
        let off = [4.0, 3.0, 3.5, 3.2, 3.1].map(run).to_vec();
        // The median counts: not the run that something else slowed down.
        let on = [on, 99.0, on].map(run).to_vec();
        let cost = Cost { off, on, dead: Vec::new(), traced: Vec::new() };
        MEASURES.iter().map(|measure| cost.judge(measure, &cost.on).1).collect()
    }

    #[test]
    fn the_spread_or_the_allowance_decides_and_for_the_delay_the_spread_alone() {
        use Verdict::{Below, Missed, WithinSlack, WithinSpread};
        assert_eq!(verdicts(2.9), [Below; 5]);
        assert_eq!(verdicts(4.0), [WithinSpread; 5]);
        assert_eq!(verdicts(4.1), [WithinSlack, Missed, WithinSlack, WithinSlack, Missed]);
        assert_eq!(verdicts(8.1), [Missed, Missed, WithinSlack, WithinSlack, Missed]);
        assert_eq!(verdicts(8.3), [Missed; 5]);
    }
}
