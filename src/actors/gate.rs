//! The gate that every write passes: closed at shutdown, and then waited for until the last job is through. Inside,
//! jobs take turns: each holds the objects that it works on, and hundreds of servers can have something to do at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::telemetry::metrics::{Metrics, Turn};

/// Jobs that run at once and change what clients see: Services.
const URGENT_AT_ONCE: usize = 16;
/// All others that run at once. They are the many; fewer of them leave the API server free for the urgent ones: with eight
/// in place of four, a fleet of 200 servers had its Services a third later.
const OTHERS_AT_ONCE: usize = 4;

/// Counts jobs under way and refuses new ones once closed. A clone is the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    closed: AtomicBool,
    inside: AtomicUsize,
    left: Notify,
    urgent: Semaphore,
    others: Semaphore,
    metrics: Metrics,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            closed: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            left: Notify::new(),
            urgent: Semaphore::new(URGENT_AT_ONCE),
            others: Semaphore::new(OTHERS_AT_ONCE),
            metrics: Metrics::default(),
        }
    }
}

/// Held by a job while it runs.
#[derive(Debug)]
pub struct Pass(Arc<Inner>);

impl Gate {
    /// An open gate that counts who waits for a turn.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner { metrics, ..Inner::default() }))
    }

    /// A pass for one job; None once the gate is closed.
    pub fn enter(&self) -> Option<Pass> {
        self.0.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(self.0.clone());
        // Counted first, so that a closing gate either refuses this job or waits for it.
        (!self.0.closed.load(Ordering::SeqCst)).then_some(pass)
    }

    /// No job starts from now on.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }

    /// Waits until no job is under way, at most for `patience`. True when none is.
    pub async fn drained(&self, patience: Duration) -> bool {
        let empty = async {
            loop {
                let left = self.0.left.notified();
                if self.0.inside.load(Ordering::SeqCst) == 0 {
                    return;
                }
                left.await;
            }
        };
        tokio::time::timeout(patience, empty).await.is_ok()
    }
}

impl Pass {
    /// Waits for a turn among the jobs; it ends when what is returned is dropped.
    pub async fn turn(&self, urgent: bool) -> Option<SemaphorePermit<'_>> {
        let (turns, turn) = if urgent { (&self.0.urgent, Turn::Urgent) } else { (&self.0.others, Turn::Other) };
        let _waiting = self.0.metrics.waits_for_turn(turn);
        turns.acquire().await.ok()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        self.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Format;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_is_counted_until_it_has_one_or_gives_up() {
        let metrics = Metrics::default();
        let gate = Gate::new(metrics.clone());
        let waiting = || {
            let text = metrics.encode(Format::Prometheus).expect("text");
            let line = text.lines().find(|line| line.starts_with("dittofs_operator_turns_waiting{class=\"other\"}"));
            line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned()).expect("a series")
        };
        let passes: Vec<Pass> = (0..=OTHERS_AT_ONCE).map(|_| gate.enter().expect("open")).collect();
        let mut turns = Vec::new();
        for pass in &passes[1..] {
            turns.push(pass.turn(false).await);
        }
        let late = tokio::time::timeout(Duration::from_secs(1), passes[0].turn(false));
        let mut late = Box::pin(late);
        assert!(futures::poll!(late.as_mut()).is_pending());
        assert_eq!(waiting(), "1.0");
        assert!(late.await.is_err(), "all turns are taken");
        assert_eq!(waiting(), "0.0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_refuses_and_waits_for_who_is_inside() {
        let gate = Gate::default();
        let pass = gate.enter().expect("open");
        gate.close();
        assert!(gate.enter().is_none());
        assert!(!gate.drained(Duration::from_secs(1)).await, "one is inside");
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.drained(Duration::from_mins(1)).await }
        });
        tokio::task::yield_now().await;
        drop(pass);
        assert!(waiting.await.expect("no panic"));
    }
}
