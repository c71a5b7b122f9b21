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
    /// The operator's account was made or taken up.
    AuthProvisioned,
    /// A Service of an adapter was created.
    AdapterServiceCreated,
    /// A Service of an adapter was changed.
    AdapterServiceUpdated,
    /// A Service of an adapter was deleted.
    AdapterServiceDeleted,
    /// The StatefulSet's ports follow the adapters.
    ContainerPortsUpdated,
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
    /// An object with our name is somebody else's.
    NotOwned,
    /// The database of Percona's operator cannot be used.
    PerconaNotReady,
}

impl Reason {
    /// All of them, as the page lists them.
    pub const ALL: [Self; 15] = [
        Self::Created,
        Self::AuthProvisioned,
        Self::AdapterServiceCreated,
        Self::AdapterServiceUpdated,
        Self::AdapterServiceDeleted,
        Self::ContainerPortsUpdated,
        Self::ReconcileFailed,
        Self::AuthFailed,
        Self::AuthAPIUnreachable,
        Self::AdminBootstrapUnauthorized,
        Self::AdminCredentialUnauthorized,
        Self::SnapshotPolicyFailed,
        Self::AdapterServiceFailed,
        Self::NotOwned,
        Self::PerconaNotReady,
    ];

    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::AuthProvisioned => "AuthProvisioned",
            Self::AdapterServiceCreated => "AdapterServiceCreated",
            Self::AdapterServiceUpdated => "AdapterServiceUpdated",
            Self::AdapterServiceDeleted => "AdapterServiceDeleted",
            Self::ContainerPortsUpdated => "ContainerPortsUpdated",
            Self::ReconcileFailed => "ReconcileFailed",
            Self::AuthFailed => "AuthFailed",
            Self::AuthAPIUnreachable => "AuthAPIUnreachable",
            Self::AdminBootstrapUnauthorized => "AdminBootstrapUnauthorized",
            Self::AdminCredentialUnauthorized => "AdminCredentialUnauthorized",
            Self::SnapshotPolicyFailed => "SnapshotPolicyFailed",
            Self::AdapterServiceFailed => "AdapterServiceFailed",
            Self::NotOwned => "NotOwned",
            Self::PerconaNotReady => "PerconaNotReady",
        }
    }

    /// Whether somebody should look.
    pub fn kind(self) -> NoticeKind {
        match self {
            Self::Created
            | Self::AuthProvisioned
            | Self::AdapterServiceCreated
            | Self::AdapterServiceUpdated
            | Self::AdapterServiceDeleted
            | Self::ContainerPortsUpdated => NoticeKind::Normal,
            Self::ReconcileFailed
            | Self::AuthFailed
            | Self::AuthAPIUnreachable
            | Self::AdminBootstrapUnauthorized
            | Self::AdminCredentialUnauthorized
            | Self::SnapshotPolicyFailed
            | Self::AdapterServiceFailed
            | Self::NotOwned
            | Self::PerconaNotReady => NoticeKind::Warning,
        }
    }

    /// When it is told.
    pub fn when(self) -> &'static str {
        match self {
            Self::Created => "The StatefulSet was created: for a new server, or after somebody deleted it.",
            Self::AuthProvisioned => {
                "The operator logged in as administrator and set up its own account at the server."
            }
            Self::AdapterServiceCreated => "A poll found an adapter running that had no Service.",
            Self::AdapterServiceUpdated => {
                "The Service of an adapter differed from what the spec and the adapter ask for."
            }
            Self::AdapterServiceDeleted => "An adapter no longer runs, or its Services were switched off in the spec.",
            Self::ContainerPortsUpdated => {
                "The ports that the pod template declares follow the adapters; the running pod is left alone unless the \
                 spec says otherwise."
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
            Self::NotOwned => {
                "An object of the name that the operator needs belongs to somebody else; it is left untouched."
            }
            Self::PerconaNotReady => {
                "The database of `spec.percona` cannot be used yet, or no more: Percona's operator is not installed, or \
                 has not made it ready. A new server waits; one that runs is left as it is."
            }
        }
    }

    /// What the note looks like; words in braces stand for values.
    pub fn note(self) -> &'static str {
        match self {
            Self::Created => "Created StatefulSet {name}",
            Self::AuthProvisioned => "The operator's account at the server was provisioned",
            Self::AdapterServiceCreated => "Created Service {name} for adapter {type} on port {port}",
            Self::AdapterServiceUpdated => "Updated Service {name}: {field from what to what, …}",
            Self::AdapterServiceDeleted => "Deleted Service {name}: {why}",
            Self::ContainerPortsUpdated => "Container ports of StatefulSet {name} follow the adapters: {changes}",
            Self::ReconcileFailed => "StatefulSet {name}: {error}; or: {error}",
            Self::AuthFailed
            | Self::AuthAPIUnreachable
            | Self::AdminBootstrapUnauthorized
            | Self::AdminCredentialUnauthorized => "{error}",
            Self::SnapshotPolicyFailed => {
                "Snapshot policy of share {share}: {error}; correct its entry in spec.snapshotPolicies"
            }
            Self::AdapterServiceFailed => "Service {name}: {error}",
            Self::PerconaNotReady => "{why}",
            Self::NotOwned => "{kind} {name} belongs to somebody else; rename or remove it",
        }
    }
}

/// The page `docs/events.md`.
pub fn markdown() -> String {
    let mut page = String::from(include_str!("events_intro.md"));
    page.push_str("\n## Reasons\n\n| reason | type | when | note |\n|---|---|---|---|\n");
    for reason in Reason::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | `{}` |",
            reason.as_str(),
            reason.kind().as_str(),
            reason.when(),
            reason.note()
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
            assert_eq!(page.matches(&format!("| `{name}` |")).count(), 1, "{name}");
        }
    }
}
