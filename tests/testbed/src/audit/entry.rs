//! One request of the audit log, and the log's reading.

use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970: the resolution of the audit log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// One second.
    pub const SECOND: i64 = 1_000_000;

    /// Later (or earlier) by so many microseconds.
    #[must_use]
    pub fn plus(self, micros: i64) -> Self {
        Self(self.0 + micros)
    }

    fn parse(text: &str) -> Option<Self> {
        let time: k8s_openapi::jiff::Timestamp = text.parse().ok()?;
        Some(Self(time.as_microsecond()))
    }
}

impl From<SystemTime> for Micros {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// What a request was about; empty strings for what does not apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectRef {
    /// API group; empty for the core group.
    pub api_group: String,
    /// Plural.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A request that the API server has answered (or, for a watch, began to answer).
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The request's id.
    pub id: String,
    /// Who asked.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The object.
    pub object: ObjectRef,
    /// Body of the request, where the log has it.
    pub request: Value,
    /// Body of the answer, where the log has it.
    pub response: Value,
    /// HTTP status.
    pub code: u16,
    /// When the API server received it.
    pub received: Micros,
    /// When the API server was done with it.
    pub finished: Micros,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "auditID")]
    id: String,
    stage: String,
    #[serde(default)]
    user: User,
    verb: String,
    #[serde(rename = "requestURI", default)]
    uri: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    request_object: Value,
    #[serde(default)]
    response_object: Value,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: String,
    stage_timestamp: String,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl Entry {
    /// Whether it asks for a change of something stored.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether the API server did what was asked.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether it concerns an Event, of either API group.
    pub fn is_event(&self) -> bool {
        self.object.resource == "events"
    }

    /// The object as it was after the request, where the log has it; not a `Status`.
    pub fn result(&self) -> Option<&Value> {
        let object = self.response["metadata"]["name"].is_string() && self.response["kind"] != "Status";
        object.then_some(&self.response)
    }

    /// One line for a report. Bodies stay out: they may hold secrets.
    pub fn brief(&self) -> String {
        let ObjectRef { resource, subresource, namespace, name, .. } = &self.object;
        let slash = if subresource.is_empty() { "" } else { "/" };
        let version = |value: &Value| value["metadata"]["resourceVersion"].as_str().unwrap_or("-").to_owned();
        let (second, micros) = (self.received.0 / Micros::SECOND % 86_400, self.received.0 % Micros::SECOND);
        format!(
            "{:02}:{:02}:{:02}.{micros:06} +{:.1} ms {} {resource}{slash}{subresource} {namespace}/{name} -> {} (version {} -> {})",
            second / 3600,
            second / 60 % 60,
            second % 60,
            f64::from(i32::try_from(self.finished.0 - self.received.0).unwrap_or(i32::MAX)) / 1000.0,
            self.verb,
            self.code,
            version(&self.request),
            version(&self.response),
        )
    }

    fn parse(line: &str) -> Option<(Self, String)> {
        let line: Line = serde_json::from_str(line).ok()?;
        let mut object = line.object_ref;
        if object.name.is_empty() {
            // A create by generateName has its name in the answer alone.
            line.response_object["metadata"]["name"].as_str().unwrap_or_default().clone_into(&mut object.name);
        }
        let entry = Self {
            id: line.id,
            user: line.user.username,
            verb: line.verb,
            uri: line.uri,
            object,
            request: line.request_object,
            response: line.response_object,
            code: line.response_status.code,
            received: Micros::parse(&line.request_received_timestamp)?,
            finished: Micros::parse(&line.stage_timestamp)?,
        };
        Some((entry, line.stage))
    }
}

/// Reads an audit log: one entry a request, by the time of its arrival. Of the stages of one request the last counts.
///
/// # Errors
/// When the file cannot be read or holds a line, other than its last, that is no audit event.
pub fn read(log: &Path) -> anyhow::Result<Vec<Entry>> {
    read_about(log, &[])
}

/// As [`read`], but only the lines in which one of these words stands (with none: all): the log of a control plane that
/// many tests share is long.
///
/// # Errors
/// As there.
pub fn read_about(log: &Path, words: &[String]) -> anyhow::Result<Vec<Entry>> {
    parse(&std::fs::read_to_string(log)?, words)
}

fn parse(text: &str, words: &[String]) -> anyhow::Result<Vec<Entry>> {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    let about = |line: &str| words.is_empty() || words.iter().any(|word| line.contains(word.as_str()));
    let mut lines = text.lines().filter(|line| !line.is_empty() && about(line)).peekable();
    while let Some(line) = lines.next() {
        match Entry::parse(line) {
            Some((_, stage)) if stage == "RequestReceived" => {}
            Some((entry, _)) => {
                entries.insert(entry.id.clone(), entry);
            }
            // The last line may be half written.
            None if lines.peek().is_none() => {}
            None => anyhow::bail!("no audit event: {}", line.chars().take(120).collect::<String>()),
        }
    }
    let mut entries: Vec<_> = entries.into_values().collect();
    entries.sort_by_key(|entry| (entry.received, entry.finished));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a",
        "stage":"STAGE","requestURI":"/api/v1/namespaces/n/services/s","verb":"update","user":{"username":"u"},
        "objectRef":{"resource":"services","namespace":"n","name":"s","apiVersion":"v1"},
        "responseStatus":{"metadata":{},"code":200},"requestObject":{"metadata":{"resourceVersion":"4"}},
        "responseObject":{"kind":"Service","metadata":{"name":"s","resourceVersion":"5"}},
        "requestReceivedTimestamp":"2026-01-01T00:00:00.000001Z","stageTimestamp":"2026-01-01T00:00:00.000501Z"}"#;

    #[test]
    fn the_last_stage_of_a_request_counts() {
        let line = LINE.replace('\n', " ");
        let text = format!(
            "{}\n{}\n{{\"half",
            line.replace("STAGE", "ResponseStarted"),
            line.replace("STAGE", "ResponseComplete").replace("000501Z", "000701Z")
        );
        let entries = parse(&text, &[]).unwrap();
        assert_eq!(entries.len(), 1);
        let entry = &entries[0];
        assert_eq!(entry.finished.0 - entry.received.0, 700);
        assert_eq!((entry.object.resource.as_str(), entry.code, entry.user.as_str()), ("services", 200, "u"));
        assert!(entry.is_write() && entry.succeeded());
        assert!(entry.brief().starts_with("00:00:00.000001 +0.7 ms update services n/s -> 200 (version 4 -> 5)"));
    }

    #[test]
    fn lines_about_others_are_left_out() {
        let text = LINE.replace('\n', " ");
        assert_eq!(parse(&text, &["services".to_owned()]).unwrap().len(), 1);
        assert_eq!(parse(&text, &["somebody else".to_owned()]).unwrap().len(), 0);
    }

    #[test]
    fn a_broken_line_inside_the_log_is_an_error() {
        let text = format!("nonsense\n{}", LINE.replace('\n', " "));
        assert!(parse(&text, &[]).is_err());
    }
}
