//! The objects of a namespace, without what differs from one run to the next: to compare two runs.

use std::collections::BTreeMap;

use dittofs_testbed::cluster::{Namespace, resources};
use serde_json::{Value, json};

/// Objects by kind and name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// What is there. Generated values (uids, versions, times, addresses, secrets, the hash over them) are replaced or
/// left out, and the namespace's name and `server` are replaced by words, so that runs of different names compare.
pub(crate) async fn snapshot(namespace: &Namespace, server: &str) -> Objects {
    let kinds = [
        resources::SERVERS,
        resources::STATEFUL_SETS,
        resources::SERVICES,
        resources::NETWORK_POLICIES,
        resources::CONFIG_MAPS,
        resources::SECRETS,
        resources::CLAIMS,
    ];
    let mut found = BTreeMap::new();
    for kind in kinds {
        for mut object in namespace.list(kind, "").await.expect("the objects can be listed") {
            if object["metadata"]["name"] == "kube-root-ca.crt" {
                continue;
            }
            if kind == resources::STATEFUL_SETS {
                object["status"]["observedGeneration"] = Value::Null;
            }
            if kind == resources::SERVERS {
                // The way there differs: what is compared is where it leads.
                object["status"]["lastChange"] = Value::Null;
            }
            if kind == resources::CLAIMS {
                // The volume controller's notes on its way.
                object["metadata"]["annotations"] = Value::Null;
            }
            normalise(&mut object, "");
            let text = object.to_string().replace(namespace.name(), "NAMESPACE").replace(server, "SERVER");
            let object: Value = serde_json::from_str(&text).expect("JSON stays JSON");
            found.insert(format!("{} {}", kind.kind, object["metadata"]["name"].as_str().unwrap_or_default()), object);
        }
    }
    found
}

fn normalise(value: &mut Value, path: &str) {
    const DROPPED: [&str; 16] = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "generation",
        "clusterIP",
        "clusterIPs",
        "nodePort",
        "lastTransitionTime",
        "volumeName",
        "currentRevision",
        "updateRevision",
        "loadBalancer",
        "healthCheckNodePort",
        "collisionCount",
        // The times at which a person could have seen something.
        "message",
    ];
    const GENERATED: [&str; 3] = ["dittofs.io/config-hash", "configHash", "dittofs.io/held-template"];
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !DROPPED.contains(&name.as_str()));
            let secret = fields.get("kind").is_some_and(|kind| kind == "Secret");
            for (name, field) in fields {
                if secret && name == "data" {
                    for value in field.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
                        *value = json!(if value == "" { "EMPTY" } else { "SECRET" });
                    }
                } else if GENERATED.contains(&name.as_str()) || (name == "endpoint" && field != "") {
                    *field = json!("GENERATED");
                } else if name.ends_with("last-applied") {
                    // Our own record of what was applied holds the hash, too.
                    let mut inner: Value =
                        field.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
                    normalise(&mut inner, path);
                    *field = inner;
                } else {
                    normalise(field, &format!("{path}.{name}"));
                }
            }
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                normalise(item, path);
            }
            if path.ends_with(".conditions") {
                items.sort_by_key(|item| item["type"].as_str().unwrap_or_default().to_owned());
            }
        }
        _ => {}
    }
}

/// Fails with the first place in which two snapshots differ.
#[track_caller]
pub(crate) fn assert_same(clean: &Objects, other: &Objects, what: &str) {
    if let Err(difference) = compare(clean, other) {
        panic!("{what}: {difference}");
    }
}

/// The first place in which two snapshots differ, in words.
pub(crate) fn compare(clean: &Objects, other: &Objects) -> Result<(), String> {
    let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    if names(clean) != names(other) {
        return Err(format!("{:?} in a clean run, {:?} now", names(clean), names(other)));
    }
    let found = clean.iter().find_map(|(name, object)| difference(object, &other[name], name));
    found.map_or(Ok(()), Err)
}

fn difference(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => x
            .keys()
            .chain(y.keys())
            .find_map(|key| difference(&a[key.as_str()], &b[key.as_str()], &format!("{path}.{key}"))),
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).find_map(|(x, y)| difference(x, y, &format!("{path}[]")))
        }
        _ if a != b => Some(format!("{path}: {a} in a clean run, {b} now")),
        _ => None,
    }
}
