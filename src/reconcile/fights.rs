//! Fields that somebody changes again and again although the operator sets them back: when the next repair is due.
//!
//! Pure; the time is passed in. A repair comes at once, [`FREE`] times; then the same field of the same object, changed by
//! the same manager, is set back ever more slowly, from [`FIRST`] to [`LONGEST`] after the repair before. A field that was
//! left alone for [`FORGOTTEN`] begins anew. Nothing else of that object waits, and no other object.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::drift::{Drift, Drifted};

/// Repairs that come at once.
const FREE: u32 = 3;
/// First pause.
const FIRST: Duration = Duration::from_secs(5);
/// Longest pause: well below the ten minutes in which the alert about a fight looks for a repair.
const LONGEST: Duration = Duration::from_mins(5);
/// A field that nobody changed for this long is at peace.
const FORGOTTEN: Duration = Duration::from_mins(15);
/// Most fields that are remembered: whoever changes more than these is met at once, and forgotten again.
const MOST: usize = 256;

/// Object (`Service files-api`), field and manager.
type Place = (String, String, String);

#[derive(Clone, Copy, Debug)]
struct Round {
    repairs: u32,
    last: Duration,
}

impl Round {
    fn pause(self) -> Duration {
        match self.repairs.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(fought) => FIRST.saturating_mul(1 << fought.min(10)).min(LONGEST),
        }
    }

    fn is_over(self, now: Duration) -> bool {
        now.saturating_sub(self.last) >= FORGOTTEN
    }
}

/// A field that is fought over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fight {
    /// Kind and name of the object.
    pub object: String,
    /// Its field.
    pub field: String,
    /// Who changes it.
    pub manager: String,
    /// How often it was set back.
    pub repairs: u32,
    /// From that repair to the next one.
    pub pause: Duration,
}

impl fmt::Display for Fight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, field, manager, repairs, pause } = self;
        write!(
            f,
            "{field} of {object} is changed again and again by {manager}: it was set back {repairs} times, and is left for {} \
             s from now on each time; change the DittoServer instead, or keep {manager} from that object",
            pause.as_secs()
        )
    }
}

/// What one writer has set back lately.
#[derive(Clone, Debug, Default)]
pub struct Fights {
    rounds: BTreeMap<Place, Round>,
}

impl Fights {
    /// How long the repair of an object has to wait; None when it is due. Whatever else differs than what is fought over
    /// makes it due.
    pub fn rest(&self, object: &str, drifted: &Drifted, now: Duration) -> Option<Duration> {
        if !drifted.entirely || drifted.fields.is_empty() {
            return None;
        }
        let rests = drifted.fields.iter().map(|drift| {
            let round = self.rounds.get(&place(object, drift)).filter(|round| !round.is_over(now));
            round.map_or(Duration::ZERO, |round| (round.last + round.pause()).saturating_sub(now))
        });
        rests.min().filter(|rest| !rest.is_zero())
    }

    /// An object was set back. Gives what became a fight by it, or goes on as one.
    pub fn repaired(&mut self, object: &str, drifted: &Drifted, now: Duration) -> Vec<Fight> {
        self.rounds.retain(|_, round| !round.is_over(now));
        let mut fights = Vec::new();
        for drift in &drifted.fields {
            let place = place(object, drift);
            if self.rounds.len() >= MOST && !self.rounds.contains_key(&place) {
                continue;
            }
            let round = self.rounds.entry(place.clone()).or_insert(Round { repairs: 0, last: now });
            *round = Round { repairs: round.repairs.saturating_add(1), last: now };
            fights.extend(fight(&place, *round));
        }
        fights
    }

    /// What is fought over, by object and field.
    pub fn fought(&self, now: Duration) -> Vec<Fight> {
        let alive = self.rounds.iter().filter(|(_, round)| !round.is_over(now));
        alive.filter_map(|(place, round)| fight(place, *round)).collect()
    }
}

fn place(object: &str, drift: &Drift) -> Place {
    (object.to_owned(), drift.field.clone(), drift.manager.clone())
}

fn fight((object, field, manager): &Place, round: Round) -> Option<Fight> {
    let (object, field, manager) = (object.clone(), field.clone(), manager.clone());
    let pause = round.pause();
    (!pause.is_zero()).then_some(Fight { object, field, manager, repairs: round.repairs, pause })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn drift(field: &str, manager: &str) -> Drift {
        Drift { field: field.to_owned(), manager: manager.to_owned(), word: "other" }
    }

    fn drifted(fields: &[Drift]) -> Drifted {
        Drifted { fields: fields.to_vec(), entirely: true }
    }

    #[test]
    fn the_pauses_grow_to_a_cap_and_count_from_the_last_repair() {
        let (mut fights, edit) = (Fights::default(), drifted(&[drift("spec.type", "argocd")]));
        let (mut now, mut pauses) = (S, Vec::new());
        for _ in 0..14 {
            pauses.push(fights.rest("Service a", &edit, now).map_or(0, |rest| rest.as_secs()));
            now += Duration::from_secs(*pauses.last().unwrap());
            assert_eq!(fights.rest("Service a", &edit, now), None, "due");
            fights.repaired("Service a", &edit, now);
        }
        assert_eq!(pauses, [0, 0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300]);
        assert_eq!(fights.rest("Service a", &edit, now + 299 * S), Some(S));
        assert_eq!(fights.rest("Service a", &edit, now + FORGOTTEN), None);
        assert!(fights.fought(now + FORGOTTEN).is_empty());
        assert!(fights.repaired("Service a", &edit, now + FORGOTTEN).is_empty(), "it begins anew");
    }

    #[test]
    fn another_object_field_or_manager_and_a_new_wish_do_not_wait() {
        let (mut fights, edit) = (Fights::default(), drifted(&[drift("spec.type", "argocd")]));
        for _ in 0..5 {
            fights.repaired("Service a", &edit, S);
        }
        assert!(fights.rest("Service a", &edit, S).is_some());
        assert_eq!(fights.rest("Service b", &edit, S), None);
        assert_eq!(fights.rest("Service a", &drifted(&[drift("spec.type", "helm")]), S), None);
        let both = drifted(&[drift("spec.type", "argocd"), drift("spec.ports", "argocd")]);
        assert_eq!(fights.rest("Service a", &both, S), None);
        assert_eq!(fights.rest("Service a", &Drifted { entirely: false, ..edit }, S), None, "somebody wants something");
        assert_eq!(fights.rest("Service a", &drifted(&[]), S), None);
    }

    #[test]
    fn a_fight_is_told_from_the_repair_on_that_the_next_one_waits_for() {
        let (mut fights, edit) = (Fights::default(), drifted(&[drift("spec.type", "argocd")]));
        assert!((0..2).all(|_| fights.repaired("Service a", &edit, S).is_empty()));
        let told = fights.repaired("Service a", &edit, S);
        assert_eq!((told.len(), told[0].repairs, told[0].pause), (1, 3, FIRST));
        assert_eq!(fights.fought(S), told);
        let text = told[0].to_string();
        assert!(
            text.starts_with("spec.type of Service a is changed again and again by argocd: it was set back 3 times")
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut fights = Fights::default();
        for number in 0..10_000 {
            fights.repaired("Service a", &drifted(&[drift(&number.to_string(), "m")]), S);
        }
        assert_eq!(fights.rounds.len(), MOST);
    }
}
