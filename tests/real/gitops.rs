//! A GitOps tool sees no difference on a DittoServer that the operator has touched: nothing but its status and finalizers
//! is ever written, and what was applied stays as it was applied.

use dittofs_testbed::cluster::{deploy, resources};
use serde_json::{Value, json};

use crate::look::{LATER, version};
use crate::support::Bed;

const MANAGER: &str = "argocd-controller";
const OURS: &str = "dittofs-operator";

/// A manifest as it may stand in a repository: with empty lists and maps, and with fields that have defaults.
fn manifest(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"storage": {"metadataSize": "1Gi", "contentSize": "1Gi"},
                           "adapterDiscovery": {"pollingInterval": "1s"}});
    dittofs_testbed::world::merge(&mut whole, spec);
    json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer",
        "metadata": {"name": name, "labels": {"team": "storage"}, "annotations": {"argocd.argoproj.io/tracking-id": "x"}},
        "spec": whole,
    })
}

/// Every field of an object but what the operator may write and what the API server counts.
fn theirs(server: &Value) -> Value {
    let meta = |field: &str| server["metadata"][field].clone();
    json!({
        "spec": server["spec"], "labels": meta("labels"), "annotations": meta("annotations"),
        "generation": meta("generation"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_stays_as_it_was_applied_and_only_status_and_finalizers_are_ours() {
    let bed = Bed::new("gitops").await;
    let (cluster, namespace) = (bed.world.cluster().clone(), bed.world.namespace().name().to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    let mut files = vec![("files".to_owned(), deploy("samples/dittoserver.yaml"))];
    for (name, spec) in [
        ("bare", json!({})),
        (
            "empty",
            json!({"resources": {}, "securityContext": {}, "adapterServices": {"annotations": {}},
                         "pod": {"tolerations": [], "nodeSelector": {}, "env": []}}),
        ),
        (
            "said",
            json!({"replicas": 1, "image": "marmos91c/dittofs:latest", "controlPlane": {"port": 8080, "tls": false},
                        "service": {"type": "ClusterIP"}, "ports": {"nfs": 2049, "smb": 445}}),
        ),
    ] {
        let path = folder.path().join(format!("{name}.json"));
        std::fs::write(&path, manifest(name, &spec).to_string()).expect("written");
        files.push((name.to_owned(), path));
    }
    let apply = async |path: &std::path::Path| {
        let path = path.to_string_lossy().into_owned();
        let manager = format!("--field-manager={MANAGER}");
        let arguments = ["-n", &namespace, "apply", "--server-side", &manager, "-f", &path, "-o", "json"];
        let printed = cluster.kubectl_ok(&arguments).await.expect("applied");
        serde_json::from_str::<Value>(&printed).expect("the object")
    };
    for (name, path) in &files {
        let before = apply(path).await;
        bed.world.wait_ready(name).await.expect("ready");
        bed.wait_adapter_services(name, &[("nfs", 12049), ("smb", 1445)]).await;
        bed.wait_endpoints(name, &[("nfs", 12049), ("smb", 1445)]).await;
        bed.wait_polls(name, 2).await;
        let after = bed.get(resources::SERVERS, name).await;
        assert_eq!(theirs(&after), theirs(&before), "{name}");
        for entry in after["metadata"]["managedFields"].as_array().expect("managers") {
            if entry["manager"] != OURS {
                continue;
            }
            let fields: Vec<&String> = entry["fieldsV1"].as_object().expect("fields").keys().collect();
            let finalizers = json!({"f:finalizers": entry["fieldsV1"]["f:metadata"]["f:finalizers"]});
            match entry["subresource"].as_str() {
                Some("status") => assert_eq!(fields, ["f:status"], "{name}"),
                _ => assert!(fields == ["f:metadata"] && entry["fieldsV1"]["f:metadata"] == finalizers, "{entry}"),
            }
        }
        // Applied once more it is the same object: there is no difference to sync.
        let stored = version(&after).to_owned();
        let again = apply(path).await;
        // A status may have been written meanwhile; the spec was not.
        let same = version(&again) == stored || theirs(&again) == theirs(&after);
        assert!(same, "{name}: {again}");
    }
    // What the tool takes away, the operator does not bring back.
    let bare = manifest("said", &json!({}));
    std::fs::write(folder.path().join("said.json"), bare.to_string()).expect("written");
    let taken = apply(&folder.path().join("said.json")).await;
    bed.world
        .wait_server("said", "to be ready in that generation", LATER, |server| {
            let current = server["status"]["observedGeneration"] == taken["metadata"]["generation"];
            if current { Ok(()) } else { Err(server["status"].to_string()) }
        })
        .await
        .expect("it follows");
    bed.world.wait_ready("said").await.expect("ready");
    assert_eq!(theirs(&bed.get(resources::SERVERS, "said").await), theirs(&taken));
    bed.finish(5).await;
}
