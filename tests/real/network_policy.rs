//! NetworkPolicies: exactly the ports that the Services publish, for whom the spec says, and never a pod start for them.

use dittofs_testbed::cluster::{Resource, resources};
use dittofs_testbed::dittofs::{Mode, Scope};
use serde_json::{Value, json};

use crate::look::uid;
use crate::support::{Bed, SOON};

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

/// A change of policies alone starts no pod then.
fn when_needed() -> Value {
    json!({"rollout": {"onSpecChange": "WhenNeeded"}})
}

/// `port/protocol` of what a rule lets in.
fn rule_ports(rule: &Value) -> Vec<String> {
    let text = |port: &Value| port["port"].as_str().map_or_else(|| port["port"].to_string(), str::to_owned);
    let ports = rule["ports"].as_array().into_iter().flatten();
    ports.map(|port| format!("{}/{}", text(port), port["protocol"].as_str().unwrap_or_default())).collect()
}

/// The same of what Services lead to, each once.
fn published(services: &[Value]) -> Vec<String> {
    let text = |port: &Value| {
        let target = &port["targetPort"];
        let target = target.as_str().map_or_else(|| target.to_string(), str::to_owned);
        format!("{target}/{}", port["protocol"].as_str().unwrap_or_default())
    };
    let mut all: Vec<String> = services
        .iter()
        .flat_map(|service| service["spec"]["ports"].as_array().into_iter().flatten())
        .map(text)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Waits until the policies of `files` are exactly these, each letting in exactly the ports of its Services.
async fn wait_policies(bed: &Bed, wanted: &[&str]) -> Vec<Value> {
    let namespace = bed.world.namespace();
    bed.world
        .wait_until(&format!("the policies to be {wanted:?} and to fit the Services"), SOON, async || {
            let policies =
                namespace.list(resources::NETWORK_POLICIES, "instance=files").await.map_err(|e| e.to_string())?;
            let mut services = bed.world.services("files").await.map_err(|error| error.to_string())?;
            services.retain(|service| service["metadata"]["deletionTimestamp"].is_null());
            let mut names: Vec<&str> =
                policies.iter().map(|policy| policy["metadata"]["name"].as_str().unwrap_or_default()).collect();
            names.sort_unstable();
            if names != wanted {
                return Err(format!("{names:?}"));
            }
            for policy in &policies {
                let name = &policy["metadata"]["name"];
                let of_adapter =
                    |service: &Value| service["metadata"]["labels"]["dittofs.io/adapter-service"] == "true";
                let behind: Vec<Value> = services
                    .iter()
                    .filter(|service| {
                        if name == "files-baseline" {
                            !of_adapter(service)
                        } else {
                            service["metadata"]["name"] == *name
                        }
                    })
                    .cloned()
                    .collect();
                let mut ports = rule_ports(&policy["spec"]["ingress"][0]);
                ports.sort();
                if ports != published(&behind) {
                    return Err(format!("{name} lets in {ports:?}, published are {:?}", published(&behind)));
                }
            }
            Ok(policies)
        })
        .await
        .expect("the policies follow")
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_come_change_and_go_with_what_the_services_publish() {
    let bed = Bed::new("policies").await;
    let mut spec = when_needed();
    spec["metrics"] = json!({"enabled": true});
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let policies = wait_policies(&bed, &["files-adapter-nfs", "files-adapter-smb", "files-baseline"]).await;
    let server = bed.world.server("files").await.expect("the server");
    for policy in &policies {
        let pod = json!({"matchLabels": {"app": "dittofs-server", "instance": "files"}});
        assert_eq!((&policy["spec"]["podSelector"], &policy["spec"]["policyTypes"]), (&pod, &json!(["Ingress"])));
        assert_eq!(policy["spec"]["ingress"].as_array().map(Vec::len), Some(1), "anybody may: one rule is enough");
        assert!(policy["spec"]["ingress"][0].get("from").is_none());
        assert_eq!(policy["metadata"]["ownerReferences"][0]["uid"], uid(&server));
    }
    let baseline = bed.get(resources::NETWORK_POLICIES, "files-baseline").await;
    assert_eq!(baseline["metadata"]["labels"]["dittofs.io/baseline-networkpolicy"], "true");
    assert_eq!(rule_ports(&baseline["spec"]["ingress"][0]), ["api/TCP", "12049/TCP", "1445/TCP", "metrics/TCP"]);
    let nfs = bed.get(resources::NETWORK_POLICIES, "files-adapter-nfs").await;
    assert_eq!(nfs["metadata"]["labels"]["dittofs.io/adapter-networkpolicy"], "true");
    assert_eq!(nfs["metadata"]["labels"]["dittofs.io/adapter-type"], "nfs");

    bed.dittofs("files").move_adapter("nfs", 13049, std::time::Duration::ZERO);
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 13049)]).await;
    wait_policies(&bed, &["files-adapter-nfs", "files-baseline"]).await;
    assert_eq!(uid(&bed.get(resources::NETWORK_POLICIES, "files-adapter-nfs").await), uid(&nfs), "changed in place");
    bed.wait_event_once("AdapterNetworkPolicyCreated", "files-adapter-nfs").await;
    bed.wait_event_once("AdapterNetworkPolicyCreated", "files-adapter-smb").await;
    bed.wait_event_once("AdapterNetworkPolicyUpdated", "files-adapter-nfs").await;
    bed.wait_event_once("AdapterNetworkPolicyDeleted", "files-adapter-smb").await;

    bed.patch_spec("files", &json!({"networkPolicy": {"enabled": false}})).await;
    wait_policies(&bed, &[]).await;
    bed.wait_event_once("AdapterNetworkPolicyDeleted", "files-adapter-nfs").await;
    bed.patch_spec("files", &json!({"networkPolicy": {"enabled": true}})).await;
    wait_policies(&bed, &["files-adapter-nfs", "files-baseline"]).await;
    bed.world.wait_ready("files").await.expect("ready all along");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_limit_who_is_let_in_and_the_operator_is_let_in_to_the_api_all_the_same() {
    let mut bed = Bed::idle("policy-peers").await;
    let mut options = bed.options();
    options.env.push(("POD_NAMESPACE".to_owned(), "dittofs-system".to_owned()));
    bed.world.start_operator(options).await.expect("the operator starts");
    let from = json!([
        {"namespaceSelector": {"matchLabels": {"team": "clients"}}, "podSelector": {}},
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.9/32"]}},
    ]);
    let mut spec = when_needed();
    spec["networkPolicy"] = json!({"from": from});
    bed.ready_server("files", &spec).await;
    let policies = wait_policies(&bed, &["files-adapter-nfs", "files-adapter-smb", "files-baseline"]).await;
    for policy in &policies {
        assert_eq!(policy["spec"]["ingress"][0]["from"], from);
        let own = &policy["spec"]["ingress"][1];
        if policy["metadata"]["name"] == "files-baseline" {
            let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": "dittofs-system"}});
            assert_eq!(own["from"], json!([{"namespaceSelector": namespace}]));
            assert_eq!(rule_ports(own), ["api/TCP"]);
        } else {
            assert!(own.is_null(), "{policy}");
        }
    }
    // What the API server stores of it is no difference to us.
    let written = bed.writes("networkpolicies").len();
    bed.wait_polls("files", 3).await;
    assert_eq!(bed.writes("networkpolicies").len(), written);

    bed.patch_spec("files", &json!({"networkPolicy": {"from": null}})).await;
    bed.wait_object(resources::NETWORK_POLICIES, "files-baseline", "to let in anybody", |policy| {
        let rules = policy["spec"]["ingress"].as_array().map_or(0, Vec::len);
        let anybody = rules == 1 && policy["spec"]["ingress"][0].get("from").is_none();
        if anybody { Ok(()) } else { Err(policy["spec"].to_string()) }
    })
    .await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_does_not_know_its_namespace_says_that_it_may_be_kept_out() {
    let bed = Bed::new("policy-unknown").await;
    let mut spec = when_needed();
    spec["networkPolicy"] = json!({"from": [{"podSelector": {}}]});
    bed.ready_server("files", &spec).await;
    bed.wait_message("files", "Warnings", "True", "POD_NAMESPACE").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_server_gets_its_policies_without_a_pod_start_and_drift_is_set_right_at_once() {
    let bed = Bed::new("policy-upgrade").await;
    bed.ready_server("files", &when_needed()).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let all = ["files-adapter-nfs", "files-adapter-smb", "files-baseline"];
    wait_policies(&bed, &all).await;
    // As an operator without policies leaves it, and the server's API says nothing.
    bed.world.operator().sigkill().await.expect("killed");
    for name in all {
        bed.world.namespace().delete(resources::NETWORK_POLICIES, name).await.expect("deleted");
    }
    bed.dittofs("files").set_mode(Mode::Status(500), Scope::AdaptersList);
    bed.world.operator().restart().await.expect("started");
    bed.world.operator().wait_ready().await.expect("ready");
    wait_policies(&bed, &all).await;
    bed.dittofs("files").heal();
    bed.world.wait_ready("files").await.expect("ready");

    let before = bed
        .edit(resources::NETWORK_POLICIES, "files-baseline", |policy| {
            policy["spec"]["ingress"].as_array_mut().expect("rules").push(json!({}));
            policy["spec"]["podSelector"]["matchLabels"]["never"] = json!("there");
            policy["metadata"]["labels"]["team.example/owner"] = json!("them");
        })
        .await;
    let after = bed
        .wait_object(resources::NETWORK_POLICIES, "files-baseline", "to be set right", |policy| {
            let right = policy["spec"]["ingress"].as_array().map(Vec::len) == Some(1)
                && policy["spec"]["podSelector"]["matchLabels"].get("never").is_none();
            if right { Ok(()) } else { Err(policy["spec"].to_string()) }
        })
        .await;
    assert_eq!((uid(&after), &after["metadata"]["labels"]["team.example/owner"]), (uid(&before), &json!("them")));
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_policy_of_our_name_and_decoys_with_our_labels_are_left_alone() {
    let bed = Bed::new("policy-foreign").await;
    let namespace = bed.world.namespace();
    let theirs = json!({
        "metadata": {"name": "files-baseline", "labels": {"app": "theirs"}},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    });
    let theirs = namespace.create_object(resources::NETWORK_POLICIES, &theirs).await.expect("theirs");
    let mut spec = when_needed();
    spec["adapterDiscovery"] = json!({"pollingInterval": "1s"});
    bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    let told = "NetworkPolicy files-baseline belongs to somebody else";
    bed.wait_message("files", "Ready", "False", told).await;
    bed.wait_event("NotOwned", told).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let ours = bed.get(resources::NETWORK_POLICIES, "files-adapter-smb").await;
    let decoy = json!({
        "metadata": {"name": "decoy", "labels": ours["metadata"]["labels"]}, "spec": {"podSelector": {}},
    });
    let decoy = namespace.create_object(resources::NETWORK_POLICIES, &decoy).await.expect("a decoy");
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_gone(resources::NETWORK_POLICIES, "files-adapter-smb").await;
    bed.patch_spec("files", &json!({"networkPolicy": {"enabled": false}})).await;
    bed.wait_gone(resources::NETWORK_POLICIES, "files-adapter-nfs").await;
    bed.world.wait_ready("files").await.expect("without policies, theirs is in nobody's way");
    for before in [&theirs, &decoy] {
        let name = before["metadata"]["name"].as_str().unwrap_or_default();
        let after = bed.get(resources::NETWORK_POLICIES, name).await;
        assert_eq!(crate::look::version(&after), crate::look::version(before), "{name} was touched");
    }
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_refused_is_told_and_stops_no_service() {
    let bed = Bed::new("policy-refused").await;
    let namespace = bed.world.namespace();
    // A quota is how administrators forbid more of a kind.
    let quota =
        json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/networkpolicies.networking.k8s.io": "0"}}});
    let quotas = Resource { api_version: "v1", plural: "resourcequotas", kind: "ResourceQuota" };
    namespace.create_object(quotas, &quota).await.expect("a quota");
    bed.world
        .apply_server("files", &json!({"adapterDiscovery": {"pollingInterval": "1s"}}))
        .await
        .expect("the server is accepted");
    bed.wait_event("NetworkPolicyFailed", "files-baseline").await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_message("files", "Ready", "False", "NetworkPolicy files-baseline").await;
    bed.wait_message("files", "Authenticated", "True", "Logged in").await;
    namespace.delete(quotas, "none").await.expect("deleted");
    bed.world.wait_ready("files").await.expect("ready when it may");
    bed.finish(1).await;
}
