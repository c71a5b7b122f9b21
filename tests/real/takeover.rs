//! The day on which the operator written in Go is replaced: its objects are taken over as they are, nothing is deleted,
//! and what would change is said before.

use std::collections::BTreeMap;

use dittofs_testbed::audit::Expect;
use dittofs_testbed::cluster::{Resource, resources};
use dittofs_testbed::world::merge;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::check::{announced, change, check, report, wait_done};
use crate::look::uid;
use crate::support::{Bed, SOON};

/// What the Go operator leaves.
pub(crate) const OBJECTS: &str = include_str!("../fixtures/go-operator/objects.yaml");
pub(crate) const JWT: &str = "a-signing-key-of-thirty-two-characters-or-more";
pub(crate) const PASSWORD: &str = "the-first-password-of-the-old-days";

pub(crate) fn resource_of(object: &Value) -> Resource {
    match object["kind"].as_str().unwrap_or_default() {
        "ConfigMap" => resources::CONFIG_MAPS,
        "Service" => resources::SERVICES,
        "StatefulSet" => resources::STATEFUL_SETS,
        "Secret" => resources::SECRETS,
        other => panic!("no resource for {other}"),
    }
}

/// The CR as it is stored after the Go operator's CRD has filled in its defaults.
pub(crate) fn stored_cr() -> Value {
    json!({
        "metadata": {"name": "files", "finalizers": ["dittofs.dittofs.com/finalizer"]},
        "spec": {
            "image": "marmos91c/dittofs:latest", "replicas": 1,
            "storage": {"metadataSize": "10Gi", "contentSize": "20Gi", "controlPlaneSize": "1Gi"},
            "database": {"type": "sqlite", "sqlite": {"path": "/data/controlplane/controlplane.db"}},
            "controlPlane": {"port": 8080},
            "identity": {
                "type": "memory",
                "admin": {"username": "admin"},
                "jwt": {
                    "accessTokenDuration": "15m", "refreshTokenDuration": "168h",
                    "secretRef": {"name": "jwt-of-the-user", "key": "secret"},
                },
            },
            "adapterDiscovery": {"pollingInterval": "1s"},
            "adapterServices": {"type": "LoadBalancer"},
            "service": {"type": "NodePort"},
        },
    })
}

/// A namespace as the Go operator leaves it, with its pod running.
pub(crate) async fn left_behind(bed: &Bed) -> BTreeMap<(String, String), Value> {
    left_behind_with(bed, &json!({})).await
}

/// The same, with more in the spec.
pub(crate) async fn left_behind_with(bed: &Bed, spec: &Value) -> BTreeMap<(String, String), Value> {
    let namespace = bed.world.namespace();
    namespace.secret("jwt-of-the-user", &[("secret", JWT)]).await.expect("the user's Secret");
    let mut server = stored_cr();
    merge(&mut server["spec"], spec);
    let server = namespace.create_object(resources::SERVERS, &server).await.expect("the manifest is accepted");
    let admin = [("username", "admin"), ("password", PASSWORD)];
    namespace.secret("files-admin-bootstrap-credentials", &admin).await.expect("the admin's Secret");
    let owner = json!([{
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files", "uid": uid(&server),
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let with_owner = json!({"metadata": {"ownerReferences": owner}});
    let patched = namespace.patch(resources::SECRETS, "files-admin-bootstrap-credentials", &with_owner).await;
    patched.expect("the Secret has an owner");
    let mut made = BTreeMap::new();
    for document in serde_yaml_ng::Deserializer::from_str(&OBJECTS.replace("{hash}", &"60".repeat(32))) {
        let mut object = Value::deserialize(document).expect("a document of the fixture");
        object["metadata"]["ownerReferences"] = owner.clone();
        let stored = namespace.create_object(resource_of(&object), &object).await.expect("the object is accepted");
        let name = stored["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        made.insert((resource_of(&object).kind.to_owned(), name), stored);
    }
    let admin = bed.get(resources::SECRETS, "files-admin-bootstrap-credentials").await;
    made.insert(("Secret".to_owned(), "files-admin-bootstrap-credentials".to_owned()), admin);
    bed.world
        .wait_until("the pod to run", SOON, async || {
            let set = bed.world.stateful_set("files").await.map_err(|error| error.to_string())?;
            if set["status"]["readyReplicas"] == 1 { Ok(()) } else { Err(set["status"].to_string()) }
        })
        .await
        .expect("the pod runs");
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_operators_objects_are_taken_over_with_one_announced_restart() {
    let mut bed = Bed::idle("takeover").await;
    let before = left_behind(&bed).await;
    let claims = bed.world.namespace().list(resources::CLAIMS, "").await.expect("claims");
    assert_eq!(claims.len(), 3);

    let (code, told) = report(&bed).await;
    assert_eq!(code, Some(4), "{told}");
    assert_eq!(told["servers"][0]["restart"], true, "{told}");
    let because = told["servers"][0]["restartBecause"].to_string();
    assert!(because.contains("config-hash"), "{because}");
    let smb = change(&told, "files-adapter-smb");
    assert_eq!(smb["action"], "update");
    for gone in ["mdns", "wsd-udp", "wsd-http"] {
        assert!(smb["what"].to_string().contains(gone), "{gone}: {smb}");
    }
    assert!(!told.to_string().contains("files-file"), "no new address is announced: {told}");
    assert_eq!(change(&told, "files-admin-bootstrap-credentials")["action"], "update");
    let table = String::from_utf8(check(&bed, &[]).await.stdout).expect("text");
    assert!(table.contains("1 servers: 0 would not be changed, 1 would restart"), "{table}");
    for (key, object) in &before {
        let resource = resource_of(object);
        let now = bed.get(resource, &key.1).await;
        assert_eq!(now["spec"], object["spec"], "check changed {key:?}");
    }

    let options = bed.world.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.world.wait_ready("files").await.expect("the server is ready");
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    wait_done(&bed, &announced(&told)).await;
    for (key, object) in &before {
        let now = bed.get(resource_of(object), &key.1).await;
        assert_eq!(uid(&now), uid(object), "{key:?} was made anew");
        if key.0 == "Service" {
            assert_eq!(now["spec"]["clusterIP"], object["spec"]["clusterIP"], "{key:?}");
            let node_port = |object: &Value| object["spec"]["ports"][0]["nodePort"].clone();
            assert_eq!(node_port(&now), node_port(object), "{key:?}");
        }
    }
    let api = bed.service("files-api").await;
    assert_eq!(api["metadata"]["annotations"]["cloud.example/owner"], "storage-team");
    let smb = bed.service("files-adapter-smb").await;
    assert_eq!(smb["spec"]["ports"].as_array().map(Vec::len), Some(1), "{smb}");
    let namespace = bed.world.namespace();
    assert_eq!(namespace.get(resources::SERVICES, "files-file").await.expect("an answer"), None);
    let after = namespace.list(resources::CLAIMS, "").await.expect("claims");
    let uids = |claims: &[Value]| claims.iter().map(|claim| uid(claim).to_owned()).collect::<Vec<_>>();
    assert_eq!(uids(&after), uids(&claims));
    let admin = bed.get(resources::SECRETS, "files-admin-bootstrap-credentials").await;
    assert!(admin["metadata"]["ownerReferences"].is_null(), "it outlives the CR");
    assert_eq!(admin["data"], before[&("Secret".to_owned(), "files-admin-bootstrap-credentials".to_owned())]["data"]);

    let (code, told) = report(&bed).await;
    assert_eq!(code, Some(0), "nothing is left to change: {told}");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_taken_over_gets_a_file_service_when_the_cr_asks_for_one() {
    let mut bed = Bed::idle("takeover-file").await;
    left_behind(&bed).await;
    let options = bed.world.options();
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.world.wait_ready("files").await.expect("the server is ready");
    let namespace = bed.world.namespace();
    assert_eq!(namespace.get(resources::SERVICES, "files-file").await.expect("an answer"), None);

    bed.world.apply_server("files", &json!({"fileService": {"enabled": true}})).await.expect("accepted");
    bed.wait_object(resources::SERVICES, "files-file", "to be there", |_| Ok(())).await;
    bed.world.wait_ready("files").await.expect("ready again");
    bed.finish_with(Expect { pod_starts: Some(3), ..Expect::default() }).await;
}
