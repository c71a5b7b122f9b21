//! `spec.percona`: a PostgreSQL cluster for the control plane's data, made through Percona's operator.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, rules};

/// A PostgreSQL cluster of Percona's operator. It is made once; what is changed here afterwards, `deleteWithServer`
/// aside, is to be changed in the cluster itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerconaSpec {
    /// Whether there is one. It then is the server's database, whatever `spec.database` says. The server's name has at
    /// most 28 characters then, or the names that Percona's operator makes of it do not fit; its documentation advises
    /// less, 22 characters for `<name>-postgres`.
    #[serde(default)]
    pub enabled: bool,
    /// Whether the cluster, with its data, goes when the server goes.
    #[serde(default)]
    pub delete_with_server: bool,
    /// Number of PostgreSQL instances.
    #[serde(default = "defaults::percona_replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: i32,
    /// Size of the volume of each instance.
    #[serde(default = "defaults::percona_storage_size")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::cache_size("spec.percona.storageSize"))]
    pub storage_size: String,
    /// `StorageClass` of these volumes; the cluster's default when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Name of the database.
    #[serde(default = "defaults::percona_database_name")]
    #[schemars(length(max = 63))]
    pub database_name: String,
    /// Backups to S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<PerconaBackupSpec>,
}

/// Backups to S3 through pgBackRest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerconaBackupSpec {
    /// Whether there are any.
    #[serde(default)]
    pub enabled: bool,
    /// Secret with an `s3.conf` for pgBackRest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretName>,
    /// Bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default = "defaults::percona_backup_region")]
    pub region: String,
    /// When a full backup is made, as cron has it.
    #[serde(default = "defaults::percona_full_schedule")]
    pub full_schedule: String,
    /// When an incremental backup is made, as cron has it.
    #[serde(default = "defaults::percona_incr_schedule")]
    pub incr_schedule: String,
    /// Days for which full backups are kept.
    #[serde(default = "defaults::percona_retention_days")]
    #[schemars(range(min = 1))]
    pub retention_days: i32,
}

/// A Secret in the server's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Its name. An empty name is no reference.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
}
