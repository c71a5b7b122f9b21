//! One run: servers are created, rest, lose an adapter; what the operator used and how late it was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

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
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// How long nothing happens while writes are counted.
const QUIET: Duration = Duration::from_secs(20);

/// What is done to the operator in one run.
pub(crate) struct Scenario {
    /// How many DittoServers.
    pub(crate) servers: usize,
    /// How many of their APIs hang.
    pub(crate) hung: usize,
    /// `pollingInterval` of each.
    pub(crate) interval: &'static str,
    /// Whether SMB is started again in the end.
    pub(crate) and_start: bool,
    /// Environment of the operator.
    pub(crate) env: Vec<(String, String)>,
}

impl Scenario {
    /// Of healthy servers whose SMB is stopped in the end.
    pub(crate) fn new(servers: usize, interval: &'static str) -> Self {
        Self { servers, hung: 0, interval, and_start: false, env: Vec::new() }
    }
}

/// What one run showed: times in seconds, memory in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) created: f64,
    pub(crate) gone_worst: f64,
    pub(crate) quiet_writes: f64,
    pub(crate) quiet_cpu_percent: f64,
    /// Processor time of the operator from its start to the end of the run.
    pub(crate) cpu: f64,
    /// From the operator's start to the end of the run.
    pub(crate) took: f64,
    pub(crate) pod_starts: f64,
    pub(crate) rss_peak_mib: f64,
    /// At the end of the quiet stretch.
    pub(crate) rss_quiet_mib: f64,
    /// Lines of the operator's log that say that spans were lost.
    pub(crate) lost_spans_lines: usize,
}

/// Creates the servers, waits for their adapter Services, rests, stops and starts SMB everywhere.
pub(crate) async fn measure(operator: &Path, scenario: &Scenario) -> anyhow::Result<Run> {
    let &Scenario { servers, hung, interval, and_start, .. } = scenario;
    eprintln!("{servers} servers, {hung} of them hung, polled each {interval}");
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let mut world = World::new_on(&cluster, "bench", operator).await?;
    let mut options = world.options();
    options.env.extend(scenario.env.iter().cloned());
    let started = Instant::now();
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
    let quiet = world.operator().usage()?;
    let quiet_cpu = quiet.cpu.saturating_sub(cpu);
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
        cpu: usage.cpu.as_secs_f64(),
        took: started.elapsed().as_secs_f64(),
        pod_starts: pod_starts as f64,
        rss_peak_mib: usage.peak_memory as f64 / f64::from(1 << 20),
        lost_spans_lines: world.operator().logs().iter().filter(|line| says_lost_spans(line)).count(),
        rss_quiet_mib: quiet.memory as f64 / f64::from(1 << 20),
    })
}

fn says_lost_spans(line: &str) -> bool {
    line.contains("the trace collector does not take our spans") || line.contains("spans are dropped: the queue")
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
