//! What is known of each server for metrics: a few numbers, kept up to date by its actors, gone when the server goes.
//!
//! Pure: times are passed in, as time since the start of the process. Owns nothing that is acted on. Guarantees: what
//! is told of a server that was not added, or is gone, leaves no trace; an update of a known server allocates nothing.

use std::collections::HashMap;
use std::time::Duration;

use super::metrics::table::{
    ADAPTERS, CONDITIONS, PHASES, PROBLEMS, RECONCILERS, SERVER_PURPOSES, SERVER_RESULTS, TRUTHS, WRITTEN,
};
use crate::reconcile::{ServerKey, Slot};

/// Polling intervals after which something that should have followed is late.
pub const LATE_AFTER_INTERVALS: u32 = 3;

/// Everything of one server. Indices are those of the sets in the metrics table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerState {
    /// The polls: their period and since when; None while the server is not polled.
    pub polling: Option<(Duration, Duration)>,
    /// Start of the last poll that was answered in full.
    pub answered: Option<Duration>,
    /// What is wrong with the polls, by index into `PROBLEMS`, and since when.
    pub poll_failing: Option<(usize, Duration)>,
    /// Polls by index into `SERVER_RESULTS`.
    pub polls: [u64; SERVER_RESULTS.len()],
    /// Duration of the last poll.
    pub last_poll: Option<Duration>,
    /// From the start of the last poll that found a change to the last write that it caused.
    pub poll_to_write: Option<Duration>,
    /// Running adapters by index into `ADAPTERS`.
    pub adapters: [u32; ADAPTERS.len()],
    /// How many adapters' Services do not follow, and since when.
    pub services_lag: Option<(u32, Duration)>,
    /// A change of container ports is held back.
    pub held: bool,
    /// StatefulSet writes that rolled the pod.
    pub rollouts: u64,
    /// Writes by index into `WRITTEN`.
    pub writes: [u64; WRITTEN.len()],
    /// Index into `PHASES`; None before the first status.
    pub phase: Option<usize>,
    /// For each of `CONDITIONS` the index into `TRUTHS`; None when it is not there.
    pub conditions: [Option<usize>; CONDITIONS.len()],
    /// For each of `RECONCILERS` since when it fails.
    pub failing: [Option<Duration>; RECONCILERS.len()],
    /// For each of `SERVER_PURPOSES` when its certificate expires, in seconds since 1970.
    pub certificates: [Option<i64>; SERVER_PURPOSES.len()],
    /// For each of `RECONCILERS` its slot.
    pub slots: [Slot; RECONCILERS.len()],
}

impl ServerState {
    /// Age of the last full answer, or of the polling itself; None while the server is not polled.
    pub fn observation_age(&self, now: Duration) -> Option<Duration> {
        let (_, since) = self.polling?;
        Some(now.saturating_sub(self.answered.unwrap_or(since).max(since)))
    }

    /// Whether the observation is older than is fine.
    pub fn observation_is_late(&self, now: Duration) -> bool {
        let limit = self.polling.map(|(interval, _)| interval * LATE_AFTER_INTERVALS);
        self.observation_age(now) > limit && limit.is_some()
    }

    /// Adapters whose Service lags longer than is fine.
    pub fn services_late(&self, now: Duration) -> u32 {
        match (self.services_lag, self.polling) {
            (Some((lagging, since)), Some((interval, _)))
                if now.saturating_sub(since) > interval * LATE_AFTER_INTERVALS =>
            {
                lagging
            }
            _ => 0,
        }
    }

    /// Polling begins, goes on with another period, or ends.
    pub fn polls_each(&mut self, interval: Option<Duration>, now: Duration) {
        self.polling = interval.map(|interval| (interval, self.polling.map_or(now, |(_, since)| since)));
        if interval.is_none() {
            self.poll_failing = None;
            self.services_lag = None;
        }
    }

    /// A poll that started at `started` ended: well, with or without news, or with a problem.
    pub fn polled(&mut self, started: Duration, end: Result<bool, usize>, now: Duration) {
        self.last_poll = Some(now.saturating_sub(started));
        let result = match end {
            Ok(changed) => {
                self.answered = Some(started);
                self.poll_failing = None;
                usize::from(changed)
            }
            Err(problem) => {
                // Whatever is wrong now: it fails since it last did not.
                self.poll_failing = Some((problem, self.poll_failing.map_or(now, |(_, since)| since)));
                2
            }
        };
        self.polls[result] += 1;
    }

    /// So many adapters' Services do not follow what was observed; none clears it, more than none keeps its start.
    pub fn services_lag(&mut self, lagging: u32, since: Duration) {
        self.services_lag = match (lagging, self.services_lag) {
            (0, _) => None,
            (lagging, Some((_, before))) => Some((lagging, before)),
            (lagging, None) => Some((lagging, since)),
        };
    }

    /// A reconcile by `actor` (index into `RECONCILERS`) ended.
    pub fn reconciled(&mut self, actor: usize, failed: bool, now: Duration) {
        self.failing[actor] = if failed { Some(self.failing[actor].unwrap_or(now)) } else { None };
    }
}

/// All servers that have actors.
#[derive(Debug, Default)]
pub struct Fleet {
    servers: HashMap<ServerKey, ServerState>,
}

impl Fleet {
    /// The server has actors; what was known of one of that name is forgotten.
    pub fn add(&mut self, key: &ServerKey) {
        self.servers.insert(key.clone(), ServerState::default());
    }

    /// The server is gone.
    pub fn remove(&mut self, key: &ServerKey) {
        self.servers.remove(key);
    }

    /// Changes what is known of a server that is there.
    pub fn update(&mut self, key: &ServerKey, change: impl FnOnce(&mut ServerState)) {
        if let Some(state) = self.servers.get_mut(key) {
            change(state);
        }
    }

    /// All servers, by key.
    pub fn sorted(&self) -> Vec<(&ServerKey, &ServerState)> {
        let mut all: Vec<_> = self.servers.iter().collect();
        all.sort_unstable_by(|a, b| a.0.cmp(b.0));
        all
    }

    /// The sums over all servers.
    pub fn sums(&self, now: Duration) -> Sums {
        let mut sums = Sums::default();
        for state in self.servers.values() {
            sums.add(state, now);
        }
        sums
    }
}

/// What is told of all servers together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Servers by phase.
    pub phases: [u32; PHASES.len()],
    /// Servers by condition and its status.
    pub conditions: [[u32; TRUTHS.len()]; CONDITIONS.len()],
    /// Running adapters by type.
    pub adapters: [u32; ADAPTERS.len()],
    /// Adapters whose Service is late.
    pub services_late: u32,
    /// The longest lag of a Service.
    pub oldest_lag: Duration,
    /// The oldest observation.
    pub oldest_observation: Duration,
    /// Servers whose observation is late.
    pub observations_late: u32,
    /// Servers whose polls fail, by problem.
    pub poll_failing: [u32; PROBLEMS.len()],
    /// The longest of them.
    pub poll_failing_oldest: [Duration; PROBLEMS.len()],
    /// Servers with a held rollout.
    pub held: u32,
    /// Servers whose reconcile fails, by actor.
    pub failing: [u32; RECONCILERS.len()],
    /// The longest of them.
    pub failing_oldest: [Duration; RECONCILERS.len()],
    /// For each of `SERVER_PURPOSES` when the first certificate expires.
    pub certificates: [Option<i64>; SERVER_PURPOSES.len()],
    /// Slots that are not idle, by actor.
    pub running: [u32; RECONCILERS.len()],
    /// Slots that are dirty, by actor.
    pub dirty: [u32; RECONCILERS.len()],
}

impl Sums {
    fn add(&mut self, state: &ServerState, now: Duration) {
        if let Some(phase) = state.phase {
            self.phases[phase] += 1;
        }
        for (truths, truth) in self.conditions.iter_mut().zip(state.conditions) {
            if let Some(truth) = truth {
                truths[truth] += 1;
            }
        }
        for (sum, one) in self.adapters.iter_mut().zip(state.adapters) {
            *sum += one;
        }
        self.services_late += state.services_late(now);
        if let Some((_, since)) = state.services_lag {
            self.oldest_lag = self.oldest_lag.max(now.saturating_sub(since));
        }
        self.oldest_observation = self.oldest_observation.max(state.observation_age(now).unwrap_or_default());
        self.observations_late += u32::from(state.observation_is_late(now));
        if let Some((problem, since)) = state.poll_failing {
            self.poll_failing[problem] += 1;
            let oldest = &mut self.poll_failing_oldest[problem];
            *oldest = (*oldest).max(now.saturating_sub(since));
        }
        self.held += u32::from(state.held);
        for (first, one) in self.certificates.iter_mut().zip(state.certificates) {
            *first = first.iter().copied().chain(one).min();
        }
        for actor in 0..RECONCILERS.len() {
            if let Some(since) = state.failing[actor] {
                self.failing[actor] += 1;
                self.failing_oldest[actor] = self.failing_oldest[actor].max(now.saturating_sub(since));
            }
            self.running[actor] += u32::from(state.slots[actor].is_running());
            self.dirty[actor] += u32::from(state.slots[actor] == Slot::RunningDirty);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fleet(names: &[&str]) -> (Fleet, Vec<ServerKey>) {
        let mut fleet = Fleet::default();
        let keys: Vec<ServerKey> = names.iter().map(|name| ServerKey::new("ns", *name)).collect();
        for key in &keys {
            fleet.add(key);
        }
        (fleet, keys)
    }

    #[test]
    fn what_is_told_of_a_server_that_is_gone_leaves_no_trace() {
        let (mut fleet, keys) = fleet(&["a", "b"]);
        fleet.update(&keys[0], |state| state.phase = Some(1));
        fleet.update(&keys[1], |state| state.phase = Some(1));
        fleet.remove(&keys[0]);
        fleet.update(&keys[0], |state| state.phase = Some(2));
        let sums = fleet.sums(at(0));
        assert_eq!((sums.phases, fleet.sorted().len()), ([0, 1, 0, 0, 0], 1));
        // One made again under the same name begins with nothing.
        fleet.add(&keys[1]);
        assert_eq!(fleet.sums(at(0)).phases, [0; 5]);
    }

    #[test]
    fn the_oldest_observation_is_that_of_the_polled() {
        let (mut fleet, keys) = fleet(&["polled", "silent", "off"]);
        fleet.update(&keys[0], |state| {
            state.polls_each(Some(at(5)), at(0));
            state.polled(at(90), Ok(false), at(91));
        });
        // Polled since 80 and never answered: that is what it counts from.
        fleet.update(&keys[1], |state| {
            state.polls_each(Some(at(5)), at(80));
            state.polled(at(80), Err(0), at(81));
        });
        fleet.update(&keys[2], |state| {
            state.polls_each(Some(at(5)), at(0));
            state.polled(at(1), Err(1), at(2));
            state.polls_each(None, at(3));
        });
        let sums = fleet.sums(at(95));
        assert_eq!((sums.oldest_observation, sums.observations_late), (at(15), 0));
        assert_eq!((sums.poll_failing, sums.poll_failing_oldest[0]), ([1, 0, 0], at(14)));
        assert_eq!(fleet.sums(at(96)).observations_late, 1, "three intervals have passed for one of them");
    }

    #[test]
    fn a_failure_that_changes_its_face_goes_on() {
        let mut state = ServerState::default();
        state.polls_each(Some(at(5)), at(0));
        state.polled(at(0), Err(0), at(10));
        state.polled(at(10), Err(2), at(20));
        assert_eq!(state.poll_failing, Some((2, at(10))));
        state.polled(at(20), Ok(true), at(21));
        assert_eq!((state.poll_failing, state.polls, state.last_poll), (None, [0, 1, 2], Some(at(1))));
    }

    #[test]
    fn services_are_late_after_three_intervals_from_the_first_lag() {
        let (mut fleet, keys) = fleet(&["a"]);
        let change = |fleet: &mut Fleet, change: &dyn Fn(&mut ServerState)| fleet.update(&keys[0], change);
        change(&mut fleet, &|state| state.polls_each(Some(at(10)), at(0)));
        change(&mut fleet, &|state| state.services_lag(2, at(100)));
        change(&mut fleet, &|state| state.services_lag(1, at(120)));
        assert_eq!(fleet.sums(at(130)).services_late, 0);
        assert_eq!((fleet.sums(at(131)).services_late, fleet.sums(at(131)).oldest_lag), (1, at(31)));
        change(&mut fleet, &|state| state.services_lag(0, at(131)));
        assert_eq!((fleet.sums(at(200)).services_late, fleet.sums(at(200)).oldest_lag), (0, at(0)));
    }

    #[test]
    fn a_reconcile_fails_from_its_first_failure_on() {
        let (mut fleet, keys) = fleet(&["a", "b"]);
        fleet.update(&keys[0], |state| state.reconciled(1, true, at(10)));
        fleet.update(&keys[0], |state| state.reconciled(1, true, at(20)));
        fleet.update(&keys[1], |state| state.reconciled(1, true, at(15)));
        let sums = fleet.sums(at(30));
        assert_eq!((sums.failing, sums.failing_oldest[1]), ([0, 2, 0, 0], at(20)));
        fleet.update(&keys[0], |state| state.reconciled(1, false, at(31)));
        assert_eq!(fleet.sums(at(35)).failing_oldest[1], at(20), "the other one still does");
    }

    #[test]
    fn dirty_slots_run_too() {
        let (mut fleet, keys) = fleet(&["a", "b"]);
        fleet.update(&keys[0], |state| state.slots[2] = Slot::Running);
        fleet.update(&keys[1], |state| state.slots[2] = Slot::RunningDirty);
        let sums = fleet.sums(at(0));
        assert_eq!((sums.running, sums.dirty), ([0, 0, 2, 0], [0, 0, 1, 0]));
    }
}
