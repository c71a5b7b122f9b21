//! What `dittofs-operator check` says is what the operator then does: each change that is announced is made, no other is,
//! and the restart comes exactly when it was said to come. Afterwards it has nothing to say.

use std::collections::BTreeSet;
use std::process::Output;

use dittofs_testbed::cluster::{Cluster, ClusterOptions, Resource, deploy, repository, resources};
use dittofs_testbed::operator::{Account, Rights};
use serde_json::{Value, json};

use crate::look::LATER;
use crate::percona::{credentials, report as report_state};
use crate::support::{Bed, OPERATOR};
use crate::takeover::{JWT, PASSWORD, left_behind_with};

/// Kind, name and action of a change.
type Done = (String, String, String);

/// The kinds that the operator writes.
const WRITTEN: [Resource; 9] = [
    resources::SERVERS,
    resources::STATEFUL_SETS,
    resources::SERVICES,
    resources::CONFIG_MAPS,
    resources::SECRETS,
    resources::NETWORK_POLICIES,
    resources::SERVICE_MONITORS,
    resources::PERCONA_CLUSTERS,
    resources::CLAIMS,
];

/// `dittofs-operator check` with the rights of its own role.
pub(crate) async fn check(bed: &Bed, arguments: &[&str]) -> Output {
    let (cluster, namespace) = (bed.world.cluster(), bed.world.namespace().name());
    let rights = Rights::File(deploy("check-rbac.yaml"));
    let account = Account::create(cluster, namespace, Some(namespace), &rights).await;
    let directory = tempfile::tempdir().expect("a directory");
    account.expect("an account").write_kubeconfig(directory.path(), None).expect("a kubeconfig");
    tokio::process::Command::new(OPERATOR)
        .args(["check", "--namespace", namespace])
        .args(arguments)
        .env("KUBECONFIG", directory.path().join("kubeconfig"))
        .output()
        .await
        .expect("check runs")
}

/// Its exit code and report.
pub(crate) async fn report(bed: &Bed) -> (Option<i32>, Value) {
    let output = check(bed, &["-o", "json"]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for secret in [JWT, PASSWORD] {
        assert!(!text.contains(secret), "a secret in the report");
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}\n{error}")))
}

/// What it says about an object.
pub(crate) fn change<'a>(report: &'a Value, name: &str) -> &'a Value {
    let changes = report["servers"][0]["changes"].as_array().expect("changes");
    changes.iter().find(|change| change["name"] == name).unwrap_or_else(|| panic!("nothing about {name}: {report}"))
}

/// The changes that a report announces for the only server.
pub(crate) fn announced(report: &Value) -> BTreeSet<Done> {
    let changes = report["servers"][0]["changes"].as_array().expect("changes").iter();
    let text = |change: &Value, key: &str| change[key].as_str().unwrap_or_default().to_owned();
    let all = changes.map(|change| (text(change, "kind"), text(change, "name"), text(change, "action")));
    all.filter(|(_, _, action)| action != "blocked").collect()
}

/// The first thing that the operator did to each object, but for the status and Events.
fn done(bed: &Bed) -> BTreeSet<Done> {
    let mut seen = BTreeSet::new();
    let mut done = BTreeSet::new();
    for entry in bed.history() {
        let object = &entry.object;
        if !entry.is_write() || !entry.succeeded() || entry.is_event() || !object.subresource.is_empty() {
            continue;
        }
        let kind = WRITTEN.iter().find(|kind| kind.plural == object.resource);
        let kind = kind.map_or(object.resource.as_str(), |kind| kind.kind).to_owned();
        if seen.insert((kind.clone(), object.name.clone())) {
            let action = if entry.verb == "patch" { "update" } else { &entry.verb };
            done.insert((kind, object.name.clone(), action.to_owned()));
        }
    }
    done
}

/// Waits until the operator did exactly what was announced.
pub(crate) async fn wait_done(bed: &Bed, announced: &BTreeSet<Done>) {
    bed.world
        .wait_until("what was announced to be done, and no more", LATER, async || {
            let done = done(bed);
            let missing: Vec<_> = announced.difference(&done).collect();
            let unsaid: Vec<_> = done.difference(announced).collect();
            if missing.is_empty() && unsaid.is_empty() {
                Ok(())
            } else {
                Err(format!("announced and not done: {missing:?}; done and not announced: {unsaid:?}"))
            }
        })
        .await
        .expect("the operator does what was announced");
}

fn warns(report: &Value, part: &str) -> bool {
    let warnings = report["servers"][0]["warnings"].as_array().expect("warnings");
    warnings.iter().any(|warning| warning.as_str().unwrap_or_default().contains(part))
}

fn has_kind(report: &Value, kind: &str) -> bool {
    announced(report).iter().any(|(of, _, _)| of == kind)
}

async fn install(cluster: &Cluster, file: &str) {
    let text = std::fs::read_to_string(repository().join("tests/fixtures").join(file)).expect("the CRD");
    let crd: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    cluster.create(resources::CRDS, "", &crd).await.expect("the CRD is accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_a_monitor_a_database_and_larger_claims_are_announced_as_they_then_come() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "check").await;
    let before = left_behind_with(
        &bed,
        &json!({
            "storage": {"metadataSize": "12Gi"},
            "metrics": {"enabled": true, "serviceMonitor": {"enabled": true}},
            "percona": {"enabled": true},
        }),
    )
    .await;

    // Without their CRDs: said, with what to do, and nothing is announced that waits for them.
    let (code, told) = report(&bed).await;
    assert_eq!(code, Some(4), "{told}");
    for part in
        ["install the Prometheus operator's CRDs", "install Percona's operator", "files-postgres-pguser-dittofs"]
    {
        assert!(warns(&told, part), "{part}: {told}");
    }
    assert!(!has_kind(&told, "ServiceMonitor") && !has_kind(&told, "PerconaPGCluster"), "{told}");
    assert_eq!(told["servers"][0]["restart"], false, "the pod waits for its database: {told}");

    // The database as the Go operator leaves it: its own, without a label.
    install(&cluster, "servicemonitor_crd.yaml").await;
    install(&cluster, "percona/crd.yaml").await;
    let owners = before.values().next().expect("an object")["metadata"]["ownerReferences"].clone();
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}});
    let database = json!({
        "metadata": {"name": "files-postgres", "ownerReferences": owners},
        "spec": {
            "crVersion": "2.5.0", "postgresVersion": 16, "backups": {"enabled": false},
            "instances": [{"name": "instance1", "replicas": 1, "dataVolumeClaimSpec": claim}],
        },
    });
    let namespace = bed.world.namespace().clone();
    bed.world
        .wait_until("the new kinds to be served", LATER, async || {
            namespace.list(resources::SERVICE_MONITORS, "").await.map_err(|error| error.to_string())?;
            namespace.create_object(resources::PERCONA_CLUSTERS, &database).await.map_err(|error| error.to_string())
        })
        .await
        .expect("a database");
    credentials(&bed, "files-postgres").await;
    report_state(&bed, "files-postgres", "ready").await;

    let (code, told) = report(&bed).await;
    assert_eq!((code, &told["servers"][0]["restart"]), (Some(4), &json!(true)), "{told}");
    for (kind, name, action) in [
        ("NetworkPolicy", "files-baseline", "create"),
        ("NetworkPolicy", "files-adapter-nfs", "create"),
        ("NetworkPolicy", "files-adapter-smb", "create"),
        ("ServiceMonitor", "files-metrics", "create"),
        ("PerconaPGCluster", "files-postgres", "update"),
        ("PersistentVolumeClaim", "metadata-files-0", "update"),
    ] {
        let wanted = (kind.to_owned(), name.to_owned(), action.to_owned());
        assert!(announced(&told).contains(&wanted), "{wanted:?} is not announced: {told}");
    }
    let grows = change(&told, "metadata-files-0")["what"].to_string();
    assert!(grows.contains("12Gi instead of 10Gi"), "{grows}");
    assert!(!warns(&told, "install"), "{told}");

    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.world.wait_ready("files").await.expect("the server is ready");
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    wait_done(&bed, &announced(&told)).await;
    bed.wait_starts(2).await;
    let monitor = bed.get(resources::SERVICE_MONITORS, "files-metrics").await;
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], "metrics");
    let kept = bed.get(resources::PERCONA_CLUSTERS, "files-postgres").await;
    assert!(kept["metadata"]["ownerReferences"].is_null(), "it outlives the server");

    let (code, told) = report(&bed).await;
    assert_eq!(code, Some(0), "nothing is left to change: {told}");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_krb5_conf_announces_the_restart_that_comes_and_no_other() {
    let bed = Bed::new("check-krb5").await;
    bed.world.namespace().secret("krb", &[("nfs", "keytab-of-the-nfs-service")]).await.expect("a Secret");
    let kerberos = json!({
        "enabled": true, "keytabSecretRef": {"name": "krb", "key": "nfs"}, "krb5Conf": "[libdefaults]\n  realm = A\n",
    });
    let spec = json!({"rollout": {"onSpecChange": "WhenNeeded"}, "identity": {"kerberos": kerberos}});
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    bed.wait_adapter_ports("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let (code, told) = report(&bed).await;
    assert_eq!((code, &told["servers"][0]["restart"]), (Some(0), &json!(false)), "{told}");

    bed.world.operator().sigkill().await.expect("the operator is gone");
    let changed = json!({"identity": {"kerberos": {"krb5Conf": "[libdefaults]\n  realm = B\n"}}});
    bed.patch_spec("files", &changed).await;
    let (code, told) = report(&bed).await;
    assert_eq!((code, &told["servers"][0]["restart"]), (Some(4), &json!(true)), "{told}");
    assert!(told["servers"][0]["restartBecause"].to_string().contains("config-hash"), "{told}");
    let kinds: Vec<_> = announced(&told).into_iter().map(|(kind, _, _)| kind).collect();
    assert_eq!(kinds, ["ConfigMap", "StatefulSet"], "{told}");
    bed.world.operator().restart().await.expect("the operator starts again");
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready with the new text");
    let (code, told) = report(&bed).await;
    assert_eq!(code, Some(0), "{told}");
    bed.finish(2).await;
}
