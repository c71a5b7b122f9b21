//! `DittoServer` and the top level of its spec.

use k8s_openapi::api::core::v1::{PodSecurityContext, ResourceRequirements, SecurityContext};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::database::DatabaseSpec;
use super::identity::IdentitySpec;
use super::network::{AdapterDiscoverySpec, ControlPlaneSpec, MetricsSpec, PortsSpec};
use super::network_policy::NetworkPolicySpec;
use super::percona::PerconaSpec;
use super::pod::PodSpec;
use super::rules::Port;
use super::runtime::{LoggingSpec, RolloutSpec};
use super::service::{AdapterServicesSpec, ApiServiceSpec, FileServiceSpec, ServiceSpec};
use super::snapshots::SnapshotPolicySpec;
use super::status::DittoServerStatus;
use super::storage::{CacheSpec, StorageSpec};
use super::{defaults, rules};

/// What a user wants of a DittoFS file server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "dittofs.dittofs.com",
    version = "v1alpha1",
    kind = "DittoServer",
    plural = "dittoservers",
    singular = "dittoserver",
    shortname = "ditto",
    shortname = "dittofs",
    namespaced,
    doc = "A DittoFS file server: NFS and SMB with a REST API.",
    status = "DittoServerStatus",
    derive = "PartialEq",
    validation = rules::server_name(),
    validation = rules::percona_name(),
    validation = rules::spec_present(),
    validation = rules::volume_keeps(rules::Volume::Metadata),
    validation = rules::volume_keeps(rules::Volume::Content),
    validation = rules::volume_keeps(rules::Volume::ControlPlane),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Adapters", type_ = "string", json_path = ".status.activeAdapters"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rules::ports_differ(Port::Nfs, Port::Smb),
    validation = rules::ports_differ(Port::Nfs, Port::Api),
    validation = rules::ports_differ(Port::Smb, Port::Api),
    validation = rules::ports_differ(Port::Metrics, Port::Nfs),
    validation = rules::ports_differ(Port::Metrics, Port::Smb),
    validation = rules::ports_differ(Port::Metrics, Port::Api),
    validation = rules::cache_clear_of_tls(),
    validation = rules::postgres_needs_secret()
)]
pub struct DittoServerSpec {
    /// Image of the server.
    #[serde(default = "defaults::image")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rules::not_blank("spec.image"))]
    pub image: String,
    /// Number of pods. The volumes are `ReadWriteOnce` and the server is not clustered.
    #[serde(default = "defaults::replicas")]
    #[schemars(range(min = 0, max = 1))]
    pub replicas: i32,
    /// Volumes.
    pub storage: StorageSpec,
    /// Where the control plane keeps its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseSpec>,
    /// A PostgreSQL cluster of Percona's operator for these data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percona: Option<PerconaSpec>,
    /// Local cache of remote blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
    /// The REST API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<ControlPlaneSpec>,
    /// The ports that clients use on the `-file` Service. All ports of a server differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortsSpec>,
    /// Who may use the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySpec>,
    /// How the operator follows the adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_discovery: Option<AdapterDiscoverySpec>,
    /// The Services of the adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_services: Option<AdapterServicesSpec>,
    /// The `-api` and `-file` Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
    /// The `-file` Service alone, merged over `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_service: Option<FileServiceSpec>,
    /// The `-api` Service alone, merged over `service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_service: Option<ApiServiceSpec>,
    /// The metrics endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSpec>,
    /// Who may reach the server's pod, at the ports that its Services publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicySpec>,
    /// The log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingSpec>,
    /// When a change restarts the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutSpec>,
    /// Snapshots of shares, one policy a share. A policy that is taken out here stays on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = rules::one_policy_per_share("spec.snapshotPolicies"))]
    pub snapshot_policies: Option<Vec<SnapshotPolicySpec>>,
    /// How long the pod may take to stop, in seconds; 105 when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 36))]
    pub termination_grace_period_seconds: Option<i64>,
    /// Resources of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Security context of the container, merged over safe defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
    /// Security context of the pod, merged over safe defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Scheduling, environment and metadata of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSpec>,
}
