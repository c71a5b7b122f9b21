//! How one request is sent: its path, its span, its count, its answer.
//!
//! Guarantees: one request for each call; a write of a paused server is not sent, nor each create in a
//! namespace that is being deleted; a body reaches neither log nor error.
//! (kube's own typed calls log a body that they cannot parse: a Secret's too.)

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::de::Error as _;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::{Cluster, FIELD_MANAGER};
use crate::cluster::error::{Call, KubeError, Operation};
use crate::cluster::kind::Kind;
use crate::cluster::pause;
use crate::reconcile::{ServerKey, diff};
use crate::telemetry::metrics::{self, Action, doing};
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{describe, failed, set, started};

pub(super) const JSON: &str = "application/json";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(super) const JSON_PATCH: &str = "application/json-patch+json";

impl Cluster {
    pub(super) async fn send(
        &self,
        verb: &Verb<'_>,
        method: Method,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, KubeError> {
        self.send_to(verb, verb.uri(), method, content, body).await
    }

    /// Sends one request, in a span of its own, and returns the body of its answer, if that says success.
    pub(super) async fn send_to(
        &self,
        verb: &Verb<'_>,
        uri: Option<String>,
        method: Method,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, KubeError> {
        if pause::refuses(verb.operation) {
            pause::refused(&self.would(verb, body).await);
            return Err(KubeError::Paused { call: Box::new(verb.call()) });
        }
        let creates = verb.operation == Operation::Create;
        if creates && !self.leaving.lets(verb.namespace) {
            return Err(KubeError::NamespaceLeaving { call: Box::new(verb.call()) });
        }
        let span = verb.span(&method, self.server.as_ref());
        let start = Instant::now();
        let result = self.exchange(verb, uri, method, content, body).instrument(span.clone()).await;
        self.count(verb, &result, start.elapsed());
        if creates && result.as_ref().err().is_none_or(|error| error.code().is_some()) {
            self.leaving.answered(verb.namespace, result.as_ref().is_err_and(KubeError::is_namespace_leaving));
        }
        match &result {
            Ok((status, _)) => set(&span, Attribute::Status, i64::from(*status)),
            Err(error) => {
                if let Some(code) = error.code() {
                    set(&span, Attribute::Status, i64::from(code));
                }
                // That an object is not there is an answer.
                if !(error.is_not_found() && verb.operation == Operation::Get) {
                    set(&span, Attribute::Reason, error.reason().unwrap_or_default().to_owned());
                    failed(&span, error.category(), &error.to_string());
                }
            }
        }
        result.map(|(_, body)| body)
    }

    /// What a write would do, in words; of a Secret only that it would be written.
    async fn would(&self, verb: &Verb<'_>, body: Option<&Value>) -> String {
        let what = format!("{} {} {}", verb.operation, verb.kind, verb.name);
        let (Operation::Replace, Some(next)) = (verb.operation, body) else { return what };
        if verb.kind == Kind::Secret {
            return what;
        }
        let read = Verb { operation: Operation::Get, ..*verb };
        let answer = self.exchange(&read, read.uri(), Method::GET, JSON, None).await;
        match answer.and_then(|(_, bytes)| read.parse(&bytes)) {
            Ok(live) => format!("{what} ({})", diff(&live, next).join(", ")),
            Err(_) => what,
        }
    }

    fn count(&self, verb: &Verb<'_>, result: &Result<(u16, Bytes), KubeError>, took: Duration) {
        let action = match verb.operation {
            Operation::Get | Operation::List => None,
            Operation::Create => Some(Action::Create),
            Operation::Replace => Some(Action::Update),
            Operation::Delete => Some(Action::Delete),
            Operation::PatchStatus | Operation::AddFinalizer | Operation::RemoveFinalizer | Operation::ResizeClaim => {
                Some(Action::Patch)
            }
        };
        if let (Ok(_), Some(action)) = (result, action) {
            doing::wrote(verb.kind, action);
        }
        let Some(metrics) = &self.metrics else { return };
        let (kind, word) = (verb.kind.plural(), metrics::Verb::of(verb.operation));
        match result {
            Ok((status, _)) => metrics.kube_answered(word, kind, *status, "", took),
            Err(error) => match error.code() {
                Some(status) => metrics.kube_answered(word, kind, status, error.reason().unwrap_or_default(), took),
                None => metrics.kube_unanswered(word, kind, error.category(), took),
            },
        }
        if action.is_some() && result.as_ref().is_err_and(KubeError::is_conflict) {
            metrics.kube_conflict(verb.kind);
        }
    }

    async fn exchange(
        &self,
        verb: &Verb<'_>,
        uri: Option<String>,
        method: Method,
        content: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Bytes), KubeError> {
        let uri = uri.ok_or_else(|| KubeError::InvalidName { call: Box::new(verb.call()) })?;
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
        if status.is_success() {
            Ok((status.as_u16(), body))
        } else {
            Err(KubeError::refused(verb.call(), status.as_u16(), &body))
        }
    }
}

/// A call on its way.
pub(super) struct Verb<'a> {
    pub(super) operation: Operation,
    pub(super) kind: Kind,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Verb<'a> {
    /// One on a DittoServer.
    pub(super) fn on_server(operation: Operation, key: &'a ServerKey) -> Self {
        Self { operation, kind: Kind::DittoServer, namespace: &key.namespace, name: &key.name }
    }

    /// The span of the call to `server`, inside the current one. A write says what was decided.
    fn span(&self, method: &Method, server: Option<&(Arc<str>, u16)>) -> Span {
        let (resource, below) = match self.operation {
            Operation::PatchStatus => (self.kind.plural(), "/status"),
            _ => (self.kind.plural(), ""),
        };
        let name = format_args!("kube {method} {resource}{below}");
        let span = tracing::error_span!("kube", otel.name = %name, otel.kind = "client");
        started(&span);
        describe(&span, || {
            let of_server = server.map(|(address, port)| {
                [(Attribute::ServerAddress, address.clone().into()), (Attribute::ServerPort, i64::from(*port).into())]
            });
            let decision = self.decision().map(|decision| (Attribute::Decision, decision.into()));
            [
                (Attribute::Method, method.as_str().to_owned().into()),
                (Attribute::Namespace, self.namespace.to_owned().into()),
                (Attribute::Object, format!("{resource}/{}", self.name).into()),
                (Attribute::UrlTemplate, self.kind.url_template(below).into()),
            ]
            .into_iter()
            .chain(of_server.into_iter().flatten())
            .chain(decision)
        });
        span
    }

    /// What was decided when it is sent; nothing for a read.
    fn decision(&self) -> Option<&'static str> {
        Some(match self.operation {
            Operation::Get | Operation::List => return None,
            Operation::Create => "create",
            Operation::Replace | Operation::ResizeClaim => "update",
            Operation::Delete => "delete",
            Operation::PatchStatus => "status",
            Operation::AddFinalizer => "finalizer",
            Operation::RemoveFinalizer => "release",
        })
    }

    /// What it is, for errors.
    pub(super) fn call(&self) -> Call {
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
            Operation::Get | Operation::List | Operation::Delete => object,
            Operation::Create => {
                format!("{}?fieldManager={FIELD_MANAGER}", self.kind.collection_path(self.namespace)?)
            }
            Operation::Replace | Operation::AddFinalizer | Operation::RemoveFinalizer | Operation::ResizeClaim => {
                format!("{object}?fieldManager={FIELD_MANAGER}")
            }
            Operation::PatchStatus => format!("{object}/status?fieldManager={FIELD_MANAGER}"),
        })
    }

    /// The object in an answer.
    pub(super) fn parse(&self, body: &[u8]) -> Result<Value, KubeError> {
        // Parsed as any JSON first: an error of the parser about a wanted type would quote what it found.
        serde_json::from_slice::<Value>(body)
            .and_then(|v| if v.is_object() { Ok(v) } else { Err(serde_json::Error::custom("not an object")) })
            .map_err(|source| KubeError::Malformed { call: Box::new(self.call()), source })
    }
}
