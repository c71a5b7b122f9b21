//! StatusReporter: the only writer of `.status`.
//!
//! Gathers the facts of its siblings, derives the status in the pure ring and writes it when it differs, at most once
//! a second; what is asked meanwhile is answered by one write. That a server failed is told as an event, too. When a
//! StatefulSet has had no pod for [`ABSENCE`] it asks what its controller said about that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Deps;
use super::done::Done;
use super::flight::{Finished, Flight, Job, Verdict, Worker, finished, poke};
use super::inspect::Inspect;
use super::lifeline::Lifeline;
use super::messages::{Cause, Fact, Poke, Report, Role, Stop};
use super::specs::Spec;
use super::trouble::Trouble;
use crate::cluster::{CrRef, Kind, Mishap, Reason};
use crate::reconcile::percona::DatabaseFact;
use crate::reconcile::pod::{PodSeen, Why, standing};
use crate::reconcile::status::{
    ConfigFact, LastChange, Observed, PollFact, PortsFact, ServicesFact, SnapshotsFact, VolumesFact, derive, patch,
};
use crate::reconcile::{
    Names, ObservedAdapter, ServerKey, controller_uid, meta, no_service_monitors, operator_kept_out, warnings,
};
use crate::telemetry::metrics::StatusSeen;

/// Least time between two writes of one status.
const PACE: Duration = Duration::from_secs(1);
/// How long the first write waits for the first facts: a status that knows nothing yet is worth no write.
const GATHER: Duration = Duration::from_millis(300);

/// How long a pod may be missing before its absence is looked into: one is being replaced.
const ABSENCE: Duration = Duration::from_secs(2);
/// An event that is this much older than the last sight of the pod is about an earlier one. Clocks differ.
const OLDER: i64 = 10;

/// What the siblings said.
#[derive(Clone, Debug, Default)]
struct Facts {
    config: Option<ConfigFact>,
    database: Option<DatabaseFact>,
    /// ConfigHasher has let go of the database.
    without_database: bool,
    poll: Option<PollFact>,
    adapters: Option<Arc<Vec<ObservedAdapter>>>,
    ports: Option<PortsFact>,
    volumes: Option<VolumesFact>,
    services: Option<ServicesFact>,
    deletion: Option<String>,
    held: BTreeMap<Role, Vec<String>>,
    snapshots: Option<SnapshotsFact>,
    change: Option<LastChange>,
    /// What each writer sets back again and again.
    fought: BTreeMap<Role, Vec<String>>,
}

/// What we last wrote: newer than the cache until the watch has caught up.
#[derive(Clone, Debug)]
struct Written {
    uid: String,
    version: String,
    /// As text: it is looked at rarely, and kept for every server.
    status: Arc<str>,
    at: Instant,
}

/// Since when there is no pod although there should be.
#[derive(Clone, Copy, Debug)]
struct Absence {
    since: Instant,
    /// Seconds since 1970: when the pod was seen last, if ever.
    seen: Option<i64>,
}

/// See the module.
pub struct StatusReporter {
    key: ServerKey,
    deps: Arc<Deps>,
    flight: Flight,
    facts: Facts,
    written: Option<Written>,
    /// Whether the last change is in the status that was written.
    change_told: bool,
    absence: Option<Absence>,
    born: Instant,
    _lifeline: Lifeline,
}

impl StatusReporter {
    /// A reporter that knows nothing yet.
    pub fn new(key: ServerKey, deps: Arc<Deps>, lifeline: Lifeline) -> Self {
        let flight = Flight::new(key.clone(), Role::StatusReporter, &deps);
        Self {
            key,
            deps,
            flight,
            facts: Facts::default(),
            written: None,
            change_told: false,
            absence: None,
            born: Instant::now(),
            _lifeline: lifeline,
        }
    }
}

impl StatusReporter {
    /// What changed since the last write is told together, under the trace that began it: the changes that follow
    /// within that second are most often its consequences.
    fn changed(&mut self, summary: String, trace_id: Option<String>) {
        match &mut self.facts.change {
            Some(change) if !self.change_told => change.summary = format!("{}; {summary}", change.summary),
            change => *change = Some(LastChange { time: stamp(Timestamp::now()), trace_id, summary }),
        }
        self.change_told = false;
    }
}

impl Actor for StatusReporter {
    type Context = Context<Self>;
}

impl Handler<Poke> for StatusReporter {
    type Result = ();
    fn handle(&mut self, message: Poke, ctx: &mut Self::Context) {
        crate::fault::hit_for("status-reporter.handler", &self.key.name);
        poke(self, ctx, message.0);
    }
}

impl Handler<Report> for StatusReporter {
    type Result = ();
    fn handle(&mut self, message: Report, ctx: &mut Self::Context) {
        match message.fact {
            Fact::Config(fact) => self.facts.config = Some(fact),
            Fact::Database(fact) => {
                self.facts.without_database = fact.is_none();
                self.facts.database = fact;
            }
            Fact::Poll(fact) => self.facts.poll = Some(fact),
            Fact::Adapters(adapters) => self.facts.adapters = Some(adapters),
            Fact::Ports(fact) => self.facts.ports = Some(fact),
            Fact::Volumes(fact) => self.facts.volumes = Some(fact),
            Fact::Services(fact) => self.facts.services = Some(fact),
            Fact::Fought(role, fights) => {
                self.facts.fought.insert(role, fights);
            }
            Fact::Deletion(text) => self.facts.deletion = Some(text),
            Fact::Held(role, words) => {
                self.facts.held.insert(role, words);
            }
            Fact::Snapshots(fact) => self.facts.snapshots = Some(fact),
            Fact::Changed(summary) => self.changed(summary, message.cause.trace.trace_id()),
        }
        poke(self, ctx, message.cause);
    }
}

impl Handler<Finished<Outcome>> for StatusReporter {
    type Result = ();
    fn handle(&mut self, end: Finished<Outcome>, ctx: &mut Self::Context) {
        finished(self, ctx, end);
    }
}

/// What a run did.
#[derive(Debug)]
pub struct Outcome {
    written: Option<Written>,
    /// The change that is in it.
    told: Option<LastChange>,
    absence: Option<Absence>,
    verdict: Verdict,
}

impl Worker for StatusReporter {
    type Outcome = Outcome;
    fn flight(&mut self) -> &mut Flight {
        &mut self.flight
    }
    fn job(&mut self, _: &Cause) -> Job<Outcome> {
        let run = Run {
            deps: self.deps.clone(),
            key: self.key.clone(),
            facts: self.facts.clone(),
            written: self.written.clone(),
            absence: self.absence,
            recheck: None,
            trouble: self.flight.trouble(),
        };
        Box::pin(async move { Box::pin(run.report()).await })
    }
    fn hold(&self) -> Option<Duration> {
        let wait = match &self.written {
            Some(last) => PACE.saturating_sub(last.at.elapsed()),
            None => GATHER.saturating_sub(self.born.elapsed()),
        };
        (!wait.is_zero() && !crate::fault::on("no-pace")).then_some(wait)
    }
    fn landed(&mut self, outcome: Outcome) -> Verdict {
        self.absence = outcome.absence;
        if outcome.written.is_some() {
            self.written = outcome.written;
            self.change_told = self.facts.change == outcome.told;
        }
        outcome.verdict
    }
}

/// One run.
struct Run {
    deps: Arc<Deps>,
    key: ServerKey,
    facts: Facts,
    written: Option<Written>,
    absence: Option<Absence>,
    /// When the same objects will say something else.
    recheck: Option<Duration>,
    trouble: Trouble,
}

impl Run {
    async fn report(mut self) -> Outcome {
        crate::fault::hit_for("status-reporter.job", &self.key.name);
        let Some(spec) = self.deps.spec(&self.key) else {
            return Outcome { written: None, told: None, absence: None, verdict: Verdict::Settled };
        };
        let previous = self.previous(&spec);
        let set = self.stateful_set(&spec);
        let now = Timestamp::now();
        let pod = self.pod(set.as_deref(), now).await;
        let derived = self.derive(&spec, previous.as_ref(), set.as_deref(), &pod, now);
        let verdict = self.recheck.map_or(Verdict::Settled, Verdict::Until);
        let settled = Outcome { written: None, told: None, absence: self.absence, verdict };
        self.deps.metrics.status(&self.key, &StatusSeen::of(&derived));
        let mut done = Done::default();
        let Some(patch) = patch(previous.as_ref(), &derived) else {
            done.tell(None);
            return settled;
        };
        match self.deps.cluster.patch_status(&self.key, &spec.uid, &patch).await {
            Ok(stored) => {
                log_transition(&self.key, previous.as_ref(), &derived);
                self.tell_failure(&spec, previous.as_ref(), &derived);
                done.did("status", differing(&patch));
                done.tell(None);
                let written = Written {
                    uid: spec.uid.clone(),
                    version: meta(&stored, "resourceVersion").to_owned(),
                    status: stored.get("status").map(Value::to_string).unwrap_or_default().into(),
                    at: Instant::now(),
                };
                Outcome { written: Some(written), told: self.facts.change, absence: self.absence, verdict }
            }
            // It is gone, or another one of its name is there: the watch will say so.
            Err(error) if error.is_not_found() || error.is_conflict() => {
                debug!(namespace = self.key.namespace, name = self.key.name, error = %error, "status not written");
                settled
            }
            Err(error) => {
                done.tell(Some(&error.to_string()));
                let told = self.trouble.failed("status");
                if let Some(again) = told {
                    warn!(namespace = self.key.namespace, name = self.key.name, error = %error, "status cannot be written{again}");
                }
                if let Some(again) = told.filter(|_| !error.is_transient()) {
                    // Such as a spec in which nothing has its place any more: an event is all that can be left there.
                    let about = CrRef { key: self.key.clone(), uid: spec.uid.clone() };
                    let note = error.to_string();
                    self.deps.event_again(&about, Reason::ReconcileFailed, "WriteStatus", note, None, again.times);
                }
                Outcome { written: None, told: None, absence: self.absence, verdict: Verdict::Retry }
            }
        }
    }

    /// `.status` as it stands: what we wrote, until the watch shows that version or a newer one.
    fn previous(&self, spec: &Spec) -> Option<Value> {
        let cached = spec.object.get("status").cloned();
        let Some(written) = self.written.as_ref().filter(|written| written.uid == spec.uid) else { return cached };
        match (meta(&spec.object, "resourceVersion").parse::<u64>(), written.version.parse::<u64>()) {
            (Ok(cached), Ok(written)) if cached < written => {}
            _ => return cached,
        }
        serde_json::from_str(&written.status).ok()
    }

    fn stateful_set(&self, spec: &Spec) -> Option<Arc<Value>> {
        let name = Names::new(&self.key.name).stateful_set();
        let set = self.deps.caches.stateful_sets.get(&self.key.namespace, &name);
        set.filter(|set| crate::reconcile::owned_by(set, &spec.uid))
    }

    /// The pod of the StatefulSet, or what is known about its absence.
    async fn pod(&mut self, set: Option<&Value>, now: Timestamp) -> Pod {
        let pods = &self.deps.caches.pods;
        if !pods.is_synced() {
            return Pod::Unknown;
        }
        let uid = set.map(|set| meta(set, "uid")).unwrap_or_default();
        let pod = pods.get(&self.key.namespace, &Names::new(&self.key.name).pod());
        if let Some(pod) = pod.filter(|pod| set.is_some() && controller_uid(pod) == Some(uid)) {
            self.recheck = standing(&pod, &stamp(now)).recheck.map(Duration::from_secs);
            self.absence = Some(Absence { since: Instant::now(), seen: Some(now.as_second()) });
            return Pod::There(pod);
        }
        let wants = set.is_some_and(|set| set.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1) > 0);
        if !wants {
            self.absence = None;
            return Pod::Absent(None);
        }
        let absence = *self.absence.get_or_insert(Absence { since: Instant::now(), seen: None });
        let left = ABSENCE.saturating_sub(absence.since.elapsed());
        if !left.is_zero() {
            self.recheck = Some(left);
            return Pod::Absent(None);
        }
        let mishaps = self.deps.mishaps.of(&self.key.namespace).await;
        self.recheck = Some(mishaps.fresh_for.max(PACE));
        let of_this = |mishap: &&Mishap| {
            mishap.uid == uid && absence.seen.is_none_or(|seen| mishap.at.as_second() >= seen - OLDER)
        };
        Pod::Absent(mishaps.found.iter().find(of_this).map(|mishap| mishap.note.clone()))
    }

    /// An event when the server failed, or fails for another reason than before.
    fn tell_failure(&self, spec: &Spec, before: Option<&Value>, after: &Value) {
        let Some((reason, note)) = failure(Some(after)) else { return };
        if failure(before).is_some_and(|(known, _)| known == reason) {
            return;
        }
        warn!(namespace = self.key.namespace, name = self.key.name, reason, why = note, "the server failed");
        let about = CrRef { key: self.key.clone(), uid: spec.uid.clone() };
        let related = Some((Kind::Pod, Names::new(&self.key.name).pod()));
        // Each reason is an Event of its own.
        let action = Why::ALL.iter().map(|why| why.as_str()).find(|why| *why == reason).unwrap_or("SpecInvalid");
        self.deps.event(&about, Reason::ServerFailed, action, format!("{reason}: {note}"), related);
    }

    fn derive(&self, spec: &Spec, previous: Option<&Value>, set: Option<&Value>, pod: &Pod, now: Timestamp) -> Value {
        let server = spec.server.as_ref().map(AsRef::as_ref);
        let services = self.deps.caches.services.owned_by(&spec.uid);
        let claims = self.deps.claims_of(&self.key);
        let adapters = self.facts.adapters.as_ref().map(|adapters| adapters.as_slice());
        let mut doubts: Vec<String> = server.map_or_else(
            |_| Vec::new(),
            |server| {
                let kept_out = operator_kept_out(server, self.deps.namespace.as_deref());
                let unmonitored = no_service_monitors(server, self.deps.caches.service_monitors.is_absent());
                let around = kept_out.into_iter().chain(unmonitored);
                warnings(server, adapters).into_iter().chain(around).map(|doubt| doubt.to_string()).collect()
            },
        );
        doubts.extend(self.facts.fought.values().flatten().cloned());
        let held: Vec<String> = self.facts.held.values().flatten().cloned().collect();
        let now = stamp(now);
        let mut derived = derive(Observed {
            name: &self.key.name,
            generation: spec.generation,
            deleting: spec.deleting,
            deletion: self.facts.deletion.as_deref(),
            paused: spec.paused.then_some(held.as_slice()),
            server: server.map_err(AsRef::as_ref),
            config: self.facts.config.as_ref(),
            database: self.facts.database.as_ref(),
            without_database: self.facts.without_database,
            poll: self.facts.poll.as_ref(),
            adapters,
            ports: self.facts.ports.as_ref(),
            services: self.facts.services.as_ref(),
            volumes: self.facts.volumes.as_ref(),
            claims: claims.as_deref(),
            snapshots: self.facts.snapshots.as_ref(),
            stateful_set: set,
            pod: match pod {
                Pod::Unknown => PodSeen::Unknown,
                Pod::Absent(note) => PodSeen::Absent(note.as_deref()),
                Pod::There(pod) => PodSeen::There(pod),
            },
            live_services: &services,
            warnings: &doubts,
            change: self.facts.change.as_ref(),
            previous,
            now: &now,
        });
        if crate::fault::on("ready-too-early") {
            for condition in derived["conditions"].as_array_mut().into_iter().flatten() {
                if condition["type"] == "Ready" {
                    condition["status"] = "True".into();
                }
            }
        }
        if crate::fault::on("status-ahead") {
            derived["observedGeneration"] = serde_json::json!(spec.generation + 1);
        }
        derived
    }
}

/// The pod of the server.
enum Pod {
    /// Pods were not listed yet.
    Unknown,
    /// There is none; what the StatefulSet's controller said about it.
    Absent(Option<String>),
    /// There it is.
    There(Arc<Value>),
}

/// RFC 3339, whole seconds: what the API server makes of a time.
fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Reason and message of a status that says that the server failed.
fn failure(status: Option<&Value>) -> Option<(String, String)> {
    let status = status.filter(|status| status["phase"] == "Failed")?;
    let ready = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")?;
    Some((ready["reason"].as_str()?.to_owned(), ready["message"].as_str().unwrap_or_default().to_owned()))
}

/// Which fields of the status a patch sets.
fn differing(patch: &Value) -> String {
    let fields: Vec<&str> = patch.as_object().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
    format!("status: {}", fields.join(", "))
}

fn log_transition(key: &ServerKey, before: Option<&Value>, after: &Value) {
    let ready = |status: Option<&Value>| {
        let conditions = status?.get("conditions")?.as_array()?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        Some((ready["status"].as_str()?.to_owned(), ready["message"].as_str()?.to_owned()))
    };
    let (old, new) = (ready(before), ready(Some(after)));
    if let Some((status, why)) = new
        && old.map(|(status, _)| status).as_ref() != Some(&status)
    {
        info!(namespace = key.namespace, name = key.name, ready = status, why, "readiness changed");
    }
}

impl Handler<Inspect> for StatusReporter {
    type Result = MessageResult<Inspect>;
    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        let mut state = self.flight.state();
        state["lastWriteSecondsAgo"] = self.written.as_ref().map(|written| written.at.elapsed().as_secs()).into();
        MessageResult(state)
    }
}

impl Handler<Stop> for StatusReporter {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
