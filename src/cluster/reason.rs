//! Why an Event is there: the reasons that `kubectl describe dittoserver` shows, and the page about them.
//!
//! A reason is never renamed: people filter and alert by it.

use std::fmt::Write as _;

use super::events::NoticeKind;

/// Reason of an Event about a `DittoServer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The StatefulSet was created.
    Created,
    /// The server is being deleted.
    Deleting,
    /// The operator's account was made or taken up.
    AuthProvisioned,
    /// A Service of an adapter was created.
    AdapterServiceCreated,
    /// A Service of an adapter was changed.
    AdapterServiceUpdated,
    /// A Service of an adapter was deleted.
    AdapterServiceDeleted,
    /// A NetworkPolicy of an adapter was created.
    AdapterNetworkPolicyCreated,
    /// A NetworkPolicy of an adapter was changed.
    AdapterNetworkPolicyUpdated,
    /// A NetworkPolicy of an adapter was deleted.
    AdapterNetworkPolicyDeleted,
    /// The StatefulSet's ports follow the adapters.
    ContainerPortsUpdated,
    /// A claim was asked to grow.
    VolumeExpanding,
    /// A claim has grown.
    VolumeExpanded,
    /// A claim cannot grow.
    VolumeExpansionFailed,
    /// A StorageClass that claims ask for is not there.
    StorageClassNotFound,
    /// The annotation of the DittoServer asks for a restart.
    RestartRequested,
    /// Something could not be brought about.
    ReconcileFailed,
    /// The server refuses the operator's account.
    AuthFailed,
    /// The API of the server does not answer.
    AuthAPIUnreachable,
    /// The server refuses the administrator who is to set up the operator's account.
    AdminBootstrapUnauthorized,
    /// The server refuses the administrator whom a session was to be opened for.
    AdminCredentialUnauthorized,
    /// The server does not take a snapshot policy.
    SnapshotPolicyFailed,
    /// A Service of an adapter could not be written.
    AdapterServiceFailed,
    /// A NetworkPolicy could not be written.
    NetworkPolicyFailed,
    /// What had to be done before a deletion was given up.
    CleanupTimeout,
    /// An object with our name is somebody else's.
    NotOwned,
    /// The server cannot come up as things are.
    ServerFailed,
    /// A change of the pod template replaces the running pod.
    RolloutStarted,
    /// What somebody changed or deleted was set back.
    DriftRepaired,
    /// The same is changed again and again.
    DriftFought,
    /// The database of Percona's operator cannot be used.
    PerconaNotReady,
    /// The cluster of Percona's operator stays although its server has no use for it any more.
    PerconaOrphaned,
    /// The cluster of Percona's operator goes with its server.
    PerconaDeleted,
}

impl Reason {
    /// All of them, as the page lists them.
    pub const ALL: [Self; 32] = [
        Self::Created,
        Self::Deleting,
        Self::AuthProvisioned,
        Self::AdapterServiceCreated,
        Self::AdapterServiceUpdated,
        Self::AdapterServiceDeleted,
        Self::AdapterNetworkPolicyCreated,
        Self::AdapterNetworkPolicyUpdated,
        Self::AdapterNetworkPolicyDeleted,
        Self::ContainerPortsUpdated,
        Self::VolumeExpanding,
        Self::VolumeExpanded,
        Self::VolumeExpansionFailed,
        Self::StorageClassNotFound,
        Self::RestartRequested,
        Self::ReconcileFailed,
        Self::AuthFailed,
        Self::AuthAPIUnreachable,
        Self::AdminBootstrapUnauthorized,
        Self::AdminCredentialUnauthorized,
        Self::SnapshotPolicyFailed,
        Self::AdapterServiceFailed,
        Self::NetworkPolicyFailed,
        Self::CleanupTimeout,
        Self::NotOwned,
        Self::ServerFailed,
        Self::RolloutStarted,
        Self::DriftRepaired,
        Self::DriftFought,
        Self::PerconaNotReady,
        Self::PerconaOrphaned,
        Self::PerconaDeleted,
    ];

    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Deleting => "Deleting",
            Self::AuthProvisioned => "AuthProvisioned",
            Self::AdapterServiceCreated => "AdapterServiceCreated",
            Self::AdapterServiceUpdated => "AdapterServiceUpdated",
            Self::AdapterServiceDeleted => "AdapterServiceDeleted",
            Self::AdapterNetworkPolicyCreated => "AdapterNetworkPolicyCreated",
            Self::AdapterNetworkPolicyUpdated => "AdapterNetworkPolicyUpdated",
            Self::AdapterNetworkPolicyDeleted => "AdapterNetworkPolicyDeleted",
            Self::ContainerPortsUpdated => "ContainerPortsUpdated",
            Self::VolumeExpanding => "VolumeExpanding",
            Self::VolumeExpanded => "VolumeExpanded",
            Self::VolumeExpansionFailed => "VolumeExpansionFailed",
            Self::StorageClassNotFound => "StorageClassNotFound",
            Self::RestartRequested => "RestartRequested",
            Self::ReconcileFailed => "ReconcileFailed",
            Self::AuthFailed => "AuthFailed",
            Self::AuthAPIUnreachable => "AuthAPIUnreachable",
            Self::AdminBootstrapUnauthorized => "AdminBootstrapUnauthorized",
            Self::AdminCredentialUnauthorized => "AdminCredentialUnauthorized",
            Self::SnapshotPolicyFailed => "SnapshotPolicyFailed",
            Self::AdapterServiceFailed => "AdapterServiceFailed",
            Self::NetworkPolicyFailed => "NetworkPolicyFailed",
            Self::CleanupTimeout => "CleanupTimeout",
            Self::NotOwned => "NotOwned",
            Self::ServerFailed => "ServerFailed",
            Self::RolloutStarted => "RolloutStarted",
            Self::DriftRepaired => "DriftRepaired",
            Self::DriftFought => "DriftFought",
            Self::PerconaNotReady => "PerconaNotReady",
            Self::PerconaOrphaned => "PerconaOrphaned",
            Self::PerconaDeleted => "PerconaDeleted",
        }
    }

    /// Whether somebody should look.
    pub fn kind(self) -> NoticeKind {
        match self {
            Self::Created
            | Self::Deleting
            | Self::AuthProvisioned
            | Self::AdapterServiceCreated
            | Self::AdapterServiceUpdated
            | Self::AdapterServiceDeleted
            | Self::AdapterNetworkPolicyCreated
            | Self::AdapterNetworkPolicyUpdated
            | Self::AdapterNetworkPolicyDeleted
            | Self::ContainerPortsUpdated
            | Self::VolumeExpanding
            | Self::VolumeExpanded
            | Self::RestartRequested
            | Self::RolloutStarted
            | Self::PerconaOrphaned
            | Self::DriftRepaired => NoticeKind::Normal,
            Self::ReconcileFailed
            | Self::VolumeExpansionFailed
            | Self::StorageClassNotFound
            | Self::AuthFailed
            | Self::AuthAPIUnreachable
            | Self::AdminBootstrapUnauthorized
            | Self::AdminCredentialUnauthorized
            | Self::SnapshotPolicyFailed
            | Self::AdapterServiceFailed
            | Self::NetworkPolicyFailed
            | Self::CleanupTimeout
            | Self::NotOwned
            | Self::PerconaNotReady
            | Self::PerconaDeleted
            | Self::ServerFailed
            | Self::DriftFought => NoticeKind::Warning,
        }
    }

    /// When it is told.
    pub fn when(self) -> &'static str {
        match self {
            Self::Created => "The StatefulSet was created: for a new server, or after somebody deleted it.",
            Self::Deleting => {
                "The DittoServer is being deleted: polling stops, the operator's account at the server is removed, then \
                 the finalizer."
            }
            Self::AuthProvisioned => {
                "The operator logged in as administrator and set up its own account at the server."
            }
            Self::AdapterServiceCreated => "A poll found an adapter running that had no Service.",
            Self::AdapterServiceUpdated => {
                "The Service of an adapter differed from what the spec and the adapter ask for."
            }
            Self::AdapterServiceDeleted => "An adapter no longer runs, or its Services were switched off in the spec.",
            Self::AdapterNetworkPolicyCreated => "The ports of an adapter's Service had no NetworkPolicy.",
            Self::AdapterNetworkPolicyUpdated => {
                "The NetworkPolicy of an adapter differed from the ports of its Service and the peers of the spec."
            }
            Self::AdapterNetworkPolicyDeleted => {
                "An adapter no longer runs, or NetworkPolicies were switched off in the spec."
            }
            Self::ContainerPortsUpdated => {
                "The ports that the pod template declares follow the adapters; the running pod is left alone unless the \
                 spec says otherwise."
            }
            Self::VolumeExpanding => {
                "A claim of the server was asked for the size that `spec.storage` has now; the storage driver makes it so."
            }
            Self::VolumeExpanded => "A claim of the server has a larger size than before.",
            Self::VolumeExpansionFailed => {
                "A claim cannot have the size that `spec.storage` asks for: its StorageClass does not allow it, the API \
                 server refuses it, or the storage driver fails. The note says what to do; the claim keeps its size."
            }
            Self::StorageClassNotFound => {
                "A claim that has no volume asks for a StorageClass that is not there, or for the default one of a cluster \
                 without any. Nothing is held back: volumes made by hand may bear that name."
            }
            Self::RestartRequested => {
                "The annotation dittofs.io/restart-at of the DittoServer has a new value; the pod restarts once, with \
                 whatever was held back."
            }
            Self::ReconcileFailed => {
                "An object could not be written, or the server's answer could not be understood. It is tried again."
            }
            Self::AuthFailed => "The server refused the operator's account, and logging in anew did not help.",
            Self::AuthAPIUnreachable => {
                "The server's API gave no answer although its pod is ready. Services stay as they are."
            }
            Self::AdminBootstrapUnauthorized => {
                "The server refused the administrator's password that the Secret has: the operator cannot set up its \
                 account. It is tried again with growing pauses, and at once when the Secret changes."
            }
            Self::AdminCredentialUnauthorized => {
                "The server refused the administrator's password that the Secret has: snapshot policies are not \
                 applied, and the NFS adapter's further ports not read. It is tried again with growing pauses, and at \
                 once when the Secret changes."
            }
            Self::SnapshotPolicyFailed => {
                "The server did not take a policy of `spec.snapshotPolicies`; the note has its words. It is tried again."
            }
            Self::AdapterServiceFailed => {
                "The Service of an adapter could not be written or deleted, which is tried again; or it cannot have all that \
                 the spec asks for (a changed `loadBalancerClass`, families of addresses), and the rest follows."
            }
            Self::NetworkPolicyFailed => {
                "A NetworkPolicy could not be written or deleted: what it should let in may be kept out. It is tried \
                 again."
            }
            Self::CleanupTimeout => {
                "What has to be done before a deletion failed for 60 s from its first attempt; the server goes \
                 without it."
            }
            Self::NotOwned => {
                "An object of the name that the operator needs belongs to somebody else; it is left untouched."
            }
            Self::ServerFailed => {
                "The server cannot come up as things are: its phase turned to Failed, or the reason for that changed. \
                 The note is the message of its condition Ready."
            }
            Self::RolloutStarted => {
                "The pod template was changed by something that the server has to see: its pod is replaced, once. The \
                 note says what differs."
            }
            Self::DriftRepaired => {
                "Somebody else had changed fields of an object that the operator keeps, or had deleted it: it was set back. \
                 The note names each field with its manager."
            }
            Self::DriftFought => {
                "The same field of the same object is changed by the same manager again and again: from the third time on \
                 it is set back ever more slowly, each 5 minutes at last. Nothing else waits for it."
            }
            Self::PerconaNotReady => {
                "The database of `spec.percona` cannot be used yet, or no more: Percona's operator is not installed, or \
                 has not made it ready. A new server waits; one that runs is left as it is."
            }
            Self::PerconaOrphaned => {
                "The server is deleted, or `spec.percona` was switched off, without `deleteWithServer`: the PerconaPGCluster \
                 stays with its data, and a server of the same name that asks for one takes it up again."
            }
            Self::PerconaDeleted => {
                "The server is deleted, and `spec.percona.deleteWithServer` is set: the garbage collector deletes the \
                 PerconaPGCluster with it."
            }
        }
    }

    /// What to do about it; empty for what is as it should be.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ReconcileFailed => {
                "The note has the API server's answer: permissions (`deploy/rbac.yaml`), a quota, a webhook, a field that \
                 cannot be changed. It is tried again by itself."
            }
            Self::AuthFailed => {
                "Delete the Secret `<name>-operator-credentials`: the account is set up anew by the administrator's password."
            }
            Self::AuthAPIUnreachable => {
                "See the server's log, and whether a NetworkPolicy keeps the operator from the API port."
            }
            Self::AdminBootstrapUnauthorized | Self::AdminCredentialUnauthorized => {
                "Put the administrator's present password into the Secret that the server names, or into \
                 `<name>-admin-bootstrap-credentials`."
            }
            Self::SnapshotPolicyFailed => "Correct the entry of spec.snapshotPolicies that the note names.",
            Self::AdapterServiceFailed => "The note has the API server's answer; the Service stays as it is meanwhile.",
            Self::NetworkPolicyFailed => {
                "The note has the API server's answer, mostly about a peer in spec.networkPolicy.from; Services are not held up."
            }
            Self::NotOwned => "Rename or remove that object, or give the server another name.",
            Self::ServerFailed => "The note says what to do; see docs/status.md.",
            Self::VolumeExpansionFailed => {
                "The note says what to do: mostly `allowVolumeExpansion` of the StorageClass, or the old size again."
            }
            Self::StorageClassNotFound => {
                "Create the StorageClass, or a PersistentVolume for each claim; it is picked up by itself."
            }
            Self::DriftFought => {
                "Take the object, or the field, out of what the manager in the note applies, and change the DittoServer \
                 instead."
            }
            Self::CleanupTimeout => "Do what the note says was left undone, by hand.",
            Self::PerconaNotReady => {
                "The note says what Percona's operator lacks or waits for; install it, or see its log and the status of the \
                 PerconaPGCluster."
            }
            Self::PerconaDeleted => {
                "If it was not meant, bring the data back from a backup; unset `deleteWithServer` before a server is deleted \
                 whose database is to stay."
            }
            // The test says which one is missing.
            _ => "",
        }
    }

    /// What the note looks like; words in braces stand for values.
    pub fn note(self) -> &'static str {
        match self {
            Self::Created => "Created StatefulSet {name}",
            Self::Deleting => "Deleting the server; its volumes and generated Secrets stay",
            Self::AuthProvisioned => "The operator's account at the server was provisioned",
            Self::AdapterServiceCreated => "Created Service {name} for adapter {type} on port {port}",
            Self::AdapterServiceUpdated => "Updated Service {name}: {field from what to what, …}",
            Self::AdapterServiceDeleted => "Deleted Service {name}: {why}",
            Self::AdapterNetworkPolicyCreated => "Created NetworkPolicy {name} for adapter {type}",
            Self::AdapterNetworkPolicyUpdated => "Updated NetworkPolicy {name}: {field from what to what, …}",
            Self::AdapterNetworkPolicyDeleted => "Deleted NetworkPolicy {name}: {why}",
            Self::ContainerPortsUpdated => "Container ports of StatefulSet {name} follow the adapters: {changes}",
            Self::VolumeExpanding => "Claim {name} is asked to grow from {size} to {size}",
            Self::VolumeExpanded => "Claim {name} has grown from {size} to {size}",
            Self::VolumeExpansionFailed => "Claim {name}: {what stands in the way, and what to do}",
            Self::StorageClassNotFound => {
                "spec.storage.storageClassName is {name}, and there is no StorageClass of that name: claims {names} cannot \
                 get a volume; {what to do}"
            }
            Self::RestartRequested => "The pod of StatefulSet {name} is restarted: dittofs.io/restart-at is {text}",
            Self::ReconcileFailed => "StatefulSet {name}: {error}; or: {error}",
            Self::AuthFailed
            | Self::AuthAPIUnreachable
            | Self::AdminBootstrapUnauthorized
            | Self::AdminCredentialUnauthorized => "{error}",
            Self::SnapshotPolicyFailed => {
                "Snapshot policy of share {share}: {error}; correct its entry in spec.snapshotPolicies"
            }
            Self::AdapterServiceFailed => "Service {name}: {error}",
            Self::NetworkPolicyFailed => "NetworkPolicy {name}: {error}",
            Self::CleanupTimeout => "Given up 60 s after the first attempt; left undone: {what (error), …}",
            Self::PerconaNotReady => "{why}",
            Self::PerconaOrphaned => {
                "PerconaPGCluster {name} stays with its data: {why}; when nobody needs it: kubectl delete …"
            }
            Self::PerconaDeleted => {
                "PerconaPGCluster {name} goes with the server: spec.percona.deleteWithServer is set; …"
            }
            Self::NotOwned => "{kind} {name} belongs to somebody else; rename or remove it",
            Self::ServerFailed => "{reason}: {what happened}: {what to do}",
            Self::DriftRepaired => {
                "{kind} {name}: set back {field} ({manager}), …; change the DittoServer instead: {changes}; or: {kind} {name} \
                 was deleted by somebody, and was made again"
            }
            Self::DriftFought => "{field} of {kind} {name} is changed again and again by {manager}: …",
            Self::RolloutStarted => "StatefulSet {name} replaces its pod for generation {generation}: {changes}",
        }
    }
}

/// The page `docs/events.md`.
pub fn markdown() -> String {
    let mut page = String::from(include_str!("events_intro.md"));
    page.push_str("\n## Reasons\n\n| reason | type | when | note | what to do |\n|---|---|---|---|---|\n");
    for reason in Reason::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | `{}` | {} |",
            reason.as_str(),
            reason.kind().as_str(),
            reason.when(),
            reason.note(),
            reason.remedy()
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_are_pascal_case_and_each_is_on_the_page_once() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len(), "two reasons of one name");
        let page = markdown();
        for reason in Reason::ALL {
            let name = reason.as_str();
            assert_eq!(name, format!("{reason:?}"));
            assert!(reason.when().len() > 20 && !reason.note().is_empty(), "{name}");
            assert_eq!(
                reason.remedy().is_empty(),
                reason.kind() == NoticeKind::Normal,
                "{name}: what is wrong has a remedy"
            );
            assert_eq!(page.matches(&format!("| `{name}` |")).count(), 1, "{name}");
        }
    }
}
