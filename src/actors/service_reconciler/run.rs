//! One run of ServiceReconciler: every object of the plans is kept as it should be, one after the other.
//!
//! What a Service publishes is let in before it is published, and shut out after it is gone: policies are written before
//! Services and deleted after them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Outcome;
use super::tell::{CREATED, DELETED, KEPT, UPDATED, Which, events, failure};
use crate::actors::Deps;
use crate::actors::done::{Done, retry};
use crate::actors::flight::Verdict;
use crate::actors::messages::CauseKind;
use crate::actors::trouble::Trouble;
use crate::actors::upkeep::{Rest, Upkeep};
use crate::backoff::Backoff;
use crate::cluster::{CrRef, Deletion, Kind, KubeError, Operation, Reason};
use crate::reconcile::stateful_set::was_taken_over;
use crate::reconcile::status::ServicesFact;
use crate::reconcile::{
    Decision, Ensure, NfsPorts, ObservedAdapter, Published, Refusal, Remove, ServerKey, ServicePlan, ValidatedServer,
    decide, fingerprint, meta, plan_network_policies, plan_service_monitor, plan_services,
};
use crate::telemetry::metrics::doing;

/// Attempts of one run at an object that others keep changing.
const ATTEMPTS: u32 = 4;
/// First and longest pause between them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long until another look at a foreign object, or at one that is being deleted, when no event says it is gone.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How long until what the API server refused is asked for again, when nothing about it changes: a cluster may have got
/// a second family of addresses meanwhile.
const ASK_AGAIN: Duration = Duration::from_mins(10);

/// One run.
pub(super) struct Run {
    pub(super) deps: Arc<Deps>,
    pub(super) key: ServerKey,
    pub(super) adapters: Option<Arc<Vec<ObservedAdapter>>>,
    pub(super) nfs: Option<NfsPorts>,
    /// Nothing was reconciled before.
    pub(super) fresh: bool,
    pub(super) settled: BTreeMap<String, String>,
    pub(super) refused: BTreeMap<String, (Refusal, Instant)>,
    pub(super) seed: u64,
    pub(super) cause: CauseKind,
    pub(super) done: Done,
    pub(super) polled_at: Option<Instant>,
    pub(super) lagging: usize,
    pub(super) trouble: Trouble,
    pub(super) upkeep: Upkeep,
}

/// What became of one object.
enum Kept {
    /// It is as it should be.
    Yes,
    /// It is being deleted; its successor waits.
    Waiting,
    /// Somebody else's, or it cannot be written.
    Problem(String),
    /// Somebody changes it again and again; it is left so for a while.
    Resting(Rest),
    /// The API server does not serve the kind, which can be done without.
    Unserved,
}

/// The objects of one kind: as they are known, and what they should become.
struct Part {
    kind: Kind,
    live: Vec<Arc<Value>>,
    plan: ServicePlan,
}

/// What a run came to.
#[derive(Default)]
struct Tally {
    fact: ServicesFact,
    failed: bool,
    blocked: bool,
    /// What cannot be now stands in nobody's way.
    unserved: bool,
    /// How long until the next repair of what somebody fights over.
    rest: Option<Duration>,
}

impl Run {
    pub(super) async fn reconcile(mut self) -> Outcome {
        crate::fault::hit_for("service-reconciler.job", &self.key.name);
        let idle = |run: Self| {
            run.trouble.hold();
            Outcome {
                fact: None,
                settled: run.settled,
                refused: run.refused,
                verdict: Verdict::Settled,
                changes: Vec::new(),
                answered: None,
                last_write: None,
                lagging: 0,
            }
        };
        let Some(spec) = self.deps.spec(&self.key) else { return idle(self) };
        let Ok(server) = spec.server.clone() else { return idle(self) };
        let about = CrRef { key: self.key.clone(), uid: server.uid.clone() };
        self.refused.retain(|_, (_, at)| at.elapsed() < ASK_AGAIN);
        let (services, policies) = self.parts(&server);
        let monitor = self.monitor(&server);

        let mut tally = Tally::default();
        tally.fact.applied = Some(server.generation);
        for part in [&services, &policies, &monitor] {
            self.remove_all(&about, part, &mut tally).await;
        }
        for part in [&policies, &services, &monitor] {
            self.keep_all(&about, &server, part, &mut tally).await;
        }
        let Tally { mut fact, failed, blocked, unserved, rest } = tally;
        if failed || blocked || rest.is_some() {
            fact.applied = None;
        }
        let verdict = if failed {
            Verdict::Retry
        } else if blocked || unserved {
            Verdict::After(LOOK_AGAIN)
        } else if let Some(left) = rest {
            Verdict::After(left)
        } else {
            Verdict::Settled
        };
        let changes = self.done.tell(fact.problems.first().map(String::as_str));
        Outcome {
            fact: Some(fact),
            settled: self.settled,
            refused: self.refused,
            verdict,
            changes,
            answered: self.polled_at,
            last_write: doing::last_write(),
            lagging: self.lagging,
        }
    }

    /// The ServiceMonitor.
    fn monitor(&self, server: &ValidatedServer) -> Part {
        let cache = &self.deps.caches.service_monitors;
        let live = cache.is_synced().then(|| cache.owned_by(&server.uid));
        let plan = plan_service_monitor(server, live.as_deref());
        Part { kind: Kind::ServiceMonitor, plan, live: live.unwrap_or_default() }
    }

    /// Services and NetworkPolicies.
    fn parts(&self, server: &ValidatedServer) -> (Part, Part) {
        let caches = &self.deps.caches;
        let adapters = self.adapters.as_ref().map(|adapters| adapters.as_slice());
        let live = caches.services.owned_by(&server.uid);
        let set = self.deps.caches.stateful_sets.get(&self.key.namespace, &server.names().stateful_set());
        let adopted = was_taken_over(server, set.as_deref());
        let mut plan = plan_services(server, adapters, self.nfs, &live, adopted);
        plan.withhold(|name| Some(&self.refused.get(name)?.0), &live, &server.uid);
        let services = Part { kind: Kind::Service, plan, live };
        let published = Published {
            services: &services.plan,
            live_services: &services.live,
            adapters,
            operator_namespace: self.deps.namespace.as_deref(),
        };
        let live = caches.network_policies.owned_by(&server.uid);
        let plan = plan_network_policies(server, published, &live);
        (services, Part { kind: Kind::NetworkPolicy, plan, live })
    }

    async fn remove_all(&mut self, about: &CrRef, part: &Part, tally: &mut Tally) {
        for remove in &part.plan.remove {
            if let Err(problem) = self.remove(about, part.kind, remove).await {
                tally.failed = true;
                self.lagging += usize::from(part.kind == Kind::Service && remove.adapter.is_some());
                tally.fact.problems.push(problem);
            }
        }
    }

    async fn keep_all(&mut self, about: &CrRef, server: &ValidatedServer, part: &Part, tally: &mut Tally) {
        let kind = part.kind;
        for ensure in &part.plan.ensure {
            if !ensure.short.is_empty() {
                tally.blocked = true;
                tally.fact.problems.push(self.short(about, kind, ensure));
            }
            let cached = part.live.iter().find(|object| meta(object, "name") == ensure.name);
            if let Some(cached) = cached
                && decide(Some(cached), &ensure.desired, &server.uid) == Decision::Nothing
                && !rewrites(kind)
            {
                self.upkeep.saw(kind, &ensure.name);
                continue;
            }
            let kept = self.keep(about, server, kind, ensure, self.fresh && cached.is_none()).await;
            if !matches!(kept, Ok(Kept::Yes)) {
                self.lagging += usize::from(kind == Kind::Service && ensure.adapter.is_some());
            }
            match kept {
                Ok(Kept::Yes) => self.upkeep.saw(kind, &ensure.name),
                Ok(Kept::Resting(pause)) => {
                    tally.rest = Some(tally.rest.map_or(pause.left, |least| least.min(pause.left)));
                    tally.fact.problems.push(pause.why);
                }
                Ok(Kept::Unserved) => tally.unserved = true,
                Ok(Kept::Waiting) => {
                    tally.blocked = true;
                    tally.fact.waiting.push(format!("{kind} {}", ensure.name));
                }
                Ok(Kept::Problem(problem)) => {
                    tally.blocked = true;
                    tally.fact.problems.push(problem);
                }
                Err(error) => {
                    tally.failed = true;
                    let note = self.failed(about, kind, ensure, cached.map(AsRef::as_ref), &error);
                    tally.fact.problems.push(note);
                }
            }
        }
    }

    /// An object could not be read or written. What of a Service was refused for good is remembered.
    fn failed(
        &mut self,
        about: &CrRef,
        kind: Kind,
        ensure: &Ensure,
        cached: Option<&Value>,
        error: &KubeError,
    ) -> String {
        let note = format!("{kind} {}: {error}", ensure.name);
        if kind == Kind::Service
            && error.code() == Some(422)
            && let Some(cached) = cached
            && let Some(refusal) = Refusal::of(&ensure.desired, cached, &error.to_string())
        {
            self.refused.insert(ensure.name.clone(), (refusal, Instant::now()));
        }
        if let Some(again) = self.trouble.failed(&format!("{kind} {}", ensure.name)) {
            self.which(kind, &ensure.name).not_reconciled(error, &again);
            self.told_failed(about, kind, ensure, &note, again.times);
        }
        note
    }

    /// Says what a Service cannot have; the rest of it is kept as any other.
    fn short(&self, about: &CrRef, kind: Kind, ensure: &Ensure) -> String {
        let problem = ensure.short.join("; ");
        let note = format!("{kind} {}: {problem}", ensure.name);
        if let Some(again) = self.trouble.failed(&format!("{kind} {}", ensure.name)) {
            self.which(kind, &ensure.name).short(&problem, &again);
            self.told_failed(about, kind, ensure, &note, again.times);
        }
        note
    }

    fn told_failed(&self, about: &CrRef, kind: Kind, ensure: &Ensure, note: &str, times: u32) {
        let related = Some((kind, ensure.name.clone()));
        let reason = failure(kind, ensure.adapter.is_some());
        self.deps.event_again(about, reason, events(kind).actions[KEPT], note.to_owned(), related, times);
    }

    fn which<'a>(&'a self, kind: Kind, name: &'a str) -> Which<'a> {
        Which { key: &self.key, kind, name }
    }

    async fn remove(&mut self, about: &CrRef, kind: Kind, remove: &Remove) -> Result<(), String> {
        self.upkeep.gave_up(kind, &remove.name);
        let related = Some((kind, remove.name.clone()));
        let told = events(kind);
        match self.deps.cluster.delete(kind, &self.key.namespace, &remove.name, &remove.uid).await {
            Ok(Deletion::Done) => {
                self.which(kind, &remove.name).deleted(self.cause, remove.why);
                self.done.did("delete", format!("deleted {kind} {}: {}", remove.name, remove.why));
                if let (Some(reasons), true) = (told.adapter, remove.adapter.is_some()) {
                    let note = format!("Deleted {kind} {}: {}", remove.name, remove.why);
                    self.deps.event(about, reasons[DELETED], told.actions[DELETED], note, related);
                }
                Ok(())
            }
            Ok(Deletion::AlreadyGone) => Ok(()),
            Ok(Deletion::OtherObject) => self.is_another(kind, remove).await,
            Err(error) => {
                let note = format!("{kind} {} cannot be deleted: {error}", remove.name);
                if let Some(again) = self.trouble.failed(&format!("deletion of {kind} {}", remove.name)) {
                    self.which(kind, &remove.name).not_deleted(&error, &again);
                    let reason = failure(kind, remove.adapter.is_some());
                    let action = told.actions[DELETED];
                    self.deps.event_again(about, reason, action, note.clone(), related, again.times);
                }
                Err(note)
            }
        }
    }

    /// Of a deletion that was refused as a conflict: Ok when the object of that name is truly another one, or gone. Some
    /// other conflict leaves the one that was meant, which is then tried again.
    async fn is_another(&self, kind: Kind, remove: &Remove) -> Result<(), String> {
        let kept = |why: &dyn std::fmt::Display| format!("{kind} {} cannot be deleted: {why}", remove.name);
        match self.deps.cluster.get(kind, &self.key.namespace, &remove.name).await {
            Ok(Some(live)) if meta(&live, "uid") == remove.uid => Err(kept(&"it was being changed")),
            Ok(_) => Ok(()),
            Err(error) => Err(kept(&error)),
        }
    }

    async fn keep(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
        kind: Kind,
        ensure: &Ensure,
        absent: bool,
    ) -> Result<Kept, KubeError> {
        let namespace = self.key.namespace.clone();
        let name = &ensure.name;
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1, self.seed);
        let mut attempt = 1;
        loop {
            // A new server's objects are not there: when one is after all, the creation says so and it is read then.
            let live = if absent && attempt == 1 {
                None
            } else {
                match self.deps.cluster.get(kind, &namespace, name).await {
                    // Not even the path is there: its CRD went, and with it the last of its group.
                    Err(error) if kind.is_optional() && error.code() == Some(404) => return Ok(Kept::Unserved),
                    live => live?,
                }
            };
            let written = match decide(live.as_ref(), &ensure.desired, &server.uid) {
                Decision::Nothing if rewrites(kind) => {
                    self.deps.cluster.replace(kind, &namespace, name, &live.unwrap_or_default()).await
                }
                Decision::Nothing => return Ok(Kept::Yes),
                Decision::BeingDeleted => return Ok(Kept::Waiting),
                Decision::NotOwned if crate::fault::on("adopt-foreign") => {
                    let mut object = ensure.desired.clone();
                    object["metadata"]["resourceVersion"] =
                        live.unwrap_or_default()["metadata"]["resourceVersion"].clone();
                    self.deps.cluster.replace(kind, &namespace, name, &object).await
                }
                Decision::NotOwned => return Ok(self.foreign(about, kind, name)),
                Decision::Create(object) => {
                    let missing = self.upkeep.missing(kind, name);
                    if let Some(rest) = self.upkeep.rest(kind, name, &missing, self.cause) {
                        return Ok(Kept::Resting(rest));
                    }
                    let made = self.create(about, kind, ensure, &object).await;
                    if made.is_ok() {
                        self.upkeep.repaired(about, kind, name, &missing, "");
                    }
                    made
                }
                Decision::Replace(object, changes) => {
                    if self.settled.get(&format!("{kind} {name}")) == Some(&fingerprint(live.as_ref(), &object)) {
                        return Ok(Kept::Yes);
                    }
                    let drift = self.deps.drift(live.as_ref(), &object, self.cause);
                    if let Some(rest) = self.upkeep.rest(kind, name, &drift, self.cause) {
                        return Ok(Kept::Resting(rest));
                    }
                    let replaced = self.replace(about, server, kind, ensure, &object, &changes).await;
                    if replaced.is_ok() {
                        self.upkeep.repaired(about, kind, name, &drift, &changes.join(", "));
                    }
                    replaced
                }
            };
            match written {
                Ok(_) => return Ok(Kept::Yes),
                Err(error) if error.is_being_deleted() => return Ok(Kept::Waiting),
                // Its CRD went, or goes: the watch will say so.
                Err(error) if kind.is_optional() && is_unserved(&error) => return Ok(Kept::Unserved),
                Err(error)
                    if attempt < ATTEMPTS
                        && (error.is_conflict() || error.is_already_exists() || error.is_not_found()) =>
                {
                    retry(&self.deps.metrics, attempt, &format!("{}/{name}", kind.plural()), &error);
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// An object of our name that somebody else owns.
    fn foreign(&mut self, about: &CrRef, kind: Kind, name: &str) -> Kept {
        let note = format!("{kind} {name} belongs to somebody else; rename or remove it");
        self.done.note("not-owned");
        if let Some(again) = self.trouble.failed(&format!("{kind} {name}")) {
            self.which(kind, name).not_owned(&again);
            let (action, related) = (events(kind).actions[KEPT], Some((kind, name.to_owned())));
            self.deps.event_again(about, Reason::NotOwned, action, note.clone(), related, again.times);
        }
        Kept::Problem(note)
    }

    async fn create(&mut self, about: &CrRef, kind: Kind, ensure: &Ensure, object: &Value) -> Result<Value, KubeError> {
        let made = self.deps.cluster.create(kind, &self.key.namespace, object).await?;
        self.which(kind, &ensure.name).created(self.cause);
        self.done.did("create", format!("created {kind} {}", ensure.name));
        let told = events(kind);
        if let (Some(adapter), Some(reasons)) = (&ensure.adapter, told.adapter) {
            let mut note = format!("Created {kind} {} for adapter {adapter}", ensure.name);
            if kind == Kind::Service {
                let port = made.pointer("/spec/ports/0/port").map(Value::to_string).unwrap_or_default();
                note = format!("{note} on port {port}");
            }
            let related = Some((kind, ensure.name.clone()));
            self.deps.event(about, reasons[CREATED], told.actions[CREATED], note, related);
        }
        Ok(made)
    }

    async fn replace(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
        kind: Kind,
        ensure: &Ensure,
        object: &Value,
        changes: &[String],
    ) -> Result<Value, KubeError> {
        let name = &ensure.name;
        let stored = self.deps.cluster.replace(kind, &self.key.namespace, name, object).await?;
        let changes = changes.join(", ");
        self.which(kind, name).replaced(self.cause, &changes);
        self.done.did("update", format!("updated {kind} {name}: {changes}"));
        let told = events(kind);
        if let (Some(reasons), true) = (told.adapter, ensure.adapter.is_some()) {
            let note = format!("Updated {kind} {name}: {changes}");
            self.deps.event(about, reasons[UPDATED], told.actions[UPDATED], note, Some((kind, name.clone())));
        }
        let settled = format!("{kind} {name}");
        match decide(Some(&stored), &ensure.desired, &server.uid) {
            Decision::Replace(again, _) => {
                self.settled.insert(settled, fingerprint(Some(&stored), &again));
            }
            _ => {
                self.settled.remove(&settled);
            }
        }
        Ok(stored)
    }
}

/// Of a create: that there is no such collection, or that nothing may be put into it while its CRD is being deleted.
fn is_unserved(error: &KubeError) -> bool {
    error.call().operation == Operation::Create && (error.is_unserved() || matches!(error.code(), Some(404 | 405)))
}

/// A fault that tests switch on: a write without a difference.
fn rewrites(kind: Kind) -> bool {
    kind == Kind::Service && crate::fault::on("rewrite-services")
}
