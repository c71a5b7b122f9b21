//! The checked `spec.percona`. It is here only when it is enabled.

/// A PostgreSQL cluster that Percona's operator runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Percona {
    /// Whether it goes when the server goes.
    pub delete_with_server: bool,
    /// Number of instances, 1 to 5.
    pub replicas: i64,
    /// Size of each instance's volume, a Kubernetes quantity.
    pub storage_size: String,
    /// `storageClassName`; the cluster's default when unset.
    pub storage_class: Option<String>,
    /// Name of the database.
    pub database_name: String,
    /// Backups, when enabled.
    pub backup: Option<PerconaBackup>,
}

/// Backups of the PostgreSQL cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerconaBackup {
    /// Name of the Secret with the credentials.
    pub credentials: Option<String>,
    /// Bucket; empty when unset.
    pub bucket: String,
    /// Endpoint; empty when unset.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Cron text.
    pub full_schedule: String,
    /// Cron text.
    pub incr_schedule: String,
    /// 1 or more.
    pub retention_days: i64,
}
