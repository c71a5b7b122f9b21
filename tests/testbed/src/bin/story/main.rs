//! `make run`: a new user's first minute with the operator, on a control plane of its own.
//!
//! Tells the main job as it happens: a DittoServer is applied, its objects appear, its adapters are served, one stops,
//! it comes back on another port, and the pod was started once. Everything that is shown was read from the API server;
//! the last reconcile is shown as its trace, read from a Jaeger of its own. Exit code 0 when all came true, 1 with what
//! did not otherwise. `make trace` tells the same and keeps that trace in the README.

mod readme;
mod reconcile;
mod scene;
mod teller;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Parser;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Namespace, deploy, resources};
use dittofs_testbed::dittofs::{Record, ServerHandle};
use dittofs_testbed::jaeger::{Jaeger, render};
use dittofs_testbed::world::World;

use scene::{Scene, Seen};
use teller::{Mark, Teller};

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
    /// Write the trace of the last reconcile between the markers in this file.
    #[arg(long)]
    readme: Option<PathBuf>,
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
    let (cluster, jaeger) = tokio::try_join!(Cluster::start(ClusterOptions::default()), Jaeger::start())?;
    teller.took("the API server answers, the DittoServer resource is installed; Jaeger takes traces", begun);

    let begun = Instant::now();
    let mut world = World::new_on(&cluster, "story", &arguments.operator).await?;
    let mut options = world.options();
    options.env.extend([
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), jaeger.otlp_grpc()),
        ("OTEL_BSP_SCHEDULE_DELAY".to_owned(), reconcile::SEND_DELAY.as_millis().to_string()),
    ]);
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
    teller.title("Nothing happens for a while");
    let begun = Instant::now();
    quiet_poll(&namespace, &dittofs).await?;
    teller.took("polled again, and nothing was written", begun);
    let restarted = SystemTime::now();
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

    let trace = reconcile::read_back(&jaeger, &namespace, restarted).await?;
    let search = reconcile::creation(&namespace);
    let tags: Vec<String> = search.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    teller.title("Why is SMB served again? Jaeger, asked by server and decision");
    println!("{}\n", tags.join(" "));
    println!("{}", render(&trace, teller.style()));
    teller.line(
        Mark::Right,
        "one trace, from the poll to each write; .status.lastChange.traceID of the server leads there",
    );
    if let Some(file) = &arguments.readme {
        readme::renew(file, &trace, namespace.name())?;
        teller.line(Mark::Right, &format!("kept in {}", file.display()));
    }
    if arguments.keep {
        teller.title("Everything keeps running until Ctrl-C");
        println!("export KUBECONFIG={}", cluster.kubeconfig().display());
        println!("kubectl -n {} get dittoservers,statefulsets,services,events", namespace.name());
        println!("curl -s {}/api/traces/{}", jaeger.query_url(), trace.trace_id);
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

/// Waits until a poll has come and gone, and the DittoServer is as it was before: what is known is reported.
async fn quiet_poll(namespace: &Namespace, dittofs: &ServerHandle) -> anyhow::Result<()> {
    let version = async || -> anyhow::Result<String> {
        let server = namespace.get(resources::SERVERS, SERVER).await?.context("the DittoServer is gone")?;
        Ok(server["metadata"]["resourceVersion"].to_string())
    };
    let answered =
        |polls: &[Record]| polls.iter().filter(|poll| poll.adapters.is_some() && poll.ended.is_some()).count();
    loop {
        let before = version().await?;
        let wanted = answered(&dittofs.requests()) + 1;
        dittofs.wait_for(|requests| answered(requests) >= wanted, scene::PATIENCE).await?;
        if version().await? == before {
            return Ok(());
        }
    }
}

async fn poll_interval(namespace: &Namespace) -> anyhow::Result<String> {
    let server = namespace.get(resources::SERVERS, SERVER).await?.context("the DittoServer is gone")?;
    Ok(server["spec"]["adapterDiscovery"]["pollingInterval"].as_str().unwrap_or("30s").to_owned())
}
