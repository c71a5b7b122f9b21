//! What one actor fails at again and again, shared with its job: which of the failures are told is decided in the pure
//! ring ([`Repeats`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::pause;
use crate::reconcile::{Again, Over, Repeats};

/// A clone is the same trouble.
#[derive(Clone, Debug)]
pub struct Trouble {
    repeats: Arc<Mutex<Repeats>>,
    origin: Instant,
}

impl Trouble {
    /// None yet; times are counted from `origin`.
    pub fn new(origin: Instant) -> Self {
        Self { repeats: Arc::default(), origin }
    }

    /// `what` failed; Some when that is to be logged and told as event.
    pub fn failed(&self, what: &str) -> Option<Again> {
        // What is not written because the server is paused is no failure; its status says it.
        if pause::was_refused() {
            return None;
        }
        let now = self.now();
        self.repeats().failed(what, now)
    }

    /// The job found out nothing about what failed before.
    pub fn hold(&self) {
        self.repeats().hold();
    }

    /// An attempt failed as a whole: nothing is over.
    pub fn settle(&self) {
        self.repeats().settle();
    }

    /// A job is over; what of the trouble is over, too.
    pub fn ended(&self) -> Vec<Over> {
        let now = self.now();
        self.repeats().ended(now)
    }

    /// What fails now, and how often it did.
    pub fn failing(&self) -> Vec<(String, u32)> {
        self.repeats().failing().map(|(what, times)| (what.to_owned(), times)).collect()
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
