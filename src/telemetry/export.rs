//! The way of spans to an OTLP collector, configured by the standard `OTEL_*` variables.
//!
//! Owns the SDK's provider. Guarantees: at most as many spans as `OTEL_BSP_MAX_QUEUE_SIZE` wait for the collector;
//! what does not fit, or is not taken, is dropped and counted; the log says so once a minute at most; nobody waits for
//! the collector but the end of the process, for a bounded time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter as Exporter,
    SpanProcessor as _,
};
use opentelemetry_semantic_conventions::resource as semconv;

use super::metrics::SpanCounts;
use super::tail::{Sink, Tail, TailProcessor};
use super::trace::Tracer;

/// Longest flush at the end of the process.
const FLUSH: Duration = Duration::from_secs(5);
/// Least time between two log lines about the export.
const QUIET: Duration = Duration::from_mins(1);
/// Spans that wait for the collector at most, unless `OTEL_BSP_MAX_QUEUE_SIZE` is set. An eighth of the SDK's default, and
/// sent in smaller batches and sooner: a fleet that starts makes thousands of spans in seconds, and each that waits costs
/// a kilobyte.
const QUEUE: usize = 256;
/// Spans in one export, unless `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` is set.
const BATCH: usize = 64;
/// Longest time between two exports, unless `OTEL_BSP_SCHEDULE_DELAY` is set.
const DELAY: Duration = Duration::from_secs(1);
/// `OTEL_TRACES_SAMPLER` values that the SDK can honour.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// What cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A variable has a value that this program cannot honour.
    #[error("{variable}={value}: {remedy}")]
    Variable {
        /// Its name.
        variable: String,
        /// Its value.
        value: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file that a variable names cannot be used.
    #[error("{variable}={path}: {problem}; name a readable PEM file")]
    File {
        /// The variable.
        variable: String,
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The exporter refused its settings.
    #[error("the OTLP exporter cannot be made: {0}; check the OTEL_EXPORTER_OTLP_* variables")]
    Exporter(String),
}

/// Where the operator runs: attributes of every span's resource.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Name of this instance: the pod's, or the host's.
    pub instance: String,
    /// `POD_NAME`.
    pub pod: Option<String>,
    /// `POD_NAMESPACE`.
    pub namespace: Option<String>,
}

/// How the export goes, since the start; for metrics.
#[derive(Debug, Default)]
pub struct ExportStats {
    /// Spans that the collector took.
    pub exported: AtomicU64,
    /// Spans dropped because the queue to the collector was full.
    pub dropped_queue_full: AtomicU64,
    /// Spans dropped because the collector did not take them.
    pub dropped_export_failed: AtomicU64,
    /// Spans dropped because too many traces were undecided.
    pub dropped_undecided: AtomicU64,
}

impl SpanCounts for ExportStats {
    fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> [u64; 3] {
        [&self.dropped_queue_full, &self.dropped_export_failed, &self.dropped_undecided]
            .map(|count| count.load(Ordering::Relaxed))
    }
}

/// Traces of the process: what makes them, and what sends them.
#[derive(Debug)]
pub struct Tracing {
    /// Makes traces.
    pub tracer: Tracer,
    /// How the export goes.
    pub stats: Arc<ExportStats>,
    provider: Option<SdkTracerProvider>,
    queue: Option<Arc<Queue>>,
}

impl Tracing {
    /// As the environment says. `env` looks a variable up; an empty one is unset. To be called inside the runtime that
    /// the exporter is to work on.
    pub fn from_env(
        env: impl Fn(&str) -> Option<String>,
        origin: &Origin,
        keep_quiet_traces: bool,
    ) -> Result<Self, ExportError> {
        let env = |name: &str| env(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let stats = Arc::new(ExportStats::default());
        if env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Self { tracer: Tracer::default(), stats, provider: None, queue: None });
        }
        let settings = Settings::read(&env)?;
        let Some(protocol) = settings.protocol else {
            // Spans that nobody takes are not recorded, but have ids: log, events and status name them.
            let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOff).build();
            return Ok(Self { tracer: Tracer::default(), stats, provider: Some(provider), queue: None });
        };
        let exporter = exporter(protocol, &env)?;
        let resource = resource(&env, origin);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted =
            Counted { inner: exporter, waiting: waiting.clone(), stats: stats.clone(), log: Throttle::default() };
        let limit = env("OTEL_BSP_MAX_QUEUE_SIZE").and_then(|value| value.parse().ok()).unwrap_or(QUEUE);
        // The builder has read the environment; what is not set there is ours.
        let mut pace = BatchConfigBuilder::default().with_max_queue_size(limit);
        if env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").is_none() {
            pace = pace.with_max_export_batch_size(BATCH.min(limit));
        }
        if env("OTEL_BSP_SCHEDULE_DELAY").is_none() {
            pace = pace.with_scheduled_delay(DELAY);
        }
        let mut batches = BatchSpanProcessor::builder(counted).with_batch_config(pace.build()).build();
        batches.set_resource(&resource);
        let queue = Arc::new(Queue { batches, waiting, limit, stats: stats.clone(), log: Throttle::default() });
        let tail = Arc::new(Tail::new(queue.clone(), keep_quiet_traces));
        let processor = TailProcessor(tail.clone());
        let provider = SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build();
        Ok(Self { tracer: Tracer::new(tail), stats, provider: Some(provider), queue: Some(queue) })
    }

    /// What the subscriber's layer makes spans with; None when the SDK is disabled.
    pub fn sdk_tracer(&self) -> Option<SdkTracer> {
        self.provider.as_ref().map(|provider| provider.tracer(env!("CARGO_PKG_NAME")))
    }

    /// Whether spans are exported.
    pub fn exports(&self) -> bool {
        self.queue.is_some()
    }

    /// Sends what is queued and ends, within a bounded time.
    pub async fn shutdown(self) {
        let Some(queue) = self.queue else { return };
        let flush = tokio::task::spawn_blocking(move || {
            let _ = queue.batches.shutdown_with_timeout(FLUSH);
        });
        let _ = tokio::time::timeout(FLUSH, flush).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtlpProtocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Debug)]
struct Settings {
    /// None: nothing is exported.
    protocol: Option<OtlpProtocol>,
}

/// A variable for traces, or the one for all signals; with its name.
fn signal(env: &impl Fn(&str) -> Option<String>, rest: &str) -> Option<(String, String)> {
    ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
        let name = format!("{prefix}{rest}");
        env(&name).map(|value| (name, value))
    })
}

impl Settings {
    fn read(env: &impl Fn(&str) -> Option<String>) -> Result<Self, ExportError> {
        let refuse = |variable: &str, value: String, remedy: &'static str| {
            Err(ExportError::Variable { variable: variable.to_owned(), value, remedy })
        };
        let on = match env("OTEL_TRACES_EXPORTER") {
            None => signal(env, "ENDPOINT").is_some(),
            Some(exporter) if exporter == "otlp" => true,
            Some(exporter) if exporter == "none" => false,
            Some(other) => return refuse("OTEL_TRACES_EXPORTER", other, "only otlp and none are supported"),
        };
        if let Some(sampler) = env("OTEL_TRACES_SAMPLER") {
            if !SAMPLERS.contains(&sampler.as_str()) {
                let remedy = "supported are always_on, always_off, traceidratio, parentbased_always_on, \
                              parentbased_always_off and parentbased_traceidratio";
                return refuse("OTEL_TRACES_SAMPLER", sampler, remedy);
            }
            let ratio = env("OTEL_TRACES_SAMPLER_ARG").unwrap_or_default();
            let readable = ratio.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
            if sampler.ends_with("traceidratio") && !readable {
                return refuse("OTEL_TRACES_SAMPLER_ARG", ratio, "give a share between 0 and 1, such as 0.1");
            }
        }
        for (name, remedy) in
            [("TIMEOUT", "give milliseconds, such as 10000"), ("COMPRESSION", "only gzip and none are supported")]
        {
            if let Some((variable, value)) = signal(env, name) {
                let good = if name == "TIMEOUT" {
                    value.parse::<u64>().is_ok()
                } else {
                    ["gzip", "none"].contains(&value.as_str())
                };
                if !good {
                    return refuse(&variable, value, remedy);
                }
            }
        }
        let protocol = match signal(env, "PROTOCOL") {
            None => OtlpProtocol::Grpc,
            Some((_, value)) if value == "grpc" => OtlpProtocol::Grpc,
            Some((_, value)) if value == "http/protobuf" => OtlpProtocol::HttpProtobuf,
            Some((variable, value)) => return refuse(&variable, value, "only grpc and http/protobuf are supported"),
        };
        Ok(Self { protocol: on.then_some(protocol) })
    }
}

/// The exporter to the collector.
fn exporter(protocol: OtlpProtocol, env: &impl Fn(&str) -> Option<String>) -> Result<SpanExporter, ExportError> {
    let pem = |name: &str| -> Result<Option<Vec<u8>>, ExportError> {
        let Some((variable, path)) = signal(env, name) else { return Ok(None) };
        match std::fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(ExportError::File { variable, path, problem: error.to_string() }),
        }
    };
    let (ca, certificate, key) = (pem("CERTIFICATE")?, pem("CLIENT_CERTIFICATE")?, pem("CLIENT_KEY")?);
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err(ExportError::Variable {
                variable: "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE".to_owned(),
                value: "(set alone)".to_owned(),
                remedy: "set OTEL_EXPORTER_OTLP_CLIENT_KEY too, or none of the two",
            });
        }
    };
    let failed = |error: &dyn std::fmt::Display| ExportError::Exporter(error.to_string());
    match protocol {
        OtlpProtocol::Grpc => {
            let mut builder = SpanExporter::builder().with_tonic();
            if ca.is_some() || identity.is_some() {
                let mut tls = ClientTlsConfig::new();
                tls = match ca {
                    Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
                    None => tls.with_native_roots(),
                };
                if let Some((certificate, key)) = identity {
                    tls = tls.identity(Identity::from_pem(certificate, key));
                }
                builder = builder.with_tls_config(tls);
            }
            builder.build().map_err(|error| failed(&error))
        }
        OtlpProtocol::HttpProtobuf => {
            let timeout = signal(env, "TIMEOUT").and_then(|(_, value)| value.parse().ok()).unwrap_or(10_000);
            let mut client = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(Duration::from_millis(timeout));
            if let Some(ca) = ca {
                let certificates = reqwest::Certificate::from_pem_bundle(&ca).map_err(|error| failed(&error))?;
                client = client.tls_certs_only(certificates);
            }
            if let Some((mut certificate, key)) = identity {
                certificate.extend(key);
                client = client.identity(reqwest::Identity::from_pem(&certificate).map_err(|error| failed(&error))?);
            }
            let client = client.build().map_err(|error| failed(&error))?;
            let client = OnRuntime { client, runtime: tokio::runtime::Handle::current() };
            SpanExporter::builder().with_http().with_http_client(client).build().map_err(|error| failed(&error))
        }
    }
}

fn resource(env: &impl Fn(&str) -> Option<String>, origin: &Origin) -> Resource {
    // The environment wins: what is set there comes through the SDK's own detectors.
    let given = env("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let is_given = |key: &str| given.split(',').any(|pair| pair.split('=').next().is_some_and(|k| k.trim() == key));
    let named = env("OTEL_SERVICE_NAME").is_some() || is_given(semconv::SERVICE_NAME);
    let mut attributes = Vec::new();
    let mut add = |key: &'static str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty() && !is_given(key)) {
            attributes.push(KeyValue::new(key, value));
        }
    };
    if !named {
        add(semconv::SERVICE_NAME, Some(env!("CARGO_PKG_NAME").to_owned()));
    }
    add(semconv::SERVICE_VERSION, Some(env!("CARGO_PKG_VERSION").to_owned()));
    add(semconv::SERVICE_INSTANCE_ID, Some(origin.instance.clone()));
    add(semconv::K8S_POD_NAME, origin.pod.clone());
    add(semconv::K8S_NAMESPACE_NAME, origin.namespace.clone());
    Resource::builder().with_attributes(attributes).build()
}

/// At most one line a minute about what went wrong.
#[derive(Debug, Default)]
struct Throttle(Mutex<Option<Instant>>);

impl Throttle {
    fn is_open(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = last.is_none_or(|last| last.elapsed() >= QUIET);
        if open {
            *last = Some(Instant::now());
        }
        open
    }
}

/// The bounded queue before the collector.
#[derive(Debug)]
struct Queue {
    batches: BatchSpanProcessor,
    /// Spans given to the SDK's queue and not yet through the exporter.
    waiting: Arc<AtomicUsize>,
    limit: usize,
    stats: Arc<ExportStats>,
    log: Throttle,
}

impl Sink for Queue {
    fn take(&self, span: SpanData) {
        // Counted here, below the SDK's own limit: what the SDK drops it does not tell.
        if self.waiting.fetch_add(1, Ordering::AcqRel) < self.limit {
            self.batches.on_end(span);
            return;
        }
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        self.stats.dropped_queue_full.fetch_add(1, Ordering::Relaxed);
        if self.log.is_open() {
            tracing::warn!(limit = self.limit, "spans are dropped: the queue to the trace collector is full");
        }
    }

    fn lost(&self) {
        self.stats.dropped_undecided.fetch_add(1, Ordering::Relaxed);
    }
}

/// An exporter whose results are counted.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    stats: Arc<ExportStats>,
    log: Throttle,
}

impl<E: Exporter> Exporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
        match &result {
            Ok(()) => {
                self.stats.exported.fetch_add(spans as u64, Ordering::Relaxed);
            }
            Err(error) => {
                self.stats.dropped_export_failed.fetch_add(spans as u64, Ordering::Relaxed);
                if self.log.is_open() {
                    tracing::warn!(spans, error = %words(error), "the trace collector does not take our spans; they are dropped");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn words(error: &OTelSdkError) -> String {
    crate::cluster::cut(&error.to_string(), 300)
}

/// An HTTP client for the exporter's thread, which is none of the runtime's.
#[derive(Debug)]
struct OnRuntime {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

#[async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut response = http::Response::new(answer.bytes().await?);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok::<_, reqwest::Error>(response)
        });
        Ok(sent.await??)
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
