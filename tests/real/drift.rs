//! What is deleted or edited by hand is put back, once; servers come, go and come again under one name, and stay apart.

use std::collections::BTreeMap;
use std::time::Duration;

use dittofs_testbed::audit::{self, Expect};
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Resource, resources};
use serde_json::{Value, json};

use crate::snapshot::{Objects, assert_same, compare, snapshot};
use crate::support::{Bed, SOON, wait_adapter_types};

const NFS_AND_SMB: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
const NFS: [(&str, u64); 1] = [("nfs", 12049)];

async fn settled(bed: &Bed) -> Objects {
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    bed.wait_adapter_ports("files", &NFS_AND_SMB).await;
    bed.wait_endpoints("files", &NFS_AND_SMB).await;
    snapshot(bed.world.namespace(), "files").await
}

async fn delete_and_wait(bed: &Bed, kind: Resource, name: &str) {
    let namespace = bed.world.namespace();
    let before = namespace.get(kind, name).await.expect("an answer").unwrap_or_else(|| panic!("no {name}"));
    namespace.delete(kind, name).await.expect("deleted");
    bed.world
        .wait_until(&format!("{} {name} to be made again", kind.kind), Duration::from_mins(1), async || {
            let now = namespace.get(kind, name).await.map_err(|error| error.to_string())?;
            let now = now.ok_or("there is none")?;
            let again = now["metadata"]["uid"] != before["metadata"]["uid"];
            if again { Ok(()) } else { Err("the old one".to_owned()) }
        })
        .await
        .expect("it is made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_by_hand_is_made_again_and_no_pod_starts_for_it() {
    let bed = Bed::new("deleted").await;
    let clean = settled(&bed).await;
    for (kind, name) in [
        (resources::CONFIG_MAPS, "files-config"),
        (resources::SERVICES, "files-headless"),
        (resources::SERVICES, "files-api"),
        (resources::SERVICES, "files-file"),
        (resources::SERVICES, "files-adapter-nfs"),
        (resources::SERVICES, "files-adapter-smb"),
        (resources::NETWORK_POLICIES, "files-baseline"),
        (resources::NETWORK_POLICIES, "files-adapter-smb"),
        (resources::SECRETS, "files-operator-credentials"),
    ] {
        delete_and_wait(&bed, kind, name).await;
        bed.wait_same(&clean, &format!("all as before {name} was deleted")).await;
    }
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_or_generated_secret_that_is_deleted_by_hand_is_made_again() {
    let bed = Bed::new("deleted-pod").await;
    let clean = settled(&bed).await;
    // The first takes its pod with it; another secret is something that the server must see.
    for (kind, name, starts) in [
        (resources::STATEFUL_SETS, "files", 2),
        (resources::SECRETS, "files-jwt-secret", 3),
        (resources::SECRETS, "files-admin-bootstrap-credentials", 4),
    ] {
        delete_and_wait(&bed, kind, name).await;
        bed.wait_same(&clean, &format!("all as before {name} was deleted")).await;
        let seen = bed.world.pod_starts().await.expect("an answer");
        assert!(seen <= starts, "{seen} pod starts after {name} was deleted, {starts} are needed at most");
    }
    bed.finish(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_ours_that_is_edited_by_hand_is_put_back_once() {
    let bed = Bed::new("edited").await;
    let clean = settled(&bed).await;
    let namespace = bed.world.namespace().clone();
    let service = |change: Value| (resources::SERVICES, "files-adapter-nfs", change);
    let container =
        |field: &str, value: Value| (resources::STATEFUL_SETS, "files", json!({"CONTAINER": {field: value}}));
    let edits = [
        service(json!({"spec": {"ports": [{"name": "nfs", "port": 2049, "targetPort": 2049}]}})),
        service(json!({"spec": {"type": "NodePort"}})),
        service(json!({"spec": {"selector": {"app": "theirs"}}})),
        service(json!({"spec": {"selector": {"app": null, "instance": null, "x": "y"}}})),
        service(json!({"metadata": {"labels": {"instance": "theirs"}}})),
        (resources::SERVICES, "files-api", json!({"spec": {"ports": [{"name": "api", "port": 81}]}})),
        (resources::SERVICES, "files-headless", json!({"metadata": {"labels": {"app": null}}})),
        (resources::CONFIG_MAPS, "files-config", json!({"data": {"config.yaml": "logging: {}"}})),
        (resources::STATEFUL_SETS, "files", json!({"spec": {"replicas": 0}})),
        (resources::STATEFUL_SETS, "files", json!({"metadata": {"labels": {"instance": "theirs"}}})),
        (
            resources::STATEFUL_SETS,
            "files",
            json!({"spec": {"template": {"metadata": {"annotations": {"dittofs.io/config-hash": "theirs"}}}}}),
        ),
        container("image", json!("example.com/theirs:1")),
        container("env", json!("EDIT")),
        container("ports", json!("EDIT")),
    ];
    let mut edited: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (kind, name, change) in edits {
        let change = on_container(&bed, change).await;
        let what = format!("all as before the edit {change} of {name}");
        namespace.patch(kind, name, &change).await.expect("the edit is accepted");
        *edited.entry((kind.plural, name)).or_default() += 1;
        bed.wait_same(&clean, &what).await;
    }
    let cluster = bed.world.cluster().clone();
    let user = bed.world.operator().user();
    let entries = audit::read(cluster.audit_log()).expect("the audit log");
    for ((kind, name), edits) in edited {
        let object = |entry: &&audit::Entry| entry.object.resource == kind && entry.object.name == name;
        let ours = entries.iter().filter(|entry| entry.user == user && entry.verb == "update" && entry.succeeded());
        let repairs = ours.filter(object).count();
        // The partition is lifted and set by further writes when ports differ; nothing else takes two.
        let most = if kind == "statefulsets" { edits + 2 } else { edits };
        assert!((edits..=most).contains(&repairs), "{repairs} writes to {kind} {name} for {edits} edits");
    }
    // Edits of the template reach the pod when its controller is faster than the repair.
    bed.finish_with(Expect::default()).await;
}

/// A change of a field of the StatefulSet's container, as a merge patch: a list is replaced as a whole there.
async fn on_container(bed: &Bed, change: Value) -> Value {
    let Some((field, value)) = change["CONTAINER"].as_object().and_then(|fields| fields.iter().next()) else {
        return change;
    };
    let set = bed.world.stateful_set("files").await.expect("the StatefulSet");
    let mut containers = set["spec"]["template"]["spec"]["containers"].clone();
    if *value == json!("EDIT") {
        match field.as_str() {
            "env" => containers[0]["env"][0] = json!({"name": containers[0]["env"][0]["name"], "value": "theirs"}),
            _ => {
                for port in containers[0]["ports"].as_array_mut().into_iter().flatten() {
                    if port["name"] == "api" {
                        port["containerPort"] = json!(8099);
                    }
                }
            }
        }
    } else {
        containers[0][field.as_str()] = value.clone();
    }
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_deleted_and_made_again_at_once_has_objects_of_its_own() {
    let bed = Bed::new("again").await;
    let clean = settled(&bed).await;
    let namespace = bed.world.namespace().clone();
    let first = bed.world.server("files").await.expect("it is there")["metadata"]["uid"].clone();
    namespace.delete(resources::SERVERS, "files").await.expect("deleted");
    bed.wait_gone(resources::SERVERS, "files").await;
    // A fresh database would come with fresh claims; these stay, and the accounts with them.
    let second = settled(&bed).await;
    bed.wait_same(&clean, "the same objects").await;
    assert_same(&clean, &second, "made again");
    for kind in [resources::SERVICES, resources::STATEFUL_SETS, resources::CONFIG_MAPS] {
        for object in namespace.list(kind, "app=dittofs-server").await.expect("a list") {
            assert_ne!(object["metadata"]["ownerReferences"][0]["uid"], first, "{object}");
        }
    }
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_of_one_name_in_two_namespaces_stay_apart() {
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "first").await;
    let mut options = bed.options();
    options.namespace = None;
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    let other = cluster.namespace("second").await.expect("another namespace");
    let server = json!({
        "metadata": {"name": "files"},
        "spec": {"storage": {"metadataSize": "1Gi", "contentSize": "1Gi"},
                 "adapterDiscovery": {"pollingInterval": "1s"}},
    });
    other.create_object(resources::SERVERS, &server).await.expect("the server is accepted");
    wait_adapter_types(&other, &["nfs", "smb"]).await;
    bed.wait_adapter_services("files", &NFS_AND_SMB).await;
    let clean = snapshot(bed.world.namespace(), "files").await;
    bed.world.stand_in().server(other.name(), "files").stop_adapter("nfs");
    wait_adapter_types(&other, &["smb"]).await;
    other.delete(resources::SERVERS, "files").await.expect("deleted");
    wait_adapter_types(&other, &[]).await;
    compare(&clean, &snapshot(bed.world.namespace(), "files").await).expect("the first is as it was");
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_server_is_asked_nothing_more() {
    let bed = Bed::new("no-actor").await;
    bed.ready_server("files", &json!({})).await;
    bed.ready_server("clock", &json!({})).await;
    let namespace = bed.world.namespace().clone();
    namespace.delete(resources::SERVERS, "files").await.expect("deleted");
    bed.wait_gone(resources::SERVERS, "files").await;
    bed.world
        .wait_until("its actors' stop", SOON, async || {
            let logs = bed.world.operator().logs();
            let told = logs.iter().any(|line| line.contains("its actors stop") && line.contains("files"));
            if told { Ok(()) } else { Err("not told".to_owned()) }
        })
        .await
        .expect("its actors stop");
    let asked = bed.dittofs("files").requests().len();
    // Five periods by another server's clock.
    let before = bed.dittofs("clock").polls().len();
    bed.dittofs("clock")
        .wait_for(|log| log.iter().filter(|request| request.is_poll()).count() >= before + 5, SOON)
        .await
        .expect("the other is polled");
    // One that was on its way may have arrived.
    assert!(bed.dittofs("files").requests().len() <= asked + 1, "it is asked still");
    for kind in [resources::STATEFUL_SETS, resources::SERVICES, resources::CONFIG_MAPS] {
        bed.world
            .wait_until("the garbage collector", Duration::from_mins(1), async || {
                let left = namespace.list(kind, "instance=files").await.map_err(|error| error.to_string())?;
                if left.is_empty() { Ok(()) } else { Err(format!("{} left", left.len())) }
            })
            .await
            .expect("what it owned goes");
    }
    assert!(namespace.get(resources::SECRETS, "files-jwt-secret").await.expect("an answer").is_some());
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_back_is_told_with_its_field_and_who_had_changed_it() {
    let bed = Bed::new("told").await;
    let clean = settled(&bed).await;
    let namespace = bed.world.namespace().clone();
    for (kind, name, change, field) in [
        (resources::SERVICES, "files-file", json!({"spec": {"type": "NodePort"}}), "spec.type"),
        (resources::CONFIG_MAPS, "files-config", json!({"data": {"config.yaml": "logging: {}"}}), "data.config.yaml"),
        (resources::STATEFUL_SETS, "files", json!({"spec": {"replicas": 0}}), "spec.replicas"),
    ] {
        namespace.patch(kind, name, &change).await.expect("the edit is accepted");
        bed.wait_same(&clean, &format!("all as before the edit of {name}")).await;
        // The manager's name is that of the client: of these tests, here.
        bed.wait_event_once("DriftRepaired", &format!("{field} (")).await;
    }
    delete_and_wait(&bed, resources::SERVICES, "files-adapter-smb").await;
    bed.wait_event_once("DriftRepaired", "Service files-adapter-smb was deleted by somebody").await;
    delete_and_wait(&bed, resources::SECRETS, "files-jwt-secret").await;
    bed.wait_event_once("DriftRepaired", "Secret files-jwt-secret was deleted by somebody").await;
    bed.wait_same(&clean, "all as before").await;
    assert!(bed.events("DriftFought").await.is_empty());
    bed.finish_with(Expect::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_the_same_field_again_and_again_is_met_ever_more_slowly_and_named() {
    let bed = Bed::new("fight").await;
    let _clean = settled(&bed).await;
    let namespace = bed.world.namespace().clone();
    let typed = async |name: &str| {
        namespace.get(resources::SERVICES, name).await.expect("an answer").expect("there")["spec"]["type"].clone()
    };
    // Somebody who looks ten times a second.
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if typed("files-file").await != "NodePort" {
            namespace
                .patch(resources::SERVICES, "files-file", &json!({"spec": {"type": "NodePort"}}))
                .await
                .expect("an edit");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let repairs =
        bed.writes("services").into_iter().filter(|write| write.object.name == "files-file" && write.verb == "update");
    let repairs = repairs.count();
    assert!((3..=6).contains(&repairs), "{repairs} repairs in 20 s: three at once, then after 5, 10, 20 s");
    bed.wait_message("files", "Warnings", "True", "spec.type of Service files-file is changed again and again by")
        .await;
    let fought = bed.events("DriftFought").await;
    assert_eq!(fought.len(), 1, "one event that counts: {fought:?}");
    // Nothing else waits for it.
    namespace.patch(resources::SERVICES, "files-api", &json!({"spec": {"type": "NodePort"}})).await.expect("an edit");
    bed.wait_object(resources::SERVICES, "files-api", "to be set back", |service| {
        if service["spec"]["type"] == "LoadBalancer" { Ok(()) } else { Err(service["spec"]["type"].to_string()) }
    })
    .await;
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &NFS).await;
    bed.wait_object(resources::SERVICES, "files-file", "to be set back at last", |service| {
        if service["spec"]["type"] == "LoadBalancer" { Ok(()) } else { Err(service["spec"]["type"].to_string()) }
    })
    .await;
    bed.world.wait_ready("files").await.expect("ready again");
    bed.finish(1).await;
}
