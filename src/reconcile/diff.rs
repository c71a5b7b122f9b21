//! The difference between two JSON objects in words, for logs, spans and events.

use serde_json::Value;

/// More differences than this are counted, not listed.
const MOST: usize = 12;
/// A value longer than this is cut.
const VALUE_MAX: usize = 80;

/// One line for each field that differs: its path, from what, to what.
///
/// Values of environment variables and of `data` are never printed: a user may have put a secret there.
/// Metadata that the API server keeps (`managedFields`, `resourceVersion`, …), status and our own last-applied
/// annotation are left out.
pub fn diff(before: &Value, after: &Value) -> Vec<String> {
    let mut found = differences(before, after);
    if found.len() > MOST {
        let more = found.len() - MOST;
        found.truncate(MOST);
        found.push(format!("and {more} more"));
    }
    found
}

/// The same, however many there are: for a report that a person asked for.
pub fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("", before, after, &mut found);
    found
}

fn walk(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    if before == after || is_noise(path) {
        return;
    }
    // What appears or vanishes as a whole is told field by field, so that the rule about hidden values holds inside it.
    let (empty_object, empty_list) = (Value::Object(serde_json::Map::new()), Value::Array(Vec::new()));
    let (before, after) = match (before, after) {
        (Value::Null, Value::Object(some)) if !some.is_empty() => (&empty_object, after),
        (Value::Object(some), Value::Null) if !some.is_empty() => (before, &empty_object),
        (Value::Null, Value::Array(some)) if !some.is_empty() => (&empty_list, after),
        (Value::Array(some), Value::Null) if !some.is_empty() => (before, &empty_list),
        both => both,
    };
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let none = Value::Null;
                walk(&format!("{path}.{key}"), a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), found);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let label = |item: &Value, at: usize| {
                ["name", "mountPath", "uid"]
                    .iter()
                    .find_map(|key| item.get(*key).and_then(Value::as_str))
                    .map_or_else(|| at.to_string(), str::to_owned)
            };
            let none = Value::Null;
            for (at, item) in a.iter().enumerate() {
                let name = label(item, at);
                let other = b.iter().enumerate().find(|(other, item)| label(item, *other) == name);
                walk(&format!("{path}[{name}]"), item, other.map_or(&none, |(_, item)| item), found);
            }
            for (at, item) in b.iter().enumerate() {
                let name = label(item, at);
                if !a.iter().enumerate().any(|(other, item)| label(item, other) == name) {
                    walk(&format!("{path}[{name}]"), &none, item, found);
                }
            }
        }
        _ => found.push(format!("{}: {} → {}", path.trim_start_matches('.'), show(path, before), show(path, after))),
    }
}

fn is_noise(path: &str) -> bool {
    path == ".status"
        || path.ends_with(".managedFields")
        || path == ".metadata.resourceVersion"
        || path == ".metadata.generation"
        || path.ends_with(super::merge::LAST_APPLIED)
}

fn show(path: &str, value: &Value) -> String {
    if value.is_null() {
        return "(none)".to_owned();
    }
    if path.contains(".env[") || path.starts_with(".data") || path.starts_with(".stringData") {
        return "(not shown)".to_owned();
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() > VALUE_MAX {
        format!("{}…", text.chars().take(VALUE_MAX).collect::<String>())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_the_field_and_both_values() {
        let before = json!({"spec": {"containers": [{"name": "dittofs", "image": "a:1"}]}, "status": {"x": 1}});
        let after = json!({"spec": {"containers": [{"name": "dittofs", "image": "a:2"}]}, "status": {"x": 2}});
        assert_eq!(diff(&before, &after), ["spec.containers[dittofs].image: a:1 → a:2"]);
    }

    #[test]
    fn values_of_the_environment_and_of_data_are_not_shown() {
        let text = diff(
            &json!({"env": [{"name": "P", "value": "canary-1"}], "data": {"config.yaml": "canary-2"}}),
            &json!({"env": [{"name": "P", "value": "canary-3"}], "data": {"config.yaml": "canary-4"}}),
        )
        .join("\n");
        assert!(text.contains("env[P].value") && text.contains("data.config.yaml"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn a_whole_object_that_appears_does_not_show_the_environment_inside() {
        let text = diff(
            &json!({"containers": []}),
            &json!({"containers": [{"name": "a", "env": [{"name": "P", "value": "canary"}]}]}),
        );
        assert!(!text.join("\n").contains("canary"), "{text:?}");
    }

    #[test]
    fn a_long_difference_is_bounded() {
        let many: serde_json::Map<String, Value> =
            (0..100).map(|n| (format!("k{n}"), json!("v".repeat(500)))).collect();
        let text = diff(&json!({}), &Value::Object(many));
        assert_eq!(text.len(), MOST + 1);
        assert!(text.iter().all(|line| line.chars().count() < 200));
    }
}
