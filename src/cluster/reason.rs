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
    /// A claim was asked to grow.
    VolumeExpanding,
    /// A claim has grown.
    VolumeExpanded,
    /// A claim cannot grow.
    VolumeExpansionFailed,
    /// Something could not be brought about.
    ReconcileFailed,
    /// The server refuses the operator's account.
    AuthFailed,
    /// The API of the server does not answer.
    AuthAPIUnreachable,
    /// The server refuses the administrator.
    AdminCredentialUnauthorized,
    /// A Service of an adapter could not be written.
    AdapterServiceFailed,
    /// An object with our name is somebody else's.
    NotOwned,
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
        Self::VolumeExpanding,
        Self::VolumeExpanded,
        Self::VolumeExpansionFailed,
        Self::ReconcileFailed,
        Self::AuthFailed,
        Self::AuthAPIUnreachable,
        Self::AdminCredentialUnauthorized,
        Self::AdapterServiceFailed,
        Self::NotOwned,
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
            Self::VolumeExpanding => "VolumeExpanding",
            Self::VolumeExpanded => "VolumeExpanded",
            Self::VolumeExpansionFailed => "VolumeExpansionFailed",
            Self::ReconcileFailed => "ReconcileFailed",
            Self::AuthFailed => "AuthFailed",
            Self::AuthAPIUnreachable => "AuthAPIUnreachable",
            Self::AdminCredentialUnauthorized => "AdminCredentialUnauthorized",
            Self::AdapterServiceFailed => "AdapterServiceFailed",
            Self::NotOwned => "NotOwned",
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
            | Self::ContainerPortsUpdated
            | Self::VolumeExpanding
            | Self::VolumeExpanded => NoticeKind::Normal,
            Self::ReconcileFailed
            | Self::VolumeExpansionFailed
            | Self::AuthFailed
            | Self::AuthAPIUnreachable
            | Self::AdminCredentialUnauthorized
            | Self::AdapterServiceFailed
            | Self::NotOwned => NoticeKind::Warning,
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
            Self::VolumeExpanding => {
                "A claim of the server was asked for the size that `spec.storage` has now; the storage driver makes it so."
            }
            Self::VolumeExpanded => "A claim of the server has a larger size than before.",
            Self::VolumeExpansionFailed => {
                "A claim cannot have the size that `spec.storage` asks for: its StorageClass does not allow it, the API \
                 server refuses it, or the storage driver fails. The note says what to do; the claim keeps its size."
            }
            Self::ReconcileFailed => {
                "An object could not be written, or the server's answer could not be understood. It is tried again."
            }
            Self::AuthFailed => "The server refused the operator's account, and logging in anew did not help.",
            Self::AuthAPIUnreachable => {
                "The server's API gave no answer although its pod is ready. Services stay as they are."
            }
            Self::AdminCredentialUnauthorized => {
                "The server refused the administrator's password that the Secret has: the operator cannot set up its \
                 account."
            }
            Self::AdapterServiceFailed => {
                "The Service of an adapter could not be written or deleted. It is tried again."
            }
            Self::NotOwned => {
                "An object of the name that the operator needs belongs to somebody else; it is left untouched."
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
            Self::VolumeExpanding => "Claim {name} is asked to grow from {size} to {size}",
            Self::VolumeExpanded => "Claim {name} has grown from {size} to {size}",
            Self::VolumeExpansionFailed => "Claim {name}: {what stands in the way, and what to do}",
            Self::ReconcileFailed => "StatefulSet {name}: {error}; or: {error}",
            Self::AuthFailed | Self::AuthAPIUnreachable | Self::AdminCredentialUnauthorized => "{error}",
            Self::AdapterServiceFailed => "Service {name}: {error}",
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
