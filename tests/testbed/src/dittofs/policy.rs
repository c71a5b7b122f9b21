//! Snapshot policies as the server keeps and shows them. Pure. Only the refusals of a PUT were recorded; what a share's
//! policy looks like, and what else is refused, is as the server's API documents it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::clock::go_duration;

/// The policy of one share.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    /// As it was sent.
    pub(super) sent: Value,
    interval: Duration,
    keep_last: u64,
    ttl: Duration,
    enabled: bool,
    name_prefix: String,
}

impl Policy {
    /// A policy from the body of a PUT; what is wrong with it otherwise, in the server's words.
    pub(super) fn read(sent: &Map<String, Value>) -> Result<Self, String> {
        let text = |name: &str| sent.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let interval = text("interval");
        let wrong = |why: &str| format!("invalid interval: schedule: {why} {interval:?}");
        let every = match interval.as_str() {
            "@hourly" => Duration::from_hours(1),
            "@daily" => Duration::from_hours(24),
            "@weekly" => Duration::from_hours(24 * 7),
            other => duration(other).ok_or_else(|| wrong("invalid interval"))?,
        };
        if every.is_zero() {
            return Err(wrong("interval must be positive, got"));
        }
        let ttl = match text("ttl").as_str() {
            "" | "0" => Duration::ZERO,
            other => duration(other).ok_or_else(|| format!("invalid ttl: time: invalid duration {other:?}"))?,
        };
        let name_prefix = text("name_prefix");
        if !name_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            return Err("invalid name_prefix: must match ^[A-Za-z0-9_-]{0,64}$".to_owned());
        }
        let keep_last = match sent.get("keep_last") {
            None => 0,
            Some(number) => number.as_u64().ok_or("keep_last must be >= 0")?,
        };
        let enabled = sent.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        Ok(Self { sent: Value::Object(sent.clone()), interval: every, keep_last, ttl, enabled, name_prefix })
    }

    /// As the API shows it; what is empty is left out.
    pub(super) fn shown(&self, share: &str) -> Value {
        let mut shown = json!({
            "share": share,
            "enabled": self.enabled,
            "interval": go_duration(self.interval.as_secs()),
            "keep_last": self.keep_last,
            "created_at": "2026-11-21T14:37:24Z",
            "updated_at": "2026-11-21T14:37:24Z",
        });
        if !self.ttl.is_zero() {
            shown["ttl"] = json!(go_duration(self.ttl.as_secs()));
        }
        if !self.name_prefix.is_empty() {
            shown["name_prefix"] = json!(self.name_prefix);
        }
        shown
    }
}

/// A Go duration of whole hours, minutes and seconds: all that the tests use.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        total += match unit {
            'h' => Duration::from_hours(number),
            'm' => Duration::from_mins(number),
            's' => Duration::from_secs(number),
            _ => return None,
        };
        rest = &rest[digits + 1..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Value, String> {
        Policy::read(body.as_object().unwrap()).map(|policy| policy.shown("/a"))
    }

    #[test]
    fn a_policy_is_shown_in_durations_of_go_and_without_what_is_empty() {
        let shown = read(&json!({"interval": "@daily", "keep_last": 7, "ttl": "90m", "name_prefix": "auto"})).unwrap();
        assert_eq!((&shown["interval"], &shown["ttl"]), (&json!("24h0m0s"), &json!("1h30m0s")));
        assert_eq!((&shown["enabled"], &shown["keep_last"]), (&json!(true), &json!(7)));
        let shown = read(&json!({"interval": "90s", "enabled": false})).unwrap();
        assert_eq!((&shown["interval"], &shown["enabled"]), (&json!("1m30s"), &json!(false)));
        assert_eq!((shown.get("ttl"), shown.get("name_prefix")), (None, None));
    }

    #[test]
    fn what_cannot_be_read_is_refused_in_words() {
        for (body, words) in [
            (json!({}), "invalid interval"),
            (json!({"interval": "soon"}), "invalid interval"),
            (json!({"interval": "0s"}), "must be positive"),
            (json!({"interval": "1h", "ttl": "later"}), "invalid ttl"),
            (json!({"interval": "1h", "keep_last": -1}), "keep_last"),
            (json!({"interval": "1h", "name_prefix": "a/b"}), "invalid name_prefix"),
        ] {
            assert!(read(&body).unwrap_err().contains(words), "{body}");
        }
    }
}
