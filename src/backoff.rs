//! The delays between attempts, and the only place that knows the `backoff` crate.
//!
//! Owns: one sequence of delays. Touches nothing: it neither sleeps nor decides whether to try again. Guarantees:
//! the sequence is a function of `initial`, `cap` and `seed`, no delay exceeds `cap`, and it never gives up.
//!
//! The crate's own randomness is off (`randomization_factor` 0) and so is its deadline (`max_elapsed_time` unset, by
//! default it gives up after 900 s), because both read the real clock and the thread's generator: a test with a
//! paused clock would not see its sequence. The jitter is ours, from a seeded generator.
//!
//! `backoff` is unmaintained (RUSTSEC-2025-0012) and brings `instant` (RUSTSEC-2024-0384, unmaintained too). Both are
//! excepted by number in `deny.toml`; whoever replaces the crate changes this file only.

use std::time::Duration;

use ::backoff::backoff::Backoff as _;
use ::backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// An endless sequence of delays: `initial`, twice that, and so on up to `cap`, each times a factor in 0.5..=1.0.
#[derive(Debug)]
pub struct Backoff {
    plain: ExponentialBackoff,
    jitter: SmallRng,
}

impl Backoff {
    /// A sequence from `initial` to `cap`; equal arguments give equal sequences.
    pub fn new(initial: Duration, cap: Duration, seed: u64) -> Self {
        let plain = ExponentialBackoffBuilder::new()
            .with_initial_interval(initial.min(cap))
            .with_max_interval(cap)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        Self { plain, jitter: SmallRng::seed_from_u64(seed) }
    }

    /// The delay before the next attempt; each call counts as one failure.
    // Not an iterator: it has no end, and `Iterator` would invite adaptors that consume it.
    #[expect(clippy::should_implement_trait, reason = "an endless, stateful sequence; not meant for adaptors")]
    pub fn next(&mut self) -> Duration {
        let cap = self.plain.max_interval;
        let plain = self.plain.next_backoff().unwrap_or(cap).min(cap);
        plain.mul_f64(self.jitter.random_range(0.5..=1.0)).min(cap)
    }

    /// The next delay, without its jitter: what is asked for is not used up.
    pub fn upcoming(&self) -> Duration {
        self.plain.current_interval.min(self.plain.max_interval)
    }

    /// Starts again at `initial`; the jitter goes on where it was.
    pub fn reset(&mut self) {
        self.plain.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: Duration = Duration::from_millis(250);
    const CAP: Duration = Duration::from_secs(30);

    fn sequence(seed: u64, n: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(INITIAL, CAP, seed);
        (0..n).map(|_| backoff.next()).collect()
    }

    #[test]
    fn delays_double_within_their_jitter() {
        let mut plain = INITIAL;
        for delay in sequence(7, 7) {
            assert!(delay >= plain / 2 && delay <= plain, "{delay:?} for {plain:?}");
            plain *= 2;
        }
    }

    #[test]
    fn no_delay_exceeds_the_cap_and_it_never_gives_up() {
        let delays = sequence(3, 10_000);
        assert!(delays.iter().all(|d| *d <= CAP));
        assert!(delays[8..].iter().all(|d| *d >= CAP / 2));
    }

    #[test]
    fn an_initial_delay_above_the_cap_is_cut() {
        let mut backoff = Backoff::new(Duration::from_secs(9), Duration::from_secs(2), 1);
        assert!((0..5).all(|_| backoff.next() <= Duration::from_secs(2)));
    }

    #[test]
    fn reset_starts_again_at_the_initial_delay() {
        let mut backoff = Backoff::new(INITIAL, CAP, 1);
        for _ in 0..9 {
            backoff.next();
        }
        assert!(backoff.next() > INITIAL * 10);
        backoff.reset();
        assert!(backoff.next() <= INITIAL);
    }

    #[test]
    fn a_seed_fixes_the_sequence_and_two_seeds_differ() {
        assert_eq!(sequence(42, 50), sequence(42, 50));
        assert_ne!(sequence(42, 50), sequence(43, 50));
    }
}
