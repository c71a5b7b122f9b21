//! When an administrator's session at a server is worth its while.
//!
//! Two things answer to an administrator only: the snapshot policies, and the settings of the NFS adapter that say
//! which further ports it serves. A session is opened for them
//!
//! * when something is new: `spec.snapshotPolicies` changed, the NFS adapter came or moved, the operator or the server
//!   has just started, the operator's account had to be made anew (the server may have lost its database);
//! * when a share that a policy waits for may have come: the server's `/health/ready` tells the number of shares to
//!   everybody, so that each poll can look without a session; and with backoff, should the number stay the same;
//! * every [`RESYNC`], for what was changed on the server by others;
//! * with backoff after a failure. A server that refuses the administrator is asked rarely, up to once an hour, so that
//!   no account is locked; at once when the administrator's Secret holds something else.
//!
//! Pure: moments are passed in as the time since an origin that the caller keeps.

use std::time::Duration;

use super::SnapshotPolicy;

/// How often everything is looked at anew.
const RESYNC: Duration = Duration::from_mins(15);
/// First and longest pause after a failure.
const FAILED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// First and longest pause after the administrator was refused.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_hours(1));
/// First and longest pause before a policy is tried again whose share is not there, or that the server does not take.
const WAITING: (Duration, Duration) = (Duration::from_secs(30), RESYNC);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The settings of the NFS adapter are read.
    pub nfs: bool,
    /// The policies are compared, and written where they differ.
    pub policies: bool,
    /// Only when the number of shares is no longer this one.
    pub unless_shares: Option<u64>,
    /// Only when the administrator is no longer the one that was refused.
    pub unless_refused: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is as it should be.
    Fine,
    /// Some policies could not be applied; the number of shares, where it is known.
    Waiting(Option<u64>),
    /// It was not opened: nothing had changed.
    NotNeeded,
    /// The administrator was refused.
    Refused,
    /// Something else failed.
    Failed,
}

/// Keeps for one server when the next session is due.
#[expect(clippy::struct_excessive_bools, reason = "each remembers something of its own")]
#[derive(Clone, Debug, Default)]
pub struct AdminPace {
    /// Port of the NFS adapter that runs.
    nfs: Option<u16>,
    policies: Vec<SnapshotPolicy>,
    /// The spec had policies, and what became of them is still to be told.
    had_policies: bool,
    due: Option<Duration>,
    /// Something has become new while a session was under way.
    news: bool,
    under_way: bool,
    /// Policies wait, since this number of shares was seen.
    shares: Option<u64>,
    refused: bool,
    knocked: bool,
    /// Ends in a row that were like the last one.
    times: u32,
    last: Option<Ended>,
}

impl AdminPace {
    /// Nothing is known and nothing is due.
    pub fn new() -> Self {
        Self::default()
    }

    /// A poll found the NFS adapter running on this port, or not running.
    pub fn observed(&mut self, nfs: Option<u16>, now: Duration) {
        let before = std::mem::replace(&mut self.nfs, nfs);
        if nfs.is_some() && nfs != before {
            self.soon(now);
        }
    }

    /// The policies of the spec, and whether it had some before this life of the operator. True when they are new.
    pub fn wants(&mut self, policies: &[SnapshotPolicy], had: bool, now: Duration) -> bool {
        self.had_policies |= had || !self.policies.is_empty();
        let new = self.policies != policies;
        if new {
            self.policies = policies.to_vec();
            self.soon(now);
        } else if had && self.due.is_none() {
            self.soon(now);
        }
        new
    }

    /// The server may not be what it was: it has just become ready, or had lost the operator's account.
    pub fn server_is_new(&mut self, now: Duration) {
        self.refused = false;
        self.soon(now);
    }

    /// A Secret was changed that may hold the administrator's password.
    pub fn secret_touched(&mut self) {
        self.knocked |= self.refused;
    }

    /// The server has no policies any more beside those of the spec.
    pub fn nothing_left(&mut self) {
        self.had_policies = false;
    }

    /// The policies that the spec has.
    pub fn policies(&self) -> &[SnapshotPolicy] {
        &self.policies
    }

    /// What to do now; `None` while a session is under way, or nothing is due.
    pub fn errand(&mut self, now: Duration) -> Option<Errand> {
        let (nfs, policies) = (self.nfs.is_some(), self.has_policies());
        if self.under_way || !(nfs || policies) {
            return None;
        }
        let due = self.due.is_some_and(|due| due <= now);
        let errand = Errand { nfs, policies, unless_shares: None, unless_refused: false };
        let errand = if due {
            errand
        } else if self.knocked {
            Errand { unless_refused: true, ..errand }
        } else {
            Errand { unless_shares: Some(self.shares?), ..errand }
        };
        self.knocked = false;
        self.under_way = true;
        self.news = false;
        Some(errand)
    }

    /// The errand that was given out is over.
    pub fn ended(&mut self, ended: Ended, now: Duration) {
        self.under_way = false;
        if ended == Ended::NotNeeded {
            return;
        }
        let same = self.last.is_some_and(|last| std::mem::discriminant(&last) == std::mem::discriminant(&ended));
        self.times = if same { self.times.saturating_add(1) } else { 1 };
        self.last = Some(ended);
        self.refused = ended == Ended::Refused;
        self.shares = if let Ended::Waiting(shares) = ended { shares } else { None };
        let pause = match ended {
            Ended::Fine | Ended::NotNeeded => RESYNC,
            Ended::Waiting(_) => self.pause(WAITING),
            Ended::Refused => self.pause(REFUSED),
            Ended::Failed => self.pause(FAILED),
        };
        // What became new meanwhile was perhaps not part of it.
        self.due = Some(if self.news && !self.refused { now } else { now + pause });
    }

    /// The server is not asked for now: what was under way is no more, and it starts anew some time.
    pub fn stopped(&mut self) {
        self.under_way = false;
        self.nfs = None;
    }

    fn has_policies(&self) -> bool {
        self.had_policies || !self.policies.is_empty()
    }

    /// At once, unless the administrator is refused: then news change nothing.
    fn soon(&mut self, now: Duration) {
        self.news = true;
        if !self.refused {
            self.due = Some(now);
        }
    }

    fn pause(&self, (first, longest): (Duration, Duration)) -> Duration {
        first.saturating_mul(1_u32.checked_shl(self.times.saturating_sub(1)).unwrap_or(u32::MAX)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn policies(share: &str) -> Vec<SnapshotPolicy> {
        vec![SnapshotPolicy {
            share: share.to_owned(),
            interval: "1h".to_owned(),
            keep_last: 0,
            ttl: String::new(),
            enabled: true,
            name_prefix: String::new(),
        }]
    }

    const BOTH: Errand = Errand { nfs: true, policies: true, unless_shares: None, unless_refused: false };
    const NFS: Errand = Errand { policies: false, ..BOTH };

    /// With the NFS adapter and one policy, both looked at in second 0.
    fn settled() -> AdminPace {
        let mut pace = AdminPace::new();
        pace.observed(Some(12049), at(0));
        assert!(pace.wants(&policies("/a"), false, at(0)));
        assert_eq!(pace.errand(at(0)), Some(BOTH));
        pace.ended(Ended::Fine, at(0));
        pace
    }

    /// The seconds at which an errand that always ends so is tried, from the first one on.
    fn tries(ended: Ended, until: u64) -> Vec<u64> {
        let mut pace = settled();
        pace.server_is_new(at(1));
        let mut seconds = Vec::new();
        for second in 1..until {
            if let Some(errand) = pace.errand(at(second)) {
                let asked = errand.unless_shares.is_none();
                pace.ended(if asked { ended } else { Ended::NotNeeded }, at(second));
                if asked {
                    seconds.push(second);
                }
            }
        }
        seconds
    }

    #[test]
    fn nothing_wanted_opens_nothing_and_nothing_new_waits_for_the_resync() {
        let mut pace = AdminPace::new();
        pace.observed(None, at(0));
        assert!(!pace.wants(&[], false, at(0)));
        assert_eq!(pace.errand(at(100_000)), None);
        let mut pace = settled();
        assert_eq!(pace.errand(at(899)), None);
        assert_eq!(pace.errand(RESYNC), Some(BOTH));
        assert_eq!(pace.errand(RESYNC), None, "one at a time");
    }

    #[test]
    fn what_is_new_is_looked_at_at_once() {
        let news: [fn(&mut AdminPace); 4] = [
            |pace| pace.observed(Some(13049), at(9)),
            |pace| assert!(pace.wants(&policies("/b"), false, at(9))),
            |pace| assert!(pace.wants(&[], false, at(9))),
            |pace| pace.server_is_new(at(9)),
        ];
        for new in news {
            let mut pace = settled();
            new(&mut pace);
            assert_eq!(pace.errand(at(9)), Some(BOTH));
            // News while it is under way: the errand may have begun without them.
            pace.server_is_new(at(10));
            pace.ended(Ended::Fine, at(11));
            assert_eq!(pace.errand(at(11)), Some(BOTH));
        }
        let mut pace = settled();
        pace.observed(Some(12049), at(9));
        assert!(!pace.wants(&policies("/a"), false, at(9)));
        pace.observed(None, at(9));
        assert_eq!(pace.errand(at(9)), None, "the same, and an adapter that stopped, are no news");
        pace.observed(Some(12049), at(10));
        assert!(pace.errand(at(10)).is_some(), "one that came back is");
    }

    #[test]
    fn policies_that_were_taken_out_are_looked_for_until_none_is_left() {
        let mut pace = AdminPace::new();
        pace.observed(Some(12049), at(0));
        pace.wants(&[], true, at(0));
        assert_eq!(pace.errand(at(0)), Some(BOTH));
        pace.nothing_left();
        pace.ended(Ended::Fine, at(0));
        pace.wants(&[], false, at(1));
        assert_eq!(pace.errand(RESYNC), Some(NFS));
    }

    #[test]
    fn a_policy_that_waits_for_its_share_looks_at_the_number_of_shares_only() {
        let mut pace = settled();
        pace.server_is_new(at(1));
        pace.errand(at(1));
        pace.ended(Ended::Waiting(Some(3)), at(1));
        for second in 2..31 {
            assert_eq!(pace.errand(at(second)), Some(Errand { unless_shares: Some(3), ..BOTH }));
            pace.ended(Ended::NotNeeded, at(second));
        }
        assert_eq!(pace.errand(at(31)), Some(BOTH), "with backoff, whatever the number");
        pace.ended(Ended::Waiting(None), at(31));
        assert_eq!(pace.errand(at(32)), None, "where it is not known, the backoff alone counts");
        assert_eq!(tries(Ended::Waiting(Some(1)), 3000), [1, 31, 91, 211, 451, 931, 1831, 2731]);
    }

    #[test]
    fn failures_are_backed_off_and_refusals_more() {
        assert_eq!(tries(Ended::Failed, 700), [1, 6, 16, 36, 76, 156, 316, 616]);
        assert_eq!(tries(Ended::Refused, 12_000), [1, 31, 91, 211, 451, 931, 1891, 3811, 7411, 11_011]);
    }

    #[test]
    fn a_refused_administrator_is_not_asked_for_news_and_looked_at_when_a_secret_changed() {
        let mut pace = settled();
        pace.secret_touched();
        assert_eq!(pace.errand(at(1)), None, "nobody is refused");
        pace.server_is_new(at(1));
        pace.errand(at(1));
        pace.ended(Ended::Refused, at(1));
        pace.observed(Some(13049), at(2));
        pace.wants(&policies("/b"), false, at(2));
        assert_eq!(pace.errand(at(2)), None);
        pace.secret_touched();
        assert_eq!(pace.errand(at(3)), Some(Errand { unless_refused: true, ..BOTH }));
        pace.ended(Ended::NotNeeded, at(3));
        assert_eq!(pace.errand(at(4)), None, "the same Secret, the same backoff");
        pace.server_is_new(at(5));
        assert_eq!(pace.errand(at(5)), Some(BOTH), "a server that started anew may have another administrator");
    }
}
