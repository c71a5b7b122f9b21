//! Synthetic runs, for trying the checker.

use super::{GROUP, Promise, judge};
use crate::audit::entry::{Entry, Micros, ObjectRef};
use crate::audit::{Expect, Facts};
use serde_json::{Value, json};

pub(super) const OPERATOR: &str = "system:serviceaccount:n:operator";

pub(super) struct Run {
    pub(super) facts: Facts,
}

pub(super) struct Built<'r>(&'r mut Entry);

/// The promises that the checker found broken.
pub(super) fn judged(run: &Run) -> Vec<Promise> {
    judge(&run.facts).into_iter().map(|broken| broken.promise).collect()
}

impl Run {
    /// With a DittoServer `files` (uid `uid-files`, generation 1, version 1) in namespace `n`, made by its user.
    pub(super) fn new() -> Self {
        let expect = Expect { allowed_namespaces: vec!["n".to_owned()], ..Expect::default() };
        let facts = Facts { user: OPERATOR.to_owned(), starts: vec![Micros(0)], expect, ..Facts::default() };
        let mut run = Self { facts };
        let server = Self::server_object();
        run.add("admin", "create", GROUP, "dittoservers", "files").response(server).at(0);
        run
    }

    pub(super) fn server_object() -> Value {
        json!({
            "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer",
            "metadata": {"name": "files", "namespace": "n", "uid": "uid-files", "resourceVersion": "1", "generation": 1},
            "spec": {"identity": {"admin": {"passwordSecretRef": {"name": "my-admin"}}},
                     "adapterDiscovery": {"stopGracePeriod": "35s"}},
        })
    }

    fn add(&mut self, user: &str, verb: &str, group: &str, resource: &str, name: &str) -> Built<'_> {
        let object = ObjectRef {
            api_group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            ..ObjectRef::default()
        };
        let id = self.facts.entries.len().to_string();
        self.facts.entries.push(Entry {
            id,
            user: user.to_owned(),
            verb: verb.to_owned(),
            object,
            code: 200,
            ..Entry::default()
        });
        Built(self.facts.entries.last_mut().unwrap())
    }

    pub(super) fn ours(&mut self, verb: &str, resource: &str, name: &str) -> Built<'_> {
        self.add(OPERATOR, verb, "", resource, name)
    }

    pub(super) fn ours_server(&mut self, verb: &str, subresource: &str) -> Built<'_> {
        let built = self.add(OPERATOR, verb, GROUP, "dittoservers", "files");
        subresource.clone_into(&mut built.0.object.subresource);
        built
    }

    pub(super) fn user_server(&mut self, change: impl FnOnce(&mut Value)) -> Built<'_> {
        let mut server = Self::server_object();
        change(&mut server);
        self.add("admin", "update", GROUP, "dittoservers", "files").response(server)
    }

    pub(super) fn user_secret(&mut self, name: &str) -> Built<'_> {
        self.add("admin", "update", "", "secrets", name)
    }

    /// A write of the status: version, and the status.
    pub(super) fn status(&mut self, version: u64, status: Value) -> Built<'_> {
        let mut server = self
            .facts
            .entries
            .iter()
            .rev()
            .find(|entry| entry.object.resource == "dittoservers")
            .map_or_else(Self::server_object, |entry| entry.response.clone());
        let mut request = server.clone();
        request["status"] = status;
        server = request.clone();
        server["metadata"]["resourceVersion"] = json!(version.to_string());
        self.ours_server("update", "status").request(request).response(server)
    }

    pub(super) fn owned_service(&mut self, name: &str, version: u64) -> Built<'_> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"),
                "resourceVersion": version.to_string(), "ownerReferences": owner(),
                "labels": {"dittofs.io/adapter-service": "true", "dittofs.io/adapter-type": "nfs"}},
        });
        self.ours("create", "services", name).response(service)
    }

    /// A write of the StatefulSet by a user: the object as `change` leaves it.
    pub(super) fn stateful_set(&mut self, user: &str, version: u64, change: impl FnOnce(&mut Value)) -> Built<'_> {
        let mut set = self
            .facts
            .entries
            .iter()
            .rev()
            .find(|entry| entry.object.resource == "statefulsets")
            .map_or_else(stateful_set, |entry| entry.response.clone());
        let known = set["metadata"]["resourceVersion"].is_string();
        set["metadata"]["resourceVersion"] = json!(version.to_string());
        change(&mut set);
        let verb = if known { "update" } else { "create" };
        self.add(user, verb, "apps", "statefulsets", "files").response(set)
    }

    pub(super) fn last_object(&self) -> Value {
        self.facts.entries.last().unwrap().response.clone()
    }

    pub(super) fn drop_last(&mut self) {
        self.facts.entries.pop();
    }
}

fn owner() -> Value {
    json!([{"apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer", "name": "files", "uid": "uid-files",
            "controller": true}])
}

fn stateful_set() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "files", "namespace": "n", "uid": "uid-sts", "ownerReferences": owner(), "generation": 1},
        "spec": {"replicas": 1, "updateStrategy": {"rollingUpdate": {"partition": 0}}, "template": {
            "metadata": {"annotations": {"dittofs.io/config-hash": "one"}},
            "spec": {"containers": [{"name": "dittofs", "image": "i", "ports": [
                {"name": "api", "containerPort": 8080}, {"name": "adapter-nfs", "containerPort": 12049}]}]},
        }},
        "status": {"replicas": 1, "readyReplicas": 1, "observedGeneration": 1},
    })
}

impl Built<'_> {
    fn set(self, change: impl FnOnce(&mut Entry)) -> Self {
        change(self.0);
        self
    }

    /// Received at so many milliseconds.
    pub(super) fn at(self, millis: i64) -> Self {
        self.set(|entry| {
            let took = entry.finished.0 - entry.received.0;
            entry.received = Micros(millis * 1000);
            entry.finished = entry.received.plus(took.max(1000));
        })
    }

    pub(super) fn took(self, millis: i64) -> Self {
        self.set(|entry| entry.finished = entry.received.plus(millis * 1000))
    }

    pub(super) fn namespace(self, namespace: &str) -> Self {
        self.set(|entry| namespace.clone_into(&mut entry.object.namespace))
    }

    pub(super) fn uri(self, uri: &str) -> Self {
        self.set(|entry| uri.clone_into(&mut entry.uri))
    }

    pub(super) fn code(self, code: u16) -> Self {
        self.set(|entry| entry.code = code)
    }

    pub(super) fn request(self, body: Value) -> Self {
        self.set(|entry| entry.request = body)
    }

    pub(super) fn response(self, body: Value) -> Self {
        self.set(|entry| entry.response = body)
    }
}
