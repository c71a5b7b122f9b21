//! The health script for Argo CD, run over statuses that the operator itself derives.

use std::path::Path;
use std::sync::Arc;

use dittofs_operator::reconcile::pod::PodSeen;
use dittofs_operator::reconcile::status::{ConfigFact, Observed, PollFact, PortsFact, ServicesFact, derive};
use dittofs_operator::reconcile::validate;
use mlua::{Lua, LuaSerdeExt as _};
use serde_json::{Value, json};

const KEY: &str = "resource.customizations.health.dittofs.dittofs.com_DittoServer";
const GENERATION: i64 = 3;

fn script() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/argocd/argocd-cm-patch.yaml");
    let config_map: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).expect("the patch")).expect("YAML");
    config_map["data"][KEY].as_str().expect("the script").to_owned()
}

/// What Argo CD would show: status and message. It runs Lua 5.1 with the object as `obj`.
fn health(server: &Value) -> (String, String) {
    let lua = Lua::new();
    // A field that is null is none for Argo CD, which reads the object from JSON into tables.
    let options = mlua::SerializeOptions::new().serialize_none_to_null(false).serialize_unit_to_null(false);
    let object = lua.to_value_with(server, options).expect("a table");
    lua.globals().set("obj", object).expect("set");
    let answer: mlua::Table = lua.load(script()).eval().expect("the script runs");
    (answer.get("status").expect("a status"), answer.get("message").expect("a message"))
}

/// Everything that a status is made of; as it is made, a server that serves.
struct World {
    replicas: i64,
    pods: i64,
    spec: Value,
    config: ConfigFact,
    poll: PollFact,
    applied: i64,
    rolling: bool,
    pod: Option<Value>,
}

fn healthy() -> World {
    World {
        replicas: 1,
        pods: 1,
        spec: json!({}),
        config: ConfigFact::Valid { generation: GENERATION },
        poll: PollFact::Answered,
        applied: GENERATION,
        rolling: false,
        pod: None,
    }
}

impl World {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn server(&self) -> Value {
        let mut spec = json!({"storage": {"metadataSize": "1Gi"}, "replicas": self.replicas});
        for (field, value) in self.spec.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let mut server = json!({
            "metadata": {"namespace": "team", "name": "files", "uid": "u", "generation": GENERATION}, "spec": spec,
        });
        let checked = validate(&server).map_err(|invalid| invalid.to_string());
        let set = json!({
            "metadata": {"generation": 1}, "spec": {"replicas": self.replicas},
            "status": {"observedGeneration": 1, "replicas": self.pods, "readyReplicas": self.pods,
                       "availableReplicas": self.pods, "currentRevision": "r1",
                       "updateRevision": if self.rolling { "r2" } else { "r1" }},
        });
        let ports = PortsFact { applied: Some(self.applied), ..PortsFact::default() };
        let services = ServicesFact { applied: Some(self.applied), ..ServicesFact::default() };
        let live: [Arc<Value>; 0] = [];
        server["status"] = derive(Observed {
            name: "files",
            volumes: None,
            claims: None,
            generation: GENERATION,
            deleting: false,
            server: checked.as_ref().map_err(String::as_str),
            config: Some(&self.config),
            database: None,
            without_database: false,
            poll: Some(&self.poll),
            adapters: Some(&[]),
            ports: Some(&ports),
            services: Some(&services),
            snapshots: None,
            deletion: None,
            paused: None,
            stateful_set: Some(&set),
            pod: self.pod.as_ref().map_or(PodSeen::Unknown, PodSeen::There),
            live_services: &live,
            warnings: &[],
            change: None,
            previous: None,
            now: "2026-02-02T00:00:00Z",
        });
        server
    }
}

fn crashing() -> Value {
    json!({"metadata": {"name": "files-0"}, "status": {
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "dittofs", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
    }})
}

#[test]
fn each_state_of_a_server_has_its_health() {
    let missing = ConfigFact::SecretMissing { generation: GENERATION, text: "Secret x".into() };
    let table = [
        ("serving", "Healthy", "it serves", healthy()),
        ("no pod yet", "Progressing", "0 of 1 replicas ready", healthy().with(|w| w.pods = 0)),
        ("crashing", "Degraded", "CrashLoopBackOff: container", healthy().with(|w| w.pod = Some(crashing()))),
        ("stopped", "Suspended", "replicas is 0", healthy().with(|w| (w.replicas, w.pods) = (0, 0))),
        ("rolling", "Progressing", "Progressing is True", healthy().with(|w| w.rolling = true)),
        ("not applied", "Progressing", "not applied yet", healthy().with(|w| w.applied = GENERATION - 1)),
        ("wrong", "Degraded", "spec.ports.nfs is 0", healthy().with(|w| w.spec = json!({"ports": {"nfs": 0}}))),
        ("no Secret", "Degraded", "SecretMissing", healthy().with(|w| w.config = missing)),
        ("refused", "Degraded", "Authenticated is False", healthy().with(|w| w.poll = PollFact::Refused("no".into()))),
        ("silent", "Degraded", "is False", healthy().with(|w| w.poll = PollFact::Unreachable("no".into()))),
    ];
    for (what, status, words, world) in table {
        let (found, message) = health(&world.server());
        assert!(found == status && (message.contains(words) || what == "serving"), "{what}: {found}: {message}");
    }
}

#[test]
fn what_was_not_seen_yet_is_deleted_or_paused_is_told_apart() {
    let fresh = json!({"metadata": {"name": "files", "generation": 1}, "spec": {}});
    assert_eq!(health(&fresh).0, "Progressing");
    let mut deleted = healthy().server();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-02-02T00:00:00Z");
    assert_eq!(health(&deleted).0, "Progressing");
    let mut paused = healthy().server();
    paused["metadata"]["annotations"] = json!({"dittofs.io/paused": "true"});
    assert_eq!(health(&paused).0, "Suspended");
    paused["metadata"]["annotations"] = json!({"dittofs.io/paused": "false"});
    assert_eq!(health(&paused).0, "Healthy");
    let mut changed = healthy().server();
    changed["metadata"]["generation"] = json!(GENERATION + 1);
    assert_eq!(health(&changed).0, "Progressing", "what stands there is about the spec before");
}
