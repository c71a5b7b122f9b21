//! Takes out what the API server drops when it stores an object: empty lists, empty maps of text, empty text.
//!
//! Users may write these in `spec.pod`; left in, they would differ from the stored object for ever.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Fields that are maps with keys of the user's choice: dropped when empty, their values kept when empty.
///
/// Every other `{}` is a message with a meaning (`namespaceSelector: {}` is every namespace) and stays.
const MAPS: [&str; 6] = ["labels", "annotations", "matchLabels", "nodeSelector", "limits", "requests"];

/// Optional text in which `""` means something else than absence, and which is therefore stored.
const MEANINGFUL_WHEN_EMPTY: [&str; 1] = ["storageClassName"];

/// `object` without what the API server would drop.
pub(super) fn without_empty<T: Serialize + DeserializeOwned>(object: T) -> T {
    let Ok(mut value) = serde_json::to_value(&object) else { return object };
    prune(&mut value, false);
    serde_json::from_value(value).unwrap_or(object)
}

fn prune(value: &mut Value, is_map: bool) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                prune(field, !is_map && MAPS.contains(&name.as_str()));
            }
            if !is_map {
                fields.retain(|name, field| match field {
                    Value::Null => false,
                    Value::Array(items) => !items.is_empty(),
                    Value::Object(entries) => !entries.is_empty() || !MAPS.contains(&name.as_str()),
                    Value::String(text) => !text.is_empty() || MEANINGFUL_WHEN_EMPTY.contains(&name.as_str()),
                    _ => true,
                });
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(item, false)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_drops_is_taken_out_and_nothing_else() {
        let given = json!({
            "metadata": {"labels": {"empty": "", "labels": ""}, "annotations": {}},
            "spec": {
                "tolerations": [], "nodeSelector": {}, "storageClassName": "", "priorityClassName": "",
                "affinity": {"podAffinity": {"terms": [{"namespaceSelector": {}, "labelSelector": {"matchLabels": {}}}]}},
                "containers": [{"env": [{"name": "A", "value": ""}], "args": ["", "x"], "stdin": false, "n": 0}],
            },
        });
        assert_eq!(
            without_empty(given),
            json!({
                "metadata": {"labels": {"empty": "", "labels": ""}},
                "spec": {
                    "storageClassName": "",
                    "affinity": {"podAffinity": {"terms": [{"namespaceSelector": {}, "labelSelector": {}}]}},
                    "containers": [{"env": [{"name": "A"}], "args": ["", "x"], "stdin": false, "n": 0}],
                },
            })
        );
    }
}
