//! What the operator may do in a cluster: its service account, role and binding.
//!
//! Owns the only list of the operator's permissions. It is least privilege: a verb stands here because an actor sends
//! it, and the tests on the real API server run under exactly this role.

use serde_json::{Value, json};

/// First lines of the manifest.
const HEADER: &str = "# Generated from src/build/rbac.rs by `make generate`; do not edit.\n";
/// Namespace of the operator.
const NAMESPACE: &str = "dittofs-system";
/// Name of the service account, the role and the binding.
const NAME: &str = "dittofs-operator";

/// API group, resource and verbs of each rule; the comment above one says which actor needs it.
const RULES: &[(&str, &str, &[&str])] = &[
    // CrWatcher reads; the Supervisor sets and releases our finalizer.
    ("dittofs.dittofs.com", "dittoservers", &["get", "list", "watch", "patch"]),
    // StatusReporter.
    ("dittofs.dittofs.com", "dittoservers/status", &["patch"]),
    // Asked for by OwnerReferencesPermissionEnforcement when an owned object blocks its owner's deletion.
    ("dittofs.dittofs.com", "dittoservers/finalizers", &["update"]),
    // PortReconciler; the garbage collector deletes.
    ("apps", "statefulsets", &["get", "list", "watch", "create", "update"]),
    // ServiceReconciler, this and the next two.
    ("", "services", &["get", "list", "watch", "create", "update", "delete"]),
    ("networking.k8s.io", "networkpolicies", &["get", "list", "watch", "create", "update", "delete"]),
    ("monitoring.coreos.com", "servicemonitors", &["get", "list", "watch", "create", "update", "delete"]),
    // ConfigHasher.
    ("", "configmaps", &["get", "list", "watch", "create", "update"]),
    // ConfigHasher and AdapterPoller; generated Secrets are never deleted.
    ("", "secrets", &["get", "list", "watch", "create", "update"]),
    // ConfigHasher; the garbage collector deletes.
    ("pgv2.percona.com", "perconapgclusters", &["get", "create", "update"]),
    // PortReconciler lets the claims of its StatefulSet grow; they are never made nor deleted.
    ("", "persistentvolumeclaims", &["get", "list", "watch", "patch"]),
    // PortReconciler asks whether a claim's class is there (list: the default one) and lets it grow. A RoleBinding cannot
    // grant it; nothing is said of classes then, and the API server decides.
    ("storage.k8s.io", "storageclasses", &["get", "list"]),
    // CrWatcher, for what StatusReporter says about them; PortReconciler looks at the one that outlived its StatefulSet.
    ("", "pods", &["get", "list", "watch"]),
    // All report; StatusReporter lists those about a StatefulSet that has no pod.
    ("events.k8s.io", "events", &["create", "patch", "list"]),
];

/// `ServiceAccount`, `ClusterRole` and `ClusterRoleBinding` of the operator as YAML documents. The same text every
/// time, with a newline at its end.
pub fn rbac_yaml() -> String {
    let documents = [
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels()},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": NAME, "labels": labels()},
            "rules": RULES
                .iter()
                .map(|(group, resource, verbs)| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}))
                .collect::<Vec<Value>>(),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME, "labels": labels()},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
        }),
    ];
    let yaml = documents.map(|document| serde_yaml_ng::to_string(&crate::crd::sorted(document)).unwrap_or_default());
    format!("{HEADER}{}", yaml.join("---\n"))
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "dittofs"})
}
