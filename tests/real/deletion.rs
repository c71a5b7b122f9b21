//! How a server goes: its account at the API first, then its finalizer, then what it owned; whatever the API does.

use std::time::{Duration, Instant};

use dittofs_testbed::audit::Entry;
use dittofs_testbed::cluster::{Cluster, ClusterOptions, Resource, resources};
use dittofs_testbed::dittofs::{Mode, Scope, ServerHandle};
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::support::{Bed, SOON};

const OURS: &str = "dittofs.dittofs.com/finalizer";
const THEIRS: &str = "example.com/theirs";
const ACCOUNT: &str = "k8s-operator";

fn has_account(server: &ServerHandle) -> bool {
    server.users().iter().any(|user| user.username == ACCOUNT)
}

fn finalizers(server: &Value) -> Vec<&str> {
    server["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Asks for the deletion and does not wait for it.
async fn delete(bed: &Bed, name: &str) {
    bed.world.namespace().delete(resources::SERVERS, name).await.expect("the deletion is accepted");
}

async fn wait_finalizers(bed: &Bed, name: &str, wanted: &[&str]) -> Value {
    bed.world
        .wait_server(name, &format!("to have the finalizers {wanted:?}"), SOON, |server| {
            let found = finalizers(server);
            if found == wanted { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await
        .expect("the finalizers")
}

/// Waits until the server is gone, up to a time that a given-up cleanup fits into; how long that took.
async fn gone(bed: &Bed, name: &str) -> Duration {
    let start = Instant::now();
    bed.world
        .wait_until(&format!("{name} to be gone"), Duration::from_secs(100), async || {
            match bed.world.namespace().get(resources::SERVERS, name).await {
                Ok(None) => Ok(()),
                Ok(Some(server)) => Err(server["status"]["conditions"][0].to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .expect("it goes");
    start.elapsed()
}

async fn told(bed: &Bed, text: &str) {
    bed.world
        .wait_until(&format!("the log to say {text:?}"), LATER, async || {
            let said = bed.world.operator().logs().iter().any(|line| line.contains(text));
            if said { Ok(()) } else { Err("not said".to_owned()) }
        })
        .await
        .expect("the log says it");
}

/// What outlives a server of that name, each with its uid: its claims, and the Secrets that were generated for it.
async fn outliving(bed: &Bed, name: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (resource, name) in [
        (resources::CLAIMS, format!("metadata-{name}-0")),
        (resources::CLAIMS, format!("controlplane-{name}-0")),
        (resources::SECRETS, format!("{name}-jwt-secret")),
        (resources::SECRETS, format!("{name}-admin-bootstrap-credentials")),
    ] {
        let object = bed.get(resource, &name).await;
        assert!(object["metadata"]["deletionTimestamp"].is_null(), "{object}");
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        found.push((name, uid));
    }
    found
}

/// The objects that go with a server.
fn owned(name: &str) -> [(Resource, String); 7] {
    [
        (resources::STATEFUL_SETS, name.to_owned()),
        (resources::SERVICES, format!("{name}-headless")),
        (resources::SERVICES, format!("{name}-api")),
        (resources::SERVICES, format!("{name}-adapter-nfs")),
        (resources::NETWORK_POLICIES, format!("{name}-baseline")),
        (resources::CONFIG_MAPS, format!("{name}-config")),
        (resources::SECRETS, format!("{name}-operator-credentials")),
    ]
}

async fn delete_with(bed: &Bed, name: &str, propagation: &str) {
    let namespace = bed.world.namespace();
    let deleted = namespace.cluster().delete_with(resources::SERVERS, namespace.name(), name, propagation).await;
    deleted.expect("the deletion is accepted");
}

/// The operator's writes to the finalizers of a server.
fn finalizer_writes(bed: &Bed, name: &str) -> Vec<Entry> {
    let mut writes = bed.writes("dittoservers");
    writes.retain(|write| write.object.name == name && write.succeeded());
    writes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_server_carries_our_finalizer_beside_those_of_others_and_its_account_goes_before_it() {
    let bed = Bed::new("farewell").await;
    let server = json!({
        "metadata": {"name": "files", "finalizers": [THEIRS]},
        "spec": {"storage": {"metadataSize": "1Gi"}, "adapterDiscovery": {"pollingInterval": "1s"}},
    });
    bed.world.namespace().create_object(resources::SERVERS, &server).await.expect("the server is accepted");
    bed.world.wait_ready("files").await.expect("it becomes ready");
    wait_finalizers(&bed, "files", &[THEIRS, OURS]).await;
    bed.wait_polls("files", 2).await;
    assert_eq!(finalizer_writes(&bed, "files").len(), 1, "set once");
    let dittofs = bed.dittofs("files");
    assert!(has_account(&dittofs));

    delete(&bed, "files").await;
    wait_finalizers(&bed, "files", &[THEIRS]).await;
    assert!(!has_account(&dittofs), "the account is left");
    bed.wait_event("Deleting", "its volumes and generated Secrets stay").await;
    bed.world
        .wait_server("files", "to be Deleting", LATER, |server| match server["status"]["phase"].as_str() {
            Some("Deleting") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
        .expect("the phase says it");
    bed.wait_message("files", "Ready", "False", "the server is being deleted").await;
    let asked = dittofs.requests().len();
    let change = json!({"metadata": {"finalizers": null}});
    bed.world.namespace().patch(resources::SERVERS, "files", &change).await.expect("theirs is released by them");
    bed.wait_gone(resources::SERVERS, "files").await;
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;
    assert_eq!(dittofs.requests().len(), asked, "it is asked nothing more");

    // Its successor takes data and administrator up again, and gets an account of its own.
    bed.ready_server("files", &json!({})).await;
    assert!(has_account(&dittofs));
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_that_keeps_failing_is_given_up_a_minute_after_its_first_attempt_and_said() {
    let bed = Bed::new("give-up").await;
    for name in ["hangs", "refuses", "fine"] {
        bed.ready_server(name, &json!({})).await;
    }
    bed.dittofs("hangs").set_mode(Mode::Hang, Scope::All);
    bed.dittofs("refuses").set_mode(Mode::Forbidden, Scope::Users);
    // An operator that was down while the server was deleted has its minute all the same.
    let exit = bed.world.operator().sigterm(LATER).await.expect("an orderly end");
    assert_eq!(exit.code, Some(0));
    delete(&bed, "hangs").await;
    delete(&bed, "fine").await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(has_account(&bed.dittofs("fine")), "who would have removed it?");
    bed.world.operator().restart().await.expect("another operator");
    bed.world.operator().wait_ready().await.expect("it starts");
    let start = Instant::now();
    delete(&bed, "refuses").await;
    gone(&bed, "fine").await;
    assert!(!has_account(&bed.dittofs("fine")), "it is cleaned up first");
    assert!(start.elapsed() < SOON, "two sick servers delay it");

    for name in ["hangs", "refuses"] {
        bed.wait_message(name, "Ready", "False", "the operator's account at the server").await;
        assert_eq!(bed.world.server(name).await.expect("it waits")["status"]["phase"], "Deleting");
    }
    gone(&bed, "hangs").await;
    let took = start.elapsed();
    gone(&bed, "refuses").await;
    assert!((55..75).contains(&took.as_secs()), "after {took:?}");
    assert!((55..75).contains(&start.elapsed().as_secs()), "after {:?}", start.elapsed());
    bed.wait_event("CleanupTimeout", "no full answer in time").await;
    bed.wait_event("CleanupTimeout", "the server answered 403").await;
    let users = bed.dittofs("refuses").requests();
    let deletions = users.iter().filter(|request| request.method == "DELETE").count();
    assert!((1..=3).contains(&deletions), "{deletions} refused attempts");
    bed.wait_gone(resources::STATEFUL_SETS, "hangs").await;
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_pod_or_an_account_waits_for_nothing() {
    let bed = Bed::new("no-pod").await;
    bed.ready_server("stopped", &json!({})).await;
    bed.dittofs("unborn").set_mode(Mode::Hang, Scope::All);
    bed.world.apply_server("unborn", &json!({})).await.expect("the server is accepted");
    bed.dittofs("stopped").set_mode(Mode::Hang, Scope::All);
    bed.patch_spec("stopped", &json!({"replicas": 0})).await;
    bed.world
        .wait_server("stopped", "to be stopped", LATER, |server| match server["status"]["phase"].as_str() {
            Some("Stopped") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
        .expect("it stops");
    wait_finalizers(&bed, "unborn", &[OURS]).await;
    for name in ["stopped", "unborn"] {
        delete(&bed, name).await;
        let took = gone(&bed, name).await;
        assert!(took < SOON, "{name} waited {took:?}");
    }
    assert!(bed.events("CleanupTimeout").await.is_empty());
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_is_removed_by_hand_is_set_again_while_the_server_lives_and_lets_it_go_when_it_is_deleted() {
    let bed = Bed::new("by-hand").await;
    bed.ready_server("files", &json!({})).await;
    wait_finalizers(&bed, "files", &[OURS]).await;
    let off = json!({"metadata": {"finalizers": null}});
    bed.world.namespace().patch(resources::SERVERS, "files", &off).await.expect("it is taken off");
    wait_finalizers(&bed, "files", &[OURS]).await;
    told(&bed, "somebody took our finalizer off").await;
    bed.wait_polls("files", 2).await;
    assert_eq!(finalizer_writes(&bed, "files").len(), 2);

    bed.dittofs("files").set_mode(Mode::Hang, Scope::All);
    delete(&bed, "files").await;
    bed.wait_event("Deleting", "").await;
    bed.world.namespace().patch(resources::SERVERS, "files", &off).await.expect("it is taken off");
    bed.wait_gone(resources::SERVERS, "files").await;
    told(&bed, "its actors stop").await;
    assert!(bed.events("CleanupTimeout").await.is_empty());
    bed.wait_gone(resources::STATEFUL_SETS, "files").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_deleted_goes_with_its_server_and_without_a_storm() {
    // The operator's own account lives elsewhere: without its rights nobody could release the server.
    let cluster = Cluster::start(ClusterOptions::default()).await.expect("a control plane");
    let mut bed = Bed::on(&cluster, "operators").await;
    let mut options = bed.options();
    options.namespace = None;
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("clock", &json!({})).await;
    let doomed = cluster.namespace("doomed").await.expect("another namespace");
    let server = json!({
        "metadata": {"name": "files"},
        "spec": {"storage": {"metadataSize": "1Gi"}, "adapterDiscovery": {"pollingInterval": "1s"}},
    });
    doomed.create_object(resources::SERVERS, &server).await.expect("the server is accepted");
    let dittofs = bed.world.stand_in().server(doomed.name(), "files");
    dittofs.wait_for(|log| log.iter().filter(|request| request.is_poll()).count() >= 3, LATER).await.expect("polled");
    doomed.discard().await.expect("the deletion is accepted");
    bed.world
        .wait_until("the namespace to be gone", Duration::from_secs(100), async || {
            match cluster.get(resources::NAMESPACES, "", doomed.name()).await {
                Ok(None) => Ok(()),
                Ok(Some(found)) => Err(found["status"].to_string()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
        .expect("it goes");
    told(&bed, "its actors stop").await;
    bed.wait_polls("clock", 2).await;
    let refused = bed.history().iter().filter(|entry| entry.is_write() && entry.code == 403).count();
    // Those that were under way together, then one each five seconds of its last minute and a half at most.
    assert!(refused < 30, "{refused} refused writes");
    let warned = bed.world.operator().logs().iter().filter(|line| line.contains("\"WARN\"")).count();
    assert!(warned < 15, "{warned} warnings");
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_waits_for_what_the_server_owned_and_for_nothing_else() {
    let bed = Bed::new("foreground").await;
    for name in ["files", "hangs"] {
        bed.ready_server(name, &json!({})).await;
        bed.wait_adapter_services(name, &[("nfs", 12049), ("smb", 1445)]).await;
    }
    let before = [outliving(&bed, "files").await, outliving(&bed, "hangs").await];
    bed.dittofs("hangs").set_mode(Mode::Hang, Scope::All);
    for name in ["files", "hangs"] {
        delete_with(&bed, name, "Foreground").await;
    }
    for (name, before) in ["files", "hangs"].into_iter().zip(before) {
        // The garbage collector takes the pod at once, and with it every reason to wait for the API.
        let took = gone(&bed, name).await;
        assert!(took < SOON, "{name} waited {took:?}");
        for (resource, name) in owned(name) {
            let left = bed.world.namespace().get(resource, &name).await.expect("an answer");
            assert!(left.is_none(), "{} {name} is left, or was made again", resource.kind);
        }
        assert_eq!(outliving(&bed, name).await, before);
    }
    assert!(bed.events("CleanupTimeout").await.is_empty());
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaning_deletion_leaves_all_of_it_running_and_nobody_writes_to_it_any_more() {
    let bed = Bed::new("orphan").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let (set, pod, kept) = (bed.set("files").await, bed.pod("files").await, outliving(&bed, "files").await);
    delete_with(&bed, "files", "Orphan").await;
    let took = gone(&bed, "files").await;
    assert!(took < SOON, "it waited {took:?}");
    for (resource, name) in owned("files") {
        let left = bed.get(resource, &name).await;
        assert!(left["metadata"]["ownerReferences"].is_null(), "{left}");
        assert!(left["metadata"]["deletionTimestamp"].is_null(), "{left}");
    }

    // A successor takes none of it: it is nobody's, which is told.
    bed.world.apply_server("files", &json!({})).await.expect("another of the name");
    bed.wait_event("NotOwned", "belongs to somebody else").await;
    delete(&bed, "files").await;
    let took = gone(&bed, "files").await;
    assert!(took < SOON, "it waited {took:?}");
    for (resource, name) in owned("files") {
        bed.get(resource, &name).await;
    }
    let after = bed.set("files").await;
    assert_eq!((uid(&after), &after["metadata"]["generation"]), (uid(&set), &set["metadata"]["generation"]));
    assert_eq!(uid(&bed.pod("files").await), uid(&pod), "it runs on");
    assert_eq!(outliving(&bed, "files").await, kept);
    assert!(bed.events("CleanupTimeout").await.is_empty());
    bed.finish(1).await;
}
