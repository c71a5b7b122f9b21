//! What a StatefulSet is made of, what changes it, and what is no difference.

use serde_json::{Value, json};

use super::fixtures::{Sim, adapter, hash, only_write, ports, running};
use super::{CONFIG_HASH_ANNOTATION, HashInput, Input, Plan, plan};
use crate::fixtures::{everything, server};
use crate::reconcile::{AdapterState, ValidatedServer};

const NOTHING: Plan = Plan::Nothing { deferred: false };

fn files() -> ValidatedServer {
    server("files").build()
}

fn container(sim: &Sim) -> &Value {
    &sim.template()["spec"]["containers"][0]
}

fn port_names(sim: &Sim) -> Vec<&str> {
    let ports = container(sim)["ports"].as_array().unwrap();
    ports.iter().map(|port| port["name"].as_str().unwrap()).collect()
}

#[test]
fn creation_waits_for_the_hash() {
    let mut sim = Sim::new(files());
    sim.adapters = Some(running(&[("nfs", 1)]));
    assert_eq!(sim.plan(), Plan::Wait("the config hash"));
    sim.hash = HashInput::Held;
    assert_eq!(sim.plan(), Plan::Wait("a Secret that the server needs"));
    sim.hash = hash("h1");
    assert!(matches!(sim.plan(), Plan::Create(_)));
}

#[test]
fn creation_declares_a_fresh_servers_adapters_or_those_seen_running() {
    let mut sim = Sim::new(files());
    sim.hash = hash("h1");
    sim.reconcile();
    assert_eq!(sim.declared(), ports(&[("adapter-nfs", 12049), ("adapter-smb", 1445)]));
    sim.live = None;
    sim.adapters = Some(vec![
        adapter("nfs", 5, AdapterState::Passage),
        adapter("s3", 7, AdapterState::Running),
        adapter("smb", 6, AdapterState::Stopped),
    ]);
    sim.reconcile();
    assert_eq!(sim.declared(), ports(&[("adapter-s3", 7)]));
    assert_eq!((sim.partition(), sim.annotation()), (0, None));
}

#[test]
fn a_new_generation_waits_for_its_own_hash() {
    let mut sim = Sim::running(files());
    sim.hash = HashInput::Pending;
    sim.server.image = "dittofs:next".into();
    assert_eq!(sim.plan(), Plan::Wait("the config hash"));
}

#[test]
fn what_the_api_server_and_others_add_is_no_difference() {
    for server in [files(), everything("files")] {
        let mut sim = Sim::new(server);
        sim.hash = hash("h1");
        sim.settle();
        assert_eq!(sim.plan(), NOTHING, "defaults");
        sim.edit(|set| {
            set["metadata"]["annotations"]["theirs"] = json!("1");
            set["metadata"]["labels"]["theirs"] = json!("2");
            set["spec"]["template"]["metadata"]["annotations"]["theirs"] = json!("3");
            set["spec"]["template"]["metadata"]["labels"]["theirs"] = json!("4");
            set["spec"]["newerThanOurTypes"] = json!({"a": [1]});
            set["spec"]["template"]["spec"]["newerToo"] = json!(true);
            let spec = &mut set["spec"]["template"]["spec"];
            let containers = spec["containers"].as_array_mut().unwrap();
            containers[0]["newerStill"] = json!("x");
            containers[0]["ports"].as_array_mut().unwrap().reverse();
            containers.insert(
                0,
                json!({"name": "sidecar", "image": "s", "ports": [{"name": "adapter-x", "containerPort": 1}]}),
            );
        });
        assert_eq!(sim.plan(), NOTHING);
    }
}

#[test]
fn quantities_spelled_otherwise_are_no_difference() {
    let mut sim = Sim::new(everything("files"));
    sim.hash = hash("h1");
    sim.settle();
    let limits = json!({"cpu": "2500m", "memory": "4Gi"});
    sim.edit(|set| set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] = limits.clone());
    assert_eq!(sim.plan(), NOTHING);
    sim.edit(|set| set["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("5Gi"));
    sim.reconcile();
    assert_eq!(container(&sim)["resources"]["limits"]["memory"], "4Gi");
}

#[test]
fn an_unknown_answer_leaves_the_ports_and_an_empty_one_removes_them_all() {
    let mut sim = Sim::running(files());
    sim.adapters = None;
    assert_eq!(sim.plan(), NOTHING);
    sim.hash = hash("h2");
    sim.settle();
    assert_eq!(sim.declared(), ports(&[("adapter-nfs", 12049), ("adapter-smb", 1445)]));
    sim.adapters = Some(vec![]);
    sim.settle();
    assert_eq!((sim.declared(), port_names(&sim)), (vec![], vec!["api"]));
}

#[test]
fn an_adapter_in_passage_keeps_its_port_makes_no_new_one_and_a_stopped_one_goes() {
    let mut sim = Sim::running(files());
    sim.adapters = Some(vec![
        adapter("nfs", 13049, AdapterState::Passage),
        adapter("s3", 7, AdapterState::Passage),
        adapter("smb", 1445, AdapterState::Running),
    ]);
    assert_eq!(sim.plan(), NOTHING);
    sim.adapters.as_mut().unwrap()[0].state = AdapterState::Stopped;
    sim.settle();
    assert_eq!(sim.declared(), ports(&[("adapter-smb", 1445)]));
}

#[test]
fn two_adapters_of_one_port_number_are_both_declared() {
    let mut sim = Sim::running(files());
    sim.adapters = Some(running(&[("nfs", 5000), ("smb", 5000)]));
    sim.settle();
    assert_eq!(sim.declared(), ports(&[("adapter-nfs", 5000), ("adapter-smb", 5000)]));
    assert_eq!(sim.plan(), Plan::Nothing { deferred: true });
}

#[test]
fn a_type_that_fits_no_port_name_is_declared_under_a_shorter_one_and_stays() {
    let mut sim = Sim::running(files());
    sim.adapters = Some(running(&[("WebDAV over QUIC", 1), ("nfs", 12049), ("webdav-over-http3", 2)]));
    sim.settle();
    assert_eq!(sim.declared().len(), 3);
    assert!(sim.declared().iter().all(|(name, _)| name.len() <= 15), "{:?}", sim.declared());
    assert!(matches!(sim.plan(), Plan::Nothing { .. }));
}

#[test]
fn a_udp_port_of_an_adapters_name_is_corrected_and_one_without_protocol_is_tcp() {
    let mut sim = Sim::running(files());
    sim.edit(|set| {
        let port = &mut set["spec"]["template"]["spec"]["containers"][0]["ports"][1];
        assert_eq!(port["name"], "adapter-nfs");
        port.as_object_mut().unwrap().remove("protocol");
    });
    sim.sync();
    sim.settle();
    assert_eq!(sim.plan(), NOTHING);
    sim.edit(|set| set["spec"]["template"]["spec"]["containers"][0]["ports"][1]["protocol"] = json!("UDP"));
    sim.settle();
    assert_eq!(container(&sim)["ports"][1], json!({"name": "adapter-nfs", "containerPort": 12049, "protocol": "TCP"}));
}

#[test]
fn what_is_immutable_is_never_sent_changed() {
    let mut sim = Sim::running(files());
    sim.edit(|set| set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(0));
    sim.live.as_mut().unwrap()["spec"]["podManagementPolicy"] = json!("OrderedReady");
    sim.live.as_mut().unwrap()["spec"]["serviceName"] = json!("another");
    sim.live.as_mut().unwrap()["spec"]["selector"]["matchLabels"]["app"] = json!("of-the-go-operator");
    sim.server.storage.metadata = "77Gi".into();
    sim.server.storage.class = Some("other".into());
    assert_eq!(sim.plan(), NOTHING);
    sim.server.image = "dittofs:next".into();
    // Storing it asserts that the four are as they were.
    assert_eq!(only_write(&sim.settle()), (false, true, false));
}

#[test]
fn switched_off_metrics_lose_their_port_and_foreign_ports_stay() {
    let mut sim = Sim::new(server("files").with(|s| s.metrics = everything("m").metrics).build());
    sim.hash = hash("h1");
    sim.settle();
    sim.edit(|set| {
        let list = set["spec"]["template"]["spec"]["containers"][0]["ports"].as_array_mut().unwrap();
        list.push(json!({"name": "debug", "containerPort": 6060, "protocol": "TCP"}));
    });
    sim.settle();
    assert!(port_names(&sim).contains(&"metrics"));
    sim.server.metrics = None;
    sim.settle();
    assert_eq!(port_names(&sim), ["api", "debug", "adapter-nfs", "adapter-smb"]);
}

#[test]
fn the_api_port_follows_the_server_in_place() {
    let mut sim = Sim::running(files());
    sim.server.api_port = 8443;
    sim.settle();
    assert_eq!(container(&sim)["ports"][0], json!({"name": "api", "containerPort": 8443, "protocol": "TCP"}));
    assert_eq!(port_names(&sim), ["api", "adapter-nfs", "adapter-smb"]);
}

#[test]
fn ports_that_go_and_come_back_lift_the_hold_also_after_metrics_were_switched_on() {
    let mut sim = Sim::running(files());
    sim.server.metrics = everything("m").metrics;
    sim.settle();
    for (seen, held) in [(running(&[("nfs", 12049)]), true), (running(&[("nfs", 12049), ("smb", 1445)]), false)] {
        sim.adapters = Some(seen);
        sim.settle();
        assert_eq!((sim.is_held(), sim.starts), (held, 2));
    }
}

#[test]
fn what_the_user_takes_out_of_the_pod_goes_and_what_others_put_there_stays() {
    let mut sim = Sim::new(everything("files"));
    sim.hash = hash("h1");
    sim.settle();
    sim.edit(|set| {
        set["spec"]["template"]["metadata"]["labels"]["theirs"] = json!("l");
        set["spec"]["template"]["metadata"]["annotations"]["theirs"] = json!("a");
        let env = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        env.push(json!({"name": "THEIRS", "value": "e"}));
    });
    sim.settle();
    let names = |sim: &Sim| -> Vec<String> {
        let env = container(sim)["env"].as_array().unwrap();
        env.iter().map(|variable| variable["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names(&sim).contains(&"TZ".to_owned()));
    sim.server.pod.labels.clear();
    sim.server.pod.annotations.clear();
    sim.server.pod.env.clear();
    sim.server.pod.tolerations.clear();
    sim.settle();
    let metadata = &sim.template()["metadata"];
    assert_eq!((&metadata["labels"]["team"], &metadata["annotations"]["note"]), (&Value::Null, &Value::Null));
    assert_eq!((&metadata["labels"]["theirs"], &metadata["annotations"]["theirs"]), (&json!("l"), &json!("a")));
    assert_eq!(metadata["labels"]["app"], "dittofs-server");
    assert!(!names(&sim).contains(&"TZ".to_owned()) && names(&sim).contains(&"THEIRS".to_owned()), "{:?}", names(&sim));
    assert!(names(&sim).contains(&"DITTOFS_CONTROLPLANE_SECRET".to_owned()));
    assert_eq!(sim.template()["spec"].get("tolerations"), None);
    assert_eq!(sim.plan(), NOTHING);
}

#[test]
fn a_stateful_set_without_containers_is_no_error_and_gets_ours() {
    for containers in [json!([]), Value::Null, json!([{"name": "sidecar", "image": "s"}])] {
        let mut sim = Sim::running(files());
        sim.live.as_mut().unwrap()["spec"]["template"]["spec"]["containers"] = containers;
        let Plan::Replace { object, .. } = sim.plan() else { panic!("{:?}", sim.plan()) };
        let ours = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        let ours = ours.iter().find(|container| container["name"] == "dittofs").expect("our container");
        assert_eq!(ours["ports"].as_array().unwrap().len(), 3);
        sim.hash = HashInput::Held;
        assert!(matches!(sim.plan(), Plan::Nothing { .. }), "while a Secret is missing the template stays as it is");
    }
}

#[test]
fn what_is_not_ours_and_what_is_going_are_left_alone() {
    let mut sim = Sim::running(files());
    sim.hash = hash("h2");
    let ours = sim.live().clone();
    for owners in [Value::Null, json!([]), json!([{"uid": "uid-of-files"}]), json!([{"uid": "x", "controller": true}])]
    {
        sim.live.as_mut().unwrap()["metadata"]["ownerReferences"] = owners;
        assert_eq!(sim.plan(), Plan::NotOwned);
    }
    sim.live = Some(ours.clone());
    sim.live.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(sim.plan(), Plan::BeingDeleted);
    sim.live = Some(ours);
    assert!(matches!(sim.plan(), Plan::Replace { .. }), "as it is, it is ours");
}

#[test]
fn nothing_is_made_or_changed_for_a_server_that_is_being_deleted() {
    let mut sim = Sim::running(files());
    sim.hash = hash("h2");
    sim.server.deleting = true;
    assert_eq!(sim.plan(), NOTHING);
    sim.live = None;
    assert_eq!(sim.plan(), NOTHING);
}

#[test]
fn every_write_says_in_words_what_it_changes_and_hides_the_environment() {
    let mut sim = Sim::running(files());
    sim.server.image = "dittofs:next".into();
    sim.server.pod.env = everything("m").pod.env;
    let Plan::Replace { changes, .. } = sim.plan() else { panic!() };
    let text = changes.join("\n");
    assert!(text.contains("containers[dittofs].image: marmos91c/dittofs:latest → dittofs:next"), "{text}");
    assert!(text.contains("env[TZ]") && !text.contains("Rome"), "{text}");
}

#[test]
fn deleted_by_hand_it_is_made_again_with_the_adapters_that_run() {
    let mut sim = Sim::running(files());
    sim.live = None;
    let adapters = running(&[("nfs", 13049)]);
    let input = Input { server: &sim.server, hash: &sim.hash, adapters: Some(&adapters), live: None, orphan: None };
    let Plan::Create(object) = plan(input) else { panic!() };
    assert_eq!(object["spec"]["template"]["metadata"]["annotations"][CONFIG_HASH_ANNOTATION], "h1");
    assert_eq!(object["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().unwrap().len(), 2);
    assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], "uid-of-files");
}
