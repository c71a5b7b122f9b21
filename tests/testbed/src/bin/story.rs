//! `make run`: a new user's first minute with the operator, on a control plane of its own.
//!
//! Tells the main job as it happens: a DittoServer is applied, its objects appear, its adapters are served, one stops,
//! it comes back on another port, and the pod was started once. Everything that is shown was read from the API server.
//! Exit code 0 when all came true, 1 with what did not otherwise.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Namespace, POLL, Resource, deploy, resources};
use dittofs_testbed::dittofs::ServerHandle;
use dittofs_testbed::world::World;
use serde_json::Value;

/// How long any step may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// The server in `deploy/samples/dittoserver.yaml`.
const SERVER: &str = "files";
/// Where the SMB adapter comes back.
const MOVED_PORT: u16 = 3445;

/// Shows the operator at work on a control plane of its own.
#[derive(Debug, Parser)]
struct Arguments {
    /// The operator's program.
    #[arg(long)]
    operator: PathBuf,
    /// Keep everything running afterwards, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let teller = Teller::new();
    tokio::select! {
        told = tell(&arguments, &teller) => match told {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                teller.line(Mark::Wrong, &format!("{error:#}"));
                ExitCode::FAILURE
            }
        },
        _ = tokio::signal::ctrl_c() => ExitCode::from(130),
    }
}

async fn tell(arguments: &Arguments, teller: &Teller) -> anyhow::Result<()> {
    teller.title("A Kubernetes control plane of its own: etcd, API server, controller manager, a stand-in for nodes");
    let begun = Instant::now();
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    teller.took("the API server answers, the DittoServer resource is installed", begun);

    let begun = Instant::now();
    let mut world = World::new_on(&cluster, "story", &arguments.operator).await?;
    let options = world.options();
    world.start_operator(options).await?;
    let namespace = world.namespace().clone();
    teller.took("the operator is ready, under the rights of deploy/rbac.yaml and no others", begun);

    teller.title("kubectl apply -f deploy/samples/dittoserver.yaml");
    let begun = Instant::now();
    let sample = deploy("samples/dittoserver.yaml");
    cluster
        .kubectl_ok(&["apply".as_ref(), "-n".as_ref(), namespace.name().as_ref(), "-f".as_ref(), sample.as_os_str()])
        .await?;
    let mut scene = Scene::new(&namespace, teller);
    scene.until("the server is ready", Seen::ready).await?;
    scene.until("NFS and SMB have Services", |seen| seen.adapters() == [("nfs", 12049), ("smb", 1445)]).await?;
    teller.took("ready, NFS and SMB are served", begun);

    let dittofs = world.dittofs(SERVER);
    let polled_each = poll_interval(&namespace).await?;
    step(
        teller,
        &mut scene,
        &polled_each,
        "An administrator stops the SMB adapter in the file server",
        &dittofs,
        |server| {
            server.stop_adapter("smb");
        },
        "its Service is gone",
        &[("nfs", 12049)],
    )
    .await?;
    step(
        teller,
        &mut scene,
        &polled_each,
        &format!("SMB starts again, on port {MOVED_PORT}"),
        &dittofs,
        |server| {
            server.move_adapter("smb", MOVED_PORT, Duration::ZERO);
            server.start_adapter("smb");
        },
        "it is served again",
        &[("nfs", 12049), ("smb", MOVED_PORT)],
    )
    .await?;

    scene
        .until("the container ports are written", |seen| {
            seen.container_ports().contains(&("adapter-smb".to_owned(), u64::from(MOVED_PORT)))
        })
        .await?;
    let starts = world.pod_starts().await?;
    anyhow::ensure!(starts == 1, "the pod was started {starts} times; once was needed");
    teller.line(
        Mark::Right,
        "pod starts 1: the new ports are declared in the StatefulSet and held back from the running pod",
    );

    teller.title("kubectl get dittoserver, services");
    for what in ["dittoservers", "services"] {
        println!("{}", cluster.kubectl_ok(&["get", what, "-n", namespace.name()]).await?.trim_end());
    }
    if arguments.keep {
        teller.title("Everything keeps running until Ctrl-C");
        println!("export KUBECONFIG={}", cluster.kubeconfig().display());
        println!("kubectl -n {} get dittoservers,statefulsets,services,events", namespace.name());
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// One change inside the file server, and what the operator makes of it.
#[expect(clippy::too_many_arguments, reason = "one sentence of the story: who, what, and how it ends")]
async fn step(
    teller: &Teller,
    scene: &mut Scene<'_>,
    polled_each: &str,
    title: &str,
    server: &ServerHandle,
    change: impl FnOnce(&ServerHandle),
    end: &str,
    adapters: &[(&str, u16)],
) -> anyhow::Result<()> {
    teller.title(title);
    let begun = Instant::now();
    change(server);
    scene.until(end, |seen| seen.adapters() == adapters).await?;
    teller.took(&format!("{end} (polled each {polled_each})"), begun);
    Ok(())
}

async fn poll_interval(namespace: &Namespace) -> anyhow::Result<String> {
    let server = namespace.get(resources::SERVERS, SERVER).await?.context("the DittoServer is gone")?;
    Ok(server["spec"]["adapterDiscovery"]["pollingInterval"].as_str().unwrap_or("30s").to_owned())
}

/// What is in the namespace now.
#[derive(Default)]
struct Seen {
    server: Value,
    stateful_set: Value,
    services: Vec<Value>,
    /// What is worth a line, by what it is about.
    facts: BTreeMap<String, String>,
}

impl Seen {
    fn ready(&self) -> bool {
        let conditions = self.server["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    fn adapters(&self) -> Vec<(&str, u16)> {
        let label = |service: &Value| service["metadata"]["labels"]["dittofs.io/adapter-service"] == "true";
        let mut found: Vec<(&str, u16)> = self
            .services
            .iter()
            .filter(|service| label(service))
            .map(|service| {
                let port = service["spec"]["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
                (service["metadata"]["labels"]["dittofs.io/adapter-type"].as_str().unwrap_or("?"), port.unwrap_or(0))
            })
            .collect();
        found.sort_unstable();
        found
    }

    fn container_ports(&self) -> Vec<(String, u64)> {
        let ports = self.stateful_set["spec"]["template"]["spec"]["containers"][0]["ports"].as_array();
        let port = |port: &Value| {
            (port["name"].as_str().unwrap_or("?").to_owned(), port["containerPort"].as_u64().unwrap_or(0))
        };
        ports.into_iter().flatten().map(port).collect()
    }
}

/// Watches the namespace and tells what is new.
struct Scene<'a> {
    namespace: &'a Namespace,
    teller: &'a Teller,
    known: BTreeMap<String, String>,
}

impl<'a> Scene<'a> {
    fn new(namespace: &'a Namespace, teller: &'a Teller) -> Self {
        Self { namespace, teller, known: BTreeMap::new() }
    }

    async fn until(&mut self, what: &str, come: impl Fn(&Seen) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let seen = self.look().await?;
            self.tell_news(&seen.facts);
            if come(&seen) {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "after {} s still not true: {what}", PATIENCE.as_secs());
            tokio::time::sleep(POLL).await;
        }
    }

    fn tell_news(&mut self, facts: &BTreeMap<String, String>) {
        for (about, fact) in facts {
            match self.known.get(about) {
                Some(before) if before == fact => {}
                Some(before) => self.teller.line(Mark::Changed, &format!("{about}  {before} → {fact}")),
                None => self.teller.line(Mark::New, &format!("{about}  {fact}")),
            }
        }
        for (about, _) in self.known.iter().filter(|(about, _)| !facts.contains_key(*about)) {
            self.teller.line(Mark::Gone, about);
        }
        self.known.clone_from(facts);
    }

    async fn look(&self) -> anyhow::Result<Seen> {
        let server = self.namespace.get(resources::SERVERS, SERVER).await?.unwrap_or_default();
        let mut seen = Seen { server, ..Seen::default() };
        let list = async |kind: Resource| self.namespace.list(kind, "").await;
        for service in list(resources::SERVICES).await? {
            let ports: Vec<String> = service["spec"]["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|port| format!("{} {}", port["name"].as_str().unwrap_or("?"), port["port"]))
                .collect();
            let address = service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
            let address = address.map_or_else(String::new, |ip| format!(" at {ip}"));
            seen.facts.insert(format!("Service {}", name(&service)), format!("{}{address}", ports.join(", ")));
            seen.services.push(service);
        }
        for set in list(resources::STATEFUL_SETS).await? {
            let ready = set["status"]["readyReplicas"].as_u64().unwrap_or(0);
            seen.facts
                .insert(format!("StatefulSet {}", name(&set)), format!("{ready} of {} ready", set["spec"]["replicas"]));
            seen.stateful_set = set;
        }
        for kind in [resources::CONFIG_MAPS, resources::SECRETS] {
            for object in list(kind).await?.iter().filter(|object| name(object).starts_with(SERVER)) {
                seen.facts.insert(format!("{} {}", kind.kind, name(object)), "is there".to_owned());
            }
        }
        for condition in seen.server["status"]["conditions"].as_array().into_iter().flatten() {
            let text = |field: &str| condition[field].as_str().unwrap_or("?").to_owned();
            seen.facts
                .insert(format!("condition {}", text("type")), format!("{} ({})", text("status"), text("reason")));
        }
        Ok(seen)
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("?")
}

/// Prints: in colour on a terminal, plain lines elsewhere.
struct Teller {
    start: Instant,
    colour: bool,
}

#[derive(Clone, Copy)]
enum Mark {
    New,
    Changed,
    Gone,
    Right,
    Wrong,
}

impl Teller {
    fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { start: Instant::now(), colour }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    fn line(&self, mark: Mark, text: &str) {
        let (code, sign) = match mark {
            Mark::New => ("32", "+"),
            Mark::Changed => ("33", "~"),
            Mark::Gone => ("31", "-"),
            Mark::Right => ("1;32", "✔"),
            Mark::Wrong => ("1;31", "✘"),
        };
        let at = format!("{:7.2} s", self.start.elapsed().as_secs_f64());
        println!("{}  {} {text}", self.paint("2", &at), self.paint(code, sign));
    }

    fn took(&self, what: &str, begun: Instant) {
        self.line(Mark::Right, &format!("{what}: {:.2} s", begun.elapsed().as_secs_f64()));
    }
}
