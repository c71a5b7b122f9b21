//! The moment that a request is answered at. The database takes it as a value, so that its rules are tested without
//! waiting. Owns the two texts that a DittoFS server makes of time: RFC 3339 stamps and Go durations.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One moment, on the monotonic clock (for what lasts) and on the wall clock (for what is written down).
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Monotonic: drains and starts end by it.
    pub(super) instant: Instant,
    /// Wall clock: stamps and token expiry.
    pub(super) wall: Timestamp,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }

    /// The moment `by` later, on both clocks.
    #[cfg(test)]
    pub(super) fn later(self, by: Duration) -> Self {
        Self { instant: self.instant + by, wall: add(self.wall, by) }
    }
}

/// `at` plus `by`; the end of time when there is no such stamp.
pub(super) fn add(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The stamp cut to whole seconds, as `started_at` is shown.
pub(super) fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Whole seconds as Go writes a duration: `39s`, `1m5s`, `2h0m0s`.
pub(super) fn go_duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::go_duration;

    #[test]
    fn a_duration_is_written_as_go_writes_it() {
        let written: Vec<_> = [0, 39, 65, 7200, 7325].into_iter().map(go_duration).collect();
        assert_eq!(written, ["0s", "39s", "1m5s", "2h0m0s", "2h2m5s"]);
    }
}
