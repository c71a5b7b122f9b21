//! One review: the API server's question, what the cluster has, and the answer.
//!
//! Bounded: so many reviews at once, so many bytes, so much time. Whoever asks is not looked at and not logged; the verdict
//! is. An answer never holds a value of a Secret, only whether what the spec names is there, in the namespace of the
//! request, which is what status says to the same reader a second later.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use kube::core::DynamicObject;
use kube::core::Status;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::core::response::{StatusCause, StatusDetails, StatusSummary};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument as _, Span, debug, error_span, info, warn};

use super::facts::Looker;
use crate::actors::Deps;
use crate::actors::trouble::Trouble;
use crate::cluster::{Cluster, Kind};
use crate::reconcile::ServerKey;
use crate::reconcile::admission::{Refusal, Verdict, decide, review};
use crate::telemetry::Tracer;
use crate::telemetry::metrics::{Admission, Metrics};
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{begin, decided, set};

/// Kibibytes of questions that are worked on at once; others wait for their turn. A tree of JSON
/// takes some twenty times the memory of its text.
const AT_ONCE: u32 = 1024;
/// What a question counts at least, in kibibytes.
const LEAST: u32 = 64;
/// From the head of a question to its answer: well below `timeoutSeconds` of the webhook's configuration.
const TIME: Duration = Duration::from_secs(3);
/// Longest wait for a turn: a review that begins has time to look.
const TURN: Duration = Duration::from_secs(1);
/// Longest warning that the API server passes on whole, in characters.
const WARNING_MAX: usize = 250;

/// Answers reviews.
pub(super) struct Reviewer {
    looker: Looker,
    /// The only namespace that the operator serves, if it serves one.
    namespace: Option<String>,
    turns: Semaphore,
    tracer: Tracer,
    metrics: Metrics,
    /// Look-ups that were not answered.
    trouble: Trouble,
}

/// How a review went, before it has an answer.
enum Refused {
    /// Its turn did not come in time.
    Busy,
    /// It was not read whole in time, is too long, or is no review.
    Unreadable(StatusCode),
}

impl Reviewer {
    /// Over the client of the webhook.
    pub(super) fn new(deps: &Deps, cluster: Cluster, namespace: Option<String>) -> Self {
        Self {
            looker: Looker { cluster, classes: deps.classes.clone() },
            namespace,
            turns: Semaphore::new(AT_ONCE as usize),
            tracer: deps.tracer.clone(),
            metrics: deps.metrics.clone(),
            trouble: Trouble::new(deps.origin),
        }
    }

    /// Reviews at `path`, and nothing else.
    pub(super) fn router(self, path: &str) -> Router {
        Router::new().route(path, post(answer)).with_state(Arc::new(self))
    }

    async fn answer(&self, question: Request<Body>) -> Result<Json<AdmissionReview<DynamicObject>>, Refused> {
        let deadline = Instant::now() + TIME;
        let unreadable = Refused::Unreadable;
        let size = size_of(question.headers());
        if size > AT_ONCE {
            return Err(unreadable(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let turn = timeout(TURN, self.turns.acquire_many(size.max(LEAST))).await;
        let Ok(Ok(_turn)) = turn else { return Err(Refused::Busy) };
        let body = timeout_at(deadline, to_bytes(question.into_body(), size as usize * 1024)).await;
        let body = body.map_err(|_| unreadable(StatusCode::REQUEST_TIMEOUT))?;
        let body = body.map_err(|_| unreadable(StatusCode::PAYLOAD_TOO_LARGE))?;
        let asked: Result<AdmissionReview<DynamicObject>, _> = serde_json::from_slice(&body);
        drop(body);
        let asked = asked.map_err(|_| unreadable(StatusCode::BAD_REQUEST))?;
        let request: AdmissionRequest<DynamicObject> =
            asked.try_into().map_err(|_| unreadable(StatusCode::BAD_REQUEST))?;
        Ok(Json(self.review(&request, deadline).await.into_review()))
    }

    async fn review(&self, request: &AdmissionRequest<DynamicObject>, deadline: Instant) -> AdmissionResponse {
        let response = AdmissionResponse::from(request);
        let start = Instant::now();
        let operation = word(&request.operation);
        let Some((key, old, new)) = self.change(request) else {
            self.metrics.admission(operation, Admission::Nothing, start.elapsed());
            return response;
        };
        let span = begin(error_span!("admit", otel.kind = "server"), &self.tracer.root(&key), &[]);
        set(&span, Attribute::Namespace, key.namespace.clone());
        let verdict = self.judge(&key, old.as_ref(), &new, deadline).instrument(span.clone()).await;
        let Some(verdict) = verdict else {
            decided(&span, "nothing", "");
            self.metrics.admission(operation, Admission::Nothing, start.elapsed());
            return response;
        };
        let outcome = outcome_of(&verdict);
        self.metrics.admission(operation, outcome, start.elapsed());
        let _within = span.enter();
        self.tell(&span, &key, operation, outcome, &verdict);
        respond(response, &key, &verdict)
    }

    /// Whose change it is, and both objects; None for what is not judged here.
    fn change(&self, request: &AdmissionRequest<DynamicObject>) -> Option<(ServerKey, Option<Value>, Value)> {
        let resource = &request.resource;
        let ours = resource.group == Kind::DittoServer.group() && resource.resource == Kind::DittoServer.plural();
        let whole = request.sub_resource.as_deref().unwrap_or_default().is_empty();
        let changes = matches!(request.operation, Operation::Create | Operation::Update);
        let namespace = request.namespace.clone().filter(|namespace| !namespace.is_empty())?;
        let served = self.namespace.as_ref().is_none_or(|only| *only == namespace);
        if !(ours && whole && changes && served) {
            return None;
        }
        let tree = |object: &DynamicObject| {
            let mut tree = serde_json::to_value(object).ok()?;
            // Where is said by the request: what the object says of that leads nowhere.
            tree["metadata"]["namespace"] = json!(namespace);
            Some(tree)
        };
        let new = tree(request.object.as_ref()?)?;
        let old = match &request.operation {
            Operation::Update => Some(tree(request.old_object.as_ref()?)?),
            _ => None,
        };
        let name = crate::reconcile::meta(&new, "name").to_owned();
        Some((ServerKey { namespace, name }, old, new))
    }

    /// None when there was nothing to decide.
    async fn judge(&self, key: &ServerKey, old: Option<&Value>, new: &Value, deadline: Instant) -> Option<Verdict> {
        let review = review(old, new);
        if review.is_empty() {
            return None;
        }
        let found = self.looker.look(&key.namespace, review.needs(), deadline).await;
        Some(decide(&review, &found))
    }

    fn tell(&self, span: &Span, key: &ServerKey, operation: &'static str, outcome: Admission, verdict: &Verdict) {
        let (namespace, name) = (&key.namespace, &key.name);
        if outcome == Admission::Refused {
            let why = verdict.why();
            decided(span, "refused", &why);
            info!(namespace, name, operation, why, "admission refused a DittoServer");
        } else {
            decided(span, "allowed", &verdict.doubts.join("; "));
            debug!(namespace, name, operation, "admission let a DittoServer through");
        }
        if verdict.unknown {
            let why = verdict.doubts.last().map(String::as_str).unwrap_or_default();
            if let Some(again) = self.trouble.failed("admission") {
                warn!(
                    namespace,
                    name, operation, why, "admission could not look at all that a DittoServer needs{again}"
                );
            }
        }
        for over in self.trouble.ended() {
            info!("admission can look at all again after {over}");
        }
    }
}

async fn answer(State(reviewer): State<Arc<Reviewer>>, question: Request<Body>) -> Response {
    let start = Instant::now();
    match reviewer.answer(question).await {
        Ok(answer) => answer.into_response(),
        Err(refused) => {
            let (outcome, code) = match refused {
                Refused::Busy => (Admission::Busy, StatusCode::SERVICE_UNAVAILABLE),
                Refused::Unreadable(code) => (Admission::Unreadable, code),
            };
            reviewer.metrics.admission("other", outcome, start.elapsed());
            code.into_response()
        }
    }
}

/// How long a question says that it is, in whole kibibytes; one that does not say may be as long as any.
fn size_of(headers: &HeaderMap) -> u32 {
    let said = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    said.map_or(AT_ONCE, |bytes| u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX))
}

fn word(operation: &Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Update => "update",
        Operation::Delete | Operation::Connect => "other",
    }
}

fn outcome_of(verdict: &Verdict) -> Admission {
    if !verdict.refusals.is_empty() {
        Admission::Refused
    } else if verdict.unknown {
        Admission::Unknown
    } else {
        Admission::Allowed
    }
}

fn respond(mut response: AdmissionResponse, key: &ServerKey, verdict: &Verdict) -> AdmissionResponse {
    if !verdict.doubts.is_empty() {
        let cut = |doubt: &String| doubt.chars().take(WARNING_MAX).collect();
        response.warnings = Some(verdict.doubts.iter().map(cut).collect());
    }
    if verdict.refusals.is_empty() {
        return response;
    }
    response.allowed = false;
    let cause = |refusal: &Refusal| StatusCause {
        reason: "FieldValueInvalid".to_owned(),
        message: refusal.text.clone(),
        field: refusal.field.clone(),
    };
    response.result = Status {
        status: Some(StatusSummary::Failure),
        code: 422,
        reason: "Invalid".to_owned(),
        message: verdict.why(),
        metadata: None,
        details: Some(StatusDetails {
            name: key.name.clone(),
            group: Kind::DittoServer.group().to_owned(),
            kind: Kind::DittoServer.plural().to_owned(),
            uid: String::new(),
            causes: verdict.refusals.iter().map(cause).collect(),
            retry_after_seconds: 0,
        }),
    };
    response
}
