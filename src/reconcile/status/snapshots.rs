//! Condition `SnapshotPoliciesApplied`: what became of `spec.snapshotPolicies`.
//!
//! There is none while the spec has no policies and never had. It says nothing about `Ready`: a share whose policy waits
//! is served all the same.

use super::{Condition, Observed, Truth, bounded, carried, carried_or_unknown, condition};

const KIND: &str = "SnapshotPoliciesApplied";

/// Longest name of a share in a message, in characters, and how many are named.
const SHARE_MAX: usize = 80;
const SHARES_MAX: usize = 10;

/// What AdapterPoller last found out about the snapshot policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotsFact {
    /// The spec has none, and none of its own are left on the server.
    Unwanted,
    /// Those of the spec were not applied yet.
    Pending,
    /// The server was asked.
    Asked {
        /// How many the spec has.
        wanted: usize,
        /// Shares that do not exist yet.
        missing: Vec<String>,
        /// Shares whose policy the server did not take, each with its words.
        refused: Vec<String>,
        /// Shares with a policy that the spec does not name.
        others: Vec<String>,
    },
    /// They could not be looked at.
    Failed {
        /// Condition reason.
        reason: &'static str,
        /// What happened.
        text: String,
    },
}

/// Some names, and how many more there are.
fn names(shares: &[String]) -> String {
    let mut named: Vec<_> = shares.iter().take(SHARES_MAX).map(|share| bounded(share, SHARE_MAX)).collect();
    if shares.len() > SHARES_MAX {
        named.push(format!("{} more", shares.len() - SHARES_MAX).into());
    }
    named.join(", ")
}

/// The condition, if there is to be one.
pub(super) fn snapshots_condition(seen: &Observed<'_>) -> Option<Condition> {
    let wants_some = seen.server.is_ok_and(|server| !server.snapshot_policies.is_empty());
    let pending = || carried_or_unknown(seen, KIND, "NotAppliedYet", "The policies were not applied yet");
    match seen.snapshots {
        None if wants_some => Some(pending()),
        None => carried(seen, KIND),
        Some(SnapshotsFact::Unwanted) => None,
        Some(SnapshotsFact::Pending) => {
            Some(condition(KIND, Truth::Unknown, "NotAppliedYet", "The policies were not applied yet"))
        }
        Some(SnapshotsFact::Failed { reason, text }) => Some(condition(KIND, Truth::No, reason, text.clone())),
        Some(SnapshotsFact::Asked { wanted, missing, refused, others }) => asked(*wanted, missing, refused, others),
    }
}

fn asked(wanted: usize, missing: &[String], refused: &[String], others: &[String]) -> Option<Condition> {
    let mut words = Vec::new();
    if !refused.is_empty() {
        words.push(format!("the server did not take: {}; correct spec.snapshotPolicies", refused.join("; ")));
    }
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "a share that does" } else { "shares that do" };
        words.push(format!("waiting for {verb} not exist yet: {}", names(missing)));
    }
    if !others.is_empty() {
        words.push(format!(
            "left as they are: policies on the server that spec.snapshotPolicies does not name, of {}; \
             delete them there when they are not wanted",
            names(others)
        ));
    }
    let (truth, reason) = match (refused, missing, wanted) {
        ([], [], 0) if others.is_empty() => return None,
        ([], [], 0) => (Truth::Yes, "LeftOnServer"),
        ([], [], _) => (Truth::Yes, "PoliciesApplied"),
        ([], ..) => (Truth::No, "ShareNotFound"),
        _ => (Truth::No, "PolicyRefused"),
    };
    if truth == Truth::Yes && wanted > 0 {
        let verb = if wanted == 1 { "policy is" } else { "policies are" };
        words.insert(0, format!("{wanted} {verb} on the server as specified"));
    }
    Some(condition(KIND, truth, reason, words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn said(wanted: usize, missing: &[&str], refused: &[&str], others: &[&str]) -> Option<(String, String)> {
        let made = asked(wanted, &texts(missing), &texts(refused), &texts(others))?;
        Some((format!("{}/{}", made.truth.as_str(), made.reason), made.message))
    }

    #[test]
    fn each_outcome_has_its_reason_and_names_the_shares() {
        assert_eq!(said(0, &[], &[], &[]), None);
        let table = [
            (said(2, &[], &[], &[]), "True/PoliciesApplied", "2 policies are on the server as specified"),
            (said(1, &[], &[], &["/old"]), "True/PoliciesApplied", "does not name, of /old"),
            (said(0, &[], &[], &["/old"]), "True/LeftOnServer", "does not name, of /old"),
            (said(2, &["/new"], &[], &[]), "False/ShareNotFound", "waiting for a share that does not exist yet: /new"),
            (said(2, &["/new"], &["/a: bad"], &["/old"]), "False/PolicyRefused", "did not take: /a: bad"),
            (said(2, &["/new"], &["/a: bad"], &["/old"]), "False/PolicyRefused", "not exist yet: /new"),
            (said(2, &["/new"], &["/a: bad"], &["/old"]), "False/PolicyRefused", "left as they are"),
        ];
        for (made, reason, words) in table {
            let (is, message) = made.expect(reason);
            assert_eq!(is, reason);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn many_and_long_names_are_cut() {
        let many: Vec<String> = (0..100).map(|number| format!("/{number}-{}", "x".repeat(255))).collect();
        let message = asked(100, &many, &[], &[]).expect("a condition").message;
        assert!(message.contains("/9-x") && message.contains("90 more") && !message.contains("/10-x"), "{message}");
        assert!(message.len() < 1200, "{}", message.len());
    }
}
