//! What every actor is given: the doors to the outside and the caches of what was seen. No globals.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::time::Instant;

use super::gate::Gate;
use super::messages::CauseKind;
use super::specs::{Spec, Specs};
use crate::cluster::{
    Cache, ClassReader, Cluster, CrRef, Events, FIELD_MANAGER, Kind, MishapReader, Notice, NoticeKind, Reason,
};
use crate::crd::rules::Volume;
use crate::dittofs::{HttpClient, UrlTemplate};
use crate::reconcile::claims::VOLUMES;
use crate::reconcile::drift::{Drifted, drift};
use crate::reconcile::{Names, ServerKey};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{TraceContext, Tracer};

/// What the watches have seen.
#[derive(Default)]
pub struct Caches {
    /// DittoServers.
    pub servers: Cache,
    /// StatefulSets with our label.
    pub stateful_sets: Cache,
    /// Services with our label.
    pub services: Cache,
    /// ConfigMaps with our label, metadata only.
    pub config_maps: Cache,
    /// NetworkPolicies with our label.
    pub network_policies: Cache,
    /// ServiceMonitors with our label; the cluster may not have the kind.
    pub service_monitors: Cache,
    /// Claims with our label.
    pub claims: Cache,
    /// Pods with our label; of each only what says how it comes up.
    pub pods: Cache,
}

impl Caches {
    /// Whether every cache was filled once, but for what can be done without: nothing is decided before. Claims are not
    /// waited for: what is made of them asks for itself, and a role that does not let the operator see them stops nothing
    /// else.
    pub fn are_synced(&self) -> bool {
        let Self {
            servers,
            stateful_sets,
            services,
            config_maps,
            network_policies,
            pods,
            claims: _,
            service_monitors: _,
        } = self;
        [servers, stateful_sets, services, config_maps, network_policies, pods].iter().all(|cache| cache.is_synced())
    }
}

/// Shared by all actors.
pub struct Deps {
    /// The Kubernetes API.
    pub cluster: Cluster,
    /// Events about DittoServers.
    pub events: Events,
    /// Why a StatefulSet has no pod.
    pub mishaps: MishapReader,
    /// Which StorageClasses there are.
    pub classes: ClassReader,
    /// What was seen.
    pub caches: Caches,
    /// Checked DittoServers.
    pub specs: Specs,
    /// The DittoFS API.
    pub http: HttpClient,
    /// Where each server's API is.
    pub template: UrlTemplate,
    /// The operator's own namespace, when it is known: NetworkPolicies let it in.
    pub namespace: Option<String>,
    /// Passed by every job.
    pub gate: Gate,
    /// Counts what happens.
    pub metrics: Metrics,
    /// Makes the traces.
    pub tracer: Tracer,
    /// Origin of the monotonic times that the pure ring is given.
    pub origin: Instant,
    /// Seed of every jitter; random in production, fixed in tests.
    pub seed: u64,
    /// How many seeds were given out.
    pub seeds: AtomicU64,
}

impl Deps {
    /// The newest known state of the server.
    pub fn spec(&self, key: &ServerKey) -> Option<Arc<Spec>> {
        self.specs.current(&self.caches.servers, key)
    }

    /// What there is by the names of a server's claims; None before all claims were listed.
    pub fn claims_of(&self, key: &ServerKey) -> Option<Vec<Arc<Value>>> {
        let names = Names::new(&key.name);
        let claim = |volume: &Volume| self.caches.claims.get(&key.namespace, &names.claim(volume.claim()));
        self.caches.claims.is_synced().then(|| VOLUMES.iter().filter_map(claim).collect())
    }

    /// Whether nothing of the server but its status may be written.
    pub fn is_paused(&self, key: &ServerKey) -> bool {
        self.spec(key).is_some_and(|spec| spec.paused)
    }

    /// A seed that no other actor has.
    pub fn next_seed(&self) -> u64 {
        let count = self.seeds.fetch_add(1, Ordering::Relaxed);
        self.seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// What of a write sets back what somebody had changed.
    pub fn drift(&self, live: Option<&Value>, wanted: &Value, cause: CauseKind) -> Drifted {
        let unasked = matches!(cause, CauseKind::ObjectChanged | CauseKind::Resync | CauseKind::Retry);
        live.map(|live| drift(live, wanted, FIELD_MANAGER, unasked)).unwrap_or_default()
    }

    /// Publishes an event about a server, beside the work: a slow or absent events API delays no reconcile. It carries
    /// the current trace.
    pub fn event(
        &self,
        about: &CrRef,
        reason: Reason,
        action: &'static str,
        note: String,
        related: Option<(Kind, String)>,
    ) {
        self.event_again(about, reason, action, note, related, 1);
    }

    /// The same for what happened `times` times since it was told last.
    pub fn event_again(
        &self,
        about: &CrRef,
        reason: Reason,
        action: &'static str,
        note: String,
        related: Option<(Kind, String)>,
        times: u32,
    ) {
        // An event is a write, too.
        if self.is_paused(&about.key) {
            return;
        }
        let Some(pass) = self.gate.enter() else { return };
        let (events, metrics, about) = (self.events.clone(), self.metrics.clone(), about.clone());
        let trace = TraceContext::current().trace_id();
        tokio::spawn(async move {
            let outcome = events.publish(&about, Notice { reason, action, note, related, times, trace }).await;
            metrics.event_published(reason.kind() == NoticeKind::Warning, outcome);
            drop(pass);
        });
    }
}
