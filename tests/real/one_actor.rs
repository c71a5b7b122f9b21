//! S1 to its end: each kind of object has one actor that writes it, in a life that writes every kind.

use std::collections::BTreeSet;

use dittofs_testbed::audit;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, resources};
use dittofs_testbed::otlp::{Options, OtlpReceiver};
use serde_json::json;

use crate::look::uid;
use crate::support::{Bed, install};

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_object_is_written_by_one_actor_and_each_write_has_a_span() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let receiver = OtlpReceiver::start(Options::default()).expect("the receiver starts");
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    install(&cluster, "tests/fixtures/servicemonitor_crd.yaml").await;
    install(&cluster, "tests/fixtures/percona/crd.yaml").await;
    let mut bed = Bed::on(&cluster, "one-actor").await;
    let mut options = bed.options();
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        // Room for all: a span that is dropped would look like a write that has none.
        ("OTEL_BSP_MAX_QUEUE_SIZE", "65536"),
        ("DITTOFS_TRACE_QUIET_POLLS", "true"),
    ] {
        options.env.push((name.to_owned(), value.to_owned()));
    }
    bed.world.start_operator(options).await.expect("the operator starts");
    let user = bed.world.operator().user().clone();
    let log = bed.world.cluster().audit_log().to_owned();

    // Every kind is made, changed, repaired and removed.
    let spec = json!({
        "rollout": {"onSpecChange": "WhenNeeded"},
        "metrics": {"enabled": true, "serviceMonitor": {"enabled": true}},
    });
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.world.apply_server("base", &json!({"percona": {"enabled": true}})).await.expect("accepted");
    bed.wait_object(resources::PERCONA_CLUSTERS, "base-postgres", "to be there", |_| Ok(())).await;
    bed.wait_object(resources::SERVICE_MONITORS, "files-metrics", "to be there", |_| Ok(())).await;
    bed.dittofs("files").stop_adapter("smb");
    bed.dittofs("files").move_adapter("nfs", 13049, std::time::Duration::ZERO);
    bed.wait_adapter_services("files", &[("nfs", 13049)]).await;
    let claim = bed.get(resources::CLAIMS, "metadata-files-0").await;
    bed.patch_spec("files", &json!({"storage": {"metadataSize": "7Gi"}})).await;
    bed.wait_object(resources::CLAIMS, "metadata-files-0", "to ask for more", |found| {
        let asks = &found["spec"]["resources"]["requests"]["storage"];
        if *asks == "7Gi" { Ok(()) } else { Err(format!("{asks}, at first {}", claim["spec"]["resources"])) }
    })
    .await;
    for (resource, name) in [
        (resources::CONFIG_MAPS, "files-config"),
        (resources::SERVICES, "files-api"),
        (resources::SECRETS, "files-operator-credentials"),
        (resources::NETWORK_POLICIES, "files-baseline"),
        (resources::SERVICE_MONITORS, "files-metrics"),
    ] {
        let old = bed.get(resource, name).await;
        bed.world.namespace().delete(resource, name).await.expect("the deletion is accepted");
        bed.wait_object(resource, name, "to be made anew", |found| {
            if uid(found) == uid(&old) { Err("it is the old one".to_owned()) } else { Ok(()) }
        })
        .await;
    }
    bed.patch_spec("files", &json!({"metrics": {"enabled": false}})).await;
    bed.wait_gone(resources::SERVICES, "files-metrics").await;
    // The server reads that, so it is started anew: not while it is being deleted.
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready without metrics");
    bed.delete_server("files").await;
    bed.delete_server("base").await;
    // What is queued is sent before the operator ends.
    bed.finish(2).await;

    let mut entries = audit::read(&log).expect("the audit log");
    entries.retain(|entry| entry.user == user);
    let spans = receiver.spans();
    assert_eq!(audit::one_actor(&entries, &spans), Vec::<String>::new());
    let written: BTreeSet<&str> =
        entries.iter().filter(|entry| entry.is_write()).map(|entry| entry.object.resource.as_str()).collect();
    let all = [
        "configmaps",
        "dittoservers",
        "events",
        "networkpolicies",
        "perconapgclusters",
        "persistentvolumeclaims",
        "secrets",
        "servicemonitors",
        "services",
        "statefulsets",
    ];
    assert_eq!(written.into_iter().filter(|resource| *resource != "leases").collect::<Vec<_>>(), all);
}
