//! Traces in messages and headers.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::error_span;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

fn traced(test: impl FnOnce()) {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test")).with_context_activation(false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), test);
}

#[test]
fn a_request_carries_the_span_that_makes_it() {
    traced(|| {
        let span = begin(error_span!("poll"), &TraceContext::default(), &[]);
        let mut headers = http::HeaderMap::new();
        TraceContext::of(&span).inject(&mut headers);
        let context = TraceContext::of(&span).span_context().expect("started");
        let wanted = format!("00-{}-{}-01", context.trace_id(), context.span_id());
        assert_eq!(headers["traceparent"], wanted.as_str());
        assert_eq!(TraceContext::of(&span).trace_id(), Some(context.trace_id().to_string()));
    });
}

#[test]
fn without_a_trace_nothing_is_carried() {
    let mut headers = http::HeaderMap::new();
    TraceContext::current().inject(&mut headers);
    assert!(headers.is_empty());
    assert_eq!(TraceContext::current().trace_id(), None);
    assert!(!TraceContext::current().is_open());
}

#[test]
fn a_link_leads_back_but_no_work_goes_on_there() {
    traced(|| {
        let span = begin(error_span!("poll"), &TraceContext::default(), &[]);
        let place = TraceContext::of(&span);
        assert!(place.is_open());
        let link = place.to_link();
        assert!(!link.is_open());
        assert_eq!(link.span_context().map(|c| c.span_id()), place.span_context().map(|c| c.span_id()));
        assert!(TraceContext::default().to_link().span_context().is_none());
    });
}

#[test]
fn what_goes_on_elsewhere_is_of_the_same_trace() {
    traced(|| {
        let poll = begin(error_span!("poll"), &TraceContext::default(), &[]);
        let place = TraceContext::of(&poll);
        drop(poll);
        let work = begin(error_span!("work"), &place, &[]);
        let (a, b) = (place.span_context().expect("a span"), TraceContext::of(&work).span_context().expect("a span"));
        assert_eq!(a.trace_id(), b.trace_id());
        assert_ne!(a.span_id(), b.span_id());
    });
}

#[test]
fn queue_times_are_milliseconds_to_the_microsecond() {
    let time = milliseconds(Duration::from_nanos(1_234_567));
    assert!((time - 1.235).abs() < 1e-9, "{time}");
}
