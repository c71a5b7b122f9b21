//! What every worker is driven by: at most one job at a time, pokes coalesced, failures retried with the actor's own
//! jittered backoff, the end of a job (a panic, too) as a message to the actor.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix::prelude::*;
use tokio::task::AbortHandle;
use tracing::{Instrument, Span, error};

use super::gate::Gate;
use super::messages::{Cause, CauseKind, Role};
use crate::backoff::Backoff;
use crate::reconcile::{ServerKey, Slot};

/// A job: everything it needs was moved in.
pub type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// First delay after a failure.
const BACKOFF_INITIAL: Duration = Duration::from_millis(200);
/// Longest delay between attempts of a writer.
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// Whether a finished job is to be tried again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It came true, or only a change of the world can help.
    Settled,
    /// It failed: again after backoff.
    Retry,
    /// Again after this long.
    After(Duration),
}

/// The end of a job; Err when it panicked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Finished<T: 'static>(pub Result<T, Panicked>);

/// A job panicked; the panic itself was printed by the process's panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// The state of a worker's flights.
#[derive(Debug)]
pub struct Flight {
    key: ServerKey,
    role: Role,
    gate: Gate,
    slot: Slot,
    causes: Vec<Cause>,
    backoff: Backoff,
    retry: Option<SpawnHandle>,
    job: Option<AbortHandle>,
}

impl Flight {
    /// Nothing under way.
    pub fn new(key: ServerKey, role: Role, gate: Gate, seed: u64) -> Self {
        let backoff = Backoff::new(BACKOFF_INITIAL, BACKOFF_CAP, seed);
        Self { key, role, gate, slot: Slot::Idle, causes: Vec::new(), backoff, retry: None, job: None }
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
    }
}

/// An actor that reconciles something, one job at a time.
pub trait Worker: Actor<Context = Context<Self>> + Handler<Finished<Self::Outcome>> {
    /// What a job brings back.
    type Outcome: Send + 'static;
    /// Its flights.
    fn flight(&mut self) -> &mut Flight;
    /// A job over a snapshot of the actor's state.
    fn job(&mut self, cause: &Cause) -> Job<Self::Outcome>;
    /// Takes in what a job brought back.
    fn landed(&mut self, outcome: Self::Outcome) -> Verdict;
}

/// Asks for a run: now, or after the one that is under way.
pub fn poke<W: Worker>(worker: &mut W, ctx: &mut Context<W>, cause: Cause) {
    let flight = worker.flight();
    if let Some(retry) = flight.retry.take() {
        ctx.cancel_future(retry);
    }
    flight.causes.push(cause);
    if flight.slot.poke() {
        launch(worker, ctx);
    }
}

/// The body of every worker's `Handler<Finished<…>>`.
pub fn finished<W: Worker>(worker: &mut W, ctx: &mut Context<W>, end: Finished<W::Outcome>) {
    worker.flight().job = None;
    let verdict = if let Ok(outcome) = end.0 {
        worker.landed(outcome)
    } else {
        let Flight { key, role, .. } = worker.flight();
        error!(namespace = key.namespace, name = key.name, actor = role.as_str(), "a job panicked; it is tried again");
        Verdict::Retry
    };
    let flight = worker.flight();
    let delay = match verdict {
        Verdict::Settled => {
            flight.backoff.reset();
            None
        }
        Verdict::Retry => Some(flight.backoff.next()),
        Verdict::After(delay) => Some(delay),
    };
    if flight.slot.done() {
        launch(worker, ctx);
    } else if let Some(delay) = delay {
        let handle = ctx.run_later(delay, |worker: &mut W, ctx| {
            worker.flight().retry = None;
            poke(worker, ctx, Cause { kind: CauseKind::Retry, span: Span::none() });
        });
        worker.flight().retry = Some(handle);
    }
}

fn launch<W: Worker>(worker: &mut W, ctx: &mut Context<W>) {
    let flight = worker.flight();
    let causes = std::mem::take(&mut flight.causes);
    let Some(pass) = flight.gate.enter() else {
        let _ = flight.slot.done();
        return;
    };
    let (key, role) = (flight.key.clone(), flight.role);
    // The first cause is the parent; the others are links once spans are exported.
    let cause = causes.into_iter().next().unwrap_or_else(|| Cause { kind: CauseKind::Retry, span: Span::none() });
    let span = tracing::debug_span!(parent: &cause.span, "reconcile", actor = role.as_str(), namespace = key.namespace, name = key.name, cause = cause.kind.as_str());
    let job = worker.job(&cause).instrument(span);
    let task = tokio::spawn(async move {
        let _turn = pass.turn(role == Role::ServiceReconciler).await;
        job.await
    });
    worker.flight().job = Some(task.abort_handle());
    let address = ctx.address();
    tokio::spawn(async move {
        match task.await {
            Ok(outcome) => address.do_send(Finished(Ok(outcome))),
            Err(end) if end.is_panic() => address.do_send(Finished(Err(Panicked))),
            // Aborted: the actor is gone.
            Err(_) => {}
        }
    });
}
