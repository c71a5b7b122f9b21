//! Services: their types, what others wrote into them, whose they are, and what becomes of them.

use std::time::Duration;

use dittofs_testbed::cluster::{LoadBalancers, Resource, resources};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::{container, port_names, uid, version};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

/// A change of Services alone starts no pod then.
fn when_needed() -> Value {
    json!({"rollout": {"onSpecChange": "WhenNeeded"}})
}

async fn load_balancers(bed: &Bed, finalizer: bool, hold: bool) {
    let namespace = Some(bed.world.namespace().name().to_owned());
    let behavior = LoadBalancers { finalizer, hold, assign: true, namespace };
    bed.world.cluster().load_balancers(&behavior).await.expect("the load balancers are told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_changes_its_type_in_all_six_directions_and_keeps_what_others_wrote() {
    let bed = Bed::new("service-type").await;
    load_balancers(&bed, true, false).await;
    bed.ready_server("files", &when_needed()).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let names = ["files-adapter-nfs", "files-adapter-smb", "files-file", "files-api"];
    let mut uids = Vec::new();
    for name in names {
        let service = bed
            .edit(resources::SERVICES, name, |service| {
                service["metadata"]["annotations"]["cloud.example/note"] = json!("theirs");
                service["metadata"]["labels"]["team.example/owner"] = json!("them");
                let mut finalizers = service["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                finalizers.push(json!("example.com/hold"));
                service["metadata"]["finalizers"] = json!(finalizers);
            })
            .await;
        uids.push(uid(&service).to_owned());
    }
    let types = ["NodePort", "ClusterIP", "LoadBalancer", "ClusterIP", "NodePort", "LoadBalancer"];
    for (number, wanted) in types.into_iter().enumerate() {
        let step = number.to_string();
        let fields = json!({"type": wanted, "annotations": {"example.com/step": step}});
        bed.patch_spec("files", &json!({"adapterServices": fields, "service": fields})).await;
        for (name, uid_before) in names.iter().zip(&uids) {
            let service = bed
                .wait_object(resources::SERVICES, name, &format!("to be a {wanted} in step {step}"), |service| {
                    let same = service["spec"]["type"] == wanted
                        && service["metadata"]["annotations"]["example.com/step"] == step.as_str();
                    if same { Ok(()) } else { Err(format!("{} {}", service["spec"], service["metadata"])) }
                })
                .await;
            assert_eq!(uid(&service), uid_before, "{name} was made anew in step {step}");
            assert_eq!(service["metadata"]["annotations"]["cloud.example/note"], "theirs", "{name} in step {step}");
            assert_eq!(service["metadata"]["labels"]["team.example/owner"], "them", "{name} in step {step}");
            let finalizers = service["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            assert!(finalizers.contains(&json!("example.com/hold")), "{name} in step {step}");
            let node_port = &service["spec"]["ports"][0]["nodePort"];
            assert_eq!(node_port.is_u64(), wanted != "ClusterIP", "{name} in step {step}: {node_port}");
            assert!(service["spec"]["clusterIP"].is_string());
        }
    }
    let none = json!({"annotations": null});
    bed.patch_spec("files", &json!({"adapterServices": none, "service": none})).await;
    for name in names {
        let service = bed
            .wait_object(resources::SERVICES, name, "to lose the annotation that the user took back", |service| {
                let found = &service["metadata"]["annotations"]["example.com/step"];
                if found.is_null() { Ok(()) } else { Err(found.to_string()) }
            })
            .await;
        assert_eq!(service["metadata"]["annotations"]["cloud.example/note"], "theirs", "{name}");
    }
    let recreated = bed.writes("services").iter().filter(|entry| entry.verb == "delete").count();
    assert_eq!(recreated, 0, "Services were deleted");
    for name in names {
        bed.edit(resources::SERVICES, name, |service| {
            let keep = |finalizer: &&Value| **finalizer != "example.com/hold";
            let finalizers = service["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
            service["metadata"]["finalizers"] = finalizers.iter().filter(keep).cloned().collect();
        })
        .await;
    }
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_a_cloud_controller_holds_while_it_is_deleted_gets_its_successor_afterwards() {
    let bed = Bed::new("held-service").await;
    load_balancers(&bed, true, true).await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let held = bed
        .wait_object(resources::SERVICES, "files-adapter-smb", "to carry the finalizer", |service| {
            let finalizers = service["metadata"]["finalizers"].as_array();
            if finalizers.is_some_and(|all| !all.is_empty()) { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;

    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    let dying = bed.service("files-adapter-smb").await;
    assert_eq!(uid(&dying), uid(&held));
    assert!(dying["metadata"]["deletionTimestamp"].is_string());

    bed.dittofs("files").start_adapter("smb");
    bed.wait_message("files", "Ready", "False", "Service files-adapter-smb is being deleted").await;
    bed.wait_polls("files", 3).await;
    assert_eq!(version(&bed.service("files-adapter-smb").await), version(&dying), "it was touched");
    for reason in ["AdapterServiceFailed", "ReconcileFailed", "NotOwned"] {
        assert!(bed.events(reason).await.is_empty(), "{reason} was raised");
    }

    load_balancers(&bed, true, false).await;
    bed.wait_adapter_services("files", &BOTH).await;
    assert_ne!(uid(&bed.service("files-adapter-smb").await), uid(&held), "its successor");
    bed.world.wait_ready("files").await.expect("ready again");
    bed.finish(1).await;
}

/// An object of ours in name only.
async fn foreign(bed: &Bed, resource: Resource, name: &str, rest: Value) -> Value {
    let mut object = json!({"metadata": {"name": name, "labels": {"app": "theirs"}}});
    dittofs_testbed::world::merge(&mut object, &rest);
    bed.world.namespace().create_object(resource, &object).await.expect("a foreign object")
}

/// What of an object its owner decides.
fn content(object: &Value) -> Value {
    let meta = &object["metadata"];
    json!([object["spec"], object["data"], meta["uid"], meta["labels"], meta["annotations"], meta["ownerReferences"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_objects_of_our_names_are_left_alone_and_told_and_replaced_when_they_are_removed() {
    let bed = Bed::new("not-owned").await;
    let ports = json!({"spec": {"ports": [{"port": 1}]}});
    let set = json!({"spec": {
        "serviceName": "theirs", "replicas": 0, "selector": {"matchLabels": {"app": "theirs"}},
        "template": {"metadata": {"labels": {"app": "theirs"}},
                     "spec": {"containers": [{"name": "theirs", "image": "example.com/theirs:1"}]}},
    }});
    let rows = [
        ("one", resources::SERVICES, "one-api", foreign(&bed, resources::SERVICES, "one-api", ports.clone()).await),
        (
            "two",
            resources::SERVICES,
            "two-adapter-smb",
            foreign(&bed, resources::SERVICES, "two-adapter-smb", ports).await,
        ),
        (
            "three",
            resources::CONFIG_MAPS,
            "three-config",
            foreign(&bed, resources::CONFIG_MAPS, "three-config", json!({"data": {"config.yaml": "theirs"}})).await,
        ),
        ("four", resources::STATEFUL_SETS, "four", foreign(&bed, resources::STATEFUL_SETS, "four", set).await),
    ];
    for (server, ..) in &rows {
        let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
        bed.world.apply_server(server, &spec).await.expect("the server is accepted");
    }
    for (server, resource, name, _) in &rows {
        let told = format!("{} {name} belongs to somebody else", resource.kind);
        bed.wait_message(server, "Ready", "False", if *server == "three" { "ConfigReady is False" } else { &told })
            .await;
        bed.wait_event("NotOwned", &told).await;
    }
    bed.wait_message("three", "ConfigReady", "False", "three-config belongs to somebody else").await;

    // Best effort: what stands in one's way stops no other.
    for server in ["one", "two"] {
        bed.wait_adapter_ports(server, &BOTH).await;
        bed.dittofs(server).move_adapter("nfs", 13049, Duration::ZERO);
        bed.wait_adapter_ports(server, &[("nfs", 13049), ("smb", 1445)]).await;
    }
    bed.wait_adapter_services("one", &[("nfs", 13049), ("smb", 1445)]).await;
    bed.wait_adapter_services("two", &[("nfs", 13049)]).await;
    for (_, resource, name, before) in &rows {
        assert_eq!(content(&bed.get(*resource, name).await), content(before), "{name} was touched");
    }

    for (_, resource, name, _) in &rows {
        bed.world.namespace().delete(*resource, name).await.expect("its owner removes it");
    }
    for (server, resource, name, before) in &rows {
        bed.world.wait_ready(server).await.expect("the server takes the name");
        let ours = bed.get(*resource, name).await;
        assert_ne!(uid(&ours), uid(before));
        assert_eq!(ours["metadata"]["ownerReferences"][0]["name"], *server);
    }
    bed.wait_adapter_services("two", &[("nfs", 13049), ("smb", 1445)]).await;
    bed.finish(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decoys_and_static_services_are_none_of_the_adapters_business() {
    let bed = Bed::new("decoys").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let ours = bed.service("files-adapter-smb").await;
    let owner = foreign(&bed, resources::CONFIG_MAPS, "owner", json!({})).await;
    let labels = ours["metadata"]["labels"].clone();
    let spec = json!({"ports": [{"name": "adapter-smb", "port": 1445}]});
    let owners =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid(&owner), "controller": true}]);
    let decoys = [
        foreign(&bed, resources::SERVICES, "stray", json!({"metadata": {"labels": labels}, "spec": spec})).await,
        foreign(
            &bed,
            resources::SERVICES,
            "files-adapter-ghost",
            json!({"metadata": {"labels": labels, "ownerReferences": owners}, "spec": spec}),
        )
        .await,
    ];
    // A label by mistake makes no adapter Service of a static one.
    let label = json!({"labels": {"dittofs.io/adapter-service": "true", "dittofs.io/adapter-type": "smb"}});
    let mut statics = Vec::new();
    for name in ["files-api", "files-headless"] {
        statics.push(bed.patch_meta(resources::SERVICES, name, &label).await);
    }
    let file = bed.patch_meta(resources::SERVICES, "files-file", &label).await;

    let dittofs = bed.dittofs("files");
    dittofs.stop_adapter("smb");
    dittofs.move_adapter("nfs", 13049, Duration::ZERO);
    bed.wait_gone(resources::SERVICES, "files-adapter-smb").await;
    bed.wait_adapter_ports("files", &[("nfs", 13049)]).await;
    dittofs.delete_adapter("nfs");
    bed.wait_gone(resources::SERVICES, "files-adapter-nfs").await;
    bed.wait_polls("files", 2).await;
    for before in decoys.iter().chain(&statics) {
        let name = before["metadata"]["name"].as_str().expect("a name");
        assert_eq!(version(&bed.service(name).await), version(before), "{name} was touched");
    }
    assert_eq!(uid(&bed.service("files-file").await), uid(&file), "files-file was made anew");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_service_and_the_metrics_service_are_switched_off_and_on() {
    let bed = Bed::new("switches").await;
    bed.ready_server("files", &when_needed()).await;
    let before = bed.service("files-file").await;
    bed.patch_spec("files", &json!({"fileService": {"enabled": false}})).await;
    bed.wait_gone(resources::SERVICES, "files-file").await;
    bed.patch_spec("files", &json!({"fileService": {"enabled": true}, "ports": {"nfs": 3049}})).await;
    let after = bed
        .wait_object(resources::SERVICES, "files-file", "to lead to the adapters", |service| {
            let ports: Vec<(u64, u64)> = (0..2)
                .filter_map(|at| {
                    let port = &service["spec"]["ports"][at];
                    Some((port["port"].as_u64()?, port["targetPort"].as_u64()?))
                })
                .collect();
            if ports == [(3049, 12049), (445, 1445)] { Ok(()) } else { Err(format!("{ports:?}")) }
        })
        .await;
    assert_ne!(uid(&after), uid(&before));
    bed.wait_starts(1).await;

    assert!(bed.world.namespace().get(resources::SERVICES, "files-metrics").await.expect("an answer").is_none());
    bed.patch_spec("files", &json!({"metrics": {"enabled": true, "port": 9191, "path": "/m"}})).await;
    let metrics = bed.wait_object(resources::SERVICES, "files-metrics", "to be there", |_| Ok(())).await;
    assert_eq!(metrics["spec"]["type"], "ClusterIP");
    assert_eq!(metrics["spec"]["ports"][0]["port"], 9191);
    assert_eq!(metrics["metadata"]["annotations"]["prometheus.io/path"], "/m");
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready with metrics");
    let pod = bed.pod("files").await;
    assert_eq!(port_names(container(&pod["spec"])), ["adapter-nfs", "adapter-smb", "api", "metrics"]);

    bed.patch_spec("files", &json!({"metrics": {"enabled": false}})).await;
    bed.wait_gone(resources::SERVICES, "files-metrics").await;
    bed.wait_starts(3).await;
    bed.world.wait_ready("files").await.expect("ready without metrics");
    assert_eq!(port_names(container(&bed.pod("files").await["spec"])), ["adapter-nfs", "adapter-smb", "api"]);
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_an_adapter_service_is_told_in_one_event() {
    let bed = Bed::new("events").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.dittofs("files").move_adapter("nfs", 13049, Duration::ZERO);
    bed.wait_adapter_services("files", &[("nfs", 13049), ("smb", 1445)]).await;
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 13049)]).await;
    bed.wait_event_once("AdapterServiceCreated", "files-adapter-nfs").await;
    bed.wait_event_once("AdapterServiceCreated", "files-adapter-smb").await;
    bed.wait_event_once("AdapterServiceUpdated", "files-adapter-nfs").await;
    bed.wait_event_once("AdapterServiceDeleted", "files-adapter-smb").await;
    bed.wait_event_once("AuthProvisioned", "").await;
    for event in bed.events("AdapterServiceUpdated").await {
        assert_eq!(event["involvedObject"]["kind"], "DittoServer");
        assert_eq!(event["involvedObject"]["name"], "files");
        assert!(event["message"].as_str().unwrap_or_default().contains("12049 → 13049"), "{event}");
    }
    bed.wait_polls("files", 3).await;
    let (created, updated, deleted) = (
        bed.events("AdapterServiceCreated").await.len(),
        bed.events("AdapterServiceUpdated").await.len(),
        bed.events("AdapterServiceDeleted").await.len(),
    );
    assert_eq!((created, updated, deleted), (2, 1, 1));
    let mut warnings = bed.world.namespace().list(resources::EVENTS, "").await.expect("events");
    warnings.retain(|event| event["type"] == "Warning" && event["involvedObject"]["kind"] == "DittoServer");
    assert!(warnings.is_empty(), "an uneventful life has no warnings: {warnings:?}");
    bed.finish(1).await;
}

const OWNED: [(Resource, &str); 11] = [
    (resources::STATEFUL_SETS, "files"),
    (resources::CONFIG_MAPS, "files-config"),
    (resources::SERVICES, "files-headless"),
    (resources::SERVICES, "files-api"),
    (resources::SERVICES, "files-file"),
    (resources::SERVICES, "files-adapter-nfs"),
    (resources::SERVICES, "files-adapter-smb"),
    (resources::NETWORK_POLICIES, "files-baseline"),
    (resources::NETWORK_POLICIES, "files-adapter-nfs"),
    (resources::NETWORK_POLICIES, "files-adapter-smb"),
    (resources::SECRETS, "files-operator-credentials"),
];
const OUTLIVING: [(Resource, &str); 5] = [
    (resources::SECRETS, "files-jwt-secret"),
    (resources::SECRETS, "files-admin-bootstrap-credentials"),
    (resources::CLAIMS, "metadata-files-0"),
    (resources::CLAIMS, "content-files-0"),
    (resources::CLAIMS, "controlplane-files-0"),
];

async fn assert_owned(bed: &Bed) {
    let server = bed.world.server("files").await.expect("the server");
    for (resource, name) in OWNED {
        let object = bed.get(resource, name).await;
        let expected = json!([{"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files",
                               "uid": uid(&server), "controller": true, "blockOwnerDeletion": true}]);
        assert_eq!(object["metadata"]["ownerReferences"], expected, "{name}");
    }
    for (resource, name) in OUTLIVING {
        assert!(bed.get(resource, name).await["metadata"]["ownerReferences"].is_null(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_owns_goes_with_it_and_data_and_passwords_stay_for_its_return() {
    let bed = Bed::new("deletion").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    assert_owned(&bed).await;
    let mut outliving = Vec::new();
    for (resource, name) in OUTLIVING {
        outliving.push(bed.get(resource, name).await);
    }

    bed.delete_server("files").await;
    for (resource, name) in OWNED {
        bed.wait_gone(resource, name).await;
    }
    bed.wait_gone(resources::PODS, "files-0").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    assert_owned(&bed).await;
    for ((resource, name), before) in OUTLIVING.into_iter().zip(&outliving) {
        let after = bed.get(resource, name).await;
        assert_eq!((uid(&after), &after["data"]), (uid(before), &before["data"]), "{name}");
    }
    let pod = bed.pod("files").await;
    let env = container(&pod["spec"])["env"].to_string();
    assert!(env.contains("files-jwt-secret") && env.contains("files-admin-bootstrap-credentials"), "{env}");

    // And without waiting for the garbage collector.
    bed.delete_server("files").await;
    let again = bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.world
        .wait_until("everything to be the new server's", crate::look::LATER, async || {
            for (resource, name) in OWNED {
                let object = bed.world.namespace().get(resource, name).await.map_err(|error| error.to_string())?;
                let owner = object.unwrap_or_default()["metadata"]["ownerReferences"][0]["uid"].clone();
                if owner != uid(&again) {
                    return Err(format!("{name}: {owner}"));
                }
            }
            Ok(())
        })
        .await
        .expect("its objects are made anew");
    assert_owned(&bed).await;
    let server = bed.world.wait_ready("files").await.expect("ready");
    assert_eq!(condition(&server, "Authenticated").expect("a condition")["status"], "True");
    bed.finish(3).await;
}
