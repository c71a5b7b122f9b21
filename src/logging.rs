//! The log: text on a terminal, one JSON object a line elsewhere; always on standard error.
//!
//! Every line that is written within a trace names it (`trace_id`, `span_id`). The names of the fields are documented
//! in `docs/logs.md` and stay.

use std::borrow::Cow;
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
            ctx.event_scope().and_then(|mut scope| scope.find_map(|span| span.extensions().get::<TraceIds>().copied()));
        if let Some(ids) = ids {
            fields.others.insert("trace_id".to_owned(), ids.trace.to_string().into());
            fields.others.insert("span_id".to_owned(), ids.span.to_string().into());
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
                // A field of another crate's line does not pass for one of these.
                for (name, value) in fields.others {
                    line.entry(name).or_insert(value);
                }
                writeln!(out, "{}", Value::Object(line))
            }
            LogFormat::Text => {
                let (on, off) = if out.has_ansi_escapes() { (colour(*meta.level()), "\x1b[0m") } else { ("", "") };
                write!(out, "{time} {on}{:>5}{off} {}", meta.level(), one_line(&fields.message))?;
                for (name, value) in fields.others {
                    match value {
                        Value::String(text) if !is_plain(&text) => write!(out, " {name}={text:?}")?,
                        Value::String(text) => write!(out, " {name}={text}")?,
                        other => write!(out, " {name}={other}")?,
                    }
                }
                writeln!(out)
            }
        }
    }
}

/// What would break the line, or speak to the terminal, as an escape.
fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
    } else {
        text.into()
    }
}

/// Whether a value needs no quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"')
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

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceId};

    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::Registry;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// The lines that `work` writes.
    fn lines(format: LogFormat, work: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(written.clone())
            .event_format(Lines { format });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let bytes = written.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    fn json_lines(work: impl FnOnce()) -> Vec<Value> {
        lines(LogFormat::Json, work).iter().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
    }

    #[test]
    fn a_json_line_has_the_documented_names_and_its_fields_by_type() {
        let lines = json_lines(|| {
            tracing::warn!(
                namespace = "team",
                name = "files",
                attempts = 3_u64,
                held = true,
                share = 0.5,
                error = %"no route",
                "the poll failed{}",
                " (2 times in 60 s)"
            );
        });
        let mut line = lines[0].as_object().expect("an object").clone();
        let time = line.remove("time").expect("a time");
        assert!(time.as_str().is_some_and(|time| time.parse::<Timestamp>().is_ok() && time.len() == 24), "{time}");
        assert_eq!(
            Value::Object(line),
            serde_json::json!({
                "level": "WARN", "message": "the poll failed (2 times in 60 s)",
                "target": "dittofs_operator::logging::tests",
                "namespace": "team", "name": "files", "attempts": 3, "held": true, "share": 0.5, "error": "no route",
            })
        );
    }

    #[test]
    fn a_line_within_a_trace_names_it_and_one_outside_does_not() {
        let lines = json_lines(|| {
            let span = tracing::error_span!("work");
            span.with_subscriber(|(id, dispatch)| {
                let registry = dispatch.downcast_ref::<Registry>().expect("a registry");
                let ids = TraceIds {
                    trace: TraceId::from_hex(&"a".repeat(32)).expect("hex"),
                    span: SpanId::from_hex(&"b".repeat(16)).expect("hex"),
                };
                registry.span(id).expect("the span").extensions_mut().insert(ids);
            });
            span.in_scope(|| tracing::error_span!("step, without ids").in_scope(|| tracing::info!("inside")));
            tracing::info!("outside");
        });
        assert_eq!(lines[0]["trace_id"], "a".repeat(32));
        assert_eq!(lines[0]["span_id"], "b".repeat(16));
        assert_eq!((lines[1].get("trace_id"), lines[1].get("span_id")), (None, None));
    }

    #[test]
    fn a_message_of_many_lines_is_one_line_in_both_forms_and_cannot_speak_to_the_terminal() {
        let say =
            || tracing::error!(error = "a\nb", empty = "", quoted = "say \"x\"", plain = "a=b", "one\ntwo\u{1b}[31m");
        let line = &json_lines(say)[0];
        assert_eq!((&line["message"], &line["error"]), (&"one\ntwo\u{1b}[31m".into(), &"a\nb".into()));
        let lines = lines(LogFormat::Text, say);
        assert_eq!(lines.len(), 1);
        let (_, rest) = lines[0].split_once(' ').expect("a time first");
        assert_eq!(rest.trim_start(), r#"ERROR one\ntwo\u{1b}[31m empty="" error="a\nb" plain=a=b quoted="say \"x\"""#);
    }

    #[test]
    fn a_field_of_another_crate_does_not_pass_for_one_of_ours() {
        let line = &json_lines(|| tracing::info!(level = "none", time = 0, target = "x", trace_id = "y", "said"))[0];
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"said".into()));
        assert!(line["time"].is_string() && line["target"] != "x");
    }

    #[test]
    fn a_filter_that_does_not_read_says_what_to_give() {
        let error = init("info,=x=y", None, None).expect_err("no filter").to_string();
        assert!(error.starts_with("--log info,=x=y: ") && error.contains("dittofs_operator=debug"), "{error}");
    }
}
