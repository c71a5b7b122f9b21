//! What status says for what was seen, and that it never contradicts itself.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::server;
use crate::reconcile::AdapterState;
use crate::reconcile::pod::Why;

const EARLIER: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-02-02T00:00:00Z";

/// Everything that [`Observed`] borrows; as it is made, a server that runs and is served.
#[derive(Clone, Debug)]
struct World {
    generation: i64,
    deleting: bool,
    deletion: Option<&'static str>,
    paused: Option<Vec<String>>,
    server: Result<ValidatedServer, String>,
    config: Option<ConfigFact>,
    database: Option<DatabaseFact>,
    without_database: bool,
    poll: Option<PollFact>,
    adapters: Option<Vec<ObservedAdapter>>,
    ports: Option<PortsFact>,
    services: Option<ServicesFact>,
    volumes: Option<VolumesFact>,
    claims: Option<Vec<Arc<Value>>>,
    snapshots: Option<SnapshotsFact>,
    set: Option<Value>,
    pod: Option<Value>,
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
        "spec": {"type": "LoadBalancer", "ports": [{"port": port}]},
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
        deletion: None,
        paused: None,
        server: Ok(server("files").generation(3).build()),
        config: Some(ConfigFact::Valid { generation: 3 }),
        database: None,
        without_database: false,
        poll: Some(PollFact::Answered),
        adapters: Some(vec![adapter("nfs", 12049, AdapterState::Running)]),
        ports: Some(PortsFact { applied: Some(3), ..PortsFact::default() }),
        services: Some(ServicesFact { applied: Some(3), ..ServicesFact::default() }),
        volumes: Some(VolumesFact::default()),
        claims: Some(vec![claim("metadata", "10Gi", "10Gi"), claim("controlplane", "1Gi", "1Gi")]),
        snapshots: None,
        set: Some(set(1, "r1")),
        pod: None,
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
        let status = derive(Observed {
            name: "files",
            generation: self.generation,
            deleting: self.deleting,
            deletion: self.deletion,
            paused: self.paused.as_deref(),
            server: self.server.as_ref().map_err(String::as_str),
            config: self.config.as_ref(),
            database: self.database.as_ref(),
            without_database: self.without_database,
            poll: self.poll.as_ref(),
            adapters: self.adapters.as_deref(),
            ports: self.ports.as_ref(),
            services: self.services.as_ref(),
            volumes: self.volumes.as_ref(),
            claims: self.claims.as_deref(),
            snapshots: self.snapshots.as_ref(),
            stateful_set: self.set.as_ref(),
            pod: self.pod.as_ref().map_or(PodSeen::Unknown, |pod| {
                pod["refused"].as_str().map_or(PodSeen::There(pod), |note| PodSeen::Absent(Some(note)))
            }),
            live_services: &self.live,
            warnings: &self.warnings,
            change: None,
            previous: self.previous.as_ref(),
            now,
        });
        for condition in status["conditions"].as_array().unwrap() {
            let (kind, reason) = (condition["type"].as_str().unwrap(), condition["reason"].as_str().unwrap());
            assert!(reasons::is_known(kind, reason), "add {kind} {reason} to src/reconcile/status/reasons.rs");
        }
        status
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
            world.snapshots = None;
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
        (
            "being deleted; not done yet",
            healthy().with(|w| {
                w.deleting = true;
                w.deletion = Some("not done yet");
                w.server = Err("bad".to_owned());
            }),
        ),
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
        (
            "Service x is being deleted",
            healthy().with(|w| w.services.as_mut().unwrap().waiting = vec!["Service x".into()]),
        ),
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
    let changes: [&dyn Fn(&mut World); 4] =
        [&|_| {}, &held, &|w| w.poll = Some(PollFact::Unreachable("down".into())), &|w| {
            w.config = Some(ConfigFact::SecretMissing { generation: 3, text: "s".into() });
        }];
    for change in changes {
        let restarted = healthy().with(change).restarted();
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
    stored["theirs"] = json!("somebody else's");
    assert_eq!(patch(Some(&stored), &status), None);
    let mut bare = status.clone();
    for field in ["configHash", "adapters"] {
        bare.as_object_mut().unwrap().remove(field);
    }
    let taken_out = patch(Some(&stored), &bare).expect("a difference");
    assert_eq!((&taken_out["configHash"], &taken_out["adapters"]), (&Value::Null, &Value::Null));
    assert!(taken_out.as_object().unwrap().contains_key("configHash") && taken_out.get("theirs").is_none());
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
fn a_class_that_is_missing_is_said_and_carried_over_until_it_was_looked_for_again() {
    let missing = healthy().with(|w| {
        w.claims = Some(vec![]);
        w.volumes = Some(VolumesFact { classless: vec!["no class fast".into()], ..VolumesFact::default() });
    });
    let status = missing.derive();
    let said = |status: &Value| {
        let condition = condition_of(status, "VolumesReady");
        ["status", "reason", "message"].map(|field| condition[field].as_str().unwrap().to_owned())
    };
    assert_eq!(said(&status), ["False", "StorageClassNotFound", "no class fast"]);
    let ready = condition_of(&status, "Ready");
    assert!(ready["message"].as_str().unwrap().contains("VolumesReady is False (StorageClassNotFound)"), "{ready}");
    let successor = missing.clone().with(|w| (w.volumes, w.previous) = (None, Some(status.clone())));
    assert_eq!(said(&successor.derive()), said(&status));
    let there = missing.with(|w| (w.volumes, w.previous) = (Some(VolumesFact::default()), Some(status)));
    assert_eq!(said(&there.derive())[1], "VolumesAsSpecified");
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

    // Somebody asked the claim for more; until it is known who, what was said stands.
    let by_hand = with("50Gi", "10Gi");
    let before = standing(&healthy()).4;
    let (_, status, reason, _, _) = standing(&by_hand.clone().with(|w| w.previous = Some(before)));
    assert_eq!((status.as_str(), reason.as_str()), ("True", "VolumesAsSpecified"));
    let left = [("metadata", "kubectl-patch".to_owned())];
    let known = by_hand.with(|w| w.volumes = Some(VolumesFact { left: left.into(), ..VolumesFact::default() }));
    let (_, status, reason, message, whole) = standing(&known);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "VolumeLarger"));
    for words in
        ["asked by kubectl-patch to grow from 10Gi to 50Gi (its driver", "metadataSize (10Gi)", "set 50Gi there"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(condition_of(&whole, "Ready")["status"], "True");
    // Said of what was; what the spec asks for now is another matter.
    let (_, _, reason, message, _) = standing(&known.with(|w| {
        w.server.as_mut().unwrap().storage.metadata = "90Gi".into();
    }));
    assert_eq!(reason, "VolumeExpanding", "{message}");

    let refused = with("5Gi", "5Gi").with(|w| {
        w.volumes =
            Some(VolumesFact { refused: [("metadata", "no class".to_owned())].into(), ..VolumesFact::default() });
    });
    let (_, status, reason, message, whole) = standing(&refused);
    assert_eq!(
        (status.as_str(), reason.as_str(), message.as_str()),
        ("False", "VolumeExpansionFailed", "claim metadata: no class")
    );
    assert_eq!(condition_of(&whole, "Ready")["status"], "False");
    // What grows meanwhile is said beside it.
    let also = refused.clone().with(|w| {
        w.server.as_mut().unwrap().storage.control_plane = "2Gi".into();
    });
    let (_, _, reason, message, _) = standing(&also);
    assert_eq!(reason, "VolumeExpansionFailed");
    assert!(message.starts_with("claim metadata: no class; claim controlplane grows from 1Gi to 2Gi"), "{message}");
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
fn an_endpoint_is_the_first_address_of_a_load_balancer() {
    let endpoint = |kind: &str, ingress: Value| {
        let mut nfs = service("nfs", 12049, &ingress);
        Arc::make_mut(&mut nfs)["spec"]["type"] = json!(kind);
        let status = healthy().with(|w| w.live = vec![nfs]).derive();
        status["adapters"][0]["endpoint"].as_str().map(str::to_owned)
    };
    for (ingress, expected) in [
        (json!([]), None),
        (json!([{"ip": "192.0.2.1"}]), Some("192.0.2.1")),
        (json!([{"ip": "2001:db8::1"}, {"ip": "192.0.2.1"}]), Some("2001:db8::1")),
        (json!([{"hostname": "lb.example"}]), Some("lb.example")),
        (json!([{"ip": "", "hostname": "lb.example"}]), Some("lb.example")),
        (json!([{"ipMode": "VIP"}, {"ip": "192.0.2.2"}]), Some("192.0.2.2")),
    ] {
        assert_eq!(endpoint("LoadBalancer", ingress.clone()).as_deref(), expected, "{ingress}");
        assert_eq!(endpoint("NodePort", ingress.clone()), None, "an address that it had");
        assert_eq!(endpoint("ClusterIP", ingress), None);
    }
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

/// A pod whose only container is as given; the note of a refusal instead of one stands for its absence.
fn pod(ready: bool, container: &Value) -> Value {
    let truth = if ready { "True" } else { "False" };
    json!({
        "metadata": {"name": "files-0", "creationTimestamp": EARLIER, "labels": {"controller-revision-hash": "r1"}},
        "status": {"phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": EARLIER},
                           {"type": "Ready", "status": truth, "lastTransitionTime": EARLIER}],
            "containerStatuses": [container]},
    })
}

fn waits(reason: &str) -> Value {
    pod(false, &json!({"name": "dittofs", "ready": false, "state": {"waiting": {"reason": reason, "message": "m"}}}))
}

fn pods() -> impl Strategy<Value = Value> {
    let runs = |since: &str| json!({"name": "dittofs", "ready": false, "state": {"running": {"startedAt": since}}});
    let mut unschedulable = pod(false, &json!({}));
    unschedulable["status"]["conditions"][0] =
        json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": EARLIER});
    let mut ending = pod(true, &runs(EARLIER));
    ending["metadata"]["deletionTimestamp"] = json!(NOW);
    prop::sample::select(vec![
        pod(true, &json!({"name": "dittofs", "ready": true, "state": {"running": {"startedAt": EARLIER}}})),
        pod(false, &runs(NOW)),
        pod(false, &runs(EARLIER)),
        waits("CrashLoopBackOff"),
        waits("ImagePullBackOff"),
        waits("ContainerCreating"),
        unschedulable,
        ending,
        json!({"metadata": {"name": "files-0"}, "status": {"phase": "Failed", "reason": "Evicted"}}),
        json!({"refused": "create Pod files-0 in StatefulSet files failed error: exceeded quota: q"}),
        json!({"refused": "create Pod files-0 in StatefulSet files failed error: violates PodSecurity"}),
    ])
}

#[test]
fn a_pod_that_cannot_come_up_is_failed_with_its_reason_and_what_to_do() {
    let down = |pod: Value| healthy().with(|w| (w.set, w.pod) = (Some(set(0, "r1")), Some(pod)));
    let refusal = |words: &str| json!({"refused": format!("create Pod files-0 failed error: {words}")});
    for (reason, words, pod) in [
        ("CrashLoopBackOff", "kubectl logs --previous", waits("CrashLoopBackOff")),
        ("ImagePullBackOff", "spec.image", waits("ErrImagePull")),
        ("QuotaExceeded", "raise the ResourceQuota", refusal("exceeded quota: none")),
        ("PodSecurityViolation", "spec.podSecurityContext", refusal("violates PodSecurity \"restricted\"")),
        ("AdmissionDenied", "the policy that says so", refusal("is forbidden: no")),
    ] {
        let status = down(pod).derive();
        assert_eq!(status["phase"], "Failed", "{reason}");
        assert_eq!(says(&status, "Ready"), format!("False/{reason}"));
        let message = condition_of(&status, "Ready")["message"].as_str().unwrap();
        assert!(message.contains(words) && message.contains("0 of 1 replicas ready"), "{message}");
    }
    let starting = down(waits("ContainerCreating")).with(|w| {
        w.pod.as_mut().unwrap()["status"]["conditions"][0] =
            json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": NOW});
    });
    let status = starting.derive();
    assert_eq!((&status["phase"], says(&status, "Ready")), (&json!("Pending"), "False/ConditionsNotMet".to_owned()));
    let message = condition_of(&status, "Ready")["message"].as_str().unwrap();
    assert!(message.starts_with("container dittofs is not started yet (ContainerCreating)"), "{message}");
}

#[test]
fn a_pod_that_is_not_ready_counts_before_its_stateful_set_says_so() {
    let lagging = healthy().with(|w| w.pod = Some(waits("CrashLoopBackOff"))).derive();
    assert_eq!((&lagging["phase"], &lagging["readyReplicas"]), (&json!("Failed"), &json!(0)));
    assert_eq!(says(&lagging, "Available"), "False/NoReplicasAvailable");
    let stopped = healthy().with(|w| {
        w.server.as_mut().unwrap().replicas = 0;
        w.set = Some(set(0, "r1"));
        w.pod = Some(waits("CrashLoopBackOff"));
    });
    assert_eq!(stopped.derive()["phase"], "Pending", "it has a pod still, and nobody wants it to come up");
}

#[test]
fn a_rollout_names_its_revision_and_what_keeps_it_from_its_end() {
    let progress = |world: World| condition_of(&world.derive(), "Progressing")["message"].as_str().unwrap().to_owned();
    let rolling = || healthy().with(|w| w.set = Some(set(0, "r2")));
    assert_eq!(progress(rolling()), "Rolling to r2");
    let stale = rolling().with(|w| w.set.as_mut().unwrap()["metadata"]["generation"] = json!(9));
    assert_eq!(progress(stale), "Rolling to a new revision");
    let broken = rolling().with(|w| w.pod = Some(waits("ImagePullBackOff")));
    assert!(progress(broken.clone()).contains("Rolling to r2; the image"), "{}", progress(broken.clone()));
    // Of the revision before, under OrderedReady: it stays until somebody deletes it.
    let message = |world: World| condition_of(&world.derive(), "Ready")["message"].as_str().unwrap().to_owned();
    assert!(message(broken.clone()).contains("kubectl delete pod files-0"));
    let parallel = broken.clone().with(|w| {
        w.set.as_mut().unwrap()["spec"]["podManagementPolicy"] = json!("Parallel");
    });
    assert!(!message(parallel).contains("kubectl delete pod"));
    let newest =
        broken.with(|w| w.pod.as_mut().unwrap()["metadata"]["labels"]["controller-revision-hash"] = json!("r2"));
    assert!(!message(newest).contains("kubectl delete pod"));
}

#[test]
fn ready_says_where_the_server_is_served() {
    let message = |world: World| condition_of(&world.derive(), "Ready")["message"].as_str().unwrap().to_owned();
    assert_eq!(message(healthy()), "The server runs as specified; it serves nfs at 192.0.2.7:12049");
    let six = healthy().with(|w| w.live = vec![service("nfs", 12049, &json!([{"ip": "2001:db8::7"}]))]);
    assert!(message(six).ends_with("nfs at [2001:db8::7]:12049"));
    let inside = healthy().with(|w| w.live = vec![service("nfs", 12049, &json!([]))]);
    assert!(message(inside).ends_with("nfs at Service files-adapter-nfs port 12049"));
    let none = healthy().with(|w| (w.adapters, w.live) = (Some(vec![]), vec![]));
    assert!(message(none).ends_with("no adapter runs"));
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
    let whole = (1_i64..6, any::<bool>(), 0_i32..2, any::<bool>(), prop::option::of(pods()));
    let previous = prop::option::of((0_i64..9, prop::sample::select(vec!["AllConditionsMet", "CrashLoopBackOff"])));
    (whole, config, poll, ports, services, sets, previous).prop_map(
        |((generation, deleting, replicas, valid, pod), config, poll, ports, services, stateful, before)| {
            healthy().with(|w| {
                w.generation = generation;
                w.pod = pod;
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
                w.previous = before.map(|(generation, reason)| {
                    let mut status = healthy().derive_at(EARLIER);
                    status["observedGeneration"] = json!(generation);
                    if reason != "AllConditionsMet" {
                        status["conditions"][0]["status"] = json!("False");
                        status["conditions"][0]["reason"] = json!(reason);
                    }
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
        let conditions = status["conditions"].as_array().unwrap();
        let kinds: std::collections::BTreeSet<&str> =
            conditions.iter().map(|condition| condition["type"].as_str().unwrap()).collect();
        prop_assert_eq!(kinds.len(), conditions.len(), "each condition once");
        for condition in conditions {
            prop_assert!(condition["observedGeneration"].as_i64() <= Some(world.generation));
            prop_assert!(!condition["reason"].as_str().unwrap().is_empty());
            let message = condition["message"].as_str().unwrap();
            prop_assert!(!message.is_empty() && message.chars().count() <= MESSAGE_MAX + 1);
            let before = previous_condition(world.previous.as_ref(), condition["type"].as_str().unwrap());
            let since = &condition["lastTransitionTime"];
            match before {
                Some(before) if before["status"] == condition["status"] => {
                    prop_assert_eq!(since, &before["lastTransitionTime"]);
                }
                _ => prop_assert_eq!(since, NOW),
            }
        }
        let there = world.pod.as_ref().filter(|pod| pod.get("refused").is_none());
        let pod_ready = there.is_some_and(|pod| pod["status"]["conditions"][1]["status"] == "True");
        if world.pod.is_some() && !pod_ready {
            prop_assert!(ready == 0, "the pod says otherwise");
        }
        prop_assert!(status["availableReplicas"].as_i64() <= Some(ready));
        prop_assert!(Some(ready) <= status["replicas"].as_i64());
        let reason = condition_of(&status, "Ready")["reason"].as_str().unwrap();
        let why = Why::ALL.iter().any(|why| why.as_str() == reason);
        match status["phase"].as_str().unwrap() {
            "Running" => prop_assert!(ready > 0 && !why),
            "Stopped" => {
                prop_assert!(ready == 0 && status["replicas"] == 0 && !is("Available", "True") && there.is_none());
            }
            "Deleting" => prop_assert!(world.deleting && !why),
            "Failed" => prop_assert!(ready == 0 && (why || reason == "SpecInvalid"), "{reason}"),
            phase => prop_assert!(ready == 0 && phase == "Pending" && !why && reason != "SpecInvalid", "{phase} {reason}"),
        }
        // Derived once more from what it wrote, it says the same.
        // Of a pod time alone tells more.
        let later = if world.pod.is_some() { NOW } else { "2027-01-01T00:00:00Z" };
        let again = world.clone().with(|w| w.previous = Some(status.clone())).derive_at(later);
        prop_assert_eq!(patch(Some(&status), &again), None);
    }
}

#[test]
fn a_pause_is_said_while_it_lasts_with_what_it_keeps_back() {
    assert!(healthy().derive()["conditions"].as_array().unwrap().iter().all(|made| made["type"] != "Paused"));
    let quiet = healthy().with(|w| w.paused = Some(vec![])).derive();
    assert_eq!(says(&quiet, "Paused"), "True/PausedByAnnotation");
    assert!(condition_of(&quiet, "Paused")["message"].as_str().unwrap().contains("nothing waits"));
    assert_eq!(says(&quiet, "Ready"), "True/AllConditionsMet", "a pause alone costs nobody anything");
    let held = healthy().with(|w| w.paused = Some(vec!["create Service a".to_owned(), "x".repeat(9000)])).derive();
    let message = condition_of(&held, "Paused")["message"].as_str().unwrap();
    assert!(message.contains("it would create Service a; x") && message.chars().count() <= MESSAGE_MAX + 1);
}

#[test]
fn the_database_of_percona_is_told_and_counts_only_where_there_is_one() {
    let database = |problem: Option<&'static str>| {
        healthy().with(|world| {
            world.server = Ok(crate::fixtures::percona_server("files"));
            world.generation = 1;
            world.config = Some(ConfigFact::Valid { generation: 1 });
            world.ports = Some(PortsFact { applied: Some(1), ..PortsFact::default() });
            world.services = Some(ServicesFact { applied: Some(1), ..ServicesFact::default() });
            world.database = Some(DatabaseFact {
                cluster: "files-postgres".to_owned(),
                problem: problem.map(|reason| (reason, "why".to_owned())),
            });
        })
    };
    let ready = database(None).derive();
    assert_eq!(condition_of(&ready, "DatabaseReady")["status"], "True");
    assert_eq!(condition_of(&ready, "Ready")["status"], "True", "{ready}");
    assert_eq!(ready["perconaClusterName"], "files-postgres");
    let waiting = database(Some("PerconaMissing")).derive();
    let told = condition_of(&waiting, "DatabaseReady");
    assert_eq!(
        (&told["status"], &told["reason"], &told["message"]),
        (&json!("False"), &json!("PerconaMissing"), &json!("why"))
    );
    assert_eq!(condition_of(&waiting, "Ready")["status"], "False");
    // A restarted operator repeats what stood there; without Percona there is nothing of it.
    let again = database(None).restarted().with(|world| world.database = None).derive();
    assert_eq!(condition_of(&again, "DatabaseReady")["status"], "True");
    assert_eq!(again["perconaClusterName"], "files-postgres");
    let off = healthy().with(|world| world.previous = Some(ready.clone()));
    let parting = off.derive();
    assert!(previous_condition(Some(&parting), "DatabaseReady").is_none());
    assert_eq!(parting["perconaClusterName"], "files-postgres", "it is not seen to yet");
    let broken = database(None).restarted().with(|world| {
        (world.server, world.without_database) = (Err("no".to_owned()), true);
    });
    assert_eq!(broken.derive()["perconaClusterName"], "files-postgres", "who knows what an invalid spec wants");
    let without = off.with(|world| world.without_database = true).derive();
    assert_eq!(patch(Some(&ready), &without).unwrap()["perconaClusterName"], Value::Null);
}
