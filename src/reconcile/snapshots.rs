//! Snapshot policies: what `spec.snapshotPolicies` wants, what the server has, and what has to be written.
//!
//! Pure. A policy is compared by what it means (`@daily` is `24h`), so that nothing is written without a difference; one
//! that the spec does not name is told and left alone: it may be somebody's own.

use std::time::Duration;

use super::duration::parse_go_duration;

/// One entry of `spec.snapshotPolicies`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// The share, with one leading slash, as the server names it.
    pub share: String,
    /// A Go duration above 0, or one of the words that [`parse_interval`] reads.
    pub interval: String,
    /// How many snapshots are kept; 0: any number.
    pub keep_last: u32,
    /// A Go duration; empty or 0: snapshots are kept for ever.
    pub ttl: String,
    /// Whether snapshots are taken.
    pub enabled: bool,
    /// What the names of the snapshots begin with; may be empty.
    pub name_prefix: String,
}

/// One policy as the server lists it; what could not be read is `None` and differs from every wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPolicy {
    /// The share, with one leading slash.
    pub share: String,
    /// Time between two snapshots.
    pub interval: Option<Duration>,
    /// How many snapshots are kept; 0: any number.
    pub keep_last: Option<u64>,
    /// How long a snapshot is kept; 0: for ever.
    pub ttl: Option<Duration>,
    /// Whether snapshots are taken.
    pub enabled: Option<bool>,
    /// What the names of the snapshots begin with.
    pub name_prefix: Option<String>,
}

/// What to do about the policies of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPlan<'a> {
    /// To be written, each with what differs in words; in the order of the spec.
    pub write: Vec<(&'a SnapshotPolicy, String)>,
    /// Shares with a policy that the spec does not name, in the server's order.
    pub others: Vec<String>,
}

/// The name of a share as the server has it: with exactly one leading slash.
pub fn share_name(text: &str) -> String {
    format!("/{}", text.trim_start_matches('/'))
}

/// The time between two snapshots: a Go duration above 0, or `@hourly`, `@daily` or `@weekly`.
pub fn parse_interval(text: &str) -> Option<Duration> {
    const HOUR: Duration = Duration::from_hours(1);
    match text {
        "@hourly" => Some(HOUR),
        "@daily" => Some(HOUR * 24),
        "@weekly" => Some(HOUR * 24 * 7),
        _ => parse_go_duration(text).ok().filter(|interval| !interval.is_zero()),
    }
}

/// How long a snapshot is kept: a Go duration; empty or 0 for ever, which is 0 here.
pub fn parse_ttl(text: &str) -> Option<Duration> {
    if text.is_empty() { Some(Duration::ZERO) } else { parse_go_duration(text).ok() }
}

/// Compares. `listed` is `None` when the server does not list its policies: then each of the spec is written.
pub fn plan_policies<'a>(wanted: &'a [SnapshotPolicy], listed: Option<&[ListedPolicy]>) -> PolicyPlan<'a> {
    let find = |share: &str| listed.unwrap_or_default().iter().find(|policy| policy.share == share);
    let write = wanted.iter().filter_map(|policy| Some((policy, difference(policy, find(&policy.share))?))).collect();
    let named = |share: &str| wanted.iter().any(|policy| policy.share == share);
    let others = listed.unwrap_or_default().iter().filter(|policy| !named(&policy.share));
    PolicyPlan { write, others: others.map(|policy| policy.share.clone()).collect() }
}

/// What differs, in words; `None` when nothing does.
fn difference(wanted: &SnapshotPolicy, listed: Option<&ListedPolicy>) -> Option<String> {
    let Some(listed) = listed else { return Some(format!("new, each {}", wanted.interval)) };
    let mut words = Vec::new();
    if listed.interval.is_none() || listed.interval != parse_interval(&wanted.interval) {
        words.push(format!("interval to {}", wanted.interval));
    }
    if listed.keep_last != Some(u64::from(wanted.keep_last)) {
        words.push(format!("keepLast to {}", wanted.keep_last));
    }
    if listed.ttl.is_none() || listed.ttl != parse_ttl(&wanted.ttl) {
        words.push(format!("ttl to {}", if wanted.ttl.is_empty() { "none" } else { &wanted.ttl }));
    }
    if listed.enabled != Some(wanted.enabled) {
        words.push(format!("enabled to {}", wanted.enabled));
    }
    if listed.name_prefix.as_deref() != Some(&wanted.name_prefix) {
        words.push(format!("namePrefix to {:?}", wanted.name_prefix));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(share: &str) -> SnapshotPolicy {
        SnapshotPolicy {
            share: share.to_owned(),
            interval: "@daily".to_owned(),
            keep_last: 7,
            ttl: "720h".to_owned(),
            enabled: true,
            name_prefix: "auto".to_owned(),
        }
    }

    fn listed(share: &str) -> ListedPolicy {
        ListedPolicy {
            share: share.to_owned(),
            interval: Some(Duration::from_hours(24)),
            keep_last: Some(7),
            ttl: Some(Duration::from_hours(720)),
            enabled: Some(true),
            name_prefix: Some("auto".to_owned()),
        }
    }

    #[test]
    fn what_is_as_wanted_is_not_written_whatever_the_words() {
        let mut daily = [wanted("/a"), wanted("/b"), wanted("/c")];
        daily[1].interval = "24h".to_owned();
        daily[2].interval = "1440m".to_owned();
        daily[2].ttl = "43200m0s".to_owned();
        let plan = plan_policies(&daily, Some(&["/c", "/a", "/b"].map(listed)));
        assert_eq!(plan, PolicyPlan { write: vec![], others: vec![] });
        let (mut for_ever, mut kept) = (wanted("/a"), listed("/a"));
        kept.ttl = Some(Duration::ZERO);
        for none in ["", "0", "0s"] {
            for_ever.ttl = none.to_owned();
            assert_eq!(plan_policies(std::slice::from_ref(&for_ever), Some(&[kept.clone()])).write, vec![], "{none:?}");
        }
    }

    #[test]
    fn each_field_that_differs_is_named_and_is_enough() {
        type Change = fn(&mut ListedPolicy);
        let table: [(&str, Change); 8] = [
            ("interval to @daily", |p| p.interval = Some(Duration::from_hours(1))),
            ("interval to @daily", |p| p.interval = None),
            ("keepLast to 7", |p| p.keep_last = Some(0)),
            ("keepLast to 7", |p| p.keep_last = None),
            ("ttl to 720h", |p| p.ttl = None),
            ("ttl to 720h", |p| p.ttl = Some(Duration::ZERO)),
            ("enabled to true", |p| p.enabled = Some(false)),
            ("namePrefix to \"auto\"", |p| p.name_prefix = Some(String::new())),
        ];
        for (words, change) in table {
            let mut there = listed("/a");
            change(&mut there);
            let policy = wanted("/a");
            let plan = plan_policies(std::slice::from_ref(&policy), Some(&[there]));
            assert_eq!(plan.write, [(&policy, words.to_owned())]);
        }
    }

    #[test]
    fn what_nobody_can_read_is_not_taken_for_the_same() {
        let (mut policy, mut there) = (wanted("/a"), listed("/a"));
        (policy.interval, there.interval) = ("often".to_owned(), None);
        (policy.ttl, there.ttl) = ("long".to_owned(), None);
        let plan = plan_policies(std::slice::from_ref(&policy), Some(&[there]));
        assert_eq!(plan.write, [(&policy, "interval to often, ttl to long".to_owned())]);
    }

    #[test]
    fn what_the_server_lacks_is_written_and_what_the_spec_does_not_name_is_told() {
        let policies = [wanted("/new"), wanted("/there")];
        let plan = plan_policies(&policies, Some(&[listed("/gone"), listed("/there"), listed("/theirs")]));
        assert_eq!(plan.write, [(&policies[0], "new, each @daily".to_owned())]);
        assert_eq!(plan.others, ["/gone", "/theirs"]);
        let blind = plan_policies(&policies, None);
        assert_eq!((blind.write.len(), blind.others.len()), (2, 0), "a server that does not list them");
        assert_eq!(plan_policies(&[], Some(&[listed("/gone")])).others, ["/gone"]);
    }

    #[test]
    fn names_and_times_are_read_as_the_server_reads_them() {
        for name in ["archive", "/archive", "//archive"] {
            assert_eq!(share_name(name), "/archive");
        }
        assert_eq!(parse_interval("@hourly"), parse_interval("60m"));
        assert_eq!(parse_interval("@weekly"), parse_interval("168h0m0s"));
        for none in ["", "0", "0s", "-1h", "@monthly", "7d"] {
            assert_eq!(parse_interval(none), None, "{none:?}");
        }
        assert_eq!((parse_ttl(""), parse_ttl("0")), (Some(Duration::ZERO), Some(Duration::ZERO)));
        assert_eq!((parse_ttl("x"), parse_ttl("-1h")), (None, None));
    }
}
