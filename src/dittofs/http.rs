//! One HTTP client for the APIs of all servers, with the limits that a sick or hostile server needs.
//!
//! It follows no redirect, keeps no cookie, asks for and undoes no compression, and repeats nothing. Every request
//! ends at its [`Deadline`], whatever the server does, and reads a bounded number of bytes. `HTTP_PROXY` and
//! `NO_PROXY` are honoured.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url, redirect, retry};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::error::{ApiError, Operation, excerpt, root_cause};
use super::tls::{Shared, Terms, TlsError, TlsMaterial, expiry, fault};
use crate::telemetry::TraceContext;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::table::Attribute;
use crate::telemetry::trace::{describe, failed as failed_span, set, started};

/// What a poll may cost.
#[derive(Clone, Copy, Debug)]
pub struct HttpSettings {
    /// Time of a whole poll, logins and all, whatever the polling interval. The real server takes up to 5 s for a
    /// list when an adapter is sick.
    pub poll_timeout: Duration,
    /// Largest body in bytes that is read.
    pub max_body: usize,
    /// Whether `HTTP_PROXY` and `NO_PROXY` count.
    pub proxy_from_env: bool,
}

impl Default for HttpSettings {
    /// 10 s, 1 MiB, with the environment's proxy.
    fn default() -> Self {
        Self { poll_timeout: Duration::from_secs(10), max_body: 1 << 20, proxy_from_env: true }
    }
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The process has installed no TLS provider.
    #[error("no TLS provider is installed; call rustls::crypto::aws_lc_rs::default_provider().install_default() first")]
    NoTlsProvider,
    /// The client refused its settings, a proxy in the environment for one.
    #[error("cannot make the HTTP client: {cause}; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY")]
    Build {
        /// The innermost cause.
        cause: String,
        /// The client's error.
        source: reqwest::Error,
    },
}

/// The shared client; a clone shares the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Arc<reqwest::Client>,
    settings: HttpSettings,
    metrics: Metrics,
    shared: Shared,
    /// Of a client for one server's TLS.
    secure: Option<Arc<Secure>>,
}

#[derive(Debug)]
struct Secure {
    terms: Terms,
    /// When the certificate that is shown expires.
    own_expiry: Option<i64>,
    /// When the certificate that the server showed last expires, in seconds since 1970; 0 before the first.
    server_expiry: AtomicI64,
}

/// When a poll is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// `time` after `start`.
    pub fn after(start: Instant, time: Duration) -> Self {
        Self(start + time)
    }

    /// The result of `work`, or `None` when the deadline comes first; the work is dropped then.
    pub async fn bound<F: Future>(self, work: F) -> Option<F::Output> {
        tokio::time::timeout_at(self.0, work).await.ok()
    }
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) bearer: Option<&'a str>,
    pub(super) body: Option<serde_json::Value>,
    /// What must not come back in an error text, should the server repeat it.
    pub(super) secrets: &'a [&'a str],
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) operation: Operation,
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    detail: Option<String>,
}

impl Answer {
    /// The error for an answer whose status is not one that the request ends well with.
    pub(super) fn into_status_error(self) -> ApiError {
        ApiError::Status { operation: self.operation, status: self.status.as_u16(), detail: self.detail }
    }
}

impl HttpClient {
    /// A client for the whole process. Needs the process's TLS provider.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpClientError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(HttpClientError::NoTlsProvider);
        }
        let built = builder(settings).build().or_else(|error| {
            // An image without CA certificates: plain http, the usual case, needs none, and https will say so.
            builder(settings).tls_certs_only([]).build().map_err(|_| error)
        });
        match built {
            Ok(client) => Ok(Self {
                client: Arc::new(client),
                settings,
                metrics: Metrics::default(),
                shared: Shared::default(),
                secure: None,
            }),
            Err(source) => Err(HttpClientError::Build { cause: root_cause(&source), source }),
        }
    }

    /// The same, counting its requests in `metrics`.
    #[must_use]
    pub fn counted(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// The same for a server with this TLS: its connections are those of every client with the same setting.
    pub fn secured(&self, material: &TlsMaterial) -> Result<Self, TlsError> {
        let (config, own_expiry) = material.config()?;
        let client = self.shared.get(material.digest(), || {
            let built = builder(self.settings).http1_only().tls_backend_preconfigured(config).tls_info(true).build();
            built.map_err(|error| TlsError::Client { cause: root_cause(&error) })
        })?;
        let secure = Secure { terms: Terms::of(material), own_expiry, server_expiry: AtomicI64::new(0) };
        Ok(Self { client, secure: Some(Arc::new(secure)), ..self.clone() })
    }

    /// When the certificate that the server showed last, and the one that is shown to it, expire, in seconds since 1970.
    pub fn expiries(&self) -> [Option<i64>; 2] {
        let Some(secure) = &self.secure else { return [None; 2] };
        let server = secure.server_expiry.load(Ordering::Relaxed);
        [(server != 0).then_some(server), secure.own_expiry]
    }

    /// Where requests are counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The deadline of a poll that starts at `now`.
    pub fn deadline(&self, now: Instant) -> Deadline {
        Deadline::after(now, self.settings.poll_timeout)
    }

    /// Sends one request and reads its whole answer.
    pub(super) async fn send(&self, call: Call<'_>, deadline: Deadline) -> Result<Answer, ApiError> {
        let operation = call.operation;
        let span = open_span(&call);
        let start = Instant::now();
        let answered = deadline.bound(self.exchange(call).instrument(span.clone())).await;
        let result = answered.unwrap_or(Err(ApiError::Timeout { operation }));
        match &result {
            Ok(answer) => {
                self.metrics.dittofs_answered(operation.label(), answer.status.as_u16(), start.elapsed());
                set(&span, Attribute::Status, i64::from(answer.status.as_u16()));
                if answer.status.is_client_error() || answer.status.is_server_error() {
                    failed_span(&span, status_label(answer.status), answer.detail.as_deref().unwrap_or_default());
                }
            }
            Err(error) => {
                self.metrics.dittofs_unanswered(operation.label(), error.broke_by(), start.elapsed());
                failed_span(&span, error.category(), &error.to_string());
            }
        }
        result
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Answer, ApiError> {
        let operation = call.operation;
        let https = call.url.scheme() == "https";
        let host = https.then(|| call.url.host_str().unwrap_or_default().to_owned());
        let failed = |error, answer_began| self.failed(operation, host.as_deref(), error, answer_began);
        let mut headers = reqwest::header::HeaderMap::new();
        TraceContext::current().inject(&mut headers);
        let mut request = self.client.request(call.method, call.url).headers(headers);
        if let Some(token) = call.bearer {
            request = request.bearer_auth(token);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|error| failed(error, false))?;
        self.look_at_certificate(&response);
        let status = response.status();
        let limit = self.settings.max_body;
        let too_large = || ApiError::TooLarge { operation, limit };
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(error, true))? {
            if chunk.len() > limit - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        let detail = if status.is_success() { None } else { problem_detail(&body, call.secrets) };
        Ok(Answer { operation, status, body, detail })
    }

    fn look_at_certificate(&self, response: &reqwest::Response) {
        let Some(secure) = &self.secure else { return };
        let shown = response.extensions().get::<reqwest::tls::TlsInfo>().and_then(|info| info.peer_certificate());
        if let Some(expires) = shown.and_then(expiry) {
            secure.server_expiry.store(expires, Ordering::Relaxed);
        }
    }

    /// `error` sorted by whether the server could be reached at all. `host` is that of an https URL.
    fn failed(&self, operation: Operation, host: Option<&str>, error: reqwest::Error, answer_began: bool) -> ApiError {
        let error = error.without_url();
        let terms = self.secure.as_ref().map(|secure| &secure.terms);
        if let Some((fault, text)) = host.filter(|_| !answer_began).and_then(|host| fault(&error, host, terms)) {
            return ApiError::Tls { operation, fault, text, source: error.into() };
        }
        let cause = root_cause(&error);
        if answer_began || is_not_http(&error) {
            ApiError::Broken { operation, cause, source: error.into() }
        } else {
            ApiError::Unreachable { operation, cause, source: error.into() }
        }
    }
}

/// The span of a call, inside the current one.
fn open_span(call: &Call<'_>) -> Span {
    let span = tracing::error_span!("dittofs", otel.name = %format_args!("dittofs {}", call.operation.route()), otel.kind = "client");
    started(&span);
    describe(&span, || {
        let path = call.operation.route().split_once(' ').map_or("", |(_, path)| path);
        [
            (Attribute::Operation, call.operation.label().into()),
            (Attribute::Method, call.method.as_str().to_owned().into()),
            (Attribute::UrlTemplate, path.into()),
            (Attribute::UrlFull, without_credentials(&call.url).into()),
            (Attribute::ServerAddress, call.url.host_str().unwrap_or_default().to_owned().into()),
            (Attribute::ServerPort, i64::from(call.url.port_or_known_default().unwrap_or_default()).into()),
        ]
    });
    span
}

/// The URL as it may be shown: a template can hold credentials.
fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

/// A refusal as a static label.
fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        409 => "409",
        422 => "422",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ if status.is_server_error() => "5xx",
        _ => "4xx",
    }
}

fn builder(settings: HttpSettings) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("dittofs-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        // One idle connection a server, and those of a deleted server go within two minutes.
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(90));
    if settings.proxy_from_env { builder } else { builder.no_proxy() }
}

/// Whether something answered that does not speak HTTP.
fn is_not_http(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// `detail` of a problem document.
fn problem_detail(body: &[u8], secrets: &[&str]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Document {
        detail: String,
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    Some(excerpt(&document.detail, secrets)).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
