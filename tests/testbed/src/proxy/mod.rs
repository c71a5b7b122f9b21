//! A plain-HTTP proxy in front of the API server, for one operator.
//!
//! Owns a listener and what passes through it. It counts the writes that pass, can cut the operator off at a chosen one
//! (before the API server has seen it, or after it answered, into the void), and can hang, refuse, delay or answer in
//! the API server's place. The bearer token passes through, TLS with the cluster's CA is spoken upstream.

mod rules;
mod serve;

pub use rules::{Action, Cut, Mode, Rule};

use crate::cluster::{Cluster, background};
use anyhow::Context as _;
use futures::future::BoxFuture;
use http::Method;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;
use tokio::sync::watch;

/// Work of a test that runs inside a request.
pub type Hook = Arc<dyn Fn(Seen) -> BoxFuture<'static, ()> + Send + Sync>;

/// A request that arrived at the proxy.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When it arrived.
    pub time: SystemTime,
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The `Accept` header: whether metadata alone was asked for.
    pub accept: String,
    /// Number among the counted writes, from 1; `None` for what is not counted.
    pub write: Option<usize>,
    /// Status that the operator was answered with; `None` while there is none, and when there never was.
    pub status: Option<u16>,
}

impl Seen {
    /// Whether it asks for whole Secrets in a LIST or a watch, where their metadata would do.
    pub fn reads_whole_secrets(&self) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        self.method == Method::GET && path.ends_with("/secrets") && !self.accept.contains("PartialObjectMetadata")
    }
}

type Counts = Box<dyn Fn(&Method, &str) -> bool + Send + Sync>;

struct State {
    seen: Vec<Seen>,
    writes: usize,
    counts: Counts,
    cut: Option<(Cut, Hook)>,
    rules: Vec<Rule>,
}

struct Shared {
    state: Mutex<State>,
    mode: watch::Sender<Mode>,
    /// Rises when all connections are to be cut.
    cuts: watch::Sender<usize>,
    upstream: reqwest::Client,
    server: String,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test's closure leaves nothing half done here.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A proxy in front of a cluster's API server; it ends with its last handle.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    url: String,
    _listener: Arc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxy {
    /// Listens on a port of 127.0.0.1 and forwards to the cluster's API server.
    ///
    /// # Errors
    /// When the CA cannot be used or no port can be had.
    pub async fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let server = cluster.server().trim_end_matches('/').to_owned();
        let ca = cluster.ca()?;
        background::run(async move {
            let certificates = reqwest::Certificate::from_pem_bundle(ca.as_bytes()).context("the cluster's CA")?;
            let upstream = reqwest::Client::builder()
                .no_proxy()
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .tls_certs_only(certificates)
                .build()?;
            let state = State {
                seen: Vec::new(),
                writes: 0,
                counts: Box::new(|_, path| !path.contains("/events")),
                cut: None,
                rules: Vec::new(),
            };
            let shared = Arc::new(Shared {
                state: Mutex::new(state),
                mode: watch::Sender::new(Mode::Normal),
                cuts: watch::Sender::new(0),
                upstream,
                server,
            });
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            let url = format!("http://{}", listener.local_addr()?);
            let task = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
            Ok(Self { shared, url, _listener: Arc::new(AbortOnDrop(task)) })
        })
        .await
    }

    /// The URL to put into a kubeconfig's `server`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Chooses which writes are counted, by method and path; all but events otherwise.
    pub fn count(&self, counts: impl Fn(&Method, &str) -> bool + Send + Sync + 'static) {
        self.shared.state().counts = Box::new(counts);
    }

    /// How many writes were counted since the start or the last [`Proxy::reset`].
    pub fn writes(&self) -> usize {
        self.shared.state().writes
    }

    /// Every request since then, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// Forgets the requests, and counts from 0 again.
    pub fn reset(&self) {
        let mut state = self.shared.state();
        state.seen.clear();
        state.writes = 0;
    }

    /// Calls `hook` at one write and answers nothing to it; once. The usual hook kills the operator.
    pub fn arm(&self, cut: Cut, hook: impl Fn(Seen) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        self.shared.state().cut = Some((cut, Arc::new(hook)));
    }

    /// Forgets a cut that has not happened.
    ///
    /// Returns whether there was one.
    pub fn disarm(&self) -> bool {
        self.shared.state().cut.take().is_some()
    }

    /// Adds a rule; the first that matches a request decides.
    pub fn rule(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.shared.state().rules.clear();
    }

    /// What becomes of everything: [`Mode::Hang`] holds new requests and open watches alike, as a network does that
    /// lost a peer; [`Mode::Refuse`] closes every connection, open ones too.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
        if mode == Mode::Refuse {
            self.cut_connections();
        }
    }

    /// Closes every open connection, watches with them.
    pub fn cut_connections(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }
}
