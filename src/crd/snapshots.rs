//! `spec.snapshotPolicies`: when the server takes snapshots of a share, and how long it keeps them.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// When snapshots of one share are taken, and which are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPolicySpec {
    /// Name of the share, with or without its leading slash. A share that is not there yet is awaited.
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::share_name("spec.snapshotPolicies[].share"))]
    pub share: String,
    /// Time between two snapshots: a Go duration above 0, or @hourly, @daily, @weekly.
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::snapshot_interval("spec.snapshotPolicies[].interval"))]
    pub interval: String,
    /// How many snapshots are kept; 0 or unset: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keep_last: Option<i32>,
    /// How long a snapshot is kept, a Go duration; 0 or unset: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::snapshot_ttl("spec.snapshotPolicies[].ttl"))]
    pub ttl: Option<String>,
    /// Whether snapshots are taken; true when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What the names of the snapshots begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::name_prefix("spec.snapshotPolicies[].namePrefix"))]
    pub name_prefix: Option<String>,
}
