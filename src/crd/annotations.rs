//! The annotations of a `DittoServer` that ask something of the operator. They are no part of the spec: a change of one is
//! no new generation.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A new value restarts the server's pod once. Any text; by convention an RFC 3339 time. It goes on to the pod template
/// under the same name, and stays there when it is taken out.
pub const RESTART_AT: &str = "dittofs.io/restart-at";

/// `"true"`: nothing of the server but its status is written until it is gone.
pub const PAUSED: &str = "dittofs.io/paused";

/// Longest text that is copied as it is, in bytes.
const RESTART_AT_MAX: usize = 128;

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// What the pod template has to carry as [`RESTART_AT`]; None when nothing is asked for. A text that is long, or not of
/// printable ASCII, is stood for by its SHA-256: each still differs from every other.
pub fn restart_at(object: &Value) -> Option<String> {
    let text = annotation(object, RESTART_AT).filter(|text| !text.is_empty())?;
    if text.len() <= RESTART_AT_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Some(text.to_owned());
    }
    let digest = Sha256::digest(text.as_bytes());
    Some(digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Whether the operator is asked to leave the server as it is.
pub fn is_paused(object: &Value) -> bool {
    annotation(object, PAUSED) == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(name: &str, value: &Value) -> Value {
        json!({"metadata": {"annotations": {"other": "x", name: value}}})
    }

    #[test]
    fn any_text_asks_for_a_restart_and_no_text_for_none() {
        let of = |text: &str| restart_at(&with(RESTART_AT, &json!(text)));
        assert_eq!(of("2026-11-22T03:00:00Z").as_deref(), Some("2026-11-22T03:00:00Z"));
        assert_eq!(of("now, please!").as_deref(), Some("now, please!"));
        assert_eq!(of(""), None);
        assert_eq!(restart_at(&json!({"metadata": {}})), None);
        assert_eq!(restart_at(&with(RESTART_AT, &json!(7))), None);
    }

    #[test]
    fn a_long_or_strange_text_is_bounded_and_still_its_own() {
        let of = |text: &str| restart_at(&with(RESTART_AT, &json!(text))).unwrap();
        let long = of(&"x".repeat(200_000));
        assert!(long.starts_with("sha256:") && long.len() == 71, "{long}");
        assert_ne!(long, of(&"x".repeat(200_001)));
        assert_ne!(of("a\nb"), of("a\tb"));
        assert!(of("heute früh").starts_with("sha256:"));
    }

    #[test]
    fn only_the_word_true_pauses() {
        for (value, paused) in [("true", true), ("True", false), ("1", false), ("", false), ("false", false)] {
            assert_eq!(is_paused(&with(PAUSED, &json!(value))), paused, "{value}");
        }
        assert!(!is_paused(&with(PAUSED, &json!(true))), "an annotation is a text");
    }
}
