//! `spec.database`, and the reference to one key of a Secret that several fields share.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, rules};

/// One key of a Secret in the server's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeySelector {
    /// Name of the Secret. An empty name is no reference.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(max = 253))]
    pub key: String,
    /// As in core/v1; the server does not start without the value either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Where the control plane keeps its data. Postgres wins when both are set, and `spec.percona` over both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseSpec {
    /// Kind of database.
    #[serde(default, rename = "type")]
    pub database_type: DatabaseType,
    /// Settings of SQLite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<SqliteSpec>,
    /// Secret with the keys host, port, database, user, password and sslmode (port and sslmode optional). Only the
    /// name counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres_secret_ref: Option<SecretKeySelector>,
}

/// Kind of database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum DatabaseType {
    #[default]
    /// A file on the control plane's volume.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// Settings of SQLite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqliteSpec {
    /// Absolute path of the database file; keep it on the volume that is mounted at /data/controlplane.
    #[serde(default = "defaults::sqlite_path")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = rules::absolute_path("spec.database.sqlite.path"))]
    pub path: String,
}
