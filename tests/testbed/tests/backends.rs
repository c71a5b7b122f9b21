//! Jaeger and Prometheus as the tests of the operator use them, with telemetry of this file's own making.
//!
//! `UPDATE_GOLDEN=1` renews `src/jaeger/fixture.json`, which the unit tests of the model and of the rendering read, from
//! what Jaeger answers here.

use dittofs_testbed::cluster::{repository, wait_until};
use dittofs_testbed::jaeger::{Jaeger, Search, Trace};
use dittofs_testbed::prometheus::{PromConfig, Prometheus, ScrapeTarget, promtool};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId};
use opentelemetry::trace::{TraceState, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProtoKeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as ProtoSpan};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, SdkTracerProvider};
use prost::Message as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_mins(1);

/// 2026-01-14T03:12:00Z: the night that the issue asks about.
const NIGHT: Duration = Duration::from_mins(29_472_672);

/// The trace of [`story`].
const STORY: &str = "4d0f1a3c5b7e49a2816f00000000c0de";

/// Ids that are the same in every run.
#[derive(Debug, Default)]
struct Ids(AtomicU64);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from_hex(STORY).unwrap()
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from_bytes((0xa000_0000_0000_0000 + self.0.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes())
    }
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + NIGHT + Duration::from_millis(ms)
}

/// What an operator might send for a poll that found an adapter gone: fixed ids, fixed times.
fn story(provider: &SdkTracerProvider) {
    let tracer = provider.tracer("backends");
    let server = || KeyValue::new("dittofs.server", "home/files");
    let begin = |name: &'static str, kind, start, attributes: Vec<KeyValue>, parent: &Context| {
        let mut attributes = attributes;
        attributes.push(server());
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(at(start)).with_attributes(attributes);
        parent.with_span(builder.start_with_context(&tracer, parent))
    };
    let status = |code: i64| KeyValue::new("http.response.status_code", code);

    let cause = KeyValue::new("dittofs.cause", "poll");
    let poll = begin("poll adapters", SpanKind::Internal, 0, vec![cause], &Context::new());
    let get = begin("dittofs GET /api/v1/adapters", SpanKind::Client, 1, vec![status(200)], &poll);
    get.span().end_with_timestamp(at(13));

    let earlier = SpanContext::new(
        TraceId::from_hex("00000000000000000000000000000bad").unwrap(),
        SpanId::from_hex("00000000000000fe").unwrap(),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    let decision = "delete Service files-adapter-nfs: the adapter nfs is no longer enabled";
    let builder = tracer
        .span_builder("reconcile services")
        .with_start_time(at(14))
        .with_attributes([
            server(),
            KeyValue::new("dittofs.decision", decision),
            KeyValue::new(
                "dittofs.diff",
                "Service files-adapter-nfs: there, port 12049, not wanted; Service files-adapter-smb: as wanted, port 12445",
            ),
        ])
        .with_links(vec![Link::new(earlier, Vec::new(), 0)]);
    let reconcile = poll.with_span(builder.start_with_context(&tracer, &poll));
    let delete = begin("kube DELETE services", SpanKind::Client, 15, vec![status(200)], &reconcile);
    delete.span().end_with_timestamp(at(21));
    reconcile.span().end_with_timestamp(at(22));

    let ports = begin("reconcile ports", SpanKind::Internal, 14, Vec::new(), &poll);
    ports.span().add_event_with_timestamp(
        "conflict",
        at(40),
        vec![KeyValue::new("k8s.resource.version", "812"), KeyValue::new("attempt", 1_i64)],
    );
    let put = begin("kube PUT statefulsets", SpanKind::Client, 16, vec![status(409)], &ports);
    put.span().set_attribute(KeyValue::new("error.type", "409"));
    put.span().set_status(Status::error("the object has been modified"));
    put.span().end_with_timestamp(at(40));
    let put = begin("kube PUT statefulsets", SpanKind::Client, 62, vec![status(200)], &ports);
    put.span().end_with_timestamp(at(71));
    ports.span().end_with_timestamp(at(71));
    poll.span().end_with_timestamp(at(72));
}

async fn send(endpoint: String, service: &'static str, tell: fn(&SdkTracerProvider)) {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().unwrap();
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder_empty().with_attribute(KeyValue::new("service.name", service)).build())
        .with_id_generator(Ids::default())
        .with_batch_exporter(exporter)
        .build();
    tell(&provider);
    tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap().unwrap();
}

/// A search that reaches back to [`NIGHT`].
fn ever(service: &str) -> Search {
    Search { lookback: SystemTime::now().duration_since(at(0)).unwrap() + PATIENCE, ..Search::service(service) }
}

#[tokio::test]
async fn jaeger_gives_back_what_was_sent_and_finds_it_as_an_sre_would() {
    let jaeger = Jaeger::start().await.unwrap();
    assert_eq!(jaeger.services().await.unwrap(), Vec::<String>::new());
    send(jaeger.otlp_grpc(), "dittofs-operator", story).await;

    let whole = |traces: &[Trace]| match traces {
        [trace] if trace.spans.len() == 7 => Ok(trace.clone()),
        _ => Err(format!("{traces:?}")),
    };
    let by_server = ever("dittofs-operator").tag("dittofs.server", "home/files").operation("kube DELETE services");
    let trace = jaeger.wait_for(&by_server, PATIENCE, whole).await.unwrap();
    trace.check_shape().unwrap();
    assert_eq!(trace.trace_id, STORY);
    assert_eq!(trace.start_us(), u64::try_from(NIGHT.as_micros()).unwrap());
    assert_eq!(trace.duration_us(), 72_000);
    let by_decision = ever("dittofs-operator")
        .tag("dittofs.decision", "delete Service files-adapter-nfs: the adapter nfs is no longer enabled");
    assert_eq!(jaeger.traces(&by_decision).await.unwrap().len(), 1);
    for nothing in [
        ever("dittofs-operator").tag("dittofs.server", "home/other"),
        ever("dittofs-operator").operation("kube DELETE secrets"),
        ever("someone-else"),
        Search::service("dittofs-operator"), // the last hour
    ] {
        assert_eq!(jaeger.traces(&nothing).await.unwrap(), [], "{nothing:?}");
    }
    assert_eq!(jaeger.services().await.unwrap(), ["dittofs-operator"]);
    assert_eq!(jaeger.trace(STORY).await.unwrap().as_ref(), Some(&trace));
    assert_eq!(jaeger.trace("000000000000000000000000000000aa").await.unwrap(), None);

    // The fixture of the unit tests is what Jaeger answers.
    let fixture = repository().join("tests/testbed/src/jaeger/fixture.json");
    let body = reqwest::get(format!("{}/api/traces/{STORY}", jaeger.query_url())).await.unwrap().bytes().await.unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&fixture, format!("{:#}\n", answer["data"][0])).unwrap();
    }
    let recorded = serde_json::from_slice(&std::fs::read(&fixture).unwrap()).unwrap();
    assert_eq!(Trace::from_json(&recorded).unwrap(), trace, "UPDATE_GOLDEN=1 renews it");
}

#[tokio::test]
async fn jaeger_takes_protobuf_over_http_too() {
    let jaeger = Jaeger::start().await.unwrap();
    let name = AnyValue { value: Some(any_value::Value::StringValue("by-http".to_owned())) };
    let service = ProtoKeyValue { key: "service.name".to_owned(), value: Some(name), ..ProtoKeyValue::default() };
    let span = ProtoSpan {
        trace_id: vec![7; 16],
        span_id: vec![9; 8],
        name: "alone".to_owned(),
        start_time_unix_nano: u64::try_from(NIGHT.as_nanos()).unwrap(),
        end_time_unix_nano: u64::try_from(NIGHT.as_nanos()).unwrap() + 5_000,
        ..ProtoSpan::default()
    };
    let spans = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    let resource = ProtoResource { attributes: vec![service], ..ProtoResource::default() };
    let spans = ResourceSpans { resource: Some(resource), scope_spans: vec![spans], ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![spans] };
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/traces", jaeger.otlp_http()))
        .header("content-type", "application/x-protobuf")
        .body(request.encode_to_vec())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let first = |traces: &[Trace]| traces.first().cloned().ok_or_else(|| "none".to_owned());
    let trace = jaeger.wait_for(&ever("by-http"), PATIENCE, first).await.unwrap();
    assert_eq!((trace.spans[0].name.as_str(), trace.duration_us()), ("alone", 5));
}

/// A `/metrics` whose one value the test sets.
async fn metrics(value: Arc<AtomicU64>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap_or_default() == 0 {
                continue;
            }
            let text = exposition(value.load(Ordering::Relaxed));
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain; version=0.0.4\r\n";
            // A scraper that went away does not matter.
            let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{text}", text.len()).as_bytes()).await;
        }
    });
    address
}

fn exposition(value: u64) -> String {
    format!(
        "# HELP test_late_seconds How late.\n# TYPE test_late_seconds gauge\ntest_late_seconds{{actor=\"a\"}} {value}\n"
    )
}

const RULES: &str = "
groups:
- name: test
  rules:
  - record: test:late_seconds:max
    expr: max(test_late_seconds)
  - alert: TestLate
    expr: test_late_seconds > 5
    for: 1s
    labels: {severity: page}
    annotations: {summary: '{{ $value }} s late'}
";

#[tokio::test]
async fn prometheus_scrapes_answers_and_lets_an_alert_fire_and_resolve() {
    let value = Arc::new(AtomicU64::new(3));
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    let addr = metrics(Arc::clone(&value)).await;
    let labels = BTreeMap::from([("pod".to_owned(), "operator-0".to_owned())]);
    let target = ScrapeTarget { job: "operator".to_owned(), addr: addr.clone(), labels };
    let mut config =
        PromConfig { targets: vec![target], scrape_interval: Duration::from_millis(200), rule_files: Vec::new() };
    let prometheus = Prometheus::start(&config).await.unwrap();
    assert_eq!(prometheus.rules().await.unwrap(), []);
    config.rule_files.push(rules);
    prometheus.reload(&config).await.unwrap();

    let is = |wanted: f64| {
        move |samples: &[dittofs_testbed::prometheus::Sample]| match samples {
            [sample] if (sample.value - wanted).abs() < f64::EPSILON => Ok(sample.clone()),
            _ => Err(format!("{samples:?}")),
        }
    };
    let sample = prometheus.wait_for("test_late_seconds", PATIENCE, is(3.0)).await.unwrap();
    let label = |name: &str| sample.labels[name].clone();
    assert_eq!(
        [label("__name__"), label("actor"), label("pod"), label("job"), label("instance")],
        ["test_late_seconds", "a", "operator-0", "operator", addr.as_str()]
    );
    let target = &prometheus.targets().await.unwrap()[0];
    assert_eq!((target.job.as_str(), target.health.as_str(), target.last_error.as_str()), ("operator", "up", ""));
    prometheus.wait_for("test:late_seconds:max", PATIENCE, is(3.0)).await.unwrap();
    assert_eq!(prometheus.alerts().await.unwrap(), []);

    value.store(8, Ordering::Relaxed);
    let alert = prometheus.wait_firing("TestLate", PATIENCE).await.unwrap();
    assert_eq!((alert.labels["severity"].as_str(), alert.annotations["summary"].as_str()), ("page", "8 s late"));
    let rules = prometheus.rules().await.unwrap();
    let shown: Vec<_> = rules.iter().map(|rule| (rule.name.as_str(), rule.alerting, rule.state.as_str())).collect();
    assert_eq!(shown, [("test:late_seconds:max", false, ""), ("TestLate", true, "firing")]);
    assert!(rules.iter().all(|rule| rule.health == "ok" && rule.last_error.is_empty() && rule.group == "test"));

    value.store(1, Ordering::Relaxed);
    wait_until("no alert", PATIENCE, async || {
        let alerts = prometheus.alerts().await.unwrap();
        if alerts.is_empty() { Ok(()) } else { Err(format!("{alerts:?}")) }
    })
    .await
    .unwrap();
    let series = prometheus.query_range("test_late_seconds", PATIENCE, Duration::from_millis(200)).await.unwrap();
    let seen: Vec<_> = series[0].points.iter().map(|(_, value)| value.to_string()).collect();
    assert!(["3", "8", "1"].iter().all(|value| seen.iter().any(|seen| seen == value)), "{seen:?}");

    let error = prometheus.query("max(").await.unwrap_err();
    assert!(format!("{error:#}").contains("parse error"), "{error:#}");
    std::fs::write(&config.rule_files[0], "groups: [{name: x, rules: [{alert: A, expr: 'max('}]}]").unwrap();
    assert!(prometheus.reload(&config).await.unwrap_err().to_string().contains("refuses"));
}

#[tokio::test]
async fn promtool_checks_metrics_and_rules_and_tests_them() {
    let good = promtool(&["check", "metrics"], &exposition(3)).await.unwrap();
    assert!(good.status.success(), "{good:?}");
    let bad = promtool(&["check", "metrics"], "# TYPE late_total gauge\nlate_total 1\n").await.unwrap();
    assert!(!bad.status.success() && !bad.stderr.is_empty(), "{bad:?}");

    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("rules.yaml"), RULES).unwrap();
    let good = promtool(&["check", "rules", &path("rules.yaml")], "").await.unwrap();
    assert!(good.status.success(), "{good:?}");
    for (labels, passes) in [("{actor: a, severity: page}", true), ("{actor: b, severity: page}", false)] {
        let test = format!(
            "rule_files: [rules.yaml]\nevaluation_interval: 1s\ntests:\n- interval: 1s\n  \
             input_series: [{{series: 'test_late_seconds{{actor=\"a\"}}', values: '8x9'}}]\n  \
             alert_rule_test: [{{eval_time: 3s, alertname: TestLate, exp_alerts: \
             [{{exp_labels: {labels}, exp_annotations: {{summary: '8 s late'}}}}]}}]\n"
        );
        std::fs::write(path("test.yaml"), test).unwrap();
        let output = promtool(&["test", "rules", &path("test.yaml")], "").await.unwrap();
        assert_eq!(output.status.success(), passes, "{output:?}");
    }
}

/// Set for the process that the next test kills.
const VICTIM: &str = "DITTOFS_TESTBED_VICTIM";

#[tokio::test]
async fn neither_outlives_a_test_process_that_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let jaeger = Jaeger::start().await.unwrap();
        let prometheus = Prometheus::start(&PromConfig::default()).await.unwrap();
        println!("\nstarted {} {}", jaeger.pid(), prometheus.pid());
        return std::future::pending().await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "neither_outlives_a_test_process_that_is_killed", "--nocapture"]);
    // What it cannot clean up is cleaned up here.
    command.env(VICTIM, "1").env("TMPDIR", directory.path());
    let mut victim = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(victim.stdout.take().unwrap()).lines();
    let started = tokio::time::timeout(Duration::from_mins(5), async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the victim ended");
            if let Some(pids) = line.strip_prefix("started ") {
                return pids.split(' ').map(|pid| pid.parse::<u32>().unwrap()).collect::<Vec<_>>();
            }
        }
    });
    let pids = started.await.unwrap();
    assert_eq!((pids.len(), pids.iter().filter(|pid| lives(**pid)).count()), (2, 2));
    victim.kill().await.unwrap();
    wait_until("their end", PATIENCE, async || {
        let left: Vec<_> = pids.iter().filter(|pid| lives(**pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} live")) }
    })
    .await
    .unwrap();
}

/// Whether a process runs; one that has ended and was not waited for does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
