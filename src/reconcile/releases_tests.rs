//! An upgrade of the operator starts no pod: the objects that each release left behind, against what is wanted today.
//!
//! `tests/golden/releases/<version>/` keeps, for a few servers, the DittoServer, what its Secrets held, and every object that
//! that release wrote for it. With `UPDATE_GOLDEN=1` the folder of the present version is made when it is missing; what
//! is there is never written again: it is what runs in somebody's cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::stateful_set::{HashInput, Input, Plan, plan};
use super::{
    AdapterState, Decision, ObservedAdapter, SecretKey, UsedKey, ValidatedServer, config_hash, decide,
    generation_for_hash, meta, plan_services, secrets_used, validate,
};
use crate::build::{config_map, render};

/// What one server looked like under a release.
#[derive(Serialize, Deserialize)]
struct Left {
    server: Value,
    /// `<Secret>/<key>` to its value.
    secrets: BTreeMap<String, String>,
    /// Type and port of what ran.
    adapters: BTreeMap<String, u16>,
    objects: Vec<Value>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/releases")
}

/// The servers of a new folder.
fn servers() -> Vec<(&'static str, Value)> {
    let everything = json!({
        "storage": {"metadataSize": "10Gi", "contentSize": "2Ti", "controlPlaneSize": "512Mi", "storageClassName": "fast"},
        "image": "registry.example/dittofs:1", "cache": {"size": "1500Mi", "path": "/data/cache"},
        "database": {"type": "postgres", "postgresSecretRef": {"name": "pg"}},
        "controlPlane": {"port": 18080}, "ports": {"nfs": 12049, "smb": 1445},
        "identity": {"jwt": {"secretRef": {"name": "jwt", "key": "signing"}, "accessTokenDuration": "1h30m"},
                     "admin": {"username": "root", "passwordSecretRef": {"name": "adm", "key": "password"}}},
        "service": {"type": "ClusterIP", "annotations": {"d": "e"}}, "adapterServices": {"type": "NodePort"},
        "metrics": {"enabled": true, "port": 19090, "path": "/m"},
        "logging": {"level": "DEBUG", "format": "text", "output": "stderr"},
        "rollout": {"onPortChange": "WithNextRollout", "onSpecChange": "WhenNeeded"},
        "terminationGracePeriodSeconds": 36, "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
        "securityContext": {"runAsUser": 1000}, "podSecurityContext": {"fsGroup": 2000},
        "pod": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists"}],
                "imagePullSecrets": [{"name": "pull"}], "imagePullPolicy": "IfNotPresent", "priorityClassName": "high",
                "env": [{"name": "TZ", "value": "UTC"}], "labels": {"team": "x"}, "annotations": {"y": "z"}},
    });
    vec![
        ("minimal", json!({"storage": {"metadataSize": "10Gi"}})),
        (
            "content",
            json!({"storage": {"metadataSize": "10Gi", "contentSize": "100Gi"}, "fileService": {"enabled": false}}),
        ),
        ("everything", everything),
    ]
}

fn object(spec: &Value) -> Value {
    json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer",
        "metadata": {"name": "files", "namespace": "tenant", "uid": "0b1c2d3e-0000-4000-8000-00000000cafe", "generation": 3},
        "spec": spec,
    })
}

impl Left {
    fn adapters(&self) -> Vec<ObservedAdapter> {
        let observed = |(adapter_type, port): (&String, &u16)| ObservedAdapter {
            adapter_type: adapter_type.clone(),
            port: *port,
            state: AdapterState::Running,
        };
        self.adapters.iter().map(observed).collect()
    }

    fn hash(&self, server: &ValidatedServer) -> HashInput {
        let values = self.secrets.iter().map(|(place, value)| {
            let (name, key) = place.split_once('/').expect("a Secret and a key");
            (SecretKey { name: name.to_owned(), key: key.to_owned() }, value.clone().into_bytes())
        });
        HashInput::Hash(config_hash(&render(server), &values.collect(), generation_for_hash(server)))
    }

    /// What is to be written for the server, in words; with `made`, the objects themselves.
    fn wanted(&self, made: &mut Vec<Value>) -> Vec<String> {
        let server = validate(&self.server).expect("what a release accepted is accepted");
        let (hash, adapters) = (self.hash(&server), self.adapters());
        let find = |kind: &str, name: &str| {
            self.objects.iter().find(|object| object["kind"] == kind && meta(object, "name") == name)
        };
        let mut words = Vec::new();
        let live = find("StatefulSet", "files");
        match plan(Input { server: &server, hash: &hash, adapters: Some(&adapters), live, orphan: None }) {
            Plan::Nothing { deferred: false } => {}
            Plan::Create(set) => {
                words.push("a StatefulSet".to_owned());
                made.push(*set);
            }
            Plan::Replace { changes, rolls, .. } => words.push(format!("StatefulSet (rolls: {rolls}): {changes:?}")),
            other => words.push(format!("StatefulSet: {other:?}")),
        }
        let mut look = |kind: &str, desired: &Value| {
            let name = meta(desired, "name").to_owned();
            match decide(find(kind, &name), desired, &server.uid) {
                Decision::Nothing => {}
                Decision::Create(mut object) => {
                    words.push(format!("{kind} {name}"));
                    object["kind"] = json!(kind);
                    made.push(object);
                }
                other => words.push(format!("{kind} {name}: {other:?}")),
            }
        };
        look("ConfigMap", &serde_json::to_value(config_map(&server, &render(&server))).unwrap());
        let live: Vec<Arc<Value>> =
            self.objects.iter().filter(|object| object["kind"] == "Service").cloned().map(Arc::new).collect();
        let services = plan_services(&server, Some(&adapters), None, &live, false);
        services.ensure.iter().for_each(|ensure| look("Service", &ensure.desired));
        words.extend(services.remove.iter().map(|remove| format!("Service {} goes: {}", remove.name, remove.why)));
        words
    }
}

/// The folder of the present version, when there is none yet.
fn make(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, spec) in servers() {
        let server = object(&spec);
        let validated = validate(&server).expect("a valid server");
        let secrets = secrets_used(&validated).into_iter().flat_map(|used| {
            let of = move |key: UsedKey| (format!("{}/{}", used.name, key.key), format!("value-of-{}", key.key));
            used.keys.into_iter().map(of).collect::<Vec<_>>()
        });
        let adapters = BTreeMap::from([("nfs".to_owned(), 12049), ("smb".to_owned(), 1445)]);
        let mut left = Left { server, secrets: secrets.collect(), adapters, objects: Vec::new() };
        let mut objects = Vec::new();
        left.wanted(&mut objects);
        // What the API server adds.
        for object in &mut objects {
            object["metadata"]["resourceVersion"] = json!("41");
            object["metadata"]["generation"] = json!(1);
            if object["kind"] == "StatefulSet" {
                object["status"] = json!({"observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1,
                    "currentRevision": "r1", "updateRevision": "r1"});
            }
        }
        left.objects = objects;
        std::fs::write(folder.join(format!("{name}.yaml")), serde_yaml_ng::to_string(&left).unwrap()).unwrap();
    }
}

#[test]
fn what_an_older_release_left_behind_is_left_as_it_is() {
    let version: Vec<&str> = env!("CARGO_PKG_VERSION").split('.').take(2).collect();
    let present = folder().join(version.join("."));
    if !present.exists() {
        assert!(std::env::var_os("UPDATE_GOLDEN").is_some(), "UPDATE_GOLDEN=1 makes {}", present.display());
        make(&present);
    }
    let (mut looked, mut wrong) = (0, Vec::new());
    for release in std::fs::read_dir(folder()).unwrap() {
        for file in std::fs::read_dir(release.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let left: Left = serde_yaml_ng::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            assert!(left.objects.len() >= 6, "{}", file.display());
            looked += left.objects.len();
            wrong.extend(left.wanted(&mut Vec::new()).into_iter().map(|words| format!("{}: {words}", file.display())));
        }
    }
    assert!(looked > 18, "{looked} objects");
    assert!(wrong.is_empty(), "an upgrade would write:\n{}", wrong.join("\n"));
}

#[test]
fn a_template_that_differs_from_what_an_older_release_left_is_found() {
    let file = folder().join("0.1/minimal.yaml");
    let mut left: Left = serde_yaml_ng::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    for object in left.objects.iter_mut().filter(|object| object["kind"] == "StatefulSet") {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("another");
    }
    let words = left.wanted(&mut Vec::new());
    assert!(words.len() == 1 && words[0].contains("rolls: true"), "{words:?}");
}
