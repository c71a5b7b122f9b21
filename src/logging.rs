//! The log: text on a terminal, one JSON object a line elsewhere; always on standard error.
//!
//! Every line that is written within a trace names it (`trace_id`, `span_id`). The names of the fields are documented
//! in `docs/logs.md` and stay.

use std::fmt;
use std::io::IsTerminal as _;

use k8s_openapi::jiff::Timestamp;
use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::cli::LogFormat;
use crate::telemetry::trace::TraceIds;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not read.
    #[error("--log {filter}: {source}; give a level (info) or levels per module (info,dittofs_operator=debug)")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something installed another log before.
    #[error("the log cannot be set up: {0}")]
    Install(Box<dyn std::error::Error + Send + Sync>),
}

/// Sets up the log of the process, once; with a tracer, its traces too.
pub fn init(filter: &str, format: Option<LogFormat>, tracer: Option<SdkTracer>) -> Result<(), LoggingError> {
    let parsed =
        EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(terminal)
        .with_writer(std::io::stderr)
        .event_format(Lines { format })
        .with_filter(parsed);
    // Our own spans only, and no log lines: what a span carries is a contract.
    let ours = tracing_subscriber::filter::filter_fn(|meta| {
        meta.is_span() && meta.target().starts_with(env!("CARGO_CRATE_NAME"))
    });
    let spans = tracer.map(|tracer| {
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours)
    });
    tracing_subscriber::registry()
        .with(spans)
        .with(lines)
        .try_init()
        .map_err(|error| LoggingError::Install(Box::new(error)))
}

/// One line for each event.
#[derive(Clone, Copy, Debug)]
struct Lines {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let ids =
            ctx.event_scope().and_then(|mut scope| scope.find_map(|span| span.extensions().get::<TraceIds>().cloned()));
        if let Some(ids) = ids {
            fields.others.insert("trace_id".to_owned(), ids.trace.into());
            fields.others.insert("span_id".to_owned(), ids.span.into());
        }
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let meta = event.metadata();
        match self.format {
            LogFormat::Json => {
                let mut line = Map::new();
                line.insert("time".to_owned(), time.into());
                line.insert("level".to_owned(), meta.level().as_str().into());
                line.insert("message".to_owned(), fields.message.into());
                line.insert("target".to_owned(), meta.target().into());
                line.append(&mut fields.others);
                writeln!(out, "{}", Value::Object(line))
            }
            LogFormat::Text => {
                let (on, off) = if out.has_ansi_escapes() { (colour(*meta.level()), "\x1b[0m") } else { ("", "") };
                write!(out, "{time} {on}{:>5}{off} {}", meta.level(), fields.message)?;
                for (name, value) in fields.others {
                    match value {
                        Value::String(text) if text.contains(' ') => write!(out, " {name}={text:?}")?,
                        Value::String(text) => write!(out, " {name}={text}")?,
                        other => write!(out, " {name}={other}")?,
                    }
                }
                writeln!(out)
            }
        }
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// What an event carries.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}
