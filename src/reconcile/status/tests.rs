//! What status says for what was seen, and that it never contradicts itself.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::server;

const EARLIER: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-02-02T00:00:00Z";

/// Everything that [`Observed`] borrows; as it is made, a server that runs and is served.
#[derive(Clone, Debug)]
struct World {
    generation: i64,
    deleting: bool,
    server: Result<ValidatedServer, String>,
    config: Option<ConfigFact>,
    poll: Option<PollFact>,
    adapters: Option<Vec<ObservedAdapter>>,
    ports: Option<PortsFact>,
    services: Option<ServicesFact>,
    volumes: Option<VolumesFact>,
    claims: Option<Vec<Arc<Value>>>,
    set: Option<Value>,
    live: Vec<Arc<Value>>,
    warnings: Vec<String>,
    previous: Option<Value>,
}

fn set(pods: i64, update: &str) -> Value {
    json!({
        "metadata": {"generation": 4},
        "spec": {"replicas": 1, "template": {"metadata": {"annotations": {"dittofs.io/config-hash": "abc"}}}},
        "status": {"observedGeneration": 4, "replicas": pods, "readyReplicas": pods, "availableReplicas": pods,
                   "currentRevision": "r1", "updateRevision": update},
    })
}

fn service(adapter: &str, port: u16, ingress: &Value) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": format!("files-adapter-{adapter}")},
        "spec": {"ports": [{"port": port}]},
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
}

fn claim(name: &str, asks: &str, has: &str) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": format!("{name}-files-0"), "labels": {"app": "dittofs-server", "instance": "files"}},
        "spec": {"resources": {"requests": {"storage": asks}}},
        "status": {"phase": "Bound", "capacity": {"storage": has}},
    }))
}

fn adapter(adapter_type: &str, port: u16, state: AdapterState) -> ObservedAdapter {
    ObservedAdapter { adapter_type: adapter_type.to_owned(), port, state }
}

fn healthy() -> World {
    World {
        generation: 3,
        deleting: false,
        server: Ok(server("files").generation(3).build()),
        config: Some(ConfigFact::Valid { generation: 3 }),
        poll: Some(PollFact::Answered),
        adapters: Some(vec![adapter("nfs", 12049, AdapterState::Running)]),
        ports: Some(PortsFact { applied: Some(3), ..PortsFact::default() }),
        services: Some(ServicesFact { applied: Some(3), ..ServicesFact::default() }),
        volumes: Some(VolumesFact::default()),
        claims: Some(vec![claim("metadata", "10Gi", "10Gi"), claim("controlplane", "1Gi", "1Gi")]),
        set: Some(set(1, "r1")),
        live: vec![service("nfs", 12049, &json!([{"ip": "192.0.2.7"}]))],
        warnings: vec![],
        previous: None,
    }
}

impl World {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn derive_at(&self, now: &str) -> Value {
        derive(Observed {
            name: "files",
            generation: self.generation,
            deleting: self.deleting,
            server: self.server.as_ref().map_err(String::as_str),
            config: self.config.as_ref(),
            poll: self.poll.as_ref(),
            adapters: self.adapters.as_deref(),
            ports: self.ports.as_ref(),
            services: self.services.as_ref(),
            volumes: self.volumes.as_ref(),
            claims: self.claims.as_deref(),
            stateful_set: self.set.as_ref(),
            live_services: &self.live,
            warnings: &self.warnings,
            change: None,
            previous: self.previous.as_ref(),
            now,
        })
    }

    fn derive(&self) -> Value {
        self.derive_at(NOW)
    }

    /// A restarted operator: what stands in status, and nothing said yet.
    fn restarted(self) -> Self {
        let before = self.derive_at(EARLIER);
        self.with(|world| {
            world.previous = Some(before);
            (world.config, world.poll, world.adapters, world.ports, world.services) = (None, None, None, None, None);
        })
    }
}

fn condition_of<'a>(status: &'a Value, kind: &str) -> &'a Value {
    previous_condition(Some(status), kind).unwrap_or_else(|| panic!("no condition {kind} in {status}"))
}

/// `Ready=True/AllConditionsMet` as text.
fn says(status: &Value, kind: &str) -> String {
    let condition = condition_of(status, kind);
    format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
}

#[test]
fn a_server_that_runs_as_specified_is_ready() {
    let status = healthy().derive();
    for (kind, expected) in [
        ("Ready", "True/AllConditionsMet"),
        ("Available", "True/MinimumReplicasAvailable"),
        ("ConfigReady", "True/ConfigValid"),
        ("Progressing", "False/ReconcileComplete"),
        ("Authenticated", "True/AuthenticationSucceeded"),
        ("AdaptersDiscovered", "True/AdaptersListed"),
        ("PortsRolledOut", "True/RolledOut"),
        ("Warnings", "False/NoWarnings"),
        ("VolumesReady", "True/VolumesAsSpecified"),
    ] {
        assert_eq!(says(&status, kind), expected, "{kind}");
    }
    assert_eq!(status["conditions"].as_array().unwrap().len(), 9);
    assert_eq!((&status["phase"], &status["configHash"]), (&json!("Running"), &json!("abc")));
    assert_eq!((&status["observedGeneration"], &status["activeAdapters"]), (&json!(3), &json!("nfs")));
    let listed = json!([{"type": "nfs", "port": 12049, "serviceName": "files-adapter-nfs", "endpoint": "192.0.2.7"}]);
    assert_eq!(status["adapters"], listed);
}

#[test]
fn each_cause_has_its_reason() {
    let text = || "why".to_owned();
    let stopped = |world: &mut World| world.server.as_mut().unwrap().replicas = 0;
    let table: Vec<(&str, &str, World)> = vec![
        ("ConfigReady", "Unknown/ConfigMissing", healthy().with(|w| w.config = None)),
        (
            "ConfigReady",
            "False/SecretMissing",
            healthy().with(|w| w.config = Some(ConfigFact::SecretMissing { generation: 3, text: text() })),
        ),
        (
            "ConfigReady",
            "False/ConfigMapNotFound",
            healthy().with(|w| w.config = Some(ConfigFact::Failed { reason: "ConfigMapNotFound", text: text() })),
        ),
        ("ConfigReady", "False/SpecInvalid", healthy().with(|w| w.server = Err(text()))),
        ("Ready", "False/SpecInvalid", healthy().with(|w| w.server = Err(text()))),
        ("Available", "False/NoReplicasAvailable", healthy().with(|w| w.set = Some(set(0, "r1")))),
        ("Available", "False/NoReplicasAvailable", healthy().with(|w| (w.server, w.set) = (Err(text()), None))),
        ("Available", "True/MinimumReplicasAvailable", healthy().with(|w| w.server = Err(text()))),
        ("Available", "False/Stopped", healthy().with(stopped)),
        ("Progressing", "True/StatefulSetUpdating", healthy().with(|w| w.set = Some(set(1, "r2")))),
        ("Progressing", "True/StatefulSetUpdating", healthy().with(|w| w.set = None)),
        (
            "Progressing",
            "True/StatefulSetUpdating",
            healthy().with(|w| w.set.as_mut().unwrap()["metadata"]["generation"] = json!(5)),
        ),
        (
            "Progressing",
            "True/StatefulSetUpdating",
            healthy().with(|w| {
                w.set = Some(set(1, "r2"));
                w.ports.as_mut().unwrap().deferred = true;
            }),
        ),
        (
            "Progressing",
            "False/ReconcileComplete",
            healthy().with(|w| {
                w.set = Some(set(1, "r2"));
                w.set.as_mut().unwrap()["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
            }),
        ),
        ("Progressing", "True/ScalingReplicas", healthy().with(stopped)),
        ("Authenticated", "Unknown/APIUnreachable", healthy().with(|w| w.poll = None)),
        ("Authenticated", "False/APIUnreachable", healthy().with(|w| w.poll = Some(PollFact::Unreachable(text())))),
        ("Authenticated", "False/AuthenticationFailed", healthy().with(|w| w.poll = Some(PollFact::Refused(text())))),
        (
            "Authenticated",
            "True/AuthenticationSucceeded",
            healthy().with(|w| w.poll = Some(PollFact::BadAnswer(text()))),
        ),
        ("Authenticated", "Unknown/Stopped", healthy().with(|w| w.poll = Some(PollFact::Stopped))),
        ("AdaptersDiscovered", "Unknown/NotPolledYet", healthy().with(|w| w.poll = None)),
        (
            "AdaptersDiscovered",
            "False/APIUnreachable",
            healthy().with(|w| w.poll = Some(PollFact::Unreachable(text()))),
        ),
        (
            "AdaptersDiscovered",
            "False/AuthenticationFailed",
            healthy().with(|w| w.poll = Some(PollFact::Refused(text()))),
        ),
        ("AdaptersDiscovered", "False/BadAnswer", healthy().with(|w| w.poll = Some(PollFact::BadAnswer(text())))),
        ("AdaptersDiscovered", "Unknown/Stopped", healthy().with(|w| w.poll = Some(PollFact::Stopped))),
        ("PortsRolledOut", "Unknown/NotReconciledYet", healthy().with(|w| w.ports = None)),
        ("PortsRolledOut", "False/Deferred", healthy().with(|w| w.ports.as_mut().unwrap().deferred = true)),
        ("Warnings", "True/Doubtful", healthy().with(|w| w.warnings = vec![text()])),
    ];
    for (kind, expected, world) in table {
        assert_eq!(says(&world.derive(), kind), expected, "{kind} {world:?}");
    }
}

#[test]
fn ready_is_true_only_when_everything_else_is() {
    let text = || "because-of-this".to_owned();
    let table: Vec<(&str, World)> = vec![
        ("being deleted", healthy().with(|w| w.deleting = true)),
        ("0 of 1 replicas ready", healthy().with(|w| w.set.as_mut().unwrap()["status"]["readyReplicas"] = json!(0))),
        ("spec.replicas is 0", healthy().with(|w| w.server.as_mut().unwrap().replicas = 0)),
        ("generation 4 is not applied", healthy().with(|w| w.generation = 4)),
        ("ConfigReady is Unknown", healthy().with(|w| w.config = None)),
        ("Authenticated is False", healthy().with(|w| w.poll = Some(PollFact::Refused(text())))),
        ("AdaptersDiscovered is False", healthy().with(|w| w.poll = Some(PollFact::BadAnswer(text())))),
        ("Progressing is True", healthy().with(|w| w.set = Some(set(1, "r2")))),
        ("Available is False", healthy().with(|w| w.set.as_mut().unwrap()["status"]["availableReplicas"] = json!(0))),
        ("because-of-this", healthy().with(|w| w.ports.as_mut().unwrap().problem = Some(text()))),
        ("because-of-this", healthy().with(|w| w.services.as_mut().unwrap().problems = vec![text()])),
        ("Service x is being deleted", healthy().with(|w| w.services.as_mut().unwrap().waiting = vec!["x".into()])),
        ("not applied yet", healthy().with(|w| w.services = None)),
        ("not applied yet", healthy().with(|w| w.ports = None)),
        ("not applied yet", healthy().with(|w| w.ports.as_mut().unwrap().applied = None)),
    ];
    for (cause, world) in table {
        let status = world.derive();
        assert_eq!(says(&status, "Ready"), "False/ConditionsNotMet", "{cause}");
        let message = condition_of(&status, "Ready")["message"].as_str().unwrap();
        assert!(message.contains(cause), "{cause}: {message}");
    }
    let held = healthy().with(|w| w.ports.as_mut().unwrap().deferred = true);
    assert_eq!(says(&held.derive(), "Ready"), "True/AllConditionsMet", "a held port change costs nobody anything");
}

#[test]
fn a_server_is_not_ready_before_each_running_adapter_has_its_service() {
    let observed = healthy().with(|world| world.live.clear());
    assert_eq!(says(&observed.derive(), "Ready"), "False/ConditionsNotMet");
    let passing = observed.with(|world| world.adapters = Some(vec![adapter("nfs", 12049, AdapterState::Passage)]));
    assert_eq!(says(&passing.derive(), "Ready"), "True/AllConditionsMet", "none is made for one on its way");
}

#[test]
fn the_transition_time_moves_only_with_the_status_of_its_condition() {
    let before = healthy().with(|w| w.warnings = vec!["one".into()]).derive_at(EARLIER);
    let after = healthy().with(|w| {
        w.warnings = vec!["two".into()];
        w.poll = Some(PollFact::Unreachable("down".into()));
        w.previous = Some(before);
    });
    let after = after.derive();
    for (kind, since) in [("Warnings", EARLIER), ("ConfigReady", EARLIER), ("Authenticated", NOW), ("Ready", NOW)] {
        assert_eq!(condition_of(&after, kind)["lastTransitionTime"], since, "{kind}");
    }
    assert_eq!(condition_of(&after, "Warnings")["message"], "two");
}

#[test]
fn observed_generation_is_the_smallest_that_all_three_writers_applied_and_takes_no_step_back() {
    let observed = |config: i64, ports: Option<i64>, services: Option<i64>, before: Option<i64>| {
        let world = healthy().with(|w| {
            w.generation = 5;
            w.config = Some(ConfigFact::Valid { generation: config });
            w.ports.as_mut().unwrap().applied = ports;
            w.services.as_mut().unwrap().applied = services;
            w.previous = before.map(|generation| json!({"observedGeneration": generation}));
        });
        world.derive().get("observedGeneration").and_then(Value::as_i64)
    };
    assert_eq!(observed(5, Some(5), Some(5), None), Some(5));
    assert_eq!(observed(4, Some(5), Some(5), None), Some(4));
    assert_eq!(observed(5, Some(3), Some(4), None), Some(3));
    assert_eq!(observed(5, Some(5), Some(2), None), Some(2));
    assert_eq!(observed(5, None, Some(5), None), None);
    assert_eq!(observed(5, None, Some(5), Some(4)), Some(4));
    assert_eq!(observed(3, Some(3), Some(3), Some(4)), Some(4), "what was applied stays applied");
    assert_eq!(observed(5, Some(5), Some(5), Some(9)), Some(5), "never ahead of the server");
}

#[test]
fn a_restart_of_the_operator_changes_nothing_before_it_knows_better() {
    let held = |world: &mut World| {
        world.ports.as_mut().unwrap().deferred = true;
        world.set = Some(set(1, "r2"));
        world.set.as_mut().unwrap()["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(1);
    };
    for world in [
        healthy(),
        healthy().with(held),
        healthy().with(|w| w.poll = Some(PollFact::Unreachable("down".into()))),
        healthy().with(|w| w.config = Some(ConfigFact::SecretMissing { generation: 3, text: "s".into() })),
    ] {
        let restarted = world.restarted();
        let again = restarted.derive();
        assert_eq!(patch(restarted.previous.as_ref(), &again), None, "{again}");
    }
    let worse = healthy().restarted().with(|w| w.set = Some(set(0, "r1"))).derive();
    assert_eq!(says(&worse, "Ready"), "False/ConditionsNotMet", "what it does see counts at once");
    let newer = healthy().restarted().with(|w| w.generation = 4).derive();
    assert_eq!(says(&newer, "Ready"), "False/ConditionsNotMet");
}

#[test]
fn a_patch_says_what_differs_takes_out_what_went_and_leaves_what_is_not_ours() {
    let status = healthy().derive();
    assert_eq!(patch(Some(&status), &status), None);
    assert_eq!(patch(None, &status), Some(status.clone()));
    let mut stored = status.clone();
    stored["perconaClusterName"] = json!("somebody else's");
    assert_eq!(patch(Some(&stored), &status), None);
    let mut bare = status.clone();
    for field in ["configHash", "adapters"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    let taken_out = patch(Some(&stored), &bare).expect("a difference");
    assert_eq!((&taken_out["configHash"], &taken_out["adapters"]), (&Value::Null, &Value::Null));
    assert!(taken_out.as_object().unwrap().contains_key("configHash") && taken_out.get("perconaClusterName").is_none());
    let mut other = status.clone();
    other["readyReplicas"] = json!(0);
    assert!(patch(Some(&other), &status).is_some());
}

#[test]
fn the_adapters_are_those_with_a_service_and_their_address_is_its() {
    use AdapterState::{Passage, Running, Stopped};
    let world = healthy().with(|w| {
        w.adapters = Some(vec![
            adapter("ftp", 21, Running),
            adapter("nfs", 13049, Passage),
            adapter("s3", 7, Stopped),
            adapter("smb", 1445, Running),
        ]);
        w.live = vec![
            service("nfs", 12049, &json!([{"hostname": "nfs.example"}])),
            service("s3", 7, &json!([])),
            service("smb", 1445, &json!([])),
        ];
    });
    let status = world.derive();
    assert_eq!(status["activeAdapters"], "nfs, smb");
    assert_eq!(
        status["adapters"],
        json!([
            {"type": "nfs", "port": 12049, "serviceName": "files-adapter-nfs", "endpoint": "nfs.example"},
            {"type": "smb", "port": 1445, "serviceName": "files-adapter-smb"},
        ]),
        "one on its way is published where its Service still leads"
    );
    let none = healthy().with(|w| w.adapters = Some(vec![])).derive();
    assert_eq!((&none["adapters"], &none["activeAdapters"]), (&json!([]), &json!("")));
    let unknown = healthy().with(|w| w.adapters = None).derive();
    assert_eq!(unknown.get("adapters"), None, "nothing is claimed before the first answer");
}

#[test]
fn volumes_are_as_large_as_they_are_and_their_condition_says_how_they_stand() {
    let standing = |world: &World| {
        let status = world.derive();
        let condition = condition_of(&status, "VolumesReady").clone();
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        (status["volumes"].clone(), text("status"), text("reason"), text("message"), status)
    };
    let with = |asks: &str, has: &str| {
        healthy().with(|w| w.claims = Some(vec![claim("metadata", asks, has), claim("controlplane", "1Gi", "1Gi")]))
    };
    let (sizes, status, reason, _, whole) = standing(&healthy());
    assert_eq!(sizes, json!({"metadata": "10Gi", "controlplane": "1Gi"}));
    assert_eq!((status.as_str(), reason.as_str()), ("True", "VolumesAsSpecified"));
    assert_eq!(condition_of(&whole, "Ready")["status"], "True");

    // On its way, also before it was asked; nobody is told that all is as specified.
    for (asks, has, words) in
        [("7Gi", "5Gi", "grows from 5Gi to 10Gi"), ("10Gi", "5Gi", "grows from 5Gi to 10Gi (its driver")]
    {
        let (sizes, status, reason, message, whole) = standing(&with(asks, has));
        assert_eq!(sizes["metadata"], has);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "VolumeExpanding"));
        assert!(message.contains(words), "{message}");
        let ready = condition_of(&whole, "Ready");
        assert_eq!(ready["status"], "False");
        assert!(ready["message"].as_str().unwrap().contains("VolumesReady is False (VolumeExpanding)"), "{ready}");
    }
    let (_, status, reason, message, _) = standing(&with("50Gi", "50Gi"));
    assert_eq!((status.as_str(), reason.as_str()), ("True", "VolumeLarger"));
    assert!(message.contains("50Gi, more than spec.storage.metadataSize (10Gi)"), "{message}");

    let refused = with("5Gi", "5Gi").with(|w| {
        w.volumes = Some(VolumesFact { refused: [("metadata", "no class".to_owned())].into() });
    });
    let (_, status, reason, message, whole) = standing(&refused);
    assert_eq!(
        (status.as_str(), reason.as_str(), message.as_str()),
        ("False", "VolumeExpansionFailed", "claim metadata: no class")
    );
    assert_eq!(condition_of(&whole, "Ready")["status"], "False");
    // A successor says the same until it has looked itself, and until its claims are listed.
    for unknowing in [
        refused.clone().with(|w| (w.volumes, w.previous) = (None, Some(whole.clone()))),
        refused.clone().with(|w| (w.volumes, w.claims, w.previous) = (None, None, Some(whole.clone()))),
    ] {
        let (sizes, _, reason, _, _) = standing(&unknowing);
        assert_eq!((&sizes, reason.as_str()), (&whole["volumes"], "VolumeExpansionFailed"));
    }
    // One that never looked before says that it does not know, and nobody has to wait for that.
    let (sizes, status, _, _, whole) = standing(&healthy().with(|w| w.claims = None));
    assert_eq!((sizes, status.as_str()), (Value::Null, "Unknown"));
    assert_eq!(condition_of(&whole, "Ready")["status"], "True");
    // A change that no claim template can follow, which an older CRD let through.
    let other = healthy().with(|w| {
        w.server.as_mut().unwrap().storage.class = Some("slow".into());
        let templates = json!([{"metadata": {"name": "metadata"}, "spec": {"storageClassName": "fast"}}]);
        w.set.as_mut().unwrap()["spec"]["volumeClaimTemplates"] = templates;
    });
    let (_, status, reason, message, _) = standing(&other);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "StorageChanged"));
    assert!(message.contains("spec.storage.storageClassName was fast and is now slow"), "{message}");
    // What does not validate keeps what was known, and its sizes are true.
    let invalid = with("20Gi", "20Gi").with(|w| w.server = Err("bad".into()));
    assert_eq!(standing(&invalid).0["metadata"], "20Gi");
}

#[test]
fn each_phase() {
    let table = vec![
        ("Running", healthy()),
        ("Pending", healthy().with(|w| w.set = None)),
        ("Pending", healthy().with(|w| w.set = Some(set(0, "r1")))),
        ("Failed", healthy().with(|w| (w.server, w.set) = (Err("bad".into()), None))),
        ("Running", healthy().with(|w| w.server = Err("bad".into()))),
        ("Running", healthy().with(|w| w.server.as_mut().unwrap().replicas = 0)),
        (
            "Stopped",
            healthy().with(|w| {
                w.server.as_mut().unwrap().replicas = 0;
                w.set = Some(set(0, "r1"));
            }),
        ),
        ("Deleting", healthy().with(|w| w.deleting = true)),
    ];
    for (phase, world) in table {
        assert_eq!(world.derive()["phase"], phase, "{world:?}");
    }
}

#[test]
fn a_message_is_bounded_and_does_not_grow_by_being_carried_over() {
    let long = healthy().with(|w| w.poll = Some(PollFact::Unreachable("ü".repeat(40_000))));
    let restarted = long.restarted();
    let again = restarted.derive();
    assert_eq!(condition_of(&again, "Authenticated")["message"].as_str().unwrap().chars().count(), MESSAGE_MAX + 1);
    assert_eq!(patch(restarted.previous.as_ref(), &again), None);
}

fn worlds() -> impl Strategy<Value = World> {
    let config = prop_oneof![
        Just(None),
        (1_i64..6).prop_map(|generation| Some(ConfigFact::Valid { generation })),
        (1_i64..6).prop_map(|generation| Some(ConfigFact::SecretMissing { generation, text: "s".into() })),
        Just(Some(ConfigFact::Failed { reason: "ConfigMapNotFound", text: "f".into() })),
    ];
    let poll = prop_oneof![
        Just(None),
        Just(Some(PollFact::Answered)),
        Just(Some(PollFact::Refused("r".into()))),
        Just(Some(PollFact::BadAnswer("b".into()))),
        Just(Some(PollFact::Stopped)),
    ];
    let ports = prop::option::of((prop::option::of(1_i64..6), any::<bool>()));
    let services = prop::option::of((prop::option::of(1_i64..6), any::<bool>()));
    let sets = prop::option::of((0_i64..2, any::<bool>(), any::<bool>()));
    let whole = (1_i64..6, any::<bool>(), 0_i32..2, any::<bool>());
    (whole, config, poll, ports, services, sets, prop::option::of(0_i64..9)).prop_map(
        |((generation, deleting, replicas, valid), config, poll, ports, services, stateful, before)| {
            healthy().with(|w| {
                w.generation = generation;
                w.deleting = deleting;
                w.server = if valid { w.server.clone() } else { Err("bad".into()) };
                if let Ok(server) = &mut w.server {
                    server.replicas = replicas;
                }
                w.config = config;
                w.poll = poll;
                w.ports = ports.map(|(applied, deferred)| PortsFact { applied, deferred, problem: None });
                w.services = services.map(|(applied, bad)| ServicesFact {
                    applied,
                    problems: vec!["p".into(); usize::from(bad)],
                    waiting: vec![],
                });
                w.set = stateful.map(|(pods, rolling, stale)| {
                    let mut made = set(pods, if rolling { "r2" } else { "r1" });
                    made["metadata"]["generation"] = json!(4 + i64::from(stale));
                    made
                });
                w.previous = before.map(|generation| {
                    let mut status = healthy().derive_at(EARLIER);
                    status["observedGeneration"] = json!(generation);
                    status
                });
            })
        },
    )
}

proptest! {
    #[test]
    fn status_never_contradicts_itself(world in worlds()) {
        let status = world.derive();
        let is = |kind: &str, truth: &str| condition_of(&status, kind)["status"] == truth;
        let ready = status["readyReplicas"].as_i64().unwrap();
        if is("Ready", "True") {
            prop_assert!(ready > 0 && !world.deleting && world.server.is_ok());
            prop_assert!(is("Available", "True") && is("ConfigReady", "True") && is("Progressing", "False"));
            prop_assert!(is("Authenticated", "True") && is("AdaptersDiscovered", "True"));
            prop_assert_eq!(&status["observedGeneration"], &json!(world.generation));
            prop_assert_eq!(&status["phase"], "Running");
            prop_assert!(world.services.as_ref().is_none_or(|services| services.problems.is_empty()));
        }
        if let Some(observed) = status.get("observedGeneration") {
            prop_assert!(observed.as_i64() <= Some(world.generation));
        }
        for condition in status["conditions"].as_array().unwrap() {
            prop_assert!(condition["observedGeneration"].as_i64() <= Some(world.generation));
        }
        match status["phase"].as_str().unwrap() {
            "Running" => prop_assert!(ready > 0),
            "Stopped" => prop_assert!(ready == 0 && status["replicas"] == 0 && !is("Available", "True")),
            "Deleting" => prop_assert!(world.deleting),
            phase => prop_assert!(ready == 0 && matches!(phase, "Pending" | "Failed"), "{phase}"),
        }
        // Derived once more from what it wrote, it says the same.
        let again = world.clone().with(|w| w.previous = Some(status.clone())).derive_at("2027-01-01T00:00:00Z");
        prop_assert_eq!(patch(Some(&status), &again), None);
    }
}
