//! Each kind of object that we keep, edited and deleted by somebody: put back once, with an event that names the field and
//! who had changed it. Services, ConfigMap and StatefulSet are in `drift`, the ServiceMonitor in `service_monitor`.

use base64::Engine as _;
use dittofs_testbed::cluster::{Resource, resources};
use http::Method;
use serde_json::{Value, json};

use crate::look::{LATER, uid};
use crate::support::Bed;

const CREDENTIALS: &str = "files-operator-credentials";

/// An edit under the name of a field manager.
async fn edit_as(bed: &Bed, manager: &str, (resource, name): (Resource, &str), change: &Value) {
    let path = format!("{}/{name}?fieldManager={manager}", resource.path(bed.world.namespace().name()));
    let edited = bed.world.cluster().request(Method::PATCH, &path, "application/merge-patch+json", Some(change)).await;
    edited.expect("the edit is accepted");
}

async fn wait_value(bed: &Bed, (resource, name): (Resource, &str), pointer: &str, wanted: &Value) {
    bed.wait_object(resource, name, &format!("to have its {pointer} back"), |object| {
        let found = object.pointer(pointer);
        // Not what it is: it may be a Secret's.
        if found == Some(wanted) { Ok(()) } else { Err("another value".to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_credentials_that_are_edited_are_set_back_once_and_told_with_field_and_manager() {
    let bed = Bed::new("told-edits").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    bed.wait_polls("files", 2).await;
    let elsewhere = base64::engine::general_purpose::STANDARD.encode("http://elsewhere.example");
    for (number, (place, pointer, change, field)) in [
        (
            (resources::NETWORK_POLICIES, "files-baseline"),
            "/spec/podSelector/matchLabels/instance",
            json!({"spec": {"podSelector": {"matchLabels": {"instance": "theirs"}}}}),
            "spec.podSelector.matchLabels.instance",
        ),
        (
            (resources::NETWORK_POLICIES, "files-adapter-nfs"),
            "/metadata/labels/instance",
            json!({"metadata": {"labels": {"instance": "theirs"}}}),
            "metadata.labels.instance",
        ),
        (
            (resources::SECRETS, CREDENTIALS),
            "/data/server-url",
            json!({"data": {"server-url": elsewhere}}),
            "data.server-url",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let manager = format!("kubectl-edit-{number}");
        let before = bed.get(place.0, place.1).await;
        let wanted = before.pointer(pointer).expect("a value").clone();
        edit_as(&bed, &manager, place, &change).await;
        wait_value(&bed, place, pointer, &wanted).await;
        assert_eq!(uid(&bed.get(place.0, place.1).await), uid(&before), "{} in place", place.1);
        let text = format!("{} {}: set back {field} ({manager})", place.0.kind, place.1);
        bed.wait_event_once("DriftRepaired", &text).await;
    }
    bed.wait_polls("files", 3).await;
    assert_eq!(bed.events("DriftRepaired").await.len(), 3, "each was told once");
    assert!(bed.events("DriftFought").await.is_empty());
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_that_is_deleted_is_made_again_and_told() {
    let bed = Bed::new("told-deletions").await;
    bed.ready_server("files", &json!({"metrics": {"enabled": true}})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    bed.wait_polls("files", 2).await;
    // The administrator's comes last: another password is something that the server must see.
    for (resource, name) in [
        (resources::NETWORK_POLICIES, "files-baseline"),
        (resources::NETWORK_POLICIES, "files-adapter-nfs"),
        (resources::SECRETS, CREDENTIALS),
        (resources::CONFIG_MAPS, "files-config"),
        (resources::SERVICES, "files-headless"),
        (resources::SERVICES, "files-metrics"),
        (resources::SERVICES, "files-adapter-nfs"),
        (resources::SECRETS, "files-admin-bootstrap-credentials"),
    ] {
        let before = bed.get(resource, name).await;
        bed.world.namespace().delete(resource, name).await.expect("deleted");
        bed.world
            .wait_until(&format!("{} {name} to be made again", resource.kind), LATER, async || {
                let now = bed.world.namespace().get(resource, name).await.map_err(|error| error.to_string())?;
                let now = now.ok_or("there is none")?;
                if uid(&now) == uid(&before) { Err("the old one".to_owned()) } else { Ok(()) }
            })
            .await
            .expect("it is made again");
        let text = format!("{} {name} was deleted by somebody, and was made again", resource.kind);
        bed.wait_event_once("DriftRepaired", &text).await;
    }
    bed.wait_condition("files", "Authenticated", "True", "AuthenticationSucceeded").await;
    bed.world.wait_ready("files").await.expect("ready");
    assert!(bed.events("DriftFought").await.is_empty());
    bed.finish(2).await;
}
