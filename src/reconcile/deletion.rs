//! When a DittoServer carries our finalizer, and how its deletion ends: the pure half of the Supervisor's work on it.
//!
//! A server that lives carries [`FINALIZER`], the name that the Go operator uses too. While one
//! is being deleted its [`Duty`]s are done, each by the actor that owns what it is about, all at once and each again
//! after a pause when it failed. The finalizer goes when every duty is done, when nothing more of them can be done (no
//! pod), or [`PATIENCE`] after the first attempt: not after the deletion timestamp, so that an operator that was down while
//! the server was deleted still cleans up first. Times are passed in; they count from any origin.

use std::time::Duration;

use serde_json::Value;

use crate::crd::FINALIZER;

/// How long after its first attempt a cleanup that keeps failing is given up.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// First and longest pause after an attempt that may do better soon.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Pause after a refusal: no account is locked by hammering.
const PAUSE_REFUSED: Duration = Duration::from_secs(25);

/// First and longest pause before the finalizer is set once more on a server from which somebody takes it.
const PAUSE_SET: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Whether a DittoServer carries our finalizer.
pub fn has_finalizer(server: &Value) -> bool {
    let finalizers = server.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// What has to be done before a server may go. Whoever adds one adds who does it to the Supervisor's `ask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Duty {
    /// The operator's account at the DittoFS server is deleted. AdapterPoller does it; it needs the server's pod.
    Account,
    /// The cluster of Percona's operator stays or goes as the spec says now: its owner reference, by which the garbage
    /// collector takes it, is put right. ConfigHasher does it.
    Database,
}

impl Duty {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Account, Self::Database];

    /// What is left behind when it is not done, in words.
    pub fn what(self) -> &'static str {
        match self {
            Self::Account => "the operator's account at the server",
            Self::Database => "the owner reference of the PerconaPGCluster, by which it goes with the server or stays",
        }
    }

    /// Whether it can only be done while the server runs.
    fn needs_pod(self) -> bool {
        match self {
            Self::Account => true,
            Self::Database => false,
        }
    }
}

/// How an attempt at a duty ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is done.
    Done,
    /// It cannot be done, and waiting would not help; why.
    Left(String),
    /// It failed, and may work soon; why.
    Failed(String),
    /// It was refused; why.
    Refused(String),
}

/// What to do about a deletion now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have these duties done, and look again after that long at the latest.
    Ask(Vec<Duty>, Duration),
    /// Nothing; look again after that long at the latest.
    Wait(Duration),
    /// The finalizer goes.
    Release {
        /// What was left undone, in words; empty when everything was done.
        undone: Vec<String>,
        /// Whether it was given up for its time.
        timed_out: bool,
    },
}

/// One deletion.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// When the first attempt began.
    since: Option<Duration>,
    duties: Vec<(Duty, State)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    stage: Stage,
    failures: u32,
    /// Why the last attempt failed.
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be asked for, from then on.
    Due(Duration),
    /// Under way.
    Asked,
    /// Nothing more to do.
    Over,
}

impl Default for Deletion {
    fn default() -> Self {
        Self::new()
    }
}

impl Deletion {
    /// One that has not begun.
    pub fn new() -> Self {
        let open = State { stage: Stage::Due(Duration::ZERO), failures: 0, why: None };
        Self { since: None, duties: Duty::ALL.map(|duty| (duty, open.clone())).to_vec() }
    }

    /// Decides. `pod` says whether the server has one.
    pub fn step(&mut self, now: Duration, pod: bool) -> Step {
        for (duty, state) in &mut self.duties {
            if duty.needs_pod() && !pod && state.stage != Stage::Over {
                *state = State { stage: Stage::Over, why: Some("the server has no pod".to_owned()), ..*state };
            }
        }
        if self.duties.iter().all(|(_, state)| state.stage == Stage::Over) {
            return Step::Release { undone: self.undone(), timed_out: false };
        }
        let since = *self.since.get_or_insert(now);
        let end = since + PATIENCE;
        if now >= end {
            return Step::Release { undone: self.undone(), timed_out: true };
        }
        let mut due = Vec::new();
        let mut next = end;
        for (duty, state) in &mut self.duties {
            match state.stage {
                Stage::Due(at) if at <= now => {
                    state.stage = Stage::Asked;
                    due.push(*duty);
                }
                Stage::Due(at) => next = next.min(at),
                Stage::Asked | Stage::Over => {}
            }
        }
        let wait = next.saturating_sub(now);
        if due.is_empty() { Step::Wait(wait) } else { Step::Ask(due, wait) }
    }

    /// An attempt ended.
    pub fn ended(&mut self, duty: Duty, attempt: Attempt, now: Duration) {
        let Some((_, state)) = self.duties.iter_mut().find(|(known, _)| *known == duty) else { return };
        if state.stage != Stage::Asked {
            return;
        }
        let (pause, why) = match attempt {
            Attempt::Done => {
                *state = State { stage: Stage::Over, why: None, ..*state };
                return;
            }
            Attempt::Left(why) => {
                *state = State { stage: Stage::Over, why: Some(why), ..*state };
                return;
            }
            Attempt::Failed(why) => (PAUSE.0.saturating_mul(1 << state.failures.min(16)).min(PAUSE.1), why),
            Attempt::Refused(why) => (PAUSE_REFUSED, why),
        };
        let failures = state.failures.saturating_add(1);
        *state = State { stage: Stage::Due(now + pause), failures, why: Some(why) };
    }

    /// Whoever was asked for this duty is gone: it is to be asked for again.
    pub fn ask_again(&mut self, duty: Duty, now: Duration) {
        for (_, state) in self.duties.iter_mut().filter(|(known, _)| *known == duty) {
            if state.stage == Stage::Asked {
                state.stage = Stage::Due(now);
            }
        }
    }

    /// What was not done, and why; each with what it leaves behind.
    pub fn undone(&self) -> Vec<String> {
        let open = |state: &State| state.stage != Stage::Over || state.why.is_some();
        let why = |state: &State| state.why.clone().unwrap_or_else(|| "no answer yet".to_owned());
        let duties = self.duties.iter().filter(|(_, state)| open(state));
        duties.map(|(duty, state)| format!("{} ({})", duty.what(), why(state))).collect()
    }

    /// Whether an attempt has failed so far.
    pub fn has_failed(&self) -> bool {
        self.duties.iter().any(|(_, state)| state.failures > 0)
    }
}

/// How often the finalizer was set on one server. It is set at once when it is missing; whoever takes it off again and
/// again meets growing pauses, not a fight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    times: u32,
    last: Duration,
}

impl Keeping {
    /// How long to wait before it is set, where it is missing.
    pub fn wait(&self, now: Duration) -> Duration {
        let Some(repeats) = self.times.checked_sub(1) else { return Duration::ZERO };
        let pause = PAUSE_SET.0.saturating_mul(1 << repeats.min(16)).min(PAUSE_SET.1);
        (self.last + pause).saturating_sub(now)
    }

    /// It was set. True when it had been there before: somebody took it off.
    pub fn was_set(&mut self, now: Duration) -> bool {
        self.last = now;
        self.times = self.times.saturating_add(1);
        self.times > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POD: bool = true;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn released(undone: &[&str], timed_out: bool) -> Step {
        Step::Release { undone: undone.iter().map(|text| (*text).to_owned()).collect(), timed_out }
    }

    /// Both duties were asked for, at second 5.
    fn both_asked() -> Deletion {
        let mut deletion = Deletion::new();
        assert_eq!(deletion.step(at(5.0), POD), Step::Ask(vec![Duty::Account, Duty::Database], PATIENCE));
        deletion
    }

    /// The same, and the database is seen to.
    fn asked() -> Deletion {
        let mut deletion = both_asked();
        deletion.ended(Duty::Database, Attempt::Done, at(5.0));
        deletion
    }

    #[test]
    fn each_duty_is_waited_for_and_tried_again_by_itself() {
        let mut deletion = both_asked();
        deletion.ended(Duty::Account, Attempt::Done, at(6.0));
        assert_eq!(deletion.step(at(6.0), POD), Step::Wait(at(59.0)), "the database is not seen to yet");
        deletion.ended(Duty::Database, Attempt::Failed("409".to_owned()), at(6.0));
        assert_eq!(deletion.step(at(6.0), POD), Step::Wait(at(1.0)));
        assert_eq!(deletion.step(at(7.0), POD), Step::Ask(vec![Duty::Database], at(58.0)));
        deletion.ended(Duty::Database, Attempt::Failed("403".to_owned()), at(8.0));
        let left = "the owner reference of the PerconaPGCluster, by which it goes with the server or stays (403)";
        assert_eq!(deletion.step(at(65.0), POD), released(&[left], true));
    }

    #[test]
    fn a_server_without_a_pod_sees_to_its_database_all_the_same() {
        let mut deletion = Deletion::new();
        assert_eq!(deletion.step(at(5.0), false), Step::Ask(vec![Duty::Database], PATIENCE));
        deletion.ended(Duty::Database, Attempt::Done, at(6.0));
        let left = "the operator's account at the server (the server has no pod)";
        assert_eq!(deletion.step(at(6.0), false), released(&[left], false));
    }

    #[test]
    fn what_is_done_is_released_at_once() {
        let mut deletion = asked();
        assert_eq!(deletion.step(at(6.0), POD), Step::Wait(at(59.0)), "it is under way");
        deletion.ended(Duty::Account, Attempt::Done, at(6.5));
        assert_eq!(deletion.step(at(6.5), POD), released(&[], false));
        assert!(!deletion.has_failed());
    }

    #[test]
    fn without_a_pod_or_an_account_nothing_is_waited_for() {
        let left = "the operator's account at the server (the server has no pod)";
        let mut deletion = asked();
        assert_eq!(deletion.step(at(6.0), false), released(&[left], false), "it goes while it is asked");
        let mut deletion = asked();
        deletion.ended(Duty::Account, Attempt::Left("no Secret".to_owned()), at(6.0));
        let left = "the operator's account at the server (no Secret)";
        assert_eq!(deletion.step(at(6.0), POD), released(&[left], false));
    }

    #[test]
    fn a_failing_cleanup_is_tried_again_and_given_up_a_minute_after_its_first_attempt() {
        let mut deletion = asked();
        let mut now = 5.0;
        let mut attempts = 1;
        let last = loop {
            deletion.ended(Duty::Account, Attempt::Failed("no route".to_owned()), at(now));
            match deletion.step(at(now), POD) {
                Step::Wait(wait) => now += wait.as_secs_f64(),
                other => break other,
            }
            match deletion.step(at(now), POD) {
                Step::Ask(..) => attempts += 1,
                other => break other,
            }
        };
        assert_eq!(last, released(&["the operator's account at the server (no route)"], true));
        assert!((now - 65.0).abs() < 1e-6, "{now}");
        assert!((7..=10).contains(&attempts), "{attempts}");
        assert!(deletion.has_failed());
    }

    #[test]
    fn an_attempt_that_is_never_answered_is_given_up_too() {
        let mut deletion = asked();
        assert_eq!(deletion.step(at(64.9), POD), Step::Wait(at(65.0).saturating_sub(at(64.9))));
        let left = "the operator's account at the server (no answer yet)";
        assert_eq!(deletion.step(at(65.0), POD), released(&[left], true));
    }

    #[test]
    fn a_refusal_is_repeated_seldom() {
        let mut deletion = asked();
        deletion.ended(Duty::Account, Attempt::Refused("401".to_owned()), at(5.0));
        assert_eq!(deletion.step(at(5.0), POD), Step::Wait(PAUSE_REFUSED));
        assert_eq!(deletion.step(at(30.0), POD), Step::Ask(vec![Duty::Account], at(35.0)));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_changes_nothing_and_a_new_actor_is_asked_again() {
        let mut deletion = asked();
        deletion.ask_again(Duty::Database, at(7.0));
        assert_eq!(deletion.step(at(7.0), POD), Step::Wait(at(58.0)), "somebody else's");
        deletion.ask_again(Duty::Account, at(7.0));
        deletion.ended(Duty::Account, Attempt::Failed("late".to_owned()), at(7.0));
        assert_eq!(deletion.step(at(7.0), POD), Step::Ask(vec![Duty::Account], at(58.0)));
        deletion.ended(Duty::Account, Attempt::Done, at(8.0));
        deletion.ask_again(Duty::Account, at(9.0));
        assert_eq!(deletion.step(at(9.0), POD), released(&[], false));
    }

    #[test]
    fn the_finalizer_is_set_at_once_and_then_after_growing_pauses() {
        let mut keeping = Keeping::default();
        assert_eq!(keeping.wait(at(3.0)), Duration::ZERO);
        assert!(!keeping.was_set(at(3.0)));
        assert_eq!(keeping.wait(at(3.0)), at(1.0));
        assert_eq!(keeping.wait(at(60.0)), Duration::ZERO);
        assert!(keeping.was_set(at(60.0)), "somebody took it off");
        assert_eq!(keeping.wait(at(60.0)), at(2.0));
        for _ in 0..40 {
            keeping.was_set(at(60.0));
        }
        assert_eq!(keeping.wait(at(60.0)), PAUSE_SET.1);
    }

    proptest! {
        #[test]
        fn every_deletion_ends_within_its_patience(
            events in proptest::collection::vec((0u64..20_000, 0u8..7), 0..60)
        ) {
            let (mut deletion, mut now) = (Deletion::new(), at(100.0));
            for (millis, event) in events {
                now += Duration::from_millis(millis);
                let end = deletion.since.map(|since| since + PATIENCE);
                match deletion.step(now, event != 4) {
                    Step::Release { .. } => return Ok(()),
                    Step::Ask(_, wait) | Step::Wait(wait) => {
                        prop_assert!(wait > Duration::ZERO, "a busy loop");
                        prop_assert!(end.is_none_or(|end| now + wait <= end && now < end));
                    }
                }
                match event {
                    0 => deletion.ended(Duty::Account, Attempt::Failed("x".to_owned()), now),
                    1 => deletion.ended(Duty::Account, Attempt::Refused("x".to_owned()), now),
                    2 => deletion.ask_again(Duty::Account, now),
                    5 => deletion.ended(Duty::Database, Attempt::Failed("x".to_owned()), now),
                    6 => deletion.ended(Duty::Database, Attempt::Done, now),
                    _ => {}
                }
            }
            let last = deletion.step(now + PATIENCE, POD);
            let next = deletion.step(now + PATIENCE * 2, POD);
            let released = |step: &Step| matches!(step, Step::Release { .. });
            prop_assert!(released(&last) || released(&next));
        }
    }
}
