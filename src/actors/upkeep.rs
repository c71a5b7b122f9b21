//! What one writer sets back that somebody else had changed or deleted: told as an event each time, and ever more slowly
//! when it is a fight. When the next repair is due is decided in the pure ring ([`Fights`]).
//!
//! Shared between an actor and its job, as [`Trouble`](super::trouble::Trouble) is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;

use super::Deps;
use super::messages::CauseKind;
use crate::cluster::{CrRef, Kind, Reason};
use crate::reconcile::drift::Drifted;
use crate::reconcile::fights::{Fight, Fights};

/// A repair that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// How long.
    pub left: Duration,
    /// Why, in words.
    pub why: String,
}

/// A clone is the same upkeep.
#[derive(Clone)]
pub struct Upkeep {
    deps: Arc<Deps>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    fights: Fights,
    /// Objects that were seen to be there, or made: when one is not, somebody deleted it.
    there: BTreeSet<(Kind, String)>,
}

impl Upkeep {
    /// Nothing was seen yet.
    pub fn new(deps: Arc<Deps>) -> Self {
        Self { deps, state: Arc::default() }
    }

    /// The object is there, and ours.
    pub fn saw(&self, kind: Kind, name: &str) {
        self.state().there.insert((kind, name.to_owned()));
    }

    /// The object is to go: that it does is no drift.
    pub fn gave_up(&self, kind: Kind, name: &str) {
        self.state().there.remove(&(kind, name.to_owned()));
    }

    /// That an object is not there, which was.
    pub fn missing(&self, kind: Kind, name: &str) -> Drifted {
        if self.state().there.contains(&(kind, name.to_owned())) { Drifted::gone() } else { Drifted::default() }
    }

    /// How long a repair has to wait; None when it is due, as it always is when something new is wished for.
    pub fn rest(&self, kind: Kind, name: &str, drifted: &Drifted, cause: CauseKind) -> Option<Rest> {
        if !matches!(cause, CauseKind::ObjectChanged | CauseKind::SecretChanged | CauseKind::Resync | CauseKind::Retry)
        {
            return None;
        }
        let object = format!("{kind} {name}");
        let left = self.state().fights.rest(&object, drifted, self.now())?;
        let why = format!("{object} is changed again and again ({drifted}); it is set back more slowly each time");
        Some(Rest { left, why })
    }

    /// An object was set back; `changes` says from what to what, and is empty for what nobody else may see.
    pub fn repaired(&self, about: &CrRef, kind: Kind, name: &str, drifted: &Drifted, changes: &str) {
        if drifted.fields.is_empty() {
            return;
        }
        for word in drifted.words() {
            self.deps.metrics.drift_repaired(kind, word);
        }
        let related = Some((kind, name.to_owned()));
        // What was deleted and what was edited are two happenings, of which both notes count.
        let gone = *drifted == Drifted::gone();
        let action = if gone { "RestoreDeleted" } else { "RepairDrift" };
        let note = if gone {
            format!("{kind} {name} was deleted by somebody, and was made again")
        } else if changes.is_empty() {
            format!("{kind} {name}: set back {drifted}")
        } else {
            format!("{kind} {name}: set back {drifted}; change the DittoServer instead: {changes}")
        };
        self.deps.event(about, Reason::DriftRepaired, action, note, related.clone());
        let now = self.now();
        let fights = self.state().fights.repaired(&format!("{kind} {name}"), drifted, now);
        for fight in fights {
            let (namespace, server, why) = (&about.key.namespace, &about.key.name, fight.to_string());
            warn!(namespace, name = server, why, "somebody changes back what is repaired");
            self.deps.event(about, Reason::DriftFought, "RepairDrift", why, related.clone());
        }
    }

    /// What is fought over, in words.
    pub fn fought(&self) -> Vec<String> {
        self.state().fights.fought(self.now()).iter().map(Fight::to_string).collect()
    }

    fn now(&self) -> Duration {
        self.deps.origin.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
