//! Traces that travel in messages: actix carries no span, so each message carries a [`TraceContext`].
//!
//! A trace belongs to one server and begins with its cause, in [`Tracer::root`]. Each span of it is a `tracing` span
//! that was given its place by [`begin`] or opened inside another. The context in a message holds the trace open: when
//! the last message and the last span are gone, the trace is whole and [`super::tail`] decides about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan as _;

use super::table::{Attribute, DIFF_MAX};
use super::tail::{Scope, Tail};

/// Makes traces. A clone makes them for the same backend; the default makes none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Tail>>);

impl Tracer {
    /// Traces that `tail` decides about.
    pub fn new(tail: Arc<Tail>) -> Self {
        Self(Some(tail))
    }

    /// A new trace about `server` (`namespace/name`), without a span yet.
    pub fn root(&self, server: &impl fmt::Display) -> TraceContext {
        let Some(tail) = &self.0 else { return TraceContext::default() };
        let scope = Some(Arc::new(Scope::new(&server.to_string(), tail.clone())));
        TraceContext(Some(Arc::new(Place { span: None, is_link: false, scope })))
    }
}

/// A place in a trace: what a message carries of the span in which it was sent.
#[derive(Clone, Default)]
pub struct TraceContext(Option<Arc<Place>>);

/// Thousands of messages can wait, each with its place: the SDK's own context would keep for each a whole span that has
/// long ended, and a table of its values.
struct Place {
    /// None in a trace that has no span yet.
    span: Option<(TraceId, SpanId, TraceFlags)>,
    /// Whether it only leads there.
    is_link: bool,
    /// Holds the trace open.
    scope: Option<Arc<Scope>>,
}

impl TraceContext {
    /// The place of `span`.
    pub fn of(span: &Span) -> Self {
        let context = span.context();
        let Some(own) = active(&context) else { return Self::default() };
        let span = Some((own.trace_id(), own.span_id(), own.trace_flags()));
        Self(Some(Arc::new(Place { span, is_link: own.is_remote(), scope: context.get::<Arc<Scope>>().cloned() })))
    }

    /// The place of the current span; no trace outside of any.
    pub fn current() -> Self {
        Self::of(&Span::current())
    }

    /// Trace and span, when there is a span.
    pub fn span_context(&self) -> Option<SpanContext> {
        let place = self.0.as_ref()?;
        let (trace, span, flags) = place.span?;
        Some(SpanContext::new(trace, span, flags, place.is_link, TraceState::NONE))
    }

    /// 32 hex digits, when there is a span.
    pub fn trace_id(&self) -> Option<String> {
        let (trace, ..) = self.0.as_ref()?.span?;
        Some(trace.to_string())
    }

    /// Whether work can go on here: the place is one of a trace that is open, not only a link to one.
    pub fn is_open(&self) -> bool {
        self.0.as_ref().is_some_and(|place| place.span.is_some() && !place.is_link)
    }

    /// What is left of this place for a link: it does not hold the trace open.
    #[must_use]
    pub fn to_link(&self) -> Self {
        let Some(span) = self.0.as_ref().and_then(|place| place.span) else { return Self::default() };
        Self(Some(Arc::new(Place { span: Some(span), is_link: true, scope: None })))
    }

    /// W3C `traceparent` into the headers of a request.
    pub fn inject(&self, headers: &mut http::HeaderMap) {
        TraceContextPropagator::new().inject_context(&self.of_span(), &mut HeaderInjector(headers));
    }

    /// As the SDK has it, for the parent of a span.
    fn to_context(&self) -> Context {
        match self.scope() {
            Some(scope) => self.of_span().with_value(scope.clone()),
            None => self.of_span(),
        }
    }

    /// The span alone, without one to write to; it says itself whether it is remote.
    fn of_span(&self) -> Context {
        self.span_context().map_or_else(Context::new, |span| Context::new().with_remote_span_context(span))
    }

    fn scope(&self) -> Option<&Arc<Scope>> {
        self.0.as_ref()?.scope.as_ref()
    }
}

/// Of a context with a span.
fn active(context: &Context) -> Option<SpanContext> {
    let own = context.has_active_span().then(|| context.span().span_context().clone())?;
    own.is_valid().then_some(own)
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceContext").field(&self.trace_id()).finish()
    }
}

/// Trace and span of a started span, kept in its extensions for the log: as numbers, since most spans have no line.
#[derive(Clone, Copy, Debug)]
pub struct TraceIds {
    /// 32 hex digits as text.
    pub trace: TraceId,
    /// 16 hex digits as text.
    pub span: SpanId,
}

/// Begins `span` at `place`; what was coalesced into it becomes links, and these traces are kept when this one is.
pub fn begin(span: Span, place: &TraceContext, coalesced: &[TraceContext]) -> Span {
    // Only fails without a layer that exports, or for a span that is filtered out.
    let _ = span.set_parent(place.to_context());
    let own = place.span_context();
    for other in coalesced {
        if let Some(context) = other.span_context()
            && Some(&context) != own.as_ref()
        {
            span.add_link(context);
            if let (Some(mine), Some(theirs)) = (place.scope(), other.scope()) {
                mine.keep_with(theirs);
            }
        }
    }
    started(&span);
    span
}

/// Starts a span that was opened inside another, so that the log knows its ids.
pub fn started(span: &Span) {
    let Some(context) = active(&span.context()) else { return };
    let ids = TraceIds { trace: context.trace_id(), span: context.span_id() };
    span.with_subscriber(|(id, dispatch)| {
        if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
            span.extensions_mut().replace(ids);
        }
    });
}

/// Sets several attributes of the contract at once. They are made only when they are kept: not when nothing is exported,
/// or the trace is not sampled.
pub fn describe<T: IntoIterator<Item = (Attribute, Value)>>(span: &Span, attributes: impl FnOnce() -> T) {
    let context = span.context();
    let span = context.span();
    if span.is_recording() {
        span.set_attributes(attributes().into_iter().map(|(key, value)| KeyValue::new(key.key(), value)));
    }
}

/// Sets an attribute of the contract.
pub fn set(span: &Span, attribute: Attribute, value: impl Into<Value>) {
    span.set_attribute(attribute.key(), value);
}

/// What was decided, and what differed, in words.
pub fn decided(span: &Span, decision: &str, diff: &str) {
    set(span, Attribute::Decision, decision.to_owned());
    if !diff.is_empty() {
        set(span, Attribute::Diff, bounded(diff));
    }
}

/// Marks the span as failed. `kind` is a static label; `what` is for people and holds no secret.
pub fn failed(span: &Span, kind: &'static str, what: &str) {
    set(span, Attribute::ErrorType, kind);
    span.set_status(Status::error(bounded(what)));
}

/// An event on the span, such as a retry after a conflict.
pub fn event(span: &Span, name: &'static str, attributes: &[(Attribute, String)]) {
    let attributes = attributes.iter().map(|(key, value)| KeyValue::new(key.key(), bounded(value))).collect();
    span.add_event(name, attributes);
}

/// Milliseconds for a queue time.
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn bounded(text: &str) -> String {
    crate::cluster::cut(text, DIFF_MAX)
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
