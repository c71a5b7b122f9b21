//! The finalizer of each DittoServer, and the end that it waits for; what to do is decided in
//! [`crate::reconcile::deletion`].
//!
//! Writes nothing but our own entry among a server's finalizers, one write at a time, each tied to the uid (and, where
//! it adds, to the version) that was seen. What has to be done before a server goes is asked of the actor that owns it,
//! by message; its answer is a message too. Every attempt, write and pause ends with another look at the newest state.

use std::time::Duration;

use actix::prelude::*;
use serde_json::Value;
use tracing::{Instrument as _, error_span, info, warn};

use super::Supervisor;
use super::budget::RESPAWN;
use crate::actors::Deps;
use crate::actors::messages::{Cause, CauseKind, Cleaned, Cleanup, Fact, Report, Role};
use crate::actors::specs::Spec;
use crate::actors::trouble::Trouble;
use crate::backoff::Backoff;
use crate::cluster::{CrRef, KubeError, Reason};
use crate::crd::FINALIZER;
use crate::reconcile::deletion::{Attempt, Deletion, Duty, Keeping, PATIENCE, Step, has_finalizer};
use crate::reconcile::{ServerKey, meta, owned_by};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::doing::Doing;
use crate::telemetry::trace::{begin, decided, failed};

/// What the Supervisor knows of one server's finalizer and deletion.
pub(super) struct Hold {
    keeping: Keeping,
    /// Once the deletion was seen.
    deletion: Option<Deletion>,
    /// A write is under way.
    writing: bool,
    /// resourceVersion that our last write made: what is older tells nothing about it.
    version: u64,
    /// Our finalizer is off a server that is being deleted: nobody can set it again.
    released: bool,
    /// Something of the cleanup is left out, and that was told.
    gave_up: bool,
    backoff: Backoff,
    /// No write before this time, after one that failed.
    not_before: Duration,
    timer: Option<SpawnHandle>,
    trouble: Trouble,
}

impl Hold {
    /// Nothing is known yet.
    pub(super) fn new(deps: &Deps) -> Self {
        Self {
            keeping: Keeping::default(),
            deletion: None,
            writing: false,
            version: 0,
            released: false,
            gave_up: false,
            backoff: Backoff::new(RESPAWN.0, RESPAWN.1, deps.next_seed()),
            not_before: Duration::ZERO,
            timer: None,
            trouble: Trouble::new(deps.origin),
        }
    }

    /// Whether the server's deletion is under way.
    pub(super) fn is_deleting(&self) -> bool {
        self.deletion.is_some()
    }

    /// An actor of the family was started anew: what it was doing for the deletion is to be asked for again.
    pub(super) fn actor_is_new(&mut self, role: Role, now: Duration) {
        let duty = match role {
            Role::AdapterPoller => Duty::Account,
            Role::ConfigHasher => Duty::Database,
            _ => return,
        };
        if let Some(deletion) = &mut self.deletion {
            deletion.ask_again(duty, now);
        }
    }
}

/// What is done to the list of finalizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Set,
    Release,
}

/// The end of a write.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Written {
    key: ServerKey,
    uid: String,
    change: Change,
    /// The server as stored, where that is told.
    result: Result<Option<Value>, KubeError>,
}

fn finalizers(spec: &Spec) -> Vec<String> {
    let listed = spec.object.pointer("/metadata/finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
    listed.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn version(object: &Value) -> u64 {
    meta(object, "resourceVersion").parse().unwrap_or(0)
}

impl Supervisor {
    /// Looks at a server's finalizer and deletion, and does what is due.
    pub(super) fn tend(&mut self, key: &ServerKey, ctx: &mut Context<Self>) {
        if self.shutting_down {
            return;
        }
        let deps = self.deps.clone();
        let Some(spec) = deps.spec(key) else { return };
        let Some(family) = self.families.get_mut(key).filter(|family| family.uid == spec.uid) else { return };
        let hold = &mut family.hold;
        if hold.writing || hold.released || version(&spec.object) < hold.version {
            return;
        }
        let now = deps.origin.elapsed();
        let ours = has_finalizer(&spec.object);
        let pause = hold.not_before.saturating_sub(now);
        if !spec.deleting {
            // Nothing of a server that does not validate, or is paused, is changed, and it can go as it came.
            if spec.server.is_err() || spec.paused {
                return;
            }
            let wait = hold.keeping.wait(now).max(pause);
            match (ours, wait.is_zero()) {
                (true, _) => {}
                (false, true) => self.write(key, &spec, Change::Set, ctx),
                (false, false) => self.tend_later(key, wait, ctx),
            }
            return;
        }
        if !ours {
            return;
        }
        let about = CrRef { key: key.clone(), uid: spec.uid.clone() };
        if hold.deletion.is_none() {
            info!(
                namespace = key.namespace,
                name = key.name,
                "the server is being deleted; cleaning up before it goes"
            );
            let note = "Deleting the server; its volumes and generated Secrets stay".to_owned();
            deps.event(&about, Reason::Deleting, "DeleteServer", note, None);
        }
        let pod = has_pod(&deps, key, &spec.uid);
        match hold.deletion.get_or_insert_default().step(now, pod) {
            Step::Ask(duties, wait) => {
                self.ask(key, &spec, &duties, ctx);
                self.tend_later(key, wait, ctx);
            }
            Step::Wait(wait) => self.tend_later(key, wait, ctx),
            Step::Release { undone, timed_out } => {
                let undone = undone.join(", ");
                if timed_out && !std::mem::replace(&mut hold.gave_up, true) {
                    let seconds = PATIENCE.as_secs();
                    warn!(
                        namespace = key.namespace,
                        name = key.name,
                        seconds,
                        undone,
                        "the cleanup is given up; the server goes without it"
                    );
                    let note = format!("Given up {seconds} s after the first attempt; left undone: {undone}");
                    deps.event(&about, Reason::CleanupTimeout, "CleanUp", note, None);
                }
                if pause.is_zero() {
                    if !timed_out && !undone.is_empty() && !std::mem::replace(&mut hold.gave_up, true) {
                        info!(
                            namespace = key.namespace,
                            name = key.name,
                            undone,
                            "nothing to wait for: some of the cleanup is left out"
                        );
                    }
                    self.write(key, &spec, Change::Release, ctx);
                } else {
                    self.tend_later(key, pause, ctx);
                }
            }
        }
    }

    fn tend_later(&mut self, key: &ServerKey, wait: Duration, ctx: &mut Context<Self>) {
        let Some(family) = self.families.get_mut(key) else { return };
        let again = key.clone();
        let timer = ctx.run_later(wait, move |supervisor, ctx| supervisor.tend(&again, ctx));
        if let Some(before) = family.hold.timer.replace(timer) {
            ctx.cancel_future(before);
        }
    }

    /// Asks for duties: each of the actor that owns what it is about.
    fn ask(&self, key: &ServerKey, spec: &Spec, duties: &[Duty], ctx: &Context<Self>) {
        let Some(family) = self.families.get(key) else { return };
        for duty in duties {
            let of = |role| {
                let cause = Cause::here(CauseKind::ServerChanged).to(&self.deps.metrics, role);
                Cleanup { uid: spec.uid.clone(), answer: ctx.address().recipient(), cause }
            };
            match duty {
                Duty::Account => family.poller.0.do_send(of(Role::AdapterPoller)),
                Duty::Database => family.hasher.0.do_send(of(Role::ConfigHasher)),
            }
        }
    }

    fn write(&mut self, key: &ServerKey, spec: &Spec, change: Change, ctx: &Context<Self>) {
        let Some(pass) = self.deps.gate.enter() else { return };
        let Some(family) = self.families.get_mut(key) else { return };
        family.hold.writing = true;
        let (deps, key, uid) = (self.deps.clone(), key.clone(), spec.uid.clone());
        let (current, version) = (finalizers(spec), meta(&spec.object, "resourceVersion").to_owned());
        let place = TraceContext::current();
        let place = if place.is_open() { place } else { deps.tracer.root(&key) };
        let span = match change {
            Change::Set => begin(error_span!("set finalizer"), &place, &[]),
            Change::Release => begin(error_span!("release finalizer"), &place, &[]),
        };
        let doing = Doing::new(deps.metrics.clone(), key.clone(), CauseKind::ServerChanged);
        let address = ctx.address();
        let within = span.clone();
        let work = async move {
            let _pass = pass;
            let result = match change {
                Change::Set => {
                    let seen = (uid.as_str(), version.as_str());
                    deps.cluster.add_finalizer(&key, seen, FINALIZER, &current).await.map(Some)
                }
                Change::Release => deps.cluster.remove_finalizer(&key, &uid, FINALIZER, &current).await.map(|()| None),
            };
            match (&result, change) {
                (Ok(_), Change::Set) => decided(&within, "finalizer", FINALIZER),
                (Ok(_), Change::Release) => decided(&within, "release", FINALIZER),
                (Err(error), _) => failed(&within, error.category(), &error.to_string()),
            }
            address.do_send(Written { key, uid, change, result });
        };
        tokio::spawn(doing.around(work).instrument(span));
    }
}

/// Whether the server has a pod, by what its StatefulSet says.
fn has_pod(deps: &Deps, key: &ServerKey, uid: &str) -> bool {
    let name = crate::reconcile::Names::new(&key.name).stateful_set();
    let set = deps.caches.stateful_sets.get(&key.namespace, &name).filter(|set| owned_by(set, uid));
    set.and_then(|set| set.pointer("/status/replicas")?.as_i64()).unwrap_or(0) > 0
}

impl Handler<Written> for Supervisor {
    type Result = ();
    fn handle(&mut self, end: Written, ctx: &mut Self::Context) {
        let Written { key, uid, change, result } = end;
        let now = self.deps.origin.elapsed();
        let Some(family) = self.families.get_mut(&key).filter(|family| family.uid == uid) else { return };
        let hold = &mut family.hold;
        hold.writing = false;
        match result {
            Ok(stored) => {
                hold.backoff.reset();
                hold.version = stored.as_ref().map_or(hold.version, version);
                match change {
                    Change::Set if hold.keeping.was_set(now) => {
                        info!(
                            namespace = key.namespace,
                            name = key.name,
                            "somebody took our finalizer off; it is set again"
                        );
                    }
                    Change::Set => {}
                    Change::Release => {
                        hold.released = true;
                        info!(namespace = key.namespace, name = key.name, "released the finalizer");
                    }
                }
                for over in hold.trouble.ended() {
                    let (actor, what) = ("supervisor", over.what.as_str());
                    info!(namespace = key.namespace, name = key.name, actor, what, "works again after {over}");
                }
            }
            // It is gone; the watch will say so.
            Err(error) if error.is_not_found() => hold.not_before = now + RESPAWN.1,
            Err(error) => {
                hold.not_before = now + hold.backoff.next();
                // Somebody else changed the server first.
                if !error.is_conflict()
                    && let Some(again) = hold.trouble.failed("finalizer")
                {
                    warn!(namespace = key.namespace, name = key.name, error = %error, "the finalizer cannot be written{again}");
                }
            }
        }
        self.tend(&key, ctx);
    }
}

impl Handler<Cleaned> for Supervisor {
    type Result = ();
    fn handle(&mut self, end: Cleaned, ctx: &mut Self::Context) {
        let Cleaned { key, uid, duty, attempt } = end;
        let now = self.deps.origin.elapsed();
        let Some(family) = self.families.get_mut(&key).filter(|family| family.uid == uid) else { return };
        let Some(deletion) = &mut family.hold.deletion else { return };
        let failure = match &attempt {
            Attempt::Failed(why) | Attempt::Refused(why) => Some(why.clone()),
            Attempt::Done | Attempt::Left(_) => None,
        };
        deletion.ended(duty, attempt, now);
        if let Some(why) = failure {
            let undone = deletion.undone().join(", ");
            if let Some(again) = family.hold.trouble.failed("cleanup") {
                warn!(
                    namespace = key.namespace,
                    name = key.name,
                    what = duty.what(),
                    why,
                    "the cleanup before the deletion failed{again}"
                );
            }
            let seconds = PATIENCE.as_secs();
            let text = format!("not done yet: {undone}; given up {seconds} s after the first attempt");
            let cause = Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter);
            family.status.0.do_send(Report { fact: Fact::Deletion(text), cause });
        }
        self.tend(&key, ctx);
    }
}
