//! PortReconciler: the only writer of the StatefulSet, and of the size that its claims ask for (`claims`); says when a
//! StorageClass is missing (`classes`).
//!
//! Reads the newest StatefulSet, asks the pure ring what to do, replaces it at the resourceVersion that was read, and
//! on a conflict reads it again: a bounded number of times, with jitter between. What to do is decided in
//! [`crate::reconcile::stateful_set`].

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::claims::Volumes;
use super::Deps;
use super::done::{Done, report_changes, report_fights, retry};
use super::flight::{Finished, Flight, Job, Verdict, Worker, finished, poke};
use super::inspect::Inspect;
use super::lifeline::Lifeline;
use super::messages::{AdaptersObserved, Cause, CauseKind, ConfigHashed, Fact, Poke, Report, Resend, Role, Stop, Wire};
use super::specs::Spec;
use super::trouble::Trouble;
use super::upkeep::{Rest, Upkeep};
use crate::backoff::Backoff;
use crate::cluster::{CrRef, Kind, KubeError, Reason};
use crate::crd::annotations::RESTART_AT;
use crate::reconcile::stateful_set::{HashInput, Input, Plan, plan, restart_at};
use crate::reconcile::status::{PortsFact, VolumesFact};
use crate::reconcile::{ObservedAdapter, ServerKey, ValidatedServer, fingerprint, repeats};
use crate::telemetry::metrics::doing;

mod claims;
mod classes;

/// Attempts of one run at a StatefulSet that others keep changing.
const ATTEMPTS: u32 = 5;
/// First and longest pause between them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// See the module.
pub struct PortReconciler {
    key: ServerKey,
    deps: Arc<Deps>,
    status: Recipient<Report>,
    flight: Flight,
    hashed: Option<(i64, HashInput)>,
    adapters: Option<Arc<Vec<ObservedAdapter>>>,
    /// Start of the oldest poll whose news did not reach the StatefulSet yet.
    polled_at: Option<Instant>,
    /// A write that the API server turned into no change: not sent again while both sides stay as they are.
    settled: Option<String>,
    last: Option<PortsFact>,
    /// What is remembered of the claims.
    volumes: Volumes,
    last_volumes: Option<VolumesFact>,
    upkeep: Upkeep,
    /// The fights that were told last.
    fought: Vec<String>,
    _lifeline: Lifeline,
}

impl PortReconciler {
    /// A reconciler that knows neither hash nor adapters.
    pub fn new(key: ServerKey, deps: Arc<Deps>, status: Recipient<Report>, lifeline: Lifeline) -> Self {
        let flight = Flight::new(key.clone(), Role::PortReconciler, &deps);
        let upkeep = Upkeep::new(deps.clone());
        Self {
            key,
            deps,
            status,
            flight,
            hashed: None,
            adapters: None,
            polled_at: None,
            settled: None,
            last: None,
            volumes: Volumes::default(),
            last_volumes: None,
            upkeep,
            fought: Vec::new(),
            _lifeline: lifeline,
        }
    }
}

impl Actor for PortReconciler {
    type Context = Context<Self>;
}

impl Handler<Poke> for PortReconciler {
    type Result = ();
    fn handle(&mut self, message: Poke, ctx: &mut Self::Context) {
        crate::fault::hit_for("port-reconciler.handler", &self.key.name);
        poke(self, ctx, message.0);
    }
}

impl Handler<ConfigHashed> for PortReconciler {
    type Result = ();
    fn handle(&mut self, message: ConfigHashed, ctx: &mut Self::Context) {
        self.hashed = Some((message.generation, message.hash));
        poke(self, ctx, message.cause);
    }
}

impl Handler<AdaptersObserved> for PortReconciler {
    type Result = ();
    fn handle(&mut self, message: AdaptersObserved, ctx: &mut Self::Context) {
        crate::fault::hit_for("port-reconciler.observed", &self.key.name);
        self.adapters = Some(message.adapters);
        self.polled_at = self.polled_at.or(message.polled_at);
        poke(self, ctx, message.cause);
    }
}

impl Handler<Resend> for PortReconciler {
    type Result = ();
    fn handle(&mut self, _: Resend, _: &mut Self::Context) {
        let facts = [self.last_volumes.clone().map(Fact::Volumes), self.last.clone().map(Fact::Ports)];
        for fact in facts.into_iter().flatten() {
            let cause = Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter);
            self.status.do_send(Report { fact, cause });
        }
        self.fought.clear();
        let fights = self.upkeep.fought();
        report_fights(&self.status, &self.deps.metrics, Role::PortReconciler, fights, &mut self.fought);
    }
}

impl Handler<Wire> for PortReconciler {
    type Result = ();
    fn handle(&mut self, message: Wire, _: &mut Self::Context) {
        self.status = message.0.status;
    }
}

impl Handler<Finished<Outcome>> for PortReconciler {
    type Result = ();
    fn handle(&mut self, end: Finished<Outcome>, ctx: &mut Self::Context) {
        finished(self, ctx, end);
    }
}

/// What a run did.
#[derive(Debug)]
pub struct Outcome {
    fact: Option<PortsFact>,
    settled: Option<String>,
    verdict: Verdict,
    /// What is known of the claims; None when nothing is.
    volumes: Option<Volumes>,
    /// What was written, in words.
    changes: Vec<String>,
    /// The poll whose news it answers, and when its last write was done.
    answered: Option<Instant>,
    last_write: Option<Instant>,
}

impl Worker for PortReconciler {
    type Outcome = Outcome;
    fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }
    fn job(&mut self, cause: &Cause) -> Job<Outcome> {
        let run = Run {
            deps: self.deps.clone(),
            key: self.key.clone(),
            hashed: self.hashed.clone(),
            adapters: self.adapters.clone(),
            settled: self.settled.clone(),
            volumes: self.volumes.clone(),
            seed: self.deps.next_seed(),
            cause: cause.kind,
            done: Done::default(),
            polled_at: self.polled_at,
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
        if let Some(fact) = &outcome.fact {
            self.deps.metrics.ports_held(&self.key, fact.deferred);
        }
        if outcome.fact.as_ref().is_some_and(|fact| fact.problem.is_none()) {
            if let (Some(polled), Some(written)) = (outcome.answered, outcome.last_write) {
                let took = written.saturating_duration_since(polled);
                self.deps.metrics.poll_to_write(&self.key, Kind::StatefulSet, took);
            }
            if self.polled_at == outcome.answered {
                self.polled_at = None;
            }
        }
        report_changes(&self.status, &self.deps.metrics, &outcome.changes);
        if let Some(volumes) = outcome.volumes {
            self.volumes = volumes;
            let fact = self.volumes.fact();
            if self.last_volumes.as_ref() != Some(&fact) {
                self.last_volumes = Some(fact.clone());
                let cause = Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter);
                self.status.do_send(Report { fact: Fact::Volumes(fact), cause });
            }
        }
        let fights = self.upkeep.fought();
        report_fights(&self.status, &self.deps.metrics, Role::PortReconciler, fights, &mut self.fought);
        if let Some(fact) = outcome.fact
            && self.last.as_ref() != Some(&fact)
        {
            self.last = Some(fact.clone());
            self.status.do_send(Report {
                fact: Fact::Ports(fact),
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
    hashed: Option<(i64, HashInput)>,
    adapters: Option<Arc<Vec<ObservedAdapter>>>,
    settled: Option<String>,
    volumes: Volumes,
    seed: u64,
    cause: CauseKind,
    done: Done,
    polled_at: Option<Instant>,
    trouble: Trouble,
    upkeep: Upkeep,
}

impl Run {
    async fn reconcile(mut self) -> Outcome {
        crate::fault::hit_for("port-reconciler.job", &self.key.name);
        let Some(spec) = self.deps.spec(&self.key) else { return self.end(None, Verdict::Settled) };
        let Ok(server) = spec.server.clone() else { return self.end(None, Verdict::Settled) };
        let volumes = self.volumes(&server).await;
        let mut outcome = self.stateful_set(&spec, &server).await;
        let classless = self.classless(&server).await;
        let (volumes, again) = volumes.map_or((None, false), |(volumes, again)| (Some(volumes), again));
        outcome.volumes = self.volumes.and(volumes, classless);
        let missing = outcome.volumes.as_ref().is_some_and(Volumes::lack_a_class);
        if outcome.verdict == Verdict::Settled && (again || missing) {
            outcome.verdict = if again { Verdict::Retry } else { Verdict::Until(classes::LOOK_AGAIN) };
        }
        outcome
    }

    async fn stateful_set(&mut self, spec: &Spec, server: &ValidatedServer) -> Outcome {
        // The cache answers for the common case, in which nothing differs; whatever is written is read first.
        let name = server.names().stateful_set();
        let cached = self.deps.caches.stateful_sets.get(&self.key.namespace, &name);
        match cached.as_deref().map(|cached| self.plan(spec, server, Some(cached), None)) {
            Some(Plan::Nothing { deferred }) => {
                if !server.deleting {
                    self.upkeep.saw(Kind::StatefulSet, &name);
                }
                let applied = self.applied(server, deferred);
                return self.end(Some(applied), Verdict::Settled);
            }
            // What was said about the StatefulSet before stays true until the hash of this generation comes.
            Some(Plan::Wait(_)) => {
                self.done.note("wait");
                self.trouble.hold();
                return self.end(None, Verdict::Settled);
            }
            _ => {}
        }
        match self.write(spec, server, &name).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let note = format!("StatefulSet {name}: {error}");
                let fact = PortsFact { problem: Some(note.clone()), ..PortsFact::default() };
                if let Some(again) = self.trouble.failed(&format!("StatefulSet {name}")) {
                    warn!(namespace = self.key.namespace, name = self.key.name, error = %error, "the StatefulSet cannot be reconciled{again}");
                    let about = CrRef { key: self.key.clone(), uid: server.uid.clone() };
                    let (action, related) = ("ReconcileStatefulSet", Some((Kind::StatefulSet, name)));
                    self.deps.event_again(&about, Reason::ReconcileFailed, action, note, related, again.times);
                }
                self.end(Some(fact), Verdict::Retry)
            }
        }
    }

    fn plan(&self, spec: &Spec, server: &ValidatedServer, live: Option<&Value>, orphan: Option<&Value>) -> Plan {
        // A hash belongs to the generation that it was computed from: image and hash reach the template in one write.
        let hash = match &self.hashed {
            Some((generation, hash)) if *generation == spec.generation => hash.clone(),
            _ => HashInput::Pending,
        };
        let adapters = self.adapters.as_ref().map(|adapters| adapters.as_slice());
        plan(Input { server, hash: &hash, adapters, live, orphan })
    }

    fn applied(&self, server: &ValidatedServer, deferred: bool) -> PortsFact {
        let held = matches!(self.hashed, Some((_, HashInput::Held)));
        PortsFact { applied: (!held).then_some(server.generation), deferred, problem: None }
    }

    async fn write(&mut self, spec: &Spec, server: &ValidatedServer, name: &str) -> Result<Outcome, KubeError> {
        let namespace = self.key.namespace.clone();
        let about = CrRef { key: self.key.clone(), uid: server.uid.clone() };
        let related = Some((Kind::StatefulSet, name.to_owned()));
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1, self.seed);
        let mut attempt = 1;
        loop {
            let live = self.deps.cluster.get(Kind::StatefulSet, &namespace, name).await?;
            let orphan = match live {
                None => self.deps.cluster.get(Kind::Pod, &namespace, &server.names().pod()).await?,
                Some(_) => None,
            };
            let written = match self.plan(spec, server, live.as_ref(), orphan.as_ref()) {
                Plan::Nothing { deferred } => {
                    let applied = self.applied(server, deferred);
                    return Ok(self.end(Some(applied), Verdict::Settled));
                }
                Plan::Wait(what) => {
                    debug!(namespace, name, "the StatefulSet waits for {what}");
                    self.done.note("wait");
                    let fact = live.is_none().then(|| PortsFact {
                        problem: Some(format!("the StatefulSet waits for {what}")),
                        ..PortsFact::default()
                    });
                    return Ok(self.end(fact, Verdict::Settled));
                }
                Plan::NotOwned => {
                    self.done.note("not-owned");
                    let note = format!("StatefulSet {name} belongs to somebody else; rename or remove it");
                    let fact = PortsFact { problem: Some(note.clone()), ..PortsFact::default() };
                    if let Some(again) = self.trouble.failed(&format!("StatefulSet {name}")) {
                        warn!(namespace, name = self.key.name, "the StatefulSet belongs to somebody else{again}");
                        let (reason, action) = (Reason::NotOwned, "ReconcileStatefulSet");
                        self.deps.event_again(&about, reason, action, note, related, again.times);
                    }
                    return Ok(self.end(Some(fact), Verdict::Retry));
                }
                Plan::StorageChanged(why) => {
                    let note = format!("StatefulSet {name} is left as it is: {why}");
                    if let Some(again) = self.trouble.failed(&format!("StatefulSet {name}")) {
                        warn!(
                            namespace,
                            name = self.key.name,
                            why,
                            "the StatefulSet cannot follow spec.storage{again}"
                        );
                        let (reason, action) = (Reason::ReconcileFailed, "ReconcileStatefulSet");
                        self.deps.event_again(&about, reason, action, note.clone(), related, again.times);
                    }
                    // Only another change of the spec helps.
                    let fact = PortsFact { problem: Some(note), ..PortsFact::default() };
                    return Ok(self.end(Some(fact), Verdict::Settled));
                }
                Plan::BeingDeleted => {
                    let problem = format!("StatefulSet {name} is being deleted; it is made again when it is gone");
                    return Ok(
                        self.end(Some(PortsFact { problem: Some(problem), ..PortsFact::default() }), Verdict::Retry)
                    );
                }
                Plan::Create(object) => {
                    let missing = self.upkeep.missing(Kind::StatefulSet, name);
                    if let Some(rest) = self.upkeep.rest(Kind::StatefulSet, name, &missing, self.cause) {
                        return Ok(self.rests(rest));
                    }
                    let made = self.deps.cluster.create(Kind::StatefulSet, &namespace, &object).await;
                    if made.is_ok() {
                        self.upkeep.repaired(&about, Kind::StatefulSet, name, &missing, "");
                        self.upkeep.saw(Kind::StatefulSet, name);
                        info!(namespace, name = self.key.name, cause = self.cause.as_str(), "created the StatefulSet");
                        let note = format!("Created StatefulSet {name}");
                        self.done.did("create", note.clone());
                        self.deps.event(&about, Reason::Created, "CreateStatefulSet", note, related.clone());
                    }
                    made.map(|made| (made, false))
                }
                Plan::Replace { mut object, changes, ports_changed, rolls, deferred } => {
                    if crate::fault::on("no-hold") {
                        object["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0.into();
                    }
                    let print = fingerprint(live.as_ref(), &object);
                    if self.settled.as_ref() == Some(&print) {
                        let applied = self.applied(server, deferred);
                        return Ok(self.end(Some(applied), Verdict::Settled));
                    }
                    let changes = changes.join(", ");
                    let drift = self.deps.drift(live.as_ref(), &object, self.cause);
                    if let Some(rest) = self.upkeep.rest(Kind::StatefulSet, name, &drift, self.cause) {
                        return Ok(self.rests(rest));
                    }
                    let written = self.deps.cluster.replace(Kind::StatefulSet, &namespace, name, &object).await;
                    if let Ok(stored) = &written {
                        self.upkeep.saw(Kind::StatefulSet, name);
                        self.upkeep.repaired(&about, Kind::StatefulSet, name, &drift, &changes);
                        if rolls {
                            self.deps.metrics.pod_rolls(&self.key, self.cause);
                        }
                        info!(
                            namespace,
                            name = self.key.name,
                            cause = self.cause.as_str(),
                            changes,
                            rolls,
                            held = deferred,
                            "replaced the StatefulSet"
                        );
                        let how = match (deferred, rolls) {
                            (true, _) => " (held back from the running pod)",
                            (false, true) => " (the pod rolls)",
                            (false, false) => "",
                        };
                        self.done.did("update", format!("updated StatefulSet {name}: {changes}{how}"));
                        if deferred {
                            self.done.note("deferred");
                        }
                        if rolls {
                            let note = format!(
                                "StatefulSet {name} replaces its pod for generation {}: {changes}",
                                server.generation
                            );
                            let (reason, action) = (Reason::RolloutStarted, "ReplaceStatefulSet");
                            self.deps.event(&about, reason, action, note, related.clone());
                        }
                        if let Some(asked) =
                            restart_at(&object).filter(|asked| live.as_ref().and_then(restart_at) != Some(*asked))
                        {
                            let note = format!("The pod of StatefulSet {name} is restarted: {RESTART_AT} is {asked}");
                            let action = "ReplaceStatefulSet";
                            self.deps.event(&about, Reason::RestartRequested, action, note, related.clone());
                        }
                        if ports_changed {
                            let held =
                                if deferred { "; held back from the running pod until its next rollout" } else { "" };
                            let note =
                                format!("Container ports of StatefulSet {name} follow the adapters: {changes}{held}");
                            self.deps.event(
                                &about,
                                Reason::ContainerPortsUpdated,
                                "ReplaceStatefulSet",
                                note,
                                related.clone(),
                            );
                        }
                        self.settled = self.normalised(spec, server, stored, &object);
                    }
                    written.map(|stored| (stored, deferred))
                }
            };
            match written {
                // The new state is planned against once more: a hold is settled, the common case is done.
                Ok((stored, deferred)) => match self.plan(spec, server, Some(&stored), None) {
                    Plan::Nothing { deferred } => {
                        let applied = self.applied(server, deferred);
                        return Ok(self.end(Some(applied), Verdict::Settled));
                    }
                    _ if self.settled.is_some() => {
                        let applied = self.applied(server, deferred);
                        return Ok(self.end(Some(applied), Verdict::Settled));
                    }
                    _ => {}
                },
                Err(error) if error.is_conflict() || error.is_already_exists() || error.is_not_found() => {
                    debug!(namespace, name, attempt, "the StatefulSet changed meanwhile; reading it again");
                    retry(&self.deps.metrics, attempt, &format!("statefulsets/{name}"), &error);
                    if attempt == ATTEMPTS {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            if attempt == ATTEMPTS {
                return Ok(self.end(None, Verdict::Retry));
            }
            attempt += 1;
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// The print of what we would send again although the API server just stored our wish in its own words.
    fn normalised(&self, spec: &Spec, server: &ValidatedServer, stored: &Value, sent: &Value) -> Option<String> {
        match self.plan(spec, server, Some(stored), None) {
            Plan::Replace { object, .. } if repeats(stored, &object, sent) => Some(fingerprint(Some(stored), &object)),
            _ => None,
        }
    }

    /// Somebody changes the StatefulSet again and again: it is left so for a while.
    fn rests(&mut self, rest: Rest) -> Outcome {
        self.done.note("wait");
        let fact = PortsFact { problem: Some(rest.why), ..PortsFact::default() };
        self.end(Some(fact), Verdict::After(rest.left))
    }

    fn end(&mut self, fact: Option<PortsFact>, verdict: Verdict) -> Outcome {
        let problem = fact.as_ref().and_then(|fact| fact.problem.as_deref());
        let changes = self.done.tell(problem.filter(|_| verdict == Verdict::Retry));
        Outcome {
            fact,
            settled: self.settled.clone(),
            verdict,
            volumes: None,
            changes,
            answered: self.polled_at,
            last_write: doing::last_write(),
        }
    }
}

impl Handler<Inspect> for PortReconciler {
    type Result = MessageResult<Inspect>;
    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        let mut state = self.flight.state();
        state["knowsAdapters"] = self.adapters.is_some().into();
        state["hashOfGeneration"] = self.hashed.as_ref().map(|(generation, _)| *generation).into();
        state["problem"] = self.last.as_ref().and_then(|last| last.problem.clone()).into();
        MessageResult(state)
    }
}

impl Handler<Stop> for PortReconciler {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
