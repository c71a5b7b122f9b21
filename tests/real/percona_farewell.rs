//! What becomes of the database that Percona's operator makes: when its server is deleted, however that is done and
//! whatever stands in the way, and when it is switched off in a server that stays.

use std::time::{Duration, Instant};

use dittofs_testbed::audit::Expect;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, resources, wait_until};
use dittofs_testbed::dittofs::{Mode, Scope};
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::percona::{CLUSTERS, credentials, install, report, wait_owned};
use crate::support::{Bed, SOON};

const CRD: &str = "perconapgclusters.pgv2.percona.com";

/// A control plane with the kind, and an operator on it.
async fn bed(cluster: &Cluster, test: &str) -> Bed {
    install(cluster).await;
    let mut bed = Bed::on(cluster, test).await;
    let options = bed.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed
}

async fn control_plane() -> Cluster {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cluster::start(ClusterOptions::default()).await.expect("a control plane")
}

/// A server that is ready, with a database that is.
async fn with_database(bed: &Bed, name: &str, delete: bool) -> Value {
    let cluster = format!("{name}-postgres");
    let spec = json!({
        "adapterDiscovery": {"pollingInterval": "1s"},
        "percona": {"enabled": true, "deleteWithServer": delete},
    });
    bed.world.apply_server(name, &spec).await.expect("the server is accepted");
    bed.wait_object(CLUSTERS, &cluster, "to be made", |_| Ok(())).await;
    credentials(bed, &cluster).await;
    report(bed, &cluster, "ready").await;
    bed.world.wait_ready(name).await.expect("ready with its database")
}

async fn delete(bed: &Bed, name: &str, propagation: &str) {
    let namespace = bed.world.namespace();
    let deleted = namespace.cluster().delete_with(resources::SERVERS, namespace.name(), name, propagation).await;
    deleted.expect("the deletion is accepted");
}

async fn wait_gone_within(bed: &Bed, name: &str, time: Duration) {
    bed.world
        .wait_until(&format!("{name} to be gone"), time, async || {
            match bed.world.namespace().get(resources::SERVERS, name).await {
                Ok(None) => Ok(()),
                Ok(Some(server)) => Err(format!("{} {}", server["metadata"]["finalizers"], server["status"])),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .expect("it goes");
}

/// The event that says that a cluster stays: why, and how it is deleted.
async fn wait_stays(bed: &Bed, name: &str, why: &str) {
    let namespace = bed.world.namespace().name();
    let text = format!(
        "PerconaPGCluster {name}-postgres stays with its data: {why}; when nobody needs it: kubectl delete \
         perconapgclusters.pgv2.percona.com {name}-postgres -n {namespace}"
    );
    bed.wait_event_once("PerconaOrphaned", &text).await;
}

/// The cluster as it outlives its server: the same, of nobody, and not on its way out once the garbage collector has taken
/// what the server owned.
async fn wait_left(bed: &Bed, name: &str, before: &Value) {
    bed.wait_gone(resources::CONFIG_MAPS, &format!("{name}-config")).await;
    let left = bed.get(CLUSTERS, &format!("{name}-postgres")).await;
    assert_eq!(uid(&left), uid(before));
    assert!(left["metadata"]["deletionTimestamp"].is_null(), "{left}");
    assert!(left["metadata"]["ownerReferences"].is_null(), "{left}");
    assert_eq!(left["spec"], before["spec"]);
}

/// The give-ups so far, in words.
async fn given_up(bed: &Bed) -> Vec<String> {
    let events = bed.events("CleanupTimeout").await;
    events.iter().map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Nobody may change that cluster any more.
async fn freeze(bed: &Bed, name: &str) {
    let cluster = bed.world.namespace().cluster();
    let rules = json!([{
        "apiGroups": ["pgv2.percona.com"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["perconapgclusters"],
    }]);
    let policy = json!({
        "metadata": {"name": "frozen"},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": format!("object.metadata.name != '{name}'"), "message": "frozen by a test"}],
        },
    });
    let binding =
        json!({"metadata": {"name": "frozen"}, "spec": {"policyName": "frozen", "validationActions": ["Deny"]}});
    cluster.create(resources::ADMISSION_POLICIES, "", &policy).await.expect("a policy");
    cluster.create(resources::ADMISSION_BINDINGS, "", &binding).await.expect("a binding");
    let mut tries = 0;
    bed.world
        .wait_until("the policy to be in force", LATER, async || {
            tries += 1;
            let change = json!({"metadata": {"annotations": {"tries": tries.to_string()}}});
            match bed.world.namespace().patch(CLUSTERS, name, &change).await {
                Err(error) if error.to_string().contains("frozen by a test") => Ok(()),
                other => Err(format!("{:?}", other.map(|_| ()))),
            }
        })
        .await
        .expect("it comes into force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_stays_when_its_server_goes_and_that_is_told_whatever_else_hangs() {
    let cluster = control_plane().await;
    let bed = bed(&cluster, "leaves").await;
    for (name, delete) in [("kept", false), ("late", true), ("frozen", true), ("orphan", true)] {
        with_database(&bed, name, delete).await;
    }
    let before = |name: &str| {
        let name = format!("{name}-postgres");
        let bed = &bed;
        async move { bed.get(CLUSTERS, &name).await }
    };
    let (kept, late, orphan) = (before("kept").await, before("late").await, before("orphan").await);
    wait_owned(&bed, "kept-postgres", None).await;
    bed.dittofs("kept").set_mode(Mode::Hang, Scope::All);

    // Not to be taken along after all, said and deleted while no operator runs: the owner reference is of before.
    let exit = bed.world.operator().sigterm(LATER).await.expect("an orderly end");
    assert_eq!(exit.code, Some(0));
    for name in ["late", "frozen"] {
        bed.patch_spec(name, &json!({"percona": {"deleteWithServer": false}})).await;
    }
    freeze(&bed, "frozen-postgres").await;
    for name in ["late", "frozen"] {
        delete(&bed, name, "Background").await;
    }
    delete(&bed, "orphan", "Orphan").await;
    delete(&bed, "kept", "Background").await;
    // The garbage collector has done what it was asked for before anybody looks, but for a kind that it hardly knows.
    bed.wait_object(resources::CONFIG_MAPS, "orphan-config", "to be nobody's", |object| {
        match &object["metadata"]["ownerReferences"] {
            Value::Null => Ok(()),
            owners => Err(owners.to_string()),
        }
    })
    .await;
    let start = Instant::now();
    bed.world.operator().restart().await.expect("another operator");
    bed.world.operator().wait_ready().await.expect("it starts");

    // The account of one server cannot be removed, the owner reference of another not be taken out; nobody else waits.
    wait_stays(&bed, "kept", "spec.percona.deleteWithServer is not set").await;
    assert!(bed.world.server("kept").await.is_ok(), "its account is still to be removed");
    wait_gone_within(&bed, "late", SOON).await;
    wait_stays(&bed, "late", "spec.percona.deleteWithServer is not set").await;
    wait_left(&bed, "late", &late).await;
    wait_gone_within(&bed, "orphan", SOON).await;
    wait_stays(&bed, "orphan", "the deletion leaves behind what the server owned").await;
    let left = bed.get(CLUSTERS, "orphan-postgres").await;
    assert_eq!((uid(&left), &left["metadata"]["ownerReferences"]), (uid(&orphan), &Value::Null));
    bed.set("orphan").await;
    assert_eq!(given_up(&bed).await, [] as [String; 0]);

    for name in ["kept", "frozen"] {
        bed.wait_message(name, "Ready", "False", "given up 60 s after the first attempt").await;
    }
    for name in ["kept", "frozen"] {
        wait_gone_within(&bed, name, Duration::from_secs(100)).await;
        assert!((55..90).contains(&start.elapsed().as_secs()), "{name}: {:?}", start.elapsed());
    }
    wait_left(&bed, "kept", &kept).await;
    bed.wait_event(
        "CleanupTimeout",
        "the operator's account at the server (login as the administrator: no full answer in time)",
    )
    .await;
    let undone = "left undone: the owner reference of the PerconaPGCluster, by which it goes with the server or stays";
    bed.wait_event("CleanupTimeout", undone).await;
    let told = given_up(&bed).await;
    assert!(told.iter().any(|note| note.contains(undone) && note.contains("frozen by a test")), "{told:?}");
    assert!(told.iter().all(|note| !note.contains("account") || !note.contains("PerconaPGCluster")), "{told:?}");
    assert!(bed.events("PerconaDeleted").await.is_empty());
    bed.finish_with(Expect { pod_starts: Some(4), ..Expect::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_goes_with_its_server_on_request_alone_and_the_server_waits_neither_for_it_nor_for_its_kind() {
    let cluster = control_plane().await;
    let bed = bed(&cluster, "takes").await;
    for (name, delete) in [("taken", true), ("held", true), ("off", false), ("last", true)] {
        with_database(&bed, name, delete).await;
    }

    // Its own operator, or somebody else, holds the cluster for as long as it likes.
    let old = bed.get(CLUSTERS, "held-postgres").await;
    bed.patch_meta(CLUSTERS, "held-postgres", &json!({"finalizers": ["example.com/slow"]})).await;
    for name in ["taken", "held"] {
        delete(&bed, name, "Background").await;
        wait_gone_within(&bed, name, SOON).await;
        let text =
            format!("PerconaPGCluster {name}-postgres goes with the server: spec.percona.deleteWithServer is set");
        bed.wait_event_once("PerconaDeleted", &text).await;
    }
    bed.wait_gone(CLUSTERS, "taken-postgres").await;
    bed.wait_object(CLUSTERS, "held-postgres", "to be on its way out", |object| {
        if object["metadata"]["deletionTimestamp"].is_null() { Err("it is not".to_owned()) } else { Ok(()) }
    })
    .await;
    let again = json!({"adapterDiscovery": {"pollingInterval": "1s"}, "percona": {"enabled": true}});
    bed.world.apply_server("held", &again).await.expect("another of the name");
    bed.wait_condition("held", "DatabaseReady", "False", "PerconaDeleted").await;
    assert_eq!(bed.get(CLUSTERS, "held-postgres").await["metadata"]["finalizers"], json!(["example.com/slow"]));
    bed.patch_meta(CLUSTERS, "held-postgres", &json!({"finalizers": null})).await;
    bed.wait_object(CLUSTERS, "held-postgres", "to be another", |object| {
        if uid(object) == uid(&old) { Err("the old one".to_owned()) } else { Ok(()) }
    })
    .await;

    // Switched off in a server that stays: the server goes on without it, and nothing is deleted.
    let before = bed.get(CLUSTERS, "off-postgres").await;
    bed.patch_spec("off", &json!({"percona": {"enabled": false}})).await;
    wait_stays(&bed, "off", "spec.percona is not enabled any more").await;
    bed.world
        .wait_server("off", "to name no cluster", LATER, |server| match &server["status"]["perconaClusterName"] {
            Value::Null => Ok(()),
            other => Err(other.to_string()),
        })
        .await
        .expect("it is let go");
    bed.wait_starts(5).await;
    bed.world.wait_ready("off").await.expect("ready without it");
    delete(&bed, "off", "Foreground").await;
    wait_gone_within(&bed, "off", SOON).await;
    wait_left(&bed, "off", &before).await;

    // The kind goes, and with it every cluster; its servers go as well.
    cluster.delete(resources::CRDS, "", CRD).await.expect("the CRD is deleted");
    wait_until("the kind to be gone", LATER, async || match bed.world.namespace().list(CLUSTERS, "").await {
        Err(error) if error.code() == 404 => Ok(()),
        other => Err(format!("{:?}", other.map(|found| found.len()))),
    })
    .await
    .expect("it goes");
    delete(&bed, "last", "Background").await;
    wait_gone_within(&bed, "last", SOON).await;
    assert_eq!(given_up(&bed).await, [] as [String; 0]);
    bed.finish_with(Expect { pod_starts: Some(5), ..Expect::default() }).await;
}
