//! `dittofs-operator run`: puts the parts together, and takes them apart in order.
//!
//! Order of the end: readiness turns false, the watcher and the pollers stop, the writers finish what they are at (up
//! to a deadline below the pod's grace period), the process exits. A second signal ends it at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::actors::cr_watcher::Watching;
use crate::actors::gate::Gate;
use crate::actors::heart::Heart;
use crate::actors::specs::Specs;
use crate::actors::supervisor::{Fatal, Shutdown, Supervisor};
use crate::actors::{Caches, Deps};
use crate::cluster::{
    ClassReader, Cluster, ConnectError, ConnectOptions, Events, MishapReader, WatchPolicy, connect, count_events,
};
use crate::debug::{self, Debug};
use crate::dittofs::{HttpClient, HttpClientError, HttpSettings, UrlTemplate};
use crate::health::{self, Health};
use crate::telemetry::export::Tracing;
use crate::telemetry::metrics::{self, Metrics};
use crate::webhook;

/// How long the writers may take to finish; the pod's grace period is 30 s.
const DRAIN: Duration = Duration::from_secs(20);

/// What `run` was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only namespace to serve; all of them when unset.
    pub namespace: Option<String>,
    /// Where each server's API is.
    pub api_url_template: UrlTemplate,
    /// Where `/healthz` and `/readyz` are served.
    pub health_addr: SocketAddr,
    /// Where `/metrics` is served; nowhere when unset.
    pub metrics_addr: Option<SocketAddr>,
    /// Whether series name servers.
    pub metrics_per_server: bool,
    /// Where `/debug/state` is served; nowhere when unset.
    pub debug_addr: Option<SocketAddr>,
    /// How the admission webhook is served; not at all when unset.
    pub webhook: Option<webhook::Settings>,
    /// The operator's own namespace, when it runs in a cluster.
    pub own_namespace: Option<String>,
    /// Name of this instance in events.
    pub instance: String,
}

/// Why `run` ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No connection to a cluster can be configured.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The HTTP client for the DittoFS API cannot be made.
    #[error(transparent)]
    Http(#[from] HttpClientError),
    /// The health address cannot be listened on.
    #[error("cannot listen on --health-addr {address}: {source}; choose a free address")]
    Health {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The metrics address cannot be listened on.
    #[error("cannot listen on --metrics-addr {address}: {source}; choose a free address")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The debug address cannot be listened on.
    #[error("cannot listen on --debug-addr {address}: {source}; choose a free address")]
    Debug {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The webhook's address cannot be listened on.
    #[error("cannot listen on --webhook-address {address}: {source}; choose a free address")]
    Webhook {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// An actor ended more often than is survived.
    #[error("{0}")]
    Fatal(String),
}

/// Runs until a signal or a fatal end. To be called inside an actix system over a multi-thread runtime.
pub async fn run(options: Options, tracing: &Tracing) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let (client, server) = connect(&ConnectOptions::default()).await?;
    let metrics = Metrics::new(options.metrics_per_server);
    metrics.count_spans_of(tracing.stats.clone());
    let cluster = Cluster::new(client.clone()).at(&server).counted(metrics.clone());
    let leaving = cluster.leaving();
    let deps = Arc::new(Deps {
        classes: ClassReader::new(cluster.clone()),
        cluster,
        events: Events::new(count_events(client.clone(), metrics.clone()), options.instance.clone(), leaving),
        mishaps: MishapReader::new(count_events(client.clone(), metrics.clone())),
        caches: Caches::default(),
        specs: Specs::default(),
        http: HttpClient::new(HttpSettings::default())?.counted(metrics.clone()),
        template: options.api_url_template.clone(),
        namespace: options.own_namespace.clone(),
        gate: Gate::new(metrics.clone()),
        metrics: metrics.clone(),
        tracer: tracing.tracer.clone(),
        origin: Instant::now(),
        seed: rand::random(),
        seeds: AtomicU64::new(0),
    });
    let (heart, ending) = (Heart::new(deps.origin), Arc::new(AtomicBool::new(false)));
    let health = Health { deps: deps.clone(), heart: heart.clone(), ending: ending.clone() };
    let bound = health::serve(options.health_addr, health)
        .await
        .map_err(|source| RunError::Health { address: options.health_addr, source })?;
    let metrics_at = match options.metrics_addr {
        None => None,
        Some(address) => Some(
            metrics::serve::serve(address, metrics).await.map_err(|source| RunError::Metrics { address, source })?,
        ),
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace.as_deref().unwrap_or("(all)"),
        health = %bound,
        metrics = %metrics_at.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        api_url_template = %options.api_url_template,
        traces = tracing.exports(),
        "dittofs-operator starts"
    );

    let (fatal_sender, mut fatal) = mpsc::unbounded_channel();
    let mut policy = WatchPolicy::default();
    if crate::fault::on("list-storm") {
        (policy.min_list_interval, policy.resync) = (Duration::from_secs(1), Duration::from_secs(1));
    }
    let watching = Watching { namespace: options.namespace.clone(), policy };
    let supervisor = Supervisor::new(deps.clone(), client, watching, heart.clone(), fatal_sender).start();
    if let Some(address) = options.debug_addr {
        let debug = Debug { deps: deps.clone(), heart, supervisor: supervisor.clone() };
        let bound = debug::serve(address, debug).await.map_err(|source| RunError::Debug { address, source })?;
        info!(address = %bound, "serving /debug/state");
    }

    let serving = match options.webhook {
        None => None,
        Some(settings) => Some(serve_webhook(settings, &deps, options.namespace.clone()).await?),
    };

    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        end = fatal.recv() => Err(RunError::Fatal(match end {
            Some(Fatal::BudgetSpent(actor)) => {
                format!("the actor {actor} ended more often than is survived; see the log above for its panics")
            }
            Some(Fatal::SupervisorEnded) | None => "the Supervisor ended; see the log above for its panic".to_owned(),
        })),
    };
    ending.store(true, Ordering::Relaxed);
    // Reviews under way are answered while the writers finish; new ones find nobody, and the API server goes on without.
    drop(serving);
    info!("shutting down: waiting for the writers");
    supervisor.do_send(Shutdown);
    // The Supervisor may be the one that is no more.
    deps.gate.close();
    tokio::select! {
        drained = deps.gate.drained(DRAIN) => {
            if drained {
                info!("shut down");
            } else {
                warn!("the writers did not finish in {} s; shut down without them", DRAIN.as_secs());
            }
        }
        () = signals.next() => error!("a second signal: shut down at once"),
    }
    outcome
}

/// The admission webhook, over a client of its own.
async fn serve_webhook(
    settings: webhook::Settings,
    deps: &Arc<Deps>,
    namespace: Option<String>,
) -> Result<webhook::Serving, RunError> {
    let (client, server) = connect(&webhook::connect_options()).await?;
    let cluster = Cluster::new(client).at(&server).counted(deps.metrics.clone());
    let address = settings.address;
    let serving = webhook::serve(settings, deps, cluster, namespace).await;
    let serving = serving.map_err(|source| RunError::Webhook { address, source })?;
    info!(address = %serving.bound, "serving the admission webhook");
    Ok(serving)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
