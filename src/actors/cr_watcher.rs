//! CrWatcher: sees what happens in the Kubernetes API and says *what* changed, never how.
//!
//! Owns the watches; fills the caches before it tells anyone. DittoServers, and what they own by label: StatefulSets,
//! Services, NetworkPolicies, ServiceMonitors and claims whole, ConfigMaps and Secrets by their metadata; and the pods of
//! the StatefulSets, of which only what says how they come up is kept. Secrets enter no cache: a name that changed is all
//! that is kept of them. Nothing is told from a list that is not complete.

use std::sync::Arc;

use actix::prelude::*;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use super::Deps;
use super::lifeline::Lifeline;
use super::messages::{Cause, CauseKind, Seen, Sighting, Stop};
use super::trouble::Trouble;
use crate::build::{APP, APP_LABEL};
use crate::cluster::{Cache, Change, Kind, WatchEvent, WatchPolicy, WatchScope, watch};
use crate::reconcile::claims::server_of_claim;
use crate::reconcile::pod::slim;
use crate::reconcile::{ServerKey, meta};

/// How the watches are made.
#[derive(Clone, Debug)]
pub struct Watching {
    /// The Kubernetes API.
    pub namespace: Option<String>,
    /// Their pace.
    pub policy: WatchPolicy,
}

/// See the module.
pub struct CrWatcher {
    deps: Arc<Deps>,
    client: kube::Client,
    watching: Watching,
    supervisor: Recipient<Seen>,
    tasks: Vec<AbortHandle>,
    _lifeline: Lifeline,
}

impl CrWatcher {
    /// A watcher that has not begun.
    pub fn new(
        deps: Arc<Deps>,
        client: kube::Client,
        watching: Watching,
        supervisor: Recipient<Seen>,
        lifeline: Lifeline,
    ) -> Self {
        Self { deps, client, watching, supervisor, tasks: Vec::new(), _lifeline: lifeline }
    }

    fn watch(&mut self, kind: Kind, ctx: &mut Context<Self>) {
        let owned = matches!(
            kind,
            Kind::StatefulSet
                | Kind::Service
                | Kind::ConfigMap
                | Kind::Pod
                | Kind::NetworkPolicy
                | Kind::ServiceMonitor
                | Kind::Claim
        );
        let scope = WatchScope {
            kind,
            namespace: self.watching.namespace.clone(),
            label_selector: owned.then(|| format!("{APP_LABEL}={APP}")),
            metadata_only: matches!(kind, Kind::ConfigMap | Kind::Secret),
        };
        let mut events = Box::pin(watch(
            self.client.clone(),
            scope,
            self.watching.policy.clone(),
            self.deps.next_seed(),
            self.deps.metrics.clone(),
        ));
        let (deps, supervisor) = (self.deps.clone(), self.supervisor.clone());
        let task = tokio::spawn(async move {
            let mut first = true;
            let trouble = Trouble::new(deps.origin);
            while let Some(event) = events.next().await {
                crate::fault::hit("cr-watcher.event");
                let listed = matches!(event, WatchEvent::Listed(_));
                let missing = is_missing(kind, &event);
                note(kind, &event, first, &trouble);
                for what in take_in(&deps, kind, event) {
                    let cause =
                        if kind == Kind::DittoServer { CauseKind::ServerChanged } else { CauseKind::ObjectChanged };
                    supervisor.do_send(Seen { what, cause: Cause::here(cause) });
                }
                if missing {
                    deps.caches.service_monitors.set_absent();
                }
                if kind.is_optional() && (listed || missing) {
                    // The others did not wait for it, and are not looked at again for it.
                    let cause = Cause::here(CauseKind::Resync);
                    supervisor.do_send(Seen { what: Sighting::ServiceMonitors, cause });
                    first = false;
                } else if listed {
                    // The first lists complete each other; each later one heals whatever a lost event left behind.
                    if !first || deps.caches.are_synced() {
                        supervisor.do_send(Seen { what: Sighting::Resync, cause: Cause::here(CauseKind::Resync) });
                    }
                    first = false;
                }
            }
        });
        self.tasks.push(task.abort_handle());
        let watcher = ctx.address();
        tokio::spawn(async move {
            if task.await.is_err_and(|end| end.is_panic()) {
                watcher.do_send(WatchDied);
            }
        });
    }
}

/// A watch panicked; the watcher ends, and the Supervisor starts a new one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct WatchDied;

impl Actor for CrWatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for kind in Kind::WATCHED {
            self.watch(kind, ctx);
        }
    }
}

impl Drop for CrWatcher {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Handler<WatchDied> for CrWatcher {
    type Result = ();
    fn handle(&mut self, _: WatchDied, ctx: &mut Self::Context) {
        warn!("a watch panicked; all watches start anew");
        ctx.stop();
    }
}

/// Fills the cache of a kind and says what really changed.
fn take_in(deps: &Deps, kind: Kind, event: WatchEvent) -> Vec<Sighting> {
    let cache: &Cache = match kind {
        Kind::DittoServer => &deps.caches.servers,
        Kind::StatefulSet => &deps.caches.stateful_sets,
        Kind::Service => &deps.caches.services,
        Kind::ConfigMap => &deps.caches.config_maps,
        Kind::NetworkPolicy => &deps.caches.network_policies,
        Kind::ServiceMonitor => &deps.caches.service_monitors,
        Kind::Pod => &deps.caches.pods,
        Kind::Claim => &deps.caches.claims,
        Kind::Secret | Kind::PerconaPgCluster | Kind::StorageClass => return secrets(&event),
    };
    let event = if kind == Kind::Pod { slimmed(event) } else { event };
    cache.apply(event).into_iter().filter_map(|change| sighting(kind, change)).collect()
}

/// Of pods only what is read.
fn slimmed(event: WatchEvent) -> WatchEvent {
    match event {
        WatchEvent::Listed(pods) => WatchEvent::Listed(pods.iter().map(slim).collect()),
        WatchEvent::Applied(pod) => WatchEvent::Applied(slim(&pod)),
        WatchEvent::Deleted(pod) => WatchEvent::Deleted(slim(&pod)),
        other => other,
    }
}

fn sighting(kind: Kind, change: Change) -> Option<Sighting> {
    let owned_by = if kind == Kind::Pod { Kind::StatefulSet } else { Kind::DittoServer };
    let owner = change.owner.filter(|owner| owner.kind == owned_by.name());
    let key = |name: String| ServerKey { namespace: change.namespace.clone(), name };
    Some(match kind {
        Kind::DittoServer => Sighting::Server(key(change.name)),
        // A foreign StatefulSet bears the server's name: that it went makes room for ours.
        Kind::StatefulSet => Sighting::StatefulSet(key(owner.map_or(change.name, |owner| owner.name))),
        Kind::Service => Sighting::Service(key(owner?.name)),
        Kind::ConfigMap => Sighting::ConfigMap(key(owner?.name)),
        Kind::NetworkPolicy => Sighting::NetworkPolicy(key(owner?.name)),
        Kind::ServiceMonitor => Sighting::ServiceMonitor(key(owner?.name)),
        // A StatefulSet of ours bears its server's name.
        Kind::Pod => Sighting::Pod(key(owner?.name)),
        // A claim outlives its server and has no owner: its name tells.
        Kind::Claim => Sighting::Claim(key(server_of_claim(&change.name)?.to_owned())),
        Kind::Secret | Kind::PerconaPgCluster | Kind::StorageClass => return None,
    })
}

fn secrets(event: &WatchEvent) -> Vec<Sighting> {
    let named =
        |secret: &Value| Sighting::Secret(meta(secret, "namespace").to_owned(), meta(secret, "name").to_owned());
    match event {
        WatchEvent::Applied(secret) | WatchEvent::Deleted(secret) => vec![named(secret)],
        // What a complete list changed is looked for by the resync that follows it.
        WatchEvent::Listed(_) | WatchEvent::Trouble { .. } | WatchEvent::Recovered => Vec::new(),
    }
}

/// That a kind that can be done without is not served.
fn is_missing(kind: Kind, event: &WatchEvent) -> bool {
    kind.is_optional() && matches!(event, WatchEvent::Trouble { category: "crd-missing", .. })
}

/// What is worth a line of a watch; a repeated list is none, unless something differs.
fn note(kind: Kind, event: &WatchEvent, first: bool, trouble: &Trouble) {
    match event {
        _ if is_missing(kind, event) => {
            info!(kind = kind.name(), "the API server does not serve the kind; it is used when its CRD arrives");
        }
        WatchEvent::Listed(objects) if !first => debug!(kind = kind.name(), objects = objects.len(), "listed again"),
        WatchEvent::Listed(objects) => info!(kind = kind.name(), objects = objects.len(), "listed"),
        WatchEvent::Trouble { error, category } => {
            if let Some(again) = trouble.failed("watch") {
                warn!(kind = kind.name(), category, error, "the watch is in trouble and goes on trying{again}");
            }
            trouble.settle();
        }
        WatchEvent::Recovered => {
            for over in trouble.ended() {
                info!(kind = kind.name(), "the watch works again after {over}");
            }
        }
        WatchEvent::Applied(_) | WatchEvent::Deleted(_) => {}
    }
}

impl Handler<Stop> for CrWatcher {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
#[path = "tests/cr_watcher.rs"]
mod tests;
