//! `spec.metrics.serviceMonitor`: that the Prometheus operator finds the metrics endpoint.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// A ServiceMonitor of the Prometheus operator for the metrics endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitorSpec {
    /// Whether there is one. The cluster needs the kind: it is made as soon as its CRD is there.
    #[serde(default)]
    pub enabled: bool,
    /// How often it is scraped, a Prometheus duration; Prometheus' own interval when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::prometheus_duration("spec.metrics.serviceMonitor.interval"))]
    pub interval: Option<String>,
    /// Further labels of the ServiceMonitor, by which a Prometheus selects it. Ours cannot be overridden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}
