//! What a reconcile would do to one server, without doing it: the pure half of `dittofs-operator check`.
//!
//! Asks the same functions that decide in earnest (`plan`, `plan_services`, `plan_network_policies`,
//! `plan_service_monitor`, `plan_cluster`, `standing`, `decide`), so that the preview cannot say one thing and the
//! operator do another. Touches nothing. What only the running server could tell is not known here: adapters are taken to
//! be those that have a Service.

mod database;
mod published;
mod volumes;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::object::{Decision, decide, owned_by};
use super::percona::Leaver;
use super::stateful_set::HashInput;
use super::{ServerKey, ValidatedServer, differences, operator_kept_out, warnings};
use crate::build::{config_map, render};
use crate::crd::FINALIZER;
use crate::crd::annotations::PAUSED;

/// What is there for one server, as read from the API server.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Whether the server lacks our finalizer.
    pub lacks_finalizer: bool,
    /// Whether the server is paused.
    pub paused: bool,
    /// The StatefulSet of its name.
    pub stateful_set: Option<Value>,
    /// The ConfigMap of its name.
    pub config_map: Option<Value>,
    /// Services with a controller reference to it, and whatever else bears one of its names.
    pub services: Vec<Arc<Value>>,
    /// The same of NetworkPolicies.
    pub network_policies: Vec<Arc<Value>>,
    /// The same of ServiceMonitors; None when the API server does not serve the kind.
    pub service_monitors: Option<Vec<Arc<Value>>>,
    /// The PostgreSQL cluster of Percona's operator, looked for when the server has one, or had.
    pub database: LiveDatabase,
    /// The server, when it had such a cluster and has no use for it any more.
    pub leaver: Option<Leaver>,
    /// The claims of its names.
    pub claims: Vec<Value>,
    /// By name, the StorageClasses of these claims: None for one that is not there. One that must not be read is not
    /// among them.
    pub classes: BTreeMap<String, Option<Value>>,
    /// The namespace in which the operator runs.
    pub operator_namespace: Option<String>,
    /// Names of the Secrets that the operator would generate and that are not there.
    pub secrets_to_make: Vec<String>,
    /// Names of the generated Secrets that still have an owner reference to the server.
    pub secrets_to_free: Vec<String>,
    /// The Secret of the operator's own account, without its data.
    pub credentials: Option<Value>,
    /// The config hash; `Held` when a Secret of the user is missing, `Pending` when one is still to be generated.
    pub hash: Option<HashInput>,
    /// What is missing, in words, when the hash is held.
    pub missing: Vec<String>,
    /// StorageClasses that its volumes wait for and that are missing, or cannot be looked for, in words.
    pub classless: Vec<String>,
}

/// What is there of a PostgreSQL cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LiveDatabase {
    /// The API server does not serve the kind.
    #[default]
    Unserved,
    /// None.
    Absent,
    /// This.
    There(Box<Value>),
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

    fn add(&mut self, kind: &'static str, name: &str, action: Action, what: Vec<String>) {
        self.changes.push(Change { kind, name: name.to_owned(), action, what });
    }

    /// Adds what `decide` would have done to one object.
    fn decided(&mut self, kind: &'static str, name: &str, live: Option<&Value>, desired: &Value, uid: &str) {
        match decide(live, desired, uid) {
            Decision::Nothing => {}
            Decision::Create(_) => self.add(kind, name, Action::Create, vec![]),
            Decision::Replace(next, _) => {
                self.add(kind, name, Action::Update, told(live.unwrap_or(&Value::Null), &next));
            }
            Decision::NotOwned => self.add(kind, name, Action::Blocked, vec![FOREIGN.to_owned()]),
            Decision::BeingDeleted => self.add(kind, name, Action::Blocked, vec![GOING.to_owned()]),
        }
    }
}

/// Why nothing would be done to an object of somebody else.
const FOREIGN: &str = "it belongs to somebody else; rename or remove it";
/// Why nothing would be done to an object that is on its way out.
const GOING: &str = "it is being deleted; it is made again when it is gone";

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
    if live.paused {
        seen.warnings.push(format!("{PAUSED} is \"true\": nothing of this is done until that is taken out"));
    }
    let adapters = published::served(server, &live.services);
    let doubtful = warnings(server, Some(&adapters)).into_iter();
    let doubtful = doubtful.chain(operator_kept_out(server, live.operator_namespace.as_deref()));
    seen.warnings.extend(doubtful.map(|warning| warning.to_string()));
    seen.warnings.extend(live.missing.iter().chain(&live.classless).cloned());
    if live.lacks_finalizer {
        seen.add("DittoServer", &key.name, Action::Update, vec![format!("the finalizer {FINALIZER} is added")]);
    }
    secrets(server, live, &mut seen);
    let desired = serde_json::to_value(config_map(server, &render(server))).unwrap_or_default();
    seen.decided("ConfigMap", &server.names().config_map(), live.config_map.as_ref(), &desired, &server.uid);
    let waits = database::preview(server, live, &mut seen);
    workload::preview(server, live, waits, &mut seen);
    volumes::preview(server, live, &mut seen);
    published::preview(server, &adapters, live, &mut seen);
    seen
}

fn secrets(server: &ValidatedServer, live: &Live, seen: &mut Preview) {
    for name in &live.secrets_to_make {
        seen.add("Secret", name, Action::Create, vec!["generated once and kept".to_owned()]);
    }
    for name in &live.secrets_to_free {
        let what = "its owner reference is removed: it outlives the server".to_owned();
        seen.add("Secret", name, Action::Update, vec![what]);
    }
    let name = server.names().credentials_secret();
    match &live.credentials {
        // A stopped server is not talked to.
        None if server.replicas > 0 => {
            let what = "the operator's own account at the server, made when the server runs".to_owned();
            seen.add("Secret", &name, Action::Create, vec![what]);
        }
        Some(secret) if !owned_by(secret, &server.uid) => {
            seen.add("Secret", &name, Action::Blocked, vec![FOREIGN.to_owned()]);
        }
        _ => {}
    }
}

/// The differences; where nothing but our own bookkeeping differs, that.
fn told(before: &Value, after: &Value) -> Vec<String> {
    let what = differences(before, after);
    if what.is_empty() { vec!["taken over: only our own annotation is added".to_owned()] } else { what }
}

#[cfg(test)]
mod tests;
