//! When a failure that goes on is told: at once, then 1, 2, 4, 8, 16 and 32 minutes after it began, then each 30
//! minutes, with a count of what was not told; and once more when it is over.
//!
//! Time is passed in. What fails again within [`FORGOTTEN`] of its end goes on where it was: a failure that comes and
//! goes each second is told no more often than one that stays.

use std::fmt;
use std::time::Duration;

/// When a failure is told for the second time.
const FIRST: Duration = Duration::from_mins(1);
/// Longest silence about a failure that goes on.
const CAP: Duration = Duration::from_mins(30);
/// How long something has to be well until its next failure is a new one.
const FORGOTTEN: Duration = Duration::from_mins(1);

/// What fails, of one actor. Empty while nothing does.
#[derive(Clone, Debug, Default)]
pub struct Repeats(Vec<Series>);

#[derive(Clone, Debug)]
struct Series {
    what: Box<str>,
    begun: Duration,
    /// When it was told last.
    told: Duration,
    /// How long after its beginning it is told next.
    due: Duration,
    total: u32,
    untold: u32,
    /// It failed since the last [`Repeats::ended`].
    touched: bool,
    /// It was told, and its end was not.
    open: bool,
    ended: Option<Duration>,
}

/// A failure that is to be told. Shown as what is added to its line: nothing, or ` (12 times in 4 min)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// How often it happened since it was told last, at least 1.
    pub times: u32,
    /// When it was told last, counted back from now; None at first.
    pub within: Option<Duration>,
}

/// A failure that is over. Shown as `4 min, 12 failures`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// What failed.
    pub what: String,
    /// How often.
    pub times: u32,
    /// From its beginning to its end.
    pub lasted: Duration,
}

impl Repeats {
    /// `what` failed. Some when that is to be told now.
    pub fn failed(&mut self, what: &str, now: Duration) -> Option<Again> {
        self.forget(now);
        let Some(series) = self.0.iter_mut().find(|series| *series.what == *what) else {
            self.0.push(Series {
                what: what.into(),
                begun: now,
                told: now,
                due: FIRST,
                total: 1,
                untold: 0,
                touched: true,
                open: true,
                ended: None,
            });
            return Some(Again { times: 1, within: None });
        };
        series.total = series.total.saturating_add(1);
        series.untold = series.untold.saturating_add(1);
        series.touched = true;
        series.ended = None;
        let elapsed = now.saturating_sub(series.begun);
        if elapsed < series.due {
            return None;
        }
        while series.due <= elapsed {
            series.due = (series.due * 2).min(series.due + CAP);
        }
        let again = Again { times: series.untold, within: Some(now.saturating_sub(series.told)) };
        (series.untold, series.told, series.open) = (0, now, true);
        Some(again)
    }

    /// Nothing is known about what failed: it counts as failing until the next [`Repeats::ended`].
    pub fn hold(&mut self) {
        for series in &mut self.0 {
            series.touched |= series.ended.is_none();
        }
    }

    /// An attempt failed that says nothing about what else failed: nothing is over.
    pub fn settle(&mut self) {
        for series in &mut self.0 {
            series.touched = false;
        }
    }

    /// An attempt at everything is over: what did not fail in it works again. Returns what of it was told.
    pub fn ended(&mut self, now: Duration) -> Vec<Over> {
        let mut over = Vec::new();
        for series in &mut self.0 {
            if !std::mem::take(&mut series.touched) && series.ended.is_none() {
                series.ended = Some(now);
                if std::mem::take(&mut series.open) {
                    let (what, lasted) = (series.what.to_string(), now.saturating_sub(series.begun));
                    over.push(Over { what, times: series.total, lasted });
                }
            }
        }
        self.forget(now);
        over
    }

    /// What fails now, and how often it did.
    pub fn failing(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().filter(|series| series.ended.is_none()).map(|series| (&*series.what, series.total))
    }

    fn forget(&mut self, now: Duration) {
        self.0.retain(|series| series.ended.is_none_or(|ended| now.saturating_sub(ended) < FORGOTTEN));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}

impl Over {
    /// Several that ended at once, as one.
    pub fn all(over: Vec<Self>) -> Option<Self> {
        over.into_iter().reduce(|one, other| Self {
            what: format!("{}, {}", one.what, other.what),
            times: one.times.saturating_add(other.times),
            lasted: one.lasted.max(other.lasted),
        })
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.within {
            None => Ok(()),
            Some(within) => write!(f, " ({} in {})", counted(self.times, "time"), in_words(within)),
        }
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", in_words(self.lasted), counted(self.times, "failure"))
    }
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `0.3 s`, `45 s`, `4 min`, `3 h 20 min`.
fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..=89 => format!("{seconds} s"),
        seconds @ 90..=5399 => format!("{} min", (seconds + 30) / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Seconds at which a failure each `step` seconds is told within `until` seconds, with the counts.
    fn told(step: u64, until: u64) -> Vec<(u64, u32)> {
        let mut repeats = Repeats::default();
        (0..=until / step)
            .map(|n| n * step)
            .filter_map(|second| Some((second, repeats.failed("x", at(second))?.times)))
            .collect()
    }

    #[test]
    fn it_is_told_at_once_and_then_at_growing_distances_with_what_was_left_out() {
        assert_eq!(told(5, 500), [(0, 1), (60, 12), (120, 12), (240, 24), (480, 48)]);
        let of_a_day = told(5, 86_400);
        assert!(of_a_day.len() < 60, "{}", of_a_day.len());
        assert!(of_a_day.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 30 * 60));
        let last = of_a_day.last().expect("one").0;
        assert_eq!(of_a_day.iter().map(|(_, times)| u64::from(*times)).sum::<u64>(), last / 5 + 1, "none is left out");
    }

    #[test]
    fn a_failure_that_comes_seldom_is_told_each_time_it_is_due() {
        assert_eq!(told(1800, 7200), [(0, 1), (1800, 1), (3600, 1), (5400, 1), (7200, 1)]);
    }

    #[test]
    fn its_end_is_told_once_with_how_long_it_lasted() {
        let mut repeats = Repeats::default();
        let _ = repeats.failed("x", at(0));
        assert_eq!(repeats.ended(at(0)), [], "the attempt in which it failed");
        let _ = repeats.failed("x", at(100));
        assert_eq!(repeats.ended(at(100)), []);
        let over = repeats.ended(at(240));
        assert_eq!(over.iter().map(ToString::to_string).collect::<Vec<_>>(), ["4 min, 2 failures"]);
        assert_eq!(repeats.ended(at(241)), []);
        assert_eq!(repeats.failed("x", at(301)).map(|again| again.times), Some(1), "a new one");
    }

    #[test]
    fn what_comes_and_goes_is_told_no_more_often_than_what_stays() {
        let mut repeats = Repeats::default();
        let mut lines = 0;
        for second in 0..600 {
            if second % 2 == 0 {
                lines += usize::from(repeats.failed("x", at(second)).is_some());
                let _ = repeats.ended(at(second));
            } else {
                lines += repeats.ended(at(second)).len();
            }
        }
        assert_eq!(lines, 10, "5 failures at 0, 60, 120, 240 and 480 s, with the end of each");
    }

    #[test]
    fn two_things_that_fail_have_nothing_to_do_with_each_other() {
        let mut repeats = Repeats::default();
        assert!(repeats.failed("a", at(0)).is_some());
        assert!(repeats.failed("b", at(1)).is_some());
        assert!(repeats.ended(at(1)).is_empty());
        assert!(repeats.failed("a", at(2)).is_none());
        assert_eq!(repeats.ended(at(2)).iter().map(|over| over.what.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(repeats.failing().collect::<Vec<_>>(), [("a", 2)]);
    }

    #[test]
    fn an_attempt_that_found_out_nothing_ends_nothing() {
        let mut repeats = Repeats::default();
        let _ = repeats.failed("a", at(0));
        let _ = repeats.ended(at(0));
        repeats.hold();
        assert_eq!(repeats.ended(at(1)), []);
        assert_eq!(repeats.ended(at(2)).len(), 1);
    }

    #[test]
    fn an_attempt_that_failed_as_a_whole_ends_nothing_and_the_next_good_one_ends_all() {
        let mut repeats = Repeats::default();
        let _ = repeats.failed("a", at(0));
        repeats.settle();
        let _ = repeats.failed("b", at(5));
        repeats.settle();
        let over = Over::all(repeats.ended(at(12))).expect("it is over");
        assert_eq!((over.what.as_str(), over.to_string().as_str()), ("a, b", "12 s, 2 failures"));
    }

    #[test]
    fn times_in_words() {
        let words = [300, 9_000, 45_000, 240_000, 12_000_000].map(|ms| in_words(Duration::from_millis(ms)));
        assert_eq!(words, ["0.3 s", "9.0 s", "45 s", "4 min", "3 h 20 min"]);
        assert_eq!(Again { times: 12, within: Some(at(240)) }.to_string(), " (12 times in 4 min)");
        assert_eq!(Again { times: 1, within: None }.to_string(), "");
    }

    proptest! {
        #[test]
        fn every_failure_is_counted_once(gaps in proptest::collection::vec(0u64..4000, 1..60)) {
            let mut repeats = Repeats::default();
            let (mut now, mut counted) = (0, 0);
            for gap in &gaps {
                now += gap;
                counted += repeats.failed("x", at(now)).map_or(0, |again| again.times);
            }
            let over = repeats.0.first().map_or(0, |series| series.untold);
            prop_assert_eq!(counted + over, u32::try_from(gaps.len()).unwrap_or(0));
        }
    }
}
