//! What the tests of the actors stand on: a clock that jumps, mailboxes that record, and the [`Deps`] over an API
//! server in memory ([`api`]).
//!
//! Nothing here does real I/O but what a test asks the DittoFS stand-in for; such a test runs in [`run_in_real_time`].

pub(super) mod api;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use self::api::Api;
use super::deps::{Caches, Deps};
use super::gate::Gate;
use super::lifeline::Lifeline;
use super::messages::{Cause, CauseKind, ChildEnded, Fact, Poke, Report, Role};
use super::specs::Specs;
use crate::build::{APP, APP_LABEL};
use crate::cluster::scripted::Server;
use crate::cluster::{Cache, ClassReader, Cluster, Events, Kind, Leaving, MishapReader, WatchEvent};
use crate::dittofs::{HttpClient, HttpSettings, UrlTemplate};
use crate::reconcile::{ServerKey, meta};

/// Runs a test inside an actix system whose clock jumps to the next timer whenever nothing else is to be done.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    run_on(|| Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime"), test)
}

/// Runs a test inside an actix system on the real clock: for what goes over sockets.
pub(crate) fn run_in_real_time<F: Future>(test: F) -> F::Output {
    run_on(|| Builder::new_current_thread().enable_all().build().expect("a runtime"), test)
}

fn run_on<F: Future>(runtime: impl Fn() -> Runtime, test: F) -> F::Output {
    System::with_tokio_rt(runtime).block_on(test)
}

/// Waits until the condition holds; fails the test after a minute of its clock.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < end, "never came true: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Lets that much time pass; under the paused clock all that is due by then has happened.
pub(crate) async fn pass(seconds: f64) {
    sleep(Duration::from_secs_f64(seconds)).await;
}

/// A mailbox that records.
pub(crate) struct Probe<M: Message<Result = ()> + Send + Unpin + 'static> {
    got: Arc<Mutex<Vec<M>>>,
    address: Addr<Mailbox<M>>,
}

/// The actor behind a [`Probe`].
pub(crate) struct Mailbox<M>(Arc<Mutex<Vec<M>>>);

impl<M: Unpin + 'static> Actor for Mailbox<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Mailbox<M> {
    type Result = ();
    fn handle(&mut self, message: M, _: &mut Self::Context) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }
}

impl<M: Message<Result = ()> + Send + Unpin + Clone + 'static> Probe<M> {
    /// An empty one; to be called inside [`run`].
    pub(crate) fn new() -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        Self { address: Mailbox(got.clone()).start(), got }
    }

    /// Its address.
    pub(crate) fn recipient(&self) -> Recipient<M>
    where
        Context<Mailbox<M>>: ToEnvelope<Mailbox<M>, M>,
    {
        self.address.clone().recipient()
    }

    /// All messages so far, oldest first.
    pub(crate) fn got(&self) -> Vec<M> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many came.
    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The newest.
    pub(crate) fn last(&self) -> Option<M> {
        self.got().pop()
    }
}

impl Probe<Report> {
    /// The facts that were reported, oldest first, without what only tells of a change.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        self.got().into_iter().map(|report| report.fact).filter(|fact| !matches!(fact, Fact::Changed(_))).collect()
    }

    /// The changes that were told, in words, oldest first.
    pub(crate) fn changes(&self) -> Vec<String> {
        let told = self.got().into_iter().filter_map(|report| match report.fact {
            Fact::Changed(words) => Some(words),
            _ => None,
        });
        told.collect()
    }
}

/// The one server of most tests.
pub(crate) fn key() -> ServerKey {
    ServerKey::new("team", "files")
}

/// A poke for a change of the server.
pub(crate) fn changed() -> Poke {
    Poke(Cause::here(CauseKind::ServerChanged))
}

/// An API server, and everything that an actor is given.
pub(crate) struct Bench {
    pub(crate) api: Api,
    pub(crate) deps: Arc<Deps>,
    /// Where the lifelines of the actors under test end.
    pub(crate) ended: Probe<ChildEnded>,
    /// What the actors under test report.
    pub(crate) status: Probe<Report>,
    /// The API server does not serve ServiceMonitors.
    pub(crate) without_service_monitors: AtomicBool,
}

impl Bench {
    /// One whose DittoFS API is nowhere.
    pub(crate) fn new() -> Self {
        Self::with_template("http://{name}.{namespace}.invalid:{port}")
    }

    /// One whose servers' APIs are where the template says.
    pub(crate) fn with_template(template: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let api = Api::new();
        let client = api.client();
        let http = HttpSettings { proxy_from_env: false, ..HttpSettings::default() };
        let deps = Deps {
            classes: ClassReader::with_default(Cluster::new(client.clone())),
            cluster: Cluster::new(client.clone()),
            events: Events::new(client.clone(), "test".to_owned(), Leaving::default()),
            mishaps: MishapReader::new(client),
            caches: Caches::default(),
            specs: Specs::default(),
            http: HttpClient::new(http).expect("a client"),
            template: UrlTemplate::parse(template).expect("a template"),
            namespace: Some("operators".to_owned()),
            gate: Gate::default(),
            metrics: crate::telemetry::metrics::Metrics::default(),
            tracer: crate::telemetry::Tracer::default(),
            origin: Instant::now(),
            seed: 1,
            seeds: std::sync::atomic::AtomicU64::new(0),
        };
        Self {
            api,
            deps: Arc::new(deps),
            ended: Probe::new(),
            status: Probe::new(),
            without_service_monitors: AtomicBool::new(false),
        }
    }

    /// One with the server `team/files`, seen by the caches.
    pub(crate) fn with_server() -> Self {
        Self::new().and_server(|_| {})
    }

    /// The same, with the server `team/files` of this spec.
    pub(crate) fn and_server(self, spec: impl FnOnce(&mut Value)) -> Self {
        let mut server = ditto_server("files");
        spec(&mut server["spec"]);
        self.api.put(Kind::DittoServer, server);
        self.sync();
        self
    }

    /// A lifeline that ends here.
    pub(crate) fn lifeline(&self, role: Role) -> Lifeline {
        Lifeline::new(self.ended.recipient(), Some(key()), role, 1)
    }

    /// Brings the caches to what the API server has, as complete lists do.
    pub(crate) fn sync(&self) {
        let caches = &self.deps.caches;
        let ours = |object: &Value| object["metadata"]["labels"][APP_LABEL] == APP;
        let list = |cache: &Cache, kind: Kind| {
            let mut objects = self.api.all(kind);
            if kind != Kind::DittoServer {
                objects.retain(ours);
            }
            cache.apply(WatchEvent::Listed(objects));
        };
        list(&caches.servers, Kind::DittoServer);
        list(&caches.stateful_sets, Kind::StatefulSet);
        list(&caches.services, Kind::Service);
        list(&caches.config_maps, Kind::ConfigMap);
        list(&caches.network_policies, Kind::NetworkPolicy);
        if !self.without_service_monitors.load(Ordering::Relaxed) {
            list(&caches.service_monitors, Kind::ServiceMonitor);
        }
        list(&caches.claims, Kind::Claim);
        list(&caches.pods, Kind::Pod);
    }

    /// Changes the spec of `team/files` as `kubectl apply` would, and lets the caches see it.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) {
        self.api.change(Kind::DittoServer, "files", |server| change(&mut server["spec"]));
        self.sync();
    }
}

/// A server of the namespace `team` with nothing set but what is required, and a poll a second. Its NetworkPolicies,
/// which have tests of their own, are switched off.
pub(crate) fn ditto_server(name: &str) -> Value {
    json!({
        "metadata": {"namespace": "team", "name": name, "uid": format!("uid-{name}")},
        "spec": {
            "storage": {"metadataSize": "1Gi"}, "adapterDiscovery": {"pollingInterval": "1s"},
            "networkPolicy": {"enabled": false},
        },
    })
}

/// A client whose every request hangs: for a watcher that is to see nothing.
pub(crate) fn silent_client() -> kube::Client {
    Server::new(|_, _| crate::cluster::scripted::Reply::Hang).client()
}

/// The names of objects.
pub(crate) fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|object| meta(object, "name").to_owned()).collect()
}
