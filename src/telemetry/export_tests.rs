//! What the environment may say, and what becomes of it.

use std::collections::HashMap;

use super::*;

fn from(pairs: &[(&str, &str)]) -> Result<Tracing, ExportError> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let map: HashMap<String, String> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Tracing::from_env(move |name| map.get(name).cloned(), &Origin::default(), false)
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");

#[tokio::test]
async fn an_endpoint_switches_the_export_on_and_nothing_else_does() {
    assert!(!from(&[]).expect("fine").exports());
    assert!(!from(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).expect("empty is unset").exports());
    assert!(from(&[ENDPOINT]).expect("fine").exports());
    assert!(from(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")]).expect("fine").exports());
    assert!(from(&[("OTEL_TRACES_EXPORTER", "otlp")]).expect("the default endpoint").exports());
    assert!(!from(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).expect("fine").exports());
}

#[tokio::test]
async fn ids_are_made_without_an_endpoint_and_not_when_the_sdk_is_disabled() {
    assert!(from(&[]).expect("fine").sdk_tracer().is_some());
    let disabled = from(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).expect("fine");
    assert!(disabled.sdk_tracer().is_none() && !disabled.exports());
}

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_with_variable_value_and_remedy() {
    for (variable, value, remedy) in [
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp and none"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "always_on"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "thrift", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "gzip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem", "PEM"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere/key.pem", "PEM"),
    ] {
        let error = from(&[ENDPOINT, (variable, value)]).expect_err(variable).to_string();
        for part in [variable, value, remedy] {
            assert!(error.contains(part), "{part} is not in {error:?}");
        }
    }
    let error = from(&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "12")]);
    assert!(error.expect_err("no share").to_string().contains("OTEL_TRACES_SAMPLER_ARG=12"));
    from(&[ENDPOINT, ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.1")])
        .expect("a share");
}

#[test]
fn the_environment_wins_over_what_the_operator_knows_of_itself() {
    let origin = Origin { instance: "pod-1".into(), pod: Some("pod-1".into()), namespace: None };
    let value = |resource: &Resource, key: &'static str| {
        resource.get(&opentelemetry::Key::from_static_str(key)).map(|value| value.to_string())
    };
    let own = resource(&|_| None, &origin);
    assert_eq!(value(&own, "service.name").as_deref(), Some("dittofs-operator"));
    assert_eq!(value(&own, "service.instance.id").as_deref(), Some("pod-1"));
    assert_eq!(value(&own, "k8s.pod.name").as_deref(), Some("pod-1"));
    assert_eq!(value(&own, "k8s.namespace.name"), None);
    let given = |name: &str| (name == "OTEL_RESOURCE_ATTRIBUTES").then(|| "service.name=x, k8s.pod.name=y".to_owned());
    let own = resource(&given, &origin);
    assert_ne!(value(&own, "service.name").as_deref(), Some("dittofs-operator"));
    assert_ne!(value(&own, "k8s.pod.name").as_deref(), Some("pod-1"), "left to the SDK's own reading");
}

#[test]
fn one_line_a_minute() {
    let throttle = Throttle::default();
    assert!(throttle.is_open());
    assert!(!throttle.is_open());
    *throttle.0.lock().expect("no panic") = Instant::now().checked_sub(QUIET);
    assert!(throttle.is_open());
}
