//! AdapterPoller: asks one server which adapters run, and keeps the operator logged in there.
//!
//! Polls with a fixed period; a poll that fails is tried again with jittered backoff capped at the period. At most one
//! poll is under way. Only a full, valid answer is an observation; whatever else comes back changes nothing but status.
//! The only writer of `<cr>-operator-credentials`. What needs the server's administrator is done beside the polls, in
//! [`errands`]. Before its server is deleted it takes the operator's account there back (`cleanup`).

mod cleanup;
mod errands;
mod observing;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{Instrument, Span, error_span, info, warn};

use self::errands::Errands;
use super::Deps;
use super::lifeline::Lifeline;
use super::messages::{
    Cause, CauseKind, CredentialsTouched, Fact, Peers, Poke, Report, Resend, Role, ServerReachable, Stop, Wire,
};
use super::tls_door::TlsDoor;
use super::trouble::Trouble;
use super::upkeep::Upkeep;
use super::vault::{KnownSecret, SecretVault};
use crate::backoff::Backoff;
use crate::cluster::{CrRef, Kind, Reason, pause};
use crate::dittofs::{Poll, PollError, Problem, Session};
use crate::reconcile::status::PollFact;
use crate::reconcile::{AdapterTracker, ApiTls, ObservedAdapter, Over, ServerKey, ValidatedServer};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::PollEnd;
use crate::telemetry::metrics::doing::Doing;
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{begin, decided, describe, failed as failed_span};

/// First delay after a failed poll.
const BACKOFF_INITIAL: Duration = Duration::from_millis(250);

/// See the module.
pub struct AdapterPoller {
    key: ServerKey,
    deps: Arc<Deps>,
    peers: Peers,
    /// Delay of the first poll as a share of the period: spreads the polls of many servers after a restart.
    phase: f64,
    settings: Option<Settings>,
    /// How the API was to be reached when the server was last looked at.
    tls: Option<ApiTls>,
    session: Option<Session>,
    tracker: AdapterTracker,
    backoff: Backoff,
    timer: Option<SpawnHandle>,
    under_way: Option<AbortHandle>,
    /// The attempt to take the operator's account back, before the server is deleted.
    farewell: Option<AbortHandle>,
    /// When the timer is to fire.
    due: Option<Instant>,
    /// Start of the current or last poll.
    started: Option<Instant>,
    /// The next poll follows at once when the one under way is over.
    again: bool,
    /// The credentials changed while a poll was under way.
    touched: bool,
    known: KnownSecret,
    upkeep: Upkeep,
    /// What of it is fought over, as told last.
    fought: Vec<String>,
    door: TlsDoor,
    observed: Option<Arc<Vec<ObservedAdapter>>>,
    fact: Option<PollFact>,
    /// What the last poll did not write because the server is paused.
    held: Vec<String>,
    trouble: Trouble,
    errands: Errands,
    _lifeline: Lifeline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    period: Duration,
    grace: Duration,
}

/// The end of a poll; the session comes back, unless the poll panicked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Polled {
    session: Option<Session>,
    result: Option<Result<Poll, PollError>>,
    /// What it did not write because the server is paused, in words.
    held: Vec<String>,
    span: tracing::Span,
}

impl AdapterPoller {
    /// A poller that has asked nothing. `phase` in 0..1 delays its first poll by that share of the period.
    pub fn new(key: ServerKey, deps: Arc<Deps>, peers: Peers, phase: f64, lifeline: Lifeline) -> Self {
        let backoff = Backoff::new(BACKOFF_INITIAL, Duration::from_secs(30), deps.next_seed());
        let (trouble, errands) = (Trouble::new(deps.origin), Errands::new(&deps));
        let upkeep = Upkeep::new(deps.clone());
        Self {
            key,
            deps,
            peers,
            phase,
            settings: None,
            tls: None,
            session: Some(Session::new()),
            tracker: AdapterTracker::new(),
            backoff,
            timer: None,
            due: None,
            under_way: None,
            farewell: None,
            started: None,
            again: false,
            touched: false,
            known: KnownSecret::default(),
            upkeep,
            fought: Vec::new(),
            door: TlsDoor::default(),
            observed: None,
            fact: None,
            held: Vec::new(),
            trouble,
            errands,
            _lifeline: lifeline,
        }
    }

    fn server(&self) -> Option<Arc<ValidatedServer>> {
        let spec = self.deps.spec(&self.key)?;
        let server = spec.server.clone().ok()?;
        (!spec.deleting).then_some(server)
    }

    fn arm(&mut self, ctx: &mut Context<Self>, delay: Duration) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.due = Some(Instant::now() + delay);
        self.timer = Some(ctx.run_later(delay, |poller, ctx| {
            poller.timer = None;
            if let Some(due) = poller.due.take() {
                poller.deps.metrics.poll_late(due.elapsed());
            }
            poller.start(ctx);
        }));
    }

    fn stop(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(poll) = self.under_way.take() {
            poll.abort();
            // What the aborted poll held is gone with it; the stored credentials are loaded anew.
            self.session = Some(Session::new());
        }
        self.errands.stop();
        self.settings = None;
        self.deps.metrics.polls_each(&self.key, None);
        self.started = None;
        self.again = false;
        // A passage that the stop cut short did not last until the start.
        self.tracker = AdapterTracker::new();
    }

    /// Begins the span of a piece of work at `place`.
    fn begin(&self, span: Span, place: &TraceContext, cause: CauseKind) -> Span {
        let span = begin(span, place, &[]);
        describe(&span, || {
            [
                (Attribute::Actor, Role::AdapterPoller.as_str().into()),
                (Attribute::Cause, cause.as_str().into()),
                (Attribute::Namespace, self.key.namespace.clone().into()),
            ]
        });
        span
    }

    /// Starts a poll now, or remembers to when one is under way.
    fn start(&mut self, ctx: &mut Context<Self>) {
        if self.under_way.is_some() {
            self.again = true;
            return;
        }
        let (Some(server), Some(_)) = (self.server(), self.settings) else { return };
        let Some(pass) = self.deps.gate.enter() else { return };
        let Ok(url) = self.deps.template.expand(&self.key, server.api_port, server.api_tls.is_spoken()) else {
            self.told(PollFact::Unreachable("the API's URL cannot be made from --api-url-template".to_owned()));
            return;
        };
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.started = Some(Instant::now());
        self.again = false;
        let mut session = self.session.take().unwrap_or_default();
        let deps = self.deps.clone();
        let span = self.begin(error_span!("poll adapters"), &self.deps.tracer.root(&self.key), CauseKind::Poll);
        let traced = span.clone();
        let name = self.key.name.clone();
        let door = self.door.clone();
        let vault = SecretVault::new(self.deps.clone(), server.clone(), self.known.clone());
        let vault = Arc::new(vault.kept(self.upkeep.clone()));
        let doing = Doing::new(self.deps.metrics.clone(), self.key.clone(), CauseKind::Poll);
        let paused = {
            let (deps, key) = (self.deps.clone(), self.key.clone());
            move || deps.is_paused(&key)
        };
        let poll = doing.around(async move {
            crate::fault::hit_for("adapter-poller.job", &name);
            let _pass = pass;
            let now = Instant::now();
            let result = match door.client(&deps, &server, deps.http.deadline(now)).await {
                Ok(http) => session.poll(&http, &url, vault.as_ref(), now).await,
                Err(error) => Err(error.into()),
            };
            (session, result)
        });
        let task = tokio::spawn(pause::guarded(paused, poll).instrument(span.clone()));
        self.under_way = Some(task.abort_handle());
        let address = ctx.address();
        tokio::spawn(async move {
            let polled = match task.await {
                Ok(((session, result), held)) => {
                    Polled { session: Some(session), result: Some(result), held, span: traced }
                }
                Err(end) if end.is_panic() => Polled { session: None, result: None, held: Vec::new(), span: traced },
                Err(_) => return,
            };
            address.do_send(polled);
        });
    }

    fn told(&mut self, fact: PollFact) {
        if self.fact.as_ref() != Some(&fact) {
            self.fact = Some(fact.clone());
            self.peers.status.do_send(Report {
                fact: Fact::Poll(fact),
                cause: Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter),
            });
        }
    }

    fn tell_held(&mut self, held: Vec<String>) {
        if held != self.held {
            self.held.clone_from(&held);
            let cause = Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter);
            self.peers.status.do_send(Report { fact: Fact::Held(Role::AdapterPoller, held), cause });
        }
    }

    fn failed(&mut self, error: &PollError) {
        let text = error.to_string();
        let (fact, reason) = match error.problem() {
            Problem::Unreachable => (PollFact::Unreachable(text.clone()), Reason::AuthAPIUnreachable),
            Problem::BadAnswer => (PollFact::BadAnswer(text.clone()), Reason::ReconcileFailed),
            Problem::Auth if error.category() == "admin-unauthorized" => {
                (PollFact::Refused(text.clone()), Reason::AdminBootstrapUnauthorized)
            }
            Problem::Auth => (PollFact::Refused(text.clone()), Reason::AuthFailed),
        };
        // A server that has not started yet, and has no administrator or certificate yet, is no trouble that somebody
        // should look at.
        let waits = error.category() == "admin-secret-missing" || error.category().starts_with("tls-");
        let young = matches!(fact, PollFact::Unreachable(_)) || waits;
        let starting = young && self.ready_replicas() == 0;
        if !starting && let Some(again) = self.trouble.failed(reason.as_str()) {
            warn!(
                namespace = self.key.namespace,
                name = self.key.name,
                category = error.category(),
                error = text,
                "the poll failed{again}"
            );
            self.tell_event(reason, "PollAdapters", text, again.times);
        }
        self.told(fact);
    }

    fn ready_replicas(&self) -> i64 {
        let names = crate::reconcile::Names::new(&self.key.name);
        let set = self.deps.caches.stateful_sets.get(&self.key.namespace, &names.stateful_set());
        set.and_then(|set| set.pointer("/status/readyReplicas")?.as_i64()).unwrap_or(0)
    }

    /// The next tick of the fixed period, counted from the start of this poll; ticks that passed meanwhile are left out.
    fn next_tick(&self, period: Duration) -> Duration {
        let elapsed = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        let into = elapsed.as_nanos() % period.as_nanos().max(1);
        period.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)))
    }
}

impl Drop for AdapterPoller {
    /// A server that is gone leaves no request under way.
    fn drop(&mut self) {
        for task in [self.under_way.take(), self.farewell.take()].into_iter().flatten() {
            task.abort();
        }
        self.errands.stop();
    }
}

impl Actor for AdapterPoller {
    type Context = Context<Self>;
}

impl Handler<Poke> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, _: Poke, ctx: &mut Self::Context) {
        crate::fault::hit_for("adapter-poller.handler", &self.key.name);
        if crate::fault::on_for("adapter-poller.block", &self.key.name) {
            ctx.wait(actix::fut::wrap_future(std::future::pending()));
        }
        if crate::fault::on_for("block-all", &self.key.name) {
            std::thread::sleep(Duration::from_hours(1));
        }
        let Some(server) = self.server() else {
            self.stop(ctx);
            return;
        };
        if server.replicas == 0 {
            self.stop(ctx);
            self.told(PollFact::Stopped);
            return;
        }
        let settings = Settings { period: server.polling_interval, grace: server.stop_grace_period };
        let before = self.settings.replace(settings);
        // Another way to the API may be the one that works.
        if self.tls.replace(server.api_tls.clone()).is_some_and(|before| before != server.api_tls)
            && self.fact != Some(PollFact::Answered)
        {
            self.backoff.reset();
            self.start(ctx);
        }
        self.deps.metrics.polls_each(&self.key, Some(settings.period));
        self.take_up_policies(&server, ctx);
        let waiting = self.timer.is_some() || self.under_way.is_some();
        if before.map(|before| before.period) == Some(settings.period) && waiting {
            return;
        }
        self.backoff = Backoff::new(BACKOFF_INITIAL, settings.period, self.deps.next_seed());
        if self.under_way.is_some() {
            return;
        }
        // A new period counts from the last poll; the first poll has its phase.
        let delay = match self.started {
            Some(started) => settings.period.saturating_sub(started.elapsed()),
            None => settings.period.mul_f64(std::mem::take(&mut self.phase)),
        };
        self.arm(ctx, delay);
    }
}

impl Handler<ServerReachable> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, _: ServerReachable, ctx: &mut Self::Context) {
        self.server_is_new();
        if let Some(session) = &mut self.session {
            session.server_is_new(Instant::now());
        }
        if self.fact != Some(PollFact::Answered) {
            self.backoff.reset();
            self.start(ctx);
        }
    }
}

impl Handler<CredentialsTouched> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, _: CredentialsTouched, ctx: &mut Self::Context) {
        self.door.forget();
        if self.under_way.is_none()
            && let Some(session) = &mut self.session
        {
            session.forget();
            if matches!(self.fact, Some(PollFact::Refused(_))) {
                self.backoff.reset();
                self.start(ctx);
            }
        } else {
            // The poll under way may have read the Secret before: what it brings back is loaded anew.
            self.touched = true;
            self.again |= matches!(self.fact, Some(PollFact::Refused(_)));
        }
        self.secret_touched(ctx);
    }
}

impl Handler<Resend> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, _: Resend, _: &mut Self::Context) {
        self.tell_observed(&Cause::here(CauseKind::AdaptersObserved), None);
        if let Some(fact) = self.fact.clone() {
            self.peers.status.do_send(Report {
                fact: Fact::Poll(fact),
                cause: Cause::here(CauseKind::Fact).to(&self.deps.metrics, Role::StatusReporter),
            });
        }
        self.fought.clear();
        self.tell_fights();
        self.resend_snapshots();
    }
}

impl Handler<Wire> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, message: Wire, _: &mut Self::Context) {
        self.peers = message.0;
    }
}

impl Handler<Polled> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, polled: Polled, ctx: &mut Self::Context) {
        if self.under_way.take().is_none() {
            // A poll that was stopped in the moment in which it ended.
            return;
        }
        let span = polled.span;
        // What is told and logged of the poll belongs to it.
        let _within = span.enter();
        let mut session = polled.session.unwrap_or_default();
        if std::mem::take(&mut self.touched) {
            session.forget();
        }
        self.session = Some(session);
        self.deps.metrics.api_certificates(&self.key, self.door.expiries());
        let Some(settings) = self.settings else { return };
        // Tokens that are not stored for the pause stay in memory.
        let paused = !polled.held.is_empty();
        self.tell_held(polled.held);
        self.tell_fights();
        let empty = || Poll { adapters: Vec::new(), provisioned: false, refreshed: false, vault_error: None };
        let result = match polled.result {
            Some(Err(_)) if crate::fault::on("error-is-empty") => Some(Ok(empty())),
            other => other,
        };
        let mut decisions = Vec::new();
        let started = self.started.unwrap_or_else(Instant::now);
        let mut delay = match result {
            Some(Ok(poll)) => {
                self.backoff.reset();
                if poll.provisioned {
                    decisions.push("provisioned");
                }
                if poll.provisioned
                    && let Some(spec) = self.deps.spec(&self.key)
                {
                    info!(namespace = self.key.namespace, name = self.key.name, "provisioned the operator's account");
                    let about = CrRef { key: self.key.clone(), uid: spec.uid.clone() };
                    let note = "The operator's account at the server was provisioned".to_owned();
                    let related =
                        Some((Kind::Secret, crate::reconcile::Names::new(&self.key.name).credentials_secret()));
                    self.deps.event(&about, Reason::AuthProvisioned, "ProvisionAccount", note, related);
                }
                if let Some(error) = poll.vault_error.as_ref().filter(|_| !paused) {
                    if let Some(again) = self.trouble.failed("storing the tokens") {
                        warn!(namespace = self.key.namespace, name = self.key.name, error = %error, "the tokens stay in memory; storing them is tried again{again}");
                    }
                    if let Some(session) = &mut self.session {
                        session.forget();
                    }
                }
                if let Some(over) = Over::all(self.trouble.ended()) {
                    let what = &over.what;
                    info!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        what,
                        "the poll works again after {over}"
                    );
                }
                let diff = self.observe(&poll, settings);
                let end = if diff.is_some() { PollEnd::Changed } else { PollEnd::Unchanged };
                self.deps.metrics.polled(&self.key, started, end);
                if diff.is_some() {
                    decisions.push("observed");
                }
                let decision = if decisions.is_empty() { "unchanged".to_owned() } else { decisions.join(",") };
                decided(&span, &decision, diff.as_deref().unwrap_or_default());
                self.run_errands(poll.provisioned, ctx);
                self.next_tick(settings.period)
            }
            Some(Err(error)) => {
                failed_span(&span, error.category(), &error.to_string());
                self.deps.metrics.polled(&self.key, started, PollEnd::Failed(error.category(), error.problem()));
                self.failed(&error);
                self.trouble.settle();
                self.backoff.next().min(settings.period)
            }
            None => {
                failed_span(&span, "panic", "the poll panicked");
                self.deps.metrics.job_panicked(Role::AdapterPoller);
                self.deps.metrics.polled(&self.key, started, PollEnd::Panicked);
                if let Some(again) = self.trouble.failed("panic") {
                    warn!(
                        namespace = self.key.namespace,
                        name = self.key.name,
                        actor = Role::AdapterPoller.as_str(),
                        "a poll panicked; it is tried again{again}"
                    );
                }
                self.trouble.settle();
                self.backoff.next().min(settings.period)
            }
        };
        if self.again {
            delay = Duration::ZERO;
        }
        self.arm(ctx, delay);
    }
}

impl Handler<Stop> for AdapterPoller {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
