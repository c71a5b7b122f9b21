//! `make bench`: what the operator costs and how fast it is, beside what was measured of the Go operator on a machine
//! of two cores. A table on stdout, the same as JSON in a file. Ratios and counts of one run; the machine is named.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Parser;
use dittofs_testbed::audit::{self, Micros};
use dittofs_testbed::cluster::{Cluster, ClusterOptions, POLL, resources};
use dittofs_testbed::dittofs::{Mode, Scope};
use dittofs_testbed::world::World;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::watcher;
use serde_json::{Value, json};

/// How long any phase may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long nothing happens while writes are counted.
const QUIET: Duration = Duration::from_secs(20);

/// Measures the operator.
#[derive(Debug, Parser)]
struct Arguments {
    /// The operator's program, a release build.
    #[arg(long)]
    operator: PathBuf,
    /// Where the results go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only the scenario whose name begins with this (20, 20-hung, 200).
    #[arg(long)]
    only: Option<String>,
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
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|only| only == name);
    let mut rows = Vec::new();
    if wanted("20") {
        let run = measure(&arguments, 20, 0, "2s", true).await?;
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
        let run = measure(&arguments, 20, 2, "2s", false).await?;
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
        let run = measure(&arguments, 200, 0, "5s", false).await?;
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
    report(&arguments, &rows)
}

fn row(what: &'static str, go: &'static str, must: &'static str, limit: f64, found: f64, unit: &'static str) -> Row {
    Row { what, go, must, limit, found, unit }
}

fn report(arguments: &Arguments, rows: &[Row]) -> anyhow::Result<()> {
    let machine = machine();
    println!("\n{machine}\n");
    println!("| | Go operator | must | measured | |\n|---|---|---|---|---|");
    for row in rows {
        let verdict = if row.found <= row.limit { "reached" } else { "MISSED" };
        println!("| {} | {} | {} | {:.2} {} | {verdict} |", row.what, row.go, row.must, row.found, row.unit);
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
        let text =
            serde_json::to_string_pretty(&json!({"machine": machine, "command": command.join(" "), "rows": rows}))?;
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

#[derive(Debug)]
struct Run {
    created: f64,
    gone_worst: f64,
    quiet_writes: f64,
    quiet_cpu_percent: f64,
    pod_starts: f64,
    rss_peak_mib: f64,
}

/// Creates the servers, waits for their adapter Services, rests, stops and starts SMB everywhere.
async fn measure(
    arguments: &Arguments,
    servers: usize,
    hung: usize,
    interval: &str,
    and_start: bool,
) -> anyhow::Result<Run> {
    eprintln!("{servers} servers, {hung} of them hung, polled each {interval}");
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let mut world = World::new_on(&cluster, "bench", &arguments.operator).await?;
    let options = world.options();
    world.start_operator(options).await?;
    let names: Vec<String> = (0..servers).map(|n| format!("files-{n:03}")).collect();
    for name in &names[..hung] {
        world.dittofs(name).set_mode(Mode::Hang, Scope::All);
    }
    let healthy = &names[hung..];
    let seen = Seen::watch(&cluster, world.namespace().name()).await?;

    let begun = Instant::now();
    let spec = json!({"adapterDiscovery": {"pollingInterval": interval}, "service": {"type": "ClusterIP"}});
    futures::stream::iter(&names)
        .map(|name| world.apply_server(name, &spec))
        .buffer_unordered(20)
        .try_collect::<Vec<_>>()
        .await?;
    seen.until(healthy, &["nfs", "smb"], true).await?;
    let created = begun.elapsed().as_secs_f64();
    eprintln!("  all adapter Services after {created:.2} s");

    settle(&world, healthy).await?;
    let cpu = world.operator().usage()?.cpu;
    let from = SystemTime::now();
    tokio::time::sleep(QUIET).await;
    let until = SystemTime::now();
    let quiet_cpu = world.operator().usage()?.cpu.saturating_sub(cpu);
    let quiet_writes = writes_between(&cluster, &world.operator().user(), from, until)?;
    eprintln!("  {quiet_writes} writes in {} quiet seconds", QUIET.as_secs());

    let begun = Instant::now();
    for name in healthy {
        world.dittofs(name).stop_adapter("smb");
    }
    seen.until(healthy, &["smb"], false).await?;
    let gone_worst = seen.last_since(begun);
    eprintln!("  smb gone everywhere, worst after {gone_worst:.2} s");
    if and_start {
        for name in healthy {
            world.dittofs(name).start_adapter("smb");
        }
        seen.until(healthy, &["smb"], true).await?;
        settle(&world, healthy).await?;
    }
    let pod_starts = world.pod_starts().await?;
    let usage = world.operator().usage()?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Ok(Run {
        created,
        gone_worst,
        quiet_writes: quiet_writes as f64,
        quiet_cpu_percent: 100.0 * quiet_cpu.as_secs_f64() / QUIET.as_secs_f64(),
        pod_starts: pod_starts as f64,
        rss_peak_mib: usage.peak_memory as f64 / f64::from(1 << 20),
    })
}

/// Writes of one user between two moments, by the audit log.
fn writes_between(cluster: &Cluster, user: &str, from: SystemTime, until: SystemTime) -> anyhow::Result<usize> {
    let between = Micros::from(from)..=Micros::from(until);
    let entries = audit::read(cluster.audit_log())?;
    let counts = |entry: &&audit::Entry| entry.user == user && entry.is_write() && between.contains(&entry.received);
    Ok(entries.iter().filter(counts).count())
}

/// Waits until every server is ready and two seconds more without a change of any.
async fn settle(world: &World, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        world.wait_ready(name).await?;
    }
    let versions = async || -> anyhow::Result<Vec<String>> {
        let servers = world.namespace().list(resources::SERVERS, "").await?;
        let version = |server: &Value| server["metadata"]["resourceVersion"].to_string();
        Ok(servers.iter().map(version).collect())
    };
    let begun = Instant::now();
    let mut before = versions().await?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = versions().await?;
        if now == before {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "the servers do not come to rest");
        before = now;
    }
}

/// The adapter Services by name, as a watch shows them, with the moment of the last change.
struct Seen {
    services: Arc<Mutex<(BTreeSet<String>, Instant)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    async fn watch(cluster: &Cluster, namespace: &str) -> anyhow::Result<Self> {
        let api: Api<Service> = Api::namespaced(cluster.client().await?, namespace);
        let services = Arc::new(Mutex::new((BTreeSet::new(), Instant::now())));
        let shared = services.clone();
        let task = tokio::spawn(async move {
            let mut events =
                Box::pin(watcher(api, watcher::Config::default().labels("dittofs.io/adapter-service=true")));
            while let Some(event) = events.next().await {
                let Ok(mut seen) = shared.lock() else { return };
                let changed = match event {
                    Ok(watcher::Event::Apply(service) | watcher::Event::InitApply(service)) => {
                        seen.0.insert(service.metadata.name.unwrap_or_default())
                    }
                    Ok(watcher::Event::Delete(service)) => seen.0.remove(&service.metadata.name.unwrap_or_default()),
                    _ => false,
                };
                if changed {
                    seen.1 = Instant::now();
                }
            }
        });
        Ok(Self { services, task })
    }

    async fn until(&self, names: &[String], adapters: &[&str], there: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let missing = {
                let seen = self.services.lock().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
                let services =
                    names.iter().flat_map(|name| adapters.iter().map(move |kind| format!("{name}-adapter-{kind}")));
                services.filter(|service| seen.0.contains(service) != there).count()
            };
            if missing == 0 {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{missing} adapter Services are still not as they should be");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Seconds from `begun` to the last Service that came or went.
    fn last_since(&self, begun: Instant) -> f64 {
        self.services.lock().map_or(f64::NAN, |seen| seen.1.saturating_duration_since(begun).as_secs_f64())
    }
}
