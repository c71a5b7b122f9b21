//! The README's tree: a trace with everything replaced or left out that differs from run to run, but its times.
//!
//! Pure, but for [`renew`], which rewrites one file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use dittofs_testbed::jaeger::{Span, Trace, render_steady};
use serde_json::Value;

/// The trace's id: the example of W3C Trace Context.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// When it starts: 2026-01-01 03:12:00 UTC, microseconds since 1970.
const START_US: u64 = 1_767_237_120_000_000;
/// The namespace of the server.
const NAMESPACE: &str = "team-a";
/// What stands around the tree in the file.
const MARKERS: [&str; 2] = ["<!-- trace -->\n", "<!-- /trace -->"];

/// Writes the trace between the markers in the file.
///
/// # Errors
/// When the file cannot be read or written, or has not each marker once and in order.
pub(crate) fn renew(file: &Path, trace: &Trace, namespace: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let tree = render_steady(&normalised(trace, namespace));
    let text = between(&text, &format!("```\n{tree}```\n"))
        .with_context(|| format!("{} has no place for a trace between {MARKERS:?}", file.display()))?;
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// The text with `inside` between the markers; `None` when these are not there.
fn between(text: &str, inside: &str) -> Option<String> {
    let (before, rest) = text.split_once(MARKERS[0])?;
    let (_, after) = rest.split_once(MARKERS[1])?;
    Some([before, MARKERS[0], inside, MARKERS[1], after].concat())
}

/// The trace with other ids, another start and another namespace; the same for each run of the same story.
fn normalised(trace: &Trace, namespace: &str) -> Trace {
    let mut trace = trace.clone();
    let mut later: BTreeSet<String> = BTreeSet::new();
    // By start: a parent is met before its children.
    trace.spans.retain(|span| {
        let drop = is_later_report(span) || span.parent.as_ref().is_some_and(|parent| later.contains(parent));
        if drop {
            later.insert(span.span_id.clone());
        }
        !drop
    });
    let first = trace.start_us();
    let mut traces = Ids(BTreeMap::from([(trace.trace_id.clone(), TRACE.to_owned())]));
    let mut spans = Ids::default();
    trace.trace_id = TRACE.to_owned();
    for span in &mut trace.spans {
        span.trace_id = traces.of(&span.trace_id);
        span.span_id = spans.of(&span.span_id);
    }
    for span in &mut trace.spans {
        span.parent = span.parent.as_ref().map(|parent| spans.of(parent));
        for link in &mut span.links {
            link.trace_id = traces.of(&link.trace_id);
            link.span_id = spans.of(&link.span_id);
        }
        span.start_us = span.start_us - first + START_US;
        for event in &mut span.events {
            event.at_us = event.at_us.saturating_sub(first) + START_US;
        }
        let values = span.tags.values_mut().chain(span.events.iter_mut().flat_map(|event| event.fields.values_mut()));
        for value in values {
            if let Value::String(text) = value {
                *text = text.replace(namespace, NAMESPACE);
            }
        }
        span.error = span.error.as_ref().map(|error| error.replace(namespace, NAMESPACE));
    }
    trace
}

/// Whether the span is a report of what the branches did. How often there is one in this trace depends on which of the
/// branches is faster, and on whether a watch tells it first.
fn is_later_report(span: &Span) -> bool {
    let cause = span.tag("dittofs.cause").unwrap_or_default();
    span.name == "report status" && ["fact", "retry"].contains(&cause.as_str())
}

/// Ids by the order in which they were asked for.
#[derive(Default)]
struct Ids(BTreeMap<String, String>);

impl Ids {
    fn of(&mut self, id: &str) -> String {
        let (next, width) = (self.0.len() + 1, id.len());
        self.0.entry(id.to_owned()).or_insert_with(|| format!("{next:0width$x}")).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dittofs_testbed::jaeger::{Event, Link};
    use serde_json::json;

    /// The same story, told in another run.
    fn told(run: &str, start: u64, namespace: &str) -> Trace {
        let span = |id: &str, parent: Option<&str>| Span {
            trace_id: format!("{run:0>32}"),
            span_id: format!("{run}{id:0>15}"),
            parent: parent.map(|parent| format!("{run}{parent:0>15}")),
            name: "reconcile services".to_owned(),
            start_us: start + 7,
            duration_us: 1500,
            tags: BTreeMap::from([("dittofs.server".to_owned(), json!(format!("{namespace}/files")))]),
            error: Some(format!("{namespace} is full")),
            events: vec![Event {
                name: "retry".to_owned(),
                at_us: start + 9,
                fields: BTreeMap::from([("where".to_owned(), json!(namespace))]),
            }],
            links: vec![Link { trace_id: format!("{run:a>32}"), span_id: format!("{run:b>16}") }],
            ..Span::default()
        };
        let root = Span { start_us: start, ..span("1", None) };
        Trace { trace_id: format!("{run:0>32}"), spans: vec![root, span("2", Some("1"))] }
    }

    #[test]
    fn two_runs_of_the_same_story_look_the_same() {
        let one = render_steady(&normalised(&told("5", 1_000, "story-1"), "story-1"));
        let mut other = told("6", 9_999, "story-2");
        let tags = BTreeMap::from([("dittofs.cause".to_owned(), json!("fact"))]);
        let parent = Some(other.spans[1].span_id.clone());
        other.spans.push(Span {
            parent,
            name: "report status".to_owned(),
            span_id: "r".to_owned(),
            tags,
            ..Span::default()
        });
        other.spans.push(Span { parent: Some("r".to_owned()), span_id: "w".to_owned(), ..Span::default() });
        let two = render_steady(&normalised(&other, "story-2"));
        assert_eq!(one, two);
        assert!(one.contains(TRACE) && one.contains("team-a/files") && one.contains("2026-01-01 03:12:00Z"), "{one}");
        assert!(normalised(&told("5", 1_000, "story-1"), "story-1").check_shape().is_ok());
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = "a\n<!-- trace -->\nold\n<!-- /trace -->\nb\n";
        assert_eq!(between(text, "new\n").as_deref(), Some("a\n<!-- trace -->\nnew\n<!-- /trace -->\nb\n"));
        assert_eq!(between("a\n<!-- /trace -->\n", "new\n"), None);
    }
}
