//! What AdapterPoller makes of an answer: what is new, who is told, and what a dump shows.

use std::sync::Arc;

use actix::prelude::*;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::{AdapterPoller, Settings};
use crate::actors::done::report_fights;
use crate::actors::inspect::{Inspect, failing};
use crate::actors::messages::{AdaptersObserved, Cause, CauseKind, Fact, Report, Role};
use crate::dittofs::Poll;
use crate::reconcile::status::PollFact;
use crate::reconcile::{AdapterState, ObservedAdapter};

impl AdapterPoller {
    /// What is new about the adapters, in words.
    pub(super) fn observe(&mut self, poll: &Poll, settings: Settings) -> Option<String> {
        let now = self.deps.origin.elapsed();
        let adapters = self.tracker.observe(&poll.adapters, now, settings.grace);
        let news = self.observed.as_ref().is_none_or(|before| **before != adapters);
        let mut diff = None;
        if news {
            let adapters = Arc::new(adapters);
            let text = in_words(&adapters);
            info!(namespace = self.key.namespace, name = self.key.name, adapters = text, "observed the adapters");
            diff = Some(match &self.observed {
                Some(before) => format!("from {} to {text}", in_words(before)),
                None => format!("first observation: {text}"),
            });
            self.count_adapters(&adapters);
            self.observed = Some(adapters);
            self.tell_observed(&Cause::here(CauseKind::AdaptersObserved), self.started);
        }
        self.told(PollFact::Answered);
        diff
    }

    /// What somebody does to the credentials Secret again and again.
    pub(super) fn tell_fights(&mut self) {
        let fights = self.upkeep.fought();
        report_fights(&self.peers.status, &self.deps.metrics, Role::AdapterPoller, fights, &mut self.fought);
    }

    /// The running adapters, and how many Services have to follow the news.
    fn count_adapters(&self, adapters: &[ObservedAdapter]) {
        let before = self.observed.as_ref().map_or(&[][..], |before| before.as_slice());
        let differs = |one: &ObservedAdapter, among: &[ObservedAdapter]| !among.contains(one);
        let gone = |one: &&ObservedAdapter| !adapters.iter().any(|other| other.adapter_type == one.adapter_type);
        let changed = adapters.iter().filter(|one| differs(one, before)).count() + before.iter().filter(gone).count();
        let running = adapters.iter().filter(|adapter| adapter.state == AdapterState::Running);
        let started = self.started.unwrap_or_else(Instant::now);
        let types = running.map(|adapter| adapter.adapter_type.as_str());
        self.deps.metrics.observed(&self.key, started, types, changed);
    }

    pub(super) fn tell_observed(&self, cause: &Cause, polled_at: Option<Instant>) {
        let Some(adapters) = &self.observed else { return };
        self.tell_reconcilers(cause, polled_at);
        self.peers.status.do_send(Report {
            fact: Fact::Adapters(adapters.clone()),
            cause: cause.to(&self.deps.metrics, Role::StatusReporter),
        });
    }

    /// The same adapters, with what is new about them beside their list.
    pub(super) fn tell_reconcilers(&self, cause: &Cause, polled_at: Option<Instant>) {
        let Some(adapters) = &self.observed else { return };
        // In the order in which the Supervisor names them.
        for (peer, role) in self.peers.observed.iter().zip([Role::ServiceReconciler, Role::PortReconciler]) {
            let cause = cause.to(&self.deps.metrics, role);
            peer.do_send(AdaptersObserved { adapters: adapters.clone(), nfs: self.errands.nfs, polled_at, cause });
        }
    }
}

/// Adapters as a log line and a span have them.
fn in_words(adapters: &[ObservedAdapter]) -> String {
    let each: Vec<String> =
        adapters.iter().map(|a| format!("{} {:?} on {}", a.adapter_type, a.state, a.port)).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

impl Handler<Inspect> for AdapterPoller {
    type Result = MessageResult<Inspect>;
    fn handle(&mut self, _: Inspect, _: &mut Self::Context) -> Self::Result {
        let (result, error) = match &self.fact {
            None => (None, None),
            Some(PollFact::Answered) => (Some("answered"), None),
            Some(PollFact::Stopped) => (Some("stopped"), None),
            Some(PollFact::Unreachable(error)) => (Some("unreachable"), Some(error)),
            Some(PollFact::Refused(error)) => (Some("refused"), Some(error)),
            Some(PollFact::BadAnswer(error)) => (Some("bad-answer"), Some(error)),
        };
        let state = json!({
            "slot": match (self.under_way.is_some(), self.again) {
                (false, _) => "idle",
                (true, false) => "running",
                (true, true) => "running-dirty",
            },
            "lastPollSecondsAgo": self.started.map(|started| started.elapsed().as_secs_f64()),
            "lastResult": result,
            "lastError": error,
            "periodSeconds": self.settings.map(|settings| settings.period.as_secs_f64()),
            "nextBackoffAtMostSeconds": self.backoff.upcoming().as_secs_f64(),
            "timerArmed": self.timer.is_some(),
            "certificatesExpire": self.door.expiries(),
            "adapters": self.observed.as_ref().map(|observed| in_words(observed)),
            "failing": failing(&self.trouble),
            "administrator": self.errands.state(),
        });
        MessageResult(state)
    }
}
