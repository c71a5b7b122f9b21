//! A real Jaeger as a child process, and its query API as an SRE uses it.
//!
//! Owns the process ([`Jaeger`]); its traces are kept in memory and end with it. What came back is a pure model
//! ([`Trace`]) that can be judged ([`Trace::check_shape`]) and shown ([`render`]).

mod model;
mod render;

pub use model::{Event, Link, Node, Span, Trace};
pub use render::{Style, render, render_steady};

use crate::backend::{self, Backend};
use crate::cluster::{built, wait_until};
use crate::port::free_port;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// A running Jaeger with an OTLP receiver and the query API, all on 127.0.0.1.
pub struct Jaeger {
    process: Backend,
    grpc: u16,
    http: u16,
    query: u16,
}

/// What to search for: everything that is given must hold.
#[derive(Clone, Debug)]
pub struct Search {
    /// `service.name`.
    pub service: String,
    /// Name of a span of the trace.
    pub operation: Option<String>,
    /// Attributes of one span (or of its events, or of the resource) of the trace, as text.
    pub tags: BTreeMap<String, String>,
    /// How old the trace may be.
    pub lookback: Duration,
    /// How many traces at most: the newest.
    pub limit: usize,
}

impl Search {
    /// The newest 1000 traces of a service in the last hour.
    pub fn service(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            operation: None,
            tags: BTreeMap::new(),
            lookback: Duration::from_hours(1),
            limit: 1000,
        }
    }

    /// Narrowed to traces with a span of that name.
    #[must_use]
    pub fn operation(mut self, name: &str) -> Self {
        self.operation = Some(name.to_owned());
        self
    }

    /// Narrowed to traces with a span that has this attribute.
    #[must_use]
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    fn url(&self, base: &str, now: Duration) -> String {
        // A span may start a moment after the search was made.
        let end = now + Duration::from_mins(1);
        let mut query = vec![
            ("service", self.service.clone()),
            ("start", now.saturating_sub(self.lookback).as_micros().to_string()),
            ("end", end.as_micros().to_string()),
            ("limit", self.limit.to_string()),
        ];
        query.extend(self.operation.clone().map(|name| ("operation", name)));
        if !self.tags.is_empty() {
            let tags = self.tags.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
            query.push(("tags", Value::Object(tags).to_string()));
        }
        backend::with_query(&format!("{base}/api/traces"), &query)
    }
}

impl Jaeger {
    /// Starts a Jaeger of its own on ports of its own and waits until it answers. The program is `DITTOFS_JAEGER`, else
    /// what `tests/jaeger/build.sh` builds and caches.
    ///
    /// # Errors
    /// When it cannot be built or started, or does not become ready; with the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        let program = tokio::task::spawn_blocking(|| built("DITTOFS_JAEGER", "tests/jaeger/build.sh")).await??;
        let [grpc, http, query, query_grpc, admin, collector_grpc, collector_http] = ports()?;
        let local = |port: u16| format!("127.0.0.1:{port}");
        let args = [
            "--collector.otlp.enabled=true".to_owned(),
            format!("--collector.otlp.grpc.host-port={}", local(grpc)),
            format!("--collector.otlp.http.host-port={}", local(http)),
            format!("--query.http-server.host-port={}", local(query)),
            format!("--query.grpc-server.host-port={}", local(query_grpc)),
            format!("--admin.http.host-port={}", local(admin)),
            format!("--collector.grpc-server.host-port={}", local(collector_grpc)),
            format!("--collector.http-server.host-port={}", local(collector_http)),
            // Of no use here; they would listen on their usual ports otherwise.
            format!("--http-server.host-port={}", local(0)),
            format!("--processor.jaeger-binary.server-host-port={}", local(0)),
            format!("--processor.jaeger-compact.server-host-port={}", local(0)),
            format!("--processor.zipkin-compact.server-host-port={}", local(0)),
            // What is shown is what was sent.
            "--query.max-clock-skew-adjustment=0s".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let directory = Backend::directory("jaeger")?;
        // The admin port says 200 when all listeners are open.
        let ready = format!("http://{}/", local(admin));
        let process = Backend::start("jaeger", &program, &args, directory, &ready).await?;
        Ok(Self { process, grpc, http, query })
    }

    /// `http://…`: where OTLP over gRPC is received.
    pub fn otlp_grpc(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// `http://…`: where OTLP over HTTP is received, without the path `/v1/traces`.
    pub fn otlp_http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// `http://…`: the query API, `/api/…`.
    pub fn query_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.query)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The services that have sent something, in order.
    ///
    /// # Errors
    /// When Jaeger does not answer, or not with a list.
    pub async fn services(&self) -> anyhow::Result<Vec<String>> {
        let data = self.data(&format!("{}/api/services", self.query_url())).await?;
        let mut services: Vec<String> = serde_json::from_value::<Option<_>>(data)?.unwrap_or_default();
        services.sort();
        Ok(services)
    }

    /// The traces that match, newest first.
    ///
    /// # Errors
    /// When Jaeger does not answer, refuses, or answers something that is no trace.
    pub async fn traces(&self, search: &Search) -> anyhow::Result<Vec<Trace>> {
        let data = self.data(&search.url(&self.query_url(), backend::since_epoch())).await?;
        let mut traces = match data {
            Value::Array(traces) => traces.iter().map(Trace::from_json).collect::<Result<Vec<_>, _>>()?,
            _ => Vec::new(),
        };
        traces.sort_by_key(|trace| std::cmp::Reverse(trace.start_us()));
        Ok(traces)
    }

    /// One trace by its id in hex, or `None` when Jaeger has none.
    ///
    /// # Errors
    /// As [`Jaeger::traces`].
    pub async fn trace(&self, id: &str) -> anyhow::Result<Option<Trace>> {
        let (code, body) = backend::get(&format!("{}/api/traces/{id}", self.query_url())).await?;
        if code == 404 {
            return Ok(None);
        }
        let data = data_of(code, &body)?;
        data.get(0).map(Trace::from_json).transpose()
    }

    /// Searches until `judge` gives a value for what was found: spans arrive in batches, a moment after they ended.
    ///
    /// # Errors
    /// When the time is over, with the last reason that `judge` gave.
    pub async fn wait_for<T>(
        &self,
        search: &Search,
        patience: Duration,
        judge: impl Fn(&[Trace]) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        wait_until(&format!("{search:?}"), patience, async || {
            let traces = self.traces(search).await.map_err(|error| format!("{error:#}"))?;
            judge(&traces)
        })
        .await
    }

    async fn data(&self, url: &str) -> anyhow::Result<Value> {
        let (code, body) = backend::get(url).await.with_context(|| self.process.log_tail())?;
        data_of(code, &body)
    }
}

fn data_of(code: u16, body: &str) -> anyhow::Result<Value> {
    if code != 200 {
        bail!("Jaeger answered {code}: {body}");
    }
    let mut answer: Value = serde_json::from_str(body).with_context(|| format!("not JSON: {body}"))?;
    Ok(answer["data"].take())
}

fn ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_asks_for_all_that_is_given() {
        let search = Search::service("s").operation("poll adapters").tag("dittofs.server", "a/b");
        let url = search.url("http://h", Duration::from_hours(2));
        assert_eq!(
            url,
            "http://h/api/traces?service=s&start=3600000000&end=7260000000&limit=1000&operation=poll%20adapters\
             &tags=%7B%22dittofs%2Eserver%22%3A%22a%2Fb%22%7D"
        );
    }
}
