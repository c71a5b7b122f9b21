//! Every reason that a condition can have: what it means, and what to do about it. The page `docs/status.md` is made of
//! it, and each test of the status checks that what was derived stands here.

use std::fmt::Write as _;

use crate::reconcile::pod::Why;

/// One reason of one condition.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Type of the condition.
    pub condition: &'static str,
    /// Its reason.
    pub reason: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What to do; empty when nothing is wrong, or when time alone mends it.
    pub remedy: &'static str,
}

const fn row(condition: &'static str, reason: &'static str, meaning: &'static str, remedy: &'static str) -> Row {
    Row { condition, reason, meaning, remedy }
}

/// What the message says of each.
const SEE: &str = "the message names each thing that is missing; mend these";
const SECRET: &str = "create the Secret, or the key that it lacks, that the message names";
const SPEC: &str = "correct the fields that the message names";
const API: &str = "see the message, the server's log, and whether the operator may reach the server's API port";
const LOGIN: &str = "see docs/runbooks/DittofsServerApiFailing.md: the message says which account is refused";
const BAD_ANSWER: &str = "the server's version may not be one that this operator knows: see the message";
const PERCONA: &str = "see the status of the PerconaPGCluster, and the log of Percona's operator";
const ADMIN: &str = "put the administrator's present password into the Secret that the message names";
const CONFIG_MAP: &str = "see the message: permissions, or an object of that name that belongs to somebody else";

/// All but those of a pod that cannot come up, which are [`Why::ALL`].
pub const ROWS: &[Row] = &[
    row("Ready", "AllConditionsMet", "The server runs as specified; the message says where it is served.", ""),
    row("Ready", "ConditionsNotMet", "Something is missing still.", SEE),
    row("Ready", "SpecInvalid", "The spec cannot be acted upon; nothing of the server is changed.", SPEC),
    row("Available", "MinimumReplicasAvailable", "The pod is available.", ""),
    row("Available", "NoReplicasAvailable", "There is no available pod.", "see Ready"),
    row("Available", "Stopped", "`spec.replicas` is 0.", ""),
    row("ConfigReady", "ConfigValid", "ConfigMap and Secrets are in place.", ""),
    row("ConfigReady", "ConfigMissing", "The configuration was not rendered yet.", ""),
    row("ConfigReady", "ConfigMapNotFound", "The ConfigMap cannot be read or written.", CONFIG_MAP),
    row("ConfigReady", "SecretMissing", "A Secret, or a key of it, is missing: the server is left as it is.", SECRET),
    row("ConfigReady", "SpecInvalid", "The spec cannot be acted upon.", SPEC),
    row("Progressing", "StatefulSetUpdating", "The pod is being replaced; the message names the revision.", ""),
    row("Progressing", "ScalingReplicas", "The pod is being made, or ends.", ""),
    row("Progressing", "ReconcileComplete", "Nothing is rolling.", ""),
    row("Authenticated", "AuthenticationSucceeded", "The operator is logged in to the server's API.", ""),
    row("Authenticated", "APIUnreachable", "The API gave no usable answer, or was not asked yet.", API),
    row("Authenticated", "AuthenticationFailed", "The server refuses the operator.", LOGIN),
    row("Authenticated", "Stopped", "A stopped server is not polled.", ""),
    row("AdaptersDiscovered", "AdaptersListed", "The server said which adapters run.", ""),
    row("AdaptersDiscovered", "NotPolledYet", "The server was not polled yet.", ""),
    row(
        "AdaptersDiscovered",
        "APIUnreachable",
        "The API gave no usable answer; the last known adapters are kept.",
        API,
    ),
    row("AdaptersDiscovered", "AuthenticationFailed", "The server refuses the operator.", LOGIN),
    row("AdaptersDiscovered", "BadAnswer", "The answer is not a list of adapters.", BAD_ANSWER),
    row("AdaptersDiscovered", "Stopped", "A stopped server is not polled.", ""),
    row("PortsRolledOut", "RolledOut", "The pod declares the ports of its adapters.", ""),
    row(
        "PortsRolledOut",
        "Deferred",
        "The declared ports differ from the adapters until the next rollout; no client depends on them.",
        "",
    ),
    row("PortsRolledOut", "NotReconciledYet", "The StatefulSet was not looked at yet.", ""),
    row("Warnings", "NoWarnings", "Nothing is doubtful.", ""),
    row(
        "Warnings",
        "Doubtful",
        "Settings that are doubtful, and fields of ours that somebody changes again and again.",
        "the message names each with what to do instead",
    ),
    row("VolumesReady", "VolumesAsSpecified", "Every claim has the size that `spec.storage` asks for.", ""),
    row(
        "VolumesReady",
        "VolumeLarger",
        "A claim has more than `spec.storage` says, and no volume shrinks; or somebody else asked it for more, which is left.",
        "",
    ),
    row("VolumesReady", "VolumeExpanding", "A claim grows; the message says how far it is.", ""),
    row(
        "VolumesReady",
        "VolumeExpansionFailed",
        "A claim cannot get its size.",
        "see the message: the StorageClass, the API server or the driver",
    ),
    row(
        "VolumesReady",
        "StorageClassNotFound",
        "Claims without a volume ask for a StorageClass that is not there; nothing is held back for it.",
        "create the StorageClass, or volumes by hand: see the message",
    ),
    row(
        "VolumesReady",
        "StorageChanged",
        "The spec asks for other volumes than the server was made with.",
        "set the old value again",
    ),
    row("VolumesReady", "NotListedYet", "The claims were not listed yet.", ""),
    row("VolumesReady", "SpecInvalid", "The spec cannot be acted upon.", SPEC),
    row("Paused", "PausedByAnnotation", "Nothing but status is written; the message says what would be.", ""),
    row("ConfigReady", "Paused", "The server is paused.", ""),
    row("DatabaseReady", "PerconaReady", "The database of Percona's operator is ready.", ""),
    row("DatabaseReady", "NotReconciledYet", "The database was not looked at yet.", ""),
    row("DatabaseReady", "PerconaNotReady", "Percona's operator has not made the database ready yet.", PERCONA),
    row(
        "DatabaseReady",
        "PerconaMissing",
        "Percona's operator is not installed.",
        "install it; it is found by itself then",
    ),
    row(
        "DatabaseReady",
        "PerconaUnreadable",
        "The database cannot be looked at.",
        "see the message: permissions, mostly",
    ),
    row("DatabaseReady", "PerconaDeleted", "Somebody deleted the database.", "see the message"),
    row("DatabaseReady", "NotOwned", "The PerconaPGCluster of that name is somebody else's.", "rename or remove it"),
    row("SnapshotPoliciesApplied", "PoliciesApplied", "The server has the policies of the spec.", ""),
    row("SnapshotPoliciesApplied", "LeftOnServer", "The server has policies that the spec does not name.", ""),
    row("SnapshotPoliciesApplied", "NotAppliedYet", "The policies were not applied yet.", ""),
    row(
        "SnapshotPoliciesApplied",
        "ShareNotFound",
        "A policy waits for its share.",
        "create the share, or correct the policy",
    ),
    row(
        "SnapshotPoliciesApplied",
        "PolicyRefused",
        "The server does not take a policy.",
        "correct spec.snapshotPolicies",
    ),
    row("SnapshotPoliciesApplied", "AdminRefused", "The server refuses the administrator.", ADMIN),
    row("SnapshotPoliciesApplied", "AdminSecretMissing", "The administrator's Secret is missing.", SECRET),
    row("SnapshotPoliciesApplied", "APIUnreachable", "The API gave no usable answer.", API),
    row("SnapshotPoliciesApplied", "BadAnswer", "The answer is not a list of policies.", BAD_ANSWER),
];

/// Whether a condition may have this reason.
pub fn is_known(condition: &str, reason: &str) -> bool {
    let pod = condition == "Ready" && Why::ALL.iter().any(|why| why.as_str() == reason);
    pod || ROWS.iter().any(|row| row.condition == condition && row.reason == reason)
}

/// The page `docs/status.md`.
pub fn markdown() -> String {
    let mut page = String::from(include_str!("status_intro.md"));
    page.push_str("\n## Why a server is Failed\n\n| reason of `Ready` | what to do |\n|---|---|\n");
    for why in Why::ALL {
        let _ = writeln!(page, "| `{}` | {} |", why.as_str(), why.remedy());
    }
    let _ = writeln!(page, "| `SpecInvalid` | {SPEC} |");
    page.push_str("\n## Conditions\n\n| condition | reason | meaning | what to do |\n|---|---|---|---|\n");
    for Row { condition, reason, meaning, remedy } in ROWS {
        let _ = writeln!(page, "| `{condition}` | `{reason}` | {meaning} | {remedy} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::table::CONDITIONS;
    use std::collections::BTreeSet;

    #[test]
    fn each_condition_is_described_and_each_reason_once() {
        let described: BTreeSet<&str> = ROWS.iter().map(|row| row.condition).collect();
        assert!(CONDITIONS.iter().all(|condition| described.contains(condition)), "{described:?}");
        let each: BTreeSet<(&str, &str)> = ROWS.iter().map(|row| (row.condition, row.reason)).collect();
        assert_eq!(each.len(), ROWS.len());
    }

    #[test]
    fn what_is_wrong_has_a_remedy() {
        let wrong = [
            "NotMet",
            "Invalid",
            "Missing",
            "NotFound",
            "Unreachable",
            "Failed",
            "BadAnswer",
            "Doubtful",
            "NoReplicas",
        ];
        for row in ROWS.iter().filter(|row| wrong.iter().any(|word| row.reason.contains(word))) {
            // Not rendered yet: the next moment mends it.
            assert!(!row.remedy.is_empty() || row.reason == "ConfigMissing", "{} {}", row.condition, row.reason);
        }
        assert!(is_known("Ready", "QuotaExceeded") && !is_known("Available", "QuotaExceeded"));
    }
}
