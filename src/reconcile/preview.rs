//! What a reconcile would do to one server, without doing it: the pure half of `dittofs-operator check`.
//!
//! Asks the same functions that decide in earnest (`plan`, `plan_services`, `decide`), so that the preview cannot say
//! one thing and the operator do another. Touches nothing. What only the running server could tell is not known here:
//! adapters are taken to be those that have a Service.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::object::{Decision, decide, meta, owned_by};
use super::services::{is_adapter_service, plan_services};
use super::stateful_set::{HashInput, Input, Plan, is_adopted, plan};
use super::{AdapterState, ObservedAdapter, ServerKey, ValidatedServer, differences, warnings};
use crate::build::{ADAPTER_TYPE_LABEL, CONFIG_HASH_ANNOTATION, config_map, render};

/// What is there for one server, as read from the API server.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The StatefulSet of its name.
    pub stateful_set: Option<Value>,
    /// The ConfigMap of its name.
    pub config_map: Option<Value>,
    /// Services with a controller reference to it, and whatever else bears one of its names.
    pub services: Vec<Arc<Value>>,
    /// Names of the Secrets that the operator would generate and that are not there.
    pub secrets_to_make: Vec<String>,
    /// Names of the generated Secrets that still have an owner reference to the server.
    pub secrets_to_free: Vec<String>,
    /// The config hash; `Held` when a Secret of the user is missing, `Pending` when one is still to be generated.
    pub hash: Option<HashInput>,
    /// What is missing, in words, when the hash is held.
    pub missing: Vec<String>,
    /// StorageClasses that its volumes wait for and that are missing, or cannot be looked for, in words.
    pub classless: Vec<String>,
}

/// What would happen to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// There is none: it would be made.
    Create,
    /// It would be replaced.
    Update,
    /// It would be deleted.
    Delete,
    /// It belongs to somebody else, is being deleted or waits for something: nothing would be done to it.
    Blocked,
}

impl Action {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Blocked => "blocked",
        }
    }
}

/// One object that would change, or should and cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What would happen.
    pub action: Action,
    /// The differences in words, or why; values of Secrets and environment variables are never among them.
    pub what: Vec<String>,
}

/// What would happen to one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is wrong with its spec: nothing would be changed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
    /// Whether its pod would be started anew.
    pub restart: bool,
    /// Why, in words: the changes of the pod template.
    #[serde(rename = "restartBecause")]
    pub because: Vec<String>,
    /// The objects.
    pub changes: Vec<Change>,
    /// Doubtful settings, and what stands in the way.
    pub warnings: Vec<String>,
}

impl Preview {
    /// Whether a reconcile would change nothing.
    pub fn is_quiet(&self) -> bool {
        self.changes.iter().all(|change| change.action == Action::Blocked)
    }
}

/// What would happen to the server of `key`, of which `live` is there.
pub fn preview(key: &ServerKey, server: Result<&ValidatedServer, &str>, live: &Live) -> Preview {
    let mut seen = Preview { namespace: key.namespace.clone(), name: key.name.clone(), ..Preview::default() };
    let server = match server {
        Ok(server) => server,
        Err(problem) => {
            seen.invalid = Some(problem.to_owned());
            return seen;
        }
    };
    if server.deleting {
        seen.warnings.push("it is being deleted: only its deletion goes on".to_owned());
        return seen;
    }
    let adapters = served(server, &live.services);
    seen.warnings.extend(warnings(server, Some(&adapters)).iter().map(ToString::to_string));
    seen.warnings.extend(live.missing.iter().chain(&live.classless).cloned());
    for name in &live.secrets_to_make {
        let what = vec!["generated once and kept".to_owned()];
        seen.changes.push(Change { kind: "Secret", name: name.clone(), action: Action::Create, what });
    }
    for name in &live.secrets_to_free {
        let what = vec!["its owner reference is removed: it outlives the server".to_owned()];
        seen.changes.push(Change { kind: "Secret", name: name.clone(), action: Action::Update, what });
    }
    let names = server.names();
    let desired = serde_json::to_value(config_map(server, &render(server))).unwrap_or_default();
    seen.changes.extend(change("ConfigMap", &names.config_map(), live.config_map.as_ref(), &desired, &server.uid));
    preview_stateful_set(server, live, &mut seen);
    preview_services(server, &adapters, live, &mut seen);
    seen
}

/// The adapters that have a Service, as running: what the server itself would say is not asked here.
fn served(server: &ValidatedServer, services: &[Arc<Value>]) -> Vec<ObservedAdapter> {
    let mut types = BTreeSet::new();
    services
        .iter()
        .filter(|service| is_adapter_service(service, &server.uid))
        .filter_map(|service| {
            let adapter_type = service.pointer("/metadata/labels")?.get(ADAPTER_TYPE_LABEL)?.as_str()?.to_owned();
            let name = super::adapter_port_name(&adapter_type);
            let ports = service.pointer("/spec/ports")?.as_array()?;
            let port = ports.iter().find(|port| port.get("name").and_then(Value::as_str) == Some(name.as_str()));
            let port = u16::try_from(port.or_else(|| ports.first())?.get("port")?.as_u64()?).ok()?;
            types.insert(adapter_type.clone()).then_some(ObservedAdapter {
                adapter_type,
                port,
                state: AdapterState::Running,
            })
        })
        .collect()
}

fn preview_stateful_set(server: &ValidatedServer, live: &Live, seen: &mut Preview) {
    let name = server.names().stateful_set();
    let change = |action, what| Change { kind: "StatefulSet", name: name.clone(), action, what };
    let unknown = HashInput::Hash("known when its Secrets are made".to_owned());
    let hash = live.hash.as_ref().filter(|hash| **hash != HashInput::Pending).unwrap_or(&unknown);
    // Adapter ports are left out: whatever they become, they start no pod.
    match plan(Input { server, hash, adapters: None, live: live.stateful_set.as_ref(), orphan: None }) {
        Plan::Nothing { .. } => {}
        Plan::Wait(what) => seen.changes.push(change(Action::Blocked, vec![format!("it waits for {what}")])),
        Plan::NotOwned => {
            seen.changes.push(change(Action::Blocked, vec!["it belongs to somebody else".to_owned()]));
        }
        Plan::StorageChanged(why) => seen.changes.push(change(Action::Blocked, vec![why])),
        Plan::BeingDeleted => seen.changes.push(change(Action::Blocked, vec!["it is being deleted".to_owned()])),
        Plan::Create(_) => seen.changes.push(change(Action::Create, vec![])),
        Plan::Replace { object, rolls, .. } => {
            let before = live.stateful_set.clone().unwrap_or_default();
            let what = told(&before, &object);
            if rolls {
                seen.restart = true;
                seen.because =
                    what.iter().filter(|line| line.starts_with("spec.template")).map(|line| explained(line)).collect();
            }
            seen.changes.push(change(Action::Update, what));
        }
    }
}

/// A hash says nothing to a person: what it stands for does.
fn explained(line: &str) -> String {
    if line.contains(CONFIG_HASH_ANNOTATION) {
        format!("{line} (its config, its Secrets or its spec changed, or another operator computed it)")
    } else {
        line.to_owned()
    }
}

fn preview_services(server: &ValidatedServer, adapters: &[ObservedAdapter], live: &Live, seen: &mut Preview) {
    let adopted = live.stateful_set.as_ref().is_some_and(|set| owned_by(set, &server.uid) && is_adopted(set));
    let plan = plan_services(server, Some(adapters), None, &live.services, adopted);
    for ensure in &plan.ensure {
        let present = live.services.iter().find(|service| meta(service, "name") == ensure.name);
        let present = present.map(AsRef::as_ref);
        if let Some(mut made) = change("Service", &ensure.name, present, &ensure.desired, &server.uid) {
            if made.action == Action::Create {
                let kind = ensure.desired.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP");
                made.what = vec![format!("type {kind}{}", if kind == "LoadBalancer" { ": a new address" } else { "" })];
            }
            seen.changes.push(made);
        }
    }
    for remove in &plan.remove {
        seen.changes.push(Change {
            kind: "Service",
            name: remove.name.clone(),
            action: Action::Delete,
            what: vec![remove.why.to_owned()],
        });
    }
}

/// The differences; where nothing but our own bookkeeping differs, that.
fn told(before: &Value, after: &Value) -> Vec<String> {
    let what = differences(before, after);
    if what.is_empty() { vec!["taken over: only our own annotation is added".to_owned()] } else { what }
}

fn change(kind: &'static str, name: &str, live: Option<&Value>, desired: &Value, uid: &str) -> Option<Change> {
    let made = |action, what| Some(Change { kind, name: name.to_owned(), action, what });
    match decide(live, desired, uid) {
        Decision::Nothing => None,
        Decision::Create(_) => made(Action::Create, vec![]),
        Decision::Replace(next, _) => made(Action::Update, told(live.unwrap_or(&Value::Null), &next)),
        Decision::NotOwned => made(Action::Blocked, vec!["it belongs to somebody else".to_owned()]),
        Decision::BeingDeleted => made(Action::Blocked, vec!["it is being deleted".to_owned()]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::adapter_service;
    use crate::build::{AdapterPort, api_service, headless_service};
    use crate::fixtures::server;

    fn key() -> ServerKey {
        ServerKey::new("default", "files")
    }

    fn stored(kind: &str, desired: impl Serialize, server: &ValidatedServer) -> Value {
        let mut desired = serde_json::to_value(desired).unwrap();
        desired["kind"] = json!(kind);
        let Decision::Create(mut made) = decide(None, &desired, &server.uid) else { panic!("no creation") };
        made["metadata"]["uid"] = json!("u");
        made
    }

    /// All that our operator makes, at rest, with one adapter.
    fn at_rest(server: &ValidatedServer) -> Live {
        let hash = HashInput::Hash("one".into());
        let input = Input { server, hash: &hash, adapters: None, live: None, orphan: None };
        let Plan::Create(set) = plan(input) else { panic!("no creation") };
        let nfs = AdapterPort { adapter_type: "nfs".into(), port: 12049 };
        let services = [headless_service(server), api_service(server), adapter_service(server, &nfs)];
        Live {
            stateful_set: Some(*set),
            config_map: Some(stored("ConfigMap", config_map(server, &render(server)), server)),
            services: services.into_iter().map(|service| Arc::new(stored("Service", service, server))).collect(),
            hash: Some(hash),
            ..Live::default()
        }
    }

    fn quiet_server() -> ValidatedServer {
        server("files").with(|server| server.file_service_enabled = false).build()
    }

    #[test]
    fn a_server_at_rest_would_not_be_changed() {
        let server = quiet_server();
        let seen = preview(&key(), Ok(&server), &at_rest(&server));
        assert_eq!(seen.changes, []);
        assert!(seen.is_quiet() && !seen.restart);
    }

    #[test]
    fn a_new_hash_restarts_and_says_why_and_a_stopped_server_is_not_restarted() {
        let server = quiet_server();
        let mut live = at_rest(&server);
        live.hash = Some(HashInput::Hash("two".into()));
        let seen = preview(&key(), Ok(&server), &live);
        assert!(!seen.restart, "no pod runs");
        live.stateful_set.as_mut().unwrap()["status"] = json!({"replicas": 1});
        let seen = preview(&key(), Ok(&server), &live);
        assert!(seen.restart && !seen.is_quiet());
        assert_eq!(seen.because.len(), 1);
        assert!(seen.because[0].contains(CONFIG_HASH_ANNOTATION), "{:?}", seen.because);
    }

    #[test]
    fn a_new_address_a_foreign_object_and_a_port_that_goes_are_told() {
        let server = server("files").build();
        let mut live = at_rest(&server);
        let nfs = Arc::make_mut(&mut live.services[2]);
        nfs["spec"]["ports"].as_array_mut().unwrap().push(json!({"name": "mdns", "port": 5353, "protocol": "UDP"}));
        Arc::make_mut(&mut live.services[1])["metadata"]["ownerReferences"] = json!([]);
        let seen = preview(&key(), Ok(&server), &live);
        let of = |name: &str| seen.changes.iter().find(|change| change.name == name).unwrap();
        assert_eq!(of("files-file").what, ["type LoadBalancer: a new address"]);
        assert_eq!(of("files-api").action, Action::Blocked);
        assert!(of("files-adapter-nfs").what.iter().any(|what| what.contains("mdns")));
    }

    #[test]
    fn what_is_missing_is_told_and_holds_and_an_invalid_spec_changes_nothing() {
        let server = quiet_server();
        let mut live = at_rest(&server);
        live.stateful_set.as_mut().unwrap()["status"] = json!({"replicas": 1});
        live.hash = Some(HashInput::Held);
        live.missing = vec!["Secret pg does not exist".into()];
        live.classless = vec!["there is no StorageClass fast".into()];
        let seen = preview(&key(), Ok(&server), &live);
        assert!(seen.is_quiet() && !seen.restart);
        assert!(seen.warnings.contains(&"there is no StorageClass fast".to_owned()));
        assert!(seen.warnings.contains(&"Secret pg does not exist".to_owned()));

        live.hash = Some(HashInput::Pending);
        live.secrets_to_make = vec!["files-jwt-secret".into()];
        let seen = preview(&key(), Ok(&server), &live);
        assert!(seen.restart, "a Secret that is made anew restarts the server");
        assert!(seen.changes.iter().any(|change| change.kind == "Secret" && change.action == Action::Create));

        let seen = preview(&key(), Err("spec.ports.nfs is 0"), &live);
        assert_eq!(seen.invalid.as_deref(), Some("spec.ports.nfs is 0"));
        assert!(seen.is_quiet());
    }
}
