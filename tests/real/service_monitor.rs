//! The ServiceMonitor: made when the cluster has the kind, said when it has not, taken up when the kind arrives, and
//! never in the way of anything else.

use std::time::Duration;

use dittofs_testbed::cluster::{Cluster, ClusterOptions, deploy, resources, wait_until};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
const CRD: &str = "servicemonitors.monitoring.coreos.com";

fn monitored() -> Value {
    json!({
        "rollout": {"onSpecChange": "WhenNeeded"},
        "service": {"type": "ClusterIP"},
        "metrics": {"enabled": true, "path": "/m", "serviceMonitor": {
            "enabled": true, "interval": "15s", "labels": {"release": "prom", "app": "hijacked"},
        }},
    })
}

/// A control plane whose kinds are this test's own.
async fn cluster() -> Cluster {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cluster::start(ClusterOptions { manifests: vec![deploy("crd.yaml")] }).await.expect("a control plane")
}

async fn install(cluster: &Cluster) {
    crate::support::install(cluster, "tests/fixtures/servicemonitor_crd.yaml").await;
}

async fn uninstall(cluster: &Cluster) {
    cluster.delete(resources::CRDS, "", CRD).await.expect("the CRD is deleted");
    wait_until("the CRD to be gone", LATER, async || match cluster.get(resources::CRDS, "", CRD).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("it is there".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await
    .expect("it goes");
}

async fn wait_monitor(bed: &Bed) -> Value {
    bed.wait_object(resources::SERVICE_MONITORS, "files-metrics", "to be there", |_| Ok(())).await
}

/// How often the operator asked for the kind: discovery, lists and watches, refused or not.
fn asked(bed: &Bed) -> usize {
    bed.history().iter().filter(|entry| entry.object.resource == "servicemonitors").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_monitor_comes_with_its_kind_follows_the_spec_and_goes() {
    let cluster = cluster().await;
    let mut bed = Bed::on(&cluster, "monitor").await;
    let options = bed.options();
    bed.world.start_operator(options).await.expect("ready without the kind");
    bed.ready_server("files", &monitored()).await;
    bed.wait_adapter_services("files", &BOTH).await;
    // Absent: said once in the log and in the status, and in nobody's way.
    let server = bed.wait_message("files", "Warnings", "True", "no ServiceMonitor").await;
    assert_eq!(condition(&server, "Ready").expect("a condition")["status"], "True");
    bed.wait_polls("files", 12).await;
    let about = |text: &str| bed.world.operator().logs().iter().filter(|line| line.contains(text)).count();
    assert_eq!(about("does not serve the kind"), 1);
    assert_eq!(asked(&bed), 0, "what is not served is neither listed nor watched nor written");

    // It arrives.
    install(&cluster).await;
    let monitor = wait_monitor(&bed).await;
    let labels = &monitor["metadata"]["labels"];
    assert_eq!((&labels["release"], &labels["app"]), (&json!("prom"), &json!("dittofs-server")));
    let server = bed.world.server("files").await.expect("the server");
    assert_eq!(monitor["metadata"]["ownerReferences"][0]["uid"], uid(&server));
    assert_eq!(monitor["spec"]["endpoints"], json!([{"port": "metrics", "path": "/m", "interval": "15s"}]));
    let service = bed.service("files-metrics").await;
    let selected = monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels").clone();
    assert!(selected.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value), "{selected:?}");
    assert!(selected.contains_key("dittofs.io/metrics-service") && selected["instance"] == "files");
    bed.wait_condition("files", "Warnings", "False", "NoWarnings").await;

    // It follows the spec and is set right when somebody edits it.
    bed.patch_spec("files", &json!({"metrics": {"serviceMonitor": {"interval": "1m", "labels": {"release": null}}}}))
        .await;
    bed.wait_object(resources::SERVICE_MONITORS, "files-metrics", "to follow the spec", |monitor| {
        let follows = monitor["spec"]["endpoints"][0]["interval"] == "1m"
            && monitor["metadata"]["labels"].get("release").is_none();
        if follows { Ok(()) } else { Err(monitor.to_string()) }
    })
    .await;
    bed.edit(resources::SERVICE_MONITORS, "files-metrics", |monitor| {
        monitor["spec"]["endpoints"][0]["port"] = json!("theirs");
        monitor["spec"]["endpoints"][0]["honorLabels"] = json!(true);
    })
    .await;
    let kept = bed
        .wait_object(resources::SERVICE_MONITORS, "files-metrics", "to be set right", |monitor| {
            let port = &monitor["spec"]["endpoints"][0]["port"];
            if port == "metrics" { Ok(()) } else { Err(port.to_string()) }
        })
        .await;
    assert_eq!(uid(&kept), uid(&monitor), "changed in place");
    assert_eq!(kept["spec"]["endpoints"][0]["honorLabels"], true, "what others set besides stays");
    bed.wait_event_once("DriftRepaired", "ServiceMonitor files-metrics: set back spec.endpoints").await;
    bed.world.namespace().delete(resources::SERVICE_MONITORS, "files-metrics").await.expect("deleted");
    bed.wait_object(resources::SERVICE_MONITORS, "files-metrics", "to be made again", |now| {
        if uid(now) == uid(&monitor) { Err("the old one".to_owned()) } else { Ok(()) }
    })
    .await;
    bed.wait_event_once("DriftRepaired", "ServiceMonitor files-metrics was deleted by somebody").await;

    // It goes, and comes again.
    bed.patch_spec("files", &json!({"metrics": {"serviceMonitor": {"enabled": false}}})).await;
    bed.wait_gone(resources::SERVICE_MONITORS, "files-metrics").await;
    bed.patch_spec("files", &json!({"metrics": {"serviceMonitor": {"enabled": true}}})).await;
    wait_monitor(&bed).await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_removed_again_is_said_and_nothing_storms() {
    let cluster = cluster().await;
    install(&cluster).await;
    let mut bed = Bed::on(&cluster, "monitor-gone").await;
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &monitored()).await;
    wait_monitor(&bed).await;

    uninstall(&cluster).await;
    let server = bed.wait_message("files", "Warnings", "True", "no ServiceMonitor").await;
    assert_eq!(condition(&server, "Ready").expect("a condition")["status"], "True");
    let before = asked(&bed);
    bed.wait_polls("files", 15).await;
    assert!(asked(&bed) <= before + 1, "{} requests for a kind that is not there", asked(&bed) - before);
    // All else goes on.
    bed.dittofs("files").move_adapter("nfs", 13049, Duration::ZERO);
    bed.wait_adapter_services("files", &[("nfs", 13049), ("smb", 1445)]).await;
    let failures = bed.events("ReconcileFailed").await;
    assert!(failures.is_empty(), "{failures:?}");

    install(&cluster).await;
    wait_monitor(&bed).await;
    bed.finish(1).await;
}
