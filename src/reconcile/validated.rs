//! What is left of a `DittoServer` once it has been checked: the only input of every builder and decision.
//!
//! Parse, don't validate: whoever holds a [`ValidatedServer`] need not check a bound, a default or a combination
//! again. It is made in one place, `validate`.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Affinity, EnvVar, LocalObjectReference, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
    TopologySpreadConstraint,
};

use super::{ApiTls, IdleFields, Names, ServerKey, ServiceSettings, SnapshotPolicy};

mod directory;
mod percona;

pub use directory::{Kerberos, Krb5Conf, Ldap, MachineAccount};
pub use percona::{Percona, PerconaBackup};

/// A `DittoServer` whose every field was checked, with all defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedServer {
    /// Namespace and name.
    pub key: ServerKey,
    /// `metadata.uid`, what owner references point at.
    pub uid: String,
    /// `metadata.generation` of the object that was checked.
    pub generation: i64,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `spec.image`.
    pub image: String,
    /// `spec.replicas`: 0 or 1.
    pub replicas: i32,
    /// `spec.storage`.
    pub storage: Storage,
    /// `spec.database`.
    pub database: Database,
    /// `spec.percona` when enabled; [`database`](Self::database) is then [`Database::Percona`].
    pub percona: Option<Percona>,
    /// `spec.cache`.
    pub cache: Cache,
    /// `spec.controlPlane.port`.
    pub api_port: u16,
    /// The rest of `spec.controlPlane`.
    pub api_tls: ApiTls,
    /// `spec.ports`.
    pub ports: ClientPorts,
    /// `spec.identity.jwt`.
    pub jwt: Jwt,
    /// `spec.identity.admin`.
    pub admin: Admin,
    /// `spec.identity.ldap` when enabled.
    pub ldap: Option<Ldap>,
    /// `spec.identity.kerberos` when enabled.
    pub kerberos: Option<Kerberos>,
    /// `spec.adapterDiscovery.pollingInterval`, at least 1 s.
    pub polling_interval: Duration,
    /// `spec.adapterDiscovery.stopGracePeriod`.
    pub stop_grace_period: Duration,
    /// `spec.adapterServices`, what all adapters have in common.
    pub adapter_services: ServiceSettings,
    /// `spec.adapterServices.perAdapter`, each merged over the common ones.
    pub per_adapter: BTreeMap<String, ServiceSettings>,
    /// `spec.apiService` merged over `spec.service`.
    pub api_service: ServiceSettings,
    /// The field that the type of the API's Service comes from.
    pub api_type_field: &'static str,
    /// `spec.fileService` merged over `spec.service`.
    pub file_service: ServiceSettings,
    /// `spec.fileService.enabled`.
    pub file_service_enabled: bool,
    /// Fields of Services that are set and have no effect.
    pub idle_service_fields: Vec<IdleFields>,
    /// `spec.metrics` when enabled.
    pub metrics: Option<Metrics>,
    /// `spec.logging`.
    pub logging: Logging,
    /// `spec.rollout`.
    pub rollout: Rollout,
    /// `spec.snapshotPolicies`, each share once.
    pub snapshot_policies: Vec<SnapshotPolicy>,
    /// `spec.terminationGracePeriodSeconds`, derived when unset.
    pub termination_grace_period_seconds: i64,
    /// `spec.resources` as given.
    pub resources: Option<ResourceRequirements>,
    /// `spec.securityContext` as given; the builder merges it over the safe defaults.
    pub security_context: Option<SecurityContext>,
    /// `spec.podSecurityContext` as given; the builder merges it over the safe defaults.
    pub pod_security_context: Option<PodSecurityContext>,
    /// `spec.pod`.
    pub pod: PodSettings,
    /// What the pod template carries as [`RESTART_AT`](crate::crd::annotations::RESTART_AT), when a restart was asked for.
    pub restart_at: Option<String>,
}

impl ValidatedServer {
    /// Names of this server's objects.
    pub fn names(&self) -> Names {
        Names::new(&self.key.name)
    }

    /// What was chosen of the Service of an adapter.
    pub fn adapter_settings(&self, adapter_type: &str) -> &ServiceSettings {
        self.per_adapter.get(adapter_type).unwrap_or(&self.adapter_services)
    }
}

/// Sizes of the claims, as Kubernetes quantities (`10Gi`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Size of claim `metadata`.
    pub metadata: String,
    /// Size of claim `content`; there is no such claim when unset.
    pub content: Option<String>,
    /// Size of claim `controlplane`.
    pub control_plane: String,
    /// `storageClassName`; the cluster's default when unset.
    pub class: Option<String>,
}

/// Where the server keeps its control-plane data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file on the `controlplane` claim.
    Sqlite {
        /// Path inside the container.
        path: String,
    },
    /// A PostgreSQL whose connection is in a Secret (keys host, port, database, user, password, sslmode).
    Postgres {
        /// Name of the Secret.
        secret: String,
    },
    /// The PostgreSQL cluster of `spec.percona`, whose connection is in the Secret that Percona's operator makes.
    Percona,
}

/// Local cache of remote blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Mount path of the content volume.
    pub path: String,
}

/// The ports that clients use on the `-file` Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientPorts {
    /// NFS.
    pub nfs: u16,
    /// SMB.
    pub smb: u16,
}

/// One key of a Secret in the server's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    pub key: String,
}

/// Token settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The signing key; the operator makes one when unset.
    pub secret: Option<SecretKey>,
    /// Go duration text.
    pub access_token_duration: String,
    /// Go duration text.
    pub refresh_token_duration: String,
}

/// The bootstrap administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// User name.
    pub username: String,
    /// The password; the operator makes one when unset.
    pub password: Option<SecretKey>,
}

/// The server's metrics endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Port.
    pub port: u16,
    /// Path, starting with a slash.
    pub path: String,
    /// What a scraper has to present.
    pub bearer_token: Option<SecretKey>,
}

/// The server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// DEBUG, INFO, WARN or ERROR.
    pub level: String,
    /// text or json.
    pub format: String,
    /// stdout, stderr or a path.
    pub output: String,
}

/// When a change restarts the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// What a change of adapter ports alone does.
    pub on_port_change: OnPortChange,
    /// Whether a change of spec that the server cannot see rolls the pod.
    pub on_spec_change: OnSpecChange,
}

/// What a change of adapter ports alone does to the StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPortChange {
    /// Written at once, held back from the running pod.
    Deferred,
    /// Written only together with a change that rolls the pod anyway.
    WithNextRollout,
    /// Written and rolled at once.
    Immediate,
}

/// Whether `metadata.generation` is part of the config hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSpecChange {
    /// Every change of spec rolls the pod once.
    Always,
    /// Only what the server reads does.
    WhenNeeded,
}

/// Scheduling and metadata of the pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSettings {
    /// `nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// `tolerations`.
    pub tolerations: Vec<Toleration>,
    /// `affinity`.
    pub affinity: Option<Affinity>,
    /// `topologySpreadConstraints`.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// `imagePullSecrets`.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// `imagePullPolicy`; left to Kubernetes when unset.
    pub image_pull_policy: Option<String>,
    /// `priorityClassName`.
    pub priority_class_name: Option<String>,
    /// Extra environment; a name that the operator sets itself is refused.
    pub env: Vec<EnvVar>,
    /// Extra pod labels; ours cannot be overridden.
    pub labels: BTreeMap<String, String>,
    /// Extra pod annotations; ours cannot be overridden.
    pub annotations: BTreeMap<String, String>,
}

/// One adapter as the last valid answer of the server tells it, with what time has made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedAdapter {
    /// Adapter type, unique in an answer (`nfs`, `smb`).
    pub adapter_type: String,
    /// The port that the server stores for it.
    pub port: u16,
    /// Whether it runs.
    pub state: AdapterState,
}

/// What an adapter does, by `enabled`, `running` and how long that has lasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterState {
    /// Enabled and running.
    Running,
    /// Enabled, not running, for less than `stopGracePeriod`: starting, or draining its clients to move to another
    /// port. What exists for it is kept as it is; nothing new is made.
    Passage,
    /// Disabled, or in passage for too long.
    Stopped,
}
