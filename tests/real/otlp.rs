//! The export of traces, as far as a backend does not show it: protocols, headers, TLS, collectors that are ill.

use std::time::{Duration, Instant};

use dittofs_testbed::operator::OperatorOptions;
use dittofs_testbed::otlp::{Behaviour, Options, OtlpReceiver, Protocol};
use serde_json::json;

use crate::look::LATER;
use crate::metrics::{address, scrape, sum};
use crate::support::Bed;

const BOTH: [(&str, u64); 2] = [("nfs", 12049), ("smb", 1445)];

fn receiver(tls: bool, behaviour: Behaviour) -> OtlpReceiver {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    OtlpReceiver::start(Options { tls, behaviour }).expect("the receiver starts")
}

/// A ready server `files` whose operator runs with this environment.
async fn with_env(test: &str, env: &[(&str, &str)]) -> Bed {
    let mut bed = Bed::idle(test).await;
    let mut env: Vec<(String, String)> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.push(("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "200".to_owned()));
    env.push(("DITTOFS_METRICS_ADDR".to_owned(), "127.0.0.1:0".to_owned()));
    let options = OperatorOptions { env, ..bed.options() };
    bed.world.start_operator(options).await.expect("the operator starts");
    bed.ready_server("files", &json!({})).await;
    bed.wait_adapter_services("files", &BOTH).await;
    bed
}

async fn wait_spans(bed: &Bed, receiver: &OtlpReceiver) {
    bed.world
        .wait_until("a span to arrive", LATER, async || {
            let found = receiver.spans().iter().any(|span| span.name == "reconcile services");
            if found { Ok(()) } else { Err(bed.world.operator().log_tail(5)) }
        })
        .await
        .expect("spans");
}

/// Stops and starts an adapter: what a collector that is ill must not hold up.
async fn adapters_follow(bed: &Bed) {
    bed.dittofs("files").stop_adapter("smb");
    bed.wait_adapter_services("files", &[("nfs", 12049)]).await;
    bed.dittofs("files").start_adapter("smb");
    bed.wait_adapter_services("files", &BOTH).await;
}

fn complaints(bed: &Bed) -> usize {
    let logs = bed.world.operator().logs();
    logs.iter().filter(|line| line.contains("trace collector")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn http_protobuf_headers_and_the_resource_are_as_the_environment_says() {
    let receiver = receiver(false, Behaviour::Accept);
    let bed = with_env(
        "otlp-http",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=storage,x-stage=test"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_SERVICE_NAME", "files-operator"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab"),
            ("POD_NAME", "operator-7"),
            ("POD_NAMESPACE", "dittofs-system"),
        ],
    )
    .await;
    wait_spans(&bed, &receiver).await;
    for request in receiver.requests() {
        assert_eq!(request.protocol, Protocol::HttpProtobuf);
        assert_eq!(request.headers.get("x-team").map(String::as_str), Some("storage"), "{:?}", request.headers);
        assert_eq!(request.headers.get("x-stage").map(String::as_str), Some("test"));
    }
    let span = receiver.spans().remove(0);
    for (key, value) in [
        ("service.name", "files-operator"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "lab"),
        ("k8s.pod.name", "operator-7"),
        ("k8s.namespace.name", "dittofs-system"),
    ] {
        assert_eq!(span.resource.get(key), Some(&json!(value)), "{:?}", span.resource);
    }
    assert_eq!(complaints(&bed), 0);
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_tls_trusts_the_ca_that_is_named_and_no_other() {
    let receiver = receiver(true, Behaviour::Accept);
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, receiver.ca_pem().expect("TLS has a CA")).expect("written");
    let ca = ca.to_str().expect("a path").to_owned();
    let endpoint = receiver.endpoint().to_owned();
    let bed =
        with_env("otlp-tls", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca)])
            .await;
    wait_spans(&bed, &receiver).await;
    assert!(receiver.requests().iter().all(|request| request.protocol == Protocol::Grpc));
    bed.finish(1).await;

    let before = receiver.spans().len();
    let bed = with_env("otlp-untrusted", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    bed.world
        .wait_until("the complaint", LATER, async || if complaints(&bed) > 0 { Ok(()) } else { Err("none".to_owned()) })
        .await
        .expect("a complaint");
    adapters_follow(&bed).await;
    assert_eq!(receiver.spans().len(), before, "a certificate of an unknown CA is not trusted");
    assert_eq!(complaints(&bed), 1, "and that is said once a minute at most");
    bed.finish(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_refuses_or_hangs_holds_nothing_up_not_even_the_end() {
    for (test, behaviour) in [("otlp-refuses", Behaviour::Refuse), ("otlp-hangs", Behaviour::Hang)] {
        let receiver = receiver(false, behaviour);
        let bed = with_env(
            test,
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
                // So small that it is full at once: what does not fit is dropped, nobody waits.
                ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
            ],
        )
        .await;
        adapters_follow(&bed).await;
        bed.world
            .wait_until("the loss to be told", LATER, async || {
                let logs = bed.world.operator().logs();
                let told =
                    logs.iter().any(|line| line.contains("spans are dropped") || line.contains("they are dropped"));
                if told { Ok(()) } else { Err("not told".to_owned()) }
            })
            .await
            .expect("told");
        let metrics = scrape(&address(&bed)).await;
        let dropped = sum(&metrics, "dittofs_operator_spans_dropped_total", &[]);
        assert!(dropped > 0.0, "each lost span is counted");
        assert!(complaints(&bed) <= 2, "one line a minute for each way of losing spans");
        let started = Instant::now();
        let exit = bed.world.operator().sigterm(Duration::from_secs(25)).await.expect("it ends");
        assert_eq!(exit.code, Some(0), "{test}: after {:?}", started.elapsed());
        receiver.set_behaviour(Behaviour::Accept);
        bed.finish(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_nothing_is_exported_and_ids_tie_log_and_status_together() {
    let bed = with_env("otlp-off", &[]).await;
    adapters_follow(&bed).await;
    let server = bed
        .world
        .wait_server("files", "to tell its last change", LATER, |server| {
            // Which of the changes it is depends on what came last: the Service, or the hold that its port ended.
            let change = &server["status"]["lastChange"];
            let id = change["traceID"].as_str().unwrap_or_default();
            let logs = bed.world.operator().logs();
            let line = logs.iter().rev().find(|line| line.contains(id) && line.contains("\"changes\""));
            let settled = server["status"]["activeAdapters"] == "nfs, smb";
            if id.len() == 32 && settled && line.is_some() { Ok(()) } else { Err(change.to_string()) }
        })
        .await
        .expect("told");
    assert!(server["status"]["lastChange"]["summary"].as_str().is_some_and(|summary| summary.contains("dated ")));
    assert_eq!(complaints(&bed), 0);
    let untraced = bed
        .dittofs("files")
        .requests()
        .iter()
        .all(|request| request.traceparent.as_ref().is_some_and(|parent| parent.ends_with("-00")));
    assert!(untraced, "the flag says that nothing is recorded");
    bed.finish(1).await;

    let bed = with_env("otlp-disabled", &[("OTEL_SDK_DISABLED", "true")]).await;
    adapters_follow(&bed).await;
    assert!(bed.dittofs("files").requests().iter().all(|request| request.traceparent.is_none()));
    assert!(bed.world.operator().logs().iter().all(|line| !line.contains("trace_id")));
    bed.finish(1).await;
}
