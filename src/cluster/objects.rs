//! The verbs on single objects, as JSON.
//!
//! Owns: how a request is built and an answer read. Touches: the one object that is named. Guarantees: one request
//! for each call, never a second; writes carry our field manager; a delete and a patch carry the uid of the object
//! that is meant, so that one deleted and made again under the same name is left alone; a body reaches neither log
//! nor error. (kube's own typed calls log a body that they cannot parse: a Secret's too.)

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::de::Error as _;
use serde_json::{Value, json};

use super::error::{Call, KubeError, Operation};
use super::kind::Kind;
use crate::reconcile::ServerKey;

/// `fieldManager` of every write.
pub const FIELD_MANAGER: &str = "dittofs-operator";

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

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
}

impl Cluster {
    /// Over a client from [`connect`](super::connect) or [`client_over`](super::client_over), which have deadlines.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The object as the API server has it now; `None` when there is none.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>, KubeError> {
        let request = Verb { operation: Operation::Get, kind, namespace, name };
        match self.send(&request, Method::GET, JSON, None).await {
            Ok(answer) => request.parse(&answer).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
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
        let answer = self.send(&request, Method::PUT, JSON, Some(object)).await?;
        request.parse(&answer)
    }

    /// Deletes the object when it still has this `uid`; what it owns goes in the background.
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str, uid: &str) -> Result<Deletion, KubeError> {
        let request = Verb { operation: Operation::Delete, kind, namespace, name };
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        });
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
        let path = format!("/metadata/finalizers/{index}");
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "test", "path": path, "value": finalizer},
            {"op": "remove", "path": path},
        ]);
        match self.send(&request, Method::PATCH, JSON_PATCH, Some(&patch)).await {
            Ok(_) => Ok(()),
            // Without its finalizer the object may be gone already.
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends one request and returns the body of its answer, if that says success.
    async fn send(
        &self,
        verb: &Verb<'_>,
        method: Method,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, KubeError> {
        let uri = verb.uri().ok_or_else(|| KubeError::InvalidName { call: Box::new(verb.call()) })?;
        let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, JSON)
            .header(header::CONTENT_TYPE, content)
            .body(Body::from(bytes))
            .map_err(|e| KubeError::unanswered(verb.call(), kube::Error::HttpError(e)))?;
        let answer = self.client.send(request).await.map_err(|e| KubeError::unanswered(verb.call(), e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| KubeError::unanswered(verb.call(), e))?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(KubeError::refused(verb.call(), status.as_u16(), &body)) }
    }
}

/// A call on its way.
struct Verb<'a> {
    operation: Operation,
    kind: Kind,
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Verb<'a> {
    fn on_server(operation: Operation, key: &'a ServerKey) -> Self {
        Self { operation, kind: Kind::DittoServer, namespace: &key.namespace, name: &key.name }
    }

    fn call(&self) -> Call {
        Call {
            operation: self.operation,
            kind: self.kind,
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
        }
    }

    fn uri(&self) -> Option<String> {
        let object = self.kind.object_path(self.namespace, self.name)?;
        Some(match self.operation {
            Operation::Get | Operation::Delete => object,
            Operation::Create => {
                format!("{}?fieldManager={FIELD_MANAGER}", self.kind.collection_path(self.namespace)?)
            }
            Operation::Replace | Operation::RemoveFinalizer => format!("{object}?fieldManager={FIELD_MANAGER}"),
            Operation::PatchStatus => format!("{object}/status?fieldManager={FIELD_MANAGER}"),
        })
    }

    fn parse(&self, body: &[u8]) -> Result<Value, KubeError> {
        // Parsed as any JSON first: an error of the parser about a wanted type would quote what it found.
        serde_json::from_slice::<Value>(body)
            .and_then(|v| if v.is_object() { Ok(v) } else { Err(serde_json::Error::custom("not an object")) })
            .map_err(|source| KubeError::Malformed { call: Box::new(self.call()), source })
    }
}
