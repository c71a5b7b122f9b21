//! `make bench`: what the operator costs and how fast it is, beside what was measured of the Go operator on a machine
//! of two cores. A table on stdout, the same as JSON in a file. Ratios and counts of one run; the machine is named.

mod run;
mod traces;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};

use run::{Scenario, measure};
use traces::Cost;

/// Measures the operator.
#[derive(Debug, Parser)]
struct Arguments {
    /// The operator's program, a release build.
    #[arg(long)]
    operator: PathBuf,
    /// Where the results go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only one part: a scenario (20, 20-hung, 200), all of these (main), or what traces cost (tracing).
    #[arg(long)]
    only: Option<String>,
    /// How many runs without traces show the spread against which those with traces are held; of the latter, half as
    /// many of each kind.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    tracing_runs: u8,
}

/// One line of the table.
struct Row {
    what: &'static str,
    go: &'static str,
    must: &'static str,
    limit: f64,
    found: f64,
    unit: &'static str,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let wanted =
        |name: &str| arguments.only.as_deref().is_none_or(|only| only == name || (only == "main" && name != "tracing"));
    let mut rows = Vec::new();
    if wanted("20") {
        let run = measure(&arguments.operator, &Scenario { and_start: true, ..Scenario::new(20, "2s") }).await?;
        rows.push(row(
            "20 servers, 2 s polling, 20 s without a change: writes",
            "1365",
            "0",
            0.0,
            run.quiet_writes,
            "",
        ));
        rows.push(row("pod starts through create, stop smb, start smb", "140", "20", 20.0, run.pod_starts, ""));
        rows.push(row("20 servers: all created → all adapter Services", "5.6 s", "≤ 3 s", 3.0, run.created, "s"));
        rows.push(row("20 servers: smb stopped → Service gone, worst", "2.9 s", "≤ 2.5 s", 2.5, run.gone_worst, "s"));
    }
    if wanted("20-hung") {
        let run = measure(&arguments.operator, &Scenario { hung: 2, ..Scenario::new(20, "2s") }).await?;
        rows.push(row(
            "the same, 2 of the 20 APIs hanging: others' worst",
            "13.4 s",
            "≤ 2.5 s",
            2.5,
            run.gone_worst,
            "s",
        ));
    }
    if wanted("200") {
        let run = measure(&arguments.operator, &Scenario::new(200, "5s")).await?;
        rows.push(row("200 servers, 5 s polling: created → all Services", "97 s", "≤ 30 s", 30.0, run.created, "s"));
        rows.push(row("200 servers: smb stopped → Service gone, worst", "41 s", "≤ 5.5 s", 5.5, run.gone_worst, "s"));
        rows.push(row("200 servers: resident memory, peak", "79 MiB", "≤ 40 MiB", 40.0, run.rss_peak_mib, "MiB"));
        rows.push(row(
            "200 servers: CPU of the operator at rest, share of a core",
            "",
            "",
            f64::INFINITY,
            run.quiet_cpu_percent,
            "%",
        ));
    }
    let tracing = if wanted("tracing") {
        Some(traces::measure_cost(&arguments.operator, usize::from(arguments.tracing_runs)).await?)
    } else {
        None
    };
    report(&arguments, &rows, tracing.as_ref())
}

fn row(what: &'static str, go: &'static str, must: &'static str, limit: f64, found: f64, unit: &'static str) -> Row {
    Row { what, go, must, limit, found, unit }
}

fn report(arguments: &Arguments, rows: &[Row], tracing: Option<&Cost>) -> anyhow::Result<()> {
    let machine = machine();
    println!("\n{machine}\n");
    if !rows.is_empty() {
        println!("| | Go operator | must | measured | |\n|---|---|---|---|---|");
    }
    for row in rows {
        let verdict = if row.found <= row.limit { "reached" } else { "MISSED" };
        println!("| {} | {} | {} | {:.2} {} | {verdict} |", row.what, row.go, row.must, row.found, row.unit);
    }
    if let Some(cost) = tracing {
        println!("\n{}", cost.table());
    }
    if let Some(path) = &arguments.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({"what": row.what, "go": row.go, "must": row.must, "measured": row.found, "unit": row.unit,
                       "reached": row.found <= row.limit})
            })
            .collect();
        let command: Vec<String> = std::env::args().collect();
        let mut results = json!({"machine": machine, "command": command.join(" "), "rows": rows});
        if let Some(cost) = tracing {
            results["tracing"] = cost.json();
        }
        let text = serde_json::to_string_pretty(&results)?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("?")
        .trim_start_matches([' ', '\t', ':']);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo").lines().next().unwrap_or("?").replace("MemTotal:", "").trim().to_owned();
    format!("{cores} × {model}, {memory}, {}", read("/proc/version").split(' ').take(3).collect::<Vec<_>>().join(" "))
}
