//! Any object of the cluster as JSON, with admin rights.
//!
//! Everything is `serde_json::Value`: a test sees each field that the API server knows, also those that are newer than
//! any typed struct.

use super::{Cluster, background};
use http::{Method, Request};
use serde_json::Value;

/// A kind of object by its place in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Group and version, as in a manifest: `v1`, `apps/v1`.
    pub api_version: &'static str,
    /// Plural, lower case.
    pub plural: &'static str,
    /// Kind, as in a manifest.
    pub kind: &'static str,
}

/// The kinds that tests name.
pub mod resources {
    use super::Resource;

    const fn resource(api_version: &'static str, plural: &'static str, kind: &'static str) -> Resource {
        Resource { api_version, plural, kind }
    }

    /// The custom resource.
    pub const SERVERS: Resource = resource("dittofs.dittofs.com/v1alpha1", "dittoservers", "DittoServer");
    /// StatefulSets.
    pub const STATEFUL_SETS: Resource = resource("apps/v1", "statefulsets", "StatefulSet");
    /// Controller revisions of StatefulSets.
    pub const REVISIONS: Resource = resource("apps/v1", "controllerrevisions", "ControllerRevision");
    /// Services.
    pub const SERVICES: Resource = resource("v1", "services", "Service");
    /// NetworkPolicies.
    pub const NETWORK_POLICIES: Resource = resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy");
    /// ServiceMonitors of the Prometheus operator, when their CRD is there.
    pub const SERVICE_MONITORS: Resource = resource("monitoring.coreos.com/v1", "servicemonitors", "ServiceMonitor");
    /// ConfigMaps.
    pub const CONFIG_MAPS: Resource = resource("v1", "configmaps", "ConfigMap");
    /// Secrets.
    pub const SECRETS: Resource = resource("v1", "secrets", "Secret");
    /// PostgreSQL clusters of Percona's operator.
    pub const PERCONA_CLUSTERS: Resource = resource("pgv2.percona.com/v2", "perconapgclusters", "PerconaPGCluster");
    /// Pods.
    pub const PODS: Resource = resource("v1", "pods", "Pod");
    /// Claims.
    pub const CLAIMS: Resource = resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim");
    /// Storage classes.
    pub const STORAGE_CLASSES: Resource = resource("storage.k8s.io/v1", "storageclasses", "StorageClass");
    /// Events, of either API group.
    pub const EVENTS: Resource = resource("v1", "events", "Event");
    /// Namespaces.
    pub const NAMESPACES: Resource = resource("v1", "namespaces", "Namespace");
    /// Service accounts.
    pub const SERVICE_ACCOUNTS: Resource = resource("v1", "serviceaccounts", "ServiceAccount");
    /// Role bindings.
    pub const ROLE_BINDINGS: Resource = resource("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding");
    /// Roles.
    pub const ROLES: Resource = resource("rbac.authorization.k8s.io/v1", "roles", "Role");
    /// Cluster roles.
    pub const CLUSTER_ROLES: Resource = resource("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole");
    /// Cluster role bindings.
    pub const CLUSTER_ROLE_BINDINGS: Resource =
        resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding");
    /// Webhooks that are asked before an object is stored.
    pub const VALIDATING_WEBHOOKS: Resource = resource(
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
    );
    /// Admission policies.
    pub const ADMISSION_POLICIES: Resource =
        resource("admissionregistration.k8s.io/v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy");
    /// What binds them.
    pub const ADMISSION_BINDINGS: Resource = resource(
        "admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
    );
    /// Custom resource definitions.
    pub const CRDS: Resource =
        resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition");
}

impl Resource {
    /// The path of the collection; an empty namespace means the whole cluster.
    pub fn path(&self, namespace: &str) -> String {
        let Self { api_version, plural, .. } = self;
        let root = if api_version.contains('/') { "/apis" } else { "/api" };
        if namespace.is_empty() {
            format!("{root}/{api_version}/{plural}")
        } else {
            format!("{root}/{api_version}/namespaces/{namespace}/{plural}")
        }
    }
}

/// Why a request of a test failed.
#[derive(Debug)]
pub enum ApiError {
    /// The API server answered with a failure.
    Refused {
        /// HTTP status.
        code: u16,
        /// `reason` of the Status object.
        reason: String,
        /// `message` of the Status object.
        message: String,
    },
    /// No answer.
    Failed(anyhow::Error),
}

impl ApiError {
    /// The HTTP status of the refusal; 0 when there was no answer.
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Failed(_) => 0,
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { code, reason, message } => write!(f, "{code} {reason}: {message}"),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for ApiError {}

impl Cluster {
    /// Sends one request as admin; `content_type` is that of the body.
    ///
    /// # Errors
    /// A refusal of the API server, or no answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|error| ApiError::Failed(error.into()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("accept", "application/json")
            .body(body.unwrap_or_default())
            .map_err(|error| ApiError::Failed(error.into()))?;
        let client = self.inner.client.clone();
        let answer = background::run(async move { client.request::<Value>(request).await }).await;
        answer.map_err(|error| match error {
            kube::Error::Api(status) => {
                ApiError::Refused { code: status.code, reason: status.reason.clone(), message: status.message.clone() }
            }
            other => ApiError::Failed(other.into()),
        })
    }

    /// The object, or `None` when there is none.
    ///
    /// # Errors
    /// A refusal other than 404, or no answer.
    pub async fn get(&self, resource: Resource, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let path = format!("{}/{name}", resource.path(namespace));
        match self.request(Method::GET, &path, JSON, None).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code() == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a kind in a namespace (empty: in all), narrowed by a label selector (empty: not narrowed).
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn list(&self, resource: Resource, namespace: &str, labels: &str) -> Result<Vec<Value>, ApiError> {
        let mut path = resource.path(namespace);
        if !labels.is_empty() {
            let escaped = labels.replace('=', "%3D").replace(',', "%2C");
            path = format!("{path}?labelSelector={escaped}");
        }
        let mut list = self.request(Method::GET, &path, JSON, None).await?;
        match list["items"].take() {
            Value::Array(mut items) => {
                // Items of a list carry neither; a test that writes one back needs both.
                for item in &mut items {
                    item["apiVersion"] = resource.api_version.into();
                    item["kind"] = resource.kind.into();
                }
                Ok(items)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Creates an object; `apiVersion` and `kind` are filled in when they are missing.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn create(&self, resource: Resource, namespace: &str, object: &Value) -> Result<Value, ApiError> {
        let mut object = object.clone();
        if object["apiVersion"].is_null() {
            object["apiVersion"] = resource.api_version.into();
        }
        if object["kind"].is_null() {
            object["kind"] = resource.kind.into();
        }
        self.request(Method::POST, &resource.path(namespace), JSON, Some(&object)).await
    }

    /// Replaces an object by what is given, at its resourceVersion when it carries one.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn replace(&self, resource: Resource, namespace: &str, object: &Value) -> Result<Value, ApiError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}", resource.path(namespace));
        self.request(Method::PUT, &path, JSON, Some(object)).await
    }

    /// Applies a JSON merge patch.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn patch(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        change: &Value,
    ) -> Result<Value, ApiError> {
        let path = format!("{}/{name}", resource.path(namespace));
        self.request(Method::PATCH, &path, "application/merge-patch+json", Some(change)).await
    }

    /// Applies a JSON merge patch to a subresource, such as `status`.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn patch_subresource(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        change: &Value,
    ) -> Result<Value, ApiError> {
        let path = format!("{}/{name}/{subresource}", resource.path(namespace));
        self.request(Method::PATCH, &path, "application/merge-patch+json", Some(change)).await
    }

    /// Applies a manifest by server-side apply, taking over fields that others set.
    ///
    /// # Errors
    /// A refusal, or no answer.
    pub async fn apply(&self, resource: Resource, namespace: &str, object: &Value) -> Result<Value, ApiError> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("{}/{name}?fieldManager=testbed&force=true", resource.path(namespace));
        self.request(Method::PATCH, &path, "application/apply-patch+yaml", Some(object)).await
    }

    /// Deletes an object in the background; one that is not there is no error.
    ///
    /// # Errors
    /// A refusal other than 404, or no answer.
    pub async fn delete(&self, resource: Resource, namespace: &str, name: &str) -> Result<(), ApiError> {
        self.delete_with(resource, namespace, name, "Background").await
    }

    /// Deletes an object with a propagation policy: `Background`, `Foreground` or `Orphan`.
    ///
    /// # Errors
    /// A refusal other than 404, or no answer.
    pub async fn delete_with(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        propagation: &str,
    ) -> Result<(), ApiError> {
        let path = format!("{}/{name}", resource.path(namespace));
        let options =
            serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation});
        match self.request(Method::DELETE, &path, JSON, Some(&options)).await {
            Err(error) if error.code() != 404 => Err(error),
            _ => Ok(()),
        }
    }
}

const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_group_and_scope() {
        assert_eq!(resources::SERVICES.path("a"), "/api/v1/namespaces/a/services");
        assert_eq!(resources::STATEFUL_SETS.path(""), "/apis/apps/v1/statefulsets");
    }
}
