//! A trace as Jaeger's query API gives it, as values.
//!
//! Pure. Times are microseconds, as Jaeger keeps them: a span that is shorter than one has duration 0.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How much earlier than its parent a child may seem to start: clocks are read one after the other.
const TOLERANCE: Duration = Duration::from_millis(1);

/// All spans that Jaeger has of one trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// 32 hex digits.
    pub trace_id: String,
    /// The spans, by start.
    pub spans: Vec<Span>,
}

/// One span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// What was done.
    pub name: String,
    /// `service.name` of the resource.
    pub service: String,
    /// `internal`, `client`, `server`, `producer`, `consumer`; empty when it was not said.
    pub kind: String,
    /// Start, microseconds since 1970.
    pub start_us: u64,
    /// Duration, microseconds.
    pub duration_us: u64,
    /// The span's attributes, and those that Jaeger adds (`otel.*`, `span.kind`, `error`).
    pub tags: BTreeMap<String, Value>,
    /// The resource's attributes but `service.name`.
    pub process: BTreeMap<String, Value>,
    /// What happened meanwhile, by time.
    pub events: Vec<Event>,
    /// The span in the same trace that this one is part of.
    pub parent: Option<String>,
    /// Spans, of any trace, that this one follows.
    pub links: Vec<Link>,
    /// Whether the status is an error, and its description.
    pub error: Option<String>,
}

/// Something that happened during a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Name.
    pub name: String,
    /// When, microseconds since 1970.
    pub at_us: u64,
    /// Attributes.
    pub fields: BTreeMap<String, Value>,
}

/// A reference to a span that is not the parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
}

/// A span with what it is parent of.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    /// The span.
    pub span: &'a Span,
    /// Its children, by start.
    pub children: Vec<Node<'a>>,
}

impl Span {
    /// An attribute as text; a string without quotes.
    pub fn tag(&self, key: &str) -> Option<String> {
        self.tags.get(key).map(text)
    }

    /// End, microseconds since 1970.
    pub fn end_us(&self) -> u64 {
        self.start_us + self.duration_us
    }
}

/// A value as text; a string without quotes.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Trace {
    /// Reads one element of the list `data` of an answer of `/api/traces` or `/api/traces/ID`.
    ///
    /// # Errors
    /// When it is not such an element.
    pub fn from_json(value: &Value) -> anyhow::Result<Self> {
        let wire = WireTrace::deserialize(value).context("not a trace of Jaeger's query API")?;
        let mut spans = Vec::with_capacity(wire.spans.len());
        for span in wire.spans {
            let process = wire.processes.get(&span.process_id);
            let process = process.with_context(|| format!("span {} has no process", span.span_id))?;
            spans.push(span.into_span(process));
        }
        spans.sort_by(order);
        Ok(Self { trace_id: whole(&wire.trace_id), spans })
    }

    /// The start of the first span, microseconds since 1970; 0 without spans.
    pub fn start_us(&self) -> u64 {
        self.spans.iter().map(|span| span.start_us).min().unwrap_or_default()
    }

    /// From the first start to the last end, microseconds.
    pub fn duration_us(&self) -> u64 {
        self.spans.iter().map(Span::end_us).max().unwrap_or_default() - self.start_us()
    }

    /// The spans of that name, by start.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.name == name)
    }

    /// The spans without a parent in this trace, with everything below them. A span whose parent is missing is a root
    /// here; [`Trace::check_shape`] tells it apart.
    pub fn tree(&self) -> Vec<Node<'_>> {
        let ids: BTreeSet<&str> = self.spans.iter().map(|span| span.span_id.as_str()).collect();
        let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        let mut roots = Vec::new();
        for span in &self.spans {
            match span.parent.as_deref().filter(|parent| ids.contains(parent)) {
                Some(parent) => children.entry(parent).or_default().push(span),
                None => roots.push(span),
            }
        }
        roots.into_iter().map(|root| node(root, &mut children)).collect()
    }

    /// Whether this is what one cause makes: at least one span, one root, no span whose parent is missing, no parent
    /// that starts after its child (but for 1 ms), and all spans of this trace and of one service.
    ///
    /// # Errors
    /// The first thing that is not so, in words.
    pub fn check_shape(&self) -> Result<(), String> {
        let mut by_id = BTreeMap::new();
        for span in &self.spans {
            if span.trace_id != self.trace_id {
                return Err(format!("{} is of trace {}", named(span), span.trace_id));
            }
            if let Some(other) = by_id.insert(span.span_id.as_str(), span) {
                return Err(format!("{} and {} have the same id", named(other), named(span)));
            }
        }
        let first = self.spans.first().ok_or("no span at all")?;
        for span in &self.spans {
            if span.service != first.service {
                return Err(format!(
                    "{} is of service {}, {} of {}",
                    named(span),
                    span.service,
                    named(first),
                    first.service
                ));
            }
            let Some(parent) = &span.parent else { continue };
            let Some(parent) = by_id.get(parent.as_str()) else {
                return Err(format!("the parent {parent} of {} is missing", named(span)));
            };
            let late = Duration::from_micros(parent.start_us.saturating_sub(span.start_us));
            if late > TOLERANCE {
                return Err(format!("{} starts {late:?} before its parent {}", named(span), named(parent)));
            }
        }
        let roots = self.tree();
        match roots.as_slice() {
            [root] if count(root) == self.spans.len() => Ok(()),
            [_, second, ..] => Err(format!("more than one root: {} and {}", named(roots[0].span), named(second.span))),
            _ => Err("spans that are their own ancestors".to_owned()),
        }
    }
}

fn order(a: &Span, b: &Span) -> std::cmp::Ordering {
    (a.start_us, &a.span_id).cmp(&(b.start_us, &b.span_id))
}

fn named(span: &Span) -> String {
    format!("`{}` ({})", span.name, span.span_id)
}

fn node<'a>(span: &'a Span, children: &mut BTreeMap<&str, Vec<&'a Span>>) -> Node<'a> {
    // Removed, so that spans that are their own ancestors do not turn for ever.
    let mut below = children.remove(span.span_id.as_str()).unwrap_or_default();
    below.sort_by(|a, b| order(a, b));
    Node { span, children: below.into_iter().map(|child| node(child, children)).collect() }
}

fn count(node: &Node<'_>) -> usize {
    1 + node.children.iter().map(count).sum::<usize>()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTrace {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<WireSpan>,
    processes: BTreeMap<String, WireProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(default)]
    references: Option<Vec<WireReference>>,
    start_time: u64,
    duration: u64,
    #[serde(default)]
    tags: Option<Vec<WireTag>>,
    #[serde(default)]
    logs: Option<Vec<WireLog>>,
    #[serde(rename = "processID")]
    process_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct WireTag {
    key: String,
    value: Value,
}

#[derive(Deserialize)]
struct WireLog {
    timestamp: u64,
    fields: Vec<WireTag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProcess {
    service_name: String,
    #[serde(default)]
    tags: Option<Vec<WireTag>>,
}

/// Jaeger leaves out the first half of a trace id when it is zero.
fn whole(trace_id: &str) -> String {
    format!("{trace_id:0>32}")
}

fn map(tags: &[WireTag]) -> BTreeMap<String, Value> {
    tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

impl WireSpan {
    fn into_span(self, process: &WireProcess) -> Span {
        let tags = map(&self.tags.unwrap_or_default());
        let mut parent = None;
        let mut links = Vec::new();
        for reference in self.references.unwrap_or_default() {
            if reference.ref_type == "CHILD_OF" && reference.trace_id == self.trace_id && parent.is_none() {
                parent = Some(reference.span_id);
            } else {
                links.push(Link { trace_id: whole(&reference.trace_id), span_id: reference.span_id });
            }
        }
        let failed = tags.get("error") == Some(&Value::Bool(true))
            || tags.get("otel.status_code").and_then(Value::as_str) == Some("ERROR");
        let mut events: Vec<_> = self.logs.unwrap_or_default().into_iter().map(WireLog::into_event).collect();
        events.sort_by_key(|event| event.at_us);
        Span {
            error: failed.then(|| tags.get("otel.status_description").map(text).unwrap_or_default()),
            kind: tags.get("span.kind").map(text).unwrap_or_default(),
            trace_id: whole(&self.trace_id),
            span_id: self.span_id,
            name: self.operation_name,
            service: process.service_name.clone(),
            start_us: self.start_time,
            duration_us: self.duration,
            process: map(process.tags.as_deref().unwrap_or_default()),
            tags,
            events,
            parent,
            links,
        }
    }
}

impl WireLog {
    fn into_event(self) -> Event {
        let mut fields = map(&self.fields);
        // An OTLP event's name is the field `event` in Jaeger.
        let name = fields.remove("event").map(|name| text(&name)).unwrap_or_default();
        Event { name, at_us: self.timestamp, fields }
    }
}

#[cfg(test)]
mod tests;
