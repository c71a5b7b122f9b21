//! What a run did, told once at its end: as decision and difference on the span of its work, and in words for
//! `.status.lastChange`.

use actix::prelude::*;
use tracing::Span;

use super::messages::{Cause, CauseKind, Fact, Report, Role};
use crate::cluster::{KubeError, pause};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::table::{Attribute, RETRY};
use crate::telemetry::trace::{decided, event, failed};

/// Decisions in the order in which they are told.
const ORDER: [&str; 10] =
    ["create", "update", "delete", "hashed", "status", "paused", "not-owned", "deferred", "wait", "nothing"];

/// Gathers what a run does.
#[derive(Clone, Debug, Default)]
pub struct Done {
    decisions: Vec<&'static str>,
    changes: Vec<String>,
}

impl Done {
    /// Something was written: `decision` as in `docs/tracing.md`, `words` for people.
    pub fn did(&mut self, decision: &'static str, words: String) {
        self.note(decision);
        self.changes.push(words);
    }

    /// Something was decided that writes nothing.
    pub fn note(&mut self, decision: &'static str) {
        if !self.decisions.contains(&decision) {
            self.decisions.push(decision);
        }
    }

    /// Whether something was written.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Puts all on the current span, which ends as failed when there is a `problem`; the changes in words.
    pub fn tell(&mut self, problem: Option<&str>) -> Vec<String> {
        let span = Span::current();
        let paused = pause::was_refused();
        if paused {
            self.note("paused");
        }
        let told: Vec<&str> = ORDER.into_iter().filter(|decision| self.decisions.contains(decision)).collect();
        let decision = if told.is_empty() { "nothing".to_owned() } else { told.join(",") };
        let mut words = self.changes.join("; ");
        if let Some(problem) = problem {
            if !paused {
                failed(&span, "reconcile", problem);
            }
            if words.is_empty() {
                problem.clone_into(&mut words);
            }
        }
        decided(&span, &decision, &words);
        std::mem::take(&mut self.changes)
    }
}

/// Tells StatusReporter what a run changed, in the current span; nothing when it changed nothing.
pub fn report_changes(status: &Recipient<Report>, metrics: &Metrics, changes: &[String]) {
    if !changes.is_empty() {
        let cause = Cause::here(CauseKind::Fact).to(metrics, Role::StatusReporter);
        status.do_send(Report { fact: Fact::Changed(changes.join("; ")), cause });
    }
}

/// Tells StatusReporter what a writer sets back again and again, when that is not what it told last.
pub fn report_fights(
    status: &Recipient<Report>,
    metrics: &Metrics,
    role: Role,
    fights: Vec<String>,
    told: &mut Vec<String>,
) {
    if fights != *told {
        told.clone_from(&fights);
        let cause = Cause::here(CauseKind::Fact).to(metrics, Role::StatusReporter);
        status.do_send(Report { fact: Fact::Fought(role, fights), cause });
    }
}

/// A write met another version of the object and is planned anew: an event on the current span.
pub fn retry(metrics: &Metrics, attempt: u32, object: &str, error: &KubeError) {
    metrics.kube_retry(error.call().kind);
    let attributes = [
        (Attribute::Attempt, attempt.to_string()),
        (Attribute::Object, object.to_owned()),
        (Attribute::ErrorType, error.category().to_owned()),
        (Attribute::Diff, error.to_string()),
    ];
    event(&Span::current(), RETRY, &attributes);
}
