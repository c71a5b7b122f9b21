//! What is logged and told as event of an object that ServiceReconciler keeps.
//!
//! Services have lines of their own, which people search by; of every other kind the line names the kind.

use tracing::{info, warn};

use crate::actors::messages::CauseKind;
use crate::cluster::{Kind, KubeError, Reason};
use crate::reconcile::{Again, ServerKey};

/// The events about the objects of one kind.
pub(super) struct Events {
    /// Reasons of what is told of an adapter's object: created, updated, deleted. None for what is not told.
    pub(super) adapter: Option<[Reason; 3]>,
    /// `action` of them, and of a failure to keep an object.
    pub(super) actions: [&'static str; 4],
}

/// Place in [`Events`] of a creation.
pub(super) const CREATED: usize = 0;
/// Of an update.
pub(super) const UPDATED: usize = 1;
/// Of a deletion.
pub(super) const DELETED: usize = 2;
/// Of a failure.
pub(super) const KEPT: usize = 3;

pub(super) fn events(kind: Kind) -> Events {
    match kind {
        Kind::NetworkPolicy => Events {
            adapter: Some([
                Reason::AdapterNetworkPolicyCreated,
                Reason::AdapterNetworkPolicyUpdated,
                Reason::AdapterNetworkPolicyDeleted,
            ]),
            actions: ["CreateNetworkPolicy", "ReplaceNetworkPolicy", "DeleteNetworkPolicy", "KeepNetworkPolicy"],
        },
        Kind::ServiceMonitor => Events {
            adapter: None,
            actions: ["CreateServiceMonitor", "ReplaceServiceMonitor", "DeleteServiceMonitor", "KeepServiceMonitor"],
        },
        _ => Events {
            adapter: Some([
                Reason::AdapterServiceCreated,
                Reason::AdapterServiceUpdated,
                Reason::AdapterServiceDeleted,
            ]),
            actions: ["CreateService", "ReplaceService", "DeleteService", "KeepService"],
        },
    }
}

/// The reason of a failure to bring an object about.
pub(super) fn failure(kind: Kind, of_adapter: bool) -> Reason {
    match kind {
        Kind::NetworkPolicy => Reason::NetworkPolicyFailed,
        Kind::Service if of_adapter => Reason::AdapterServiceFailed,
        _ => Reason::ReconcileFailed,
    }
}

/// Whose object, and which.
#[derive(Clone, Copy)]
pub(super) struct Which<'a> {
    pub(super) key: &'a ServerKey,
    pub(super) kind: Kind,
    pub(super) name: &'a str,
}

impl Which<'_> {
    pub(super) fn created(self, cause: CauseKind) {
        let (ServerKey { namespace, name }, object, cause) = (self.key, self.name, cause.as_str());
        match self.kind {
            Kind::Service => info!(namespace, name, service = object, cause, "created a Service"),
            kind => info!(namespace, name, kind = kind.name(), object, cause, "created an object"),
        }
    }

    pub(super) fn replaced(self, cause: CauseKind, changes: &str) {
        let (ServerKey { namespace, name }, object, cause) = (self.key, self.name, cause.as_str());
        match self.kind {
            Kind::Service => info!(namespace, name, service = object, cause, changes, "replaced a Service"),
            kind => info!(namespace, name, kind = kind.name(), object, cause, changes, "replaced an object"),
        }
    }

    pub(super) fn deleted(self, cause: CauseKind, why: &str) {
        let (ServerKey { namespace, name }, object, cause) = (self.key, self.name, cause.as_str());
        match self.kind {
            Kind::Service => info!(namespace, name, service = object, cause, why, "deleted a Service"),
            kind => info!(namespace, name, kind = kind.name(), object, cause, why, "deleted an object"),
        }
    }

    pub(super) fn not_reconciled(self, error: &KubeError, again: &Again) {
        let (ServerKey { namespace, name }, object) = (self.key, self.name);
        match self.kind {
            Kind::Service => {
                warn!(namespace, name, service = object, error = %error, "the Service cannot be reconciled{again}");
            }
            kind => {
                let kind = kind.name();
                warn!(namespace, name, kind, object, error = %error, "the object cannot be reconciled{again}");
            }
        }
    }

    /// Of a Service only: nothing else falls short.
    pub(super) fn short(self, problem: &str, again: &Again) {
        let (ServerKey { namespace, name }, service) = (self.key, self.name);
        warn!(namespace, name, service, problem, "the Service cannot have all that the spec asks for{again}");
    }

    pub(super) fn not_deleted(self, error: &KubeError, again: &Again) {
        let (ServerKey { namespace, name }, object) = (self.key, self.name);
        match self.kind {
            Kind::Service => {
                warn!(namespace, name, service = object, error = %error, "the Service cannot be deleted{again}");
            }
            kind => {
                let kind = kind.name();
                warn!(namespace, name, kind, object, error = %error, "the object cannot be deleted{again}");
            }
        }
    }

    pub(super) fn not_owned(self, again: &Again) {
        let (ServerKey { namespace, name }, object) = (self.key, self.name);
        match self.kind {
            Kind::Service => {
                warn!(namespace, name, service = object, "the Service belongs to somebody else{again}");
            }
            kind => {
                let kind = kind.name();
                warn!(namespace, name, kind, object, "the object belongs to somebody else{again}");
            }
        }
    }
}
