//! A watch that never ends and never storms.
//!
//! Owns: when the API server is asked for a list or a watch. Touches: LIST and WATCH of one kind in one scope, and
//! discovery for a kind that a CRD brings. Guarantees (each is a test in `watch_tests.rs`):
//!
//! - at most one LIST starts in `min_list_interval`, whatever the server does, the first of the process at once;
//! - a list is handed on as a whole or not at all;
//! - after an error the next attempt waits, longer each time, until a stretch without errors;
//! - 410 Gone leads to a new list in both its forms; a watch that has gone silent is opened again within
//!   `watch_timeout` + 5 s; a server that ends each watch at once is asked ever more slowly;
//! - an object that cannot be read costs nothing but itself; a kind that is not served yet is waited for without a
//!   LIST;
//! - the whole is listed anew every `resync`, which heals whatever a lost event left behind.
//!
//! kube's own watcher does the protocol. It has no place for most of the above, so it is driven from here: it is
//! polled only when a request is allowed, replaced when it would never list again, and its watch requests pass
//! through `paced`.

use std::time::Duration;

use futures::Stream;
use kube::Client;
use serde_json::Value;

use super::driver::Driver;
use super::kind::Kind;
use crate::telemetry::metrics::Metrics;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchScope {
    /// The kind of object.
    pub kind: Kind,
    /// One namespace; all when `None`.
    pub namespace: Option<String>,
    /// A label selector, as in `kubectl -l`.
    pub label_selector: Option<String>,
    /// Asks for `metadata` only: the values are then nothing but that.
    pub metadata_only: bool,
}

/// How often the API server may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchPolicy {
    /// From the end of a LIST, or the start of one that failed, to the start of the next.
    pub min_list_interval: Duration,
    /// After which the server is asked to end each watch, in whole seconds. Silence 5 s past it counts as the end.
    pub watch_timeout: Duration,
    /// First delay after an error, and after a watch that ended at once.
    pub backoff_initial: Duration,
    /// Longest such delay.
    pub backoff_cap: Duration,
    /// The delays start again at `backoff_initial` after this long without an error.
    pub healthy_after: Duration,
    /// A watch that ended earlier than this after its opening delays the next one.
    pub short_watch: Duration,
    /// Between full re-lists; each is up to a tenth earlier or later.
    pub resync: Duration,
    /// Between two looks for a kind that is not served yet.
    pub crd_poll: Duration,
    /// The same for a kind that the operator does without.
    pub optional_crd_poll: Duration,
}

impl Default for WatchPolicy {
    fn default() -> Self {
        Self {
            min_list_interval: Duration::from_secs(30),
            watch_timeout: Duration::from_secs(50),
            backoff_initial: Duration::from_millis(250),
            backoff_cap: Duration::from_secs(30),
            healthy_after: Duration::from_mins(1),
            short_watch: Duration::from_secs(5),
            resync: Duration::from_mins(10),
            crd_poll: Duration::from_secs(2),
            optional_crd_poll: Duration::from_secs(10),
        }
    }
}

/// What a watch tells.
#[derive(Clone, PartialEq)]
pub enum WatchEvent {
    /// Everything that there is, complete: what is not in here is gone.
    Listed(Vec<Value>),
    /// An object came or changed.
    Applied(Value),
    /// An object went; its last state.
    Deleted(Value),
    /// The API server could not be asked, or answered with an error. The watch goes on by itself.
    Trouble {
        /// For people; no body in it.
        error: String,
        /// Static label: `crd-missing`, `timeout`, `unreachable`, `expired`, `unauthorized`, `forbidden` …
        category: &'static str,
    },
    /// After trouble: the API server answers this watch again.
    Recovered,
}

impl std::fmt::Debug for WatchEvent {
    /// Names and counts, never an object.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |o: &Value| o.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("?").to_owned();
        match self {
            Self::Listed(objects) => write!(f, "Listed({})", objects.len()),
            Self::Applied(object) => write!(f, "Applied({})", name(object)),
            Self::Deleted(object) => write!(f, "Deleted({})", name(object)),
            Self::Trouble { error, category } => write!(f, "Trouble({category}: {error})"),
            Self::Recovered => f.write_str("Recovered"),
        }
    }
}

/// Watches `scope` for ever. Nothing is asked before the stream is polled; `seed` fixes the jitter; `metrics` counts
/// what is asked and what comes.
pub fn watch(
    client: Client,
    scope: WatchScope,
    policy: WatchPolicy,
    seed: u64,
    metrics: Metrics,
) -> impl Stream<Item = WatchEvent> + Send {
    futures::stream::unfold(None, move |driver: Option<Box<Driver>>| {
        let start = || Box::new(Driver::new(client.clone(), scope.clone(), policy.clone(), seed, metrics.clone()));
        let mut driver = driver.unwrap_or_else(start);
        async move {
            let event = driver.next().await;
            Some((event, Some(driver)))
        }
    })
}
