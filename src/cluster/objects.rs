//! The verbs on single objects, as JSON: what the operator sends.
//!
//! Owns: which request each verb is, and what its answer means. Touches: the one object that is named. Guarantees: one
//! request for each call, never a second; writes carry our field manager; a delete and a patch carry the uid of the
//! object that is meant, so that one deleted and made again under the same name is left alone.

mod list;
mod send;

use std::sync::Arc;

use http::Method;
use kube::Client;
use serde_json::{Value, json};

use self::send::{JSON, JSON_PATCH, MERGE_PATCH, Verb};
use super::error::{KubeError, Operation};
use super::kind::Kind;
use super::leaving::Leaving;
use crate::build::MANAGED_BY;
use crate::reconcile::{ServerKey, meta};
use crate::telemetry::metrics::Metrics;

/// `fieldManager` of every write.
pub const FIELD_MANAGER: &str = MANAGED_BY;

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The object is gone, or marked as being deleted and waits for its finalizers.
    Done,
    /// There was no object of that name.
    AlreadyGone,
    /// The object of that name has another uid: it is someone else's, and was left alone.
    OtherObject,
}

/// The API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Host and port of the API server, for spans.
    server: Option<(Arc<str>, u16)>,
    metrics: Option<Metrics>,
    leaving: Leaving,
}

impl Cluster {
    /// Over a client from [`connect`](super::connect) or [`client_over`](super::client_over), which have deadlines.
    pub fn new(client: Client) -> Self {
        Self { client, server: None, metrics: None, leaving: Leaving::default() }
    }

    /// The same, counting its requests in `metrics`.
    #[must_use]
    pub fn counted(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// What it knows of namespaces that are being deleted.
    pub fn leaving(&self) -> Leaving {
        self.leaving.clone()
    }

    /// The same at `server`, which spans name.
    #[must_use]
    pub fn at(mut self, server: &http::Uri) -> Self {
        let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
        self.server = server.host().map(|host| (host.into(), port));
        self
    }

    /// The object as the API server has it now; `None` when there is none. A kind whose CustomResourceDefinition is not
    /// installed is an error ([`KubeError::is_unserved`]).
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>, KubeError> {
        let request = Verb { operation: Operation::Get, kind, namespace, name };
        match self.send(&request, Method::GET, JSON, None).await {
            Ok(answer) => request.parse(&answer).map(Some),
            Err(error) if error.is_not_found() && !error.is_unserved() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates `object`, whose `metadata.name` names it, and returns it as stored.
    pub async fn create(&self, kind: Kind, namespace: &str, object: &Value) -> Result<Value, KubeError> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let request = Verb { operation: Operation::Create, kind, namespace, name };
        let answer = self.send(&request, Method::POST, JSON, Some(object)).await?;
        request.parse(&answer)
    }

    /// Replaces the object by `object`, which carries the `resourceVersion` that it was read at: when the stored one
    /// is newer, the answer is a conflict. Returns the object as stored.
    pub async fn replace(&self, kind: Kind, namespace: &str, name: &str, object: &Value) -> Result<Value, KubeError> {
        let request = Verb { operation: Operation::Replace, kind, namespace, name };
        if crate::fault::on("second-writer") {
            let write = || self.send(&request, Method::PUT, JSON, Some(object));
            let (first, second) = futures::future::join(write(), write()).await;
            return request.parse(&first.or(second)?);
        }
        let answer = self.send(&request, Method::PUT, JSON, Some(object)).await?;
        request.parse(&answer)
    }

    /// Deletes the object when it still has this `uid`; what it owns goes in the background.
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str, uid: &str) -> Result<Deletion, KubeError> {
        let request = Verb { operation: Operation::Delete, kind, namespace, name };
        let mut options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        });
        if crate::fault::on("delete-without-uid") {
            options["preconditions"] = Value::Null;
        }
        match self.send(&request, Method::DELETE, JSON, Some(&options)).await {
            Ok(_) => Ok(Deletion::Done),
            Err(error) if error.is_not_found() => Ok(Deletion::AlreadyGone),
            // The uid is the only precondition that we send.
            Err(error) if error.is_conflict() => Ok(Deletion::OtherObject),
            Err(error) => Err(error),
        }
    }

    /// Merges `status` into `.status` of the DittoServer that has this `uid` (a key that shall go is given as
    /// `null`), and returns the object as stored. Another object of that name gives a conflict.
    pub async fn patch_status(&self, key: &ServerKey, uid: &str, status: &Value) -> Result<Value, KubeError> {
        let request = Verb::on_server(Operation::PatchStatus, key);
        let patch = json!({"metadata": {"uid": uid}, "status": status});
        let answer = self.send(&request, Method::PATCH, MERGE_PATCH, Some(&patch)).await?;
        request.parse(&answer)
    }

    /// Adds `finalizer` to the DittoServer that has this `uid` and this `version` and whose finalizers are `current`, as
    /// the last one, and returns the object as stored; a conflict when it is another object, or a newer version of it.
    pub async fn add_finalizer(
        &self,
        key: &ServerKey,
        (uid, version): (&str, &str),
        finalizer: &str,
        current: &[String],
    ) -> Result<Value, KubeError> {
        let request = Verb::on_server(Operation::AddFinalizer, key);
        let add = if current.is_empty() {
            json!({"op": "add", "path": "/metadata/finalizers", "value": [finalizer]})
        } else {
            json!({"op": "add", "path": "/metadata/finalizers/-", "value": finalizer})
        };
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            add,
        ]);
        let answer = self.send(&request, Method::PATCH, JSON_PATCH, Some(&patch)).await?;
        request.parse(&answer)
    }

    /// Removes `finalizer` from the DittoServer that has this `uid` and whose finalizers are `current`; a conflict
    /// when it is another object, or the finalizer has moved. Sends nothing when it is not among `current`.
    pub async fn remove_finalizer(
        &self,
        key: &ServerKey,
        uid: &str,
        finalizer: &str,
        current: &[String],
    ) -> Result<(), KubeError> {
        let Some(index) = current.iter().position(|f| f == finalizer) else {
            return Ok(());
        };
        let request = Verb::on_server(Operation::RemoveFinalizer, key);
        let place = format!("/metadata/finalizers/{index}");
        let gone = if crate::fault::on("drop-finalizers") { "/metadata/finalizers" } else { place.as_str() };
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": place, "value": finalizer},
            {"op": "remove", "path": gone},
        ]);
        match self.send(&request, Method::PATCH, JSON_PATCH, Some(&patch)).await {
            Ok(_) => Ok(()),
            // Without its finalizer the object may be gone already.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets the claim that was read as `claim` ask for `size`, and returns it as stored. A conflict when it is another
    /// object of that name by now, or was changed since.
    pub async fn resize_claim(&self, claim: &Value, size: &str) -> Result<Value, KubeError> {
        let (namespace, name) = (meta(claim, "namespace"), meta(claim, "name"));
        let request = Verb { operation: Operation::ResizeClaim, kind: Kind::Claim, namespace, name };
        let patch = json!({
            "metadata": {"uid": meta(claim, "uid"), "resourceVersion": meta(claim, "resourceVersion")},
            "spec": {"resources": {"requests": {"storage": size}}},
        });
        let answer = self.send(&request, Method::PATCH, MERGE_PATCH, Some(&patch)).await?;
        request.parse(&answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::scripted::{Asked, Reply, Server};
    use super::*;

    fn stored(version: &str) -> Value {
        json!({"metadata": {"namespace": "ns", "name": "files", "resourceVersion": version}})
    }

    fn key() -> ServerKey {
        ServerKey::new("ns", "files")
    }

    /// A cluster that answers everything alike.
    fn answering(reply: impl Fn() -> Reply + Send + 'static) -> (Cluster, Server) {
        let server = Server::new(move |_, _| reply());
        (Cluster::new(server.client()), server)
    }

    fn only(server: &Server) -> Asked {
        let asked = server.asked();
        assert_eq!(asked.len(), 1, "and nothing else was sent: {asked:?}");
        asked[0].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn get_returns_the_object_or_none() {
        let (cluster, server) = answering(|| Reply::Json(200, stored("5")));
        assert_eq!(cluster.get(Kind::StatefulSet, "ns", "files").await.expect("found"), Some(stored("5")));
        let asked = only(&server);
        assert_eq!(
            (asked.method, asked.path.as_str()),
            (Method::GET, "/apis/apps/v1/namespaces/ns/statefulsets/files")
        );
        let (cluster, _server) = answering(|| Reply::status(404, "NotFound"));
        assert_eq!(cluster.get(Kind::Secret, "ns", "files").await.expect("no error"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn create_and_replace_send_the_object_as_it_is_under_our_field_manager() {
        let mut object = stored("5");
        object["spec"] = json!({"newer": "than our types"});
        let (cluster, server) = answering(|| Reply::Json(201, stored("6")));
        assert_eq!(cluster.create(Kind::Service, "ns", &object).await.expect("created"), stored("6"));
        let asked = only(&server);
        assert_eq!((asked.method, asked.path.as_str()), (Method::POST, "/api/v1/namespaces/ns/services"));
        assert_eq!((asked.query.as_str(), asked.body), ("fieldManager=dittofs-operator", object.clone()));
        assert_eq!(asked.content_type, "application/json");

        let (cluster, server) = answering(|| Reply::Json(200, stored("7")));
        assert_eq!(cluster.replace(Kind::Service, "ns", "files", &object).await.expect("replaced"), stored("7"));
        let asked = only(&server);
        assert_eq!((asked.method, asked.path.as_str()), (Method::PUT, "/api/v1/namespaces/ns/services/files"));
        assert_eq!((asked.query.as_str(), asked.body), ("fieldManager=dittofs-operator", object));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replace_of_an_old_version_is_a_conflict() {
        let (cluster, server) = answering(|| Reply::status(409, "Conflict"));
        let error = cluster.replace(Kind::StatefulSet, "ns", "files", &stored("5")).await.expect_err("stale");
        assert!(error.is_conflict());
        only(&server);
    }

    #[tokio::test(start_paused = true)]
    async fn delete_carries_the_uid() {
        for (code, reason, outcome) in [
            (200, "", Deletion::Done),
            (202, "", Deletion::Done),
            (404, "NotFound", Deletion::AlreadyGone),
            (409, "Conflict", Deletion::OtherObject),
        ] {
            let (cluster, server) = answering(move || Reply::status(code, reason));
            assert_eq!(cluster.delete(Kind::Service, "ns", "files", "uid-1").await.expect("an outcome"), outcome);
            let asked = only(&server);
            assert_eq!((asked.method, asked.path.as_str()), (Method::DELETE, "/api/v1/namespaces/ns/services/files"));
            assert_eq!(asked.body["preconditions"], json!({"uid": "uid-1"}));
            assert_eq!(asked.body["propagationPolicy"], "Background");
        }
        let (cluster, _server) = answering(|| Reply::status(403, "Forbidden"));
        assert!(cluster.delete(Kind::Service, "ns", "files", "uid-1").await.expect_err("refused").is_forbidden());
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_patch_carries_the_uid() {
        let (cluster, server) = answering(|| Reply::Json(200, stored("6")));
        cluster.patch_status(&key(), "uid-1", &json!({"phase": "Running"})).await.expect("patched");
        let asked = only(&server);
        assert_eq!(asked.method, Method::PATCH);
        assert_eq!(asked.path, "/apis/dittofs.dittofs.com/v1alpha1/namespaces/ns/dittoservers/files/status");
        assert_eq!(asked.query, "fieldManager=dittofs-operator");
        assert_eq!(asked.content_type, "application/merge-patch+json");
        assert_eq!(asked.body, json!({"metadata": {"uid": "uid-1"}, "status": {"phase": "Running"}}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_finalizer_is_added_only_to_the_version_that_was_seen_and_beside_the_others() {
        let tests = [
            json!({"op": "test", "path": "/metadata/uid", "value": "uid-1"}),
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": "5"}),
        ];
        for (current, add) in [
            (vec![], json!({"op": "add", "path": "/metadata/finalizers", "value": ["c/d"]})),
            (vec!["a/b".to_owned()], json!({"op": "add", "path": "/metadata/finalizers/-", "value": "c/d"})),
        ] {
            let (cluster, server) = answering(|| Reply::Json(200, stored("6")));
            let made = cluster.add_finalizer(&key(), ("uid-1", "5"), "c/d", &current).await.expect("added");
            assert_eq!(made["metadata"]["resourceVersion"], "6");
            let asked = only(&server);
            assert_eq!((asked.method, asked.content_type.as_str()), (Method::PATCH, "application/json-patch+json"));
            assert_eq!(asked.path, "/apis/dittofs.dittofs.com/v1alpha1/namespaces/ns/dittoservers/files");
            assert_eq!(asked.body, json!([tests[0], tests[1], add]));
        }
        let (cluster, _server) = answering(|| Reply::status(422, "Invalid"));
        assert!(cluster.add_finalizer(&key(), ("uid-1", "5"), "c/d", &[]).await.expect_err("moved").is_conflict());
    }

    #[tokio::test(start_paused = true)]
    async fn a_finalizer_is_removed_only_where_and_from_whom_it_was_seen() {
        let current = ["a/b".to_owned(), "c/d".to_owned()];
        let (cluster, server) = answering(|| Reply::Json(200, stored("6")));
        cluster.remove_finalizer(&key(), "uid-1", "c/d", &current).await.expect("removed");
        cluster.remove_finalizer(&key(), "uid-1", "x/y", &current).await.expect("nothing to do");
        let asked = only(&server);
        assert_eq!(asked.path, "/apis/dittofs.dittofs.com/v1alpha1/namespaces/ns/dittoservers/files");
        assert_eq!(asked.content_type, "application/json-patch+json");
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
            {"op": "test", "path": "/metadata/finalizers/1", "value": "c/d"},
            {"op": "remove", "path": "/metadata/finalizers/1"},
        ]);
        assert_eq!(asked.body, patch);

        let (cluster, _server) = answering(|| Reply::status(422, "Invalid"));
        assert!(cluster.remove_finalizer(&key(), "uid-1", "c/d", &current).await.expect_err("moved").is_conflict());
        let (cluster, _server) = answering(|| Reply::status(404, "NotFound"));
        cluster.remove_finalizer(&key(), "uid-1", "c/d", &current).await.expect("gone is as good");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_ends_after_its_deadline() {
        for reply in [|| Reply::Hang, || Reply::HalfThenHang("{\"metadata\": {")] {
            let (cluster, server) = answering(reply);
            let start = Instant::now();
            let error = cluster.create(Kind::Secret, "ns", &stored("5")).await.expect_err("no answer");
            assert_eq!(start.elapsed(), Duration::from_secs(10));
            assert!(error.is_timeout() && error.is_transient());
            assert_eq!(error.to_string(), "cannot create Secret ns/files: no complete answer within 10s");
            only(&server);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_fails_is_named_by_its_cause() {
        let (cluster, server) = answering(|| Reply::Refused);
        let error = cluster.get(Kind::Pod, "ns", "files-0").await.expect_err("refused");
        assert_eq!((error.category(), error.is_transient()), ("unreachable", true));
        assert_eq!(error.to_string(), "cannot get Pod ns/files-0: connection refused");
        only(&server);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_answer_is_an_error_that_quotes_nothing_of_it() {
        for body in ["\"canary-4711\"", "[\"canary-4711\"]", "{\"data\": \"canary-4711", "canary-4711", ""] {
            let (cluster, _server) = answering(move || Reply::Text(200, body.into()));
            let error = cluster.get(Kind::Secret, "ns", "files").await.expect_err("unreadable");
            assert_eq!(error.category(), "malformed");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_no_object_can_have_is_never_sent() {
        let server = Server::new(|_, _| Reply::Unexpected);
        let cluster = Cluster::new(server.client());
        for name in ["", "../../other/secrets/x", "a/b", "a?x"] {
            let error = cluster.get(Kind::Secret, "ns", name).await.expect_err("no name");
            assert!(!error.is_transient() && !error.is_not_found());
            assert_eq!(error.category(), "invalid");
        }
        let error = cluster.create(Kind::Secret, "ns", &json!({"data": {}})).await.expect_err("no name");
        assert!(matches!(error, KubeError::InvalidName { .. }));
        assert_eq!(server.asked().len(), 0);
    }
}
