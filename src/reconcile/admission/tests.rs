//! A table of changes: what they are refused for, and what lets them through.

use serde_json::{Value, json};

use super::*;

fn object(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "dittofs.dittofs.com/v1alpha1", "kind": "DittoServer",
        "metadata": {"namespace": "team", "name": "files", "uid": "uid-files", "generation": 1},
    });
    object["spec"] = spec;
    object
}

/// A spec with these fields, of two volumes and nothing else that is not a default.
fn with(fields: Value) -> Value {
    let mut spec = json!({"storage": {"metadataSize": "1Gi"}});
    let Value::Object(fields) = fields else { panic!("no fields") };
    for (name, value) in fields {
        spec[name] = value;
    }
    object(spec)
}

/// What there is in a cluster, by [`Need::what`]; for the rest there is nothing but a default StorageClass.
fn found(review: &Review, there: &[(&str, Found)]) -> Vec<Found> {
    let nothing = |need: &Need| match need {
        Need::Secret { .. } | Need::Generated { .. } => Found::Secret(None),
        Need::VolumeClass { .. } | Need::DatabaseClass(_) => Found::Class { seen: ClassSeen::There, waits: true },
        Need::Database { .. } | Need::Name { .. } => Found::Object(None),
    };
    let of = |need: &Need| there.iter().find(|(what, _)| *what == need.what()).map(|(_, found)| found.clone());
    review.needs().iter().map(|need| of(need).unwrap_or_else(|| nothing(need))).collect()
}

fn judged(old: Option<&Value>, new: &Value, there: &[(&str, Found)]) -> Verdict {
    let review = review(old, new);
    decide(&review, &found(&review, there))
}

fn keys(keys: &[&str]) -> Found {
    Found::Secret(Some(keys.iter().map(|key| (*key).to_owned()).collect()))
}

fn owned(uid: &str) -> Found {
    let owners = json!([{"kind": "DittoServer", "name": "files", "uid": uid, "controller": true}]);
    Found::Object(Some(json!({"metadata": {"name": "x", "ownerReferences": owners}})))
}

fn somebodys() -> Found {
    Found::Object(Some(json!({"metadata": {"name": "x"}})))
}

fn missing() -> Found {
    Found::Class { seen: ClassSeen::Missing, waits: true }
}

#[test]
fn each_kind_of_thing_that_is_missing_is_refused_with_field_value_and_remedy_and_let_through_once_it_is_there() {
    let jwt = with(json!({"identity": {"jwt": {"secretRef": {"name": "keys", "key": "jwt"}}}}));
    let tls = with(json!({"controlPlane": {"tls": true, "certSecretName": "cert", "clientCertSecretName": "own"}}));
    let fast = with(json!({"storage": {"metadataSize": "1Gi", "storageClassName": "fast"}}));
    let percona = with(json!({"percona": {"enabled": true, "storageClassName": "db"}}));
    let plain = with(json!({}));
    let cert = ("Secret cert", keys(&["tls.crt", "tls.key"]));
    let none = [].as_slice();
    for (new, there, field, parts) in [
        (&jwt, none, "spec.identity.jwt.secretRef", ["\"keys\"", "no such Secret", "create it first"]),
        (
            &jwt,
            &[("Secret keys", keys(&["other"]))],
            "spec.identity.jwt.secretRef",
            ["\"keys\"", "has no key jwt", "put it there first"],
        ),
        (&tls, none, "spec.controlPlane.certSecretName", ["\"cert\"", "no such Secret", "create it first"]),
        (
            &tls,
            &[cert.clone(), ("Secret own", keys(&["ca.crt"]))],
            "spec.controlPlane.clientCertSecretName",
            ["\"own\"", "has no keys tls.crt, tls.key", "put it there first"],
        ),
        (
            &fast,
            &[("StorageClass fast", missing())],
            "spec.storage.storageClassName",
            ["\"fast\"", "no StorageClass of that name", "create it first"],
        ),
        (
            &plain,
            &[("the default StorageClass", missing())],
            "spec.storage.storageClassName",
            ["unset", "no default StorageClass", "mark one as the default"],
        ),
        (
            &percona,
            &[("StorageClass db", missing())],
            "spec.percona.storageClassName",
            ["\"db\"", "no StorageClass", "name another"],
        ),
        (
            &percona,
            &[("PerconaPGCluster files-postgres", Found::Unserved)],
            "spec.percona.enabled",
            ["is true", "does not serve PerconaPGCluster", "install Percona's operator"],
        ),
        (
            &percona,
            &[("PerconaPGCluster files-postgres", somebodys())],
            "metadata.name",
            ["\"files\"", "PerconaPGCluster files-postgres", "another name"],
        ),
        (
            &plain,
            &[("Service files-api", somebodys())],
            "metadata.name",
            ["\"files\"", "Service files-api is there", "rename or remove it"],
        ),
        (
            &plain,
            &[("Secret files-jwt-secret", keys(&["password"]))],
            "metadata.name",
            ["\"files\"", "has no key jwt-secret", "remove the Secret"],
        ),
    ] {
        let verdict = judged(None, new, there);
        let refusal = verdict.refusals.iter().find(|refusal| refusal.field == field);
        let refusal = refusal.unwrap_or_else(|| panic!("{field}: {verdict:?}"));
        assert!(refusal.text.starts_with(field), "{refusal}");
        for part in parts {
            assert!(refusal.text.contains(part), "{part}: {refusal}");
        }
        assert!(verdict.why().contains(&refusal.text));
    }
    let all = [
        ("Secret keys", keys(&["jwt"])),
        cert,
        ("Secret own", keys(&["tls.crt", "tls.key"])),
        ("Secret files-jwt-secret", keys(&["jwt-secret"])),
        ("Service files-api", owned("uid-files")),
    ];
    for new in [&jwt, &tls, &fast, &percona, &plain] {
        assert_eq!(judged(None, new, &all), Verdict::default(), "{new}");
    }
}

#[test]
fn a_change_is_refused_only_for_what_it_brings_itself() {
    let broken = |more: Value| {
        let mut fields = json!({"identity": {"jwt": {"secretRef": {"name": "gone", "key": "jwt"}}}});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(fields)
    };
    let old = broken(json!({}));
    // What is there already is not even looked at.
    let next = broken(json!({"logging": {"level": "DEBUG"}, "replicas": 0}));
    assert!(review(Some(&old), &next).is_empty());
    let next = broken(json!({"metrics": {"enabled": true}}));
    let review_of = review(Some(&old), &next);
    let asked: Vec<String> = review_of.needs().iter().map(Need::what).collect();
    assert_eq!(asked, ["Service files-metrics"]);
    let verdict = judged(Some(&old), &next, &[("Service files-metrics", somebodys())]);
    assert_eq!(verdict.refusals.len(), 1, "{verdict:?}");
    // Another Secret, or another key, is new.
    let mut next = old.clone();
    next["spec"]["identity"]["jwt"]["secretRef"]["key"] = json!("other");
    let verdict = judged(Some(&old), &next, &[("Secret gone", keys(&["jwt"]))]);
    assert!(verdict.why().contains("has no key other"), "{verdict:?}");
    // It is mended.
    assert_eq!(judged(Some(&old), &with(json!({})), &[]), Verdict::default());
}

#[test]
fn metadata_status_an_unchanged_spec_and_what_is_being_deleted_are_not_looked_at() {
    let old = with(json!({"identity": {"jwt": {"secretRef": {"name": "gone", "key": "jwt"}}}}));
    let mut next = old.clone();
    next["metadata"]["finalizers"] = json!([]);
    next["metadata"]["annotations"] = json!({"dittofs.io/restart-at": "now"});
    next["status"] = json!({"phase": "Running"});
    assert!(review(Some(&old), &next).is_empty());
    next["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    next["spec"]["identity"]["jwt"]["secretRef"]["name"] = json!("another");
    assert!(review(Some(&old), &next).is_empty());
    assert!(!review(None, &old).is_empty());
}

#[test]
fn what_an_older_crd_let_through_is_refused_when_it_is_new_and_stays_where_it_was() {
    let bad = |port: u32| with(json!({"ports": {"nfs": port}}));
    let verdict = judged(None, &bad(0), &[]);
    assert!(verdict.refusals.iter().any(|refusal| refusal.field == "spec.ports.nfs"), "{verdict:?}");
    let mut other = bad(0);
    other["spec"]["replicas"] = json!(0);
    assert_eq!(judged(Some(&bad(0)), &other, &[]), Verdict::default());
    assert_eq!(judged(Some(&bad(0)), &bad(70_000), &[]).refusals.len(), 1);
    // From there to a spec that can be acted upon: what it needed before is not known, so nothing is refused.
    let mended = with(json!({"identity": {"jwt": {"secretRef": {"name": "gone", "key": "jwt"}}}}));
    let verdict = judged(Some(&bad(0)), &mended, &[]);
    assert!(verdict.refusals.is_empty() && verdict.doubts[0].contains("\"gone\""), "{verdict:?}");
}

#[test]
fn what_could_not_be_found_out_refuses_nothing_and_is_told() {
    let new = with(json!({"identity": {"jwt": {"secretRef": {"name": "keys", "key": "jwt"}}}}));
    let review_of = review(None, &new);
    let verdict = decide(&review_of, &[]);
    assert!(verdict.refusals.is_empty() && verdict.unknown, "{verdict:?}");
    assert!(verdict.doubts[0].contains("Secret keys") && verdict.doubts[0].contains("more"), "{verdict:?}");
    let verdict = judged(None, &new, &[("Service files-api", Found::Unknown)]);
    assert!(verdict.unknown && verdict.refusals.len() == 1, "what is known counts: {verdict:?}");
    let verdict = judged(
        None,
        &new,
        &[
            ("Secret keys", keys(&["jwt"])),
            ("the default StorageClass", Found::Class { seen: ClassSeen::Unknown, waits: true }),
        ],
    );
    assert!(verdict.refusals.is_empty() && verdict.unknown, "{verdict:?}");
}

#[test]
fn what_a_server_of_that_name_left_is_waited_for_and_its_claims_need_no_class() {
    let new = with(json!({}));
    let verdict = judged(None, &new, &[("StatefulSet files", owned("uid-of-old"))]);
    assert!(verdict.refusals.is_empty() && verdict.doubts[0].contains("on its way out"), "{verdict:?}");
    let going = Found::Object(Some(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    assert!(judged(None, &new, &[("StatefulSet files", going)]).refusals.is_empty());
    let bound = Found::Class { seen: ClassSeen::Missing, waits: false };
    assert_eq!(judged(None, &new, &[("the default StorageClass", bound)]), Verdict::default());

    let class = Class::Named("fast".into());
    let names = ["a".to_owned(), "b".to_owned()];
    let claim = |phase: &str| json!({"spec": {"storageClassName": "fast"}, "status": {"phase": phase}});
    let read = |a: &str, b: &str| [("a".to_owned(), claim(a)), ("b".to_owned(), claim(b))].into();
    assert!(!claims_wait_for(&class, &names, &read("Bound", "Bound")));
    assert!(claims_wait_for(&class, &names, &read("Bound", "Pending")));
    assert!(claims_wait_for(&class, &names, &[("a".to_owned(), claim("Bound"))].into()));
}

#[test]
fn of_a_secret_only_the_names_of_its_keys_are_kept_and_texts_are_bounded() {
    let secret = json!({"data": {"jwt": "Y2FuYXJ5LTQ3MTE="}, "metadata": {"annotations": {"a": "canary"}}});
    assert_eq!(keys_of(&secret).into_iter().collect::<Vec<_>>(), ["jwt"]);
    let long = "x".repeat(5000);
    let new = with(json!({"storage": {"metadataSize": "1Gi", "storageClassName": long}}));
    let verdict = judged(None, &new, &[(&format!("StorageClass {long}"), missing())]);
    assert_eq!(verdict.refusals[0].text.chars().count(), TEXT_MAX + 1);
}

#[test]
fn every_secret_that_a_server_with_all_features_names_has_the_field_that_names_it() {
    use crate::fixtures::{directory, everything, mutual, secured};
    for server in [directory("files"), everything("files"), mutual("files"), secured("files")] {
        for used in secrets_used(&server) {
            assert!(used.field.starts_with("spec."), "{used:?}");
        }
    }
}
