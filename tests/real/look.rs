//! What the tests of behaviour look at: conditions, events, single objects, and what the operator wrote.

use std::time::Duration;

use dittofs_testbed::audit::{self, Entry};
use dittofs_testbed::cluster::{Resource, resources};
use dittofs_testbed::world::condition;
use serde_json::{Value, json};

use crate::support::Bed;

/// Long enough for what may take a whole backoff of the operator, on a busy machine.
pub(crate) const LATER: Duration = Duration::from_mins(1);

/// Annotation with the config hash of the pod template.
pub(crate) const HASH: &str = "dittofs.io/config-hash";
/// Annotation of a StatefulSet whose template is held back.
pub(crate) const HELD: &str = "dittofs.io/held-template";

/// The uid of an object.
pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// The resourceVersion of an object.
pub(crate) fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// The config hash on a StatefulSet's template.
pub(crate) fn hash(set: &Value) -> &str {
    set["spec"]["template"]["metadata"]["annotations"][HASH].as_str().unwrap_or_default()
}

/// The partition of a StatefulSet's rolling update.
pub(crate) fn partition(set: &Value) -> i64 {
    set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or_default()
}

/// The server's container in a pod or a StatefulSet's template.
pub(crate) fn container(spec: &Value) -> &Value {
    let containers = spec["containers"].as_array().expect("containers");
    containers.iter().find(|container| container["name"] == "dittofs").expect("the server's container")
}

/// The names of the container ports.
pub(crate) fn port_names(container: &Value) -> Vec<String> {
    let ports = container["ports"].as_array().into_iter().flatten();
    let mut names: Vec<String> = ports.filter_map(|port| Some(port["name"].as_str()?.to_owned())).collect();
    names.sort();
    names
}

impl Bed {
    /// An object of the test's namespace that has to be there.
    pub(crate) async fn get(&self, resource: Resource, name: &str) -> Value {
        let found = self.world.namespace().get(resource, name).await.expect("an answer of the API server");
        found.unwrap_or_else(|| panic!("no {} {name}", resource.kind))
    }

    /// A Service that has to be there.
    pub(crate) async fn service(&self, name: &str) -> Value {
        self.get(resources::SERVICES, name).await
    }

    /// The StatefulSet of a server.
    pub(crate) async fn set(&self, name: &str) -> Value {
        self.get(resources::STATEFUL_SETS, name).await
    }

    /// The pod of a server.
    pub(crate) async fn pod(&self, name: &str) -> Value {
        self.get(resources::PODS, &format!("{name}-0")).await
    }

    /// Waits until an object is as `look` wants it.
    pub(crate) async fn wait_object(
        &self,
        resource: Resource,
        name: &str,
        what: &str,
        mut look: impl FnMut(&Value) -> Result<(), String>,
    ) -> Value {
        self.world
            .wait_until(&format!("{} {name} {what}", resource.kind), LATER, async || {
                let found = self.world.namespace().get(resource, name).await.map_err(|error| error.to_string())?;
                let found = found.ok_or("there is none")?;
                look(&found).map(|()| found)
            })
            .await
            .expect("the object becomes so")
    }

    /// Waits until there is no object of that name.
    pub(crate) async fn wait_gone(&self, resource: Resource, name: &str) {
        self.world
            .wait_until(&format!("{} {name} to be gone", resource.kind), LATER, async || {
                match self.world.namespace().get(resource, name).await {
                    Ok(None) => Ok(()),
                    Ok(Some(_)) => Err("it is there".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await
            .expect("it goes");
    }

    /// Waits until a condition of a server has this status and reason.
    pub(crate) async fn wait_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Value {
        let what = format!("to have {kind}={status} ({reason})");
        self.world
            .wait_server(name, &what, LATER, |server| {
                let found = condition(server, kind).ok_or("no such condition")?;
                let same = found["status"] == status && found["reason"] == reason;
                if same { Ok(()) } else { Err(found.to_string()) }
            })
            .await
            .expect("the condition comes")
    }

    /// Waits until a condition's message holds a text.
    pub(crate) async fn wait_message(&self, name: &str, kind: &str, status: &str, text: &str) -> Value {
        self.world
            .wait_server(name, &format!("to have {kind}={status} with {text:?}"), LATER, |server| {
                let found = condition(server, kind).ok_or("no such condition")?;
                let same = found["status"] == status && found["message"].as_str().unwrap_or_default().contains(text);
                if same { Ok(()) } else { Err(found.to_string()) }
            })
            .await
            .expect("the condition comes")
    }

    /// Waits for so many further full answers of a server's API to the operator.
    pub(crate) async fn wait_polls(&self, name: &str, more: usize) {
        let answered = |polls: &[dittofs_testbed::dittofs::Record]| {
            polls.iter().filter(|poll| poll.adapters.is_some() && poll.ended.is_some()).count()
        };
        let dittofs = self.dittofs(name);
        let wanted = answered(&dittofs.requests()) + more;
        dittofs.wait_for(|requests| answered(requests) >= wanted, LATER).await.expect("polls go on");
    }

    /// Waits until so many pods were started in the namespace; more are too many.
    pub(crate) async fn wait_starts(&self, wanted: usize) {
        self.world
            .wait_until(&format!("{wanted} pod starts"), LATER, async || {
                let starts = self.world.pod_starts().await.map_err(|error| error.to_string())?;
                assert!(starts <= wanted, "{starts} pods were started, {wanted} are right");
                if starts == wanted { Ok(()) } else { Err(format!("{starts} starts")) }
            })
            .await
            .expect("the pod starts");
    }

    /// The events of a reason in the test's namespace.
    pub(crate) async fn events(&self, reason: &str) -> Vec<Value> {
        let mut events = self.world.namespace().list(resources::EVENTS, "").await.expect("events");
        events.retain(|event| event["reason"] == reason);
        events
    }

    /// Waits for exactly one event of a reason whose text holds `text`, counted once.
    pub(crate) async fn wait_event_once(&self, reason: &str, text: &str) {
        self.world
            .wait_until(&format!("one event {reason} with {text:?}"), LATER, async || {
                let mut events = self.events(reason).await;
                events.retain(|event| event["message"].as_str().unwrap_or_default().contains(text));
                let counted = |event: &Value| event["series"]["count"].as_i64().or(event["count"].as_i64());
                assert!(events.len() <= 1, "{} events {reason} with {text:?}", events.len());
                let count = events.first().and_then(counted).unwrap_or(1);
                assert!(count <= 1, "the event {reason} with {text:?} happened {count} times");
                if events.is_empty() { Err("none".to_owned()) } else { Ok(()) }
            })
            .await
            .expect("the event comes");
    }

    /// Waits for an event of a reason about an object, however often it was repeated.
    pub(crate) async fn wait_event(&self, reason: &str, text: &str) {
        self.world
            .wait_until(&format!("an event {reason} with {text:?}"), LATER, async || {
                let events = self.events(reason).await;
                let found = events.iter().any(|event| event["message"].as_str().unwrap_or_default().contains(text));
                if found { Ok(()) } else { Err(format!("{} events {reason}", events.len())) }
            })
            .await
            .expect("the event comes");
    }

    /// The requests of the operator so far.
    pub(crate) fn history(&self) -> Vec<Entry> {
        let user = self.world.operator().user();
        let entries = audit::read(self.world.cluster().audit_log()).expect("the audit log");
        entries.into_iter().filter(|entry| entry.user == user).collect()
    }

    /// The operator's writes to objects of a kind (plural), events and status aside.
    pub(crate) fn writes(&self, plural: &str) -> Vec<Entry> {
        let mut history = self.history();
        history
            .retain(|entry| entry.is_write() && entry.object.resource == plural && entry.object.subresource.is_empty());
        history
    }

    /// Changes fields of a server's spec.
    pub(crate) async fn patch_spec(&self, name: &str, change: &Value) -> Value {
        self.world.apply_server(name, change).await.expect("the change is accepted")
    }

    /// Writes metadata of an object, as somebody else.
    pub(crate) async fn patch_meta(&self, resource: Resource, name: &str, change: &Value) -> Value {
        let change = json!({"metadata": change});
        self.world.namespace().patch(resource, name, &change).await.expect("the change is accepted")
    }

    /// Changes an object as somebody else does: read, changed, replaced, and again when somebody was faster.
    pub(crate) async fn edit(&self, resource: Resource, name: &str, change: impl Fn(&mut Value)) -> Value {
        let namespace = self.world.namespace();
        self.world
            .wait_until(&format!("{name} to be edited"), LATER, async || {
                let mut object = self.get(resource, name).await;
                change(&mut object);
                let replaced = namespace.cluster().replace(resource, namespace.name(), &object).await;
                match replaced {
                    Err(error) if error.code() == 409 => Err(error.to_string()),
                    other => Ok(other.expect("the edit is accepted")),
                }
            })
            .await
            .expect("the edit")
    }

    /// Deletes a server and waits until it is gone.
    pub(crate) async fn delete_server(&self, name: &str) {
        self.world.namespace().delete(resources::SERVERS, name).await.expect("the deletion is accepted");
        self.wait_gone(resources::SERVERS, name).await;
    }
}
