//! The way back to the operator written in Go, by the very commands of docs/migration.md: what is left is what that operator
//! expects, and would take its updates; and forward again.

use dittofs_testbed::cluster::{Resource, Volumes, resources};
use dittofs_testbed::world::merge;
use http::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::check::report;
use crate::look::{LATER, partition, uid};
use crate::support::Bed;
use crate::takeover::{OBJECTS, PASSWORD, left_behind, resource_of, stored_cr};

const MIGRATION: &str = include_str!("../../docs/migration.md");
const FINALIZER: &str = "dittofs.dittofs.com/finalizer";
/// The name under which an operator made with controller-runtime writes, unless it says another.
const GO: &str = "manager";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

/// Does what the documented way back says, by the command that holds `words`.
async fn documented(bed: &Bed, words: &str) {
    let (_, section) = MIGRATION.split_once("\n## The way back\n").expect("the section");
    let command = section.lines().map(str::trim).find(|line| line.starts_with("kubectl ") && line.contains(words));
    let command = command.unwrap_or_else(|| panic!("no command with {words}"));
    let command = command.replace("<cr>", "files").replace("<namespace>", bed.world.namespace().name());
    // Words, of which one may stand in quotes.
    let arguments: Vec<&str> = command
        .split('\'')
        .enumerate()
        .flat_map(|(i, part)| if i % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .skip(1)
        .collect();
    bed.world.cluster().kubectl_ok(&arguments).await.expect("the documented command works");
}

/// What the Go operator would make, with its sizes as in the CR.
fn go_objects(metadata_size: &str) -> Vec<Value> {
    let text = OBJECTS.replace("{hash}", &"60".repeat(32));
    let mut objects: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("a document of the fixture"))
        .collect();
    for set in objects.iter_mut().filter(|object| object["kind"] == "StatefulSet") {
        set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = json!(metadata_size);
    }
    objects
}

/// Sends the update that the Go operator would, for the API server to judge and not to store.
async fn update_as_go(bed: &Bed, object: &Value) -> Result<Value, u16> {
    let (resource, namespace) = (resource_of(object), bed.world.namespace().name());
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut next = bed.get(resource, name).await;
    match object["kind"].as_str() {
        // As a whole: it sets what it does not want to change anew.
        Some("StatefulSet") => next["spec"] = object["spec"].clone(),
        Some("ConfigMap") => next["data"] = object["data"].clone(),
        _ => {
            for field in ["type", "selector", "ports"] {
                if let Some(value) = object["spec"].get(field) {
                    next["spec"][field] = value.clone();
                }
            }
        }
    }
    let path = format!("{}/{name}?dryRun=All&fieldManager={GO}", resource.path(namespace));
    bed.world.cluster().request(Method::PUT, &path, JSON, Some(&next)).await.map_err(|error| error.code())
}

fn names(objects: &[Value]) -> Vec<&str> {
    let mut names: Vec<&str> =
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap_or_default()).collect();
    names.sort_unstable();
    names
}

/// What is there by our names belongs to the CR and waits for nobody.
async fn is_as_go_expects(bed: &Bed) {
    let namespace = bed.world.namespace();
    let server = bed.world.server("files").await.expect("the server");
    assert_eq!(server["metadata"]["finalizers"], json!([FINALIZER]), "its own, by the same name");
    assert!(server["metadata"]["annotations"].is_null(), "{}", server["metadata"]);
    let outlives = ["files-admin-bootstrap-credentials", "jwt-of-the-user"];
    let kinds: [Resource; 5] = [
        resources::STATEFUL_SETS,
        resources::SERVICES,
        resources::CONFIG_MAPS,
        resources::SECRETS,
        resources::NETWORK_POLICIES,
    ];
    for kind in kinds {
        for object in namespace.list(kind, "app=dittofs-server").await.expect("a list") {
            let (meta, name) = (&object["metadata"], object["metadata"]["name"].as_str().unwrap_or_default());
            let finalizers = meta["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let ours: Vec<&str> = finalizers.filter(|finalizer| finalizer.contains("dittofs")).collect();
            assert!(ours.is_empty(), "{} {name}: {ours:?}", kind.kind);
            assert_eq!(meta["labels"]["instance"], "files", "{} {name}", kind.kind);
            if !outlives.contains(&name) {
                let owner = &meta["ownerReferences"][0];
                assert_eq!((owner["uid"].as_str(), &owner["controller"]), (Some(uid(&server)), &json!(true)), "{name}");
                assert_eq!(owner["apiVersion"], "dittofs.dittofs.com/v1alpha1", "{name}");
            }
        }
    }
    let secret = bed.get(resources::SECRETS, "files-operator-credentials").await;
    let keys: Vec<&String> = secret["data"].as_object().expect("data").keys().collect();
    assert_eq!(keys, ["access-token", "password", "refresh-token", "server-url", "username"]);
    let admin = bed.get(resources::SECRETS, "files-admin-bootstrap-credentials").await;
    let admin: Vec<&String> = admin["data"].as_object().expect("data").keys().collect();
    assert_eq!(admin, ["password", "username"]);
    for claim in namespace.list(resources::CLAIMS, "").await.expect("claims") {
        assert!(claim["metadata"]["ownerReferences"].is_null(), "{claim}");
    }
}

async fn stop(bed: &Bed) {
    bed.world.operator().sigterm(LATER).await.expect("an orderly end");
}

async fn start_again(bed: &Bed) {
    bed.world.operator().restart().await.expect("started");
    bed.world.operator().wait_ready().await.expect("ready");
    bed.wait_polls("files", 3).await;
    bed.world.wait_ready("files").await.expect("the server is ready");
    bed.world
        .wait_until("check to find nothing to do", LATER, async || match report(bed).await {
            (Some(0), _) => Ok(()),
            (code, told) => Err(format!("{code:?} {told}")),
        })
        .await
        .expect("all is taken over");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_way_back_leaves_what_the_go_operator_takes_on_and_ours_comes_again_without_a_pod_start() {
    let mut bed = Bed::idle("takeover-back").await;
    let before = left_behind(&bed).await;
    // Somebody had let a volume grow under that operator, by its own name or by hand, and it is on its way.
    let name = bed.world.namespace().name().to_owned();
    let hold = Volumes { namespace: &name, resize_hold: true, hold_as: "", bind_hold: false };
    bed.world.cluster().volumes(hold).await.expect("the driver is told");
    let path = format!("{}/content-files-0?fieldManager={GO}", resources::CLAIMS.path(&name));
    let larger = json!({"spec": {"resources": {"requests": {"storage": "25Gi"}}}});
    bed.world.cluster().request(Method::PATCH, &path, MERGE, Some(&larger)).await.expect("a claim grows");

    let options = bed.world.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.world.wait_ready("files").await.expect("the server is ready");
    bed.wait_message("files", "VolumesReady", "True", "claim content was asked by manager to grow from 20Gi to 25Gi")
        .await;
    // It is used: an adapter goes, another one comes, and the pod is not restarted for that.
    bed.dittofs("files").stop_adapter("smb");
    bed.dittofs("files").create_adapter("webdav", 8443);
    bed.wait_adapter_services("files", &[("nfs", 12049), ("webdav", 8443)]).await;
    bed.wait_condition("files", "PortsRolledOut", "False", "Deferred").await;
    bed.wait_starts(2).await;

    stop(&bed).await;
    documented(&bed, "rollingUpdate").await;
    bed.wait_starts(3).await;
    documented(&bed, "delete service").await;
    let set = bed
        .wait_object(resources::STATEFUL_SETS, "files", "to run its pod", |set| {
            let (status, wanted) = (&set["status"], &set["metadata"]["generation"]);
            let done = status["readyReplicas"] == 1
                && status["observedGeneration"] == *wanted
                && status["currentRevision"] == status["updateRevision"];
            if done { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    assert_eq!(partition(&set), 0);

    is_as_go_expects(&bed).await;
    let server = bed.world.server("files").await.expect("the server");
    let mut spec = server["spec"].clone();
    merge(&mut spec, &stored_cr()["spec"]);
    assert_eq!(spec, server["spec"], "all of it is as its user wrote it");
    let services = bed.world.services("files").await.expect("Services");
    assert_eq!(names(&services), ["files-adapter-nfs", "files-adapter-webdav", "files-api", "files-headless"]);
    let webdav = bed.service("files-adapter-webdav").await;
    assert_eq!(webdav["metadata"]["labels"]["dittofs.io/adapter-service"], "true");
    assert_eq!(webdav["metadata"]["labels"]["dittofs.io/adapter-type"], "webdav");
    for object in go_objects("10Gi") {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name == "files-adapter-smb" {
            continue;
        }
        let key = (resource_of(&object).kind.to_owned(), name.to_owned());
        let now = bed.get(resource_of(&object), name).await;
        assert_eq!(uid(&now), uid(&before[&key]), "{key:?} is the one that it made");
        let judged = update_as_go(&bed, &object).await;
        assert!(judged.is_ok(), "its update of {key:?} is refused: {judged:?}");
    }
    let admin = bed.get(resources::SECRETS, "files-admin-bootstrap-credentials").await;
    let key = ("Secret".to_owned(), "files-admin-bootstrap-credentials".to_owned());
    assert_eq!(admin["data"], before[&key]["data"], "{} is not told", PASSWORD.len());
    let claim = bed.get(resources::CLAIMS, "content-files-0").await;
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "25Gi", "what was asked for by hand is left");

    start_again(&bed).await;
    for kind in ["nfs", "webdav"] {
        let now = bed.service(&format!("files-adapter-{kind}")).await;
        let known = services.iter().find(|service| service["metadata"]["name"] == now["metadata"]["name"]);
        assert_eq!(Some(uid(&now)), known.map(uid), "{kind}");
    }
    let namespace = bed.world.namespace();
    assert_eq!(namespace.get(resources::SERVICES, "files-file").await.expect("an answer"), None, "nobody asked for it");
    let claim = bed.get(resources::CLAIMS, "content-files-0").await;
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "25Gi");
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_grew_needs_the_documented_step_on_the_way_back_and_no_data_goes() {
    let mut bed = Bed::idle("takeover-grown").await;
    left_behind(&bed).await;
    let options = bed.world.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.world.wait_ready("files").await.expect("the server is ready");
    bed.wait_starts(2).await;
    bed.patch_spec("files", &json!({"storage": {"metadataSize": "12Gi"}})).await;
    bed.world
        .wait_server("files", "to have a larger volume", LATER, |server| {
            let volumes = &server["status"]["volumes"];
            if volumes["metadata"] == "12Gi" { Ok(()) } else { Err(volumes.to_string()) }
        })
        .await
        .expect("it grows");
    bed.wait_starts(3).await;
    bed.world.wait_ready("files").await.expect("the server is ready");
    let claims = bed.world.namespace().list(resources::CLAIMS, "").await.expect("claims");

    stop(&bed).await;
    let objects = go_objects("12Gi");
    let set = objects.iter().find(|object| object["kind"] == "StatefulSet").expect("a StatefulSet");
    assert_eq!(update_as_go(&bed, set).await.expect_err("claim templates cannot change"), 422);
    let pod = bed.pod("files").await;
    documented(&bed, "delete statefulset").await;
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;
    assert_eq!(uid(&bed.pod("files").await), uid(&pod), "the server runs on");
    is_as_go_expects(&bed).await;

    // The Go operator makes it anew, and starts the server for its own template.
    let server = bed.world.server("files").await.expect("the server");
    let mut made = set.clone();
    made["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files", "uid": uid(&server),
        "controller": true, "blockOwnerDeletion": true,
    }]);
    bed.world.namespace().create_object(resources::STATEFUL_SETS, &made).await.expect("the object is accepted");
    bed.wait_starts(4).await;
    bed.wait_object(resources::STATEFUL_SETS, "files", "to run its pod", |set| {
        let status = &set["status"];
        let done = status["readyReplicas"] == 1 && status["currentRevision"] == status["updateRevision"];
        if done { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let (code, told) = report(&bed).await;
    assert_eq!((code, &told["servers"][0]["restart"]), (Some(4), &json!(true)), "announced: {told}");

    start_again(&bed).await;
    let after = bed.world.namespace().list(resources::CLAIMS, "").await.expect("claims");
    let kept = |claims: &[Value]| -> Vec<(String, Value)> {
        claims.iter().map(|claim| (uid(claim).to_owned(), claim["status"]["capacity"].clone())).collect()
    };
    assert_eq!(kept(&after), kept(&claims), "the volumes are the same, as large as they were");
    bed.finish(5).await;
}
