//! `spec.networkPolicy`: who may reach the server's pod.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{defaults, rules};

/// The NetworkPolicies of the server: they let in what goes to the ports that its Services publish, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Whether there are any.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// Who is let in, as the peers of a NetworkPolicy; anybody when empty. The operator itself always reaches the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(
        validation = rules::peers_name_somebody("spec.networkPolicy.from"),
        validation = rules::peers_cidrs("spec.networkPolicy.from")
    )]
    pub from: Option<Vec<NetworkPolicyPeer>>,
}
