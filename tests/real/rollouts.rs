//! When a pod is started anew, and when it is not.

use dittofs_testbed::cluster::resources;
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::{HELD, LATER, container, hash, partition, port_names, uid};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];
const IMAGE: &str = "example.com/dittofs:2";

/// Stops an adapter and waits until the change is written and held back from the pod.
async fn hold(bed: &Bed, name: &str) -> Value {
    bed.wait_adapter_services(name, &BOTH).await;
    bed.dittofs(name).stop_adapter("smb");
    bed.wait_adapter_ports(name, &[("nfs", 12049)]).await;
    bed.wait_condition(name, "PortsRolledOut", "False", "Deferred").await;
    let set = bed.set(name).await;
    assert_eq!(partition(&set), 1);
    assert!(set["metadata"]["annotations"][HELD].is_string());
    set
}

/// Waits until nothing is held back and the pod declares these ports beside `api`.
async fn rolled_out(bed: &Bed, name: &str, adapters: &[&str]) -> Value {
    bed.wait_condition(name, "PortsRolledOut", "True", "RolledOut").await;
    bed.world.wait_ready(name).await.expect("ready after the rollout");
    let set = bed
        .wait_object(resources::STATEFUL_SETS, name, "to be held no more", |set| {
            let free = partition(set) == 0 && set["metadata"]["annotations"][HELD].is_null();
            if free { Ok(()) } else { Err(set["metadata"]["annotations"].to_string()) }
        })
        .await;
    let mut wanted: Vec<String> = adapters.iter().map(|adapter| format!("adapter-{adapter}")).collect();
    wanted.push("api".to_owned());
    let pod = bed.pod(name).await;
    assert_eq!(port_names(container(&pod["spec"])), wanted);
    assert_eq!(port_names(container(&set["spec"]["template"]["spec"])), wanted);
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_defaults_no_server_is_ever_held_by_its_first_poll() {
    let bed = Bed::new("first-poll").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.wait_polls("files", 3).await;
    let writes = bed.writes("statefulsets");
    assert!(!writes.is_empty());
    for write in &writes {
        assert_eq!(write.verb, "create", "{}", write.brief());
        assert_eq!(partition(&write.request), 0);
        assert!(write.request["metadata"]["annotations"][HELD].is_null());
    }
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_change_alone_starts_no_pod_and_rolls_once_together_with_the_next_image() {
    let bed = Bed::new("port-then-image").await;
    bed.ready_server("files", &json!({})).await;
    let before = bed.pod("files").await;
    hold(&bed, "files").await;
    bed.wait_polls("files", 2).await;
    let during = bed.pod("files").await;
    assert_eq!(uid(&during), uid(&before));
    assert_eq!(port_names(container(&during["spec"])), ["adapter-nfs", "adapter-smb", "api"]);

    bed.patch_spec("files", &json!({"image": IMAGE})).await;
    bed.wait_starts(2).await;
    let pod = rolled_out(&bed, "files", &["nfs"]).await;
    assert_eq!(container(&pod["spec"])["image"], IMAGE);
    bed.wait_polls("files", 2).await;
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_change_rolls_exactly_once() {
    let bed = Bed::new("config-change").await;
    bed.ready_server("files", &json!({})).await;
    let before = hash(&bed.set("files").await).to_owned();
    bed.patch_spec("files", &json!({"logging": {"level": "DEBUG"}})).await;
    bed.wait_starts(2).await;
    let server = bed.world.wait_ready("files").await.expect("ready again");
    let set = bed.set("files").await;
    assert_ne!(hash(&set), before);
    assert_eq!(server["status"]["configHash"], hash(&set));
    let config = bed.get(resources::CONFIG_MAPS, "files-config").await;
    assert!(config["data"]["config.yaml"].as_str().unwrap_or_default().contains("DEBUG"));
    let pod = bed.pod("files").await;
    assert_eq!(pod["metadata"]["annotations"][crate::look::HASH], hash(&set));
    bed.wait_polls("files", 3).await;
    bed.finish(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_holds_one_that_changes_rolls_once_and_one_that_nobody_names_does_nothing() {
    const FIRST: &str = "a-signing-key-of-forty-characters-or-so-1";
    const SECOND: &str = "a-signing-key-of-forty-characters-or-so-2";
    let bed = Bed::new("secrets").await;
    let namespace = bed.world.namespace();
    let spec = json!({
        "adapterDiscovery": {"pollingInterval": "1s"},
        "identity": {"jwt": {"secretRef": {"name": "signing", "key": "jwt"}}},
    });
    bed.world.apply_server("files", &spec).await.expect("the server is accepted");
    bed.wait_condition("files", "ConfigReady", "False", "SecretMissing").await;
    bed.wait_message("files", "ConfigReady", "False", "signing").await;
    let absent = namespace.get(resources::STATEFUL_SETS, "files").await.expect("an answer");
    assert!(absent.is_none(), "a StatefulSet before the first hash");

    namespace.secret("signing", &[("jwt", FIRST)]).await.expect("a Secret");
    bed.world.wait_ready("files").await.expect("it follows at once");
    let first = bed.set("files").await;

    // What nobody names, and a key that nobody names.
    namespace.secret("unrelated", &[("jwt", "x")]).await.expect("a Secret");
    for (secret, key) in [("unrelated", "jwt"), ("signing", "other")] {
        let change = json!({"stringData": {key: "y"}});
        namespace.patch(resources::SECRETS, secret, &change).await.expect("a change");
    }
    bed.wait_polls("files", 2).await;
    assert_eq!(hash(&bed.set("files").await), hash(&first));

    let change = json!({"stringData": {"jwt": SECOND}});
    namespace.patch(resources::SECRETS, "signing", &change).await.expect("a change");
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready with the new key");
    let second = bed.set("files").await;
    assert_ne!(hash(&second), hash(&first));

    // Gone: everything stays as it is, also while something else changes.
    namespace.delete(resources::SECRETS, "signing").await.expect("its deletion");
    bed.wait_condition("files", "ConfigReady", "False", "SecretMissing").await;
    bed.patch_spec("files", &json!({"image": IMAGE})).await;
    bed.wait_polls("files", 3).await;
    let held = bed.set("files").await;
    assert_eq!(hash(&held), hash(&second));
    assert_eq!(
        held["spec"]["template"]["spec"], second["spec"]["template"]["spec"],
        "the template waits for the Secret"
    );
    bed.wait_starts(2).await;

    namespace.secret("signing", &[("jwt", SECOND)]).await.expect("a Secret");
    bed.wait_starts(3).await;
    bed.world.wait_ready("files").await.expect("ready again");
    assert_eq!(container(&bed.pod("files").await["spec"])["image"], IMAGE);
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rollout_restart_starts_the_pod_of_a_held_server_exactly_once_with_everything() {
    let bed = Bed::new("restart-held").await;
    bed.ready_server("files", &json!({})).await;
    hold(&bed, "files").await;
    let namespace = bed.world.namespace().name().to_owned();
    for starts in [2, 3] {
        let restart = ["-n", namespace.as_str(), "rollout", "restart", "statefulset/files"];
        bed.world.cluster().kubectl_ok(&restart).await.expect("kubectl");
        bed.wait_starts(starts).await;
        let pod = rolled_out(&bed, "files", &["nfs"]).await;
        assert!(pod["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"].is_string());
        bed.wait_polls("files", 2).await;
        let set = bed.set("files").await;
        let annotations = &set["spec"]["template"]["metadata"]["annotations"];
        assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string(), "erased");
    }
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_request_starts_the_pod_exactly_once_also_when_held_and_its_removal_starts_nothing() {
    let bed = Bed::new("restart-at").await;
    for name in ["plain", "held"] {
        bed.ready_server(name, &json!({})).await;
    }
    bed.wait_adapter_services("plain", &BOTH).await;
    hold(&bed, "held").await;
    let asked = |value: Value| json!({"annotations": {"dittofs.io/restart-at": value}});
    for (name, starts, adapters) in [("plain", 3, &["nfs", "smb"][..]), ("held", 4, &["nfs"][..])] {
        bed.patch_meta(resources::SERVERS, name, &asked(json!("2026-11-22T03:00:00Z"))).await;
        bed.wait_starts(starts).await;
        let pod = rolled_out(&bed, name, adapters).await;
        assert_eq!(pod["metadata"]["annotations"]["dittofs.io/restart-at"], "2026-11-22T03:00:00Z");
        bed.wait_event_once("RestartRequested", &format!("StatefulSet {name} is restarted")).await;
        bed.world
            .wait_server(name, "to name its last change", LATER, |server| {
                let change = server["status"]["lastChange"]["summary"].as_str().unwrap_or_default().to_owned();
                if change.contains("dittofs.io/restart-at") { Ok(()) } else { Err(change) }
            })
            .await
            .expect("the last change says it");
    }
    // kubectl's own restart stands beside it, and a value that goes is no new one.
    let namespace = bed.world.namespace().name().to_owned();
    let restart = ["-n", namespace.as_str(), "rollout", "restart", "statefulset/plain"];
    bed.world.cluster().kubectl_ok(&restart).await.expect("kubectl");
    bed.wait_starts(5).await;
    rolled_out(&bed, "plain", &["nfs", "smb"]).await;
    bed.patch_meta(resources::SERVERS, "plain", &asked(Value::Null)).await;
    bed.wait_polls("plain", 3).await;
    let set = bed.set("plain").await;
    let annotations = &set["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["dittofs.io/restart-at"], "2026-11-22T03:00:00Z");
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_string(), "erased");
    bed.patch_meta(resources::SERVERS, "plain", &asked(json!("another"))).await;
    bed.wait_starts(6).await;
    rolled_out(&bed, "plain", &["nfs", "smb"]).await;
    bed.wait_polls("plain", 2).await;
    bed.finish(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stateful_set_that_is_orphaned_is_repaired_without_a_start_held_or_not() {
    let bed = Bed::new("orphan").await;
    bed.ready_server("held", &json!({})).await;
    bed.ready_server("plain", &json!({})).await;
    hold(&bed, "held").await;
    let namespace = bed.world.namespace();
    for name in ["held", "plain"] {
        let (set, pod) = (bed.set(name).await, bed.pod(name).await);
        let cluster = namespace.cluster();
        cluster.delete_with(resources::STATEFUL_SETS, namespace.name(), name, "Orphan").await.expect("the deletion");
        let again = bed
            .wait_object(resources::STATEFUL_SETS, name, "to be another that has the pod", |again| {
                let adopted = uid(again) != uid(&set) && again["status"]["readyReplicas"] == 1;
                if adopted { Ok(()) } else { Err(again["status"].to_string()) }
            })
            .await;
        assert_eq!(hash(&again), hash(&set));
        bed.world.wait_ready(name).await.expect("ready");
        bed.wait_polls(name, 3).await;
        let adopted = bed.pod(name).await;
        assert_eq!(uid(&adopted), uid(&pod), "{name}: the pod was started anew");
        assert_eq!(adopted["metadata"]["ownerReferences"][0]["uid"], uid(&again));
    }
    bed.wait_condition("held", "PortsRolledOut", "False", "Deferred").await;
    assert_eq!(partition(&bed.set("held").await), 1);
    rolled_out(&bed, "plain", &["nfs", "smb"]).await;
    bed.wait_starts(2).await;

    // Both still roll with what comes.
    bed.patch_spec("held", &json!({"image": IMAGE})).await;
    bed.wait_starts(3).await;
    rolled_out(&bed, "held", &["nfs"]).await;
    bed.patch_spec("plain", &json!({"image": IMAGE})).await;
    bed.wait_starts(4).await;
    rolled_out(&bed, "plain", &["nfs", "smb"]).await;
    bed.finish(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_two_policies_roll_a_port_change_at_once_or_write_it_with_the_next_rollout() {
    let bed = Bed::new("policies").await;
    bed.ready_server("now", &json!({"rollout": {"onPortChange": "Immediate"}})).await;
    bed.ready_server("later", &json!({"rollout": {"onPortChange": "WithNextRollout"}})).await;
    bed.wait_adapter_services("now", &BOTH).await;
    bed.wait_adapter_services("later", &BOTH).await;

    bed.dittofs("now").stop_adapter("smb");
    bed.wait_starts(3).await;
    rolled_out(&bed, "now", &["nfs"]).await;

    let before = bed.set("later").await;
    bed.dittofs("later").stop_adapter("smb");
    bed.wait_adapter_services("later", &[("nfs", 12049)]).await;
    bed.wait_condition("later", "PortsRolledOut", "False", "Deferred").await;
    bed.wait_polls("later", 2).await;
    let after = bed.set("later").await;
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"], "it was written");
    bed.patch_spec("later", &json!({"image": IMAGE})).await;
    bed.wait_starts(4).await;
    rolled_out(&bed, "later", &["nfs"]).await;
    bed.finish(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_spec_rolls_when_needed_or_always_as_chosen() {
    let bed = Bed::new("spec-change").await;
    bed.ready_server("needed", &json!({"rollout": {"onSpecChange": "WhenNeeded"}})).await;
    bed.ready_server("always", &json!({})).await;
    let a = hash(&bed.set("needed").await).to_owned();
    let note = json!({"service": {"annotations": {"example.com/note": "1"}}});

    bed.patch_spec("needed", &note).await;
    bed.world.wait_ready("needed").await.expect("applied");
    assert_eq!(bed.service("needed-api").await["metadata"]["annotations"]["example.com/note"], "1");
    assert_eq!(hash(&bed.set("needed").await), a);
    bed.wait_starts(2).await;

    bed.patch_spec("needed", &json!({"logging": {"level": "DEBUG"}})).await;
    bed.wait_starts(3).await;
    bed.world.wait_ready("needed").await.expect("applied");
    assert_ne!(hash(&bed.set("needed").await), a);
    bed.patch_spec("needed", &json!({"logging": null})).await;
    bed.wait_starts(4).await;
    bed.world.wait_ready("needed").await.expect("applied");
    assert_eq!(hash(&bed.set("needed").await), a, "A, B, A");

    let before = hash(&bed.set("always").await).to_owned();
    bed.patch_spec("always", &note).await;
    bed.wait_starts(5).await;
    bed.world.wait_ready("always").await.expect("applied");
    assert_ne!(hash(&bed.set("always").await), before);
    bed.wait_polls("always", 2).await;
    bed.finish(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_servers_hash_is_frozen_and_its_return_is_one_start_with_everything() {
    let bed = Bed::new("frozen").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_endpoints("files", &BOTH).await;
    let addresses = bed.world.server("files").await.expect("the server")["status"]["adapters"].clone();
    let mut services = Vec::new();
    for service in ["files-adapter-nfs", "files-api", "files-file"] {
        services.push(uid(&bed.service(service).await).to_owned());
    }
    let before = hash(&bed.set("files").await).to_owned();
    bed.patch_spec("files", &json!({"replicas": 0})).await;
    let stopped = |server: &Value| {
        let applied = server["status"]["observedGeneration"] == server["metadata"]["generation"];
        if applied && server["status"]["phase"] == "Stopped" { Ok(()) } else { Err(server["status"].to_string()) }
    };
    bed.world.wait_server("files", "to be stopped", LATER, stopped).await.expect("it stops");
    bed.patch_spec("files", &json!({"logging": {"level": "DEBUG"}})).await;
    let server = bed.world.wait_server("files", "to be stopped", LATER, stopped).await.expect("it stays stopped");
    assert_eq!(condition(&server, "Available").expect("a condition")["reason"], "Stopped");
    assert_eq!(hash(&bed.set("files").await), before, "frozen");
    // What clients know stays: the Services with their addresses, and the data.
    assert_eq!(condition(&server, "Authenticated").expect("a condition")["reason"], "Stopped");
    assert_eq!(condition(&server, "Progressing").expect("a condition")["status"], "False");
    assert_eq!(condition(&server, "Ready").expect("a condition")["status"], "False");
    assert_eq!(server["status"]["adapters"], addresses);
    for (service, known) in ["files-adapter-nfs", "files-api", "files-file"].iter().zip(&services) {
        assert_eq!(uid(&bed.service(service).await), known, "{service} was made anew");
    }

    bed.patch_spec("files", &json!({"replicas": 1})).await;
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("it comes back");
    let set = bed.set("files").await;
    assert_ne!(hash(&set), before);
    assert_eq!(bed.pod("files").await["metadata"]["annotations"][crate::look::HASH], hash(&set));
    bed.wait_polls("files", 2).await;
    bed.finish(2).await;
}

/// What others wrote into a StatefulSet, `hostnameOverride` being newer than our types.
fn foreign_fields(set: &Value) -> Value {
    let template = &set["spec"]["template"];
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    json!([
        containers.iter().find(|container| container["name"] == "sidecar"),
        template["spec"]["hostnameOverride"],
        template["metadata"]["annotations"]["example.com/injected"],
        set["metadata"]["annotations"]["example.com/theirs"],
        set["metadata"]["labels"]["example.com/theirs"],
        set["spec"]["minReadySeconds"],
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_others_and_fields_newer_than_our_types_survive_every_replace() {
    let bed = Bed::new("foreign-fields").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed.edit(resources::STATEFUL_SETS, "files", |set| {
        let template = &mut set["spec"]["template"];
        let sidecar = json!({"name": "sidecar", "image": "example.com/sidecar:1", "ports": [{"name": "adapter-x", "containerPort": 9}]});
        template["spec"]["containers"].as_array_mut().expect("containers").insert(0, sidecar);
        template["spec"]["hostnameOverride"] = json!("files.example.com");
        template["metadata"]["annotations"]["example.com/injected"] = json!("yes");
        set["metadata"]["annotations"]["example.com/theirs"] = json!("a");
        set["metadata"]["labels"]["example.com/theirs"] = json!("l");
        set["spec"]["minReadySeconds"] = json!(1);
    })
    .await;
    bed.wait_starts(2).await;
    bed.world.wait_ready("files").await.expect("ready with the sidecar");
    let theirs = foreign_fields(&bed.set("files").await);
    assert_eq!(theirs[1], "files.example.com", "the API server knows the field");
    bed.wait_polls("files", 2).await;
    assert_eq!(bed.writes("statefulsets").len(), 1, "their change was answered by a write");

    let held = hold(&bed, "files").await;
    assert_eq!(foreign_fields(&held), theirs);
    bed.patch_spec("files", &json!({"image": IMAGE, "terminationGracePeriodSeconds": 60})).await;
    bed.wait_starts(3).await;
    let pod = rolled_out(&bed, "files", &["nfs"]).await;
    assert_eq!(foreign_fields(&bed.set("files").await), theirs);
    assert_eq!(pod["spec"]["hostnameOverride"], "files.example.com");
    assert_eq!(pod["spec"]["containers"].as_array().map(Vec::len), Some(2));
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_spells_otherwise_is_no_difference() {
    let bed = Bed::new("spelling").await;
    let spec = json!({
        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "0.5", "memory": "0.5Gi"}},
        "securityContext": {"runAsUser": 1000, "capabilities": {"add": ["NET_BIND_SERVICE"]}},
        "podSecurityContext": {"fsGroup": 2000},
        "pod": {
            "tolerations": [{"key": "a", "operator": "Exists"}, {"effect": "NoExecute", "key": "b"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
            "env": [
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "EMPTY"},
            ],
            "imagePullPolicy": "Always",
        },
        "adapterServices": {"annotations": {"example.com/empty": ""}},
    });
    bed.ready_server("files", &spec).await;
    bed.wait_adapter_services("files", &BOTH).await;
    let set = bed.set("files").await;
    assert_eq!(container(&set["spec"]["template"]["spec"])["resources"]["limits"]["cpu"], "1", "spelled otherwise");
    let kinds = ["statefulsets", "services", "configmaps", "secrets"];
    let count = |bed: &Bed| kinds.map(|kind| bed.writes(kind).len());
    let before = count(&bed);
    assert_eq!(before[0], 1, "more than the creation");
    bed.wait_polls("files", 3).await;
    // An operator that remembers nothing compares anew.
    bed.world.operator().restart().await.expect("another operator");
    bed.world.operator().wait_ready().await.expect("it starts");
    bed.wait_polls("files", 3).await;
    assert_eq!(count(&bed), before, "writes of {kinds:?}");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_operator_writes_nothing_and_starts_nothing() {
    let bed = Bed::new("operator-restart").await;
    bed.ready_server("held", &json!({})).await;
    bed.ready_server("plain", &json!({})).await;
    bed.wait_adapter_services("plain", &BOTH).await;
    hold(&bed, "held").await;
    bed.world.wait_ready("held").await.expect("a held server is ready");
    for name in ["held", "plain"] {
        bed.wait_polls(name, 3).await;
    }
    let hashes = [hash(&bed.set("held").await).to_owned(), hash(&bed.set("plain").await).to_owned()];
    let writes = |bed: &Bed| -> Vec<String> {
        let history = bed.history();
        history.iter().filter(|entry| entry.is_write()).map(dittofs_testbed::audit::Entry::brief).collect()
    };
    let before = writes(&bed);
    for orderly in [true, false] {
        if orderly {
            let exit = bed.world.operator().sigterm(LATER).await.expect("an orderly end");
            assert_eq!(exit.code, Some(0));
        } else {
            bed.world.operator().sigkill().await.expect("its end");
        }
        bed.world.operator().restart().await.expect("another operator");
        bed.world.operator().wait_ready().await.expect("it starts");
        for name in ["held", "plain"] {
            bed.wait_polls(name, 3).await;
        }
        let after = writes(&bed);
        assert_eq!(after[before.len()..], [] as [String; 0], "orderly: {orderly}");
    }
    assert_eq!([hash(&bed.set("held").await), hash(&bed.set("plain").await)], hashes);
    bed.finish(2).await;
}
