//! Ports, adapter discovery and metrics of the spec.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::SecretKeySelector;
use super::{defaults, rules};

/// The server's REST API. Each Secret is in the server's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::tls_needs_certificate())]
pub struct ControlPlaneSpec {
    /// Port on which the API listens.
    #[serde(default = "defaults::api_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Whether the server itself speaks TLS, with the certificate of `certSecretName`.
    #[serde(default)]
    pub tls: bool,
    /// Secret with the server's certificate: tls.crt, tls.key, and ca.crt where a CA of its own signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cert_secret_name: Option<String>,
    /// Secret with ca.crt: the server lets in only clients whose certificate that CA signed (mutual TLS).
    #[serde(default, rename = "clientCASecretName", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub client_ca_secret_name: Option<String>,
    /// Secret with tls.crt and tls.key: the certificate that the operator shows to the server under mutual TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub client_cert_secret_name: Option<String>,
    /// Secret with ca.crt: the CA that the operator trusts. It wins over ca.crt in `certSecretName`; with `tls: false` it
    /// says that something before the server, such as a mesh, speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ca_secret_name: Option<String>,
}

/// The ports that clients use on the `-file` Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortsSpec {
    /// NFS.
    #[serde(default = "defaults::nfs_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub nfs: i32,
    /// SMB.
    #[serde(default = "defaults::smb_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub smb: i32,
}

/// How the operator follows the adapters that run in the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdapterDiscoverySpec {
    /// How often the server is asked, a Go duration of at least 1s.
    #[serde(default = "defaults::polling_interval")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::polling_interval("spec.adapterDiscovery.pollingInterval"))]
    pub polling_interval: String,
    /// How long an adapter may be enabled without running (a port move drains its clients) before it counts as
    /// stopped, a Go duration.
    #[serde(default = "defaults::stop_grace_period")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = rules::duration_not_negative("spec.adapterDiscovery.stopGracePeriod"))]
    pub stop_grace_period: String,
}

/// The server's metrics endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsSpec {
    /// Whether there is one.
    #[serde(default)]
    pub enabled: bool,
    /// Port on which it listens.
    #[serde(default = "defaults::metrics_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path of the endpoint.
    #[serde(default = "defaults::metrics_path")]
    #[schemars(length(max = 1024), regex(pattern = r"^/.*"))]
    pub path: String,
    /// What a scraper has to present; anybody may read the metrics when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::secret_key("spec.metrics.bearerTokenSecret"))]
    pub bearer_token_secret: Option<SecretKeySelector>,
}
