//! ServiceReconciler: the only writer of the Services, NetworkPolicies and the ServiceMonitor of one server.
//!
//! What is there is compared with what should be in the pure ring ([`crate::reconcile::plan_services`],
//! [`crate::reconcile::plan_network_policies`], [`crate::reconcile::plan_service_monitor`]); every object that is written is read first and replaced from that
//! JSON. One object that cannot be written stops no other.

mod run;
mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;

use self::run::Run;
use super::Deps;
use super::done::{Done, report_changes, report_fights};
use super::flight::{Finished, Flight, Job, Verdict, Worker, finished, poke};
use super::inspect::Inspect;
use super::lifeline::Lifeline;
use super::messages::{AdaptersObserved, Cause, CauseKind, Fact, Poke, Report, Resend, Role, Stop, Wire};
use super::upkeep::Upkeep;
use crate::cluster::Kind;
use crate::reconcile::status::ServicesFact;
use crate::reconcile::{NfsPorts, ObservedAdapter, Refusal, ServerKey};

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
    /// Per object (`Kind name`), a write that the API server turned into no change.
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
    /// For whose objects it worked: the poll whose news it answers, and when its last write was done.
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
