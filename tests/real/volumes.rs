//! The server's claims grow with the spec, on a real API server with its own checks of claims: to the end, taken back on
//! the way, refused by a class or by the driver, and never anybody else's. No pod starts for it.

use dittofs_testbed::audit;
use dittofs_testbed::cluster::{Volumes, resources};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::LATER;
use crate::support::Bed;

const METADATA: &str = "metadata-files-0";

/// Only what the server reads rolls its pod.
fn quiet() -> Value {
    json!({"rollout": {"onSpecChange": "WhenNeeded"}})
}

fn sized(size: &str) -> Value {
    json!({"storage": {"metadataSize": size}})
}

fn asks(claim: &Value) -> &str {
    claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or_default()
}

async fn driver(bed: &Bed, hold: bool, hold_as: &str) {
    let namespace = bed.world.namespace().name().to_owned();
    let volumes = Volumes { namespace: &namespace, resize_hold: hold, hold_as, bind_hold: false };
    bed.world.cluster().volumes(volumes).await.expect("the driver is told");
}

async fn wait_volume(bed: &Bed, claim: &str, size: &str) -> Value {
    bed.world
        .wait_server("files", &format!("to say that {claim} has {size}"), LATER, |server| {
            let volumes = &server["status"]["volumes"];
            if volumes[claim] == size { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
        .expect("the status follows")
}

async fn wait_asks(bed: &Bed, claim: &str, size: &str) {
    let look = |found: &Value| if asks(found) == size { Ok(()) } else { Err(found["spec"].to_string()) };
    bed.wait_object(resources::CLAIMS, claim, &format!("to ask for {size}"), look).await;
}

/// What the API server says to a change of the spec that it refuses.
async fn refused(bed: &Bed, spec: &Value) -> String {
    let patch = json!({"spec": spec});
    let answer = bed.world.namespace().patch(resources::SERVERS, "files", &patch).await;
    answer.expect_err("the change is refused").to_string()
}

/// The operator's writes of claims, answers and all.
fn claim_writes(bed: &Bed) -> Vec<(String, String, u16)> {
    let user = bed.world.operator().user();
    let entries = audit::read(bed.world.cluster().audit_log()).expect("the audit log");
    let ours = entries.into_iter().filter(|entry| entry.user == user && entry.is_write());
    ours.filter(|entry| entry.object.resource == "persistentvolumeclaims")
        .map(|entry| (entry.verb, entry.object.name, entry.code))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_size_grows_the_claims_to_the_end_and_no_pod_starts() {
    let bed = Bed::new("volumes-grow").await;
    bed.ready_server("files", &quiet()).await;
    let server = wait_volume(&bed, "controlplane", "1Gi").await;
    assert_eq!(server["status"]["volumes"], json!({"metadata": "1Gi", "content": "1Gi", "controlplane": "1Gi"}));
    let templates = bed.set("files").await["spec"]["volumeClaimTemplates"].clone();

    // What carries our labels and is no claim of our StatefulSet stays as it is.
    let decoys = ["backup-files-0", "metadata-files-1", "metadata-other-0"];
    let labels = json!({"app": "dittofs-server", "instance": "files"});
    for name in decoys {
        let decoy = json!({"metadata": {"name": name, "labels": labels}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        bed.world.namespace().create_object(resources::CLAIMS, &decoy).await.expect("a decoy");
    }

    driver(&bed, true, "FileSystemResizePending").await;
    bed.world
        .apply_server("files", &json!({"storage": {"metadataSize": "2Gi", "contentSize": "1500Mi"}}))
        .await
        .expect("larger");
    let told = bed
        .wait_message("files", "VolumesReady", "False", "metadata grows from 1Gi to 2Gi (FileSystemResizePending")
        .await;
    let message = condition(&told, "VolumesReady").expect("the condition")["message"].to_string();
    bed.wait_message("files", "VolumesReady", "False", "content grows from 1Gi to 1500Mi (FileSystemResizePending")
        .await;
    assert!(!message.contains("controlplane"), "{message}");
    bed.wait_condition("files", "VolumesReady", "False", "VolumeExpanding").await;
    bed.wait_event_once("VolumeExpanding", "metadata-files-0 is asked to grow from 1Gi to 2Gi").await;

    driver(&bed, false, "").await;
    wait_volume(&bed, "metadata", "2Gi").await;
    wait_volume(&bed, "content", "1500Mi").await;
    bed.wait_condition("files", "VolumesReady", "True", "VolumesAsSpecified").await;
    bed.wait_event_once("VolumeExpanded", "metadata-files-0 has grown from 1Gi to 2Gi").await;
    bed.world.wait_ready("files").await.expect("ready with the larger volumes");

    // The templates are as they were made. A claim that is lost comes back from them, small, and grows again.
    assert_eq!(bed.set("files").await["spec"]["volumeClaimTemplates"], templates);
    for name in decoys {
        assert_eq!(asks(&bed.get(resources::CLAIMS, name).await), "1Gi", "{name}");
    }
    let mut writes = claim_writes(&bed);
    writes.sort();
    let patch = |name: &str| ("patch".to_owned(), name.to_owned(), 200);
    assert_eq!(writes, [patch("content-files-0"), patch(METADATA)]);
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_made_again_from_the_older_template_grows_again() {
    let bed = Bed::new("volumes-again").await;
    bed.ready_server("files", &quiet()).await;
    bed.world.apply_server("files", &sized("3Gi")).await.expect("larger");
    wait_volume(&bed, "metadata", "3Gi").await;
    let before = bed.get(resources::CLAIMS, METADATA).await;
    bed.world.apply_server("files", &json!({"replicas": 0})).await.expect("stopped");
    bed.wait_gone(resources::PODS, "files-0").await;
    bed.world.namespace().delete(resources::CLAIMS, METADATA).await.expect("deleted by hand");
    bed.wait_gone(resources::CLAIMS, METADATA).await;
    bed.world
        .wait_server("files", "to have no such volume", LATER, |server| {
            let volumes = &server["status"]["volumes"];
            if volumes["metadata"].is_null() && volumes["content"] == "1Gi" { Ok(()) } else { Err(volumes.to_string()) }
        })
        .await
        .expect("what is gone is not told any more");
    bed.world.apply_server("files", &json!({"replicas": 1})).await.expect("started");
    wait_volume(&bed, "metadata", "3Gi").await;
    let after = bed.get(resources::CLAIMS, METADATA).await;
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    bed.world.wait_ready("files").await.expect("ready again");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_typed_too_large_is_taken_back_while_nothing_has_grown_and_not_below_what_is_there() {
    let bed = Bed::new("volumes-back").await;
    bed.ready_server("files", &quiet()).await;
    wait_volume(&bed, "metadata", "1Gi").await;
    driver(&bed, true, "").await;
    bed.world.apply_server("files", &sized("100Gi")).await.expect("larger");
    wait_asks(&bed, METADATA, "100Gi").await;
    // One that was started since knows the wish for its own.
    bed.world.operator().sigkill().await.expect("killed");
    bed.world.operator().restart().await.expect("started");
    bed.world.operator().wait_ready().await.expect("ready");
    bed.world.apply_server("files", &sized("2Gi")).await.expect("some of it taken back");
    wait_asks(&bed, METADATA, "2Gi").await;
    let why = refused(&bed, &sized("1000Mi")).await;
    for part in ["spec.storage.metadataSize", "1000Mi", "its volume has 1Gi", "cannot shrink"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    bed.world.apply_server("files", &sized("1Gi")).await.expect("all of it taken back");
    wait_asks(&bed, METADATA, "1025Mi").await;
    driver(&bed, false, "").await;
    wait_volume(&bed, "metadata", "1025Mi").await;
    // Less than it has now; and a change of anything else goes through.
    let why = refused(&bed, &sized("1024Mi")).await;
    assert!(why.contains("its volume has 1025Mi"), "{why}");
    let label = json!({"metadata": {"labels": {"team": "x"}}});
    bed.world.namespace().patch(resources::SERVERS, "files", &label).await.expect("a label");
    bed.wait_condition("files", "VolumesReady", "True", "VolumeLarger").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_of_storage_changes_and_a_volume_grown_by_hand_is_in_nobodys_way() {
    let bed = Bed::new("volumes-else").await;
    bed.ready_server("files", &quiet()).await;
    wait_volume(&bed, "metadata", "1Gi").await;
    for (spec, field) in [
        (json!({"storage": {"storageClassName": "fixed"}}), "spec.storage.storageClassName"),
        (json!({"storage": {"contentSize": null}}), "spec.storage.contentSize"),
    ] {
        let why = refused(&bed, &spec).await;
        assert!(why.contains(field) && why.contains("cannot change after creation"), "{why}");
    }
    let larger = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
    let namespace = bed.world.namespace();
    driver(&bed, true, "Resizing").await;
    namespace.patch(resources::CLAIMS, METADATA, &larger).await.expect("asked for by hand");
    // Left as it is while the driver has not grown it, and said with who asked; the server is ready all the same.
    let words = "claim metadata was asked by";
    bed.wait_message("files", "VolumesReady", "True", words).await;
    bed.wait_message("files", "VolumesReady", "True", "to grow from 1Gi to 5Gi (Resizing").await;
    bed.wait_polls("files", 3).await;
    assert_eq!(asks(&bed.get(resources::CLAIMS, METADATA).await), "5Gi");
    // A new operator knows that from the claim alone.
    bed.world.operator().sigkill().await.expect("killed");
    bed.world.operator().restart().await.expect("started");
    bed.world.operator().wait_ready().await.expect("ready");
    bed.wait_polls("files", 3).await;
    bed.wait_message("files", "VolumesReady", "True", words).await;
    assert_eq!(asks(&bed.get(resources::CLAIMS, METADATA).await), "5Gi");
    driver(&bed, false, "").await;
    wait_volume(&bed, "metadata", "5Gi").await;
    bed.wait_condition("files", "VolumesReady", "True", "VolumeLarger").await;
    bed.world.wait_ready("files").await.expect("ready all the same");
    // The status is written, and another size grows, while the spec says less than there is.
    bed.world.apply_server("files", &json!({"storage": {"controlPlaneSize": "2Gi"}})).await.expect("another size");
    wait_volume(&bed, "controlplane", "2Gi").await;
    let why = refused(&bed, &sized("4Gi")).await;
    assert!(why.contains("its volume has 5Gi"), "{why}");
    bed.world.apply_server("files", &sized("5Gi")).await.expect("what there is");
    bed.wait_condition("files", "VolumesReady", "True", "VolumesAsSpecified").await;
    let mut writes = claim_writes(&bed);
    // One that met the driver's own write is made again.
    writes.retain(|(_, _, code)| *code != 409);
    assert_eq!(writes, [("patch".to_owned(), "controlplane-files-0".to_owned(), 200)]);
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_without_expansion_is_reported_with_a_remedy_and_not_tried_for_ever() {
    let bed = Bed::new("volumes-fixed").await;
    // With the right to look at classes, as in a whole cluster.
    let cluster = bed.world.cluster();
    let name = format!("{}-classes", bed.world.namespace().name());
    let rules = json!([{"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get"]}]);
    cluster
        .create(resources::CLUSTER_ROLES, "", &json!({"metadata": {"name": name}, "rules": rules}))
        .await
        .expect("a role");
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": bed.world.operator().user()}]});
    cluster.create(resources::CLUSTER_ROLE_BINDINGS, "", &binding).await.expect("a binding");
    let class = |expands: bool| json!({"metadata": {"name": name}, "provisioner": "controlplane.test/volumes", "allowVolumeExpansion": expands});
    cluster.create(resources::STORAGE_CLASSES, "", &class(false)).await.expect("a class");

    let mut spec = quiet();
    spec["storage"] = json!({"storageClassName": name});
    bed.ready_server("files", &spec).await;
    wait_volume(&bed, "metadata", "1Gi").await;
    bed.world.apply_server("files", &sized("2Gi")).await.expect("larger");
    bed.wait_condition("files", "VolumesReady", "False", "VolumeExpansionFailed").await;
    let words = format!("StorageClass {name} does not allow expansion");
    bed.wait_message("files", "VolumesReady", "False", &words).await;
    bed.wait_message("files", "VolumesReady", "False", "set spec.storage.metadataSize back to 1Gi").await;
    bed.wait_event_once("VolumeExpansionFailed", &words).await;
    bed.wait_message("files", "Ready", "False", "VolumesReady is False (VolumeExpansionFailed)").await;
    bed.wait_polls("files", 5).await;
    assert!(claim_writes(&bed).is_empty(), "the API server was not even asked: {:?}", claim_writes(&bed));

    // The class allows it now; the next look at the server sees that.
    let allowed = json!({"allowVolumeExpansion": true});
    cluster.patch(resources::STORAGE_CLASSES, "", &name, &allowed).await.expect("the class is changed");
    bed.world
        .apply_server(
            "files",
            &json!({"storage": {"controlPlaneSize": "1Gi"}, "adapterDiscovery": {"stopGracePeriod": "36s"}}),
        )
        .await
        .expect("a change");
    wait_volume(&bed, "metadata", "2Gi").await;
    bed.world.wait_ready("files").await.expect("ready");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_or_the_driver_refuses_is_reported_and_can_be_taken_back() {
    let bed = Bed::new("volumes-refused").await;
    let mut spec = quiet();
    spec["storage"] = json!({"storageClassName": "fixed"});
    bed.ready_server("files", &spec).await;
    wait_volume(&bed, "metadata", "1Gi").await;
    // The operator of one namespace may not look at classes: the API server says no.
    bed.world.apply_server("files", &sized("2Gi")).await.expect("larger");
    bed.wait_condition("files", "VolumesReady", "False", "VolumeExpansionFailed").await;
    bed.wait_message("files", "VolumesReady", "False", "403 Forbidden").await;
    bed.wait_polls("files", 5).await;
    let writes = claim_writes(&bed);
    assert!(!writes.is_empty() && writes.len() <= 3 && writes.iter().all(|(_, _, code)| *code == 403), "{writes:?}");
    bed.world.apply_server("files", &sized("1Gi")).await.expect("taken back");
    bed.wait_condition("files", "VolumesReady", "True", "VolumesAsSpecified").await;

    // Another server, of a class that grows and a driver that fails.
    driver(&bed, true, "ControllerResizeError").await;
    let mut spec = quiet();
    spec["storage"] = json!({"metadataSize": "1Gi"});
    bed.ready_server("other", &spec).await;
    bed.world.apply_server("other", &sized("2Gi")).await.expect("larger");
    bed.wait_message(
        "other",
        "VolumesReady",
        "False",
        "does not grow from 1Gi to 2Gi (ControllerResizeError: held back",
    )
    .await;
    bed.wait_condition("other", "VolumesReady", "False", "VolumeExpansionFailed").await;
    bed.wait_event_once("VolumeExpansionFailed", "ControllerResizeError").await;
    driver(&bed, false, "").await;
    bed.wait_condition("other", "VolumesReady", "True", "VolumesAsSpecified").await;
    bed.finish(2).await;
}
