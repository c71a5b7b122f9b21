//! What a server's answers about its adapters mean over time.
//!
//! Owns the one thing that a single answer cannot tell: since when an enabled adapter has not been running. It reads
//! no clock; moments are passed in as the time since an origin that the caller chooses and keeps.
//! It guarantees that only an answer changes what is observed: no time that passes without one stops an adapter.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AdapterState, ObservedAdapter};

/// One adapter as a single valid answer of the server reports it (`GET /api/v1/adapters`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedAdapter {
    /// Adapter type, unique in an answer (`nfs`, `smb`); 1 to 253 characters.
    pub adapter_type: String,
    /// The port that the server stores; 1–65535 when the adapter is enabled or running, else it can be 0.
    pub port: u16,
    /// Whether the server is to run it.
    pub enabled: bool,
    /// Whether it runs at this moment.
    pub running: bool,
}

/// Remembers for one server since when each enabled adapter is not running.
///
/// Enabled without running is a passage (the server has just started, or drains clients to move a port) until it has
/// lasted `spec.adapterDiscovery.stopGracePeriod`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdapterTracker {
    waiting_since: BTreeMap<String, Duration>,
}

impl AdapterTracker {
    /// A tracker that has seen no answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a full, valid answer that came at `now` and says what each adapter in it does, sorted by type.
    ///
    /// Whatever is not in the answer is gone, and forgotten.
    pub fn observe(&mut self, answer: &[ReportedAdapter], now: Duration, stop_grace: Duration) -> Vec<ObservedAdapter> {
        let mut still_waiting = BTreeMap::new();
        let mut observed: Vec<ObservedAdapter> = answer
            .iter()
            .map(|adapter| {
                let state = match (adapter.enabled, adapter.running) {
                    (false, _) => AdapterState::Stopped,
                    (true, true) => AdapterState::Running,
                    (true, false) => {
                        let since = self.waiting_since.get(&adapter.adapter_type).copied().unwrap_or(now);
                        still_waiting.insert(adapter.adapter_type.clone(), since);
                        if now.saturating_sub(since) >= stop_grace {
                            AdapterState::Stopped
                        } else {
                            AdapterState::Passage
                        }
                    }
                };
                ObservedAdapter { adapter_type: adapter.adapter_type.clone(), port: adapter.port, state }
            })
            .collect();
        self.waiting_since = still_waiting;
        observed.sort();
        observed
    }

    /// The moment after `now`, since the same origin, at which the earliest passage will have lasted `stop_grace`.
    ///
    /// That is when to ask the server again, not when to decide: the adapter may run by then.
    pub fn next_deadline(&self, now: Duration, stop_grace: Duration) -> Option<Duration> {
        self.waiting_since
            .values()
            .filter_map(|since| since.checked_add(stop_grace))
            .filter(|deadline| *deadline > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(35);

    fn adapter(adapter_type: &str, port: u16, enabled: bool, running: bool) -> ReportedAdapter {
        ReportedAdapter { adapter_type: adapter_type.to_owned(), port, enabled, running }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The states of `nfs` over a series of answers, each (second, enabled, running).
    fn states(answers: &[(u64, bool, bool)]) -> Vec<AdapterState> {
        let mut tracker = AdapterTracker::new();
        answers
            .iter()
            .map(|(second, enabled, running)| {
                tracker.observe(&[adapter("nfs", 12049, *enabled, *running)], at(*second), GRACE)[0].state
            })
            .collect()
    }

    #[test]
    fn each_series_of_answers_has_its_states() {
        use AdapterState::{Passage, Running, Stopped};
        type Row<'a> = (&'a str, &'a [(u64, bool, bool)], &'a [AdapterState]);
        let table: &[Row<'_>] = &[
            ("runs", &[(0, true, true), (100, true, true)], &[Running, Running]),
            ("disabled stops at once", &[(0, true, true), (1, false, false)], &[Running, Stopped]),
            ("disabled counts even while it still runs", &[(0, false, true)], &[Stopped]),
            (
                "passage, then runs",
                &[(0, true, false), (34, true, false), (35, true, true)],
                &[Passage, Passage, Running],
            ),
            ("passage ends at the grace", &[(0, true, false), (35, true, false)], &[Passage, Stopped]),
            ("stays stopped", &[(0, true, false), (35, true, false), (36, true, false)], &[Passage, Stopped, Stopped]),
            (
                "runs after a stop",
                &[(0, true, false), (40, true, false), (41, true, true)],
                &[Passage, Stopped, Running],
            ),
            (
                "running resets",
                &[(0, true, false), (30, true, true), (40, true, false), (74, true, false), (75, true, false)],
                &[Passage, Running, Passage, Passage, Stopped],
            ),
            (
                "disabling resets",
                &[(0, true, false), (30, false, false), (40, true, false), (74, true, false)],
                &[Passage, Stopped, Passage, Passage],
            ),
        ];
        for (name, answers, expected) in table {
            assert_eq!(&states(answers), expected, "{name}");
        }
    }

    #[test]
    fn a_move_to_another_port_does_not_restart_the_passage() {
        let mut tracker = AdapterTracker::new();
        tracker.observe(&[adapter("nfs", 12049, true, false)], at(0), GRACE);
        let moved = tracker.observe(&[adapter("nfs", 13049, true, false)], at(35), GRACE);
        assert_eq!(
            moved,
            [ObservedAdapter { adapter_type: "nfs".to_owned(), port: 13049, state: AdapterState::Stopped }]
        );
    }

    #[test]
    fn what_is_not_in_the_answer_is_gone_and_starts_anew_when_it_returns() {
        let mut tracker = AdapterTracker::new();
        tracker.observe(&[adapter("nfs", 12049, true, false)], at(0), GRACE);
        assert_eq!(tracker.observe(&[], at(10), GRACE), []);
        assert_eq!(tracker, AdapterTracker::new(), "nothing is remembered of it");
        let back = tracker.observe(&[adapter("nfs", 12049, true, false)], at(40), GRACE);
        assert_eq!(back[0].state, AdapterState::Passage);
    }

    #[test]
    fn the_result_is_sorted_by_type() {
        let mut tracker = AdapterTracker::new();
        let answer = [adapter("smb", 1445, true, true), adapter("nfs", 12049, true, true)];
        let types: Vec<_> =
            tracker.observe(&answer, at(0), GRACE).into_iter().map(|adapter| adapter.adapter_type).collect();
        assert_eq!(types, ["nfs", "smb"]);
    }

    #[test]
    fn a_changed_grace_counts_from_the_same_start() {
        let mut tracker = AdapterTracker::new();
        let answer = [adapter("nfs", 12049, true, false)];
        tracker.observe(&answer, at(0), GRACE);
        assert_eq!(tracker.observe(&answer, at(5), at(5))[0].state, AdapterState::Stopped);
        assert_eq!(tracker.observe(&answer, at(6), GRACE)[0].state, AdapterState::Passage);
        assert_eq!(tracker.observe(&answer, at(7), Duration::ZERO)[0].state, AdapterState::Stopped);
    }

    #[test]
    fn the_next_deadline_is_that_of_the_earliest_passage_still_open() {
        let mut tracker = AdapterTracker::new();
        assert_eq!(tracker.next_deadline(at(0), GRACE), None);
        let nfs = adapter("nfs", 12049, true, false);
        let smb = adapter("smb", 1445, true, false);
        tracker.observe(std::slice::from_ref(&nfs), at(0), GRACE);
        tracker.observe(&[nfs, smb], at(10), GRACE);
        assert_eq!(tracker.next_deadline(at(10), GRACE), Some(at(35)));
        assert_eq!(tracker.next_deadline(at(35), GRACE), Some(at(45)));
        assert_eq!(tracker.next_deadline(at(45), GRACE), None);
        assert_eq!(tracker.next_deadline(at(10), Duration::MAX), Some(Duration::MAX), "and no overflow");
    }

    /// What the rule says, worked out from the whole history instead of from a memory.
    fn by_history(history: &[(Duration, Vec<ReportedAdapter>)], grace: Duration) -> Vec<ObservedAdapter> {
        let (now, last) = history.last().expect("a history");
        let mut observed: Vec<_> = last
            .iter()
            .map(|adapter| {
                let waiting_since = history
                    .iter()
                    .rev()
                    .take_while(|(_, answer)| {
                        answer.iter().any(|a| a.adapter_type == adapter.adapter_type && a.enabled && !a.running)
                    })
                    .last()
                    .map(|(moment, _)| *moment);
                let state = match waiting_since {
                    _ if !adapter.enabled => AdapterState::Stopped,
                    None => AdapterState::Running,
                    Some(since) if *now < since + grace => AdapterState::Passage,
                    Some(_) => AdapterState::Stopped,
                };
                ObservedAdapter { adapter_type: adapter.adapter_type.clone(), port: adapter.port, state }
            })
            .collect();
        observed.sort();
        observed
    }

    fn answers() -> impl Strategy<Value = Vec<ReportedAdapter>> {
        prop::collection::btree_map("[a-d]", (1_u16.., any::<bool>(), any::<bool>()), 0..4).prop_map(|adapters| {
            adapters
                .into_iter()
                .map(|(adapter_type, (port, enabled, running))| adapter(&adapter_type, port, enabled, running))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn memory_and_history_agree(
            steps in prop::collection::vec((0_u64..20, answers()), 1..25),
            grace in 0_u64..40,
        ) {
            let grace = at(grace);
            let mut tracker = AdapterTracker::new();
            let mut now = at(0);
            let mut history = Vec::new();
            for (pause, answer) in steps {
                now += at(pause);
                let observed = tracker.observe(&answer, now, grace);
                history.push((now, answer.clone()));
                prop_assert_eq!(&observed, &by_history(&history, grace));

                let passages = observed.iter().filter(|a| a.state == AdapterState::Passage).count();
                match tracker.next_deadline(now, grace) {
                    None => prop_assert_eq!(passages, 0),
                    Some(deadline) => {
                        prop_assert!(passages > 0);
                        let open = |moment| {
                            let again = tracker.clone().observe(&answer, moment, grace);
                            again.iter().filter(|a| a.state == AdapterState::Passage).count()
                        };
                        prop_assert_eq!(open(deadline.saturating_sub(Duration::from_nanos(1))), passages);
                        prop_assert!(open(deadline) < passages);
                    }
                }
            }
        }
    }
}
