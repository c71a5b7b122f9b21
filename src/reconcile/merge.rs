//! Three-way merge of an object as the API server holds it with what we want of it.
//!
//! The result starts from the JSON as it was read, so nothing that somebody else or a newer API wrote is lost: only
//! what [`merge`] is told to want is set, and only what we wanted the last time and no longer want is removed. The
//! last wish stands in the annotation [`LAST_APPLIED`]; it holds no status and no secret.

use serde_json::{Map, Value};

/// Annotation with the JSON of what we wanted when we last wrote the object.
pub const LAST_APPLIED: &str = "dittofs.io/last-applied";

/// Lists whose items are told apart by a key, as Kubernetes' own merge keys.
const KEYED_LISTS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("ports", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("ownerReferences", "uid"),
];

/// Fields of which an object may have only one: setting one takes the others out.
const UNIONS: &[&[&str]] = &[
    &["value", "valueFrom"],
    &["httpGet", "tcpSocket", "exec", "grpc", "sleep"],
    &["configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected", "hostPath", "csi", "ephemeral", "nfs"],
];

/// Maps whose keys are anybody's choice: one called like a member of a union is none.
const TEXT_MAPS: &[&str] = &["labels", "annotations", "nodeSelector", "selector", "matchLabels", "data"];

/// Merges `desired` into `live`: what `desired` names is set, what `last` named and `desired` does not is removed,
/// everything else stays as it is.
pub(super) fn merge(live: &Value, last: Option<&Value>, desired: &Value) -> Value {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            Value::Object(merge_objects(live, last.and_then(Value::as_object), desired, UNIONS))
        }
        _ => desired.clone(),
    }
}

fn merge_objects(
    live: &Map<String, Value>,
    last: Option<&Map<String, Value>>,
    desired: &Map<String, Value>,
    unions: &[&[&str]],
) -> Map<String, Value> {
    let mut merged = live.clone();
    for gone in last.into_iter().flat_map(Map::keys).filter(|key| !desired.contains_key(*key)) {
        merged.remove(gone);
    }
    for union in unions {
        if union.iter().any(|member| desired.contains_key(*member)) {
            merged.retain(|key, _| !union.contains(&key.as_str()) || desired.contains_key(key));
        }
    }
    for (key, wanted) in desired {
        let before = last.and_then(|last| last.get(key));
        let value = match live.get(key) {
            Some(present) => merge_field(key, present, before, wanted),
            None if is_empty_list(wanted) || wanted.is_null() => continue,
            None => wanted.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

fn merge_field(key: &str, live: &Value, last: Option<&Value>, desired: &Value) -> Value {
    match (live, desired) {
        (Value::Array(live), Value::Array(desired)) => {
            let merge_key = KEYED_LISTS.iter().find(|(list, _)| *list == key).map(|(_, merge_key)| *merge_key);
            match merge_key {
                Some(merge_key) if desired.iter().all(|item| item.get(merge_key).is_some()) => {
                    Value::Array(merge_keyed(merge_key, live, last.and_then(Value::as_array), desired))
                }
                _ => Value::Array(merge_positional(live, last.and_then(Value::as_array), desired)),
            }
        }
        (Value::Object(live), Value::Object(wanted)) if matches!(key, "limits" | "requests") => {
            Value::Object(merge_quantities(live, last.and_then(Value::as_object), wanted))
        }
        // A Service's selector is one value: a label that somebody added to it takes every pod away.
        (Value::Object(_), Value::Object(_)) if key == "selector" => desired.clone(),
        (Value::Object(live), Value::Object(wanted)) if TEXT_MAPS.contains(&key) => {
            Value::Object(merge_objects(live, last.and_then(Value::as_object), wanted, &[]))
        }
        (Value::String(present), Value::String(wanted)) if key == "sizeLimit" && same_quantity(present, wanted) => {
            Value::String(present.clone())
        }
        _ => merge(live, last, desired),
    }
}

/// Items keep the order in which the API server has them; new ones follow.
fn merge_keyed(merge_key: &str, live: &[Value], last: Option<&Vec<Value>>, desired: &[Value]) -> Vec<Value> {
    let find = |list: &[Value], key: &Value| list.iter().find(|item| item.get(merge_key) == Some(key)).cloned();
    let mut merged: Vec<Value> = Vec::with_capacity(live.len().max(desired.len()));
    for item in live {
        let Some(key) = item.get(merge_key) else {
            merged.push(item.clone());
            continue;
        };
        let before = last.and_then(|last| find(last, key));
        match find(desired, key) {
            Some(wanted) => merged.push(merge(item, before.as_ref(), &wanted)),
            None if before.is_none() => merged.push(item.clone()),
            None => {}
        }
    }
    for wanted in desired {
        if !live.iter().any(|item| item.get(merge_key) == wanted.get(merge_key)) {
            merged.push(wanted.clone());
        }
    }
    merged
}

/// A list without a key is ours as a whole; defaults inside its items are kept where the items correspond.
fn merge_positional(live: &[Value], last: Option<&Vec<Value>>, desired: &[Value]) -> Vec<Value> {
    if live.len() == desired.len() {
        let last = |at: usize| last.filter(|last| last.len() == live.len()).and_then(|last| last.get(at));
        live.iter().zip(desired).enumerate().map(|(at, (live, wanted))| merge(live, last(at), wanted)).collect()
    } else {
        desired.to_vec()
    }
}

/// The API server rewrites quantities (`1000m` reads back as `1`): equal amounts are no difference.
fn merge_quantities(
    live: &Map<String, Value>,
    last: Option<&Map<String, Value>>,
    desired: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = merge_objects(live, last, desired, &[]);
    for (key, wanted) in desired {
        if let (Some(Value::String(present)), Value::String(wanted)) = (live.get(key), wanted)
            && same_quantity(present, wanted)
        {
            merged.insert(key.clone(), Value::String(present.clone()));
        }
    }
    merged
}

fn same_quantity(a: &str, b: &str) -> bool {
    a == b || matches!((nanos(a), nanos(b)), (Some(a), Some(b)) if a == b)
}

/// A Kubernetes quantity in billionths, or None when it does not read as one or does not fit.
fn nanos(text: &str) -> Option<i128> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-').len();
    let (number, suffix) = text.split_at(digits);
    let unit: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        "k" => 1_000_000_000_000,
        "M" => 1_000_000_000_000_000,
        "G" => 1_000_000_000_000_000_000,
        "T" => 1_000_000_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000_000_000,
        "Ki" => (1 << 10) * 1_000_000_000,
        "Mi" => (1 << 20) * 1_000_000_000,
        "Gi" => (1 << 30) * 1_000_000_000,
        "Ti" => (1i128 << 40) * 1_000_000_000,
        "Pi" => (1i128 << 50) * 1_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    if !fraction.is_empty() {
        let places = u32::try_from(fraction.len()).ok().filter(|places| *places <= 9)?;
        let part = fraction.parse::<i128>().ok()?.checked_mul(unit)? / 10i128.checked_pow(places)?;
        total = if negative { total.checked_sub(part)? } else { total.checked_add(part)? };
    }
    Some(total)
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// What we wanted when we last wrote `live`, from its annotation; None when we never did or it does not read.
pub(super) fn last_applied(live: &Value) -> Option<Value> {
    let text = live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()?;
    serde_json::from_str(text).ok()
}

/// `desired` with itself as its [`LAST_APPLIED`] annotation.
pub(super) fn with_last_applied(desired: &Value) -> Value {
    let mut annotated = desired.clone();
    let text = desired.to_string();
    annotated["metadata"]["annotations"][LAST_APPLIED] = Value::String(text);
    annotated
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_selector_is_ours_as_a_whole() {
        let live = json!({"selector": {"app": "a", "instance": "i", "theirs": "x"}, "type": "ClusterIP"});
        let desired = json!({"selector": {"app": "a", "instance": "i"}});
        let wanted = json!({"selector": {"app": "a", "instance": "i"}, "type": "ClusterIP"});
        assert_eq!(merge(&live, None, &desired), wanted);
    }

    #[test]
    fn what_others_set_survives_and_what_we_no_longer_want_goes() {
        let live = json!({"metadata": {"annotations": {"ours": "1", "theirs": "x", "old": "o"}}, "spec": {"newField": {"a": 1}}});
        let last = json!({"metadata": {"annotations": {"ours": "1", "old": "o"}}});
        let desired = json!({"metadata": {"annotations": {"ours": "2"}}});
        assert_eq!(
            merge(&live, Some(&last), &desired),
            json!({"metadata": {"annotations": {"ours": "2", "theirs": "x"}}, "spec": {"newField": {"a": 1}}})
        );
    }

    #[test]
    fn a_sidecar_stays_and_defaults_inside_our_container_are_no_difference() {
        let live = json!({"containers": [
            {"name": "sidecar", "image": "s"},
            {"name": "dittofs", "image": "a", "terminationMessagePath": "/dev/x",
             "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "p"}}}, {"name": "THEIRS", "value": "1"}]}
        ]});
        let desired = json!({"containers": [{"name": "dittofs", "image": "a", "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "p"}}}]}]});
        assert_eq!(merge(&live, None, &desired), live);
    }

    #[test]
    fn an_item_that_we_no_longer_want_is_removed_from_a_keyed_list() {
        let live = json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}, {"name": "theirs", "emptyDir": {}}]});
        let last = json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}]});
        let desired = json!({"volumes": [{"name": "a", "emptyDir": {}}]});
        assert_eq!(
            merge(&live, Some(&last), &desired),
            json!({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "theirs", "emptyDir": {}}]})
        );
    }

    #[test]
    fn equal_quantities_written_differently_are_no_difference() {
        let live = json!({"resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1500m"}}});
        let desired =
            json!({"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "1.5"}}});
        assert_eq!(merge(&live, None, &desired), live);
        let more = json!({"resources": {"limits": {"cpu": "1001m"}}});
        assert_eq!(merge(&live, None, &more)["resources"]["limits"]["cpu"], "1001m");
    }

    #[test]
    fn one_member_of_a_union_takes_the_others_out() {
        let live = json!({"env": [{"name": "A", "valueFrom": {"x": 1}}], "livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 5}});
        let desired = json!({"env": [{"name": "A", "value": "v"}], "livenessProbe": {"httpGet": {"port": 2}}});
        assert_eq!(
            merge(&live, None, &desired),
            json!({"env": [{"name": "A", "value": "v"}], "livenessProbe": {"httpGet": {"port": 2}, "periodSeconds": 5}})
        );
    }

    #[test]
    fn an_empty_list_that_the_server_dropped_is_no_difference() {
        let live = json!({"spec": {"a": 1}});
        assert_eq!(merge(&live, None, &json!({"spec": {"tolerations": [], "gone": null}})), live);
    }

    #[test]
    fn a_list_without_a_key_is_ours_as_a_whole() {
        let live = json!({"tolerations": [{"key": "a", "tolerationSeconds": 5}]});
        assert_eq!(merge(&live, None, &json!({"tolerations": [{"key": "b"}]}))["tolerations"][0]["key"], "b");
        assert_eq!(
            merge(&live, None, &json!({"tolerations": [{"key": "b"}, {"key": "c"}]})),
            json!({"tolerations": [{"key": "b"}, {"key": "c"}]})
        );
    }

    #[test]
    fn what_an_item_of_such_a_list_no_longer_says_goes_and_its_defaults_stay() {
        let live = json!({"tolerations": [{"key": "a", "operator": "Equal", "value": "x", "defaulted": 1}]});
        let last = json!({"tolerations": [{"key": "a", "operator": "Equal", "value": "x"}]});
        let desired = json!({"tolerations": [{"key": "a", "operator": "Exists"}]});
        assert_eq!(
            merge(&live, Some(&last), &desired),
            json!({"tolerations": [{"key": "a", "operator": "Exists", "defaulted": 1}]}),
            "a toleration that exists must have no value: the API server would refuse it for ever"
        );
    }

    #[test]
    fn a_foreign_annotation_called_like_a_member_of_a_union_survives() {
        let live = json!({"metadata": {"annotations": {"secret": "theirs"}, "labels": {"value": "theirs"}}});
        let desired = json!({"metadata": {"annotations": {"nfs": "ours"}, "labels": {"valueFrom": "ours"}}});
        let merged = merge(&live, None, &desired);
        assert_eq!(merged["metadata"]["annotations"], json!({"nfs": "ours", "secret": "theirs"}));
        assert_eq!(merged["metadata"]["labels"], json!({"valueFrom": "ours", "value": "theirs"}));
    }

    #[test]
    fn the_last_wish_is_read_back() {
        let desired = json!({"metadata": {"name": "x", "annotations": {"a": "b"}}, "spec": {"n": 1}});
        let written = with_last_applied(&desired);
        assert_eq!(last_applied(&written), Some(desired));
        assert_eq!(last_applied(&json!({"metadata": {}})), None);
        assert_eq!(last_applied(&json!({"metadata": {"annotations": {LAST_APPLIED: "{broken"}}})), None);
    }
}
