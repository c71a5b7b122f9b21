//! When a change of container ports reaches the running pod, and when it is held back.

use serde_json::json;

use super::fixtures::{Sim, hash, only_write, ports, running};
use super::{HELD_UNSETTLED, HashInput, Input, Plan, plan};
use crate::fixtures::server;
use crate::reconcile::{OnPortChange, ValidatedServer};

const NOTHING: Plan = Plan::Nothing { deferred: false };
const DEFERRED: Plan = Plan::Nothing { deferred: true };

fn files() -> ValidatedServer {
    server("files").build()
}

fn with_policy(policy: OnPortChange) -> ValidatedServer {
    server("files").with(|s| s.rollout.on_port_change = policy).build()
}

fn moved() -> Vec<(String, u64)> {
    ports(&[("adapter-nfs", 13049), ("adapter-smb", 1445)])
}

fn fresh() -> Vec<(String, u64)> {
    ports(&[("adapter-nfs", 12049), ("adapter-smb", 1445)])
}

#[test]
fn a_port_change_alone_is_written_and_held_back_from_the_pod() {
    let mut sim = Sim::running(files());
    sim.adapters = Some(running(&[("nfs", 13049), ("smb", 1445)]));
    assert_eq!(only_write(&sim.settle()), (true, false, true));
    assert_eq!((sim.declared(), sim.pod_declares(), sim.starts), (moved(), fresh(), 1));
    assert!(sim.is_held() && sim.annotation().is_some_and(|text| text.len() == 64));
    assert_eq!(sim.live()["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1, "a field of others");
    assert_eq!(sim.plan(), DEFERRED);
}

#[test]
fn a_second_port_change_while_held_stays_held() {
    let mut sim = Sim::held(files());
    let annotation = sim.annotation().map(str::to_owned);
    sim.adapters = Some(running(&[("nfs", 14049)]));
    assert_eq!(only_write(&sim.settle()), (true, false, true));
    assert_eq!((sim.declared(), sim.starts), (ports(&[("adapter-nfs", 14049)]), 1));
    assert!(sim.is_held());
    assert_eq!(sim.annotation(), annotation.as_deref(), "adapter ports are no part of it");
}

#[test]
fn ports_that_go_back_lift_the_hold_without_rolling() {
    let mut sim = Sim::held(files());
    sim.adapters = Some(running(&[("nfs", 12049), ("smb", 1445)]));
    let wrote = sim.settle();
    assert_eq!((sim.is_held(), sim.starts, sim.declared()), (false, 1, fresh()));
    assert_eq!(wrote.len(), 2, "the ports, then the hold: {wrote:#?}");
    assert!(wrote.iter().all(|plan| matches!(plan, Plan::Replace { rolls: false, .. })), "{wrote:#?}");
    assert_eq!(sim.plan(), NOTHING);
}

#[test]
fn a_change_that_the_server_must_see_takes_the_held_ports_along_in_one_start() {
    for change in [
        (|sim: &mut Sim| sim.server.image = "dittofs:next".into()) as fn(&mut Sim),
        |sim| sim.hash = hash("h2"),
        |sim| sim.server.termination_grace_period_seconds = 200,
    ] {
        let mut sim = Sim::held(files());
        change(&mut sim);
        sim.adapters = Some(running(&[("nfs", 15049)]));
        assert_eq!(only_write(&sim.settle()), (true, true, false));
        assert_eq!((sim.is_held(), sim.starts), (false, 2));
        assert_eq!(sim.pod_declares(), ports(&[("adapter-nfs", 15049)]));
    }
}

#[test]
fn kubectl_rollout_restart_of_a_held_server_starts_its_pod_once_with_everything() {
    let mut sim = Sim::held(files());
    sim.rollout_restart("now");
    assert_eq!(only_write(&sim.settle()), (false, true, false));
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares()), (false, 2, moved()));
    assert_eq!(
        sim.template()["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"],
        "now",
        "what kubectl wrote is not lost"
    );
}

#[test]
fn any_other_foreign_change_of_the_template_lifts_the_hold_too() {
    let mut sim = Sim::held(files());
    sim.edit(|set| {
        let containers = set["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
        containers.push(json!({"name": "sidecar", "image": "s"}));
    });
    sim.settle();
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares()), (false, 2, moved()));
}

#[test]
fn a_partition_opened_by_hand_rolls_what_was_held_and_the_annotation_goes() {
    let mut sim = Sim::held(files());
    sim.edit(|set| set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(0));
    sim.settle();
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares()), (false, 2, moved()));
    assert_eq!(sim.plan(), NOTHING);
}

#[test]
fn ports_that_differ_once_more_after_the_partition_was_opened_by_hand_start_no_second_pod() {
    let mut sim = Sim::held(files());
    sim.edit(|set| set["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(0));
    for _ in 0..3 {
        sim.sync(); // the operator is down while the pod rolls
    }
    assert_eq!(sim.starts, 2);
    sim.adapters = Some(running(&[("nfs", 14049), ("smb", 1445)]));
    sim.settle();
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares()), (true, 2, moved()));
    assert_eq!(sim.declared(), ports(&[("adapter-nfs", 14049), ("adapter-smb", 1445)]));
}

#[test]
fn immediate_writes_and_rolls_at_once() {
    let mut sim = Sim::running(with_policy(OnPortChange::Immediate));
    sim.adapters = Some(running(&[("nfs", 13049)]));
    assert_eq!(only_write(&sim.settle()), (true, true, false));
    assert_eq!((sim.is_held(), sim.starts), (false, 2));
}

#[test]
fn with_next_rollout_writes_the_ports_only_with_a_change_that_rolls() {
    let mut sim = Sim::running(with_policy(OnPortChange::WithNextRollout));
    sim.adapters = Some(running(&[("nfs", 13049)]));
    assert!(sim.settle().is_empty());
    assert_eq!(sim.plan(), DEFERRED);
    assert_eq!(sim.declared(), fresh());
    sim.hash = hash("h2");
    assert_eq!(only_write(&sim.settle()), (true, true, false));
    assert_eq!((sim.starts, sim.pod_declares()), (2, ports(&[("adapter-nfs", 13049)])));
}

#[test]
fn a_policy_switched_while_held_is_followed() {
    let mut sim = Sim::held(files());
    sim.server.rollout.on_port_change = OnPortChange::WithNextRollout;
    assert_eq!(sim.plan(), DEFERRED, "what is written stays held");
    sim.adapters = Some(running(&[("nfs", 14049)]));
    assert_eq!(sim.plan(), DEFERRED, "and no further one is written");
    sim.server.rollout.on_port_change = OnPortChange::Immediate;
    assert_eq!(only_write(&sim.settle()), (true, true, false));
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares()), (false, 2, ports(&[("adapter-nfs", 14049)])));
}

#[test]
fn while_a_rollout_is_under_way_a_port_change_waits_and_is_held_afterwards() {
    let mut sim = Sim::running(files());
    sim.hash = hash("h2");
    sim.reconcile();
    sim.adapters = Some(running(&[("nfs", 13049), ("smb", 1445)]));
    assert_eq!(sim.plan(), DEFERRED, "the controller has not seen the new template");
    sim.sync();
    assert!(sim.pod.is_none());
    assert_eq!(sim.plan(), DEFERRED, "the pod is between two revisions");
    sim.settle();
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares(), sim.declared()), (true, 2, fresh(), moved()));
}

#[test]
fn a_pod_deleted_while_held_comes_back_as_it_was() {
    let mut sim = Sim::held(files());
    sim.pod = None;
    sim.settle();
    assert_eq!((sim.is_held(), sim.starts, sim.pod_declares()), (true, 2, fresh()));
}

#[test]
fn a_stopped_servers_hash_is_frozen_and_its_hold_is_lifted_once_no_pod_is_there() {
    let mut sim = Sim::held(files());
    sim.server.replicas = 0;
    sim.hash = hash("h2");
    sim.reconcile();
    assert!(sim.is_held(), "its pod still runs");
    sim.settle();
    assert!(!sim.is_held() && sim.pod.is_none());
    assert_eq!(sim.template()["metadata"]["annotations"]["dittofs.io/config-hash"], "h1");
    sim.adapters = Some(running(&[("nfs", 14049)]));
    assert_eq!(only_write(&sim.settle()), (true, false, false), "there is nobody to hold it back from");
    sim.server.replicas = 1;
    assert_eq!(only_write(&sim.settle()), (false, false, false));
    assert_eq!((sim.starts, sim.is_held(), sim.pod_declares()), (2, false, ports(&[("adapter-nfs", 14049)])));
    assert_eq!(sim.template()["metadata"]["annotations"]["dittofs.io/config-hash"], "h2", "with what waited");
}

#[test]
fn while_a_secret_is_missing_the_template_stays_and_replicas_and_ports_follow() {
    let mut sim = Sim::running(files());
    let before = sim.template().clone();
    sim.hash = HashInput::Held;
    sim.server.image = "dittofs:next".into();
    assert_eq!(sim.plan(), NOTHING);
    sim.adapters = Some(running(&[("nfs", 13049), ("smb", 1445)]));
    assert_eq!(only_write(&sim.settle()), (true, false, true));
    let mut without = sim.template().clone();
    super::set_adapter_ports(&mut without, &super::adapter_ports(&before));
    assert_eq!(without, before);
    sim.server.replicas = 0;
    sim.settle();
    assert_eq!((sim.live()["spec"]["replicas"].as_i64(), sim.starts), (Some(0), 1));
}

#[test]
fn not_even_immediate_starts_a_pod_while_a_secret_is_missing() {
    let mut sim = Sim::running(with_policy(OnPortChange::Immediate));
    sim.hash = HashInput::Held;
    sim.adapters = Some(running(&[("nfs", 13049)]));
    assert!(sim.settle().is_empty());
    assert_eq!((sim.plan(), sim.starts), (DEFERRED, 1));
    sim.hash = hash("h1");
    assert_eq!(only_write(&sim.settle()), (true, true, false));
}

#[test]
fn a_foreign_partition_and_on_delete_are_left_to_their_owner() {
    for strategy in [
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1, "maxUnavailable": 1}}),
        json!({"type": "OnDelete", "rollingUpdate": {"maxUnavailable": 1}}),
    ] {
        let mut sim = Sim::running(files());
        sim.edit(|set| set["spec"]["updateStrategy"] = strategy.clone());
        sim.settle();
        sim.adapters = Some(running(&[("nfs", 13049)]));
        assert_eq!(only_write(&sim.settle()), (true, false, false), "{strategy}");
        assert_eq!((&sim.live()["spec"]["updateStrategy"], sim.annotation()), (&strategy, None));
        sim.hash = hash("h2");
        assert_eq!(only_write(&sim.settle()), (false, false, false), "{strategy}");
        assert_eq!((&sim.live()["spec"]["updateStrategy"], sim.starts), (&strategy, 1));
    }
}

fn orphan_of(sim: &Sim) -> serde_json::Value {
    let template = &sim.pod.as_ref().unwrap().0;
    let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("files-0");
    pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] = json!("files-0");
    pod["spec"]["nodeName"] = json!("node-1");
    pod["spec"]["volumes"].as_array_mut().unwrap().push(json!({"name": "metadata", "persistentVolumeClaim": {}}));
    let added = ["not-ready", "unreachable"].map(|taint| json!({"key": taint, "tolerationSeconds": 300}));
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    tolerations.extend(added);
    pod["spec"]["tolerations"] = json!(tolerations);
    pod
}

fn created(sim: &Sim, orphan: &serde_json::Value) -> serde_json::Value {
    let adapters = sim.adapters.as_deref();
    match plan(Input { server: &sim.server, hash: &sim.hash, adapters, live: None, orphan: Some(orphan) }) {
        Plan::Create(object) => *object,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_that_outlived_its_stateful_set_is_taken_over_without_a_start() {
    for tolerations in [vec![], vec![k8s_openapi::api::core::v1::Toleration::default()]] {
        let mut sim = Sim::held(server("files").with(|s| s.pod.tolerations = tolerations).build());
        let object = created(&sim, &orphan_of(&sim));
        assert_eq!(object["metadata"]["annotations"][super::HELD_TEMPLATE], HELD_UNSETTLED);
        assert_eq!(object["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 1);
        sim.live = None;
        sim.reconcile();
        sim.edit(|set| *set = super::merge(set, None, &object));
        assert!(matches!(sim.reconcile(), Plan::Replace { rolls: false, deferred: true, .. }), "held for real");
        assert!(sim.annotation().is_some_and(|text| text.len() == 64));
        assert_eq!(sim.plan(), DEFERRED);
        sim.settle();
        assert_eq!(sim.starts, 1);
        sim.hash = hash("h2");
        sim.settle();
        assert_eq!((sim.is_held(), sim.starts), (false, 2), "what must be seen still rolls it");
    }
}

#[test]
fn a_pod_that_outlived_its_stateful_set_and_differs_is_not_held() {
    let sim = Sim::running(files());
    let orphan = orphan_of(&sim);
    let differing = [
        ("/spec/containers/0/image", json!("other")),
        ("/metadata/annotations/dittofs.io~1config-hash", json!("h0")),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("/metadata/ownerReferences", json!([{"uid": "x", "controller": true}])),
    ];
    for (path, value) in differing {
        let mut pod = orphan.clone();
        if let Some(place) = pod.pointer_mut(path) {
            *place = value;
        } else {
            pod["metadata"][path.rsplit('/').next().unwrap()] = value;
        }
        let object = created(&sim, &pod);
        assert_eq!(object["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 0, "{path}");
        assert_eq!(object["metadata"]["annotations"].get(super::HELD_TEMPLATE), None, "{path}");
    }
    let object = created(&sim, &orphan);
    assert_eq!(object["spec"]["updateStrategy"]["rollingUpdate"]["partition"], 1, "as it is, it is");
}

#[test]
fn a_restart_that_is_asked_for_rolls_once_with_what_is_held_and_its_removal_rolls_nothing() {
    for mut sim in [Sim::running(files()), Sim::held(files())] {
        let declared = sim.declared();
        sim.server.restart_at = Some("2026-11-22T03:00:00Z".to_owned());
        assert!(matches!(&sim.settle()[..], [Plan::Replace { rolls: true, deferred: false, .. }]));
        assert_eq!((sim.starts, sim.is_held(), sim.pod_declares()), (2, false, declared.clone()));
        assert_eq!(sim.plan(), NOTHING);
        // kubectl's own restart stands beside it.
        sim.rollout_restart("now");
        sim.settle();
        assert_eq!(sim.starts, 3);
        assert_eq!(sim.template()["metadata"]["annotations"]["dittofs.io/restart-at"], "2026-11-22T03:00:00Z");

        sim.server.restart_at = None;
        assert_eq!(sim.plan(), NOTHING, "taken out");
        sim.hash = hash("h2");
        sim.settle();
        assert_eq!(sim.starts, 4);
        assert_eq!(super::restart_at(sim.live()), Some("2026-11-22T03:00:00Z"), "it stays through later writes");
        assert_eq!(sim.template()["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"], "now");
        sim.server.restart_at = Some("2026-11-22T03:00:00Z".to_owned());
        assert_eq!(sim.plan(), NOTHING, "the same value asks for nothing new");
        sim.server.restart_at = Some("again".to_owned());
        sim.settle();
        assert_eq!((sim.starts, sim.plan()), (5, NOTHING));
    }
}

#[test]
fn a_restart_waits_for_a_secret_that_is_missing_and_costs_a_stopped_server_nothing() {
    let mut sim = Sim::running(files());
    sim.hash = HashInput::Held;
    sim.server.restart_at = Some("now".to_owned());
    assert_eq!(sim.plan(), NOTHING);
    sim.hash = hash("h1");
    sim.server.replicas = 0;
    sim.settle();
    assert_eq!(sim.starts, 1);
    sim.server.replicas = 1;
    sim.settle();
    assert_eq!((sim.starts, sim.plan()), (2, NOTHING));
}
