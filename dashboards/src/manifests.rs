//! What is applied to a cluster: how Prometheus finds the operator, and the alerts.

use serde_json::{Value, json};

use crate::alerts::ALERTS;
use crate::{HEADER, sorted};

const NAMESPACE: &str = "dittofs-system";
const NAME: &str = "dittofs-operator";
/// Name of the container's port in `deploy/deployment.yaml`, and its number.
const PORT: &str = "metrics";
const NUMBER: u16 = 8082;

/// Path and text of each.
pub(crate) fn files() -> Vec<(String, String)> {
    let file = |name: &str, comment: &str, documents: &[Value]| {
        let yaml =
            documents.iter().map(|document| serde_yaml_ng::to_string(&sorted(document.clone())).unwrap_or_default());
        (
            format!("deploy/monitoring/{name}.yaml"),
            format!("{HEADER}{comment}{}", yaml.collect::<Vec<_>>().join("---\n")),
        )
    };
    vec![
        file("podmonitor", "", &[pod_monitor()]),
        file(
            "servicemonitor",
            "# Instead of podmonitor.yaml, where Prometheus reads ServiceMonitors only. Both at once scrape twice.\n",
            &[service(), service_monitor()],
        ),
        file(
            "prometheusrule",
            "# What to do when one fires: docs/runbooks. A held-back change of ports also sets off the stock alert\n\
             # KubeStatefulSetUpdateNotRolledOut; docs/runbooks/DittofsPortRolloutHeld.md says how to keep it quiet.\n",
            &[prometheus_rule()],
        ),
        file("kustomization", "# kubectl apply -k deploy/monitoring\n", &[kustomization()]),
    ]
}

/// `spec` of the `PrometheusRule`, which is also a file of rules for Prometheus: every `for`, range and age in the rules
/// divided by `factor`. 1 is what is shipped.
pub fn rules(factor: u64) -> Value {
    let rules: Vec<Value> = ALERTS
        .iter()
        .map(|alert| {
            json!({
                "alert": alert.name,
                "expr": alert.expr(factor),
                "for": alert.hold(factor),
                "labels": {"severity": alert.severity.as_str()},
                "annotations": {
                    "summary": alert.summary,
                    "description": alert.description,
                    "runbook_url": alert.runbook_url(),
                },
            })
        })
        .collect();
    sorted(json!({"groups": [{"name": NAME, "rules": rules}]}))
}

fn metadata() -> Value {
    json!({"name": NAME, "namespace": NAMESPACE, "labels": labels()})
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "dittofs"})
}

fn selector() -> Value {
    json!({"matchLabels": {"app.kubernetes.io/name": NAME}})
}

fn endpoint() -> Value {
    json!([{"port": PORT, "path": "/metrics", "interval": "30s"}])
}

fn pod_monitor() -> Value {
    json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": metadata(),
        "spec": {"selector": selector(), "podMetricsEndpoints": endpoint()}})
}

fn service() -> Value {
    let mut metadata = metadata();
    metadata["name"] = json!(format!("{NAME}-metrics"));
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
        "clusterIP": "None", "ports": [{"name": PORT, "port": NUMBER, "targetPort": PORT}],
        "selector": selector()["matchLabels"],
    }})
}

fn service_monitor() -> Value {
    json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": metadata(),
        "spec": {"selector": selector(), "endpoints": endpoint()}})
}

fn prometheus_rule() -> Value {
    json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata(), "spec": rules(1)})
}

fn kustomization() -> Value {
    json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["podmonitor.yaml", "prometheusrule.yaml"]})
}
