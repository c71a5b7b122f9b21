//! Status that can be believed: a server that cannot come up is Failed with the reason that its pod, or the refusal of
//! its pod, gives; once that is mended it runs, without a restart of the operator. And what a pipeline waits for is true.

use dittofs_testbed::cluster::{PodBehavior, PodMode};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::look::{LATER, container, uid};
use crate::support::Bed;

async fn behave(bed: &Bed, name: &str, mode: PodMode) {
    let namespace = bed.world.namespace();
    let behavior = PodBehavior::new(namespace.name(), name, mode);
    namespace.cluster().pod_behavior(&behavior).await.expect("the node stand-in takes it");
}

/// Waits until a server is Failed for this reason, with these words, and has told so in one event.
async fn failed(bed: &Bed, name: &str, reason: &str, words: &str) -> Value {
    let server = bed
        .world
        .wait_server(name, &format!("to be Failed ({reason})"), LATER, |server| {
            let ready = condition(server, "Ready").ok_or("no condition Ready")?;
            let same = server["status"]["phase"] == "Failed" && ready["status"] == "False" && ready["reason"] == reason;
            if same { Ok(()) } else { Err(format!("{}: {ready}", server["status"]["phase"])) }
        })
        .await
        .expect("it fails");
    let message = condition(&server, "Ready").expect("Ready")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(words), "{message}");
    assert_eq!((&server["status"]["readyReplicas"], &server["status"]["availableReplicas"]), (&json!(0), &json!(0)));
    let told = format!("{reason}: ");
    bed.world
        .wait_until(&format!("the event of {name}"), LATER, async || {
            let events = bed.events("ServerFailed").await;
            let of_it = |event: &&Value| event["involvedObject"]["name"] == name;
            let found: Vec<&str> = events.iter().filter(of_it).filter_map(|event| event["message"].as_str()).collect();
            let there = found.iter().any(|note| note.starts_with(&told) && note.contains(words));
            if there { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await
        .expect("it is told");
    server
}

async fn running(bed: &Bed, name: &str) -> Value {
    let server = bed.world.wait_ready(name).await.expect("it runs once that is mended");
    assert_eq!(server["status"]["phase"], "Running");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_come_up_makes_its_server_failed_with_the_reason_until_it_is_mended() {
    let bed = Bed::new("failed").await;
    let table = [
        ("crash", PodMode::CrashLoop, "CrashLoopBackOff", "again and again: see what the server said last"),
        ("pull", PodMode::ImagePullBackOff, "ImagePullBackOff", "cannot be pulled: Back-off pulling image"),
        ("place", PodMode::Unschedulable, "Unschedulable", "1 Insufficient memory.: make room on the nodes"),
    ];
    for (name, mode, ..) in table {
        behave(&bed, name, mode).await;
        let spec = json!({"adapterDiscovery": {"pollingInterval": "1s"}});
        bed.world.apply_server(name, &spec).await.expect("accepted");
    }
    // A pod that has no node for a moment is no failure yet, and says what it waits for.
    bed.wait_message("place", "Ready", "False", "no node takes the pod: 0/1 nodes are available").await;
    for (name, _, reason, words) in table {
        failed(&bed, name, reason, words).await;
    }
    for (name, ..) in table {
        behave(&bed, name, PodMode::Normal).await;
    }
    for (name, ..) in table {
        running(&bed, name).await;
        let told: Vec<Value> = bed.events("ServerFailed").await;
        assert_eq!(told.iter().filter(|event| event["involvedObject"]["name"] == name).count(), 1, "{told:?}");
    }
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_a_quota_refuses_is_said_and_comes_when_there_is_room() {
    let bed = Bed::new("quota").await;
    let (cluster, namespace) = (bed.world.cluster().clone(), bed.world.namespace().name().to_owned());
    cluster.kubectl_ok(&["-n", &namespace, "create", "quota", "none", "--hard=pods=0"]).await.expect("a quota");
    bed.world
        .wait_until("the quota to be enforced", LATER, async || {
            let path = "jsonpath={.status.hard.pods}";
            let shown = cluster.kubectl_ok(&["-n", &namespace, "get", "quota", "none", "-o", path]).await;
            if shown.as_deref().is_ok_and(|shown| shown == "0") { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await
        .expect("the quota is enforced");
    bed.world.apply_server("files", &json!({"adapterDiscovery": {"pollingInterval": "1s"}})).await.expect("accepted");
    failed(&bed, "files", "QuotaExceeded", "exceeded quota: none").await;
    cluster.kubectl_ok(&["-n", &namespace, "delete", "quota", "none"]).await.expect("deleted");
    running(&bed, "files").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_pod_security_refuses_is_said_and_comes_when_the_spec_is_mended() {
    let bed = Bed::new("restricted").await;
    let (cluster, namespace) = (bed.world.cluster().clone(), bed.world.namespace().name().to_owned());
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl_ok(&["label", "namespace", &namespace, enforce]).await.expect("labelled");
    let spec = json!({
        "adapterDiscovery": {"pollingInterval": "1s"},
        "securityContext": {"allowPrivilegeEscalation": true},
    });
    bed.world.apply_server("files", &spec).await.expect("accepted");
    let words = "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false";
    failed(&bed, "files", "PodSecurityViolation", words).await;
    bed.patch_spec("files", &json!({"securityContext": null})).await;
    running(&bed, "files").await;
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_told_with_what_differs_and_one_that_fails_says_why_until_it_is_mended() {
    let bed = Bed::new("rollout").await;
    let before = bed.ready_server("files", &json!({})).await;
    let message = condition(&before, "Ready").expect("Ready")["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("it serves nfs at ") || message.contains("no adapter runs"), "{message}");
    let first = bed.pod("files").await;
    behave(&bed, "files", PodMode::ImagePullBackOff).await;
    let changed = bed.patch_spec("files", &json!({"image": "example.com/broken:9"})).await;
    failed(&bed, "files", "ImagePullBackOff", "the image example.com/broken:9 of container dittofs").await;
    let set = bed.set("files").await;
    let revision = set["status"]["updateRevision"].as_str().unwrap_or_default().to_owned();
    assert_ne!(revision, set["status"]["currentRevision"]);
    bed.wait_message("files", "Progressing", "True", &format!("Rolling to {revision}; the image")).await;
    let generation = format!("replaces its pod for generation {}", changed["metadata"]["generation"]);
    bed.wait_event_once("RolloutStarted", &generation).await;
    let told = bed.events("RolloutStarted").await;
    let note = told[0]["message"].as_str().unwrap_or_default();
    assert!(note.contains("image") && note.contains("example.com/broken:9"), "{note}");
    // That another image is asked for mends it: nobody has to delete the pod.
    behave(&bed, "files", PodMode::Normal).await;
    bed.patch_spec("files", &json!({"image": "example.com/dittofs:2"})).await;
    running(&bed, "files").await;
    let last = bed.pod("files").await;
    assert_ne!(uid(&last), uid(&first));
    assert_eq!(container(&last["spec"])["image"], "example.com/dittofs:2");
    let deleted = bed.history().into_iter().filter(|entry| entry.object.resource == "pods" && entry.is_write()).count();
    assert_eq!(deleted, 0, "pods are their StatefulSet's");
    let starts = bed.world.pod_starts().await.expect("an answer");
    assert!((2..=3).contains(&starts), "{starts}");
    bed.finish(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_ready_after_a_change_finds_the_change_served() {
    let bed = Bed::new("wait-ready").await;
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &[("nfs", 12049), ("smb", 1445)]).await;
    bed.wait_endpoints("files", &[("nfs", 12049), ("smb", 1445)]).await;
    let (cluster, namespace) = (bed.world.cluster().clone(), bed.world.namespace().name().to_owned());
    for (image, slow) in [("example.com/dittofs:2", 50), ("example.com/dittofs:3", 1500)] {
        let mut behavior = PodBehavior::new(&namespace, "files", PodMode::Normal);
        behavior.ready_delay_ms = slow;
        cluster.pod_behavior(&behavior).await.expect("the node stand-in takes it");
        bed.patch_spec("files", &json!({"image": image})).await;
        let wait = ["-n", &namespace, "wait", "--for=condition=Ready", "dittoserver/files", "--timeout=60s"];
        cluster.kubectl_ok(&wait).await.expect("it becomes ready");
        assert_eq!(
            container(&bed.pod("files").await["spec"])["image"],
            image,
            "ready in the generation that was asked for"
        );
    }
    let shown =
        cluster.kubectl_ok(&["-n", &namespace, "get", "dittoserver", "files", "-o", "wide"]).await.expect("a table");
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "REPLICAS", "READY", "AVAILABLE", "STATUS", "ADAPTERS", "AGE", "MESSAGE"]);
    assert_eq!(lines[1][..7], ["files", "1", "1", "1", "Running", "nfs,", "smb"], "{shown}");
    let address = bed.service("files-adapter-nfs").await["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    let served = format!("it serves nfs at {}:12049, smb at ", address.as_str().unwrap_or("no address"));
    assert!(lines[1][8..].join(" ").contains(&served), "{shown}");
    bed.finish(3).await;
}
