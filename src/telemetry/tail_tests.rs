//! Which traces leave the process, tried with the real SDK and the real layer.

use std::sync::atomic::AtomicUsize;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Span, error_span};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::telemetry::trace::{begin, decided, failed, set, started};
use crate::telemetry::{TraceContext, Tracer};

#[derive(Debug, Default)]
struct Backend {
    spans: Mutex<Vec<SpanData>>,
    lost: AtomicUsize,
}

impl Backend {
    fn names(&self) -> Vec<String> {
        locked(&self.spans).iter().map(|span| span.name.to_string()).collect()
    }
}

impl Sink for Backend {
    fn take(&self, span: SpanData) {
        locked(&self.spans).push(span);
    }
    fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `test` with traces that end in the backend.
fn traced(keep_all: bool, test: impl FnOnce(&Tracer, &Arc<Backend>, &Arc<Tail>)) {
    let backend = Arc::new(Backend::default());
    let tail = Arc::new(Tail::new(backend.clone(), keep_all));
    let provider = SdkTracerProvider::builder().with_span_processor(TailProcessor(tail.clone())).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_context_activation(false);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || test(&Tracer::new(tail.clone()), &backend, &tail));
    assert_eq!(tail.waiting.load(Ordering::Relaxed), 0, "nothing waits for ever");
    assert!(locked(&tail.open).is_empty(), "no trace stays open");
}

fn root(tracer: &Tracer, name: &str) -> Span {
    begin(error_span!("root", otel.name = name), &tracer.root(&"team/files"), &[])
}

/// A span in another actor.
fn branch(place: &TraceContext, name: &str) -> Span {
    begin(error_span!("branch", otel.name = name), place, &[])
}

#[test]
fn a_trace_in_which_nothing_happened_is_not_exported() {
    traced(false, |tracer, backend, _| {
        let poll = root(tracer, "poll");
        poll.in_scope(|| started(&error_span!("call")));
        decided(&poll, "unchanged", "");
        drop(poll);
        assert_eq!(backend.names(), Vec::<String>::new());
    });
}

#[test]
fn quiet_traces_are_exported_when_that_is_asked_for() {
    traced(true, |tracer, backend, _| {
        let poll = root(tracer, "poll");
        decided(&poll, "unchanged", "");
        drop(poll);
        assert_eq!(backend.names(), ["poll"]);
    });
}

#[test]
fn one_decision_exports_the_whole_trace_with_what_ended_before_it() {
    traced(false, |tracer, backend, _| {
        let poll = root(tracer, "poll");
        poll.in_scope(|| started(&error_span!("call")));
        let message = TraceContext::of(&poll);
        drop(poll);
        assert_eq!(backend.names(), Vec::<String>::new(), "the message holds the trace open, undecided");
        let work = branch(&message, "work");
        decided(&work, "delete", "deleted a Service");
        drop(message);
        drop(work);
        assert_eq!(backend.names(), ["call", "poll", "work"]);
        let spans = locked(&backend.spans);
        let (call, poll, work) = (&spans[0], &spans[1], &spans[2]);
        assert!(poll.start_time <= call.start_time && poll.start_time <= work.start_time);
        assert_eq!(work.parent_span_id, poll.span_context.span_id());
        assert_eq!(call.parent_span_id, poll.span_context.span_id());
        for span in spans.iter() {
            assert_eq!(span.span_context.trace_id(), poll.span_context.trace_id());
            let server = span.attributes.iter().find(|pair| pair.key.as_str() == "dittofs.server");
            assert_eq!(server.map(|pair| pair.value.to_string()).as_deref(), Some("team/files"));
        }
    });
}

#[test]
fn a_failure_exports_the_trace_and_what_follows_at_once() {
    traced(false, |tracer, backend, _| {
        let poll = root(tracer, "poll");
        let message = TraceContext::of(&poll);
        failed(&poll, "timeout", "no answer");
        drop(poll);
        assert_eq!(backend.names(), ["poll"]);
        let quiet = branch(&message, "report");
        decided(&quiet, "nothing", "");
        drop(quiet);
        assert_eq!(backend.names(), ["poll", "report"], "a branch of a kept trace is kept");
        assert!(matches!(locked(&backend.spans)[0].status, Status::Error { .. }));
    });
}

#[test]
fn a_trace_that_a_kept_one_links_to_is_kept_in_whatever_order_they_end() {
    for linked_ends_first in [true, false] {
        traced(false, |tracer, backend, _| {
            let (first, second) = (root(tracer, "first"), root(tracer, "second"));
            let (one, other) = (TraceContext::of(&first), TraceContext::of(&second));
            drop((first, second));
            let work = begin(error_span!("work"), &one, std::slice::from_ref(&other));
            let mut other = Some(other);
            if linked_ends_first {
                other = None;
            }
            decided(&work, "update", "a port");
            drop((one, work));
            drop(other);
            let mut names = backend.names();
            names.sort();
            assert_eq!(names, ["first", "second", "work"], "linked ends first: {linked_ends_first}");
            let spans = locked(&backend.spans);
            let of = |name: &str| spans.iter().find(|span| span.name == name).expect("exported");
            assert_eq!(of("work").links.links[0].span_context, of("second").span_context);
        });
    }
}

#[test]
fn two_quiet_traces_that_link_to_each_other_are_forgotten() {
    traced(false, |tracer, backend, _| {
        let (first, second) = (root(tracer, "first"), root(tracer, "second"));
        let (one, other) = (TraceContext::of(&first), TraceContext::of(&second));
        drop((first, second));
        drop(begin(error_span!("work"), &one, std::slice::from_ref(&other)));
        drop(begin(error_span!("work"), &other, std::slice::from_ref(&one)));
        drop((one, other));
        assert_eq!(backend.names(), Vec::<String>::new());
    });
}

#[test]
fn what_waits_is_bounded_and_what_is_lost_is_counted() {
    traced(false, |tracer, backend, tail| {
        let poll = root(tracer, "poll");
        for _ in 0..WAITING_MAX + 10 {
            poll.in_scope(|| started(&error_span!("call")));
        }
        assert_eq!(tail.waiting.load(Ordering::Relaxed), WAITING_MAX);
        assert_eq!(backend.lost.load(Ordering::Relaxed), 10);
        decided(&poll, "unchanged", "");
    });
}

#[test]
fn quiet_decisions_are_those_of_the_contract() {
    for quiet in QUIET_DECISIONS {
        traced(false, |tracer, backend, _| {
            let span = root(tracer, "work");
            decided(&span, "create", "and then thought better of it");
            decided(&span, quiet, "");
            drop(span);
            assert!(backend.names().is_empty(), "{quiet}");
        });
    }
}

#[test]
fn an_attribute_of_ours_is_cut() {
    traced(true, |tracer, backend, _| {
        let span = root(tracer, "work");
        decided(&span, "update", &"x".repeat(5000));
        set(&span, Attribute::Object, "services/a");
        drop(span);
        let spans = locked(&backend.spans);
        let diff = spans[0].attributes.iter().find(|pair| pair.key.as_str() == "dittofs.diff").expect("set");
        assert!(diff.value.as_str().len() <= super::super::table::DIFF_MAX);
    });
}

#[test]
fn the_room_for_thousands_of_open_traces_is_given_back_when_they_are_over() {
    traced(false, |tracer, backend, tail| {
        let many: Vec<Span> = (0..5_000).map(|_| root(tracer, "watch")).collect();
        assert!(locked(&tail.open).capacity() >= 5_000);
        let left = TraceContext::of(&many[0]);
        drop(many);
        assert!(locked(&tail.open).capacity() <= 2 * OPEN_USUAL, "{}", locked(&tail.open).capacity());
        let late = branch(&left, "late");
        decided(&late, "update", "");
        drop(late);
        assert_eq!(backend.names(), ["watch", "late"], "the one that was left open is still found");
    });
}
