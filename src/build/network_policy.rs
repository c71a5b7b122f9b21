//! NetworkPolicies `<cr>-baseline` and `<cr>-adapter-<type>`: what may reach the server's pod.
//!
//! Ingress for exactly the ports that Services publish, as the Services name them: by the container port's name where
//! a Service goes by name, so that both follow the pod through a roll that changes the number. Egress is not limited.
//! Source: the object table of the CRD reference; `spec.networkPolicy`.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::common::{
    ADAPTER_POLICY_LABEL, ADAPTER_TYPE_LABEL, API_PORT_NAME, BASELINE_POLICY_LABEL, owned, selector, strings,
};
use super::prune::without_empty;
use crate::reconcile::{ValidatedServer, meta};

/// The label that Kubernetes gives each namespace with its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The policy for the ports of the static `services`. With peers in the spec, `operator_namespace` is let in to the API
/// all the same: the operator is none of the user's peers, and without it nothing is observed.
pub fn baseline_policy(
    server: &ValidatedServer,
    services: &[&Value],
    operator_namespace: Option<&str>,
) -> NetworkPolicy {
    let mut policy = policy(server, server.names().baseline_policy(), services);
    policy.metadata.labels.get_or_insert_default().insert(BASELINE_POLICY_LABEL.to_owned(), "true".to_owned());
    if let (false, Some(namespace), Some(spec)) =
        (server.network_policy.from.is_empty(), operator_namespace, policy.spec.as_mut())
    {
        let operator = NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector {
                match_labels: Some(strings([(NAMESPACE_NAME_LABEL, namespace)])),
                ..LabelSelector::default()
            }),
            ..NetworkPolicyPeer::default()
        };
        let api = NetworkPolicyPort {
            port: Some(IntOrString::String(API_PORT_NAME.to_owned())),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        };
        spec.ingress
            .get_or_insert_default()
            .push(NetworkPolicyIngressRule { from: Some(vec![operator]), ports: Some(vec![api]) });
    }
    policy
}

/// The policy for the ports of an adapter's `service`, of the same name.
pub fn adapter_policy(server: &ValidatedServer, service: &Value) -> NetworkPolicy {
    let mut policy = policy(server, meta(service, "name").to_owned(), &[service]);
    let label = service.pointer("/metadata/labels").and_then(|labels| labels.get(ADAPTER_TYPE_LABEL));
    let adapter = label.and_then(Value::as_str).unwrap_or_default();
    let labels = policy.metadata.labels.get_or_insert_default();
    labels.extend(strings([(ADAPTER_POLICY_LABEL, "true"), (ADAPTER_TYPE_LABEL, adapter)]));
    policy
}

fn policy(server: &ValidatedServer, name: String, services: &[&Value]) -> NetworkPolicy {
    let from = &server.network_policy.from;
    let ports = published(services);
    // A rule without ports would let in all of them.
    let ingress = (!ports.is_empty()).then(|| {
        vec![NetworkPolicyIngressRule {
            from: (!from.is_empty()).then(|| without_empty(from.clone())),
            ports: Some(ports),
        }]
    });
    NetworkPolicy {
        metadata: owned(server, name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(selector(server)), ..LabelSelector::default() }),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress,
            egress: None,
        }),
    }
}

/// The ports of the pod that these Services lead to, each once.
fn published(services: &[&Value]) -> Vec<NetworkPolicyPort> {
    let mut seen = BTreeSet::new();
    let all = services.iter().filter_map(|service| service.pointer("/spec/ports")?.as_array()).flatten();
    all.filter_map(|port| {
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned();
        let target = port.get("targetPort").or_else(|| port.get("port"))?;
        let target: IntOrString = serde_json::from_value(target.clone()).ok()?;
        seen.insert((protocol.clone(), port_text(&target))).then_some(NetworkPolicyPort {
            port: Some(target),
            protocol: Some(protocol),
            end_port: None,
        })
    })
    .collect()
}

fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::{AdapterPort, adapter_service, api_service, file_service, headless_service, metrics_service};
    use crate::fixtures::{everything, server};

    fn value(object: impl serde::Serialize) -> Value {
        serde_json::to_value(object).unwrap()
    }

    #[test]
    fn the_baseline_lets_in_what_the_static_services_publish_and_nothing_twice() {
        let server = server("files").with(|s| s.metrics = everything("files").metrics).build();
        let services = [
            value(headless_service(&server)),
            value(api_service(&server)),
            value(file_service(&server, crate::build::TargetPorts { nfs: 12049, smb: 445 })),
            value(metrics_service(&server)),
        ];
        let policy = value(baseline_policy(&server, &services.iter().collect::<Vec<_>>(), Some("operators")));
        assert_eq!(
            policy["spec"],
            json!({
                "podSelector": {"matchLabels": {"app": "dittofs-server", "instance": "files"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"ports": [
                    {"port": "api", "protocol": "TCP"},
                    {"port": 12049, "protocol": "TCP"},
                    {"port": 445, "protocol": "TCP"},
                    {"port": "metrics", "protocol": "TCP"},
                ]}],
            }),
            "anybody may, so the operator needs no rule of its own"
        );
        assert_eq!(policy["metadata"]["labels"]["dittofs.io/baseline-networkpolicy"], "true");
        assert_eq!(policy["metadata"]["ownerReferences"][0]["uid"], "uid-of-files");
    }

    #[test]
    fn with_peers_the_operators_namespace_reaches_the_api_and_only_the_api() {
        let server = everything("files");
        let api = value(api_service(&server));
        let ingress = |namespace| value(baseline_policy(&server, &[&api], namespace))["spec"]["ingress"].clone();
        let with = ingress(Some("operators"));
        assert_eq!(with[0]["from"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            with[1],
            json!({
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "operators"}}}],
                "ports": [{"port": "api", "protocol": "TCP"}],
            })
        );
        assert_eq!(ingress(None).as_array().map(Vec::len), Some(1), "a namespace that is not known is not guessed");
        let adapter = adapter_service(&server, &AdapterPort { adapter_type: "nfs".into(), port: 12049 });
        let adapter = value(adapter_policy(&server, &value(adapter)));
        assert_eq!(adapter["spec"]["ingress"].as_array().map(Vec::len), Some(1), "the operator mounts no file system");
    }

    #[test]
    fn an_adapters_policy_has_its_services_name_type_and_ports_of_both_protocols() {
        let server = server("files").build();
        let mut service = value(adapter_service(&server, &AdapterPort { adapter_type: "nfs".into(), port: 12049 }));
        service["spec"]["ports"].as_array_mut().unwrap().extend([
            json!({"name": "adapter-nfs-udp", "port": 12049, "targetPort": 12049, "protocol": "UDP"}),
            json!({"name": "portmap", "port": 111, "targetPort": 10111}),
            json!({"name": "bare", "port": 7}),
        ]);
        let policy = value(adapter_policy(&server, &service));
        assert_eq!(policy["metadata"]["name"], "files-adapter-nfs");
        assert_eq!(policy["metadata"]["labels"]["dittofs.io/adapter-type"], "nfs");
        assert_eq!(policy["metadata"]["labels"]["dittofs.io/adapter-networkpolicy"], "true");
        assert_eq!(
            policy["spec"]["ingress"],
            json!([{"ports": [
                {"port": 12049, "protocol": "TCP"},
                {"port": 12049, "protocol": "UDP"},
                {"port": 10111, "protocol": "TCP"},
                {"port": 7, "protocol": "TCP"},
            ]}])
        );
        service["spec"]["ports"] = json!([]);
        let closed = value(adapter_policy(&server, &service));
        assert_eq!(closed["spec"].get("ingress"), None, "nothing published, nothing let in");
    }
}
