//! What every worker is driven by: at most one job at a time, pokes coalesced, failures retried with the actor's own
//! jittered backoff, the end of a job (a panic, too) as a message to the actor.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{Instrument, Span, error, error_span, info};

use super::Deps;
use super::gate::Gate;
use super::messages::{Cause, CauseKind, Fact, Report, Role};
use super::trouble::Trouble;
use crate::backoff::Backoff;
use crate::cluster::pause;
use crate::reconcile::{ServerKey, Slot};
use crate::telemetry::metrics::doing::Doing;
use crate::telemetry::metrics::{Metrics, Outcome};
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{begin, describe, failed, milliseconds};
use crate::telemetry::{TraceContext, Tracer};

/// A job: everything it needs was moved in.
pub type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// First delay after a failure.
const BACKOFF_INITIAL: Duration = Duration::from_millis(200);
/// Longest delay between attempts of a writer.
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// Longest pause within one trace.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether a finished job is to be tried again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It came true, or only a change of the world can help.
    Settled,
    /// It failed: again after backoff.
    Retry,
    /// Again after this long.
    After(Duration),
    /// It came true, and time alone may change that: again after this long.
    Until(Duration),
}

/// The end of a job, in the span of its work.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Finished<T: 'static> {
    /// What it brought back; Err when it panicked.
    pub result: Result<T, Panicked>,
    /// The work.
    pub span: Span,
    /// How long it worked, without its waiting.
    pub worked: Duration,
    /// What it did not write because the server is paused, in words.
    pub held: Vec<String>,
}

/// A job panicked; the panic itself was printed by the process's panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// The state of a worker's flights.
pub struct Flight {
    key: ServerKey,
    role: Role,
    gate: Gate,
    tracer: Tracer,
    metrics: Metrics,
    slot: Slot,
    /// What the next run answers, and when each was handled.
    causes: Vec<(Cause, Instant)>,
    backoff: Backoff,
    retry: Option<SpawnHandle>,
    /// Ends the worker's hold.
    held: Option<SpawnHandle>,
    job: Option<AbortHandle>,
    trouble: Trouble,
    /// Tells whether the server is paused.
    deps: Arc<Deps>,
    /// Whether the last run had something that it did not write for that.
    was_held: bool,
}

impl Flight {
    /// Nothing under way.
    pub fn new(key: ServerKey, role: Role, deps: &Arc<Deps>) -> Self {
        let backoff = Backoff::new(BACKOFF_INITIAL, BACKOFF_CAP, deps.next_seed());
        let (gate, tracer, metrics) = (deps.gate.clone(), deps.tracer.clone(), deps.metrics.clone());
        Self {
            key,
            role,
            gate,
            tracer,
            metrics,
            slot: Slot::Idle,
            causes: Vec::new(),
            backoff,
            retry: None,
            held: None,
            job: None,
            trouble: Trouble::new(deps.origin),
            deps: deps.clone(),
            was_held: false,
        }
    }

    fn tell_slot(&self) {
        self.metrics.slot(&self.key, self.role, self.slot);
    }

    /// Whether a job is under way, and whether another is to follow.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// How many causes the next run will answer.
    pub fn waiting(&self) -> usize {
        self.causes.len()
    }

    /// Whether another attempt waits for its time.
    pub fn is_retrying(&self) -> bool {
        self.retry.is_some()
    }

    /// The delays between attempts.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// What the worker fails at.
    pub fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// Whether a job is under way.
    pub fn is_running(&self) -> bool {
        self.slot.is_running()
    }
}

impl Drop for Flight {
    /// A family that is gone leaves nothing under way.
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            job.abort();
        }
        self.slot = Slot::Idle;
        self.tell_slot();
    }
}

/// An actor that reconciles something, one job at a time.
pub trait Worker: Actor<Context = Context<Self>> + Handler<Finished<Self::Outcome>> {
    /// What a job brings back.
    type Outcome: Send + 'static;
    /// Its flights.
    fn flight(&mut self) -> &mut Flight;
    /// A job over a snapshot of the actor's state. While it waits for its turn it holds that snapshot only: the body is
    /// boxed inside, when it begins.
    fn job(&mut self, cause: &Cause) -> Job<Self::Outcome>;
    /// How long the next run has to wait, whatever is asked for; what is asked meanwhile is answered by one run.
    fn hold(&self) -> Option<Duration> {
        None
    }
    /// Where it tells what it does not write while its server is paused.
    fn status(&self) -> Option<&Recipient<Report>> {
        None
    }
    /// Takes in what a job brought back.
    fn landed(&mut self, outcome: Self::Outcome) -> Verdict;
}

/// Asks for a run: now, after the one that is under way, or when the worker's hold is over.
pub fn poke<W: Worker>(worker: &mut W, ctx: &mut Context<W>, cause: Cause) {
    let flight = worker.flight();
    if let Some(retry) = flight.retry.take() {
        ctx.cancel_future(retry);
    }
    let cause = cause.delivered();
    flight.metrics.caused(flight.role, cause.kind);
    flight.causes.push((cause, Instant::now()));
    go(worker, ctx);
}

/// Starts the next run as soon as it may.
fn go<W: Worker>(worker: &mut W, ctx: &mut Context<W>) {
    if !worker.flight().slot.is_running()
        && let Some(hold) = worker.hold()
    {
        // The causes wait, too: the run after the hold answers all of them.
        if worker.flight().held.is_none() {
            let handle = ctx.run_later(hold, |worker: &mut W, ctx| {
                worker.flight().held = None;
                go(worker, ctx);
            });
            worker.flight().held = Some(handle);
        }
        return;
    }
    let flight = worker.flight();
    let start = flight.slot.poke();
    flight.tell_slot();
    if start {
        launch(worker, ctx);
    }
}

/// The body of every worker's `Handler<Finished<…>>`.
pub fn finished<W: Worker>(worker: &mut W, ctx: &mut Context<W>, end: Finished<W::Outcome>) {
    let Finished { result, span, worked, held } = end;
    // What is told and logged of the outcome belongs to the work.
    let _within = span.enter();
    worker.flight().job = None;
    let panicked = result.is_err();
    let verdict = if let Ok(outcome) = result {
        worker.landed(outcome)
    } else {
        let Flight { key, role, trouble, .. } = worker.flight();
        failed(&span, "panic", "the job panicked");
        if let Some(again) = trouble.failed("job") {
            let actor = role.as_str();
            error!(namespace = key.namespace, name = key.name, actor, "a job panicked; it is tried again{again}");
        }
        trouble.hold();
        Verdict::Retry
    };
    // The end of the pause is an occasion of its own.
    let paused = !held.is_empty();
    let verdict = if paused && verdict == Verdict::Retry { Verdict::Settled } else { verdict };
    tell_held(worker, held);
    let flight = worker.flight();
    let outcome = match verdict {
        _ if panicked => Outcome::Panicked,
        Verdict::Settled | Verdict::Until(_) => Outcome::Settled,
        Verdict::After(_) => Outcome::Deferred,
        Verdict::Retry => Outcome::Failed,
    };
    flight.metrics.reconciled(&flight.key, flight.role, outcome, worked);
    if paused || matches!(verdict, Verdict::After(_)) {
        // What waits for its time found out nothing.
        flight.trouble.settle();
    } else {
        for over in flight.trouble.ended() {
            info!(
                namespace = flight.key.namespace,
                name = flight.key.name,
                actor = flight.role.as_str(),
                what = over.what,
                "works again after {over}"
            );
        }
    }
    let delay = match verdict {
        Verdict::Settled => {
            flight.backoff.reset();
            None
        }
        Verdict::Until(delay) => {
            flight.backoff.reset();
            Some(delay)
        }
        Verdict::Retry => Some(flight.backoff.next()),
        Verdict::After(delay) => Some(delay),
    };
    let again = flight.slot.done();
    flight.tell_slot();
    if again {
        // Back to idle: whether the next run may begin at once is the worker's to say.
        let _ = flight.slot.done();
        flight.tell_slot();
        go(worker, ctx);
    } else if let Some(delay) = delay {
        // A next attempt is a trace of its own: one that fails for a day would never end otherwise. A short pause
        // belongs to what is being done.
        let here = TraceContext::current();
        let attempt = if verdict == Verdict::Retry || delay > PAUSE { here.to_link() } else { here };
        let handle = ctx.run_later(delay, move |worker: &mut W, ctx| {
            worker.flight().retry = None;
            poke(worker, ctx, Cause::of(CauseKind::Retry, attempt));
        });
        worker.flight().retry = Some(handle);
    }
}

/// Tells what the run did not write because the server is paused; once more when there is nothing of it any more.
fn tell_held<W: Worker>(worker: &mut W, held: Vec<String>) {
    let flight = worker.flight();
    let before = std::mem::replace(&mut flight.was_held, !held.is_empty());
    if !before && held.is_empty() {
        return;
    }
    let (role, cause) = (flight.role, Cause::here(CauseKind::Fact).to(&flight.metrics, Role::StatusReporter));
    if let Some(status) = worker.status() {
        status.do_send(Report { fact: Fact::Held(role, held), cause });
    }
}

fn launch<W: Worker>(worker: &mut W, ctx: &mut Context<W>) {
    let flight = worker.flight();
    let causes = std::mem::take(&mut flight.causes);
    let Some(pass) = flight.gate.enter() else {
        let _ = flight.slot.done();
        flight.tell_slot();
        return;
    };
    let run = Work::of(flight, causes);
    let (role, metrics) = (flight.role, flight.metrics.clone());
    let paused = {
        let (deps, key) = (flight.deps.clone(), flight.key.clone());
        move || deps.is_paused(&key)
    };
    let doing = Doing::new(metrics.clone(), flight.key.clone(), run.cause.kind);
    let job = worker.job(&run.cause);
    let begun = Arc::new(OnceLock::new());
    let shared = begun.clone();
    let task = tokio::spawn(async move {
        let _turn = pass.turn(role == Role::ServiceReconciler).await;
        let span = run.begin();
        let _ = shared.set((span.clone(), Instant::now()));
        metrics.reconcile_begins(role, run.first.elapsed());
        pause::guarded(paused, doing.around(job)).instrument(span).await
    });
    worker.flight().job = Some(task.abort_handle());
    let address = ctx.address();
    tokio::spawn(async move {
        let ended = task.await;
        let (span, since) = begun.get().cloned().unwrap_or_else(|| (Span::none(), Instant::now()));
        let took = since.elapsed();
        match ended {
            Ok((outcome, held)) => address.do_send(Finished { result: Ok(outcome), span, worked: took, held }),
            Err(end) if end.is_panic() => {
                address.do_send(Finished { result: Err(Panicked), span, worked: took, held: Vec::new() });
            }
            // Aborted: the actor is gone.
            Err(_) => {}
        }
    });
}

/// A run that is about to begin.
struct Work {
    key: ServerKey,
    role: Role,
    /// What it is traced to.
    cause: Cause,
    handled: Instant,
    launched: Instant,
    /// When the oldest cause came.
    first: Instant,
    place: TraceContext,
    /// The other causes, and the attempt that this one repeats.
    coalesced: Vec<TraceContext>,
    count: usize,
}

impl Work {
    fn of(flight: &Flight, mut causes: Vec<(Cause, Instant)>) -> Self {
        let launched = Instant::now();
        let count = causes.len();
        let oldest = causes.iter().map(|(cause, _)| cause.at).min().unwrap_or(launched);
        // The first of the highest rank.
        let first = (0..count).rev().max_by_key(|index| causes[*index].0.kind.rank()).unwrap_or_default();
        let (cause, handled) = if causes.is_empty() {
            (Cause::of(CauseKind::Retry, TraceContext::default()), launched)
        } else {
            causes.remove(first)
        };
        let mut coalesced: Vec<TraceContext> = causes.into_iter().map(|(cause, _)| cause.trace).collect();
        let place = if cause.trace.is_open() {
            cause.trace.clone()
        } else {
            coalesced.push(cause.trace.clone());
            flight.tracer.root(&flight.key)
        };
        // It was made in the place of the causes, which are much larger, and may have to wait for long.
        coalesced.shrink_to_fit();
        Self {
            key: flight.key.clone(),
            role: flight.role,
            cause,
            handled,
            launched,
            first: oldest,
            place,
            coalesced,
            count,
        }
    }

    /// The span of the work; the waiting before it is told by its attributes.
    fn begin(&self) -> Span {
        let span = error_span!("work", otel.name = self.role.work());
        let span = begin(span, &self.place, &self.coalesced);
        describe(&span, || {
            [
                (Attribute::Actor, self.role.as_str().into()),
                (Attribute::Cause, self.cause.kind.as_str().into()),
                (Attribute::Namespace, self.key.namespace.clone().into()),
                (Attribute::MailboxTime, milliseconds(self.handled.duration_since(self.cause.at)).into()),
                (Attribute::SlotTime, milliseconds(self.launched.duration_since(self.handled)).into()),
                (Attribute::TurnTime, milliseconds(self.launched.elapsed()).into()),
                (Attribute::Coalesced, i64::try_from(self.count).unwrap_or(i64::MAX).into()),
            ]
        });
        span
    }
}
