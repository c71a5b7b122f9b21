//! Whether the actors live: the Supervisor's heartbeat, and the pulse of each of its children.
//!
//! The Supervisor asks each child every [`ROUND`] ticks of its own heartbeat and remembers since when one owes the
//! answer; a child answers with one store to an atomic. `/healthz` reads both from a thread of its own, so that it
//! speaks while no actor does.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::adapter_poller::AdapterPoller;
use super::config_hasher::ConfigHasher;
use super::cr_watcher::CrWatcher;
use super::messages::Role;
use super::port_reconciler::PortReconciler;
use super::service_reconciler::ServiceReconciler;
use super::status_reporter::StatusReporter;
use crate::reconcile::ServerKey;

/// How often the heart beats.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// Each child is asked once in that many beats, and in each beat that part of the families: never all at once.
pub const ROUND: u64 = 10;
/// A heart that has not beaten for this long has stopped, and so has an actor that owes its answer for as long.
pub const STANDSTILL: Duration = Duration::from_secs(10);

/// The heart of the process.
#[derive(Debug)]
pub struct Heart {
    origin: Instant,
    /// Milliseconds since the origin.
    beat: AtomicU64,
    watcher: Arc<Pulse>,
    families: Mutex<HashMap<ServerKey, Arc<Pulse>>>,
}

/// Of the children of one family, or of the watcher: since when each owes an answer.
#[derive(Debug, Default)]
pub struct Pulse([AtomicU64; ROLES]);

/// Kinds of children.
const ROLES: usize = 6;

/// To a child: say that you live.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Beat {
    pulse: Arc<Pulse>,
    role: Role,
}

/// What has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standstill {
    /// The whole actor system.
    System(Duration),
    /// Some actors; the one that owes its answer for the longest time, and how many there are.
    Actor {
        /// Which.
        role: Role,
        /// Of which server; None for the watcher.
        server: Option<ServerKey>,
        /// For how long.
        silent: Duration,
        /// How many more.
        others: usize,
    },
}

impl fmt::Display for Standstill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(silent) => write!(f, "the actor system has not turned for {} s", silent.as_secs()),
            Self::Actor { role, server, silent, others } => {
                write!(f, "the actor {}", role.as_str())?;
                if let Some(server) = server {
                    write!(f, " of {server}")?;
                }
                write!(f, " has not answered for {} s", silent.as_secs())?;
                if *others > 0 { write!(f, "; {others} more do not answer") } else { Ok(()) }
            }
        }
    }
}

impl Heart {
    /// A heart that beats for the first time now; times are counted from `origin`.
    pub fn new(origin: Instant) -> Arc<Self> {
        let heart = Self { origin, beat: AtomicU64::new(0), watcher: Arc::default(), families: Mutex::default() };
        heart.beat();
        Arc::new(heart)
    }

    /// The Supervisor turns.
    pub fn beat(&self) {
        self.beat.store(self.now(), Ordering::Relaxed);
    }

    /// When it beat last, since the origin.
    pub fn last(&self) -> Duration {
        Duration::from_millis(self.beat.load(Ordering::Relaxed))
    }

    /// The pulse of a family, new if there was none.
    pub fn family(&self, key: &ServerKey) -> Arc<Pulse> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default().clone()
    }

    /// The pulse of the watcher.
    pub fn watcher(&self) -> Arc<Pulse> {
        self.watcher.clone()
    }

    /// The family was stopped.
    pub fn forget(&self, key: &ServerKey) {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The question for a child; None while it owes the answer to the one before.
    pub fn ask(&self, pulse: &Arc<Pulse>, role: Role) -> Option<Beat> {
        // Zero means that nothing is owed.
        let asked = pulse.0[role as usize].compare_exchange(0, self.now().max(1), Ordering::Relaxed, Ordering::Relaxed);
        asked.is_ok().then(|| Beat { pulse: pulse.clone(), role })
    }

    /// What has stopped, if anything has.
    pub fn standstill(&self) -> Option<Standstill> {
        let now = self.origin.elapsed();
        let silent = now.saturating_sub(self.last());
        if silent > STANDSTILL {
            return Some(Standstill::System(silent));
        }
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let pulses = families.iter().map(|(key, pulse)| (Some(key), pulse)).chain([(None, &self.watcher)]);
        let silent = pulses.flat_map(|(key, pulse)| pulse.owed().map(move |(role, since)| (since, key, role)));
        let mut stopped: Vec<_> = silent.filter(|(since, ..)| now.saturating_sub(*since) > STANDSTILL).collect();
        stopped.sort();
        let (since, server, role) = stopped.first()?;
        Some(Standstill::Actor {
            role: *role,
            server: server.cloned(),
            silent: now.saturating_sub(*since),
            others: stopped.len() - 1,
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Pulse {
    /// A child is new and owes nothing.
    pub fn reset(&self, role: Role) {
        self.0[role as usize].store(0, Ordering::Relaxed);
    }

    /// Who owes an answer, and since when.
    fn owed(&self) -> impl Iterator<Item = (Role, Duration)> {
        let all = Role::ALL.into_iter().map(|role| (role, self.0[role as usize].load(Ordering::Relaxed)));
        all.filter(|(_, since)| *since != 0).map(|(role, since)| (role, Duration::from_millis(since)))
    }
}

/// Every child answers alike.
macro_rules! alive {
    ($($actor:ty),+) => {$(
        impl Handler<Beat> for $actor {
            type Result = ();
            fn handle(&mut self, beat: Beat, _: &mut Self::Context) {
                beat.pulse.reset(beat.role);
            }
        }
    )+};
}

alive!(AdapterPoller, ConfigHasher, CrWatcher, PortReconciler, ServiceReconciler, StatusReporter);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_owes_its_answer_is_named_with_its_server_the_oldest_first() {
        let heart = Heart::new(Instant::now());
        let (files, other) = (ServerKey::new("team", "files"), ServerKey::new("team", "other"));
        let first = heart.ask(&heart.family(&files), Role::PortReconciler).expect("nothing is owed");
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = heart.ask(&heart.family(&other), Role::AdapterPoller).expect("nothing is owed");
        assert!(heart.ask(&heart.family(&other), Role::AdapterPoller).is_none(), "one question at a time");
        tokio::time::advance(STANDSTILL).await;
        heart.beat();
        let text = |heart: &Heart| heart.standstill().map(|stopped| stopped.to_string());
        assert_eq!(text(&heart).as_deref(), Some("the actor port-reconciler of team/files has not answered for 11 s"));
        tokio::time::advance(Duration::from_secs(1)).await;
        heart.beat();
        assert_eq!(
            text(&heart).as_deref(),
            Some("the actor port-reconciler of team/files has not answered for 12 s; 1 more do not answer")
        );
        first.pulse.reset(first.role);
        assert_eq!(text(&heart).as_deref(), Some("the actor adapter-poller of team/other has not answered for 11 s"));
        heart.forget(&other);
        assert_eq!(text(&heart), None);
        drop(second);
        assert!(heart.ask(&heart.watcher(), Role::CrWatcher).is_some());
        tokio::time::advance(STANDSTILL + Duration::from_secs(1)).await;
        assert_eq!(text(&heart).as_deref(), Some("the actor system has not turned for 12 s"));
        heart.beat();
        assert_eq!(text(&heart).as_deref(), Some("the actor cr-watcher has not answered for 11 s"));
    }
}
