//! What the actors tell StatusReporter: each fact is what one of them last found or did.

use std::collections::BTreeMap;

/// What ConfigHasher last found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFact {
    /// ConfigMap and Secrets are in place and hashed for this generation.
    Valid {
        /// `metadata.generation`.
        generation: i64,
    },
    /// A Secret is missing or lacks a key: the last hash holds.
    SecretMissing {
        /// `metadata.generation`.
        generation: i64,
        /// Which, and what to do.
        text: String,
    },
    /// The ConfigMap or a managed Secret cannot be written, or belongs to somebody else.
    Failed {
        /// Condition reason.
        reason: &'static str,
        /// What happened.
        text: String,
    },
}

impl ConfigFact {
    pub(super) fn generation(&self) -> Option<i64> {
        match self {
            Self::Valid { generation } | Self::SecretMissing { generation, .. } => Some(*generation),
            Self::Failed { .. } => None,
        }
    }
}

/// What AdapterPoller last found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollFact {
    /// A full, valid answer.
    Answered,
    /// No answer, or none of the server's.
    Unreachable(String),
    /// The server or its Secrets refuse us.
    Refused(String),
    /// We are logged in, but the answer is not a list of adapters.
    BadAnswer(String),
    /// `replicas` is 0: nothing is polled.
    Stopped,
}

/// What PortReconciler last did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortsFact {
    /// Generation that the StatefulSet carries; None when the last run did not get so far.
    pub applied: Option<i64>,
    /// A port change is held back.
    pub deferred: bool,
    /// What stands in the way, in words.
    pub problem: Option<String>,
}

/// Which claims PortReconciler cannot let grow, or sees wait for a StorageClass, and why; and which it leaves as somebody
/// else wished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumesFact {
    /// By claim: why.
    pub refused: BTreeMap<&'static str, String>,
    /// StorageClasses that claims without a volume wait for and that are not there, in words.
    pub classless: Vec<String>,
    /// By claim that asks for more than the spec does and is not ours to take back: the name of who asked.
    pub left: BTreeMap<&'static str, String>,
}

/// What ServiceReconciler last did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicesFact {
    /// Generation that all Services and NetworkPolicies carry; None when the last run did not get so far.
    pub applied: Option<i64>,
    /// Failures and foreign objects, in words.
    pub problems: Vec<String>,
    /// Objects (`Kind name`) that are being deleted and whose successors wait.
    pub waiting: Vec<String>,
}

/// The last change to an object of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastChange {
    /// When, RFC 3339.
    pub time: String,
    /// Trace of the reconcile that made it.
    pub trace_id: Option<String>,
    /// In words.
    pub summary: String,
}
