//! The default of every field, once: the schema publishes it, `validate` fills it in.
//!
//! Source: the field table of the operator that DittoFS ships today, and the CRD reference where it differs.

/// `spec.image`.
pub const IMAGE: &str = "marmos91c/dittofs:latest";
/// `spec.replicas`.
pub const REPLICAS: i32 = 1;
/// `spec.storage.controlPlaneSize`.
pub const CONTROL_PLANE_SIZE: &str = "1Gi";
/// `spec.database.type`.
pub const DATABASE_TYPE: &str = "sqlite";
/// `spec.database.sqlite.path`.
pub const SQLITE_PATH: &str = "/data/controlplane/controlplane.db";
/// `spec.cache.size`.
pub const CACHE_SIZE: &str = "1Gi";
/// `spec.cache.path`.
pub const CACHE_PATH: &str = "/data/store/block";
/// `spec.controlPlane.port`.
pub const API_PORT: i32 = 8080;
/// `spec.ports.nfs`.
pub const NFS_PORT: i32 = 2049;
/// `spec.ports.smb`.
pub const SMB_PORT: i32 = 445;
/// `spec.identity.type`.
pub const IDENTITY_TYPE: &str = "memory";
/// `spec.identity.jwt.accessTokenDuration`.
pub const ACCESS_TOKEN_DURATION: &str = "15m";
/// `spec.identity.jwt.refreshTokenDuration`.
pub const REFRESH_TOKEN_DURATION: &str = "168h";
/// `spec.identity.admin.username`.
pub const ADMIN_USERNAME: &str = "admin";
/// `spec.adapterDiscovery.pollingInterval`.
pub const POLLING_INTERVAL: &str = "30s";
/// `spec.adapterDiscovery.stopGracePeriod`: a port move drains clients for up to 30 s.
pub const STOP_GRACE_PERIOD: &str = "35s";
/// `spec.service.type` and `spec.adapterServices.type`.
pub const SERVICE_TYPE: &str = "LoadBalancer";
/// `spec.metrics.port`.
pub const METRICS_PORT: i32 = 9090;
/// `spec.metrics.path`.
pub const METRICS_PATH: &str = "/metrics";
/// `spec.percona.replicas`.
pub const PERCONA_REPLICAS: i32 = 1;
/// `spec.percona.storageSize`.
pub const PERCONA_STORAGE_SIZE: &str = "10Gi";
/// `spec.percona.databaseName`.
pub const PERCONA_DATABASE_NAME: &str = "dittofs";
/// `spec.percona.backup.region`.
pub const PERCONA_BACKUP_REGION: &str = "eu-west-1";
/// `spec.percona.backup.fullSchedule`.
pub const PERCONA_FULL_SCHEDULE: &str = "0 2 * * *";
/// `spec.percona.backup.incrSchedule`.
pub const PERCONA_INCR_SCHEDULE: &str = "0 * * * *";
/// `spec.percona.backup.retentionDays`.
pub const PERCONA_RETENTION_DAYS: i32 = 7;
/// `logging.level` as rendered when unset; not a default of the schema.
pub const LOG_LEVEL: &str = "INFO";
/// `logging.format` as rendered when unset; not a default of the schema.
pub const LOG_FORMAT: &str = "json";
/// `logging.output` as rendered when unset; not a default of the schema.
pub const LOG_OUTPUT: &str = "stdout";
/// `spec.rollout.onPortChange`.
pub const ON_PORT_CHANGE: &str = "Deferred";
/// `spec.rollout.onSpecChange`.
pub const ON_SPEC_CHANGE: &str = "Always";
/// `spec.terminationGracePeriodSeconds` when unset: 5 (preStop) + 3 × 30 (`shutdown_timeout` a stage) + 10.
pub const TERMINATION_GRACE_PERIOD_SECONDS: i64 = 105;

pub(super) fn image() -> String {
    IMAGE.to_owned()
}
pub(super) fn replicas() -> i32 {
    REPLICAS
}
pub(super) fn control_plane_size() -> String {
    CONTROL_PLANE_SIZE.to_owned()
}
pub(super) fn sqlite_path() -> String {
    SQLITE_PATH.to_owned()
}
pub(super) fn cache_size() -> String {
    CACHE_SIZE.to_owned()
}
pub(super) fn cache_path() -> String {
    CACHE_PATH.to_owned()
}
pub(super) fn api_port() -> i32 {
    API_PORT
}
pub(super) fn nfs_port() -> i32 {
    NFS_PORT
}
pub(super) fn smb_port() -> i32 {
    SMB_PORT
}
pub(super) fn access_token_duration() -> String {
    ACCESS_TOKEN_DURATION.to_owned()
}
pub(super) fn refresh_token_duration() -> String {
    REFRESH_TOKEN_DURATION.to_owned()
}
pub(super) fn admin_username() -> String {
    ADMIN_USERNAME.to_owned()
}
pub(super) fn polling_interval() -> String {
    POLLING_INTERVAL.to_owned()
}
pub(super) fn stop_grace_period() -> String {
    STOP_GRACE_PERIOD.to_owned()
}
pub(super) fn metrics_port() -> i32 {
    METRICS_PORT
}
pub(super) fn metrics_path() -> String {
    METRICS_PATH.to_owned()
}
pub(super) fn yes() -> bool {
    true
}
pub(super) fn percona_replicas() -> i32 {
    PERCONA_REPLICAS
}
pub(super) fn percona_storage_size() -> String {
    PERCONA_STORAGE_SIZE.to_owned()
}
pub(super) fn percona_database_name() -> String {
    PERCONA_DATABASE_NAME.to_owned()
}
pub(super) fn percona_backup_region() -> String {
    PERCONA_BACKUP_REGION.to_owned()
}
pub(super) fn percona_full_schedule() -> String {
    PERCONA_FULL_SCHEDULE.to_owned()
}
pub(super) fn percona_incr_schedule() -> String {
    PERCONA_INCR_SCHEDULE.to_owned()
}
pub(super) fn percona_retention_days() -> i32 {
    PERCONA_RETENTION_DAYS
}
