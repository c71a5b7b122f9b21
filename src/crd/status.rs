//! `.status`, which only the `StatusReporter` writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was observed and applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DittoServerStatus {
    /// `metadata.generation` that the rest of the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Pods that are available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// In one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Hash of everything that the server reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// The PerconaPGCluster that holds the server's database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percona_cluster_name: Option<String>,
    /// Adapters that have a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub adapters: Option<Vec<AdapterStatus>>,
    /// The types of the adapters in one text, for the column of `kubectl get`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_adapters: Option<String>,
    /// The sizes that the server's claims have. A size in spec.storage cannot be less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<VolumesStatus>,
    /// The operator's last change to an object of this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<LastChange>,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
}

/// The size that each claim has, as Kubernetes writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VolumesStatus {
    /// Claim `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub metadata: Option<String>,
    /// Claim `content`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub content: Option<String>,
    /// Claim `controlplane`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub controlplane: Option<String>,
}

/// What the operator last changed, and where to find out why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastChange {
    /// When, RFC 3339.
    pub time: String,
    /// Trace of the reconcile that made it: the same id is at the tracing backend and in the operator's log. Empty
    /// when the operator runs with OTEL_SDK_DISABLED.
    #[serde(rename = "traceID")]
    pub trace_id: String,
    /// In words.
    pub summary: String,
}

/// State of the server in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Phase {
    /// On its way.
    Pending,
    /// Serving.
    Running,
    /// It cannot come up as things are.
    Failed,
    /// Zero replicas are wanted.
    Stopped,
    /// Being deleted.
    Deleting,
}

/// One adapter and where clients find it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdapterStatus {
    /// Adapter type, such as nfs.
    #[serde(rename = "type")]
    pub adapter_type: String,
    /// Port on which it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Its Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Address of the load balancer, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}
