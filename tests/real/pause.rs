//! A paused server: nothing of it is written but its status, which says what waits; the end of the pause brings it at once.

use std::time::{Duration, Instant};

use dittofs_testbed::cluster::resources;
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::{LATER, hash, uid};
use crate::support::{Bed, SOON};

const PAUSED: &str = "dittofs.io/paused";
const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

async fn set_pause(bed: &Bed, name: &str, value: Value) {
    bed.patch_meta(resources::SERVERS, name, &json!({"annotations": {PAUSED: value}})).await;
}

/// All writes of the operator so far but those of a status, in words.
fn written(bed: &Bed) -> Vec<String> {
    let history = bed.history();
    let writes = history.iter().filter(|entry| entry.is_write() && entry.object.subresource != "status");
    writes.map(dittofs_testbed::audit::Entry::brief).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_is_only_watched_and_follows_at_once_when_the_pause_is_over() {
    let bed = Bed::new("pause").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_endpoints("files", &BOTH).await;
    set_pause(&bed, "files", json!("true")).await;
    bed.wait_message("files", "Paused", "True", "nothing waits to be done").await;
    let server = bed.world.server("files").await.expect("the server");
    assert_eq!(
        condition(&server, "Ready").expect("a condition")["status"],
        "True",
        "a pause alone costs nobody anything"
    );
    let before = written(&bed);
    let (set, pod) = (bed.set("files").await, bed.pod("files").await);

    // A spec that changes, an adapter that stops, an object that is deleted and one that is edited by hand.
    bed.patch_spec("files", &json!({"image": "example.com/dittofs:2", "service": {"type": "NodePort"}})).await;
    bed.dittofs("files").stop_adapter("smb");
    bed.world.namespace().delete(resources::SERVICES, "files-headless").await.expect("its deletion");
    bed.world.namespace().delete(resources::CONFIG_MAPS, "files-config").await.expect("its deletion");
    bed.dittofs("files").revoke_tokens();
    for part in [
        "replace Service files-api",
        "create Service files-headless",
        "delete Service files-adapter-smb",
        "create ConfigMap files-config",
    ] {
        bed.wait_message("files", "Paused", "True", part).await;
    }
    bed.wait_message("files", "Paused", "True", "replace StatefulSet files (").await;
    bed.wait_polls("files", 5).await;
    assert_eq!(written(&bed)[before.len()..], [] as [String; 0]);
    assert_eq!(uid(&bed.pod("files").await), uid(&pod));
    let server = bed.world.server("files").await.expect("the server");
    assert_eq!(condition(&server, "Authenticated").expect("a condition")["status"], "True", "polling goes on");
    assert_ne!(server["status"]["observedGeneration"], server["metadata"]["generation"], "nothing is applied");
    assert_eq!(hash(&bed.set("files").await), hash(&set));
    bed.service("files-adapter-smb").await;

    set_pause(&bed, "files", Value::Null).await;
    let start = Instant::now();
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    assert!(start.elapsed() < Duration::from_secs(5), "not at once: {:?}", start.elapsed());
    bed.wait_starts(2).await;
    let server = bed.world.wait_ready("files").await.expect("all of it is done");
    assert!(condition(&server, "Paused").is_none(), "{}", server["status"]);
    assert_eq!(bed.service("files-api").await["spec"]["type"], "NodePort");
    bed.service("files-headless").await;
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_made_paused_gets_nothing_and_one_that_is_deleted_while_paused_goes() {
    let bed = Bed::new("born-paused").await;
    let server = json!({
        "metadata": {"name": "later", "annotations": {PAUSED: "true"}},
        "spec": {"storage": {"metadataSize": "1Gi"}, "adapterDiscovery": {"pollingInterval": "1s"}},
    });
    bed.world.namespace().create_object(resources::SERVERS, &server).await.expect("the server is accepted");
    bed.wait_message("later", "Paused", "True", "create ConfigMap later-config").await;
    bed.wait_message("later", "Paused", "True", "create Service later-api").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_polls("files", 3).await;
    let later = bed.world.server("later").await.expect("the server");
    assert!(later["metadata"]["finalizers"].is_null(), "{later}");
    let made: Vec<String> = written(&bed).into_iter().filter(|write| write.contains("later")).collect();
    assert_eq!(made, [] as [String; 0]);

    // A deletion goes on while paused: it was asked for, too.
    set_pause(&bed, "files", json!("true")).await;
    bed.wait_message("files", "Paused", "True", "nothing waits to be done").await;
    bed.delete_server("files").await;
    assert!(bed.dittofs("files").users().iter().all(|user| user.username != "k8s-operator"), "the account is left");
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;

    set_pause(&bed, "later", json!("false")).await;
    bed.world
        .wait_until("the server to be made", SOON, async || {
            let set = bed.world.namespace().get(resources::STATEFUL_SETS, "later").await;
            set.map_err(|error| error.to_string())?.map(drop).ok_or_else(|| "none".to_owned())
        })
        .await
        .expect("the end of the pause begins it");
    bed.world.wait_ready("later").await.expect("it is served");
    bed.world
        .wait_server("later", "to carry our finalizer", LATER, |server| {
            match server["metadata"]["finalizers"][0].as_str() {
                Some(_) => Ok(()),
                None => Err("none".to_owned()),
            }
        })
        .await
        .expect("it is set");
    bed.finish(2).await;
}
