//! The table of admission cases, judged without a cluster: by `validate`, by the schema and its CEL rules, and by the
//! warning policy. The same table is judged by the real API server elsewhere.

#[path = "fixtures/admission_table.rs"]
mod admission_table;

use std::collections::BTreeSet;

use admission_table::{Expect, table};
use dittofs_operator::crd::crd_json;
use dittofs_operator::reconcile::{validate, warnings};
use kube::core::cel::{
    AdmissionRequest, CompiledSchema, ErrorKind, ValidationErrors, Validator, VapEvaluator, VapExpression,
    compile_schema,
};
use serde_json::{Value, json};

/// Durations that the API server reads and the evaluator of these tests does not.
const NOT_IN_PROCESS: [&str; 2] = ["2500000µs", "+2s"];

fn object(name: Option<&str>, spec: &Value) -> Value {
    let mut object = admission_table::object(name.unwrap_or("files"), spec);
    object["metadata"]["namespace"] = json!("storage");
    object["metadata"]["uid"] = json!("0a1b");
    object
}

/// Each part stands in the text.
fn assert_says(case: &str, text: &str, parts: &[String]) {
    for part in parts {
        assert!(text.contains(part.as_str()), "{case}: {part:?} is missing in: {text}");
    }
}

fn root_schema() -> Value {
    crd_json().pointer("/spec/versions/0/schema/openAPIV3Schema").expect("a schema").clone()
}

/// The schema below `spec`. Rules at the root use `optionalOldSelf`, which only the API server evaluates.
fn spec_schema() -> Value {
    root_schema().pointer("/properties/spec").expect("a spec").clone()
}

/// The schema below `spec`, compiled once: its bounds and its CEL rules.
struct Judge {
    bounds: jsonschema::Validator,
    rules: CompiledSchema,
}

impl Judge {
    fn new() -> Self {
        let schema = spec_schema();
        let rules = compile_schema(&schema);
        assert!(!rules.has_errors(), "{:?}", rules.compilation_errors());
        Self { bounds: jsonschema::draft7::new(&schema).expect("the schema is one"), rules }
    }

    /// What the bounds and the rules have against a spec: texts, and rules with their messages.
    fn problems(&self, spec: &Value, old: Option<&Value>) -> (Vec<String>, Vec<(String, String)>) {
        let bounds = self.bounds.iter_errors(spec).map(|error| error.to_string()).collect();
        let errors = Validator::new().validate_compiled(&self.rules, spec, old).err();
        let rules = errors.map(ValidationErrors::into_vec).unwrap_or_default().into_iter().map(|error| {
            assert_eq!(error.kind, ErrorKind::ValidationFailure, "{}: {}", error.rule, error.message);
            (error.rule, error.message)
        });
        (bounds, rules.collect())
    }
}

/// The texts with which the policy warns.
fn policy_warnings(object: &Value) -> Vec<String> {
    let policy = include_str!("../deploy/admission-policy.yaml");
    let policy: Value =
        serde_yaml_ng::from_str(policy.split("\n---\n").next().expect("a document")).expect("the policy is YAML");
    // The evaluator knows no variables: each is put in where it is used, later ones before those that they use.
    let variables = policy["spec"]["variables"].as_array().into_iter().flatten();
    let variables: Vec<[&str; 2]> =
        variables.map(|variable| ["name", "expression"].map(|key| variable[key].as_str().expect("a text"))).collect();
    let whole = |text: &Value| {
        variables.iter().rev().fold(text.as_str().expect("a text").to_owned(), |text, [name, expression]| {
            text.replace(&format!("variables.{name}"), &format!("({expression})"))
        })
    };
    let expressions: Vec<VapExpression> = policy["spec"]["validations"]
        .as_array()
        .expect("validations")
        .iter()
        .map(|validation| VapExpression {
            expression: whole(&validation["expression"]),
            message: None,
            message_expression: Some(whole(&validation["messageExpression"])),
        })
        .collect();
    let evaluator = VapEvaluator::builder()
        .object(object.clone())
        .request(AdmissionRequest { operation: "CREATE".into(), ..Default::default() })
        .build();
    evaluator
        .evaluate(&expressions)
        .into_iter()
        .filter(|result| !result.passed)
        .map(|result| result.message.expect("a failed validation has a message"))
        .collect()
}

#[test]
fn validate_judges_each_case_as_the_table_says() {
    for case in table().cases {
        let result = validate(&object(case.server_name.as_deref(), &case.spec));
        match case.expect {
            Expect::Refused => {
                let error = result.expect_err(&case.name);
                assert!(!error.problems.is_empty());
                assert_says(&case.name, &error.to_string(), &case.message);
                assert!(!error.to_string().contains("canary"), "{}: {error}", case.name);
            }
            Expect::Accepted => {
                let server = result.unwrap_or_else(|error| panic!("{}: {error}", case.name));
                assert_eq!(warnings(&server, None), [], "{}", case.name);
            }
            Expect::Warned => {
                let server = result.unwrap_or_else(|error| panic!("{}: {error}", case.name));
                let texts: Vec<String> = warnings(&server, Some(&[])).iter().map(ToString::to_string).collect();
                if case.only.as_deref() != Some("admission") {
                    let said = texts.iter().find(|text| text.contains(&case.message[0]));
                    assert_says(&case.name, said.unwrap_or_else(|| panic!("{}: {texts:?}", case.name)), &case.message);
                }
            }
        }
    }
}

#[test]
fn schema_and_rules_judge_each_case_as_the_table_says() {
    let schema = spec_schema();
    let judge = Judge::new();
    for case in table().cases {
        // The name and the absence of a spec are judged at the root.
        if case.server_name.is_some() || case.spec.is_null() {
            continue;
        }
        if NOT_IN_PROCESS.iter().any(|text| case.spec.to_string().contains(text)) {
            continue;
        }
        let (bounds, rules) = judge.problems(&case.spec, None);
        if case.name == "an environment variable twice" {
            // The list type says so, which only the API server knows.
            assert_eq!(schema.pointer("/properties/pod/properties/env/x-kubernetes-list-type"), Some(&json!("map")));
            continue;
        }
        let refused = !bounds.is_empty() || !rules.is_empty();
        assert_eq!(refused, case.expect == Expect::Refused, "{}: {bounds:?} {rules:?}", case.name);
        if refused && bounds.is_empty() {
            let text = rules.into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("\n");
            assert_says(&case.name, &text, &case.message);
        }
    }
}

#[test]
fn the_policy_warns_as_the_table_says_and_of_nothing_else() {
    for case in table().cases {
        let warned = match case.expect {
            Expect::Refused => continue,
            Expect::Accepted => Vec::new(),
            Expect::Warned => policy_warnings(&object(None, &case.spec)),
        };
        match case.expect {
            Expect::Warned => {
                assert_eq!(warned.len(), 1, "{}: {warned:?}", case.name);
                assert_says(&case.name, &warned[0], &case.message);
            }
            _ => assert_eq!(policy_warnings(&object(None, &case.spec)), Vec::<String>::new(), "{}", case.name),
        }
    }
}

#[test]
fn updates_are_judged_as_the_table_says() {
    let judge = Judge::new();
    for update in table().updates {
        // The name is judged at the root.
        if update.after.is_null() || update.server_name.is_some() {
            continue;
        }
        // What a size may become is judged at the root, by `volume_keeps`.
        let by_volume = update.expect == Expect::Refused
            && (update.volumes.is_some() || update.message.iter().any(|part| part.starts_with("been given")));
        let (bounds, rules) = judge.problems(&update.after, Some(&update.before));
        if by_volume {
            assert!(bounds.is_empty() && rules.is_empty(), "{}: {bounds:?} {rules:?}", update.name);
            continue;
        }
        let refused = !bounds.is_empty() || !rules.is_empty();
        assert_eq!(refused, update.expect == Expect::Refused, "{}: {bounds:?} {rules:?}", update.name);
        if refused {
            let text = rules.into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("\n");
            assert_says(&update.name, &text, &update.message);
        }
    }
}

/// All rules of a schema with the path of their field.
fn rules_of(schema: &Value, path: &str, found: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.push((path.to_owned(), rule["rule"].as_str().expect("a rule").to_owned()));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        rules_of(property, &format!("{path}.{name}"), found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            rules_of(&schema[inner], &format!("{path}[]"), found);
        }
    }
}

#[test]
fn each_rule_refuses_a_case_and_has_an_object_of_old_that_breaks_it() {
    let schema = spec_schema();
    let judge = Judge::new();
    let mut rules = Vec::new();
    rules_of(&schema, "spec", &mut rules);
    assert!(rules.len() > 20);
    let table = table();
    let broken_by = |spec: &Value, old: Option<&Value>| -> BTreeSet<String> {
        judge.problems(spec, old).1.into_iter().map(|(rule, _)| rule).collect()
    };
    let refused = table.cases.iter().filter(|case| case.expect == Expect::Refused);
    let created: BTreeSet<String> = refused.flat_map(|case| broken_by(&case.spec, None)).collect();
    let updated: BTreeSet<String> =
        table.updates.iter().flat_map(|update| broken_by(&update.after, Some(&update.before))).collect();
    let grandfathered: BTreeSet<String> =
        table.grandfathered.iter().flat_map(|old| broken_by(&old.spec, None)).collect();
    for (path, rule) in rules {
        if rule.contains("oldSelf") {
            assert!(updated.contains(&rule), "{path}: no update breaks: {rule}");
        } else {
            assert!(created.contains(&rule), "{path}: no case breaks: {rule}");
            assert!(grandfathered.contains(&rule), "{path}: no object of old breaks: {rule}");
        }
    }
}

#[test]
fn an_object_of_old_that_stays_as_it_is_breaks_no_rule_that_the_api_server_does_not_ratchet() {
    let judge = Judge::new();
    let mut refused = 0;
    for old in table().grandfathered {
        let (bounds, rules) = judge.problems(&old.spec, Some(&old.spec));
        for (rule, message) in &rules {
            assert!(!rule.contains("oldSelf"), "{}: {rule}: {message}", old.name);
        }
        let invalid = validate(&object(old.server_name.as_deref(), &old.spec)).is_err();
        assert!(invalid, "{}: validate lets it through", old.name);
        refused += usize::from(!bounds.is_empty() || !rules.is_empty());
    }
    assert!(refused > 20, "the objects of old are meant to be ones that are refused today");
    // At the root nothing is ratcheted: there, every rule knows creation from update, and nothing is required.
    let root = root_schema();
    assert_eq!(root.get("required"), None);
    for rule in root["x-kubernetes-validations"].as_array().expect("rules") {
        // A plain `oldSelf` keeps a rule to updates.
        let text = rule["rule"].as_str().expect("a rule");
        let optional = rule["optionalOldSelf"] == json!(true) && text.contains("oldSelf.hasValue()");
        assert!(optional || text.contains("oldSelf."), "{rule}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let spec = json!({
        "storage": {"metadataSize": "0Gi"}, "replicas": 7, "controlPlane": {"port": 2049},
        "adapterDiscovery": {"pollingInterval": "soon"}, "service": "LoadBalancer",
    });
    let error = validate(&object(Some("Files"), &spec)).expect_err("nothing here is right");
    let fields: Vec<&str> = error.problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "metadata.name",
            "spec.storage.metadataSize",
            "spec.ports.nfs",
            "spec.adapterDiscovery.pollingInterval",
            "spec.replicas",
            "spec.service",
        ]
    );
    assert_eq!(error.category(), "spec-invalid");
}
