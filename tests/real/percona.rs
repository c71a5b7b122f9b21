//! The database that Percona's operator makes: objects and wiring, with that operator played by the test.

use dittofs_testbed::audit::Expect;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, repository, resources};
use serde_json::{Value, json};

use crate::look::{container, hash, uid};
use crate::support::Bed;

pub(crate) const CLUSTERS: dittofs_testbed::cluster::Resource = resources::PERCONA_CLUSTERS;

/// What Percona's operator reports of a cluster.
pub(crate) async fn report(bed: &Bed, cluster: &str, state: &str) {
    let namespace = bed.world.namespace();
    let status = json!({"status": {"state": state}});
    let patched = namespace.cluster().patch_subresource(CLUSTERS, namespace.name(), cluster, "status", &status).await;
    patched.expect("a status");
}

/// The Secret that it makes.
pub(crate) async fn credentials(bed: &Bed, cluster: &str) {
    let data = [
        ("host", "primary.example.svc"),
        ("port", "5432"),
        ("dbname", "dittofs"),
        ("user", "dittofs"),
        ("password", "the-password-of-the-database"),
    ];
    bed.world.namespace().secret(&format!("{cluster}-pguser-dittofs"), &data).await.expect("a Secret");
}

/// Makes the kind known.
pub(crate) async fn install(cluster: &Cluster) {
    let text = std::fs::read_to_string(repository().join("tests/fixtures/percona/crd.yaml")).expect("the CRD");
    let crd: Value = serde_yaml_ng::from_str(&text).expect("the CRD is YAML");
    cluster.create(resources::CRDS, "", &crd).await.expect("the CRD is accepted");
}

fn env<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let mut env = container(&pod["spec"])["env"].as_array().expect("variables").iter();
    &env.find(|variable| variable["name"] == name).unwrap_or_else(|| panic!("no {name}"))["valueFrom"]["secretKeyRef"]
}

pub(crate) async fn wait_owned(bed: &Bed, cluster: &str, owner: Option<&str>) -> Value {
    bed.wait_object(CLUSTERS, cluster, &format!("to have the owner {owner:?}"), |object| {
        let found = object["metadata"]["ownerReferences"][0]["uid"].as_str();
        if found == owner { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_percona_is_made_when_its_kind_arrives_awaited_used_and_never_deleted_unasked() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "percona").await;
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    let namespace = bed.world.namespace().clone();
    let spec = json!({
        "adapterDiscovery": {"pollingInterval": "1s"},
        "database": {"type": "postgres", "postgresSecretRef": {"name": "another", "key": "host"}},
        "percona": {"enabled": true, "replicas": 2},
    });

    // Without the CRD: said, awaited, and nothing is started.
    bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    bed.wait_condition("files", "DatabaseReady", "False", "PerconaMissing").await;
    bed.wait_event("PerconaNotReady", "install Percona's operator").await;
    let set = namespace.get(resources::STATEFUL_SETS, "files").await.expect("an answer");
    assert!(set.is_none(), "a StatefulSet before the database");

    install(&cluster).await;
    bed.wait_condition("files", "DatabaseReady", "False", "PerconaNotReady").await;
    let made = wait_owned(&bed, "files-postgres", None).await;
    assert_eq!(made["spec"]["crVersion"], "2.8.0");
    assert_eq!(made["spec"]["postgresVersion"], 16);
    let instance = &made["spec"]["instances"][0];
    assert_eq!((&instance["name"], &instance["replicas"]), (&json!("instance1"), &json!(2)));
    assert_eq!(instance["dataVolumeClaimSpec"]["resources"]["requests"]["storage"], "10Gi");
    assert_eq!(made["spec"]["users"], json!([{"name": "dittofs", "databases": ["dittofs"]}]));
    assert_eq!(made["spec"]["backups"], json!({"enabled": false}));

    // Its Secret alone is not enough, and neither is its state.
    bed.wait_message("files", "ConfigReady", "False", "files-postgres-pguser-dittofs").await;
    credentials(&bed, "files-postgres").await;
    bed.wait_condition("files", "ConfigReady", "True", "ConfigValid").await;
    bed.wait_condition("files", "DatabaseReady", "False", "PerconaNotReady").await;
    let set = namespace.get(resources::STATEFUL_SETS, "files").await.expect("an answer");
    assert!(set.is_none(), "a StatefulSet before the database is ready");
    report(&bed, "files-postgres", "ready").await;
    let server = bed.world.wait_ready("files").await.expect("ready with its database");
    assert_eq!(server["status"]["perconaClusterName"], "files-postgres");
    bed.wait_condition("files", "DatabaseReady", "True", "PerconaReady").await;

    // It wins over the Secret of the spec, and its values are nowhere else.
    let pod = bed.pod("files").await;
    for (name, key) in [("HOST", "host"), ("DATABASE", "dbname"), ("USER", "user"), ("PASSWORD", "password")] {
        let found = env(&pod, &format!("DITTOFS_DATABASE_POSTGRES_{name}"));
        assert_eq!(found, &json!({"name": "files-postgres-pguser-dittofs", "key": key}));
    }
    let config = bed.get(resources::CONFIG_MAPS, "files-config").await;
    assert!(config["data"]["config.yaml"].as_str().unwrap_or_default().contains("sslmode: \"require\""));

    // What others change in the cluster stays, and a database that falters restarts nothing.
    let theirs = json!({"spec": {"postgresVersion": 17}});
    namespace.patch(CLUSTERS, "files-postgres", &theirs).await.expect("a change");
    report(&bed, "files-postgres", "initializing").await;
    let before = bed.set("files").await;
    bed.patch_spec("files", &json!({"percona": {"deleteWithServer": true}})).await;
    let owned = wait_owned(&bed, "files-postgres", Some(uid(&server))).await;
    assert_eq!(owned["spec"]["postgresVersion"], 17);
    bed.wait_condition("files", "DatabaseReady", "False", "PerconaNotReady").await;
    assert_eq!(hash(&bed.set("files").await), hash(&before), "held");
    assert_eq!(uid(&bed.pod("files").await), uid(&pod));
    report(&bed, "files-postgres", "ready").await;
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready again");

    // Not to be taken along after all: the cluster outlives its server, and the next one of the name takes it up.
    bed.patch_spec("files", &json!({"percona": {"deleteWithServer": false}})).await;
    let kept = wait_owned(&bed, "files-postgres", None).await;
    bed.wait_starts(3).await;
    bed.world.wait_ready("files").await.expect("ready once more");
    bed.delete_server("files").await;
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;
    bed.world.apply_server("files", &spec).await.expect("another of the name");
    bed.world.wait_ready("files").await.expect("ready with the old database");
    assert_eq!(uid(&bed.get(CLUSTERS, "files-postgres").await), uid(&kept));

    // One that is to go goes.
    let server = bed.patch_spec("files", &json!({"percona": {"deleteWithServer": true}})).await;
    wait_owned(&bed, "files-postgres", Some(uid(&server))).await;
    bed.delete_server("files").await;
    bed.wait_gone(CLUSTERS, "files-postgres").await;

    // One of our name that is somebody else's is left alone.
    let mut foreign = made.clone();
    foreign["metadata"] = json!({"name": "other-postgres", "labels": {"instance": "mine"}});
    let foreign = namespace.create_object(CLUSTERS, &foreign).await.expect("a cluster");
    bed.world.apply_server("other", &spec).await.expect("the server is accepted");
    bed.wait_condition("other", "DatabaseReady", "False", "NotOwned").await;
    bed.wait_event("NotOwned", "other-postgres").await;
    let after = bed.get(CLUSTERS, "other-postgres").await;
    assert_eq!(after["metadata"]["resourceVersion"], foreign["metadata"]["resourceVersion"]);
    bed.finish_with(Expect::default()).await;
}
