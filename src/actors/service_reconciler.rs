//! ServiceReconciler: the only writer of the Services of one server.
//!
//! What is there is compared with what should be in the pure ring ([`crate::reconcile::plan_services`]); every object
//! that is written is read first and replaced from that JSON. One Service that cannot be written stops no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{info, warn};

use super::Deps;
use super::done::{Done, report_changes, report_fights, retry};
use super::flight::{Finished, Flight, Job, Verdict, Worker, finished, poke};
use super::inspect::Inspect;
use super::lifeline::Lifeline;
use super::messages::{AdaptersObserved, Cause, CauseKind, Fact, Poke, Report, Resend, Role, Stop, Wire};
use super::trouble::Trouble;
use super::upkeep::{Rest, Upkeep};
use crate::backoff::Backoff;
use crate::cluster::{CrRef, Deletion, Kind, KubeError, Reason};
use crate::reconcile::status::ServicesFact;
use crate::reconcile::{
    Decision, Ensure, NfsPorts, ObservedAdapter, Refusal, Remove, ServerKey, ValidatedServer, decide, fingerprint,
    plan_services,
};
use crate::telemetry::metrics::doing;

/// Attempts of one run at a Service that others keep changing.
const ATTEMPTS: u32 = 4;
/// First and longest pause between them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long until another look at a foreign object, or at one that is being deleted, when no event says it is gone.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long until what the API server refused is asked for again, when nothing about it changes: a cluster may have got
/// a second family of addresses meanwhile.
const ASK_AGAIN: Duration = Duration::from_mins(10);

/// See the module.
pub struct ServiceReconciler {
    key: ServerKey,
    deps: Arc<Deps>,
    status: Recipient<Report>,
    flight: Flight,
    adapters: Option<Arc<Vec<ObservedAdapter>>>,
    nfs: Option<NfsPorts>,
    /// Start of the oldest poll whose news did not reach all Services yet.
    polled_at: Option<Instant>,
    /// Per Service, a write that the API server turned into no change.
    settled: BTreeMap<String, String>,
    /// Per Service, a change that the API server refused, and when.
    refused: BTreeMap<String, (Refusal, Instant)>,
    last: Option<ServicesFact>,
    upkeep: Upkeep,
    /// The fights that were told last.
    fought: Vec<String>,
    _lifeline: Lifeline,
}

impl ServiceReconciler {
    /// A reconciler that knows no adapters.
    pub fn new(key: ServerKey, deps: Arc<Deps>, status: Recipient<Report>, lifeline: Lifeline) -> Self {
        let flight = Flight::new(key.clone(), Role::ServiceReconciler, &deps);
        let upkeep = Upkeep::new(deps.clone());
        Self {
            key,
            deps,
            status,
            flight,
            adapters: None,
            nfs: None,
            polled_at: None,
            settled: BTreeMap::new(),
            refused: BTreeMap::new(),
            last: None,
            upkeep,
            fought: Vec::new(),
            _lifeline: lifeline,
        }
    }
}

impl Actor for ServiceReconciler {
    type Context = Context<Self>;
}

impl Handler<Poke> for ServiceReconciler {
    type Result = ();
    fn handle(&mut self, message: Poke, ctx: &mut Self::Context) {
        crate::fault::hit_for("service-reconciler.handler", &self.key.name);
        poke(self, ctx, message.0);
    }
}

impl Handler<AdaptersObserved> for ServiceReconciler {
    type Result = ();
    fn handle(&mut self, message: AdaptersObserved, ctx: &mut Self::Context) {
        crate::fault::hit_for("service-reconciler.observed", &self.key.name);
        self.adapters = Some(message.adapters);
        // What was known stays known to a poller that has just started.
        self.nfs = message.nfs.or(self.nfs);
        self.polled_at = self.polled_at.or(message.polled_at);
        poke(self, ctx, message.cause);
    }
}

impl Handler<Resend> for ServiceReconciler {
    type Result = ();
    fn handle(&mut self, _: Resend, _: &mut Self::Context) {
        if let Some(fact) = self.last.clone() {
            self.status.do_send(Report {
                fact: Fact::Services(fact),
                cause: Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter),
            });
        }
        self.fought.clear();
        let fights = self.upkeep.fought();
        report_fights(&self.status, &self.deps.metrics, Role::ServiceReconciler, fights, &mut self.fought);
    }
}

impl Handler<Wire> for ServiceReconciler {
    type Result = ();
    fn handle(&mut self, message: Wire, _: &mut Self::Context) {
        self.status = message.0.status;
    }
}

impl Handler<Finished<Outcome>> for ServiceReconciler {
    type Result = ();
    fn handle(&mut self, end: Finished<Outcome>, ctx: &mut Self::Context) {
        finished(self, ctx, end);
    }
}

/// What a run did.
#[derive(Debug)]
pub struct Outcome {
    fact: Option<ServicesFact>,
    settled: BTreeMap<String, String>,
    refused: BTreeMap<String, (Refusal, Instant)>,
    verdict: Verdict,
    /// What was written, in words.
    changes: Vec<String>,
    /// For whose Services it worked: the poll whose news it answers, and when its last write was done.
    answered: Option<Instant>,
    last_write: Option<Instant>,
    /// Adapters whose Services do not follow.
    lagging: usize,
}

impl Worker for ServiceReconciler {
    type Outcome = Outcome;
    fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }
    fn job(&mut self, cause: &Cause) -> Job<Outcome> {
        let run = Run {
            deps: self.deps.clone(),
            key: self.key.clone(),
            fresh: self.last.is_none(),
            adapters: if crate::fault::on("absence-is-empty") {
                Some(self.adapters.clone().unwrap_or_default())
            } else {
                self.adapters.clone()
            },
            nfs: self.nfs,
            settled: self.settled.clone(),
            refused: self.refused.clone(),
            seed: self.deps.next_seed(),
            cause: cause.kind,
            done: Done::default(),
            polled_at: self.polled_at,
            lagging: 0,
            trouble: self.flight.trouble(),
            upkeep: self.upkeep.clone(),
        };
        Box::pin(async move { Box::pin(run.reconcile()).await })
    }
    fn status(&self) -> Option<&Recipient<Report>> {
        Some(&self.status)
    }
    fn landed(&mut self, outcome: Outcome) -> Verdict {
        self.settled = outcome.settled;
        self.refused = outcome.refused;
        if outcome.fact.is_some() {
            self.deps.metrics.services_lag(&self.key, outcome.lagging);
        }
        if outcome.lagging == 0 && outcome.fact.is_some() {
            if let (Some(polled), Some(written)) = (outcome.answered, outcome.last_write) {
                let took = written.saturating_duration_since(polled);
                self.deps.metrics.poll_to_write(&self.key, Kind::Service, took);
            }
            // News of a later poll wait for the next run.
            if self.polled_at == outcome.answered {
                self.polled_at = None;
            }
        }
        report_changes(&self.status, &self.deps.metrics, &outcome.changes);
        let fights = self.upkeep.fought();
        report_fights(&self.status, &self.deps.metrics, Role::ServiceReconciler, fights, &mut self.fought);
        if let Some(fact) = outcome.fact
            && self.last.as_ref() != Some(&fact)
        {
            self.last = Some(fact.clone());
            self.status.do_send(Report {
                fact: Fact::Services(fact),
                cause: Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter),
            });
        }
        outcome.verdict
    }
}

/// One run.
struct Run {
    deps: Arc<Deps>,
    key: ServerKey,
    adapters: Option<Arc<Vec<ObservedAdapter>>>,
    nfs: Option<NfsPorts>,
    /// Nothing was reconciled before.
    fresh: bool,
    settled: BTreeMap<String, String>,
    refused: BTreeMap<String, (Refusal, Instant)>,
    seed: u64,
    cause: CauseKind,
    done: Done,
    polled_at: Option<Instant>,
    lagging: usize,
    trouble: Trouble,
    upkeep: Upkeep,
}

/// What became of one Service.
enum Kept {
    /// It is as it should be.
    Yes,
    /// It is being deleted; its successor waits.
    Waiting,
    /// Somebody else's, or it cannot be written.
    Problem(String),
    /// Somebody changes it again and again; it is left so for a while.
    Resting(Rest),
}

impl Run {
    async fn reconcile(mut self) -> Outcome {
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
        let live = self.deps.caches.services.owned_by(&server.uid);
        let adapters = self.adapters.as_ref().map(|adapters| adapters.as_slice());
        let mut plan = plan_services(&server, adapters, self.nfs, &live);
        self.refused.retain(|_, (_, at)| at.elapsed() < ASK_AGAIN);
        plan.withhold(|name| Some(&self.refused.get(name)?.0), &live, &server.uid);

        let mut fact = ServicesFact { applied: Some(server.generation), ..ServicesFact::default() };
        let (mut failed, mut blocked) = (false, false);
        let mut rest: Option<Duration> = None;
        for remove in plan.remove {
            if let Err(problem) = self.remove(&about, &remove).await {
                failed = true;
                self.lagging += usize::from(remove.adapter.is_some());
                fact.problems.push(problem);
            }
        }
        for ensure in plan.ensure {
            if !ensure.short.is_empty() {
                blocked = true;
                fact.problems.push(self.short(&about, &ensure));
            }
            let cached = live.iter().find(|service| crate::reconcile::meta(service, "name") == ensure.name);
            if let Some(cached) = cached
                && decide(Some(cached), &ensure.desired, &server.uid) == Decision::Nothing
                && !crate::fault::on("rewrite-services")
            {
                self.upkeep.saw(Kind::Service, &ensure.name);
                continue;
            }
            let kept = self.keep(&about, &server, &ensure, self.fresh && cached.is_none()).await;
            if !matches!(kept, Ok(Kept::Yes)) {
                self.lagging += usize::from(ensure.adapter.is_some());
            }
            match kept {
                Ok(Kept::Yes) => self.upkeep.saw(Kind::Service, &ensure.name),
                Ok(Kept::Resting(pause)) => {
                    rest = Some(rest.map_or(pause.left, |least| least.min(pause.left)));
                    fact.problems.push(pause.why);
                }
                Ok(Kept::Waiting) => {
                    blocked = true;
                    fact.waiting.push(ensure.name);
                }
                Ok(Kept::Problem(problem)) => {
                    blocked = true;
                    fact.problems.push(problem);
                }
                Err(error) => {
                    failed = true;
                    let note = self.failed(&about, &ensure, cached.map(AsRef::as_ref), &error);
                    fact.problems.push(note);
                }
            }
        }
        if failed || blocked || rest.is_some() {
            fact.applied = None;
        }
        let verdict = if failed {
            Verdict::Retry
        } else if blocked {
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

    /// A Service could not be read or written. What of it was refused for good is remembered.
    fn failed(&mut self, about: &CrRef, ensure: &Ensure, cached: Option<&Value>, error: &KubeError) -> String {
        let note = format!("Service {}: {error}", ensure.name);
        if error.code() == Some(422)
            && let Some(cached) = cached
            && let Some(refusal) = Refusal::of(&ensure.desired, cached, &error.to_string())
        {
            self.refused.insert(ensure.name.clone(), (refusal, Instant::now()));
        }
        if let Some(again) = self.trouble.failed(&format!("Service {}", ensure.name)) {
            warn!(namespace = self.key.namespace, name = self.key.name, service = ensure.name, error = %error, "the Service cannot be reconciled{again}");
            let reason = if ensure.adapter.is_some() { Reason::AdapterServiceFailed } else { Reason::ReconcileFailed };
            let related = Some((Kind::Service, ensure.name.clone()));
            self.deps.event_again(about, reason, "KeepService", note.clone(), related, again.times);
        }
        note
    }

    /// Says what a Service cannot have; the rest of it is kept as any other.
    fn short(&self, about: &CrRef, ensure: &Ensure) -> String {
        let note = format!("Service {}: {}", ensure.name, ensure.short.join("; "));
        if let Some(again) = self.trouble.failed(&format!("Service {}", ensure.name)) {
            let problem = ensure.short.join("; ");
            warn!(
                namespace = self.key.namespace,
                name = self.key.name,
                service = ensure.name,
                problem,
                "the Service cannot have all that the spec asks for{again}"
            );
            let reason = if ensure.adapter.is_some() { Reason::AdapterServiceFailed } else { Reason::ReconcileFailed };
            let related = Some((Kind::Service, ensure.name.clone()));
            self.deps.event_again(about, reason, "KeepService", note.clone(), related, again.times);
        }
        note
    }

    async fn remove(&mut self, about: &CrRef, remove: &Remove) -> Result<(), String> {
        self.upkeep.gave_up(Kind::Service, &remove.name);
        let related = Some((Kind::Service, remove.name.clone()));
        match self.deps.cluster.delete(Kind::Service, &self.key.namespace, &remove.name, &remove.uid).await {
            Ok(Deletion::Done) => {
                info!(
                    namespace = self.key.namespace,
                    name = self.key.name,
                    service = remove.name,
                    cause = self.cause.as_str(),
                    why = remove.why,
                    "deleted a Service"
                );
                self.done.did("delete", format!("deleted Service {}: {}", remove.name, remove.why));
                if remove.adapter.is_some() {
                    let note = format!("Deleted Service {}: {}", remove.name, remove.why);
                    self.deps.event(about, Reason::AdapterServiceDeleted, "DeleteService", note, related);
                }
                Ok(())
            }
            Ok(Deletion::AlreadyGone) => Ok(()),
            Ok(Deletion::OtherObject) => self.is_another(remove).await,
            Err(error) => {
                let note = format!("Service {} cannot be deleted: {error}", remove.name);
                if let Some(again) = self.trouble.failed(&format!("deletion of Service {}", remove.name)) {
                    warn!(namespace = self.key.namespace, name = self.key.name, service = remove.name, error = %error, "the Service cannot be deleted{again}");
                    let (reason, action) = (Reason::AdapterServiceFailed, "DeleteService");
                    self.deps.event_again(about, reason, action, note.clone(), related, again.times);
                }
                Err(note)
            }
        }
    }

    /// Of a deletion that was refused as a conflict: Ok when the object of that name is truly another one, or gone. Some
    /// other conflict leaves the one that was meant, which is then tried again.
    async fn is_another(&self, remove: &Remove) -> Result<(), String> {
        let kept = |why: &dyn std::fmt::Display| format!("Service {} cannot be deleted: {why}", remove.name);
        match self.deps.cluster.get(Kind::Service, &self.key.namespace, &remove.name).await {
            Ok(Some(live)) if crate::reconcile::meta(&live, "uid") == remove.uid => Err(kept(&"it was being changed")),
            Ok(_) => Ok(()),
            Err(error) => Err(kept(&error)),
        }
    }

    async fn keep(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
        ensure: &Ensure,
        absent: bool,
    ) -> Result<Kept, KubeError> {
        let namespace = self.key.namespace.clone();
        let name = &ensure.name;
        let related = Some((Kind::Service, name.clone()));
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1, self.seed);
        let mut attempt = 1;
        loop {
            // A new server's Services are not there: when one is after all, the creation says so and it is read then.
            let live = if absent && attempt == 1 {
                None
            } else {
                self.deps.cluster.get(Kind::Service, &namespace, name).await?
            };
            let written = match decide(live.as_ref(), &ensure.desired, &server.uid) {
                Decision::Nothing if crate::fault::on("rewrite-services") => {
                    self.deps.cluster.replace(Kind::Service, &namespace, name, &live.unwrap_or_default()).await
                }
                Decision::Nothing => return Ok(Kept::Yes),
                Decision::BeingDeleted => return Ok(Kept::Waiting),
                Decision::NotOwned if crate::fault::on("adopt-foreign") => {
                    let mut object = ensure.desired.clone();
                    object["metadata"]["resourceVersion"] =
                        live.unwrap_or_default()["metadata"]["resourceVersion"].clone();
                    self.deps.cluster.replace(Kind::Service, &namespace, name, &object).await
                }
                Decision::NotOwned => {
                    let note = format!("Service {name} belongs to somebody else; rename or remove it");
                    self.done.note("not-owned");
                    if let Some(again) = self.trouble.failed(&format!("Service {name}")) {
                        warn!(
                            namespace,
                            name = self.key.name,
                            service = name,
                            "the Service belongs to somebody else{again}"
                        );
                        self.deps.event_again(
                            about,
                            Reason::NotOwned,
                            "KeepService",
                            note.clone(),
                            related,
                            again.times,
                        );
                    }
                    return Ok(Kept::Problem(note));
                }
                Decision::Create(object) => {
                    let missing = self.upkeep.missing(Kind::Service, name);
                    if let Some(rest) = self.upkeep.rest(Kind::Service, name, &missing, self.cause) {
                        return Ok(Kept::Resting(rest));
                    }
                    let made = self.create(about, ensure, &object).await;
                    if made.is_ok() {
                        self.upkeep.repaired(about, Kind::Service, name, &missing, "");
                    }
                    made
                }
                Decision::Replace(object, changes) => {
                    if self.settled.get(name) == Some(&fingerprint(live.as_ref(), &object)) {
                        return Ok(Kept::Yes);
                    }
                    let drift = self.deps.drift(live.as_ref(), &object, self.cause);
                    if let Some(rest) = self.upkeep.rest(Kind::Service, name, &drift, self.cause) {
                        return Ok(Kept::Resting(rest));
                    }
                    let replaced = self.replace(about, server, ensure, &object, &changes).await;
                    if replaced.is_ok() {
                        self.upkeep.repaired(about, Kind::Service, name, &drift, &changes.join(", "));
                    }
                    replaced
                }
            };
            match written {
                Ok(_) => return Ok(Kept::Yes),
                Err(error) if error.is_being_deleted() => return Ok(Kept::Waiting),
                Err(error)
                    if attempt < ATTEMPTS
                        && (error.is_conflict() || error.is_already_exists() || error.is_not_found()) =>
                {
                    retry(&self.deps.metrics, attempt, &format!("services/{name}"), &error);
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
            tokio::time::sleep(pause.next()).await;
        }
    }

    async fn create(&mut self, about: &CrRef, ensure: &Ensure, object: &Value) -> Result<Value, KubeError> {
        let made = self.deps.cluster.create(Kind::Service, &self.key.namespace, object).await?;
        info!(
            namespace = self.key.namespace,
            name = self.key.name,
            service = ensure.name,
            cause = self.cause.as_str(),
            "created a Service"
        );
        self.done.did("create", format!("created Service {}", ensure.name));
        if let Some(adapter) = &ensure.adapter {
            let port = made.pointer("/spec/ports/0/port").map(Value::to_string).unwrap_or_default();
            let note = format!("Created Service {} for adapter {adapter} on port {port}", ensure.name);
            let related = Some((Kind::Service, ensure.name.clone()));
            self.deps.event(about, Reason::AdapterServiceCreated, "CreateService", note, related);
        }
        Ok(made)
    }

    async fn replace(
        &mut self,
        about: &CrRef,
        server: &ValidatedServer,
        ensure: &Ensure,
        object: &Value,
        changes: &[String],
    ) -> Result<Value, KubeError> {
        let name = &ensure.name;
        let stored = self.deps.cluster.replace(Kind::Service, &self.key.namespace, name, object).await?;
        let changes = changes.join(", ");
        info!(
            namespace = self.key.namespace,
            name = self.key.name,
            service = name,
            cause = self.cause.as_str(),
            changes,
            "replaced a Service"
        );
        self.done.did("update", format!("updated Service {name}: {changes}"));
        if ensure.adapter.is_some() {
            let note = format!("Updated Service {name}: {changes}");
            let related = Some((Kind::Service, name.clone()));
            self.deps.event(about, Reason::AdapterServiceUpdated, "ReplaceService", note, related);
        }
        match decide(Some(&stored), &ensure.desired, &server.uid) {
            Decision::Replace(again, _) => {
                self.settled.insert(name.clone(), fingerprint(Some(&stored), &again));
            }
            _ => {
                self.settled.remove(name);
            }
        }
        Ok(stored)
    }
}

impl Handler<Inspect> for ServiceReconciler {
    type Result = MessageResult<Inspect>;
    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        let mut state = self.flight.state();
        state["knowsAdapters"] = self.adapters.is_some().into();
        if let Some(last) = &self.last {
            state["waiting"] = last.waiting.clone().into();
            state["problems"] = last.problems.clone().into();
        }
        MessageResult(state)
    }
}

impl Handler<Stop> for ServiceReconciler {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
