//! Single flight per key: any number of pokes while a run is under way become exactly one further run.

/// Whether a run is under way, and whether another one has been asked for meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slot {
    /// Nothing runs.
    #[default]
    Idle,
    /// One run is under way.
    Running,
    /// One run is under way and must be followed by another.
    RunningDirty,
}

impl Slot {
    /// Asks for a run. True when the caller has to start one now.
    #[must_use]
    pub fn poke(&mut self) -> bool {
        let start = *self == Self::Idle;
        *self = if start { Self::Running } else { Self::RunningDirty };
        start
    }

    /// Reports the end of a run. True when the caller has to start the next one now.
    ///
    /// An end that nobody waits for (`Idle`) changes nothing.
    #[must_use]
    pub fn done(&mut self) -> bool {
        let again = *self == Self::RunningDirty;
        *self = if again { Self::Running } else { Self::Idle };
        again
    }

    /// Whether a run is under way.
    pub fn is_running(self) -> bool {
        self != Self::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::Slot::{self, Idle, Running, RunningDirty};
    use proptest::prelude::*;

    #[test]
    fn the_whole_transition_table() {
        for (before, event, after, starts) in [
            (Idle, "poke", Running, true),
            (Running, "poke", RunningDirty, false),
            (RunningDirty, "poke", RunningDirty, false),
            (Idle, "done", Idle, false),
            (Running, "done", Idle, false),
            (RunningDirty, "done", Running, true),
        ] {
            let mut slot = before;
            let started = if event == "poke" { slot.poke() } else { slot.done() };
            assert_eq!((slot, started), (after, starts), "{before:?} {event}");
        }
    }

    #[test]
    fn a_hundred_pokes_give_two_runs() {
        let mut slot = Slot::default();
        let mut runs = (0..100).filter(|_| slot.poke()).count();
        while slot.is_running() {
            runs += usize::from(slot.done());
        }
        assert_eq!(runs, 2);
    }

    proptest! {
        #[test]
        fn any_sequence_runs_one_at_a_time_and_loses_no_poke(pokes in proptest::collection::vec(any::<bool>(), 0..200)) {
            let mut slot = Slot::default();
            let (mut in_flight, mut unseen) = (0i32, false);
            for poke in pokes {
                if poke {
                    unseen = true;
                    if slot.poke() { in_flight += 1; unseen = false; }
                } else if in_flight > 0 {
                    in_flight -= 1;
                    if slot.done() { in_flight += 1; unseen = false; }
                }
                prop_assert!((0..=1).contains(&in_flight));
                prop_assert_eq!(slot.is_running(), in_flight == 1);
            }
            while in_flight > 0 {
                in_flight -= 1;
                if slot.done() { in_flight += 1; unseen = false; }
            }
            prop_assert!(!unseen, "a poke was never followed by a run");
        }
    }
}
