//! `spec.storage` and `spec.cache`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, rules};

/// Volumes of the server. A size can grow, and be taken back to what its claim has (`status.volumes`); nothing else here
/// can change after creation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::stays_set("spec.storage", "contentSize"),
    validation = rules::immutable("spec.storage", "storageClassName")
)]
pub struct StorageSpec {
    /// Size of the metadata volume, a number with Mi, Gi or Ti.
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(Gi|Mi|Ti)$"))]
    #[x_kube(validation = rules::claim_size("spec.storage.metadataSize"))]
    pub metadata_size: String,
    /// Size of the local content volume, a number with Mi, Gi or Ti. Without it there is no such volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(Gi|Mi|Ti)$"))]
    #[x_kube(validation = rules::claim_size("spec.storage.contentSize"))]
    pub content_size: Option<String>,
    /// Size of the control plane's volume, a number with Mi, Gi or Ti.
    #[serde(default = "defaults::control_plane_size")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(Gi|Mi|Ti)$"))]
    #[x_kube(validation = rules::claim_size("spec.storage.controlPlaneSize"))]
    pub control_plane_size: String,
    /// Storage class of all volumes; the cluster's default when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
}

/// Local cache of remote blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// Size in bytes: a whole number, with one of the suffixes k, M, G, T, P, Ki, Mi, Gi, Ti, Pi or none.
    #[serde(default = "defaults::cache_size")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rules::cache_size("spec.cache.size"))]
    pub size: String,
    /// Absolute path at which the content volume is mounted.
    #[serde(default = "defaults::cache_path")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::mount_path("spec.cache.path"))]
    pub path: String,
}
