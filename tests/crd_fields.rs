//! The schema against the field table of the operator that ships with DittoFS today (`fixtures/crd_fields.tsv`): each
//! field that is here has the type, the default and the bounds that it has there, so that its manifests apply here.

use std::collections::BTreeSet;

use dittofs_operator::crd::crd_json;
use serde_json::{Value, json};

/// Fields of the table that come with later changes; with a change, its line goes.
const LATER: &[&str] = &[
    // Types of core/v1, checked by their own test.
    "spec.podSecurityContext",
    "spec.resources",
    "spec.securityContext",
    // What follows differs on purpose.
    "spec.service.type",
    "spec.identity.jwt.secretRef required",
    "spec required",
];

/// Fields that the table does not have.
const ADDED: &[&str] = &[
    "spec.adapterDiscovery.stopGracePeriod",
    "spec.cache",
    "spec.controlPlane.caSecretName",
    "spec.controlPlane.clientCertSecretName",
    "spec.fileService",
    "spec.networkPolicy",
    "spec.identity.ldap.caSecretRef",
    "spec.pod",
    "spec.podSecurityContext",
    "spec.ports",
    "spec.resources",
    "spec.rollout",
    "spec.securityContext",
    "status.activeAdapters",
    "status.adapters",
    "status.lastChange",
    "status.volumes",
    "metadata",
    "spec.service.type",
    "spec.apiService",
    "spec.adapterServices.perAdapter",
    "spec.service.labels",
    "spec.service.loadBalancerClass",
    "spec.service.loadBalancerSourceRanges",
    "spec.service.externalTrafficPolicy",
    "spec.service.ipFamilyPolicy",
    "spec.service.ipFamilies",
    "spec.adapterServices.labels",
    "spec.adapterServices.loadBalancerClass",
    "spec.adapterServices.loadBalancerSourceRanges",
    "spec.adapterServices.externalTrafficPolicy",
    "spec.adapterServices.ipFamilyPolicy",
    "spec.adapterServices.ipFamilies",
];

fn later(path: &str) -> bool {
    LATER.iter().any(|prefix| {
        path == *prefix || path.starts_with(&format!("{prefix}.")) || path.starts_with(&format!("{prefix}["))
    })
}

fn schema() -> Value {
    crd_json().pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema").clone()
}

/// The schema at a path of the table, and whether its parent requires it.
fn at<'a>(schema: &'a Value, path: &str) -> Option<(&'a Value, bool)> {
    let mut here = schema;
    let mut required = false;
    for part in path.split('.') {
        let name = part.trim_end_matches("[]");
        required = here["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        here = here.get("properties")?.get(name)?;
        if part.ends_with("[]") {
            here = here.get("items")?;
        }
    }
    Some((here, required))
}

#[test]
fn each_field_of_the_table_is_here_as_it_is_there() {
    let schema = schema();
    let mut checked = 0;
    for line in include_str!("fixtures/crd_fields.tsv").lines().skip(1) {
        let [path, kind, required, constraints] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("four columns: {line}")
        };
        if later(path) {
            continue;
        }
        checked += 1;
        let (field, is_required) = at(&schema, path).unwrap_or_else(|| panic!("{path} is missing"));
        let expected = match kind {
            "map of string" => "object",
            "array of object" | "array of string" => "array",
            other => other,
        };
        assert_eq!(field["type"], json!(expected), "{path}");
        if !later(&format!("{path} required")) {
            assert_eq!(is_required, required == "required", "{path}: required");
        }
        let mut seen = BTreeSet::from(["default".to_owned()]);
        for constraint in split(constraints) {
            let (name, value) = constraint.split_once('=').expect("name=value");
            let wanted = match (name, kind) {
                ("enum", _) => serde_json::from_str(&value.replace('\'', "\"")).expect("a list"),
                ("default", "boolean") => json!(value == "True"),
                ("default", "integer") | ("minimum" | "maximum" | "maxLength" | "minLength", _) => {
                    json!(value.parse::<i64>().expect("a number"))
                }
                _ => json!(value),
            };
            assert_eq!(field[name], wanted, "{path}: {name}");
            seen.insert(name.to_owned());
        }
        for name in ["enum", "minimum", "maximum", "pattern", "format", "minLength"] {
            assert!(seen.contains(name) || field.get(name).is_none(), "{path}: {name} is not in the table");
        }
        if !constraints.contains("default=") {
            assert_eq!(field.get("default"), None, "{path}: a default that is not in the table");
        }
    }
    assert!(checked > 50, "{checked}");
    assert_eq!(at(&schema, "spec.service.type").expect("there").0["default"], json!("LoadBalancer"));
}

/// `a=b c=d e` is a=b and c="d e".
fn split(constraints: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in constraints.split(' ').filter(|word| !word.is_empty()) {
        let named = word.split_once('=').is_some_and(|(name, _)| {
            [
                "default",
                "enum",
                "minimum",
                "maximum",
                "pattern",
                "format",
                "maxLength",
                "minLength",
                "x-kubernetes-list-type",
            ]
            .contains(&name)
        });
        match all.last_mut() {
            Some(last) if !named => *last = format!("{last} {word}"),
            _ => all.push(word.to_owned()),
        }
    }
    all
}

#[test]
fn no_field_is_here_that_is_neither_in_the_table_nor_added_on_purpose() {
    fn walk(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if ADDED.contains(&path.as_str()) {
                continue;
            }
            found.push(path.clone());
            walk(property, &path, found);
            if property["items"].is_object() {
                walk(&property["items"], &format!("{path}[]"), found);
            }
        }
    }
    let table: BTreeSet<&str> =
        include_str!("fixtures/crd_fields.tsv").lines().filter_map(|line| line.split('\t').next()).collect();
    let mut found = Vec::new();
    walk(&schema(), "", &mut found);
    assert!(found.len() > 50);
    for path in found {
        assert!(table.contains(path.as_str()), "{path}");
    }
}

#[test]
fn the_types_of_core_take_quantities_as_numbers_and_as_texts() {
    let schema = schema();
    for path in ["spec.resources.limits", "spec.resources.requests"] {
        let (field, _) = at(&schema, path).expect("there");
        assert_eq!(field["additionalProperties"]["x-kubernetes-int-or-string"], json!(true), "{path}");
    }
    for path in ["spec.securityContext.runAsUser", "spec.podSecurityContext.fsGroup"] {
        assert_eq!(at(&schema, path).expect("there").0["type"], json!("integer"), "{path}");
    }
}

#[test]
fn the_manifest_fits_the_annotation_in_which_kubectl_apply_remembers_it() {
    let size = serde_json::to_string(&crd_json()).expect("JSON").len();
    assert!(size < 200 * 1024, "{size} bytes");
}

#[test]
fn names_columns_and_subresources_are_those_of_the_reference() {
    let crd = crd_json();
    assert_eq!(crd["metadata"]["name"], json!("dittoservers.dittofs.dittofs.com"));
    assert_eq!(crd["spec"]["scope"], json!("Namespaced"));
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["ditto", "dittofs"]));
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["name"], json!("v1alpha1"));
    assert_eq!(version["subresources"], json!({"status": {}}));
    let columns: Vec<(&str, &str)> = version["additionalPrinterColumns"]
        .as_array()
        .expect("columns")
        .iter()
        .filter(|column| column.get("priority").is_none_or(|priority| priority == 0))
        .map(|column| (column["name"].as_str().expect("a name"), column["jsonPath"].as_str().expect("a path")))
        .collect();
    assert_eq!(
        columns,
        [
            ("Replicas", ".spec.replicas"),
            ("Ready", ".status.readyReplicas"),
            ("Available", ".status.availableReplicas"),
            ("Status", ".status.phase"),
            ("Adapters", ".status.activeAdapters"),
            ("Age", ".metadata.creationTimestamp"),
        ]
    );
    let wide = version["additionalPrinterColumns"].as_array().expect("columns").last().expect("a column");
    let message = json!(".status.conditions[?(@.type==\"Ready\")].message");
    assert_eq!((&wide["name"], &wide["jsonPath"]), (&json!("Message"), &message), "with -o wide");
}
