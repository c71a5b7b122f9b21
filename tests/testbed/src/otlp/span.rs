//! A span as OTLP carries it, as values. Pure.

use base64::Engine as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span, status};
use serde_json::Value;
use std::collections::BTreeMap;

/// A span that was received.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedSpan {
    /// Which request brought it: an index into [`super::OtlpReceiver::requests`].
    pub request: usize,
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// 16 hex digits; `None` for a root.
    pub parent: Option<String>,
    /// What was done.
    pub name: String,
    /// `internal`, `client`, `server`, `producer`, `consumer`, or `unspecified`.
    pub kind: String,
    /// Start, nanoseconds since 1970.
    pub start_ns: u64,
    /// End, nanoseconds since 1970.
    pub end_ns: u64,
    /// Attributes.
    pub attributes: BTreeMap<String, Value>,
    /// What happened meanwhile.
    pub events: Vec<ReceivedEvent>,
    /// Spans that it follows.
    pub links: Vec<ReceivedLink>,
    /// Whether the status is an error, and its description.
    pub error: Option<String>,
    /// The resource's attributes, `service.name` among them.
    pub resource: BTreeMap<String, Value>,
    /// Name of the instrumentation scope.
    pub scope: String,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedEvent {
    /// Name.
    pub name: String,
    /// When, nanoseconds since 1970.
    pub at_ns: u64,
    /// Attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// A link to another span.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedLink {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// Attributes.
    pub attributes: BTreeMap<String, Value>,
}

/// All spans of one request.
pub(super) fn spans(request: ExportTraceServiceRequest, index: usize) -> Vec<ReceivedSpan> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.unwrap_or_default().name;
            spans.extend(of_scope.spans.into_iter().map(|span| received(span, index, &resource, &scope)));
        }
    }
    spans
}

fn received(span: Span, request: usize, resource: &BTreeMap<String, Value>, scope: &str) -> ReceivedSpan {
    let kind = match span.kind() {
        span::SpanKind::Unspecified => "unspecified",
        span::SpanKind::Internal => "internal",
        span::SpanKind::Server => "server",
        span::SpanKind::Client => "client",
        span::SpanKind::Producer => "producer",
        span::SpanKind::Consumer => "consumer",
    };
    let event = |event: span::Event| ReceivedEvent {
        name: event.name,
        at_ns: event.time_unix_nano,
        attributes: attributes(event.attributes),
    };
    let link = |link: span::Link| ReceivedLink {
        trace_id: hex(&link.trace_id),
        span_id: hex(&link.span_id),
        attributes: attributes(link.attributes),
    };
    let status = span.status.unwrap_or_default();
    ReceivedSpan {
        request,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        name: span.name,
        kind: kind.to_owned(),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect(),
        error: (status.code() == status::StatusCode::Error).then_some(status.message),
        resource: resource.clone(),
        scope: scope.to_owned(),
    }
}

fn attributes(list: Vec<KeyValue>) -> BTreeMap<String, Value> {
    list.into_iter().map(|pair| (pair.key, pair.value.map_or(Value::Null, value))).collect()
}

fn value(any: AnyValue) -> Value {
    match any.value {
        Some(any_value::Value::StringValue(text)) => Value::from(text),
        Some(any_value::Value::BoolValue(bool)) => Value::from(bool),
        Some(any_value::Value::IntValue(number)) => Value::from(number),
        Some(any_value::Value::DoubleValue(number)) => Value::from(number),
        Some(any_value::Value::ArrayValue(list)) => list.values.into_iter().map(value).collect(),
        Some(any_value::Value::KvlistValue(list)) => Value::Object(attributes(list.values).into_iter().collect()),
        Some(any_value::Value::BytesValue(bytes)) => {
            Value::from(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        _ => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
