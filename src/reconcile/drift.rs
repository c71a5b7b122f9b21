//! Who had changed what is being set back: the owner, by `metadata.managedFields`, of each field that differs.
//!
//! Pure. Source: the API server keeps for each field manager the fields that it wrote last (`fieldsV1`: `f:name` for a
//! field, `k:{…}` for the item of a list with these keys, `v:…` for a value of a set).

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// Somebody who writes Kubernetes objects, by the name of its field manager.
fn known_manager(name: &str) -> &'static str {
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if is(&["kubectl"]) {
        "kubectl"
    } else if is(&["argocd", "argo-cd"]) {
        "argocd"
    } else if is(&["flux", "kustomize-controller", "helm-controller"]) {
        "flux"
    } else if is(&["helm", "Helm"]) {
        "helm"
    } else if is(&["kustomize"]) {
        "kustomize"
    } else if is(&["kube-", "k3s", "cloud-controller-manager"]) {
        "kubernetes"
    } else {
        "other"
    }
}

/// One field that somebody changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// Path of the field, such as `spec.ports[nfs].port`.
    pub field: String,
    /// Name of the field manager that wrote it; `somebody` when the field is gone, and its owner with it.
    pub manager: String,
    /// The same as a word of the metrics table.
    pub word: &'static str,
}

/// Who took a field out, or the whole object.
const SOMEBODY: &str = "somebody";
/// Longest name of a field or manager that is repeated, in characters.
const NAME_MAX: usize = 120;

/// What of a difference is drift.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drifted {
    /// By field and manager, each once.
    pub fields: Vec<Drift>,
    /// Whether all that differs is: nothing new is wished for.
    pub entirely: bool,
}

impl Drifted {
    /// Of an object that somebody deleted.
    pub fn gone() -> Self {
        let whole = Drift { field: "all".to_owned(), manager: SOMEBODY.to_owned(), word: "unknown" };
        Self { fields: vec![whole], entirely: true }
    }

    /// The managers as words of the metrics table, each once.
    pub fn words(&self) -> BTreeSet<&'static str> {
        self.fields.iter().map(|drift| drift.word).collect()
    }
}

impl fmt::Display for Drifted {
    /// `spec.type (kubectl-edit), spec.selector.app (argocd)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            self.fields.iter().map(|Drift { field, manager, .. }| format!("{field} ({manager})")).collect();
        f.write_str(&each.join(", "))
    }
}

/// Who changed `live` so that it is not `wanted`: each field that differs with the other manager that owns it. `ours` is
/// the name of our field manager. With `unasked`, nothing but `live` itself is the reason that they differ: a field that
/// nobody owns any more was then taken out by somebody unknown.
pub fn drift(live: &Value, wanted: &Value, ours: &str, unasked: bool) -> Drifted {
    let mut paths = Vec::new();
    for field in ["metadata", "spec", "data"] {
        let (live, wanted) = (&live[field], &wanted[field]);
        walk(&mut vec![Step::Field(field.to_owned())], live, wanted, &mut paths);
    }
    let entries: Vec<(&str, &Value)> = live["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty())
        .filter_map(|entry| Some((entry["manager"].as_str()?, &entry["fieldsV1"])))
        .collect();
    let mut found = BTreeSet::new();
    let mut entirely = true;
    for path in &paths {
        let owners: Vec<(&str, usize)> =
            entries.iter().filter_map(|(manager, fields)| Some((*manager, depth(fields, path)?))).collect();
        // `{}` says "as a whole" of a field that has no parts, and "but none of its parts" of one that has: whoever is
        // named for the part itself knows better.
        let deepest = owners.iter().map(|(_, depth)| *depth).max();
        let closest = || owners.iter().filter(|(_, depth)| Some(*depth) == deepest).map(|(manager, _)| *manager);
        match closest().find(|manager| *manager != ours) {
            // What we own too we wrote ourselves, as it was wanted then.
            Some(other) if !closest().any(|manager| manager == ours) => {
                let manager = other.chars().take(NAME_MAX).collect();
                found.insert(Drift { field: words_of(path), manager, word: known_manager(other) });
            }
            None if owners.is_empty() && unasked => {
                found.insert(Drift { field: words_of(path), manager: SOMEBODY.to_owned(), word: "unknown" });
            }
            Some(_) | None => entirely = false,
        }
    }
    Drifted { fields: found.into_iter().collect(), entirely: entirely && !paths.is_empty() }
}

/// The way to a field, for people: an item of a list by its name, else by what it is when that is a text.
fn words_of(path: &[Step]) -> String {
    let mut words = String::new();
    for step in path {
        match step {
            Step::Field(name) if words.is_empty() => words.push_str(name),
            Step::Field(name) => words.extend([".", name]),
            Step::Item(item) => {
                let name = item["name"].as_str().or_else(|| item.as_str());
                words.extend(["[", name.unwrap_or_default(), "]"]);
            }
        }
    }
    match words.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// A step on the way to a field.
#[derive(Clone, Debug)]
enum Step {
    Field(String),
    /// An item of a list, as it is.
    Item(Value),
}

/// Metadata that is the API server's own.
const SERVERS_OWN: [&str; 7] =
    ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink", "deletionTimestamp"];

fn walk(path: &mut Vec<Step>, live: &Value, wanted: &Value, found: &mut Vec<Vec<Step>>) {
    if live == wanted {
        return;
    }
    match (live, wanted) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let top = path.len() == 1;
            for key in keys.into_iter().filter(|key| !top || !SERVERS_OWN.contains(&key.as_str())) {
                path.push(Step::Field(key.clone()));
                walk(path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
                path.pop();
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let same = |one: &Value, other: &Value| match (one["name"].as_str(), other["name"].as_str()) {
                (Some(one), Some(other)) => one == other,
                _ => one == other,
            };
            for item in a {
                path.push(Step::Item(item.clone()));
                let other = b.iter().find(|other| same(item, other)).unwrap_or(&Value::Null);
                walk(path, item, other, found);
                path.pop();
            }
            for item in b.iter().filter(|item| !a.iter().any(|other| same(item, other))) {
                path.push(Step::Item(item.clone()));
                found.push(path.clone());
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

/// How far down the path these `fieldsV1` reach; None when they hold no part of it that ends in a field.
fn depth(fields: &Value, path: &[Step]) -> Option<usize> {
    let fields = fields.as_object()?;
    let Some((step, rest)) = path.split_first() else { return Some(0) };
    let below = match step {
        Step::Field(name) => fields.get(&format!("f:{name}")),
        Step::Item(item) => fields.iter().find(|(key, _)| is_item(key, item)).map(|(_, below)| below),
    };
    match below? {
        Value::Object(below) if below.is_empty() => Some(1),
        below => depth(below, rest).map(|depth| depth + 1),
    }
}

/// Whether `k:{"name":"api"}` or `v:"x"` means this item.
fn is_item(key: &str, item: &Value) -> bool {
    let parse = |prefix: &str| serde_json::from_str::<Value>(key.strip_prefix(prefix)?).ok();
    if let Some(Value::Object(keys)) = parse("k:") {
        return keys.iter().all(|(name, value)| &item[name.as_str()] == value);
    }
    parse("v:").is_some_and(|value| &value == item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OURS: &str = "dittofs-operator";

    fn drifted_by(live: &Value, wanted: &Value, ours: &str, unasked: bool) -> Vec<&'static str> {
        drift(live, wanted, ours, unasked).words().into_iter().collect()
    }

    fn live(managers: &Value) -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"app": "x"}, "resourceVersion": "7", "managedFields": managers},
            "spec": {"type": "NodePort", "ports": [{"name": "nfs", "port": 99, "protocol": "TCP"}]},
        })
    }

    fn wanted() -> Value {
        json!({
            "metadata": {"name": "a", "labels": {"app": "x"}, "resourceVersion": "6"},
            "spec": {"type": "ClusterIP", "ports": [{"name": "nfs", "port": 12049, "protocol": "TCP"}]},
        })
    }

    fn fields(manager: &str, spec: &Value) -> Value {
        json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": spec}})
    }

    #[test]
    fn who_owns_the_field_that_differs_changed_it() {
        let port = json!({"f:ports": {"k:{\"port\":99,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}});
        let kind = json!({"f:type": {}});
        let both =
            json!([fields(OURS, &json!({"f:selector": {}})), fields("kubectl-edit", &port), fields("argocd-x", &kind)]);
        assert_eq!(drifted_by(&live(&both), &wanted(), OURS, false), ["argocd", "kubectl"]);
        // The list that was ours, with an item that is not.
        let list = json!({"f:ports": {}});
        let item = json!([fields(OURS, &list), fields("kubectl-edit", &port)]);
        assert_eq!(drifted_by(&live(&item), &wanted(), OURS, false), ["kubectl"]);
        let one = json!([fields(OURS, &port), fields("helm", &kind)]);
        assert_eq!(drifted_by(&live(&one), &wanted(), OURS, false), ["helm"]);
    }

    #[test]
    fn each_field_is_named_with_its_manager_and_a_new_wish_is_told_apart() {
        let port = json!({"f:ports": {"k:{\"port\":99,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}});
        let kind = json!({"f:type": {}});
        let both = live(&json!([fields("kubectl-edit", &port), fields("argocd-x", &kind)]));
        let found = drift(&both, &wanted(), OURS, true);
        assert!(found.entirely);
        assert_eq!(found.to_string(), "spec.ports[nfs].port (kubectl-edit), spec.type (argocd-x)");
        let one = live(&json!([fields("kubectl-edit", &port), fields(OURS, &kind)]));
        let found = drift(&one, &wanted(), OURS, true);
        assert!(!found.entirely, "the type is a wish of ours");
        assert_eq!(found.to_string(), "spec.ports[nfs].port (kubectl-edit)");
        assert!(!drift(&wanted(), &wanted(), OURS, true).entirely, "nothing differs");
        assert_eq!(Drifted::gone().to_string(), "all (somebody)");
    }

    #[test]
    fn what_we_wrote_ourselves_is_no_drift_when_the_wish_changes() {
        let all = json!({"f:type": {}, "f:ports": {}});
        assert!(drifted_by(&live(&json!([fields(OURS, &all)])), &wanted(), OURS, true).is_empty());
        let shared = json!([fields("kubectl", &all), fields(OURS, &all)]);
        assert!(drifted_by(&live(&shared), &wanted(), OURS, true).is_empty());
        // Status and its like are written by others all the time.
        let mut status = fields("kube-controller-manager", &all);
        status["subresource"] = json!("status");
        assert!(drifted_by(&live(&json!([status])), &wanted(), OURS, false).is_empty());
    }

    #[test]
    fn what_nobody_owns_was_taken_out_by_somebody_unknown_unless_it_is_a_new_wish() {
        let mut before = wanted();
        before["metadata"]["labels"] = json!({});
        before["metadata"]["managedFields"] = json!([fields(OURS, &json!({"f:type": {}}))]);
        assert_eq!(drifted_by(&before, &wanted(), OURS, true), ["unknown"]);
        assert!(drifted_by(&before, &wanted(), OURS, false).is_empty());
        assert!(drifted_by(&wanted(), &wanted(), OURS, true).is_empty());
    }

    #[test]
    fn every_manager_has_a_word_of_the_table() {
        use crate::telemetry::metrics::table::MANAGERS;
        for name in ["kubectl-patch", "Helm", "argocd-controller", "helm-controller", "kube-proxy", "kustomize", "me"] {
            assert!(MANAGERS.contains(&known_manager(name)), "{name}");
        }
    }
}
