//! How often a child may end before the process gives up, and how long it waits for its next life.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::actors::messages::Role;
use crate::backoff::Backoff;
use crate::reconcile::ServerKey;

/// Ends of one child that are survived within the window.
const BUDGET: usize = 5;
/// The window.
const BUDGET_WINDOW: Duration = Duration::from_mins(1);
/// First and longest delay before a child is started anew.
pub(super) const RESPAWN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A child: whose, and which; of no server the watcher.
type Child = (Option<ServerKey>, Role);

/// The ends of all children, each counted for itself.
#[derive(Default)]
pub(super) struct Budget(HashMap<Child, Restarts>);

struct Restarts {
    recent: VecDeque<Instant>,
    backoff: Backoff,
}

impl Budget {
    /// One end more. After what delay the child may be started anew; None when it ended too often.
    pub(super) fn spend(&mut self, child: Child, seed: u64, now: Instant) -> Option<Duration> {
        let restarts = self
            .0
            .entry(child)
            .or_insert_with(|| Restarts { recent: VecDeque::new(), backoff: Backoff::new(RESPAWN.0, RESPAWN.1, seed) });
        while restarts.recent.front().is_some_and(|first| now.duration_since(*first) > BUDGET_WINDOW) {
            restarts.recent.pop_front();
        }
        if restarts.recent.is_empty() {
            restarts.backoff.reset();
        }
        restarts.recent.push_back(now);
        (restarts.recent.len() <= BUDGET).then(|| restarts.backoff.next())
    }

    /// The family of this server is no more.
    pub(super) fn forget(&mut self, key: &ServerKey) {
        self.0.retain(|(owner, _), _| owner.as_ref() != Some(key));
    }
}
