//! The receiver with the exporter that operators use, and with the bare gRPC client for the codes.

use super::*;
use crate::cluster::wait_until;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{Compression, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message as _;
use serde_json::json;
use std::io::Write as _;

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a parent and a child; the result of the exporter's shutdown.
async fn export(receiver: &OtlpReceiver, tls: Option<ClientTlsConfig>) -> OTelSdkResult {
    let mut metadata = MetadataMap::new();
    metadata.insert("x-tenant", "blue".parse().unwrap());
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(receiver.endpoint())
        .with_timeout(Duration::from_secs(5))
        .with_compression(Compression::Gzip)
        .with_metadata(metadata);
    if let Some(tls) = tls {
        builder = builder.with_tls_config(tls);
    }
    let service = KeyValue::new("service.name", "sender");
    let provider = SdkTracerProvider::builder()
        .with_resource(opentelemetry_sdk::Resource::builder_empty().with_attribute(service).build())
        .with_batch_exporter(builder.build().unwrap())
        .build();
    let tracer = provider.tracer("scope");
    let parent = Context::new().with_span(tracer.start_with_context("parent", &Context::new()));
    let child = tracer.span_builder("child").with_kind(SpanKind::Client).with_attributes([KeyValue::new("n", 7_i64)]);
    let child = parent.with_span(child.start_with_context(&tracer, &parent));
    child.span().add_event("happened", vec![KeyValue::new("yes", true)]);
    child.span().add_link(parent.span().span_context().clone(), Vec::new());
    child.span().set_status(Status::error("why"));
    child.span().end();
    parent.span().end();
    tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap()
}

#[tokio::test]
async fn spans_headers_and_resource_of_an_exporter_are_recorded() {
    let receiver = OtlpReceiver::start(Options::default()).unwrap();
    export(&receiver, None).await.unwrap();
    let spans = receiver.spans();
    let [child, parent] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((parent.name.as_str(), &parent.parent, &parent.error), ("parent", &None, &None));
    assert_eq!((child.name.as_str(), child.parent.as_ref()), ("child", Some(&parent.span_id)));
    assert_eq!((child.kind.as_str(), child.error.as_deref(), child.scope.as_str()), ("client", Some("why"), "scope"));
    assert_eq!((&child.attributes["n"], &child.resource["service.name"]), (&json!(7), &json!("sender")));
    assert_eq!((child.events[0].name.as_str(), &child.events[0].attributes["yes"]), ("happened", &json!(true)));
    assert_eq!((&child.links[0].trace_id, &child.links[0].span_id), (&parent.trace_id, &parent.span_id));
    assert!(child.trace_id.len() == 32 && child.span_id.len() == 16 && child.start_ns >= parent.start_ns);
    assert!(child.end_ns >= child.start_ns);
    let requests = receiver.requests();
    assert_eq!((requests.len(), requests[0].spans, requests[0].accepted), (1, 2, true));
    let headers = &receiver.headers()[0];
    assert_eq!((requests[0].protocol, headers["x-tenant"].as_str()), (Protocol::Grpc, "blue"));
    assert_eq!(headers["grpc-encoding"], "gzip");
}

#[tokio::test]
async fn over_tls_only_a_client_that_trusts_the_ca_gets_through() {
    background::runtime();
    let receiver = OtlpReceiver::start(Options { tls: true, ..Options::default() }).unwrap();
    let stranger = OtlpReceiver::start(Options { tls: true, ..Options::default() }).unwrap();
    let trust = |receiver: &OtlpReceiver| {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(receiver.ca_pem().unwrap()))
    };
    // Whether the exporter tells is its own business; that nothing came is ours.
    let _ = export(&receiver, Some(trust(&stranger))).await;
    assert_eq!((receiver.requests(), receiver.spans()), (Vec::new(), Vec::new()));
    export(&receiver, Some(trust(&receiver))).await.unwrap();
    assert_eq!(receiver.spans().len(), 2);
}

fn request() -> ExportTraceServiceRequest {
    let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "bare".to_owned(), ..Span::default() };
    let spans = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![spans], ..ResourceSpans::default() }],
    }
}

#[tokio::test]
async fn it_refuses_fails_and_hangs_by_grpc_as_it_is_told() {
    let receiver = OtlpReceiver::start(Options { behaviour: Behaviour::Refuse, ..Options::default() }).unwrap();
    let mut client = TraceServiceClient::connect(receiver.endpoint().to_owned()).await.unwrap();
    let refused = client.export(request()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    receiver.set_behaviour(Behaviour::Fail { grpc: tonic::Code::PermissionDenied as i32, http: 403 });
    let failed = client.export(request()).await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::PermissionDenied);
    assert_eq!(receiver.spans(), []);

    receiver.set_behaviour(Behaviour::Hang);
    let hanging = tokio::spawn(async move { client.export(request()).await });
    wait_until("the third request", PATIENCE, async || match receiver.requests().len() {
        3 => Ok(()),
        other => Err(format!("{other} requests")),
    })
    .await
    .unwrap();
    assert!(!hanging.is_finished() && receiver.spans().is_empty());
    receiver.set_behaviour(Behaviour::Slow(Duration::from_millis(20)));
    hanging.await.unwrap().unwrap();
    assert_eq!(receiver.spans()[0].request, 2);
    assert_eq!(receiver.requests().iter().map(|request| request.accepted).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test]
async fn it_takes_protobuf_by_http_and_refuses_other_content() {
    let receiver = OtlpReceiver::start(Options::default()).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let post = async |path: &str, content: &str| {
        let request = client.post(format!("{}{path}", receiver.endpoint())).header("content-type", content);
        request.body(request_bytes()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("/v1/traces", "application/x-protobuf").await, 200);
    assert_eq!(post("/v1/traces", "application/json").await, 415);
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(&request_bytes()).unwrap();
    let zipped = client.post(format!("{}/v1/traces", receiver.endpoint())).body(zip.finish().unwrap());
    let zipped = zipped.header("content-type", "application/x-protobuf").header("content-encoding", "gzip");
    assert_eq!(zipped.send().await.unwrap().status(), 200);
    assert_eq!(post("/v1/metrics", "application/x-protobuf").await, 404);
    receiver.set_behaviour(Behaviour::Refuse);
    assert_eq!(post("/v1/traces", "application/x-protobuf").await, 503);
    let spans = receiver.spans();
    assert_eq!((spans.len(), spans[0].name.as_str(), spans[1].name.as_str()), (2, "bare", "bare"));
    let requests = receiver.requests();
    assert_eq!((requests.len(), requests[0].protocol), (4, Protocol::HttpProtobuf));
}

fn request_bytes() -> Vec<u8> {
    request().encode_to_vec()
}
