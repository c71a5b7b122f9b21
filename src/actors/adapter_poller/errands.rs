//! What AdapterPoller does as the server's administrator: snapshot policies, and the NFS adapter's further ports.
//!
//! After a poll that was answered, and at once for a changed spec, [`AdminPace`] says whether there is something to do;
//! the job is a task of its own, one at a time, and polls go on meanwhile. It touches the server's API and reads the
//! administrator's Secret; it writes nothing to Kubernetes. A reading that failed changes nothing but status.

use actix::prelude::*;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{Instrument, error_span, info, warn};

use super::AdapterPoller;
use crate::actors::Deps;
use crate::actors::inspect::failing;
use crate::actors::messages::{Cause, CauseKind, Fact, Report, Role};
use crate::actors::trouble::Trouble;
use crate::actors::vault::{KnownSecret, SecretVault};
use crate::cluster::{CrRef, Reason};
use crate::dittofs::{AdminAccount, AdminVisit, AdminWork, Policies, PollError, Visited, visit};
use crate::reconcile::status::{PollFact, SnapshotsFact};
use crate::reconcile::{AdapterState, AdminPace, Ended, NfsPorts, ObservedAdapter, Over, ValidatedServer};
use crate::telemetry::metrics::doing::Doing;
use crate::telemetry::trace::{decided, failed as failed_span};

/// Name of the condition, by which an operator that has just started knows that there were policies.
const CONDITION: &str = "SnapshotPoliciesApplied";

/// What is known and under way of one server.
pub(super) struct Errands {
    pace: AdminPace,
    under_way: Option<AbortHandle>,
    /// Whether the spec was looked at.
    begun: bool,
    /// Whom the server has refused.
    refused: Option<AdminAccount>,
    /// The further ports of the NFS adapter, once they were read.
    pub(super) nfs: Option<NfsPorts>,
    fact: Option<SnapshotsFact>,
    trouble: Trouble,
}

/// The end of an errand; None when it panicked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ErrandEnded {
    visit: Option<AdminVisit>,
    span: tracing::Span,
}

impl Errands {
    pub(super) fn new(deps: &Deps) -> Self {
        Self {
            pace: AdminPace::new(),
            under_way: None,
            begun: false,
            refused: None,
            nfs: None,
            fact: None,
            trouble: Trouble::new(deps.origin),
        }
    }

    /// Drops what is under way.
    pub(super) fn stop(&mut self) {
        if let Some(task) = self.under_way.take() {
            task.abort();
        }
        self.pace.stopped();
    }

    /// For a dump.
    pub(super) fn state(&self) -> Value {
        json!({
            "slot": if self.under_way.is_some() { "running" } else { "idle" },
            "policies": self.pace.policies().len(),
            "nfsPorts": self.nfs.map(|nfs| format!("{nfs:?}")),
            "failing": failing(&self.trouble),
        })
    }
}

impl AdapterPoller {
    /// A poll was answered.
    pub(super) fn run_errands(&mut self, provisioned: bool, ctx: &mut Context<Self>) {
        let now = self.deps.origin.elapsed();
        let nfs = |one: &&ObservedAdapter| one.adapter_type == "nfs" && one.state == AdapterState::Running;
        let port = self.observed.as_ref().and_then(|adapters| adapters.iter().find(nfs)).map(|adapter| adapter.port);
        self.errands.pace.observed(port, now);
        if provisioned {
            self.errands.pace.server_is_new(now);
        }
        self.start_errand(ctx);
    }

    /// The spec may have changed. Its policies are applied at once by a server that answers.
    pub(super) fn take_up_policies(&mut self, server: &ValidatedServer, ctx: &mut Context<Self>) {
        let first = !std::mem::replace(&mut self.errands.begun, true);
        let had = first && self.had_policies();
        let new = self.errands.pace.wants(&server.snapshot_policies, had, self.deps.origin.elapsed());
        // What an operator said that ran before stands until there is something newer, as does why it cannot be done.
        let failing = matches!(self.errands.fact, Some(SnapshotsFact::Failed { .. }));
        if new && !first && !failing && !server.snapshot_policies.is_empty() {
            self.tell_snapshots(SnapshotsFact::Pending);
        }
        if self.fact == Some(PollFact::Answered) {
            self.start_errand(ctx);
        }
    }

    /// Whether status speaks of policies already.
    fn had_policies(&self) -> bool {
        let Some(spec) = self.deps.spec(&self.key) else { return false };
        let conditions = spec.object.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().any(|condition| condition["type"] == CONDITION)
    }

    /// The server's pod has just become ready.
    pub(super) fn server_is_new(&mut self) {
        self.errands.pace.server_is_new(self.deps.origin.elapsed());
    }

    /// One of the Secrets changed.
    pub(super) fn secret_touched(&mut self, ctx: &mut Context<Self>) {
        self.errands.pace.secret_touched();
        if self.fact == Some(PollFact::Answered) {
            self.start_errand(ctx);
        }
    }

    /// What was said is said again.
    pub(super) fn resend_snapshots(&self) {
        if let Some(fact) = self.errands.fact.clone() {
            self.peers.status.do_send(Report {
                fact: Fact::Snapshots(fact),
                cause: Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter),
            });
        }
    }

    fn tell_snapshots(&mut self, fact: SnapshotsFact) {
        if self.errands.fact.as_ref() != Some(&fact) {
            self.errands.fact = Some(fact);
            self.resend_snapshots();
        }
    }

    fn start_errand(&mut self, ctx: &mut Context<Self>) {
        // A policy is a write, too; the end of a pause is a poke like a change of the spec.
        if self.deps.is_paused(&self.key) {
            return;
        }
        let (Some(server), Some(_)) = (self.server(), self.settings) else { return };
        let Ok(url) = self.deps.template.expand(&self.key, server.api_port, server.api_tls.is_spoken()) else { return };
        let Some(errand) = self.errands.pace.errand(self.deps.origin.elapsed()) else { return };
        let Some(pass) = self.deps.gate.enter() else { return };
        let policies = self.errands.pace.policies().to_vec();
        let work = AdminWork { errand, policies, refused: self.errands.refused.clone() };
        let span = error_span!(parent: None, "administer");
        let span = self.begin(span, &self.deps.tracer.root(&self.key), CauseKind::Poll);
        let (deps, door, traced) = (self.deps.clone(), self.door.clone(), span.clone());
        // It reads the administrator's Secret and stores nothing: it shares nothing with the poll.
        let vault = SecretVault::new(self.deps.clone(), server.clone(), KnownSecret::default());
        let doing = Doing::new(self.deps.metrics.clone(), self.key.clone(), CauseKind::Poll);
        let task = tokio::spawn(
            doing
                .around(async move {
                    let _pass = pass;
                    let now = Instant::now();
                    match door.client(&deps, &server, deps.http.deadline(now)).await {
                        Ok(http) => visit(&http, &url, &vault, now, &work).await,
                        Err(error) => AdminVisit::Failed { error: error.into(), refused: None },
                    }
                })
                .instrument(span),
        );
        self.errands.under_way = Some(task.abort_handle());
        let address = ctx.address();
        tokio::spawn(async move {
            let visit = match task.await {
                Ok(visit) => Some(visit),
                Err(end) if end.is_panic() => None,
                Err(_) => return,
            };
            address.do_send(ErrandEnded { visit, span: traced });
        });
    }

    /// What to do next about a session, and what to say of it.
    fn visited(&mut self, visited: Visited, span: &tracing::Span) -> Ended {
        self.errands.refused = None;
        let (mut ended, mut words) = (Ended::Fine, Vec::new());
        match visited.nfs {
            Some(Ok(nfs)) if self.errands.nfs != Some(nfs) => {
                self.errands.nfs = Some(nfs);
                let ports = in_words(nfs);
                info!(namespace = self.key.namespace, name = self.key.name, ports, "read the NFS adapter's settings");
                words.push(format!("further ports of nfs: {ports}"));
                self.tell_reconcilers(&Cause::here(CauseKind::AdaptersObserved), None);
            }
            Some(Ok(_)) | None => {}
            Some(Err(error)) => ended = self.errand_failed(&error.into(), false, span),
        }
        match visited.policies {
            Some(Ok(policies)) => {
                for (share, difference) in &policies.written {
                    info!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        share,
                        changes = difference,
                        "wrote a snapshot policy"
                    );
                    words.push(format!("snapshot policy of {share}: {difference}"));
                }
                let waits = self.policies_ended(policies);
                if waits && ended == Ended::Fine {
                    ended = Ended::Waiting(visited.shares);
                }
            }
            Some(Err(error)) => ended = self.errand_failed(&error.into(), true, span),
            None => {}
        }
        if ended != Ended::Failed && ended != Ended::Refused {
            let decision = if words.is_empty() { "unchanged" } else { "applied" };
            decided(span, decision, &words.join("; "));
        }
        ended
    }

    /// Tells what became of the policies; true when some are to be tried again.
    fn policies_ended(&mut self, policies: Policies) -> bool {
        let wanted = self.errands.pace.policies().len();
        if wanted == 0 && policies.others.is_empty() {
            self.errands.pace.nothing_left();
            self.tell_snapshots(SnapshotsFact::Unwanted);
            return false;
        }
        let mut refused = Vec::new();
        for (share, error) in &policies.failed {
            let text = format!("share {share}: {error}");
            if let Some(again) = self.errands.trouble.failed(&format!("snapshot policy of {share}")) {
                warn!(namespace = self.key.namespace, name = self.key.name, share, error = %error, "the server does not take a snapshot policy{again}");
                let note = format!("Snapshot policy of {text}; correct its entry in spec.snapshotPolicies");
                self.tell_event(Reason::SnapshotPolicyFailed, "ApplySnapshotPolicy", note, again.times);
            }
            refused.push(text);
        }
        let waits = !policies.missing.is_empty() || !refused.is_empty();
        let (missing, others) = (policies.missing, policies.others);
        self.tell_snapshots(SnapshotsFact::Asked { wanted, missing, refused, others });
        waits
    }

    /// A session that did not come to be, or was cut short; `policies` says whether it was for them.
    fn errand_failed(&mut self, error: &PollError, policies: bool, span: &tracing::Span) -> Ended {
        let text = error.to_string();
        failed_span(span, error.category(), &text);
        // One who is let in and may not do it is as good as refused: a password that has to be changed first, say.
        let refused = matches!(error.category(), "admin-unauthorized" | "unauthorized" | "forbidden");
        if let Some(again) = self.errands.trouble.failed("the administrator's session") {
            warn!(
                namespace = self.key.namespace,
                name = self.key.name,
                category = error.category(),
                error = text,
                "what needs the administrator was not done{again}"
            );
            if refused {
                let action = "AdministerServer";
                self.tell_event(Reason::AdminCredentialUnauthorized, action, text.clone(), again.times);
            }
        }
        if policies && !self.errands.pace.policies().is_empty() {
            let reason = match error.category() {
                _ if refused => "AdminRefused",
                "admin-secret-missing" | "vault" => "AdminSecretMissing",
                "unreachable" | "timeout" => "APIUnreachable",
                category if category.starts_with("tls-") => "APIUnreachable",
                _ => "BadAnswer",
            };
            self.tell_snapshots(SnapshotsFact::Failed { reason, text });
        }
        if refused { Ended::Refused } else { Ended::Failed }
    }

    /// Tells a Warning about the server.
    pub(super) fn tell_event(&self, reason: Reason, action: &'static str, note: String, times: u32) {
        let Some(spec) = self.deps.spec(&self.key) else { return };
        let about = CrRef { key: self.key.clone(), uid: spec.uid.clone() };
        self.deps.event_again(&about, reason, action, note, None, times);
    }
}

/// The further ports as a log line has them.
fn in_words(nfs: NfsPorts) -> String {
    let portmapper = nfs.portmapper.map(|port| format!("portmapper on {port}"));
    let words: Vec<String> = portmapper.into_iter().chain(nfs.udp.then(|| "UDP".to_owned())).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

impl Handler<ErrandEnded> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, end: ErrandEnded, ctx: &mut Self::Context) {
        if self.errands.under_way.take().is_none() {
            // One that was stopped in the moment in which it ended.
            return;
        }
        let span = end.span;
        let _within = span.enter();
        let ended = match end.visit {
            Some(AdminVisit::NotNeeded) => {
                decided(&span, "unchanged", "");
                Ended::NotNeeded
            }
            Some(AdminVisit::Done(visited)) => self.visited(visited, &span),
            Some(AdminVisit::Failed { error, refused }) => {
                self.errands.refused = refused;
                self.errand_failed(&error, true, &span)
            }
            None => {
                failed_span(&span, "panic", "the errand panicked");
                self.deps.metrics.job_panicked(Role::AdapterPoller);
                if let Some(again) = self.errands.trouble.failed("panic") {
                    warn!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        actor = Role::AdapterPoller.as_str(),
                        "the administrator's session panicked; it is tried again{again}"
                    );
                }
                Ended::Failed
            }
        };
        match ended {
            Ended::Failed | Ended::Refused => self.errands.trouble.settle(),
            Ended::NotNeeded => self.errands.trouble.hold(),
            Ended::Fine | Ended::Waiting(_) => {
                if let Some(over) = Over::all(self.errands.trouble.ended()) {
                    let what = &over.what;
                    info!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        what,
                        "the administrator's session works again after {over}"
                    );
                }
            }
        }
        self.errands.pace.ended(ended, self.deps.origin.elapsed());
        self.start_errand(ctx);
    }
}
