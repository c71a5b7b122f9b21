//! From the Rust types to the manifest: what the derive cannot say is put right here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::DittoServer;

/// First lines of the manifest.
const HEADER: &str = "# Generated from the Rust types by `make generate`; do not edit.\n";

/// Longest CIDR: an IPv6 address that ends in the form of IPv4 is of 45 characters, its mask of four more.
const CIDR_MAX: u32 = 49;

/// Subtrees of the spec that are types of core/v1. Their descriptions are Kubernetes' own and would make the manifest
/// larger than `kubectl apply` can remember in an annotation.
const CORE_TYPES: [&[&str]; 11] = [
    &["resources"],
    &["securityContext"],
    &["podSecurityContext"],
    &["pod", "tolerations"],
    &["pod", "affinity"],
    &["pod", "topologySpreadConstraints"],
    &["pod", "imagePullSecrets"],
    &["pod", "env"],
    &["pod", "nodeSelector"],
    &["pod", "labels"],
    &["networkPolicy", "from"],
];

/// The `CustomResourceDefinition` as JSON, keys in alphabetical order.
pub fn crd_json() -> Value {
    let crd: CustomResourceDefinition = DittoServer::crd();
    // Serializing a struct of strings, numbers and maps with string keys has no way to fail.
    let mut crd = serde_json::to_value(crd).unwrap_or_default();
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        put_right(schema);
    }
    sorted(crd)
}

/// The `CustomResourceDefinition` as YAML. The same text every time, with a newline at its end.
pub fn crd_yaml() -> String {
    // The same holds for YAML.
    format!("{HEADER}{}", serde_yaml_ng::to_string(&crd_json()).unwrap_or_default())
}

fn put_right(schema: &mut Value) {
    drop_nullable(schema);
    whole_bounds(schema);
    // An object without a spec that an older CRD admitted could otherwise not even lose its finalizer: `required` at
    // the root is checked at every write. A rule that knows creation from update asks for the spec instead.
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
    }
    for path in CORE_TYPES {
        if let Some(subtree) = property(schema, &[&["spec"], path].concat()) {
            let description = subtree.get("description").cloned();
            drop_descriptions(subtree);
            if let (Some(description), Some(subtree)) = (description, subtree.as_object_mut()) {
                subtree.insert("description".to_owned(), description);
            }
        }
    }
    if let Some(env) = property(schema, &["spec", "pod", "env"]).and_then(|env| env.get_mut("items"))
        && let Some(name) = property(env, &["name"])
    {
        merge(name, &json!({"minLength": 1, "maxLength": 256}));
    }
    // What rules read is bounded, and no object is refused for it that Kubernetes would take: no CIDR is longer.
    if let Some(from) = property(schema, &["spec", "networkPolicy", "from"]).and_then(|from| from.get_mut("items"))
        && let Some(block) = property(from, &["ipBlock"])
    {
        if let Some(cidr) = property(block, &["cidr"]) {
            merge(cidr, &json!({"maxLength": CIDR_MAX}));
        }
        if let Some(except) = property(block, &["except"]) {
            merge(except, &json!({"maxItems": 64}));
            if let Some(cidr) = except.get_mut("items") {
                merge(cidr, &json!({"maxLength": CIDR_MAX}));
            }
        }
    }
    if let Some(condition) = property(schema, &["status", "conditions"]).and_then(|list| list.get_mut("items")) {
        constrain_condition(condition);
    }
}

/// The bounds of a condition that every Kubernetes API keeps to, which the Rust type does not carry.
fn constrain_condition(condition: &mut Value) {
    let bounds = [
        ("message", json!({"maxLength": 32768})),
        ("observedGeneration", json!({"minimum": 0})),
        ("reason", json!({"minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"})),
        ("status", json!({"enum": ["True", "False", "Unknown"]})),
        (
            "type",
            json!({
                "maxLength": 316,
                "pattern": concat!(
                    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?",
                    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                ),
            }),
        ),
    ];
    for (name, bound) in bounds {
        if let Some(field) = property(condition, &[name]) {
            merge(field, &bound);
        }
    }
}

/// The schema of a nested property.
fn property<'a>(schema: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(schema, |schema, name| schema.get_mut("properties")?.get_mut(*name))
}

fn merge(schema: &mut Value, more: &Value) {
    if let (Some(schema), Some(more)) = (schema.as_object_mut(), more.as_object()) {
        schema.extend(more.clone());
    }
}

/// Leaving a field out and setting it to null are one in the operator of today: the API server prunes a null that is
/// not declared nullable, and CEL's `has()` then says what it seems to say.
fn drop_nullable(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("nullable").is_some_and(Value::is_boolean) {
                map.remove("nullable");
            }
            map.values_mut().for_each(drop_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nullable),
        _ => {}
    }
}

/// Writes `minimum: 1`, where the derive writes `minimum: 1.0`.
fn whole_bounds(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for bound in ["minimum", "maximum"] {
                if let Some(whole) = map.get(bound).and_then(Value::as_f64).and_then(whole) {
                    map.insert(bound.to_owned(), whole);
                }
            }
            map.values_mut().for_each(whole_bounds);
        }
        Value::Array(items) => items.iter_mut().for_each(whole_bounds),
        _ => {}
    }
}

fn whole(bound: f64) -> Option<Value> {
    format!("{bound}").parse::<i64>().ok().map(Value::from)
}

/// Removes descriptions, but not properties that happen to be called so.
fn drop_descriptions(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    map.remove("description");
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(drop_descriptions);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            drop_descriptions(inner);
        }
    }
}

/// Keys in alphabetical order, whichever map `serde_json` was built with.
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}
