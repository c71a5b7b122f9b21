//! The manifest of the optional webhook: where the API server finds it, when it asks, and a certificate for it.
//!
//! Owns the one `ValidatingWebhookConfiguration`. Guarantees: it is asked for DittoServers alone, and only when one is
//! created or its spec changes: never for a status, a finalizer or a deletion; whatever goes wrong lets the change through.

use serde_json::{Value, json};

/// First lines of the manifest.
const HEADER: &str = "# Generated from src/build/webhook.rs by `make generate`; do not edit.\n";
/// Namespace of the operator.
const NAMESPACE: &str = "dittofs-system";
/// Name of the operator's objects.
const OPERATOR: &str = "dittofs-operator";
/// Name of what is made here.
const NAME: &str = "dittofs-operator-webhook";
/// Path of a review when no other is given.
pub const WEBHOOK_PATH: &str = "/validate-dittoserver";
/// Port that the webhook listens on.
pub const WEBHOOK_PORT: u16 = 9443;
/// How long the API server waits, in seconds; the webhook gives itself less.
const TIMEOUT: u32 = 5;

/// `Service`, `ValidatingWebhookConfiguration`, and `Issuer` and `Certificate` of cert-manager, as YAML documents. The same
/// text every time, with a newline at its end.
pub fn webhook_yaml() -> String {
    let documents = [service(), configuration(), issuer(), certificate()];
    let yaml = documents.map(|document| serde_yaml_ng::to_string(&crate::crd::sorted(document)).unwrap_or_default());
    format!("{HEADER}{}", yaml.join("---\n"))
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": OPERATOR, "app.kubernetes.io/part-of": "dittofs"})
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels()},
        "spec": {
            "selector": {"app.kubernetes.io/name": OPERATOR},
            "ports": [{"name": "webhook", "port": 443, "targetPort": "webhook", "protocol": "TCP"}],
        },
    })
}

fn configuration() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": NAME,
            "labels": labels(),
            "annotations": {"cert-manager.io/inject-ca-from": format!("{NAMESPACE}/{NAME}")},
        },
        "webhooks": [{
            "name": "dittoservers.dittofs.dittofs.com",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "service": {"name": NAME, "namespace": NAMESPACE, "path": WEBHOOK_PATH, "port": 443},
            },
            "rules": [{
                "apiGroups": ["dittofs.dittofs.com"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["dittoservers"],
                "scope": "Namespaced",
            }],
            "matchConditions": [
                {
                    "name": "spec-changed",
                    "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec",
                },
                {"name": "not-being-deleted", "expression": "!has(object.metadata.deletionTimestamp)"},
            ],
            "matchPolicy": "Equivalent",
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT,
        }],
    })
}

fn issuer() -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels()},
        "spec": {"selfSigned": {}},
    })
}

fn certificate() -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels()},
        "spec": {
            "secretName": NAME,
            "dnsNames": [format!("{NAME}.{NAMESPACE}.svc"), format!("{NAME}.{NAMESPACE}.svc.cluster.local")],
            "issuerRef": {"kind": "Issuer", "name": NAME},
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth"],
        },
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;

    #[test]
    fn it_is_asked_for_nothing_but_dittoservers_and_its_absence_stops_nobody() {
        let yaml = webhook_yaml();
        let documents: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&yaml)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        let hook = &documents[1]["webhooks"][0];
        assert_eq!(hook["rules"][0]["resources"], json!(["dittoservers"]));
        assert_eq!(hook["rules"][0]["operations"], json!(["CREATE", "UPDATE"]));
        assert_eq!((&hook["failurePolicy"], &hook["sideEffects"]), (&json!("Ignore"), &json!("None")));
        let named = documents[3]["spec"]["secretName"].as_str().unwrap();
        let patch = include_str!("../../deploy/webhook/deployment-patch.yaml");
        assert!(
            patch.contains(&format!("secretName: {named}"))
                && patch.contains(&format!("containerPort: {WEBHOOK_PORT}"))
        );
    }
}
