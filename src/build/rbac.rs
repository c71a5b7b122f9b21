//! What the operator may do in a cluster: its service account, role and binding.
//!
//! Owns the only list of the operator's permissions. It is least privilege: a verb stands here because an actor sends
//! it, and the tests on the real API server run under exactly this role.

use serde_json::{Value, json};

/// First lines of the manifest.
const HEADER: &str = "# Generated from src/build/rbac.rs by `make generate`; do not edit.\n";
/// Namespace of the operator, as `deploy/` has it.
pub const OPERATOR_NAMESPACE: &str = "dittofs-system";
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

/// Name of the role of who runs `check`.
const CHECK_NAME: &str = "dittofs-operator-check";

/// What `check` reads, as above: never more than the operator itself may.
const CHECK_RULES: &[(&str, &str, &[&str])] = &[
    ("dittofs.dittofs.com", "dittoservers", &["list"]),
    ("apps", "statefulsets", &["get"]),
    ("", "configmaps", &["get"]),
    ("", "services", &["get", "list"]),
    ("networking.k8s.io", "networkpolicies", &["get", "list"]),
    ("monitoring.coreos.com", "servicemonitors", &["get", "list"]),
    ("pgv2.percona.com", "perconapgclusters", &["get"]),
    ("", "persistentvolumeclaims", &["get"]),
    // As in earnest: without it nothing is said about classes.
    ("storage.k8s.io", "storageclasses", &["get", "list"]),
    // By name: those that the servers use. What is in them goes into the config hash and nowhere else.
    ("", "secrets", &["get"]),
];

/// `ServiceAccount`, `ClusterRole` and `ClusterRoleBinding` of the operator as YAML documents. The same text every
/// time, with a newline at its end.
pub fn rbac_yaml() -> String {
    let documents = [
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": NAME, "namespace": OPERATOR_NAMESPACE, "labels": labels()},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": NAME, "labels": labels()},
            "rules": rules(RULES),
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": NAME, "labels": labels()},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": OPERATOR_NAMESPACE}],
        }),
    ];
    let yaml = documents.map(|document| serde_yaml_ng::to_string(&crate::crd::sorted(document)).unwrap_or_default());
    format!("{HEADER}{}", yaml.join("---\n"))
}

/// The `ClusterRole` of who runs `check`, as YAML: whoever that is binds it.
pub fn check_rbac_yaml() -> String {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": CHECK_NAME, "labels": labels()},
        "rules": rules(CHECK_RULES),
    });
    format!("{HEADER}{}", serde_yaml_ng::to_string(&crate::crd::sorted(role)).unwrap_or_default())
}

fn rules(table: &[(&str, &str, &[&str])]) -> Vec<Value> {
    let rule = |(group, resource, verbs): &(&str, &str, &[&str])| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    table.iter().map(rule).collect()
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "dittofs"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_reads_and_may_never_more_than_the_operator() {
        for (group, resource, verbs) in CHECK_RULES {
            let own = RULES.iter().find(|(of, name, _)| (of, name) == (group, resource));
            let own = own.unwrap_or_else(|| panic!("{resource} is not the operator's")).2;
            for verb in *verbs {
                assert!(["get", "list"].contains(verb) && own.contains(verb), "{verb} {resource}");
            }
        }
        assert!(!check_rbac_yaml().contains("kind: ClusterRoleBinding"));
    }
}
